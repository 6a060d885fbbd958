"""The verbs of files: commit a folder, status, diff, checkout."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from noria.base.actor import Actor
from noria.base.digest import Digest
from noria.base.errors import Invalid, NotFound
from noria.base.ids import ProjectId, RunId
from noria.base.once import Once
from noria.data import ancestry, erased, queries
from noria.data.errors import FolderAdrift, FolderLeft, MergeConflict
from noria.data.pathchange import path_change
from noria.data.records import MAIN, Commit, PathChange, Repository, RepositoryKind
from noria.data.service.access import AccessVerbs
from noria.data.service.drafts import DraftVerbs
from noria.data.service.landing import Ancestry, LostRaceError, Made
from noria.data.service.previewing import PreviewVerbs
from noria.data.service.touched import TouchedVerbs
from noria.data.worktree import Worktree
from noria.store import Entry, Writer, folders, tree
from noria.store.merging import Sides


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What a commit of a folder would change.

    Attributes:
        commit: the head of the branch.
        behind: how many paths others changed there since the folder was last equal to it.
        left: the branch was moved away from what the folder came from: a commit would refuse.
    """

    folder: str
    commit: str | None
    changes: list[PathChange]
    behind: int = 0
    left: bool = False


class _Read(NamedTuple):
    """A folder whose contents are stored.

    Attributes:
        base: the commit that ``root`` was made from; None where it is the whole folder, whatever was there before.
    """

    work: Worktree
    base: Commit | None
    root: Digest


