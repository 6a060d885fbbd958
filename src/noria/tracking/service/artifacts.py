"""The verbs of files that belong to runs, logged models and traces: put, find, list, open, delete.

Contents are objects of the store, so equal files are stored once. A row names a file only when its bytes are durable
and whole; a later one of the same path takes its place at once, and readers of the old one read on.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cached_property
from typing import BinaryIO, Final, TypeVar

from noria.assets.sessions import retire
from noria.base.actor import Actor
from noria.base.digest import Digest
from noria.base.ids import ProjectId, RunId
from noria.base.pages import Page, check_limit, position, token
from noria.db import Tx
from noria.store import FileContent, Incoming, Kind, PackInfo, Writer, files
from noria.store.packs import raw_id
from noria.tracking import shelves
from noria.tracking.errors import ArtifactIsFolder, ArtifactNotFound
from noria.tracking.records import Artifact, ArtifactEntry, Owner, OwnerKind
from noria.tracking.service.logged import Logged

SMALL: Final = 32 << 10
"""Files of at most so many bytes wait in their row until many of them go into a pack together."""
_MANY, _MUCH = 256, 4 << 20

T = TypeVar("T")
Commit = Callable[[Callable[[Tx], None], str], None]
"""Runs a function in a transaction that holds a lock of this name; returns when that is durable."""


class Receiving:
    """A file that arrives in pieces; nobody sees it before ``keep``."""

    def __init__(self, service: Artifacts, opened: ExitStack) -> None:
        self._service = service
        self._opened = opened
        self._head = b""
        self._file: Incoming | None = None
        self._writer: Writer | None = None

    def add(self, data: bytes) -> None:
        """The next bytes."""
        if self._file is None:
            self._head += data
            if len(self._head) <= SMALL:
                return
            data = self._head
        self._to_store().add(data)

    def _to_store(self) -> Incoming:
        if self._file is None:
            self._writer = self._opened.enter_context(self._service.writer())
            self._file = Incoming(self._writer)
        return self._file

    def keep(self, owner: Owner, path: str, project_id: ProjectId, commit: Commit | None = None) -> Artifact:
        """Names what came as a file of ``owner``; durable when this returns.

        Raises:
            RunNotFound, RunDeleted: the owner is not there, or in the bin.
            ArtifactInTheWay: the path is a folder, or leads through a file.
        """
        shelves.check_artifact_path(path)
        if self._file is None:
            return self._service.put_artifact(owner, path, self._head, project_id=project_id, commit=commit)
        content, packs = self.stored()
        return self._service.keep(packs, owner, named(path, content), project_id, commit)

    def stored(self) -> tuple[FileContent, list[PackInfo]]:
        """What came, made durable; the packs are to be named in the transaction that names it."""
        if self._file is None:
            self._to_store().add(self._head)
        assert self._file is not None
        assert self._writer is not None
        return self._file.finish(), self._writer.flush()


class _Waiting:
    """Counts the small files of this process that wait for a pack; one thread at a time packs them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._busy = threading.Lock()
        self._count, self._size = _MANY, 0  # what an earlier process left is looked at with the first file

    def took(self, size: int) -> bool:
        """One more; whether it is time to pack."""
        if size <= shelves.INLINE:
            return False
        with self._lock:
            self._count, self._size = self._count + 1, self._size + size
            due = self._count >= _MANY or self._size >= _MUCH
            if due:
                self._count = self._size = 0
        return due

    @property
    @contextmanager
    def packing(self) -> Generator[bool]:
        """Whether this thread may pack now."""
        mine = self._busy.acquire(blocking=False)
        try:
            yield mine
        finally:
            if mine:
                self._busy.release()


class Artifacts(Logged):
    """Kept by owner; who the owner is decides whether it may have files."""

    @cached_property
    def _waiting(self) -> _Waiting:
        return _Waiting()

    # ---- writing

    @contextmanager
    def receive(self) -> Generator[Receiving]:
        """A file that arrives in pieces. Left without ``keep``, it leaves nothing."""
        with ExitStack() as opened:
            yield Receiving(self, opened)

    def writer(self) -> AbstractContextManager[Writer]:
        """A writer of objects, under a session."""
        return self._sessions.writer()

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
        if isinstance(source, bytes) and len(source) <= SMALL:
            made = in_row(path, source)
            self._commit(lambda tx: self._name(tx, owner, made, project_id), lock_of_files(owner), commit)
            if self._waiting.took(len(source)):
                self.pack_artifacts()
            return made
        with self._sessions.writer() as writer:
            stored = files.put_bytes(writer, source) if isinstance(source, bytes) else files.put_stream(writer, source)
            return self.keep(writer.flush(), owner, named(path, stored), project_id, commit)

    def keep(
        self, packs: list[PackInfo], owner: Owner, made: Artifact, project_id: ProjectId, commit: Commit | None = None
    ) -> Artifact:
        """Names a file whose bytes lie in ``packs``, or lay in the store before; its writer is still open."""

        def name(tx: Tx) -> None:
            self._sessions.seal(tx, packs)
            self._name(tx, owner, made, project_id)

        self._commit(name, lock_of_files(owner), commit)
        return made

    def _commit(self, work: Callable[[Tx], None], lock: str, commit: Commit | None) -> None:
        if commit is not None:
            commit(work, lock)
            return
        with self._db.write() as tx:
            tx.lock(lock)
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

    def pack_artifacts(self, least: int = 32) -> int:
        """Brings small files from their rows into packs, equal ones once. Returns how many there were.

        Args:
            least: fewer of them go on waiting.
        """
        done = 0
        with self._waiting.packing as mine:
            while mine:
                with self._sessions.writer() as writer:
                    with self._db.read() as conn:
                        found = shelves.waiting(conn, _MANY)
                    if len(found) < least:
                        break
                    writer.put_many(Kind.CHUNK, [one.data for _, one in found])
                    packs = writer.flush()
                    with self._db.write() as tx:
                        for name in sorted({lock_of_files(owner) for owner, _ in found}):
                            tx.lock(name)
                        self._sessions.seal(tx, packs)
                        shelves.packed(tx, found)
                done += len(found)
        return done

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

    def has_artifact(self, owner: Owner, path: str) -> bool:
        """Whether a file or folder is there."""
        with self._db.read() as conn:
            return shelves.find(conn, owner, path) is not None

    def open_artifact(self, found: Artifact) -> BinaryIO:
        """The bytes of a file; readable and seekable, fetched as they are read."""
        if found.content_kind == 0:
            return io.BytesIO(found.data)
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


def in_row(path: str, data: bytes) -> Artifact:
    """A small file as an artifact whose bytes lie in its row."""
    return Artifact(path=path, size=len(data), content_kind=0, content=Digest(raw_id(Kind.CHUNK, data)).hex, data=data)


def named(path: str, stored: FileContent) -> Artifact:
    """A stored file as an artifact."""
    return Artifact(path=path, size=stored.size, content_kind=int(stored.kind), content=stored.id.hex)


def _key(path: str) -> tuple[str, str]:
    folder, _, name = path.rpartition("/")
    return folder, name
