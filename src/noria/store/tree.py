"""Trees: sorted entries in ranges whose borders depend on the paths only.

Equal trees therefore have equal ids whatever their history, a change rewrites only the ranges that it touches, and a
diff skips every range that both sides share (a prolly tree; reference data.md, section 4).

    range   "NRNG" version u8, then MessagePack: [[path, kind, flags, size, content kind, content, meta], ...]
    node    "NNOD" version u8, level u8, then MessagePack: [[first path, last path, id, entries, bytes], ...]

A range ends after a path whose BLAKE2b-64 is 0 modulo 128, but not before 16 KiB and never after 256 KiB of encoded
entries. A tree is named by the digest of its top node.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec

from noria.base.digest import Digest
from noria.store.errors import FormatTooNew, ObjectCorrupt
from noria.store.objects import ObjectStore, Writer
from noria.store.records import Entry, EntryKind, FileContent, Kind

_RANGE: Final = b"NRNG\x01"
_NODE: Final = b"NNOD\x01"
_MODULUS: Final = 128
_MIN, _MAX = 16 << 10, 256 << 10
_FANOUT: Final = 4096
_EXECUTABLE: Final = 1


class Ref(NamedTuple):
    """A range or a node, seen from above. Paths are bytes: their order is the order of the tree."""

    first: bytes
    last: bytes
    id: bytes
    entries: int
    size: int


@dataclass(frozen=True, slots=True)
class Change:
    """One path that differs between two trees; ``before`` or ``after`` is None where it is absent."""

    path: str
    before: Entry | None
    after: Entry | None


def key_of(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def build(writer: Writer, entries: Iterable[Entry]) -> Digest:
    """Stores a tree of entries that are sorted by the bytes of their paths; returns its id."""
    return _top(writer, list(_ranges(writer, ((key_of(e.path), _pack(e)) for e in entries))))


def empty(writer: Writer) -> Digest:
    return build(writer, [])


def apply(store: ObjectStore, writer: Writer, root: Digest, changes: dict[str, Entry | None]) -> Digest:
    """The tree with some paths put (an entry) or removed (None). Only touched ranges are read and written."""
    if not changes:
        return root
    refs = list(leaves(store, root))
    todo = sorted(((key_of(path), entry) for path, entry in changes.items()), key=lambda item: item[0])
    return _top(writer, list(_rewrite(store, writer, refs, todo)))


def _rewrite(
    store: ObjectStore, writer: Writer, refs: list[Ref], todo: list[tuple[bytes, Entry | None]]
) -> Iterator[Ref]:
    position, number = 0, 0
    while position < len(todo):
        # Ranges wholly before the next change are kept as they are.
        target = max(0, bisect_right(refs, todo[position][0], key=lambda ref: ref.first) - 1)
        target = max(target, number)
        yield from refs[number:target]
        number = target
        cutter = _Cutter(writer)
        while True:
            # One old range with the changes that fall into it; on until the borders meet an old border again.
            upper = refs[number + 1].first if number + 1 < len(refs) else None
            part: list[tuple[bytes, Entry | None]] = []
            while position < len(todo) and (upper is None or todo[position][0] < upper):
                part.append(todo[position])
                position += 1
            old = _entries(store, refs[number].id) if number < len(refs) else []
            number += 1
            for key, packed in _merge(old, part):
                done = cutter.add(key, packed)
                if done is not None:
                    yield done
            if number >= len(refs) or cutter.fresh:
                break
        rest = cutter.finish()
        if rest is not None:
            yield rest
    yield from refs[number:]


def _merge(old: list[tuple[bytes, Any]], part: list[tuple[bytes, Entry | None]]) -> Iterator[tuple[bytes, Any]]:
    merged: dict[bytes, Any] = dict(old)
    for key, entry in part:
        if entry is None:
            merged.pop(key, None)
        else:
            merged[key] = _pack(entry)
    yield from sorted(merged.items())


class _Cutter:
    """Cuts a sorted run of entries into ranges."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._rows: list[Any] = []
        self._size = 0
        self._first = b""
        self._last = b""
        self._bytes = 0

    @property
    def fresh(self) -> bool:
        """True at a border: whatever follows is cut as if the run began here."""
        return not self._rows

    def add(self, key: bytes, packed: Any) -> Ref | None:
        if not self._rows:
            self._first = key
        self._rows.append(packed)
        self._last = key
        self._size += len(key) + 56
        self._bytes += packed[3]
        if self._size >= _MIN and (self._size >= _MAX or _is_border(key)):
            return self.finish()
        return None

    def finish(self) -> Ref | None:
        if not self._rows:
            return None
        oid = self._writer.put(Kind.RANGE, _RANGE + msgspec.msgpack.encode(self._rows))
        ref = Ref(self._first, self._last, oid.raw, len(self._rows), self._bytes)
        self._rows, self._size, self._bytes = [], 0, 0
        return ref


