"""Files of any size as objects: small ones are one chunk, big ones a recipe of content-defined chunks.

Chunks are cut by FastCDC (normalised; minimum 16 KiB, average 64 KiB, maximum 256 KiB), so an insert in the middle
stores about one new chunk. A recipe is ``"NRCP" version u8`` and then (chunk id 32 B, length u32 LE) for each chunk.
The boundaries are part of the format: ``tests/golden/chunks.json`` holds them fixed.
"""

from __future__ import annotations

import io
import struct
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

from pyfastcdc import FastCDC

from noria.base.digest import Digest
from noria.store.errors import FormatTooNew, ObjectCorrupt
from noria.store.objects import ObjectStore, Writer
from noria.store.records import FileContent, Kind

SMALL: Final = 64 << 10
MIN, AVERAGE, MAX = 16 << 10, 64 << 10, 256 << 10
_MAGIC: Final = b"NRCP\x01"
_PART: Final = struct.Struct("<32sI")


def put_bytes(writer: Writer, data: bytes) -> FileContent:
    if len(data) < SMALL:
        return FileContent(kind=Kind.CHUNK, id=writer.put(Kind.CHUNK, data), size=len(data))
    cutter: Any = FastCDC(avg_size=AVERAGE, min_size=MIN, max_size=MAX)
    view = memoryview(data)
    parts = [
        (writer.put(Kind.CHUNK, bytes(view[cut.offset : cut.offset + cut.length])), cut.length)
        for cut in cutter.cut_buf(data)
    ]
    return _put_recipe(writer, parts)


def put_stream(writer: Writer, file: BinaryIO) -> FileContent:
    """Stores a file with flat memory."""
    head = file.read(SMALL)
    return put_bytes(writer, head) if len(head) < SMALL else put_rest(writer, head, file)


def put_rest(writer: Writer, head: bytes, file: BinaryIO) -> FileContent:
    """Stores a file of which the first ``SMALL`` bytes were read already."""
    cutter: Any = FastCDC(avg_size=AVERAGE, min_size=MIN, max_size=MAX)
    parts: list[tuple[Digest, int]] = []
    for cut in cutter.cut_stream(_Joined(head, file)):
        data = bytes(cut.data)
        parts.append((writer.put(Kind.CHUNK, data), len(data)))
    return _put_recipe(writer, parts)


def put_descriptor(writer: Writer, descriptor: int) -> FileContent:
    """Like ``put_stream``, for an open file."""
    with open(descriptor, "rb", buffering=0, closefd=False) as file:
        return put_stream(writer, file)


def append_bytes(store: ObjectStore, writer: Writer, content: FileContent, data: bytes) -> FileContent:
    """The file with bytes at its end, equal to the same bytes stored at once.

    A chunk's end depends on nothing before the chunk, so only the last one has to be cut anew.
    """
    if content.kind == Kind.CHUNK:
        return put_bytes(writer, store.get(content.id, Kind.CHUNK) + data)
    parts = recipe_parts(store, content.id)
    kept, (last, _) = parts[:-1], parts[-1]
    tail = memoryview(store.get(last, Kind.CHUNK) + data)
    cutter: Any = FastCDC(avg_size=AVERAGE, min_size=MIN, max_size=MAX)
    for cut in cutter.cut_buf(tail):
        piece = bytes(tail[cut.offset : cut.offset + cut.length])
        kept.append((writer.put(Kind.CHUNK, piece), cut.length))
    return _put_recipe(writer, kept)


def _put_recipe(writer: Writer, parts: list[tuple[Digest, int]]) -> FileContent:
    raw = _MAGIC + b"".join(_PART.pack(oid.raw, length) for oid, length in parts)
    return FileContent(kind=Kind.RECIPE, id=writer.put(Kind.RECIPE, raw), size=sum(length for _, length in parts))


def recipe_parts(store: ObjectStore, oid: Digest) -> list[tuple[Digest, int]]:
    raw = store.get(oid, Kind.RECIPE)
    if raw[:4] != _MAGIC[:4]:
        raise ObjectCorrupt(oid.short, "-", 0, "it does not begin like a recipe")
    if raw[4] > _MAGIC[4]:
        raise FormatTooNew(f"The recipe {oid.short}", raw[4], _MAGIC[4])
    return [(Digest(chunk), length) for chunk, length in _PART.iter_unpack(raw[len(_MAGIC) :])]


def chunks(store: ObjectStore, recipe: Digest) -> list[tuple[Kind, bytes]]:
    """What a recipe needs."""
    return [(Kind.CHUNK, oid.raw) for oid, _ in recipe_parts(store, recipe)]


def iterate(store: ObjectStore, content: FileContent) -> Iterator[bytes]:
    """The bytes of a file in pieces of at most 256 KiB, each verified."""
    if content.kind == Kind.CHUNK:
        yield store.get(content.id, Kind.CHUNK)
        return
    for oid, _ in recipe_parts(store, content.id):
        yield store.get(oid, Kind.CHUNK)


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
        return len(piece)


class _Joined:
    """The bytes that were read already, then the rest of the file."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head = io.BytesIO(head)
        self._rest = rest

    def read(self, size: int = -1) -> bytes:
        data = self._head.read(size)
        if size < 0 or len(data) < size:
            data += self._rest.read(size if size < 0 else size - len(data))
        return data

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
