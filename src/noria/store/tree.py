"""Trees: sorted entries in ranges whose borders depend on the paths only.

Equal trees therefore have equal ids whatever their history, a change rewrites only the ranges that it touches, and a
diff skips every range that both sides share (a prolly tree; reference data.md, section 4).

    range   "NRNG" version u8, then MessagePack: [[path, kind, flags, size, content kind, content, meta], ...]
    node    "NNOD" version u8, level u8, then MessagePack: [[first path, last path, id, entries, bytes], ...]

A range ends after a path whose BLAKE2b-64 is 0 modulo 64, but not before 12 KiB and never after 256 KiB of encoded
entries. More than 128 ranges (or nodes) go into nodes of a higher level, which end after a last path whose salted
BLAKE2b-64 is 0 modulo 32, and never hold more than 128. A tree is named by the digest of its top node.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final, NamedTuple

import msgspec

from noria.base.digest import Digest
from noria.store import files
from noria.store.errors import FormatTooNew, ObjectCorrupt
from noria.store.objects import ObjectStore, Writer
from noria.store.records import Entry, EntryKind, FileContent, Kind

_RANGE: Final = b"NRNG\x01"
_NODE: Final = b"NNOD\x01"
_MODULUS: Final = 64
_MIN, _MAX = 12 << 10, 256 << 10
_FANOUT, _BRANCHES = 128, 32
EXECUTABLE: Final = 1
_CONTENTS: Final = {int(kind): kind for kind in (Kind.CHUNK, Kind.RECIPE)}

_ID: Final = 32  # bytes
_SHAPES: Final = frozenset(
    (7, bytes, int(kind), int, int, content_kind, content, content_kind and _ID, dict)
    for kind, content_kind, content in (
        (EntryKind.FILE, 0, bytes),
        (EntryKind.FILE, int(Kind.CHUNK), bytes),
        (EntryKind.FILE, int(Kind.RECIPE), bytes),
        (EntryKind.SYMLINK, 0, bytes),
        (EntryKind.FOLDER, 0, type(None)),
    )
)
"""What rows look like: their length and the types of what they hold, and kinds that there are."""

Row = list[Any]
"""[path, kind, flags, size, content kind, content, meta]: an entry as it lies in its range."""


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
    return build_rows(writer, [row_of(entry) for entry in entries])


def build_rows(writer: Writer, rows: list[Row]) -> Digest:
    """Like ``build``, for the rows of entries."""
    return _top(writer, list(_ranges(writer, rows)))


def empty(writer: Writer) -> Digest:
    return build(writer, [])


def apply(store: ObjectStore, writer: Writer, root: Digest | None, changes: dict[str, Entry | None]) -> Digest:
    """The tree with some paths put (an entry) or removed (None). Only touched ranges are read and written.

    A ``root`` of None stands for an empty tree.
    """
    if root is None:
        there = [entry for entry in changes.values() if entry is not None]
        return build(writer, sorted(there, key=lambda entry: key_of(entry.path)))
    rows = {key_of(path): None if entry is None else row_of(entry) for path, entry in changes.items()}
    return apply_rows(store, writer, root, rows)


def apply_rows(store: ObjectStore, writer: Writer, root: Digest, changes: Mapping[bytes, Row | None]) -> Digest:
    """Like ``apply``, for the rows of entries by the bytes of their paths."""
    if not changes:
        return root
    todo = sorted(changes.items(), key=itemgetter(0))
    known: _Known = {}
    refs = _children(store, root, known)
    return _top(writer, list(_rewrite(store, writer, refs, todo)), known)


def _children(store: ObjectStore, node: Digest, known: _Known) -> list[Ref]:
    """All ranges below a node; notes the nodes between."""
    level, refs = _open_node(store, node)
    known[tuple([ref.id for ref in refs])] = node.raw
    return refs if level == 1 else [below for ref in refs for below in _children(store, Digest(ref.id), known)]


def _rewrite(
    store: ObjectStore, writer: Writer, refs: list[Ref], todo: list[tuple[bytes, Row | None]]
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
            first = position
            while position < len(todo) and (upper is None or todo[position][0] < upper):
                position += 1
            old = _rows(store, refs[number].id) if number < len(refs) else []
            number += 1
            yield from cutter.add(_merge(old, todo[first:position]))
            if number >= len(refs) or cutter.fresh:
                break
        rest = cutter.finish()
        if rest is not None:
            yield rest
    yield from refs[number:]


def _merge(old: list[Row], part: list[tuple[bytes, Row | None]]) -> list[Row]:
    if not part:
        return old
    merged: dict[bytes, Row] = {row[0]: row for row in old}
    for key, row in part:
        if row is None:
            merged.pop(key, None)
        else:
            merged[key] = row
    return [merged[key] for key in sorted(merged)]


class _Cutter:
    """Cuts a sorted run of rows into ranges."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._rows: list[Row] = []
        self._size = 0

    @property
    def fresh(self) -> bool:
        """True at a border: whatever follows is cut as if the run began here."""
        return not self._rows

    def add(self, rows: list[Row]) -> Iterator[Ref]:
        size, start = self._size, 0
        for number, row in enumerate(rows):
            size += len(row[0]) + 56
            if size >= _MIN and (size >= _MAX or _is_border(row[0])):
                self._rows += rows[start : number + 1]
                start, size = number + 1, 0
                yield self._store()
        self._rows += rows[start:]
        self._size = size

    def finish(self) -> Ref | None:
        return self._store() if self._rows else None

    def _store(self) -> Ref:
        rows, self._rows = self._rows, []
        oid = self._writer.put(Kind.RANGE, _RANGE + msgspec.msgpack.encode(rows))
        return Ref(rows[0][0], rows[-1][0], oid.raw, len(rows), sum([row[3] for row in rows]))


