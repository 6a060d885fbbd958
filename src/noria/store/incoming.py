"""A file that arrives piece by piece: pushed in by whoever receives it, where ``files.put_stream`` pulls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from noria.base.digest import Digest
from noria.store import files
from noria.store.objects import ObjectStore, Writer
from noria.store.records import FileContent, Kind

_TOGETHER: Final = 16


class Incoming:
    """Stores what it is given with flat memory; the same bytes get the same id as from ``files.put_stream``.

    Not thread-safe, but several threads may take turns. Dropped before ``finish``, it leaves only garbage.

    Attributes:
        size: bytes so far.
    """

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._parts: list[files.Part] = []
        self._waiting: list[bytes] = []
        self._held = 0
        self.size = 0

    def add(self, data: bytes) -> None:
        """The next bytes; some MiB at a time are cut and stored together."""
        self._waiting.append(data)
        self._held += len(data)
        self.size += len(data)
        if self._held >= files.WINDOW:
            self._cut(last=False)

    def finish(self) -> FileContent:
        """Stores the rest."""
        if self.size < files.SMALL:
            return files.put_bytes(self._writer, b"".join(self._waiting))
        self._cut(last=True)
        return files.put_recipe(self._writer, self._parts)

    def _cut(self, *, last: bool) -> None:
        data = memoryview(self._waiting[0] if len(self._waiting) == 1 else b"".join(self._waiting))
        pieces = files.cut(data)
        tail = data[:0]
        if not last:  # it may end where it does only because these bytes do
            tail = pieces.pop()
        oids = self._writer.put_chunks(pieces)
        self._parts += [(oid, len(piece)) for oid, piece in zip(oids, pieces, strict=True)]
        self._waiting, self._held = [bytes(tail)], len(tail)


def join(writer: Writer, store: ObjectStore, contents: Sequence[FileContent]) -> FileContent:
    """Stored files one behind the other as one, equal to the same bytes stored at once.

    A chunk's end depends on nothing before the chunk. So where two files meet, chunks are cut anew from the last one of
    the first file on, until one ends where one of the second file does; all others are taken over by their ids.
    """
    if sum(content.size for content in contents) < files.SMALL:
        return files.put_bytes(writer, b"".join(files.read_bytes(store, content) for content in contents))
    joiner = _Joiner(writer, store)
    for content in contents:
        if content.size:
            joiner.add(files.parts_of(store, content))
    return files.put_recipe(writer, joiner.parts)


class _Joiner:
    def __init__(self, writer: Writer, store: ObjectStore) -> None:
        self._writer = writer
        self._store = store
        self._made: tuple[bytes, bytes] | None = None  # id and bytes of the last chunk that was cut here
        self.parts: list[files.Part] = []

    def add(self, more: list[files.Part]) -> None:
        """Puts the chunks of a file behind those that are there."""
        if not self.parts:
            self.parts += more
            return
        held = self._last()
        start, end, taken = 0, len(held), 0  # of what is held, from the last chunk on; chunks of ``more`` in it
        ends: dict[int, int] = {}  # where so many of them end
        while True:
            some = more[taken : taken + _TOGETHER]
            views = self._store.views(Kind.CHUNK, [oid for oid, _ in some])
            held += b"".join([bytes(views[oid]) for oid, _ in some])
            for _, length in some:
                end, taken = end + length, taken + 1
                ends[end] = taken
            last = taken == len(more)
            pieces = files.cut(memoryview(held))
            if not last:
                pieces.pop()  # it may end where it does only because these bytes do
            for count, piece in enumerate(pieces, 1):
                start += len(piece)
                if start in ends:
                    self._put(pieces[:count])
                    self.parts += more[ends[start] :]
                    return
            self._put(pieces)
            held = held[sum(map(len, pieces)) :]

    def _last(self) -> bytes:
        """Takes the last chunk back."""
        oid, _ = self.parts.pop()
        if self._made is not None and self._made[0] == oid:
            return self._made[1]
        return bytes(self._store.view(Digest(oid), Kind.CHUNK))

    def _put(self, pieces: list[memoryview]) -> None:
        oids = self._writer.put_chunks(pieces)
        self.parts += [(oid, len(piece)) for oid, piece in zip(oids, pieces, strict=True)]
        if oids:
            self._made = oids[-1], bytes(pieces[-1])
