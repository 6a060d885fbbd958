"""A folder beside a repository: what changed in it since it was last looked at, and how to change it.

What the folder looked like is in a cache (``statcache``) beside the tree that it was equal to then; files whose size,
times and inode are as they were are not read. A file that was changed shortly before it was looked at is read again: it
may have changed once more without a new time (git's racy rule).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import itemgetter
from pathlib import Path

from noria.base.digest import Digest
from noria.data.ignoring import Ignored
from noria.data.worktree.changes import Changes, changed, changes_of, keep_meta, metas, pairs, text
from noria.data.worktree.checkout import Checkout
from noria.data.worktree.looking import Advance, Look, look_at
from noria.data.worktree.losses import is_whole, lost
from noria.data.worktree.memory import Memory
from noria.store import ObjectStore, Writer, reading, tree
from noria.store.tree import Row


class Worktree:
    """One folder for one repository. Not thread-safe. What its ``.noriaignore`` leaves out is as if it were not there.

    Args:
        trust: believe the cache. Without it every file is read.

    Attributes:
        collisions: after ``store``: paths that some file systems cannot hold beside each other, since they differ
            only by case or by the form of their Unicode; in groups.
    """

    def __init__(self, home: Path, repository_id: int, folder: Path, *, trust: bool = True) -> None:
        self.folder = folder.resolve()
        self._memory = Memory(home, repository_id, self.folder, trust=trust)
        self._seen: Look | None = None
        self.collisions: list[tuple[str, ...]] = []

    @property
    def synced(self) -> Digest | None:
        """The tree that the folder was last made equal to, or committed as; None where it is new."""
        return self._memory.root

    @property
    def branch(self) -> str:
        """The branch that the folder was last checked out at, or committed to; empty where that was none."""
        return self._memory.branch

    @branch.setter
    def branch(self, name: str) -> None:
        self._memory.branch = name

    def store(
        self,
        store: ObjectStore,
        writer: Writer,
        head: Digest | None,
        advance: Advance,
        *,
        paths: Iterable[str] | None = None,
    ) -> Digest:
        """Puts the folder into the store and returns its tree; unchanged files are not read.

        With ``paths`` (files or folders, relative) only they are looked at, and ``head`` stays as it is elsewhere.
        """
        if paths is not None:
            changes, _ = look_at(self.folder, store, writer, head, paths, advance)
            return changed(store, writer, head, changes)
        base = self._memory.base(store)
        if base is not None and self._memory.cache.state != writer.state and not is_whole(store, writer, base):
            # No commit names this tree any more: the collector is about to take it.
            self._memory.forget()
            base = None
        look = self._look(store, writer, advance, base or head)
        rows, gone = look.rows, look.gone
        if base is None and self._memory.part and head is not None:  # only a part of a tree that is lost is here
            return changed(store, writer, head, changes_of(tree.find_rows(store, head, look.keys), rows, gone))
        if base is None:
            keep_meta(rows, metas(store, head))
            return tree.build_rows(writer, sorted(rows, key=itemgetter(0)))
        rows += self._store_lost(store, writer, base, look)
        return changed(store, writer, base, changes_of(tree.find_rows(store, base, look.keys), rows, gone))

    def compare(
        self, store: ObjectStore, writer: Writer, head: Digest | None, *, paths: Iterable[str] | None = None
    ) -> list[tree.Change]:
        """How the folder differs from a tree; with ``paths``, at these paths only."""
        if paths is not None:
            changes, before = look_at(self.folder, store, writer, head, paths, None)
            return pairs(changes, before)
        base = self._memory.base(store)
        look = self._look(store, writer, None, base or head)
        if base is None:
            before = {} if head is None else {row[0]: row for row in tree.walk_rows(store, head)}
            missing = set[bytes]() if self._memory.part else before.keys() - {row[0] for row in look.rows}
            return pairs(changes_of(before, look.rows, missing), before)
        before = tree.find_rows(store, base, look.keys)
        changes = changes_of(before, look.rows, look.gone)
        self._remember(look, before, changes)
        if head == base:
            return pairs(changes, before)
        old, new = (
            ({}, {row[0]: row for row in tree.walk_rows(store, base)})
            if head is None
            else (tree.diff_rows(store, head, base))
        )
        moved: Changes = {key: new.get(key) for key in old.keys() | new.keys()}
        was = {key: row for key, row in before.items() if key not in moved} | old
        return pairs(moved | changes, was)

    def checkout(
        self, store: ObjectStore, target: Digest, advance: Advance, *, pattern: str | None = None, force: bool = False
    ) -> int:
        """Makes the folder equal to a tree, touching only what differs; returns how many paths were touched.

        Args:
            pattern: only paths that fit it (``*`` crosses folders); the others stay as they are.
            force: overwrite what was never committed. Files that neither tree knows stay, as new ones.

        Raises:
            Invalid: the folder holds changes that were never committed, and which the target does not have; or, where
                the target has a file, a folder with something in it that neither tree knows.
            FileChanged: somebody changed a path meanwhile; it is left as it is, and a repeated call goes on from there.
        """
        return Checkout(self.folder, self._memory, store, target, pattern=pattern, force=force).run(advance)

    def save(self, root: Digest) -> None:
        """Remembers what was seen. A lost cache costs time only."""
        look = self._seen
        if look is not None:
            self._memory.keep(root.hex, look.view, looked_ns=look.looked_ns, state=look.state, part=self._memory.part)

    def _look(self, store: ObjectStore, writer: Writer, advance: Advance, known: Digest | None) -> Look:
        ignored = Ignored.of(self.folder, store, known)
        self._seen = Look(self.folder, self._memory.cache, writer, advance, ignored)
        self.collisions = self._seen.collisions
        return self._seen

    def _store_lost(self, store: ObjectStore, writer: Writer, base: Digest, look: Look) -> list[Row]:
        """Stores unchanged files again whose bytes the store may not have any more; the rows of what was read."""
        if self._memory.cache.state == look.state:
            return []
        known = look.keys
        rows = [row for row in tree.walk_rows(store, base) if row[4] and row[0] not in known]
        found = (reading.read_path(writer, self.folder, text(row[0])) for row in lost(store, writer, rows))
        return [seen[0] for seen in found if seen is not None]

    def _remember(self, look: Look, before: Mapping[bytes, Row], changes: Changes) -> None:
        """Spares the next look what this one read in vain. Paths that did change are to be looked at again."""
        if len(look.rows) + len(look.gone) <= len(changes):
            return
        look.view.look_again(changes, before)
        cache = self._memory.cache
        self._memory.keep(cache.root, look.view, looked_ns=look.looked_ns, state=cache.state, part=self._memory.part)
