"""A file that arrives piece by piece: pushed in by whoever receives it, where ``files.put_stream`` pulls."""

from __future__ import annotations

from noria.store import files
from noria.store.objects import Writer
from noria.store.records import FileContent


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
