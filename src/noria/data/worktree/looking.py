"""Looking at a folder: what may have changed since it was last looked at is read, and nothing else."""

from __future__ import annotations

import stat
import time
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path

from noria.base.digest import Digest
from noria.base.names import check_path
from noria.data import statcache
from noria.data.ignoring import Ignored
from noria.data.statcache import Place, StatCache
from noria.data.worktree.changes import Changes, changes_of
from noria.data.worktree.view import View
from noria.store import EntryKind, ObjectStore, Writer, folders, reading, tree
from noria.store.reading import Reader
from noria.store.tree import Row

Advance = Callable[..., None] | None


class Look:
    """One look at a whole folder.

    Attributes:
        rows: of whatever may have changed since the cache was written.
        gone: the paths that went away.
        view: what the folder looks like now.
        state: of the store that the contents went to (``Writer.state``).
        looked_ns: when it began.
        collisions: paths that some file systems cannot hold beside each other, in groups.
    """

    def __init__(
        self, folder: Path, cache: StatCache, writer: Writer, advance: Advance, ignored: Ignored | None
    ) -> None:
        self._folder = folder
        self._cache = cache
        self.rows: list[Row] = []
        self.gone: set[bytes] = set()
        self.view = View({})
        self.state, self.looked_ns = writer.state, time.time_ns()
        self.collisions: list[tuple[str, ...]] = []
        self._run(writer, advance, ignored)

    @property
    def keys(self) -> set[bytes]:
        """Every path that it has something to say of."""
        return {row[0] for row in self.rows} | self.gone

    def _run(self, writer: Writer, advance: Advance, ignored: Ignored | None) -> None:

        cache, reader, places, gone = (
            self._cache,
            Reader(writer, str(self._folder), advance),
            self.view.places,
            self.gone,
        )
        old = cache.places
        empty: list[str] = []
        pending = [""]
        while pending:
            prefix = pending.pop()
            known = old.get(prefix)
            listed = folders.list_folder(f"{self._folder}/{prefix}", prefix, stats=known is not None)
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
                    places[prefix] = known
                    if advance is not None and names:
                        advance(len(names))
                    continue
                fresh = self._changed_place(reader, prefix, known, fresh, odd)
            if is_empty and not (known is not None and known.empty):
                empty.append(prefix)
            places[prefix] = fresh
        for prefix in old.keys() - places.keys():
            _forget(prefix, old[prefix], gone)
        self.rows = reader.finish() + [_folder_row(prefix) for prefix in empty]

    def _changed_place(self, reader: Reader, prefix: str, known: Place, fresh: Place, odd: set[str]) -> Place:
        cache, gone, before, now = self._cache, self.gone, known.files(), fresh.files()
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

    def _note_collisions(self, prefix: str, names: list[str]) -> None:
        joined = "\0".join(names)
        if joined.isascii() and len(set(joined.lower().split("\0"))) == len(names):
            return
        groups: dict[str, list[str]] = {}
        for name in names:
            groups.setdefault(unicodedata.normalize("NFC", name).casefold(), []).append(prefix + name)
        self.collisions += [tuple(sorted(group)) for group in groups.values() if len(group) > 1]


def look_at(
    folder: Path,
    store: ObjectStore,
    writer: Writer,
    head: Digest | None,
    paths: Iterable[str],
    advance: Advance,
) -> tuple[Changes, dict[bytes, Row]]:
    """What differs from ``head`` at some paths: (changes, the rows of ``head`` there)."""
    reader = Reader(writer, str(folder), advance)
    ignored = Ignored.of(folder, store, head)
    before: dict[bytes, Row] = {}
    rows: list[Row] = []
    for path in paths:
        clean = path.rstrip("/")
        key = tree.key_of(check_path(clean))
        if head is not None:
            before.update(tree.find_rows(store, head, [key]))
            before.update((row[0], row) for row in tree.walk_rows(store, head, key + b"/"))
        found = reading.read_path(writer, folder, clean)
        if found is not None and stat.S_ISDIR(found[1].st_mode):
            rows += _read_below(folder, reader, clean + "/", ignored)
        elif found is not None:
            rows.append(found[0])
    rows += reader.finish()
    return changes_of(before, rows, before.keys() - {row[0] for row in rows}), before


def _read_below(folder: Path, reader: Reader, top: str, ignored: Ignored | None) -> list[Row]:
    pending, empty = [top], list[Row]()
    while pending:
        prefix = pending.pop()
        listed = folders.list_folder(f"{folder}/{prefix}", prefix, stats=False)
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


def _forget(prefix: str, known: Place, gone: set[bytes]) -> None:
    start = tree.key_of(prefix)
    gone.update(start + tree.key_of(name) for name in known.files())
    if known.empty:
        gone.add(start[:-1])


def _folder_row(prefix: str) -> Row:
    return [tree.key_of(prefix[:-1]), int(EntryKind.FOLDER), 0, 0, 0, None, {}]
