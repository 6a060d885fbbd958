"""Files of any size as objects: small ones are one chunk, big ones a recipe of content-defined chunks.

Chunks are cut by FastCDC (normalised; minimum 16 KiB, average 64 KiB, maximum 256 KiB), so an insert in the middle
stores about one new chunk. The boundaries are part of the format: ``tests/golden/chunks.json`` holds them fixed.

    recipe 1   "NRCP" 1, then for each chunk: id 32 B, length u32 LE
    recipe 2   "NRCP" 2, then for each part: id of a recipe 1 with its chunks 32 B, bytes u64 LE, chunks u32 LE

A recipe of more than 4,096 chunks is of version 2. A part ends after a chunk whose id, read as a number, is 0 modulo
256, but holds 64 chunks at least and 1,024 at most (the last one may hold fewer). So a change stores one part anew.
"""

from __future__ import annotations

import io
import struct
from bisect import bisect_right
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO, Final

from pyfastcdc import FastCDC

from noria.base.digest import Digest
from noria.store.errors import FormatTooNew, ObjectCorrupt
from noria.store.objects import ObjectStore, Writer
from noria.store.records import FileContent, Kind

SMALL: Final = 64 << 10
MIN, AVERAGE, MAX = 16 << 10, 64 << 10, 256 << 10
WINDOW: Final = 4 << 20
_LET_GO: Final = 32 << 20
_MAGIC: Final = b"NRCP\x01"
_MAGIC_2: Final = b"NRCP\x02"
_PART: Final = struct.Struct("<32sI")
_LEAF: Final = struct.Struct("<32sQI")
_ONE_LEVEL: Final = 4096
_TOGETHER: Final = 64
_LEAF_MIN, _LEAF_MAX, _LEAF_MODULUS = 64, 1024, 256

Part = tuple[bytes, int]
"""A chunk of a file: id, length."""


def put_bytes(writer: Writer, data: bytes) -> FileContent:
    if len(data) < SMALL:
        return FileContent(kind=Kind.CHUNK, id=writer.put(Kind.CHUNK, data), size=len(data))
    return put_rest(writer, data, io.BytesIO(), expected=0)


def put_stream(writer: Writer, file: BinaryIO) -> FileContent:
    """Stores a file with flat memory."""
    head = file.read(SMALL)
    return put_bytes(writer, head) if len(head) < SMALL else put_rest(writer, head, file)


def put_descriptor(writer: Writer, descriptor: int, size: int) -> FileContent:
    """Like ``put_stream``, for an open file of at least ``SMALL`` bytes."""
    with open(descriptor, "rb", buffering=0, closefd=False) as file:
        head = file.read(SMALL)
        return put_bytes(writer, head) if len(head) < SMALL else put_rest(writer, head, file, expected=size - SMALL)


def put_rest(writer: Writer, head: bytes, file: BinaryIO, *, expected: int = WINDOW) -> FileContent:
    """Stores a file of which the first ``SMALL`` bytes, or more, were read already.

    Args:
        expected: about how many bytes follow; spares memory where they are few.
    """
    parts: list[Part] = []
    for pieces in _windows(writer, head, file, expected):
        oids = writer.put_chunks(pieces)
        parts += [(oid, len(piece)) for oid, piece in zip(oids, pieces, strict=True)]
    return put_recipe(writer, parts)


def append_bytes(store: ObjectStore, writer: Writer, content: FileContent, data: bytes) -> FileContent:
    """The file with bytes at its end, equal to the same bytes stored at once.

    A chunk's end depends on nothing before the chunk, so only the last one has to be cut anew.
    """
    if content.kind == Kind.CHUNK:
        return put_bytes(writer, store.get(content.id, Kind.CHUNK) + data)
    parts = [(oid.raw, length) for oid, length in recipe_parts(store, content.id)]
    last, _ = parts.pop()
    for pieces in _windows(writer, store.get(Digest(last), Kind.CHUNK), io.BytesIO(data), len(data)):
        parts += [(oid, len(piece)) for oid, piece in zip(writer.put_chunks(pieces), pieces, strict=True)]
    return put_recipe(writer, parts)


