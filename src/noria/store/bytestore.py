"""Where pack files lie. Six methods; everything richer is built once, in ``ObjectStore``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol


class ByteStore(Protocol):
    """Named, immutable files. Names are ours (``packs/ab/<hex>.pack``), never a client's.

    An implementation may be called from several threads at once. It retries what its medium wants retried, and
    raises ``Unavailable`` when it gives up.
    """

    def put(self, name: str, source: Path) -> None:
        """Takes over the file ``source``; when this returns, it is durable under ``name`` and ``source`` is gone.

        Putting the same name twice is allowed and has no effect: names are made from content.
        """
        ...

    def read(self, name: str, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes from ``offset``; fewer at the end; ``NotFound`` if there is no such file.

        A negative offset counts from the end.
        """
        ...

    def size(self, name: str) -> int: ...

    def list(self, prefix: str) -> Iterator[str]: ...

    def delete(self, name: str) -> None:
        """No error if it is gone already."""
        ...

    def local_path(self, name: str) -> Path | None:
        """A path to map into memory, or None where there is none."""
        ...
