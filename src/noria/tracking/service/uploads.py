"""Files that arrive in parts: begun, each part stored as it comes, joined at the end or given up.

A part is a stored object; joining takes over its chunks and cuts anew only where two parts meet. So the file is the
same object as if it had come in one piece.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Final

from sqlalchemy import Connection, delete, select, update

from noria.base.digest import Digest
from noria.base.ids import ProjectId
from noria.base.times import DAY
from noria.db import Tx
from noria.store import FileContent, Kind, join
from noria.tracking import shelves
from noria.tracking import tables as t
from noria.tracking.errors import UploadIncomplete, UploadNotFound
from noria.tracking.records import Owner
from noria.tracking.service.artifacts import Artifacts, Commit, Receiving, lock_of_files, named

MOST_PARTS: Final = 10_000
_KEPT: Final = DAY
_SWEPT: Final = 50
_U, _P = t.uploads.c, t.upload_parts.c


class Uploads(Artifacts):
    """Verbs of uploads in parts; an upload that nobody touches for a day is dropped."""

    def begin_upload(self, owner: Owner, path: str, *, project_id: ProjectId) -> str:
        """Opens an upload; returns its id, which nobody can guess.

        Raises:
            RunNotFound, RunDeleted, ArtifactPathInvalid: the file could not be kept.
        """
        shelves.check_artifact_path(path)
        with self._db.write() as tx:
            self.check_owner(tx, owner, project_id)
            self._sweep(tx)
            id = secrets.token_hex(16)
            row = {"id": id, "project_id": project_id, "owner_kind": owner.kind.value, "owner": owner.id, "path": path}
            tx.insert(t.uploads, {**row, "done": False, "expires_at": tx.now_ms + _KEPT})
        return id

    def check_upload(self, id: str, number: int, project_id: ProjectId) -> None:
        """Whether a part may be sent.

        Raises:
            UploadNotFound, UploadIncomplete: there is no such upload; it cannot have such a part.
        """
        if not 1 <= number <= MOST_PARTS:
            raise UploadIncomplete(f"There is no part {number}.", hint=f"Parts are numbered from 1 to {MOST_PARTS}.")
        with self._db.read() as conn:
            if _found(conn, id, project_id) is not False:
                raise UploadNotFound(id)

    def keep_part(
        self, file: Receiving, id: str, number: int, *, project_id: ProjectId, commit: Commit | None = None
    ) -> str:
        """Names what came as a part of an upload, the same number again replaces it; returns its digest.

        Raises:
            UploadNotFound: it is closed, or was never open.
        """
        content, packs = file.stored()

        def name(tx: Tx) -> None:
            self._sessions.seal(tx, packs)
            if _found(tx.conn, id, project_id) is not False:
                raise UploadNotFound(id)
            row = {"upload_id": id, "number": number, "size": content.size}
            row |= {"content_kind": int(content.kind), "content": content.id.hex}
            tx.upsert(t.upload_parts, row, key=["upload_id", "number"])
            tx.execute(update(t.uploads).where(_U.id == id).values(expires_at=tx.now_ms + _KEPT))

        self._commit(name, _lock(id), commit)
        return content.id.hex

    def complete_upload(
        self,
        id: str,
        parts: Mapping[int, str],
        owner: Owner,
        path: str,
        *,
        project_id: ProjectId,
    ) -> None:
        """Joins parts in the order of their numbers and names the file. The same request again does nothing.

        Args:
            parts: number -> digest, or an empty text where the caller does not know it.

        Raises:
            UploadNotFound: there is no such upload, or it is of another file.
            UploadIncomplete: a part is not there, or is another one.
        """
        with self._sessions.writer() as writer:
            with self._db.read() as conn:
                done = _found(conn, id, project_id, owner, path)
                found = _parts(conn, id)
            if done is None:
                raise UploadNotFound(id)
            if done:
                return
            content = join(writer, self._sessions.store, [found[n] for n in _chosen(parts, found)])
            packs = writer.flush()
            with self._db.write() as tx:
                tx.lock(lock_of_files(owner))
                tx.lock(_lock(id))
                self._sessions.seal(tx, packs)
                state = _found(tx.conn, id, project_id, owner, path)
                if state is None or (not state and _parts(tx.conn, id) != found):
                    raise UploadNotFound(id)
                if not state:
                    self._name(tx, owner, named(path, content), project_id)
                    tx.execute(delete(t.upload_parts).where(_P.upload_id == id))
                    tx.execute(update(t.uploads).where(_U.id == id).values(done=True))

    def abort_upload(self, id: str, owner: Owner, path: str, *, project_id: ProjectId) -> None:
        """Forgets an upload and its parts; nothing happens where it is closed or was never open."""
        with self._db.write() as tx:
            tx.lock(_lock(id))
            if _found(tx.conn, id, project_id, owner, path) is False:
                _drop(tx, id)

    def _sweep(self, tx: Tx) -> None:
        """Drops some uploads whose time is over."""
        old = select(_U.id).where(_U.expires_at <= tx.now_ms).order_by(_U.expires_at).limit(_SWEPT)
        for id in tx.execute(old).scalars().all():
            _drop(tx, id)


def _drop(tx: Tx, id: str) -> None:
    tx.execute(delete(t.upload_parts).where(_P.upload_id == id))
    tx.execute(delete(t.uploads).where(_U.id == id))


def _lock(id: str) -> str:
    return f"upload:{id}"


def _found(
    conn: Connection, id: str, project_id: ProjectId, owner: Owner | None = None, path: str | None = None
) -> bool | None:
    """Whether an upload is done; None where there is none of this id, or it is of another file."""
    where = [_U.id == id, _U.project_id == project_id]
    if owner is not None:
        where += [_U.owner_kind == owner.kind.value, _U.owner == owner.id, _U.path == path]
    return conn.execute(select(_U.done).where(*where)).scalar_one_or_none()


def _parts(conn: Connection, id: str) -> dict[int, FileContent]:
    return {
        row.number: FileContent(kind=Kind(row.content_kind), id=Digest(bytes.fromhex(row.content)), size=row.size)
        for row in conn.execute(select(t.upload_parts).where(_P.upload_id == id))
    }


def _chosen(parts: Mapping[int, str], found: Mapping[int, FileContent]) -> list[int]:
    """The numbers of the parts in order, if all of them are there."""
    if not parts:
        raise UploadIncomplete("The request names no part.", hint="Name each part with its number and ETag.")
    for number, digest in parts.items():
        if number not in found or (digest and found[number].id.hex != digest):
            raise UploadIncomplete(f"Part {number} is not here, or is another one.", hint="Send it again, then repeat.")
    return sorted(parts)
