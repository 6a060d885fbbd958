"""A folder beside a repository: what changed in it since it was last looked at, and how to change it.

What the folder looked like is in a cache (``statcache``) beside the tree that it was equal to then; files whose size,
times and inode are as they were are not read. A file that was changed shortly before it was looked at is read again: it
may have changed once more without a new time (git's racy rule).
"""

from __future__ import annotations

import fnmatch
import os
import re
import stat
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

from noria.base.digest import Digest
from noria.base.errors import Invalid
from noria.base.names import check_path
from noria.data import statcache
from noria.data.ignoring import Ignored
from noria.data.statcache import NEVER, Place, StatCache
from noria.store import EntryKind, ObjectStore, Writer, files, folders, reading, tree, writing
from noria.store.errors import ObjectCorrupt, ObjectMissing
from noria.store.packs import object_id
from noria.store.reading import Reader
from noria.store.records import Kind
from noria.store.tree import Row
from noria.store.writing import is_ours

Changes = dict[bytes, Row | None]
Advance = Callable[..., None] | None
_ASK: Final = 10_000


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
        name = object_id(Kind.BLOB, f"{repository_id}:{self.folder}".encode()).hex[:24]
        self._path = home / "cache" / "stat" / name
        self._mark = home / "parts" / name  # there, and no cache, where the folder holds only a part of its tree
        self._trust = trust
        self._loaded: StatCache | None = None
        self._fresh: dict[str, Place] | None = None
        self._part = False
        self._state, self._looked = "", 0
        self.collisions: list[tuple[str, ...]] = []

    @property
    def synced(self) -> Digest | None:
        """The tree that the folder was last made equal to, or committed as; None where it is new."""
        if self._loaded is None and self._trust:
            root = StatCache.root_of(self._path)
        else:
            root = self._cache.root
        return Digest(bytes.fromhex(root)) if root else None

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
            changes, _ = self._look_at(store, writer, head, paths, advance)
            return _changed(store, writer, head, changes)
        base = self._base(store)
        if base is not None and self._cache.state != writer.state and not _is_whole(store, writer, base):
            # No commit names this tree any more: the collector is about to take it.
            self._loaded, base = StatCache(), None
        rows, gone = self._look(writer, advance, Ignored.of(self.folder, store, base or head))
        if base is None and self._part and head is not None:  # only a part of a tree that is lost was checked out
            return _changed(store, writer, head, _changes(tree.find_rows(store, head, _keys(rows, gone)), rows, gone))
        if base is None:
            _keep_meta(rows, _metas(store, head))
            return tree.build_rows(writer, sorted(rows, key=itemgetter(0)))
        rows += self._store_lost(store, writer, base, {row[0] for row in rows}, gone)
        return _changed(store, writer, base, _changes(tree.find_rows(store, base, _keys(rows, gone)), rows, gone))

    def compare(
        self, store: ObjectStore, writer: Writer, head: Digest | None, *, paths: Iterable[str] | None = None
    ) -> list[tree.Change]:
        """How the folder differs from a tree; with ``paths``, at these paths only."""
        if paths is not None:
            changes, before = self._look_at(store, writer, head, paths, None)
            return _pairs(changes, before)
        base = self._base(store)
        rows, gone = self._look(writer, None, Ignored.of(self.folder, store, base or head))
        if base is None:
            before = {} if head is None else {row[0]: row for row in tree.walk_rows(store, head)}
            missing = set[bytes]() if self._part else before.keys() - {row[0] for row in rows}
            return _pairs(_changes(before, rows, missing), before)
        before = tree.find_rows(store, base, _keys(rows, gone))
        changes = _changes(before, rows, gone)
        self._remember(before, changes, again=len(rows) + len(gone) > len(changes))
        if head == base:
            return _pairs(changes, before)
        old, new = (
            ({}, {row[0]: row for row in tree.walk_rows(store, base)})
            if head is None
            else (tree.diff_rows(store, head, base))
        )
        moved: Changes = {key: new.get(key) for key in old.keys() | new.keys()}
        was = {key: row for key, row in before.items() if key not in moved} | old
        return _pairs(moved | changes, was)

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
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Invalid(
                f"{self.folder} cannot be made: {os.strerror(error.errno or 0)}.",
                hint="Give a folder that is empty or new.",
                details={"path": str(self.folder)},
            ) from error
        base = self._base(store)
        if base is None and pattern is not None and not force and not self._part and _holds_something(self.folder):
            raise Invalid(
                f"{self.folder} holds files and was not checked out before; a part of a commit goes into a folder "
                "that is empty or new.",
                hint="Give another folder, or write beside what is there, and over it, with --force.",
                details={"path": str(self.folder)},
            )
        ignored = Ignored.of(self.folder, store, base, target)  # what is about to be written is not left out
        with store.hasher() as scratch:
            rows, gone = self._look(scratch, None, ignored)
        if base is not None and not any(found.names for found in (self._fresh or {}).values()):
            base, rows, gone, self._fresh = None, [], set(), {}  # nothing is left of it: there is nothing to lose
        before = {} if base is None else tree.find_rows(store, base, _keys(rows, gone))
        changes = _changes(before, rows, gone)
        fits = _fitting(pattern)
        wanted = self._wanted(store, base, target, changes, fits)
        # What neither tree knows stays where it is, but for folders that lost all that the old tree had in them.
        unknown = {key for key in wanted if key in changes and key not in before}
        emptied = {key for key in unknown if base is not None and _was_folder(store, base, key, changes[key])}
        new = {key for key in unknown - emptied if wanted[key] is None}
        lost = [key for key in wanted if key in changes and changes[key] != wanted[key] and key not in emptied]
        if lost and not force:
            self._refuse(base, lost)
        todo = {key: row for key, row in wanted.items() if key not in new and changes.get(key, ()) != row}
        put = [row for _, row in sorted(todo.items()) if row is not None]
        removed = [_text(key) for key, row in todo.items() if row is None]
        self._refuse_full_folders(put, set(removed), ignored)
        store.expect(content for row in put if (content := tree.entry_of(row).content) is not None)
        everything = (_text(row[0]) for row in tree.walk_rows(store, target))
        written = writing.write_rows(
            store, self.folder, put, removed, advance, everything=everything, seen=self._seen()
        )
        if base is None or base == target or pattern is None:
            self._settle(written, removed)
            self._look_again({key: row for key, row in changes.items() if key not in wanted or key in new}, before)
            root, part = target, pattern is not None
        else:  # neither the one tree nor the other: what was touched counts as changed since ``base``
            touched: Changes = changes | wanted
            self._look_again(touched, tree.find_rows(store, base, touched))
            root, part = base, self._part
        store.faults.at("checkout.cache")
        self._write(root.hex, "", self._fresh or {}, looked=time.time_ns(), part=part)
        return len(todo)

    def _wanted(
        self,
        store: ObjectStore,
        base: Digest | None,
        target: Digest,
        changes: Changes,
        fits: Callable[[bytes], object],
    ) -> Changes:
        """The rows that paths shall have, None where they shall not be: all that may not be as the target has them."""
        fresh = self._fresh or {}
        if base is None:
            wanted: Changes = {row[0]: row for row in tree.walk_rows(store, target) if fits(row[0])}
        else:
            old, new = tree.diff_rows(store, base, target)
            wanted = {key: new.get(key) for key in old.keys() | new.keys() if fits(key)}
            if self._part:  # of what both have, something may never have been checked out
                there = {p + n for p, found in fresh.items() for n in found.files()} | {p[:-1] for p in fresh}
                for row in tree.walk_rows(store, target):
                    if row[0] not in wanted and fits(row[0]) and _text(row[0]) not in there:
                        wanted[row[0]] = row
        others = [key for key in changes if key not in wanted and fits(key)]
        known = tree.find_rows(store, target, others)
        return wanted | {key: known.get(key) for key in others}

    def _refuse(self, base: Digest | None, lost: list[bytes]) -> None:
        paths = [_text(key) for key in sorted(lost)]
        if base is None:
            raise Invalid(
                f"{self.folder} holds files and was not checked out before, among them {paths[0]}.",
                hint="Give a folder that is empty or new, or overwrite them with --force.",
                details={"paths": paths[:20]},
            )
        raise Invalid(
            f"{self.folder} holds {len(paths)} changes never committed, among them {paths[0]}.",
            hint="Commit them, check out into another folder, or overwrite them with --force.",
            details={"paths": paths[:20]},
        )

    def _refuse_full_folders(self, put: list[Row], removed: set[str], ignored: Ignored | None) -> None:
        """A file cannot take the place of a folder in which something stays."""
        fresh = self._fresh or {}
        left = {} if ignored is None else {path.rpartition("/")[0] + "/": [path] for path in ignored.left}
        tops = {_text(row[0]) + "/" for row in put if row[1] != EntryKind.FOLDER}.intersection(fresh.keys() | left)
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
                    f"{self.folder / top} has to become a file, and holds {stays[0]}, which stays.",
                    hint="Move it away, then repeat the command.",
                    details={"path": top[:-1], "paths": stays[:20]},
                )

    def _seen(self) -> writing.Seen:
        """What the look saw of a path."""
        fresh = self._fresh or {}
        last: tuple[str, dict[str, tuple[int, ...]]] = ("/", {})

        def seen(path: str) -> tuple[int, ...] | None:
            nonlocal last
            prefix, slash, name = path.rpartition("/")
            if last[0] != prefix + slash:
                found = fresh.get(prefix + slash)
                last = (prefix + slash, {} if found is None else found.files())
            return last[1].get(name)

        return seen

    def _settle(self, written: writing.Written, removed: list[str]) -> None:
        """Brings what is remembered of the folder up to what was written."""
        assert self._fresh is not None
        todo: dict[str, dict[str, tuple[int, ...] | None]] = {}
        for path in removed:
            prefix, slash, name = path.rpartition("/")
            todo.setdefault(prefix + slash, {})[name] = None
            self._fresh.pop(path + "/", None)
        for prefix, (names, numbers) in written.files.items():
            for name in names:  # where a folder was
                self._fresh.pop(f"{prefix}{name}/", None)
            if prefix in self._fresh or prefix in todo:
                stats = zip(numbers[::4], numbers[1::4], numbers[2::4], numbers[3::4], strict=True)
                todo.setdefault(prefix, {}).update(zip(names, stats, strict=True))
            else:
                self._fresh[prefix] = statcache.place(names, numbers, empty=False)
        for prefix, names in todo.items():
            self._edit(prefix, names)
        for prefix in written.empty:
            self._fresh[prefix] = Place(b"", b"", True)

    def save(self, root: Digest) -> None:
        """Remembers what was seen. A lost cache costs time only."""
        if self._fresh is not None:
            self._write(root.hex, self._state, self._fresh, part=self._part)

    # ---- looking

    @property
    def _cache(self) -> StatCache:
        if self._loaded is None:
            self._loaded = StatCache.load(self._path)
            self._part = self._mark.exists()
            if not self._trust:
                self._loaded = StatCache()
        return self._loaded

    def _base(self, store: ObjectStore) -> Digest | None:
        """The tree that the cache speaks of, as long as the store can read it."""
        if not self._cache.root:
            return None
        root = Digest(bytes.fromhex(self._cache.root))
        try:
            tree.totals(store, root)
        except (ObjectMissing, ObjectCorrupt):
            self._loaded = StatCache()
            return None
        return root

    def _look(self, writer: Writer, advance: Advance, ignored: Ignored | None) -> tuple[list[Row], set[bytes]]:
        """The rows of whatever may have changed since the cache was written, and the paths that went away."""
        cache, reader = self._cache, Reader(writer, str(self.folder), advance)
        old, self._fresh, self._state, self._looked = cache.places, {}, writer.state, time.time_ns()
        gone: set[bytes] = set()
        empty: list[str] = []
        pending = [""]
        while pending:
            prefix = pending.pop()
            known = old.get(prefix)
            listed = folders.list_folder(f"{self.folder}/{prefix}", prefix, stats=known is not None)
            if listed is not None and ignored is not None:
                listed = ignored.sift(prefix, listed)
            if listed is None:
                continue  # it went away meanwhile, or nothing in it counts
            names, below, odd, stats = listed
            pending += [f"{prefix}{name}/" for name in below]
            self._note_collisions(prefix, names + below)
            is_empty = bool(prefix) and not names and not below
            if known is None:
                names, stats = reader.read(prefix, names, odd)
                fresh = statcache.place(names, stats, empty=is_empty)
            else:
                fresh = statcache.place(names, stats, empty=is_empty)
                if fresh == known and not cache.racy(known):
                    self._fresh[prefix] = known
                    if advance is not None and names:
                        advance(len(names))
                    continue
                fresh = self._changed_place(reader, prefix, known, fresh, odd, gone)
            if is_empty and not (known is not None and known.empty):
                empty.append(prefix)
            self._fresh[prefix] = fresh
        for prefix in old.keys() - self._fresh.keys():
            _forget(prefix, old[prefix], gone)
        return reader.finish() + [_folder_row(prefix) for prefix in empty], gone

    def _changed_place(
        self, reader: Reader, prefix: str, known: Place, fresh: Place, odd: set[str], gone: set[bytes]
    ) -> Place:
        cache, before, now = self._cache, known.files(), fresh.files()
        unsure = [name for name, seen in now.items() if before.get(name) != seen or not cache.sure(seen)]
        start = tree.key_of(prefix)
        gone.update(start + tree.key_of(name) for name in before.keys() - now.keys())
        if known.empty and not fresh.empty:
            gone.add(start[:-1])
        if not unsure:
            return fresh
        kept, numbers = reader.read(prefix, unsure, odd)
        for number, name in enumerate(kept):
            now[name] = tuple(numbers[4 * number : 4 * number + 4])
        for name in set(unsure) - set(kept):
            del now[name]
            if name in before:
                gone.add(start + tree.key_of(name))
        return statcache.place(now, (number for seen in now.values() for number in seen), empty=fresh.empty)

    def _look_at(
        self, store: ObjectStore, writer: Writer, head: Digest | None, paths: Iterable[str], advance: Advance
    ) -> tuple[Changes, dict[bytes, Row]]:
        """What differs from ``head`` at some paths: (changes, the rows of ``head`` there)."""
        reader = Reader(writer, str(self.folder), advance)
        ignored = Ignored.of(self.folder, store, head)
        before: dict[bytes, Row] = {}
        rows: list[Row] = []
        for path in paths:
            clean = path.rstrip("/")
            key = tree.key_of(check_path(clean))
            if head is not None:
                before.update(tree.find_rows(store, head, [key]))
                before.update((row[0], row) for row in tree.walk_rows(store, head, key + b"/"))
            found = reading.read_path(writer, self.folder, clean)
            if found is not None and stat.S_ISDIR(found[1].st_mode):
                rows += self._read_below(reader, clean + "/", ignored)
            elif found is not None:
                rows.append(found[0])
        rows += reader.finish()
        return _changes(before, rows, before.keys() - {row[0] for row in rows}), before

    def _read_below(self, reader: Reader, top: str, ignored: Ignored | None) -> list[Row]:
        pending, empty = [top], list[Row]()
        while pending:
            prefix = pending.pop()
            listed = folders.list_folder(f"{self.folder}/{prefix}", prefix, stats=False)
            if listed is not None and ignored is not None:
                listed = ignored.sift(prefix, listed)
            if listed is None:
                continue
            names, below, odd, _ = listed
            pending += [f"{prefix}{name}/" for name in below]
            if names:
                reader.read(prefix, names, odd)
            elif not below:
                empty.append(_folder_row(prefix))
        return empty

    def _store_lost(
        self, store: ObjectStore, writer: Writer, base: Digest, read: set[bytes], gone: set[bytes]
    ) -> list[Row]:
        """Stores unchanged files again whose bytes the store may not have any more; the rows of what was read."""
        if self._cache.state == self._state:
            return []
        rows = [row for row in tree.walk_rows(store, base) if row[4] and row[0] not in read and row[0] not in gone]
        found = (reading.read_path(writer, self.folder, _text(row[0])) for row in _lost(store, writer, rows))
        return [seen[0] for seen in found if seen is not None]

    def _note_collisions(self, prefix: str, names: list[str]) -> None:
        joined = "\0".join(names)
        if joined.isascii() and len(set(joined.lower().split("\0"))) == len(names):
            return
        groups: dict[str, list[str]] = {}
        for name in names:
            groups.setdefault(unicodedata.normalize("NFC", name).casefold(), []).append(prefix + name)
        self.collisions += [tuple(sorted(group)) for group in groups.values() if len(group) > 1]

    # ---- remembering

    def _remember(self, before: Mapping[bytes, Row], changes: Changes, *, again: bool) -> None:
        """Spares the next look what this one read in vain. Paths that did change are to be looked at again."""
        fresh, cache = self._fresh, self._cache
        if fresh is None or not again:
            return
        self._look_again(changes, before)
        self._write(cache.root, cache.state, fresh, part=self._part)

    def _look_again(self, changes: Changes, before: Mapping[bytes, Row]) -> None:
        """Makes the next look see these paths as they are: other than in the tree that is remembered."""
        assert self._fresh is not None
        todo: dict[str, dict[str, tuple[int, ...] | None]] = {}
        for key, row in changes.items():
            path = _text(key)
            if row is not None and row[1] == EntryKind.FOLDER:
                self._fresh.pop(path + "/", None)
            elif row is None and key in before and before[key][1] == EntryKind.FOLDER:
                found = self._fresh.get(path + "/") or Place(b"", b"", True)
                self._fresh[path + "/"] = found._replace(empty=True)
            else:
                prefix, slash, name = path.rpartition("/")
                todo.setdefault(prefix + slash, {})[name] = NEVER
        for prefix, names in todo.items():
            self._edit(prefix, names)

    def _write(self, root: str, state: str, places: dict[str, Place], *, looked: int = 0, part: bool = False) -> None:
        if part:
            self._mark.parent.mkdir(parents=True, exist_ok=True)
            self._mark.touch()
        elif self._part:
            self._mark.unlink(missing_ok=True)
        cache = StatCache(root=root, looked_ns=looked or self._looked, state=state, places=places)
        cache.save(self._path)

    def _edit(self, prefix: str, names: Mapping[str, tuple[int, ...] | None]) -> None:
        assert self._fresh is not None
        found = self._fresh.get(prefix)
        seen = {} if found is None else found.files()
        for name, stats in names.items():
            if stats is None:
                seen.pop(name, None)
            else:
                seen[name] = stats
        self._fresh[prefix] = statcache.place(
            seen, (number for stats in seen.values() for number in stats), empty=False
        )