def _is_border(key: bytes) -> bool:
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") % _MODULUS == 0


def _ranges(writer: Writer, rows: list[Row]) -> Iterator[Ref]:
    cutter = _Cutter(writer)
    yield from cutter.add(rows)
    rest = cutter.finish()
    if rest is not None:
        yield rest


_Known = dict[tuple[bytes, ...], bytes]
"""Nodes that are stored, by the ids of what they hold."""


def _top(writer: Writer, refs: list[Ref], known: _Known | None = None) -> Digest:
    level = 1
    while len(refs) > _FANOUT:
        groups: list[list[Ref]] = [[]]
        for ref in refs:
            groups[-1].append(ref)
            border = int.from_bytes(hashlib.blake2b(ref.last, digest_size=8, salt=bytes([level])).digest(), "big")
            if border % _BRANCHES == 0 or len(groups[-1]) >= _FANOUT:
                groups.append([])
        refs = _nodes(writer, level, [group for group in groups if group], known or {})
        level += 1
    return Digest(_nodes(writer, level, [refs], {})[0].id)


def _nodes(writer: Writer, level: int, groups: list[list[Ref]], known: _Known) -> list[Ref]:
    begin = _NODE + bytes((level,))
    stored = [known.get(tuple([ref.id for ref in refs])) for refs in groups]
    new = [begin + msgspec.msgpack.encode(refs) for refs, oid in zip(groups, stored, strict=True) if oid is None]
    made = iter(writer.put_many(Kind.NODE, new))
    found: list[Ref] = []
    for refs, oid in zip(groups, stored, strict=True):
        first, last = (refs[0].first, refs[-1].last) if refs else (b"", b"")
        found.append(Ref(first, last, oid or next(made), sum(r.entries for r in refs), sum(r.size for r in refs)))
    return found


_refs_decoder = msgspec.msgpack.Decoder(list[Ref])
_rows_decoder = msgspec.msgpack.Decoder(list[list[Any]])


def _open_node(store: ObjectStore, oid: Digest) -> tuple[int, list[Ref]]:
    raw = store.get(oid, Kind.NODE)
    _check(raw, _NODE, oid)
    try:
        refs = _refs_decoder.decode(memoryview(raw)[6:])
    except msgspec.MsgspecError as error:
        raise ObjectCorrupt(oid.short, "-", 0, "it holds what is no entry") from error
    if not raw[5]:
        raise ObjectCorrupt(oid.short, "-", 0, "no node has level 0")
    return raw[5], refs


def _rows(store: ObjectStore, oid: bytes) -> list[Row]:
    raw = store.get(Digest(oid), Kind.RANGE)
    _check(raw, _RANGE, Digest(oid))
    try:
        rows = _rows_decoder.decode(memoryview(raw)[5:])
        shapes: set[tuple[Any, ...]] = {
            (len(r), type(r[0]), r[1], type(r[2]), type(r[3]), r[4], type(r[5]), r[4] and len(r[5]), type(r[6]))
            for r in rows
        }
    except (msgspec.MsgspecError, IndexError, TypeError) as error:
        raise ObjectCorrupt(Digest(oid).short, "-", 0, "it holds what is no entry") from error
    if not shapes <= _SHAPES:
        raise ObjectCorrupt(Digest(oid).short, "-", 0, "it holds entries of a kind that there is not")
    return rows


