"""The verbs of files that belong to runs, logged models and traces: put, find, list, open, delete.

Contents are objects of the store, so equal files are stored once. A row names a file only when its bytes are durable
and whole; a later one of the same path takes its place at once, and readers of the old one read on.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import BinaryIO, Final, TypeVar

from noria.assets.sessions import retire
from noria.base.actor import Actor
from noria.base.digest import Digest
from noria.base.ids import ProjectId, RunId
from noria.base.pages import Page, check_limit, position, token
from noria.db import Tx
from noria.store import FileContent, Incoming, Kind, Writer, files
from noria.tracking import shelves
from noria.tracking.errors import ArtifactIsFolder, ArtifactNotFound
from noria.tracking.records import Artifact, ArtifactEntry, Owner, OwnerKind
from noria.tracking.service.logged import Logged

INLINE: Final = 64
"""Files of at most so many bytes lie in their row."""

T = TypeVar("T")
Commit = Callable[[Callable[[Tx], None], str], None]
"""Runs a function in a transaction that holds a lock of this name; returns when that is durable."""


class Receiving:
    """A file that arrives in pieces; nobody sees it before ``keep``."""

    def __init__(self, service: Artifacts, writer: Writer) -> None:
        self._service = service
        self._writer = writer
        self._file = Incoming(writer)
        self._small: list[bytes] = []

    @property
    def size(self) -> int:
        return self._file.size

    def add(self, data: bytes) -> None:
        """The next bytes."""
        self._file.add(data)

    def keep(self, owner: Owner, path: str, project_id: ProjectId, commit: Commit | None = None) -> Artifact:
        """Names what came as a file of ``owner``; durable when this returns.

        Raises:
            RunNotFound, RunDeleted: the owner is not there, or in the bin.
            ArtifactInTheWay: the path is a folder, or leads through a file.
        """
        shelves.check_artifact_path(path)
        content = self._file.finish()
        return self._service.keep(self._writer, owner, _named(path, content), project_id, commit)


class Artifacts(Logged):
    """Kept by owner; who the owner is decides whether it may have files."""

    # ---- writing

    @contextmanager
    def receive(self) -> Generator[Receiving]:
        """A file that arrives in pieces. Left without ``keep``, it leaves nothing."""
        with self._sessions.writer() as writer:
            yield Receiving(self, writer)

    def put_artifact(
        self,
        owner: Owner,
        path: str,
        source: bytes | BinaryIO,
        *,
        project_id: ProjectId,
        commit: Commit | None = None,
    ) -> Artifact:
        """Stores a file and names it; a file of this path is replaced. Durable when this returns.

        Args:
            commit: how the row is written; default in a transaction of its own.

        Raises:
            RunNotFound, RunDeleted: the owner is not there, or in the bin.
            ArtifactPathInvalid, ArtifactInTheWay: the path is none, a folder, or leads through a file.
        """
        shelves.check_artifact_path(path)
        if isinstance(source, bytes) and len(source) <= INLINE:
            made = Artifact(path=path, size=len(source), content_kind=0, content=source.hex())
            self._commit(lambda tx: self._name(tx, owner, made, project_id), owner, commit)
            return made
        with self._sessions.writer() as writer:
            stored = files.put_bytes(writer, source) if isinstance(source, bytes) else files.put_stream(writer, source)
            return self.keep(writer, owner, _named(path, stored), project_id, commit)

    def keep(
        self, writer: Writer, owner: Owner, made: Artifact, project_id: ProjectId, commit: Commit | None = None
    ) -> Artifact:
        """Names a file whose bytes ``writer`` holds."""
        packs = writer.flush()

        def name(tx: Tx) -> None:
            self._sessions.seal(tx, packs)
            self._name(tx, owner, made, project_id)

        self._commit(name, owner, commit)
        return made

    def _commit(self, work: Callable[[Tx], None], owner: Owner, commit: Commit | None) -> None:
        if commit is not None:
            commit(work, lock_of_files(owner))
            return
        with self._db.write() as tx:
            tx.lock(lock_of_files(owner))
            work(tx)

    def _name(self, tx: Tx, owner: Owner, made: Artifact, project_id: ProjectId) -> None:
        self.check_owner(tx, owner, project_id)
        self._quotas.size(tx, project_id, made.size)
        shelves.put(tx, owner, made)

    def check_owner(self, tx: Tx, owner: Owner, project_id: ProjectId) -> None:
        """Whether files may be written for an owner.

        Raises:
            RunNotFound, RunDeleted, LoggedModelNotFound: it is not there, or in the bin.
        """
        if owner.kind is OwnerKind.RUN:
            self._tracked(tx, RunId(owner.id), project_id)
        elif owner.kind is OwnerKind.MODEL:
            self.logged_model(project_id, owner.id, tx, full=False)

    def add_artifact(self, tx: Tx, run_id: RunId, artifact: Artifact) -> None:
        """Names a stored file as an artifact of a run; the same path again replaces it."""
        owner = Owner(OwnerKind.RUN, run_id)
        tx.lock(lock_of_files(owner))
        shelves.put(tx, owner, artifact)

    def copy_artifacts(self, tx: Tx, source: Owner, target: Owner) -> int:
        """Gives ``target`` all files of ``source``; nothing is stored again. Returns how many there were."""
        for name in sorted({lock_of_files(source), lock_of_files(target)}):  # nobody deletes them meanwhile
            tx.lock(name)
        count, after = 0, None
        while found := shelves.files(tx.conn, source, _PART, after):
            for one in found:
                shelves.put(tx, target, one)
            count += len(found)
            after = _key(found[-1].path)
        return count

    def delete_artifacts(self, owner: Owner, path: str, *, project_id: ProjectId, actor: Actor) -> int:
        """Deletes a file, or a folder with all that is in it; an empty path: everything. Returns how many rows went.

        Raises:
            ArtifactNotFound: there is nothing at this path.
        """
        if path:
            shelves.check_artifact_path(path)
        with self._changes.begin("tracking.delete_artifacts", project_id, actor) as change:
            change.tx.lock(lock_of_files(owner))
            self.check_owner(change.tx, owner, project_id)
            if path and shelves.find(change.tx.conn, owner, path) is None:
                raise ArtifactNotFound(owner.kind, owner.id, path)
            gone = shelves.remove(change.tx, owner, path)
            retire(change.tx, [(Kind(kind), Digest(bytes.fromhex(name))) for kind, name in gone])
            change.note(owner.id, kind=owner.kind.value, path=path, files=len(gone))
        return len(gone)

    # ---- reading

    def artifact(self, owner: Owner, path: str) -> Artifact:
        """One file.

        Raises:
            ArtifactNotFound, ArtifactIsFolder, ArtifactPathInvalid: it is none.
        """
        shelves.check_artifact_path(path)
        with self._db.read() as conn:
            found = shelves.find(conn, owner, path)
        if found is None:
            raise ArtifactNotFound(owner.kind, owner.id, path)
        if isinstance(found, ArtifactEntry):
            raise ArtifactIsFolder(path)
        return found

    def open_artifact(self, found: Artifact) -> BinaryIO:
        """The bytes of a file; readable and seekable, fetched as they are read."""
        if found.content_kind == 0:
            return io.BytesIO(bytes.fromhex(found.content))
        content = FileContent(kind=Kind(found.content_kind), id=Digest(bytes.fromhex(found.content)), size=found.size)
        return files.open_file(self._sessions.store, content)

    def list_artifacts(
        self, owner: Owner, folder: str = "", *, limit: int = 1_000, after: str | None = None
    ) -> Page[ArtifactEntry]:
        """What lies directly in a folder, by name; nothing where there is no such folder.

        Raises:
            ArtifactPathInvalid, Invalid: the folder cannot be one; the page token is none of this list.
        """
        if folder:
            shelves.check_artifact_path(folder)
        last = position(after)
        with self._db.read() as conn:
            found = shelves.children(conn, owner, folder, check_limit(limit) + 1, None if last is None else str(last))
        more = len(found) > limit
        found = found[:limit]
        return Page(items=found, next=token(found[-1].path.rpartition("/")[2]) if more else None)

    def all_artifacts(self, owner: Owner, *, limit: int = 1_000, after: str | None = None) -> Page[Artifact]:
        """All files of an owner in all folders, by folder and name."""
        last = position(after)
        with self._db.read() as conn:
            found = shelves.files(conn, owner, check_limit(limit) + 1, None if last is None else _key(str(last)))
        more = len(found) > limit
        found = found[:limit]
        return Page(items=found, next=token(found[-1].path) if more else None)


_PART: Final = 1_000


def lock_of_files(owner: Owner) -> str:
    """The lock under which an owner's files change (see ``Tx.lock``)."""
    return f"artifacts:{owner.kind.value}:{owner.id}"


def _named(path: str, stored: FileContent) -> Artifact:
    return Artifact(path=path, size=stored.size, content_kind=int(stored.kind), content=stored.id.hex)


def _key(path: str) -> tuple[str, str]:
    folder, _, name = path.rpartition("/")
    return folder, name