def _is_border(key: bytes) -> bool:
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") % _MODULUS == 0


def _ranges(writer: Writer, rows: Iterable[tuple[bytes, Any]]) -> Iterator[Ref]:
    cutter = _Cutter(writer)
    for key, packed in rows:
        done = cutter.add(key, packed)
        if done is not None:
            yield done
    rest = cutter.finish()
    if rest is not None:
        yield rest


def _top(writer: Writer, refs: list[Ref]) -> Digest:
    level = 1
    while len(refs) > _FANOUT:
        groups: list[list[Ref]] = [[]]
        for ref in refs:
            groups[-1].append(ref)
            border = int.from_bytes(hashlib.blake2b(ref.last, digest_size=8, salt=bytes([level])).digest(), "big")
            if border % 512 == 0 or len(groups[-1]) >= _FANOUT:
                groups.append([])
        refs = [_node(writer, level, group) for group in groups if group]
        level += 1
    return Digest(_node(writer, level, refs).id)


def _node(writer: Writer, level: int, refs: list[Ref]) -> Ref:
    oid = writer.put(Kind.NODE, _NODE + bytes((level,)) + msgspec.msgpack.encode(refs))
    first, last = (refs[0].first, refs[-1].last) if refs else (b"", b"")
    return Ref(first, last, oid.raw, sum(r.entries for r in refs), sum(r.size for r in refs))


_refs_decoder = msgspec.msgpack.Decoder(list[Ref])
_rows_decoder = msgspec.msgpack.Decoder(list[list[Any]])


def _open_node(store: ObjectStore, oid: Digest) -> tuple[int, list[Ref]]:
    raw = store.get(oid, Kind.NODE)
    _check(raw, _NODE, oid)
    return raw[5], _refs_decoder.decode(raw[6:])


def _entries(store: ObjectStore, oid: bytes) -> list[tuple[bytes, Any]]:
    raw = store.get(Digest(oid), Kind.RANGE)
    _check(raw, _RANGE, Digest(oid))
    return [(row[0], row) for row in _rows_decoder.decode(raw[5:])]


def _check(raw: bytes, magic: bytes, oid: Digest) -> None:
    if raw[:4] != magic[:4]:
        raise ObjectCorrupt(oid.short, "-", 0, f"it does not begin with {magic[:4].decode()}")
    if raw[4] > magic[4]:
        raise FormatTooNew(f"The object {oid.short}", raw[4], magic[4])


def leaves(store: ObjectStore, root: Digest) -> Iterator[Ref]:
    """The ranges of a tree, in order."""
    level, refs = _open_node(store, root)
    if level == 1:
        yield from refs
        return
    for ref in refs:
        yield from leaves(store, Digest(ref.id))


def rows_of(store: ObjectStore, ref: Ref) -> list[tuple[bytes, Any]]:
    """The paths of a range with their encoded entries; see ``entry_of``."""
    return _entries(store, ref.id)


def entry_of(row: list[Any]) -> Entry:
    """An entry as it lies in a range."""
    return _unpack(row)


def totals(store: ObjectStore, root: Digest) -> tuple[int, int]:
    """(entries, bytes of all files) without reading a range."""
    _, refs = _open_node(store, root)
    return sum(r.entries for r in refs), sum(r.size for r in refs)


