"""A folder beside a repository: what changed in it since it was last looked at, and how to change it.

A cache of (size, times, inode) for each path saves reading files that did not change. A file whose time is within
two seconds of the cache's own writing is read again: it may have changed without a new time (git's racy rule).
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from noria.base.digest import Digest
from noria.base.errors import Invalid
from noria.store import Entry, EntryKind, ObjectStore, Writer, folders, tree
from noria.store.packs import object_id
from noria.store.records import FileContent, Kind

_RACY_NS: Final = 2_000_000_000
_MAGIC: Final = 1


class Seen(msgspec.Struct, array_like=True, gc=False):
    """What the cache holds of one path."""

    size: int
    mtime: int
    ctime: int
    inode: int
    kind: int
    executable: bool
    content_kind: int
    content: bytes
    text: bytes


class Cache(msgspec.Struct):
    magic: int
    root: str
    written_ns: int
    paths: dict[str, Seen]


class Worktree:
    """One folder for one repository. Not thread-safe.

    Args:
        trust: believe the cache. Without it every file is read.
    """

    def __init__(self, home: Path, repository_id: int, folder: Path, *, trust: bool = True) -> None:
        self.folder = folder.resolve()
        name = object_id(Kind.BLOB, f"{repository_id}:{self.folder}".encode()).hex[:24]
        self._path = home / "cache" / "stat" / name
        self._cache = self._load() if trust else Cache(_MAGIC, "", 0, {})
        self._fresh: dict[str, Seen] = {}

    def store(
        self, store: ObjectStore, writer: Writer, head: Digest | None, advance: Callable[..., None] | None
    ) -> Digest:
        """Puts the folder into the store and returns its tree; unchanged files are not read."""
        changes = self._look(writer, advance)
        if head is not None and head.hex == self._cache.root:
            return tree.apply(store, writer, head, changes)
        entries = self._entries(changes)
        return tree.build(writer, (entries[p] for p in sorted(entries, key=tree.key_of)))

    def compare(self, store: ObjectStore, writer: Writer, head: Digest | None) -> list[tree.Change]:
        """How the folder differs from a tree."""
        changes = self._look(writer, None)
        if head is not None and head.hex == self._cache.root:
            pairs = {path: (tree.find(store, head, path), entry) for path, entry in changes.items()}
        else:
            entries = self._entries(changes)
            old = {} if head is None else {e.path: e for e in tree.walk(store, head)}
            pairs = {path: (old.get(path), entries.get(path)) for path in old.keys() | entries.keys()}
        return [tree.Change(path, a, b) for path, (a, b) in sorted(pairs.items()) if a != b]

    def checkout(self, store: ObjectStore, target: Digest, advance: Callable[..., None] | None) -> int:
        """Makes the folder equal to a tree, touching only what differs."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with store.writer() as scratch:  # hashed, never flushed
            changes = self._look(scratch, None)
        if self._cache.root == "" and self._fresh:
            raise Invalid(
                f"{self.folder} holds files and was not checked out before.", hint="Give a folder that is empty or new."
            )
        if changes:
            raise Invalid(
                f"{self.folder} holds {len(changes)} changes never committed, among them {next(iter(changes))}.",
                hint="Commit them, or check out into another folder.",
                details={"paths": sorted(changes)[:20]},
            )
        if self._cache.root:
            found = tree.diff(store, Digest(bytes.fromhex(self._cache.root)), target)
        else:
            found = [tree.Change(e.path, None, e) for e in tree.walk(store, target)]
        for change in found:
            if change.after is None:
                self._remove(change.path)
        folders.write_entries(store, _counted((c.after for c in found if c.after is not None), advance), self.folder)
        with store.writer() as scratch:
            self._look(scratch, None, trust={c.path: c.after for c in found if c.after is not None})
        self.save(target)
        return len(found)

    def save(self, root: Digest) -> None:
        """Remembers what was seen. A lost cache costs time only."""
        cache = Cache(_MAGIC, root.hex, time.time_ns(), self._fresh)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_name(f".{secrets.token_hex(6)}")
        temporary.write_bytes(msgspec.msgpack.encode(cache))
        temporary.replace(self._path)

    def _load(self) -> Cache:
        try:
            cache = msgspec.msgpack.decode(self._path.read_bytes(), type=Cache)
        except (FileNotFoundError, msgspec.MsgspecError):
            return Cache(_MAGIC, "", 0, {})
        return cache if cache.magic == _MAGIC else Cache(_MAGIC, "", 0, {})

    def _look(
        self, writer: Writer, advance: Callable[..., None] | None, trust: dict[str, Entry] | None = None
    ) -> dict[str, Entry | None]:
        """The paths that differ from the cache. ``trust`` names files that were just written."""
        old, trusted = self._cache.paths, trust or {}
        changes: dict[str, Entry | None] = {}
        self._fresh = {}

        def take(entry: Entry, found: os.stat_result) -> None:
            before = old.get(entry.path)
            if before is None or _entry_of(entry.path, before) != entry:
                changes[entry.path] = entry
            self._fresh[entry.path] = _seen(entry, found)

        def unknown() -> Iterator[tuple[str, os.stat_result]]:
            for path, found in folders.scan(self.folder):
                before = old.get(path)
                if path in trusted:
                    take(trusted[path], found)
                elif before is not None and self._unchanged(before, found):
                    self._fresh[path] = before
                else:
                    yield path, found
                    continue
                if advance is not None:
                    advance(1)

        for entry, found in folders.read_entries(writer, self.folder, unknown()):
            take(entry, found)
            if advance is not None:
                advance(1)
        for path in self._lost(writer):
            take(*folders.read_entry(writer, self.folder, path))
        changes.update(dict.fromkeys(old.keys() - self._fresh.keys()))
        return changes

    def _lost(self, writer: Writer) -> list[str]:
        """Unchanged files whose bytes the store does not have (any more): they have to be stored again."""
        old = self._cache.paths
        kept = {path: seen for path, seen in self._fresh.items() if seen.content_kind and old.get(path) is seen}
        missing = writer.missing([seen.content for seen in kept.values()])
        return [path for path, seen in kept.items() if seen.content in missing] if missing else []

    def _entries(self, changes: dict[str, Entry | None]) -> dict[str, Entry]:
        """Every entry of the folder as it was last looked at."""
        return {path: changes.get(path) or _entry_of(path, seen) for path, seen in self._fresh.items()}

    def _unchanged(self, seen: Seen, found: os.stat_result) -> bool:
        return (
            seen.mtime == found.st_mtime_ns
            and seen.size == found.st_size
            and seen.ctime == found.st_ctime_ns
            and seen.inode == found.st_ino
            and self._cache.written_ns - found.st_mtime_ns > _RACY_NS
        )

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


def _counted(entries: Any, advance: Callable[..., None] | None) -> Any:
    for entry in entries:
        yield entry
        if advance is not None:
            advance(1)


def _seen(entry: Entry, found: os.stat_result) -> Seen:
    text = entry.inline or (entry.target or "").encode("utf-8", "surrogateescape")
    kind, content = (int(entry.content.kind), entry.content.id.raw) if entry.content else (0, b"")
    times = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
    return Seen(*times, int(entry.kind), entry.executable, kind, content, text)


def _entry_of(path: str, seen: Seen) -> Entry:
    kind = EntryKind(seen.kind)
    if kind == EntryKind.SYMLINK:
        return Entry(path=path, kind=kind, target=seen.text.decode("utf-8", "surrogateescape"))
    if kind == EntryKind.FOLDER:
        return Entry(path=path, kind=kind)
    if seen.content_kind:
        content = FileContent(kind=Kind(seen.content_kind), id=Digest(seen.content), size=seen.size)
        return Entry(path=path, executable=seen.executable, size=seen.size, content=content)
    return Entry(path=path, executable=seen.executable, size=seen.size, inline=seen.text)