def check_row(row: Row) -> None:
    """Refuses what no noria has written, though it looks like an entry: rows of a tree from a hostile workspace.

    Raises:
        ObjectCorrupt: sizes that do not fit the bytes beside them, a link with a NUL in it.
    """
    _, kind, _, size, content_kind, content, _ = row
    if content_kind:
        wrong = size < 0
    elif kind == EntryKind.FILE:
        wrong = len(content) != size
    else:
        wrong = kind == EntryKind.SYMLINK and (not content or b"\0" in content)
    if wrong:
        path = row[0].decode("utf-8", "replace")
        raise ObjectCorrupt(f"that holds {path!r}", "-", 0, "this entry does not fit its bytes")


def _check(raw: bytes, magic: bytes, oid: Digest) -> None:
    if raw[:4] != magic[:4]:
        raise ObjectCorrupt(oid.short, "-", 0, f"it does not begin with {magic[:4].decode()}")
    if raw[4] > magic[4]:
        raise FormatTooNew(f"The object {oid.short}", raw[4], magic[4])


def leaves(store: ObjectStore, root: Digest, start: bytes = b"", stop: bytes | None = None) -> Iterator[Ref]:
    """The ranges of a tree, in order; with bounds, only those that may hold a path in [start, stop)."""
    level, refs = _open_node(store, root)
    if start or stop is not None:
        first = bisect_left(refs, start, key=lambda ref: ref.last)
        end = len(refs) if stop is None else bisect_left(refs, stop, key=lambda ref: ref.first)
        refs = refs[first:end]
    if level == 1:
        yield from refs
        return
    for ref in refs:
        yield from leaves(store, Digest(ref.id), start, stop)


def rows_of(store: ObjectStore, ref: Ref) -> list[tuple[bytes, Row]]:
    """The paths of a range with their rows; see ``entry_of``."""
    return [(row[0], row) for row in _rows(store, ref.id)]


def structure(store: ObjectStore, root: Digest) -> list[bytes]:
    """The ids of all nodes and ranges of a tree."""
    known: _Known = {}
    ranges = [ref.id for ref in _children(store, root, known)]
    return [*known.values(), *ranges]


def totals(store: ObjectStore, root: Digest) -> tuple[int, int]:
    """(entries, bytes of all files) without reading a range."""
    _, refs = _open_node(store, root)
    return sum(r.entries for r in refs), sum(r.size for r in refs)


def walk(store: ObjectStore, root: Digest, prefix: str = "") -> Iterator[Entry]:
    """All entries in path order; with ``prefix``, those whose path begins with it."""
    return (entry_of(row) for row in walk_rows(store, root, key_of(prefix)))


def walk_rows(store: ObjectStore, root: Digest, prefix: bytes = b"") -> Iterator[Row]:
    """Like ``walk``, as rows."""
    for ref in leaves(store, root, prefix, _after(prefix)):
        rows = _rows(store, ref.id)
        if prefix and not (ref.first.startswith(prefix) and ref.last.startswith(prefix)):
            rows = [row for row in rows if row[0].startswith(prefix)]
        yield from rows


def _after(prefix: bytes) -> bytes | None:
    """The first key behind all keys that begin with ``prefix``."""
    short = prefix.rstrip(b"\xff")
    return short[:-1] + bytes((short[-1] + 1,)) if short else None


def find(store: ObjectStore, root: Digest, path: str) -> Entry | None:
    """The entry of one path, or None."""
    key = key_of(path)
    row = find_rows(store, root, [key]).get(key)
    return None if row is None else entry_of(row)


def find_rows(store: ObjectStore, root: Digest, keys: Iterable[bytes]) -> dict[bytes, Row]:
    """The rows of those keys that a tree holds; each range that may hold one is read once."""
    found: dict[bytes, Row] = {}
    wanted = sorted(set(keys))
    if wanted:
        _find(store, root, wanted, found)
    return found


def _find(store: ObjectStore, node: Digest, wanted: list[bytes], found: dict[bytes, Row]) -> None:
    level, refs = _open_node(store, node)
    position = 0
    while position < len(wanted):
        number = bisect_left(refs, wanted[position], key=lambda ref: ref.last)
        if number == len(refs):
            return
        end = bisect_right(wanted, refs[number].last, position)
        part, position = wanted[position:end], end
        if part[-1] < refs[number].first:
            continue
        if level > 1:
            _find(store, Digest(refs[number].id), part, found)
        else:
            rows = _rows(store, refs[number].id)
            keys = set(part)
            found.update((row[0], row) for row in rows if row[0] in keys)


def diff(store: ObjectStore, before: Digest | None, after: Digest | None) -> list[Change]:
    """The paths that differ, in order. Nodes and ranges that both trees share are never read.

    None stands for an empty tree.
    """
    if before is None:
        return [] if after is None else [Change(entry.path, None, entry) for entry in walk(store, after)]
    if after is None:
        return [Change(entry.path, entry, None) for entry in walk(store, before)]
    old, new = diff_rows(store, before, after)
    changes: list[Change] = []
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        path = key.decode("utf-8", "surrogateescape")
        changes.append(Change(path, None if a is None else entry_of(a), None if b is None else entry_of(b)))
    return changes