def walk(store: ObjectStore, root: Digest, prefix: str = "") -> Iterator[Entry]:
    """All entries in path order; with ``prefix``, those whose path begins with it."""
    start = key_of(prefix)
    for ref in leaves(store, root):
        if prefix and (ref.last < start or (ref.first > start and not ref.first.startswith(start))):
            continue
        for key, packed in _entries(store, ref.id):
            if key.startswith(start):
                yield _unpack(packed)


def find(store: ObjectStore, root: Digest, path: str) -> Entry | None:
    key = key_of(path)
    refs = list(leaves(store, root))
    number = bisect_right(refs, key, key=lambda ref: ref.first) - 1
    if number < 0 or refs[number].last < key:
        return None
    for found, packed in _entries(store, refs[number].id):
        if found == key:
            return _unpack(packed)
    return None


def diff(store: ObjectStore, before: Digest, after: Digest) -> list[Change]:
    """The paths that differ, in order. Ranges that both trees share are never read."""
    if before == after:
        return []
    old, new = list(leaves(store, before)), list(leaves(store, after))
    shared = {ref.id for ref in old} & {ref.id for ref in new}
    left = {key: packed for ref in old if ref.id not in shared for key, packed in _entries(store, ref.id)}
    right = {key: packed for ref in new if ref.id not in shared for key, packed in _entries(store, ref.id)}
    changes: list[Change] = []
    for key in sorted(left.keys() | right.keys()):
        a, b = left.get(key), right.get(key)
        if a != b:
            path = key.decode("utf-8", "surrogateescape")
            changes.append(Change(path, None if a is None else _unpack(a), None if b is None else _unpack(b)))
    return changes


def objects_of(store: ObjectStore, root: Digest) -> Iterator[tuple[Kind, bytes]]:
    """Every object that a tree needs: nodes, ranges, chunks, recipes and their chunks (may repeat)."""
    yield Kind.NODE, root.raw
    level, refs = _open_node(store, root)
    for ref in refs:
        if level > 1:
            yield from objects_of(store, Digest(ref.id))
            continue
        yield Kind.RANGE, ref.id
        for _, packed in _entries(store, ref.id):
            content = _unpack(packed).content
            if content is not None:
                yield content.kind, content.id.raw


def skeleton(store: ObjectStore, root: Digest, known: set[bytes]) -> Iterator[tuple[Kind, bytes]]:
    """The nodes and ranges of a tree, from the bottom up, without those in ``known`` and what lies below them.

    What was yielded is added to ``known``.
    """
    if root.raw in known:
        return
    level, refs = _open_node(store, root)
    for ref in refs:
        if level > 1:
            yield from skeleton(store, Digest(ref.id), known)
        elif ref.id not in known:
            known.add(ref.id)
            yield Kind.RANGE, ref.id
    known.add(root.raw)
    yield Kind.NODE, root.raw


def _pack(entry: Entry) -> list[Any]:
    content: Any = entry.inline
    kind = 0
    if entry.kind == EntryKind.SYMLINK:
        content = (entry.target or "").encode("utf-8", "surrogateescape")
    elif entry.content is not None:
        kind, content = int(entry.content.kind), entry.content.id.raw
    flags = _EXECUTABLE if entry.executable else 0
    meta = dict(sorted(entry.meta.items())) if entry.meta else {}
    return [key_of(entry.path), int(entry.kind), flags, entry.size, kind, content, meta]


def _unpack(row: list[Any]) -> Entry:
    path, kind, flags, size, content_kind, content, meta = row
    entry_kind = EntryKind(kind)
    stored = FileContent(kind=Kind(content_kind), id=Digest(content), size=size) if content_kind else None
    plain = content if content_kind == 0 and entry_kind == EntryKind.FILE else None
    target = content.decode("utf-8", "surrogateescape") if entry_kind == EntryKind.SYMLINK else None
    return Entry(
        path=path.decode("utf-8", "surrogateescape"),
        kind=entry_kind,
        executable=bool(flags & _EXECUTABLE),
        size=size,
        content=stored,
        inline=plain,
        target=target,
        meta=meta,
    )