def _windows(writer: Writer, head: bytes, file: BinaryIO, expected: int) -> Iterator[list[memoryview]]:
    """The chunks of a file, some MiB at a time; the next ones are read and cut beside whoever takes these."""
    found = _window(memoryview(head), file, min(WINDOW, expected + 1))
    while True:
        pieces, tail, end = found
        if end:
            yield pieces
            return
        ahead = writer.pool.submit(_window, tail, file, WINDOW)
        try:
            yield pieces
        finally:
            ahead.exception()  # waits: nobody reads the file after we are gone
        found = ahead.result()


def _window(head: memoryview, file: BinaryIO, room: int) -> tuple[list[memoryview], memoryview, bool]:
    """(chunks, bytes that belong to the next chunk, whether this is the end)"""
    buffer = memoryview(bytearray(len(head) + room))
    buffer[: len(head)] = head
    filled, into = len(head), _reader(file)
    while filled < len(buffer):
        count = into(buffer[filled:])
        if not count:
            break
        filled += count
    end = filled < len(buffer)
    data = buffer[:filled]
    pieces = cut(data)
    # The last chunk may end where it does only because the window does.
    return (pieces, data[:0], True) if end else (pieces[:-1], pieces[-1], False)


def cut(data: memoryview) -> list[memoryview]:
    """The chunks of these bytes; the last one ends with them."""
    cutter: Any = FastCDC(avg_size=AVERAGE, min_size=MIN, max_size=MAX)
    return [data[at.offset : at.offset + at.length] for at in cutter.cut_buf(data)] if data else []


def _reader(file: BinaryIO) -> Callable[[memoryview], int]:
    into: Any = getattr(file, "readinto", None)
    if into is not None:
        return into

    def read(buffer: memoryview) -> int:
        data = file.read(min(len(buffer), 1 << 20))
        buffer[: len(data)] = data
        return len(data)

    return read


def put_recipe(writer: Writer, parts: list[Part]) -> FileContent:
    """The file that consists of these chunks."""
    size = sum([length for _, length in parts])
    if len(parts) <= _ONE_LEVEL:
        raw = _leaf(parts)
    else:
        leaves = list(_leaves(parts))
        oids = writer.put_many(Kind.RECIPE, [_leaf(leaf) for leaf in leaves])
        rows = zip(oids, leaves, strict=True)
        raw = _MAGIC_2 + b"".join([_LEAF.pack(oid, sum([n for _, n in leaf]), len(leaf)) for oid, leaf in rows])
    return FileContent(kind=Kind.RECIPE, id=writer.put(Kind.RECIPE, raw), size=size)


def _leaf(parts: list[Part]) -> bytes:
    return _MAGIC + b"".join([_PART.pack(oid, length) for oid, length in parts])


def _leaves(parts: list[Part]) -> Iterator[list[Part]]:
    start = 0
    for number, (oid, _) in enumerate(parts, 1):
        count = number - start
        if count >= _LEAF_MAX or (count >= _LEAF_MIN and int.from_bytes(oid, "big") % _LEAF_MODULUS == 0):
            yield parts[start:number]
            start = number
    if start < len(parts):
        yield parts[start:]


def parts_of(store: ObjectStore, content: FileContent) -> list[Part]:
    """The chunks of a file of any size, in order."""
    if content.kind == Kind.CHUNK:
        return [(content.id.raw, content.size)]
    return [(oid.raw, length) for oid, length in recipe_parts(store, content.id)]


def recipe_parts(store: ObjectStore, oid: Digest) -> list[tuple[Digest, int]]:
    """The chunks of a big file, in order: (id, length)."""
    return [(Digest(found), length) for kind, found, length in recipe_objects(store, oid) if kind == Kind.CHUNK]