def _holds_something(folder: Path) -> bool:
    with os.scandir(folder) as found:
        return any(not is_ours(item.name) for item in found)


def _folders_of(prefix: str) -> Iterator[str]:
    """A folder (with a slash at its end) and those above it, without slashes, the highest first."""
    at = prefix.find("/")
    while at >= 0:
        yield prefix[:at]
        at = prefix.find("/", at + 1)


def _is_whole(store: ObjectStore, writer: Writer, root: Digest) -> bool:
    """Whether all nodes and ranges of a tree are there to stay."""
    try:
        return not writer.missing(tree.structure(store, root))
    except (ObjectMissing, ObjectCorrupt):
        return False


def _lost(store: ObjectStore, writer: Writer, rows: list[Row]) -> list[Row]:
    """The rows of files of which the store lacks something.

    A recipe that is there says nothing of its chunks: a collection may have taken them, and kept the pack that holds
    the recipe for the sake of something else.
    """
    missing = writer.missing([row[5] for row in rows])
    lost = [row for row in rows if row[5] in missing]
    asked: list[tuple[Row, list[bytes]]] = []
    count = 0
    for row in rows:
        if row[4] != Kind.RECIPE or row[5] in missing:
            continue
        try:
            below = [oid for _, oid, _ in files.recipe_objects(store, Digest(row[5]))]
        except (ObjectMissing, ObjectCorrupt):
            lost.append(row)
            continue
        asked.append((row, below))
        count += len(below)
        if count >= _ASK:
            lost += _without(writer, asked)
            asked, count = [], 0
    return lost + _without(writer, asked)


