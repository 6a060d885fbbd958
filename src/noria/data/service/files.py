"""The verbs of files: commit a folder, status, diff, checkout."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from noria.base.actor import Actor
from noria.base.digest import Digest
from noria.base.errors import Invalid, NotFound
from noria.base.ids import RunId
from noria.base.once import Once
from noria.data.errors import HeadMoved
from noria.data.records import MAIN, Commit, PathChange, Repository, RepositoryKind
from noria.data.service.access import AccessVerbs
from noria.data.service.base import LostRaceError, Made
from noria.data.worktree import Worktree
from noria.store import Entry, Writer, folders, tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How a folder differs from a commit."""

    folder: str
    commit: str | None
    changes: list[PathChange]


class Files(AccessVerbs):
    def commit(
        self,
        repository: Repository,
        folder: Path,
        *,
        actor: Actor,
        branch: str = MAIN,
        message: str = "",
        meta: dict[str, Any] | None = None,
        key: str | None = None,
        run_id: RunId | None = None,
        advance: Callable[..., None] | None = None,
    ) -> Commit:
        """Commits a whole folder; returns the head where nothing changed. Only changed files are read."""
        self._files(repository)
        if not folder.is_dir():
            raise NotFound(f"{folder} is not a folder.", hint="Give the folder that holds the files.")
        for _ in range(2):
            head = self.head(repository, branch)
            with self._s.sessions.writer() as writer:
                work = Worktree(self._s.home, repository.id, folder, trust=not self._s.sessions.store.has_damage)
                root = work.store(self._s.sessions.store, writer, None if head is None else head.layout, advance)
                try:
                    commit = self._commit_tree(
                        writer, repository, branch, head, root, actor, message, meta, key, run_id
                    )
                except LostRaceError:
                    continue
                work.save(root)
                return commit
        raise HeadMoved(repository.name, branch, None, None)

    def commit_tree(
        self,
        writer: Writer,
        repository: Repository,
        root: Digest,
        *,
        actor: Actor,
        branch: str = MAIN,
        message: str = "",
        meta: dict[str, Any] | None = None,
        run_id: RunId | None = None,
    ) -> Commit:
        """Commits a tree whose objects are in ``writer`` or in the store already."""
        head = self.head(self._files(repository), branch)
        return self._commit_tree(writer, repository, branch, head, root, actor, message, meta, None, run_id)

    def _commit_tree(
        self,
        writer: Writer,
        repository: Repository,
        branch: str,
        head: Commit | None,
        root: Digest,
        actor: Actor,
        message: str,
        meta: dict[str, Any] | None,
        key: str | None,
        run_id: RunId | None,
    ) -> Commit:
        if head is not None and head.layout == root:
            if self._s.sessions.store.has_damage:  # what was damaged is stored again, and nothing else changed
                with self._db.write() as tx:
                    self._s.sessions.seal(tx, writer.flush())
            return head
        once = None if key is None else Once(key, {"tree": root.hex, "branch": branch})
        return self._commit_made(
            writer,
            repository,
            branch,
            head,
            Made(layout=root),
            verb="data.commit",
            actor=actor,
            message=message,
            meta=meta,
            once=once,
            run_id=run_id,
        )

    def status(self, repository: Repository, folder: Path, branch: str = MAIN) -> Status:
        """What a commit of the folder would change. Writes nothing but the cache of file times."""
        head = self.head(self._files(repository), branch)
        work = Worktree(self._s.home, repository.id, folder)
        with self._s.sessions.store.writer() as scratch:  # hashed, never flushed
            changes = work.compare(self._s.sessions.store, scratch, None if head is None else head.layout)
        return Status(
            folder=str(folder), commit=None if head is None else head.id, changes=[_path_change(c) for c in changes]
        )

    def diff(self, repository: Repository, before: str, after: str) -> list[PathChange]:
        """The files that differ between two commits."""
        self._files(repository)
        old, new = self.resolve(repository, before), self.resolve(repository, after)
        return [_path_change(c) for c in tree.diff(self._s.sessions.store, old.layout, new.layout)]

    def files(self, repository: Repository, ref: str = MAIN, pattern: str = "*") -> Iterable[Entry]:
        """The entries of a commit whose path fits a pattern; ``*`` crosses folders."""
        self._files(repository)
        root = self.resolve(repository, ref).layout
        return (e for e in tree.walk(self._s.sessions.store, root) if fnmatchcase(e.path, pattern))

    def read_file(self, repository: Repository, path: str, ref: str = MAIN) -> bytes:
        """The bytes of one file."""
        self._files(repository)
        found = folders.read_file(self._s.sessions.store, self.resolve(repository, ref).layout, path)
        if found is None:
            raise NotFound(f"{repository.name}@{ref} has no file {path!r}.", hint=f"noria data show {repository.name}")
        return found

    def checkout(
        self, repository: Repository, folder: Path, ref: str = MAIN, *, advance: Callable[..., None] | None = None
    ) -> int:
        """Makes a folder equal to a commit, writing only what differs; returns how many paths were touched.

        Raises:
            Invalid: the folder holds changes that were never committed.
        """
        self._files(repository)
        commit = self.resolve(repository, ref)
        work = Worktree(self._s.home, repository.id, folder)
        return work.checkout(self._s.sessions.store, commit.layout, advance)

    def _files(self, repository: Repository) -> Repository:
        if repository.kind != RepositoryKind.FILES:
            self.get(repository.project_id, repository.name, RepositoryKind.FILES)
        return repository


def _path_change(change: tree.Change) -> PathChange:
    kind = "added" if change.before is None else "removed" if change.after is None else "changed"
    before = 0 if change.before is None else change.before.size
    after = 0 if change.after is None else change.after.size
    return PathChange(path=change.path, kind=kind, size_before=before, size_after=after)


__all__ = ["Files", "Invalid", "Status"]
