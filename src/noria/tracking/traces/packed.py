"""Spans of one batch as one value: ``NRTS``, a version byte, then MessagePack under zstd.

MessagePack and not JSON, since attributes may hold bytes, NaN and whole numbers of 64 bits.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from noria.base.errors import Unavailable
from noria.tracking.traces.records import Span

_HEAD: Final = b"NRTS\x01"
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[Span]).decode
MOST: Final = 256 << 20
"""Bytes of one batch when it is unpacked; what comes in is bounded far below."""
_local = threading.local()


class SpansDamaged(Unavailable):
    """A batch of spans cannot be read."""

    code = "spans_damaged"


def pack(spans: Sequence[Span]) -> bytes:
    return _HEAD + _pair()[0].compress(_encode(list(spans)))


def unpack(data: bytes) -> list[Span]:
    """The spans of a batch.

    Raises:
        SpansDamaged: it is none, or a newer noria wrote it.
    """
    import zstandard

    try:
        if data[: len(_HEAD)] != _HEAD:
            raise ValueError(f"it begins with {data[:5]!r}")
        return _decode(_pair()[1].decompress(data[len(_HEAD) :], max_output_size=MOST))
    except (ValueError, zstandard.ZstdError, msgspec.DecodeError) as error:
        raise SpansDamaged(
            f"A batch of spans cannot be read: {error}.", hint="Restore the database from a backup."
        ) from error


def _pair() -> tuple[Any, Any]:
    # A context is costly to make, and serves one thread at a time. Loaded with the first span: most processes see none.
    found: tuple[Any, Any] | None = getattr(_local, "pair", None)
    if found is None:
        import zstandard

        found = _local.pair = (zstandard.ZstdCompressor(level=1), zstandard.ZstdDecompressor())
    return found