def _without(writer: Writer, asked: list[tuple[Row, list[bytes]]]) -> list[Row]:
    missing = writer.missing(list({oid for _, below in asked for oid in below}))
    return [row for row, below in asked if not missing.isdisjoint(below)] if missing else []


def _keys(rows: list[Row], gone: set[bytes]) -> set[bytes]:
    return {row[0] for row in rows} | gone


def _changes(before: Mapping[bytes, Row], rows: list[Row], gone: Iterable[bytes]) -> Changes:
    """What of ``rows`` and ``gone`` differs from how it was. Metadata that users gave a path stay with it."""
    changes: Changes = {}
    for row in rows:
        old = before.get(row[0])
        if old is not None and old[6]:
            row[6] = old[6]
        if old != row:
            changes[row[0]] = row
    for key in gone:
        if key in before and key not in changes:
            changes[key] = None
    return changes


def _changed(store: ObjectStore, writer: Writer, base: Digest | None, changes: Changes) -> Digest:
    if base is not None:
        return tree.apply_rows(store, writer, base, changes)
    return tree.build_rows(writer, [row for _, row in sorted(changes.items()) if row is not None])


def _pairs(changes: Changes, before: Mapping[bytes, Row]) -> list[tree.Change]:
    found: list[tree.Change] = []
    for key in sorted(changes):
        old, new = before.get(key), changes[key]
        if old != new:
            ends = (None if row is None else tree.entry_of(row) for row in (old, new))
            found.append(tree.Change(_text(key), *ends))
    return found


