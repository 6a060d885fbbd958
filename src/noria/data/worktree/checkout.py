"""Making a folder equal to a tree."""

from __future__ import annotations

import fnmatch
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from noria.base.digest import Digest
from noria.base.errors import Invalid
from noria.data.ignoring import Ignored
from noria.data.statcache import Place
from noria.data.worktree.changes import Changes, changes_of, text
from noria.data.worktree.looking import Advance, Look
from noria.data.worktree.memory import Memory
from noria.data.worktree.view import View
from noria.store import EntryKind, ObjectStore, tree, writing
from noria.store.tree import Row
from noria.store.writing import is_ours


class Checkout:
    """One checkout; see ``Worktree.checkout``."""

    def __init__(
        self, folder: Path, memory: Memory, store: ObjectStore, target: Digest, *, pattern: str | None, force: bool
    ) -> None:
        self._folder = folder
        self._memory = memory
        self._store = store
        self._target = target
        self._pattern = pattern
        self._force = force

    def run(self, advance: Advance) -> int:
        """How many paths were touched."""
        store, target = self._store, self._target
        self._make_folder()
        base = self._memory.base(store)
        if base is None and not self._memory.part:
            self._refuse_a_part()
        ignored = Ignored.of(self._folder, store, base, target)  # what is about to be written is not left out
        with store.hasher() as scratch:
            look = Look(self._folder, self._memory.cache, scratch, None, ignored)
        view, before, changes = look.view, dict[bytes, Row](), Changes()
        if base is not None and view.bare:
            base, view = None, View({})  # nothing is left of it: there is nothing to lose
        else:
            before = {} if base is None else tree.find_rows(store, base, look.keys)
            changes = changes_of(before, look.rows, look.gone)
        wanted = self._wanted(base, changes, view)
        # What neither tree knows stays where it is, but for folders that lost all that the old tree had in them.
        unknown = {key for key in wanted if key in changes and key not in before}
        emptied = {key for key in unknown if base is not None and _was_folder(store, base, key, changes[key])}
        new = {key for key in unknown - emptied if wanted[key] is None}
        lost = [key for key in wanted if key in changes and changes[key] != wanted[key] and key not in emptied]
        if lost and not self._force:
            self._refuse(base, lost)
        todo = {key: row for key, row in wanted.items() if key not in new and changes.get(key, ()) != row}
        put = [row for _, row in sorted(todo.items()) if row is not None]
        removed = [text(key) for key, row in todo.items() if row is None]
        self._refuse_full_folders(view, put, set(removed), ignored)
        store.expect(content for row in put if (content := tree.entry_of(row).content) is not None)
        everything = (text(row[0]) for row in tree.walk_rows(store, target))
        written = writing.write_rows(
            store, self._folder, put, removed, advance, everything=everything, seen=view.seen()
        )
        if base is None or base == target or self._pattern is None:
            view.settle(written, removed)
            view.look_again({key: row for key, row in changes.items() if key not in wanted or key in new}, before)
            root, part = target, self._pattern is not None
        else:  # neither the one tree nor the other: what was touched counts as changed since ``base``
            touched: Changes = changes | wanted
            view.look_again(touched, tree.find_rows(store, base, touched))
            root, part = base, self._memory.part
        store.faults.at("checkout.cache")
        self._memory.keep(root.hex, view, looked_ns=time.time_ns(), part=part)
        return len(todo)

    def _make_folder(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Invalid(
                f"{self._folder} cannot be made: {os.strerror(error.errno or 0)}.",
                hint="Give a folder that is empty or new.",
                details={"path": str(self._folder)},
            ) from error

    def _refuse_a_part(self) -> None:
        if self._pattern is not None and not self._force and _holds_something(self._folder):
            raise Invalid(
                f"{self._folder} holds files and was not checked out before; a part of a commit goes into a folder "
                "that is empty or new.",
                hint="Give another folder, or write beside what is there, and over it, with --force.",
                details={"path": str(self._folder)},
            )

    def _wanted(self, base: Digest | None, changes: Changes, view: View) -> Changes:
        """The rows that paths shall have, None where they shall not be: all that may not be as the target has them."""
        store, target, fits = self._store, self._target, _fitting(self._pattern)
        if base is None:
            wanted: Changes = {row[0]: row for row in tree.walk_rows(store, target) if fits(row[0])}
        else:
            old, new = tree.diff_rows(store, base, target)
            wanted = {key: new.get(key) for key in old.keys() | new.keys() if fits(key)}
            if self._memory.part:  # of what both have, something may never have been checked out
                there = {p + n for p, found in view.places.items() for n in found.files()} | {
                    p[:-1] for p in view.places
                }
                for row in tree.walk_rows(store, target):
                    if row[0] not in wanted and fits(row[0]) and text(row[0]) not in there:
                        wanted[row[0]] = row
        others = [key for key in changes if key not in wanted and fits(key)]
        known = tree.find_rows(store, target, others)
        return wanted | {key: known.get(key) for key in others}

    def _refuse(self, base: Digest | None, lost: list[bytes]) -> None:
        paths = [text(key) for key in sorted(lost)]
        if base is None:
            raise Invalid(
                f"{self._folder} holds files and was not checked out before, among them {paths[0]}.",
                hint="Give a folder that is empty or new, or overwrite them with --force.",
                details={"paths": paths[:20]},
            )
        raise Invalid(
            f"{self._folder} holds {_changes(len(paths))} never committed, among them {paths[0]}.",
            hint="Commit them, check out into another folder, or overwrite them with --force.",
            details={"paths": paths[:20]},
        )

    def _refuse_full_folders(self, view: View, put: list[Row], removed: set[str], ignored: Ignored | None) -> None:
        """A file cannot take the place of a folder in which something stays."""
        fresh = view.places
        left = {} if ignored is None else {path.rpartition("/")[0] + "/": [path] for path in ignored.left}
        tops = {text(row[0]) + "/" for row in put if row[1] != EntryKind.FOLDER}.intersection(fresh.keys() | left)
        if not tops:
            return
        for prefix in fresh.keys() | left:
            top = next((f"{above}/" for above in _folders_of(prefix) if f"{above}/" in tops), None)
            if top is None:
                continue
            found = fresh.get(prefix, Place(b"", b"", False))
            stays = [prefix + name for name in found.files() if prefix + name not in removed] + left.get(prefix, [])
            if found.empty and prefix != top and prefix[:-1] not in removed:
                stays.append(prefix)
            if stays:
                raise Invalid(
                    f"{self._folder / top} has to become a file, and holds {stays[0]}, which stays.",
                    hint="Move it away, then repeat the command.",
                    details={"path": top[:-1], "paths": stays[:20]},
                )


def _changes(count: int) -> str:
    return "1 change" if count == 1 else f"{count} changes"


def _holds_something(folder: Path) -> bool:
    with os.scandir(folder) as found:
        return any(not is_ours(item.name) for item in found)


def _folders_of(prefix: str) -> Iterator[str]:
    """A folder (with a slash at its end) and those above it, without slashes, the highest first."""
    at = prefix.find("/")
    while at >= 0:
        yield prefix[:at]
        at = prefix.find("/", at + 1)


def _was_folder(store: ObjectStore, base: Digest, key: bytes, row: Row | None) -> bool:
    is_folder = row is not None and row[1] == EntryKind.FOLDER
    return is_folder and next(tree.walk_rows(store, base, key + b"/"), None) is not None


def _fitting(pattern: str | None) -> Callable[[bytes], object]:
    if pattern is None:
        return lambda key: True
    fits = re.compile(fnmatch.translate(pattern)).match
    return lambda key: fits(text(key))
