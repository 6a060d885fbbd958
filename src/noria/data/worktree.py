"""A folder beside a repository: what changed in it since it was last looked at, and how to change it.

What the folder looked like is in a cache (``statcache``) beside the tree that it was equal to then; files whose size,
times and inode are as they were are not read. A file that was changed shortly before it was looked at is read again: it
may have changed once more without a new time (git's racy rule).
"""

from __future__ import annotations

import stat
import time
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any

from noria.base.digest import Digest
from noria.base.errors import Invalid
from noria.base.names import check_path
from noria.data import statcache
from noria.data.statcache import NEVER, Place, StatCache
from noria.store import EntryKind, ObjectStore, Writer, folders, reading, tree
from noria.store.errors import ObjectCorrupt, ObjectMissing
from noria.store.packs import object_id
from noria.store.reading import Reader
from noria.store.records import Kind
from noria.store.tree import Row

Changes = dict[bytes, Row | None]
Advance = Callable[..., None] | None


class Worktree:
    """One folder for one repository. Not thread-safe.

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
        self._trust = trust
        self._loaded: StatCache | None = None
        self._fresh: dict[str, Place] | None = None
        self._state, self._looked = "", 0
        self.collisions: list[tuple[str, ...]] = []

    @property
    def synced(self) -> Digest | None:
        """The tree that the folder was last made equal to, or committed as; None where it is new."""
        return Digest(bytes.fromhex(self._cache.root)) if self._cache.root else None

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
        if base is not None and self._cache.state != writer.state and writer.missing(tree.structure(store, base)):
            self._loaded, base = (
                StatCache(),
                None,
            )  # nobody commits this tree any more: the collector is about to take it
        rows, gone = self._look(writer, advance)
        if base is None:
            _keep_meta(rows, _metas(store, head))
            return tree.build_rows(writer, sorted(rows, key=itemgetter(0)))
        self._store_lost(store, writer, base, {row[0] for row in rows}, gone)
        return _changed(store, writer, base, _changes(tree.find_rows(store, base, _keys(rows, gone)), rows, gone))

    def compare(
        self, store: ObjectStore, writer: Writer, head: Digest | None, *, paths: Iterable[str] | None = None
    ) -> list[tree.Change]:
        """How the folder differs from a tree; with ``paths``, at these paths only."""
        if paths is not None:
            changes, before = self._look_at(store, writer, head, paths, None)
            return _pairs(changes, before)
        base = self._base(store)
        rows, gone = self._look(writer, None)
        if base is None:
            before = {} if head is None else {row[0]: row for row in tree.walk_rows(store, head)}
            return _pairs(_changes(before, rows, before.keys() - {row[0] for row in rows}), before)
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

    def checkout(self, store: ObjectStore, target: Digest, advance: Advance) -> int:
        """Makes the folder equal to a tree, touching only what differs."""
        self.folder.mkdir(parents=True, exist_ok=True)
        base = self._base(store)
        with store.writer() as scratch:  # hashed, never flushed
            rows, gone = self._look(scratch, None)
        if base is None and rows:
            raise Invalid(
                f"{self.folder} holds files and was not checked out before.", hint="Give a folder that is empty or new."
            )
        before = {} if base is None else tree.find_rows(store, base, _keys(rows, gone))
        changes = _changes(before, rows, gone)
        if changes:
            paths = [_text(key) for key in sorted(changes)]
            raise Invalid(
                f"{self.folder} holds {len(changes)} changes never committed, among them {paths[0]}.",
                hint="Commit them, or check out into another folder.",
                details={"paths": paths[:20]},
            )
        if base is None:
            found = [tree.Change(e.path, None, e) for e in tree.walk(store, target)]
        else:
            found = tree.diff(store, base, target)
        store.expect(c.after.content for c in found if c.after is not None and c.after.content is not None)
        for change in found:
            if change.after is None:
                self._remove(change.path)
        folders.write_entries(store, _counted((c.after for c in found if c.after is not None), advance), self.folder)
        self._touched(found)
        self._state, self._looked = "", time.time_ns()
        self.save(target)
        return len(found)

    def save(self, root: Digest) -> None:
        """Remembers what was seen. A lost cache costs time only."""
        if self._fresh is not None:
            self._write(root.hex, self._state, self._fresh)

    # ---- looking

    @property
    def _cache(self) -> StatCache:
        if self._loaded is None:
            self._loaded = StatCache.load(self._path) if self._trust else StatCache()
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

    def _look(self, writer: Writer, advance: Advance) -> tuple[list[Row], set[bytes]]:
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
            if listed is None:
                continue  # it went away meanwhile
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
                rows += self._read_below(reader, clean + "/")
            elif found is not None:
                rows.append(found[0])
        rows += reader.finish()
        return _changes(before, rows, before.keys() - {row[0] for row in rows}), before

    def _read_below(self, reader: Reader, top: str) -> list[Row]:
        pending, empty = [top], list[Row]()
        while pending:
            prefix = pending.pop()
            listed = folders.list_folder(f"{self.folder}/{prefix}", prefix, stats=False)
            if listed is None:
                continue
            names, below, odd, _ = listed
            pending += [f"{prefix}{name}/" for name in below]
            if names:
                reader.read(prefix, names, odd)
            elif not below:
                empty.append(_folder_row(prefix))
        return empty

    def _store_lost(self, store: ObjectStore, writer: Writer, base: Digest, read: set[bytes], gone: set[bytes]) -> None:
        """Stores unchanged files again whose bytes the store may not have any more."""
        if self._cache.state == self._state:
            return
        rows = [row for row in tree.walk_rows(store, base) if row[4] and row[0] not in read and row[0] not in gone]
        missing = writer.missing([row[5] for row in rows])
        for row in rows if missing else ():
            if row[5] in missing:
                reading.read_path(writer, self.folder, _text(row[0]))

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
        todo: dict[str, dict[str, tuple[int, ...]]] = {}
        for key, row in changes.items():
            path = _text(key)
            if row is not None and row[1] == EntryKind.FOLDER:
                fresh.pop(path + "/", None)
            elif row is None and before[key][1] == EntryKind.FOLDER:
                found = fresh.get(path + "/") or Place(b"", b"", True)
                fresh[path + "/"] = found._replace(empty=True)
            else:
                prefix, slash, name = path.rpartition("/")
                todo.setdefault(prefix + slash, {})[name] = NEVER
        for prefix, names in todo.items():
            self._edit(prefix, names)
        self._write(cache.root, cache.state, fresh)

    def _write(self, root: str, state: str, places: dict[str, Place]) -> None:
        StatCache(root=root, looked_ns=self._looked, state=state, places=places).save(self._path)

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

    def _touched(self, found: list[tree.Change]) -> None:
        assert self._fresh is not None
        todo: dict[str, dict[str, tuple[int, ...] | None]] = {}
        for change in found:
            prefix, slash, name = change.path.rpartition("/")
            if change.after is not None and change.after.kind == EntryKind.FOLDER:
                self._fresh[change.path + "/"] = Place(b"", b"", True)
            elif change.before is not None and change.before.kind == EntryKind.FOLDER and change.after is None:
                self._fresh.pop(change.path + "/", None)
            elif change.after is None:
                todo.setdefault(prefix + slash, {})[name] = None
            else:
                now = (self.folder / change.path).lstat()
                stats = (now.st_size, now.st_mtime_ns, now.st_ctime_ns, now.st_ino)
                todo.setdefault(prefix + slash, {})[name] = stats
        for prefix, names in todo.items():
            self._edit(prefix, names)

    def _remove(self, path: str) -> None:
        place = self.folder / path
        if place.is_dir() and not place.is_symlink():
            place.rmdir()
            return
        place.unlink(missing_ok=True)
        for parent in place.relative_to(self.folder).parents:
            try:
                (self.folder / parent).rmdir()
            except OSError:
                return  # not empty: something else lives there


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


def _counted(entries: Any, advance: Advance) -> Any:
    for entry in entries:
        yield entry
        if advance is not None:
            advance(1)
