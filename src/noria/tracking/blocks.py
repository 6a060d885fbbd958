"""Many points of one metric as one value: a few bytes a point instead of a row.

A block is ``NRMB``, a version byte, the number of points (4 bytes, little endian) and one zstd frame. The frame holds
three columns of 8-byte numbers: differences of times, differences of steps, values. Each column is written byte plane
by byte plane (all lowest bytes first), since the high bytes hardly change. Differences wrap around at 64 bits, so every
time and step comes back.

A bundle holds a few points of each of many metrics. It is ``NRMM``, a version byte, the numbers of metrics and of
points (4 bytes each) and one zstd frame: differences of the metrics' keys, how many points each has, and then the three
columns of all points, metric after metric. Metrics that were logged together repeat each other's times and steps, which
then take next to nothing.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Mapping, Sequence
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
_BUNDLE: Final = struct.Struct("<4sBII")
_BUNDLE_MAGIC: Final = b"NRMM"


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
    _, zstandard = _tools()
    planes = b"".join(_planes(column) for column in _columns(points))
    return _HEADER.pack(_MAGIC, 1, len(points)) + zstandard.ZstdCompressor(level=3).compress(planes)


def _columns(points: Sequence[Mark]) -> list[Any]:
    np, _ = _tools()
    at = np.array([p[0] for p in points], np.int64)
    step = np.array([p[1] for p in points], np.int64)
    with np.errstate(over="ignore"):
        return [_differences(at), _differences(step), np.array([p[2] for p in points], np.float64)]


def _differences(column: Any) -> Any:
    np, _ = _tools()
    return np.diff(column, prepend=np.int64(0))


def _planes(column: Any) -> bytes:
    return column.view("u1").reshape(-1, 8).T.tobytes()


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
        raise _damaged(error) from error
    at, step = (columns[n].view(np.int64).reshape(-1) for n in (0, 1))
    value = columns[2].view(np.float64).reshape(-1)
    return at.cumsum(dtype=np.int64), step.cumsum(dtype=np.int64), value


def marks(data: bytes) -> list[Mark]:
    """The points of a block, in the order in which they were logged."""
    at, step, value = decode(data)
    return list(zip(at.tolist(), step.tolist(), value.tolist(), strict=True))


def encode_bundle(metrics: Mapping[int, Sequence[Mark]]) -> bytes:
    """Points by metric, the metrics in the order of their keys; none is empty."""
    np, zstandard = _tools()
    keys = np.array(list(metrics), np.int64)
    counts = np.array([len(points) for points in metrics.values()], np.int64)
    whole = [mark for points in metrics.values() for mark in points]
    planes = b"".join(_planes(column) for column in (_differences(keys), counts, *_columns(whole)))
    head = _BUNDLE.pack(_BUNDLE_MAGIC, 1, len(keys), len(whole))
    return head + zstandard.ZstdCompressor(level=3).compress(planes)


def decode_bundle(data: bytes) -> dict[int, list[Mark]]:
    """Points by metric, each in the order in which they were logged.

    Raises:
        BlockDamaged: it is none, or a newer noria wrote it.
    """
    keys, ends, columns = _opened(data)
    whole = list(zip(*(column.tolist() for column in columns), strict=True))
    begins = [0, *ends[:-1].tolist()]
    return {key: whole[first:end] for key, first, end in zip(keys.tolist(), begins, ends.tolist(), strict=True)}


def bundled_marks(data: bytes, key: int) -> list[Mark]:
    """The points of one metric of a bundle; none where it has no such metric.

    Raises:
        BlockDamaged: it is none, or a newer noria wrote it.
    """
    keys, ends, columns = _opened(data)
    n = int(keys.searchsorted(key))
    if n == len(keys) or keys[n] != key:
        return []
    part = slice(int(ends[n - 1]) if n else 0, int(ends[n]))
    return list(zip(*(column[part].tolist() for column in columns), strict=True))


def _opened(data: bytes) -> tuple[Any, Any, tuple[Any, Any, Any]]:
    """Keys, the ends of their points, and times, steps and values of all points."""
    np, zstandard = _tools()
    try:
        magic, version, metrics, count = _BUNDLE.unpack_from(data)
        if magic != _BUNDLE_MAGIC or version != 1:
            raise ValueError(f"it begins with {data[:5]!r}")
        size = 8 * (2 * metrics + 3 * count)
        raw = zstandard.ZstdDecompressor().decompress(data[_BUNDLE.size :], max_output_size=size)
        planes = np.frombuffer(raw, np.uint8)
        heads = np.ascontiguousarray(planes[: 16 * metrics].reshape(2, 8, metrics).transpose(0, 2, 1))
        columns = np.ascontiguousarray(planes[16 * metrics :].reshape(3, 8, count).transpose(0, 2, 1))
    except (ValueError, struct.error, zstandard.ZstdError) as error:
        raise _damaged(error) from error
    keys, counts = (heads[n].view(np.int64).reshape(-1) for n in (0, 1))
    at, step = (columns[n].view(np.int64).reshape(-1).cumsum(dtype=np.int64) for n in (0, 1))
    return keys.cumsum(), counts.cumsum(), (at, step, columns[2].view(np.float64).reshape(-1))


def _damaged(error: Exception) -> BlockDamaged:
    return BlockDamaged(
        f"A block of metric points cannot be read: {error}.", hint="Restore the database from a backup."
    )