class Files(DraftVerbs, PreviewVerbs, TouchedVerbs, AccessVerbs):
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
        paths: Sequence[str] | None = None,
        advance: Callable[..., None] | None = None,
        warn: Callable[[str], None] | None = None,
        snapshot: bool = False,
    ) -> Commit:
        """Commits a whole folder; returns the head where nothing changed. Only changed files are read.

        Where others committed since the folder was last equal to the branch, what changed in the folder is merged with
        what they did; the folder itself stays as it is, and has theirs after a checkout.

        Args:
            paths: only these files and folders, relative to ``folder``; nothing else is looked at.
            warn: hears of names that some file systems cannot hold beside each other.
            snapshot: make the branch equal to the folder, whatever the folder came from and others did.

        Raises:
            MergeConflict: others changed the same paths; the error names them.
            FolderAdrift: the commit that the folder came from is gone (dropped, pruned or purged).
            FolderLeft: the branch was moved away from the commit that the folder came from.
        """
        self._only_files(repository)
        if not folder.is_dir():
            raise NotFound(f"{folder} is not a folder.", hint="Give the folder that holds the files.")
        how: dict[str, Any] = {"actor": actor, "message": message, "meta": meta, "key": key, "run_id": run_id}

        store, read = self._s.sessions.store, list[_Read]()

        def attempt() -> Commit:
            head = self.head(repository, branch)
            if not read:
                work = Worktree(self._s.home, repository.mark, folder, trust=not store.has_damage)
                base, held = (None, True) if snapshot else self._came_from(repository, head, work.synced)
                if base is not None and not held and work.branch == branch:
                    raise FolderLeft(repository.name, branch, base.id)
                before = base or head
                root = work.store(store, writer, None if before is None else before.layout, advance, paths=paths)
                read.append(_Read(work, base if paths is None else before, root))
            work, base, root = read[0]
            if head is None or base is None or base.id == head.id:
                done = self._commit_tree(writer, repository, branch, head, root, **how)
            else:
                common = self.merge_base(repository, head, base)
                if base.layout == root and common == base:
                    done = head  # nothing happened in the folder; what others did is there
                else:
                    done = self._commit_beside(writer, repository, branch, head, base, common, root, **how)
            if paths is None:  # else the folder was not looked at as a whole: what is known of it stays
                work.save(root)
                work.branch = branch
            return done

        with self._s.sessions.writer() as writer:  # one for all attempts: nobody collects what it has stored
            done = self._again(repository, branch, attempt, apart=True)
        for names in read[0].work.collisions:
            if warn is not None:
                warn(f"{' and '.join(names)} differ only by case or Unicode form: not every file system holds both.")
        return done

    def _came_from(
        self, repository: Repository, head: Commit | None, synced: Digest | None
    ) -> tuple[Commit | None, bool]:
        """(the commit that a folder was last equal to, on this branch where it can be; None where the folder is new,
        whether the head's history holds it).

        Raises:
            FolderAdrift: the commit is gone; what the folder would take back cannot be told.
        """
        if head is None or synced is None:
            return None, True
        if synced == head.layout:
            return head, True
        with self._db.read() as conn:
            known = queries.commits_with_layout(conn, repository.id, synced)
            if not known:
                raise FolderAdrift(repository.name)
            graph = queries.graph(conn, repository.id)
            held = next((commit for commit in known if ancestry.is_ancestor(graph, commit, head.id)), None)
            return queries.commit(conn, held or known[0]), held is not None

    def _commit_beside(
        self,
        writer: Writer,
        repository: Repository,
        branch: str,
        head: Commit,
        base: Commit,
        common: Commit | None,
        root: Digest,
        *,
        actor: Actor,
        message: str,
        meta: dict[str, Any] | None,
        key: str | None,
        run_id: RunId | None,
    ) -> Commit:
        """Commits a folder that came from an older commit, and merges it with what happened since, all at once.

        Args:
            base: the commit that the folder came from.
            common: the youngest commit that it and the head come from.
        """
        flushed = writer.flush()  # both trees must be readable to be merged
        made = self._combine(writer, repository, None if common is None else common.layout, head, root, Sides())
        if made.conflicts:
            hint = f"noria data checkout {repository.name} OTHER_FOLDER   shows theirs beside yours."
            raise MergeConflict(f"{repository.name}@{branch}", "The folder", made.conflicts, hint)
        facts = self._facts(writer, repository, base, Made(layout=root))
        mine = self._prepare(
            writer,
            repository,
            branch,
            base,
            root,
            facts,
            actor=actor,
            message=message,
            meta=meta or {},
            event_ms=self._s.event_clock.event_ms(repository.project_id),
            checked=False,
        )
        return self._commit_made(
            writer,
            repository,
            branch,
            head,
            made,
            verb="data.commit",
            actor=actor,
            message=f"merged {mine.id[:12]}",
            meta=meta,
            once=_once(key, root, branch),
            run_id=run_id,
            ancestry=Ancestry(
                parents=(head.id, mine.id), generation=1 + max(head.generation, mine.ancestry.generation)
            ),
            also=lambda change, _: self._record(change, mine, run_id) and None,
            flushed=flushed,
        )

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
        expected: Commit | msgspec.UnsetType | None = msgspec.UNSET,
    ) -> Commit:
        """Commits a tree whose objects are in ``writer`` or in the store already.

        Args:
            expected: the head that ``root`` was built on; None for a branch without one. Give it wherever the tree
                was built on one: without it the tree takes the place of whatever the head is by now.

        Raises:
            LostRaceError: the head is not, or is no longer, the expected one; nothing was committed.
        """
        head = self.head(self._only_files(repository), branch)
        if expected is not msgspec.UNSET and _id(head) != _id(expected):
            raise LostRaceError
        how: dict[str, Any] = {"actor": actor, "message": message, "meta": meta, "key": None, "run_id": run_id}
        return self._commit_tree(writer, repository, branch, head, root, **how)

    def _commit_tree(
        self,
        writer: Writer,
        repository: Repository,
        branch: str,
        head: Commit | None,
        root: Digest,
        *,
        actor: Actor,
        message: str,
        meta: dict[str, Any] | None,
        key: str | None,
        run_id: RunId | None,
    ) -> Commit:
        if head is not None and head.layout == root:
            packs = writer.flush()
            if packs:  # what was damaged or lost is stored again, and nothing else changed
                with self._db.write() as tx:
                    self._s.sessions.seal(tx, packs)
            return head
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
            once=_once(key, root, branch),
            run_id=run_id,
        )

    def status(
        self, repository: Repository, folder: Path, branch: str = MAIN, *, paths: Sequence[str] | None = None
    ) -> Status:
        """What a commit of the folder, or of some paths of it, would change. Writes only the cache of file times."""
        head = self.head(self._only_files(repository), branch)
        work, store = Worktree(self._s.home, repository.mark, folder), self._s.sessions.store
        try:
            base, held = self._came_from(repository, head, work.synced)
        except FolderAdrift:  # a commit would refuse; against the head it can still be compared
            base, held = None, True
        against = None if head is None else (base or head).layout
        with store.hasher() as scratch:
            changes = work.compare(store, scratch, against, paths=paths)
        behind = 0 if head is None or against is None else len(tree.diff(store, against, head.layout))
        commit = None if head is None else head.id
        return Status(
            folder=str(folder),
            commit=commit,
            changes=[path_change(c) for c in changes],
            behind=behind,
            left=not held and work.branch == branch,
        )

    def checkout_at(self, project_id: ProjectId, folder: Path, name: str | None = None) -> tuple[Repository, Path]:
        """The repository that a folder is a checkout of, and the folder itself: it, or the nearest one above it.

        A folder counts that was checked out, or committed as a whole.

        Args:
            name: only this repository.

        Raises:
            NotFound: none of them is one, as far as this workspace knows.
            Invalid: it is one of several repositories.
        """
        kind = RepositoryKind.FILES
        known = self.repositories(project_id) if name is None else [self.get(project_id, name, kind)]
        at = folder.resolve()
        for place in (at, *at.parents):
            found = [r for r in known if r.kind == kind and Worktree(self._s.home, r.mark, place).synced is not None]
            if len(found) > 1:
                names = ", ".join(r.name for r in found)
                raise Invalid(f"{place} is a checkout of {names}.", hint="Name one of them.")
            if found:
                return found[0], place
        of = "" if name is None else f" of {name}"
        raise NotFound(
            f"{folder} lies in no checkout{of} that this workspace knows.",
            hint="Name the repository and its folder; noria data list   names the repositories.",
        )

    def branch_at(self, repository: Repository, folder: Path) -> str:
        """The branch that a folder was last checked out at, or committed to; ``main`` where that was none."""
        return Worktree(self._s.home, repository.mark, folder).branch or MAIN

    def diff(self, repository: Repository, before: str, after: str) -> list[PathChange]:
        """The files that differ between two commits."""
        self._only_files(repository)
        old, new = self.resolve(repository, before), self.resolve(repository, after)
        return [path_change(c) for c in tree.diff(self._s.sessions.store, old.layout, new.layout)]

    def files(self, repository: Repository, ref: str = MAIN, pattern: str = "*") -> Iterable[Entry]:
        """The entries of a commit whose path fits a pattern; ``*`` crosses folders."""
        self._only_files(repository)
        root = self.resolve(repository, ref).layout
        return (e for e in tree.walk(self._s.sessions.store, root) if fnmatchcase(e.path, pattern))

    def read_file(self, repository: Repository, path: str, ref: str = MAIN) -> bytes:
        """The bytes of one file."""
        self._only_files(repository)
        found = folders.read_file(self._s.sessions.store, self.resolve(repository, ref).layout, path)
        if found is None:
            with self._db.read() as conn:
                erased.refuse_path(conn, repository, path)
            raise NotFound(f"{repository.name}@{ref} has no file {path!r}.", hint=f"noria data show {repository.name}")
        return found

    def checkout(
        self,
        repository: Repository,
        folder: Path,
        ref: str = MAIN,
        *,
        pattern: str | None = None,
        force: bool = False,
        advance: Callable[..., None] | None = None,
    ) -> int:
        """Makes a folder equal to a commit, writing only what differs; returns how many paths were touched.

        Args:
            pattern: only paths that fit it (``*`` crosses folders); the others stay as they are.
            force: also where the folder holds changes that were never committed; they are overwritten.

        Raises:
            Invalid: the folder holds changes that were never committed.
        """
        self._only_files(repository)
        commit = self.resolve(repository, ref)
        work = Worktree(self._s.home, repository.mark, folder)
        new = work.synced is None
        done = work.checkout(self._s.sessions.store, commit.layout, advance, pattern=pattern, force=force)
        if pattern is None or new:
            work.branch = ref if any(branch.name == ref for branch in self.branches(repository)) else ""
        return done


def _once(key: str | None, root: Digest, branch: str) -> Once | None:
    return None if key is None else Once(key, {"tree": root.hex, "branch": branch})


def _id(commit: Commit | None) -> str | None:
    return None if commit is None else commit.id
