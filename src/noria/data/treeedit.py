"""Applies change sets to trees: an overlay over a stored tree, so that it costs what the edits touch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

from noria.base.digest import Digest
from noria.base.errors import Invalid, NotFound
from noria.base.names import check_path, is_pattern
from noria.data.edits import Append, Copy, Delete, Describe, Edit, Link, Move, Put, Source, check
from noria.data.errors import PathExists
from noria.store import Entry, EntryKind, ObjectStore, Writer, entries, folders, merging, tree

Resolve = Callable[[str], Digest]
"""From the name of a commit to its tree."""


class TreeEdit:
    """One change set. What was read from sources is kept as entries, so that it can be applied to another tree again.

    Attributes:
        blind: paths whose old content did not matter: where somebody else changed them too, that is a conflict.
    """

    _writer: Writer

    def __init__(self, store: ObjectStore, edits: Iterable[Edit], resolve: Resolve) -> None:
        self._store = store
        self._edits = [check(edit) for edit in edits]
        self._resolve = resolve
        self._taken: dict[int, bytes | Entry] = {}
        self._root: Digest | None = None
        self._changes: dict[str, Entry | None] = {}
        self.blind: set[str] = set()

    def apply(self, writer: Writer, root: Digest | None) -> dict[str, Entry | None]:
        """The paths that differ afterwards. Contents go into ``writer``; the tree is not written yet.

        Raises:
            Invalid: an edit does not fit, with its number and path.
        """
        self._writer, self._root, self._changes, self.blind = writer, root, {}, set()
        for number, edit in enumerate(self._edits):
            self._one(number, edit)
        wrong = _clashes(self._changes) if root is None else merging.fit(self._store, root, self._changes)
        if wrong:
            raise Invalid(
                f"{wrong[0]!r} cannot be there: a file and a folder would have the same name.",
                hint="Delete or move one of them in the same change set, before.",
                details={"paths": wrong[:20]},
            )
        return self._changes

    def _one(self, number: int, edit: Edit) -> None:
        if isinstance(edit, Put):
            self._put(number, edit)
        elif isinstance(edit, Append):
            self._append(number, edit)
        elif isinstance(edit, Delete):
            for path in self._paths(edit.path):
                self._set(path, None)
        elif isinstance(edit, Copy):
            root = None if edit.ref is None else self._resolve(edit.ref)
            self._copy(edit.path, edit.to, root, overwrite=edit.overwrite, equal=True)
        elif isinstance(edit, Move):
            copied = self._copy(edit.path, edit.to, None, overwrite=edit.overwrite, equal=edit.path == edit.to)
            for path in copied.keys() - set(copied.values()):
                self._set(path, None)
        elif isinstance(edit, Link):
            self._set(edit.path, Entry(path=edit.path, kind=EntryKind.SYMLINK, target=edit.target))
        else:
            self._describe(edit)

    def _put(self, number: int, edit: Put) -> None:
        stored = self._taken.get(number)
        if not isinstance(stored, Entry):
            stored = self._taken[number] = self._store_source(edit)
        before = self._find(edit.path)
        kept = dict(before.meta) if before is not None and edit.meta is None else dict(edit.meta or {})
        executable = stored.executable if before is None or edit.executable is not None else before.executable
        self._set(edit.path, replace(stored, meta=kept, executable=executable))

    def _store_source(self, edit: Put) -> Entry:
        source, executable = edit.source, bool(edit.executable)
        if isinstance(source, Path):
            entry, _ = folders.read_entry(self._writer, source.parent, source.name)
            if entry.kind != EntryKind.FILE:
                raise Invalid(f"{source} is not a file.", hint="Commit a folder with noria data commit NAME FOLDER.")
            return replace(
                entry, path=edit.path, executable=entry.executable if edit.executable is None else executable
            )
        if isinstance(source, bytes | str):
            return entries.from_bytes(self._writer, edit.path, _bytes(source), executable=executable)
        return entries.from_stream(self._writer, edit.path, source, executable=executable)

    def _append(self, number: int, edit: Append) -> None:
        data = self._taken.get(number)
        if not isinstance(data, bytes):
            data = self._taken[number] = _read(edit.source)
        before = self._find(edit.path)
        if before is None:
            self._set(edit.path, entries.from_bytes(self._writer, edit.path, data), blind=False)
            return
        if before.kind != EntryKind.FILE:
            raise Invalid(f"{edit.path!r} is no file; nothing can be appended to it.", hint="Delete it first.")
        made = entries.appended(self._store, self._writer, before, data)
        self._set(edit.path, made, blind=False)

    def _copy(self, path: str, to: str, root: Digest | None, *, overwrite: bool, equal: bool) -> dict[str, str]:
        """Copies a path, or all below a folder; returns from which path to which.

        Args:
            equal: what is there and is equal does not count as overwritten.

        Raises:
            PathExists: something else has one of the new names.
        """
        entry = self._find(path) if root is None else tree.find(self._store, root, path)
        if entry is not None:
            self._place([replace(entry, path=to)], overwrite, equal)
            return {path: to}
        prefix = path.rstrip("/") + "/"
        below = self._below(prefix) if root is None else list(tree.walk(self._store, root, prefix))
        if not below:
            raise NotFound(f"There is no path {path!r}.", hint="noria data ls NAME   lists the paths.")
        if to.startswith(prefix) or prefix.startswith(to.rstrip("/") + "/"):
            if to.rstrip("/") + "/" == prefix:
                return {found.path: found.path for found in below}
            raise Invalid(f"{path!r} and {to!r} lie in each other.", hint="Choose a place outside of it.")
        copied = {found.path: check_path(to.rstrip("/") + "/" + found.path[len(prefix) :]) for found in below}
        self._place([replace(found, path=copied[found.path]) for found in below], overwrite, equal)
        return copied

    def _place(self, made: list[Entry], overwrite: bool, equal: bool) -> None:
        if not overwrite:
            there = [(entry, self._find(entry.path)) for entry in made]
            lost = [entry.path for entry, old in there if old is not None and not (equal and old == entry)]
            if lost:
                raise PathExists(lost)
        for entry in made:
            self._set(entry.path, entry)

    def _describe(self, edit: Describe) -> None:
        before = self._find(edit.path)
        if before is None:
            raise NotFound(f"There is no path {edit.path!r} to describe.", hint="noria data ls NAME   lists the paths.")
        meta = {**before.meta, **edit.meta}
        self._set(edit.path, replace(before, meta={k: v for k, v in meta.items() if v is not None}))

    def _paths(self, pattern: str) -> list[str]:
        """What a deletion means: a path, all below a folder, or all that fits a pattern."""
        if self._find(pattern) is not None:  # a file may be called img[1].jpg
            return [pattern]
        if is_pattern(pattern):
            found = [entry.path for entry in self._below("") if fnmatchcase(entry.path, pattern)]
        else:
            found = [entry.path for entry in self._below(pattern.rstrip("/") + "/")]
        if not found:
            raise NotFound(f"There is no path {pattern!r}.", hint="noria data ls NAME   lists the paths.")
        return found

    def _find(self, path: str) -> Entry | None:
        if path in self._changes:
            return self._changes[path]
        return None if self._root is None else tree.find(self._store, self._root, path)

    def _below(self, prefix: str) -> list[Entry]:
        found = {} if self._root is None else {e.path: e for e in tree.walk(self._store, self._root, prefix)}
        for path, entry in self._changes.items():
            if not path.startswith(prefix):
                continue
            if entry is None:
                found.pop(path, None)
            else:
                found[path] = entry
        return list(found.values())

    def _set(self, path: str, entry: Entry | None, *, blind: bool = True) -> None:
        self._changes[path] = entry
        if blind:
            self.blind.add(path)


def _clashes(changes: dict[str, Entry | None]) -> list[str]:
    """Paths that are a file and a folder at once."""
    there = {path for path, entry in changes.items() if entry is not None}
    return sorted(
        path for path in there if any("/".join(path.split("/")[:n]) in there for n in range(1, path.count("/") + 1))
    )


def _bytes(source: bytes | str) -> bytes:
    return source.encode() if isinstance(source, str) else source


def _read(source: Source) -> bytes:
    if isinstance(source, bytes | str):
        return _bytes(source)
    return source.read_bytes() if isinstance(source, Path) else source.read()
