"""Many points of one metric as one value: a few bytes a point instead of a row.

A block is ``NRMB``, a version byte, the number of points (4 bytes, little endian) and one zstd frame. The frame holds
three columns of 8-byte numbers: differences of times, differences of steps, values. Each column is written byte plane
by byte plane (all lowest bytes first), since the high bytes hardly change. Differences wrap around at 64 bits, so every
time and step comes back.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from noria.base.errors import Unavailable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Mark = tuple[int, int, float]
"""A point of a known metric: time, step, value."""

FOLD: Final = 512
"""A tail of so many rows becomes a block."""
DIRECT: Final = 64
"""So many points of one metric in one batch become a block at once."""
LARGEST: Final = 4_096
PART: Final = 8
"""Points of a metric whose rows lie together in the tail of a run, see ``tables.tail``."""
_HEADER: Final = struct.Struct("<4sBI")
_MAGIC: Final = b"NRMB"


class BlockDamaged(Unavailable):
    """A block of metric points cannot be read."""

    code = "metric_block_damaged"


@functools.cache
def _tools() -> tuple[Any, Any]:
    # Loaded with the first block: most processes never see one.
    import numpy
    import zstandard

    return numpy, zstandard


def encode(points: Sequence[Mark]) -> bytes:
    np, zstandard = _tools()
    at = np.array([p[0] for p in points], np.int64)
    step = np.array([p[1] for p in points], np.int64)
    value = np.array([p[2] for p in points], np.float64)
    with np.errstate(over="ignore"):
        columns = [np.diff(at, prepend=np.int64(0)), np.diff(step, prepend=np.int64(0)), value]
    planes = b"".join(c.view(np.uint8).reshape(-1, 8).T.tobytes() for c in columns)
    return _HEADER.pack(_MAGIC, 1, len(points)) + zstandard.ZstdCompressor(level=3).compress(planes)


def decode(data: bytes) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Times, steps and values.

    Raises:
        BlockDamaged: it is none, or a newer noria wrote it.
    """
    np, zstandard = _tools()
    try:
        magic, version, count = _HEADER.unpack_from(data)
        if magic != _MAGIC or version != 1:
            raise ValueError(f"it begins with {data[:5]!r}")
        planes = zstandard.ZstdDecompressor().decompress(data[_HEADER.size :], max_output_size=24 * count)
        found = np.frombuffer(planes, np.uint8).reshape(3, 8, count).transpose(0, 2, 1)
        columns = np.ascontiguousarray(found)
    except (ValueError, struct.error, zstandard.ZstdError) as error:
        raise BlockDamaged(
            f"A block of metric points cannot be read: {error}.", hint="Restore the database from a backup."
        ) from error
    at, step = (columns[n].view(np.int64).reshape(-1) for n in (0, 1))
    value = columns[2].view(np.float64).reshape(-1)
    return at.cumsum(dtype=np.int64), step.cumsum(dtype=np.int64), value


def marks(data: bytes) -> list[Mark]:
    """The points of a block, in the order in which they were logged."""
    at, step, value = decode(data)
    return list(zip(at.tolist(), step.tolist(), value.tolist(), strict=True))