def _metas(store: ObjectStore, head: Digest | None) -> dict[bytes, Any]:
    try:
        return {} if head is None else {row[0]: row[6] for row in tree.walk_rows(store, head) if row[6]}
    except (ObjectMissing, ObjectCorrupt):
        return {}  # this commit is about to mend it


def _keep_meta(rows: list[Row], metas: dict[bytes, Any]) -> None:
    for row in rows if metas else ():
        row[6] = metas.get(row[0], row[6])


def _forget(prefix: str, known: Place, gone: set[bytes]) -> None:
    start = tree.key_of(prefix)
    gone.update(start + tree.key_of(name) for name in known.files())
    if known.empty:
        gone.add(start[:-1])


def _folder_row(prefix: str) -> Row:
    return [tree.key_of(prefix[:-1]), int(EntryKind.FOLDER), 0, 0, 0, None, {}]


def _text(key: bytes) -> str:
    return key.decode("utf-8", "surrogateescape")


def _was_folder(store: ObjectStore, base: Digest, key: bytes, row: Row | None) -> bool:
    is_folder = row is not None and row[1] == EntryKind.FOLDER
    return is_folder and next(tree.walk_rows(store, base, key + b"/"), None) is not None


def _fitting(pattern: str | None) -> Callable[[bytes], object]:
    if pattern is None:
        return lambda key: True
    fits = re.compile(fnmatch.translate(pattern)).match
    return lambda key: fits(_text(key))