def recipe_objects(store: ObjectStore, oid: Digest) -> Iterator[tuple[Kind, bytes, int]]:
    """Whatever a recipe needs, in order, without itself: (kind, id, length); recipes have length 0."""
    kind, rows = _open_recipe(store, oid)
    for found, length in rows:
        if kind == Kind.CHUNK:
            yield kind, found, length
        else:
            yield kind, found, 0
            yield from recipe_objects(store, Digest(found))


def chunks(store: ObjectStore, recipe: Digest) -> list[tuple[Kind, bytes]]:
    """What a recipe needs directly: chunks, or the recipes of its parts."""
    kind, rows = _open_recipe(store, recipe)
    return [(kind, oid) for oid, _ in rows]


def _open_recipe(store: ObjectStore, oid: Digest) -> tuple[Kind, list[Part]]:
    raw = store.get(oid, Kind.RECIPE)
    if raw[:4] != _MAGIC[:4]:
        raise ObjectCorrupt(oid.short, "-", 0, "it does not begin like a recipe")
    if raw[4] > _MAGIC_2[4]:
        raise FormatTooNew(f"The recipe {oid.short}", raw[4], _MAGIC_2[4])
    if raw[4] == _MAGIC_2[4]:
        return Kind.RECIPE, [(leaf, size) for leaf, size, _ in _LEAF.iter_unpack(raw[len(_MAGIC_2) :])]
    return Kind.CHUNK, list(_PART.iter_unpack(raw[len(_MAGIC) :]))


def iterate(store: ObjectStore, content: FileContent) -> Iterator[bytes]:
    """The bytes of a file in pieces of at most 256 KiB, each verified."""
    if content.kind == Kind.CHUNK:
        yield store.get(content.id, Kind.CHUNK)
        return
    for oid, _ in recipe_parts(store, content.id):
        yield store.get(oid, Kind.CHUNK)


def pieces(store: ObjectStore, content: FileContent) -> Iterator[bytes | memoryview]:
    """Like ``iterate``, without a copy where packs can be mapped; what follows is verified beside whoever takes one."""
    if content.kind == Kind.CHUNK:
        yield store.view(content.id, Kind.CHUNK)
        return
    oids = [oid.raw for oid, _ in recipe_parts(store, content.id)]
    groups = [oids[start : start + _TOGETHER] for start in range(0, len(oids), _TOGETHER)]
    if len(groups) < 2:
        yield from _in_order(store, oids)
        return
    with ThreadPoolExecutor(1, thread_name_prefix="noria-pieces") as pool:
        ahead = pool.submit(_in_order, store, groups[0])
        for following in [*groups[1:], None]:
            found = ahead.result()
            if following is not None:
                ahead = pool.submit(_in_order, store, following)
            yield from found


def _in_order(store: ObjectStore, oids: list[bytes]) -> list[bytes | memoryview]:
    found = store.views(Kind.CHUNK, oids)
    return [found[oid] for oid in oids]


def read_bytes(store: ObjectStore, content: FileContent) -> bytes:
    return b"".join(iterate(store, content))


def open_file(store: ObjectStore, content: FileContent) -> io.BufferedReader:
    """A readable, seekable file over stored bytes; reads fetch only the chunks that they touch."""
    return io.BufferedReader(_StoredFile(store, content), buffer_size=MAX)


class _StoredFile(io.RawIOBase):
    def __init__(self, store: ObjectStore, content: FileContent) -> None:
        self._store = store
        self._size = content.size
        self._position = 0
        self._read = 0
        if content.kind == Kind.CHUNK:
            self._parts = [(content.id, content.size)]
        else:
            self._parts = recipe_parts(store, content.id)
        self._starts: list[int] = []
        total = 0
        for _, length in self._parts:
            self._starts.append(total)
            total += length

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        if self._position >= self._size:
            return 0
        number = bisect_right(self._starts, self._position) - 1
        chunk = self._store.view(self._parts[number][0], Kind.CHUNK)
        start = self._position - self._starts[number]
        piece = chunk[start : start + len(buffer)]
        buffer[: len(piece)] = piece
        self._position += len(piece)
        self._read += len(piece)
        if self._read >= _LET_GO:
            self._read = 0
            self._store.let_go()
        return len(piece)