def diff_rows(store: ObjectStore, before: Digest, after: Digest) -> tuple[dict[bytes, Row], dict[bytes, Row]]:
    """What differs between two trees: the rows of the one and of the other, by path."""
    if before == after:
        return {}, {}
    (level, old), (other, new) = _open_node(store, before), _open_node(store, after)
    while True:
        shared = {ref.id for ref in old} & {ref.id for ref in new}
        if shared and level == other:
            old, new = [r for r in old if r.id not in shared], [r for r in new if r.id not in shared]
        if level == other == 1:
            break
        down, down_other = level >= other, other >= level
        if down:
            level, old = level - 1, [below for ref in old for below in _open_node(store, Digest(ref.id))[1]]
        if down_other:
            other, new = other - 1, [below for ref in new for below in _open_node(store, Digest(ref.id))[1]]
    left = {row[0]: row for ref in old for row in _rows(store, ref.id)}
    right = {row[0]: row for ref in new for row in _rows(store, ref.id)}
    for key in [key for key, row in left.items() if right.get(key) == row]:
        del left[key], right[key]
    return left, right


def children(store: ObjectStore, oid: Digest) -> list[tuple[Kind, bytes]]:
    """What a node needs directly: lower nodes, or ranges."""
    level, refs = _open_node(store, oid)
    kind = Kind.NODE if level > 1 else Kind.RANGE
    return [(kind, ref.id) for ref in refs]


def contents(store: ObjectStore, oid: Digest) -> list[tuple[Kind, bytes]]:
    """The chunks and recipes of the files of a range."""
    return [(_CONTENTS[row[4]], row[5]) for row in _rows(store, oid.raw) if row[4]]


def named_contents(store: ObjectStore, oid: Digest) -> list[tuple[str, tuple[Kind, bytes]]]:
    """Like ``contents``, with the paths."""
    rows = [row for row in _rows(store, oid.raw) if row[4]]
    return [(row[0].decode("utf-8", "surrogateescape"), (_CONTENTS[row[4]], row[5])) for row in rows]


def paths(store: ObjectStore, oid: Digest) -> list[tuple[str, tuple[Kind, bytes] | None]]:
    """Every path of a range, with the object that holds its bytes, if one does."""
    return [
        (row[0].decode("utf-8", "surrogateescape"), (_CONTENTS[row[4]], row[5]) if row[4] else None)
        for row in _rows(store, oid.raw)
    ]


def objects_of(store: ObjectStore, root: Digest) -> Iterator[tuple[Kind, bytes]]:
    """Every object that a tree needs: nodes, ranges, chunks, recipes and their chunks (may repeat)."""
    yield Kind.NODE, root.raw
    level, refs = _open_node(store, root)
    for ref in refs:
        if level > 1:
            yield from objects_of(store, Digest(ref.id))
            continue
        yield Kind.RANGE, ref.id
        for _, _, _, _, kind, content, _ in _rows(store, ref.id):
            if kind:
                yield Kind(kind), content
            if kind == Kind.RECIPE:
                yield from ((below, oid) for below, oid, _ in files.recipe_objects(store, Digest(content)))


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


def row_of(entry: Entry) -> Row:
    """An entry as it is stored."""
    content: Any = entry.inline
    kind = 0
    if entry.kind == EntryKind.SYMLINK:
        content = (entry.target or "").encode("utf-8", "surrogateescape")
    elif entry.content is not None:
        kind, content = int(entry.content.kind), entry.content.id.raw
    flags = EXECUTABLE if entry.executable else 0
    meta = dict(sorted(entry.meta.items())) if entry.meta else {}
    return [key_of(entry.path), int(entry.kind), flags, entry.size, kind, content, meta]


def entry_of(row: Row) -> Entry:
    """The entry that a row stands for."""
    path, kind, flags, size, content_kind, content, meta = row
    entry_kind = EntryKind(kind)
    stored = FileContent(kind=Kind(content_kind), id=Digest(content), size=size) if content_kind else None
    plain = content if content_kind == 0 and entry_kind == EntryKind.FILE else None
    target = content.decode("utf-8", "surrogateescape") if entry_kind == EntryKind.SYMLINK else None
    return Entry(
        path=path.decode("utf-8", "surrogateescape"),
        kind=entry_kind,
        executable=bool(flags & EXECUTABLE),
        size=size,
        content=stored,
        inline=plain,
        target=target,
        meta=meta,
    )
