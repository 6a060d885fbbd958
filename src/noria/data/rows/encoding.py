"""The canonical bytes of rows, and their hashes. Pinned by ``tests/golden/rows.json``.

A row is, with its columns in the schema's order: for every column one cell of fixed size, then the bytes of all
variable columns one after another. A cell is a tag byte (0 null, 1 value) and then

    bool, integers, date, datetime, duration, time     8 bytes, the integer (two's complement), little-endian
    floats                                             8 bytes, IEEE 754 double, every NaN as 7ff8000000000000
    text, bytes, decimal, list                         4 bytes, the length of the variable part, little-endian

Null cells are zero after the tag. Decimals are their text, lists their JSON. All rows are encoded at once with numpy.
"""

from __future__ import annotations

from typing import Any

import blake3
import numpy as np
import polars as pl
import pyarrow as pa

_INTEGERS = (
    pl.Boolean, pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64,
    pl.Date, pl.Time, pl.Datetime, pl.Duration,
)  # fmt: skip
MODULUS = 1 << 256
_AT_ONCE = 8192
"""Rows that are encoded at once: the arrays for them fit into the processor's caches, and memory stays small."""


def hash_rows(frame: pl.DataFrame) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """BLAKE3-256 of every row, as an array of shape [rows, 32], uint8."""
    hashes = b"".join(_hash_part(part) for part in frame.iter_slices(_AT_ONCE))
    return np.frombuffer(hashes, np.uint8).reshape(len(frame), 32)


def hash_ordered(frame: pl.DataFrame, first: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Row hashes of a table without a key: the row's number goes before its bytes, so that order counts."""
    return hash_rows(_numbered(frame, first))


def sum_rows(frame: pl.DataFrame, first: int | None = None) -> int:
    """The sum of all row hashes, without keeping them. ``first``: the number of the first row where order counts."""
    total, start = 0, first
    for part in frame.iter_slices(_AT_ONCE):
        rows = part
        if start is not None:
            rows = _numbered(part, start)
            start += len(part)
        total += sum_hashes(np.frombuffer(_hash_part(rows), np.uint8))
    return total % MODULUS


def _numbered(frame: pl.DataFrame, first: int) -> pl.DataFrame:
    return frame.select(pl.int_range(first, first + len(frame)).alias("__row"), pl.all())


def _hash_part(frame: pl.DataFrame) -> bytes:
    data, ends = encode_rows(frame)
    hasher, hashes, view, start = blake3.blake3, list[bytes](), memoryview(data), 0
    for end in ends.tolist():
        hashes.append(hasher(view[start:end]).digest())
        start = end
    return b"".join(hashes)


def sum_hashes(hashes: np.ndarray[Any, np.dtype[np.uint8]]) -> int:
    """The sum of row hashes (each a little-endian integer) modulo 2^256: the same in any order."""
    lanes = hashes.reshape(-1, 32).view("<u4").astype(np.uint64).sum(axis=0, dtype=np.uint64)
    return sum(int(lane) << (32 * position) for position, lane in enumerate(lanes.tolist())) % MODULUS


def encode_rows(frame: pl.DataFrame) -> tuple[bytes, np.ndarray[Any, np.dtype[np.int64]]]:
    """(bytes of all rows one after another, end of each row)."""
    rows = len(frame)
    # Two passes of Polars over all columns at once: a pass for each column would cost more than all the rest.
    present = frame.select(pl.all().is_not_null())
    plain = frame.select([_plain(name, dtype) for name, dtype in frame.schema.items()])
    cells: list[np.ndarray[Any, np.dtype[np.uint8]]] = []
    variable: list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]] = []
    for tags, series in zip(present.get_columns(), plain.get_columns(), strict=True):
        dtype = series.dtype
        if dtype in (pl.Int64, pl.UInt64):
            cells.append(_cell(tags, series.to_numpy().astype("<i8", copy=False), 8))
        elif dtype == pl.Float64:
            cells.append(_cell(tags, _float_bits(series), 8))
        else:
            lengths, data = _bytes_of(series)
            cells.append(_cell(tags, lengths.astype("<u4"), 4))
            variable.append((lengths, data))
    fixed = np.concatenate(cells, axis=1) if cells else np.zeros((rows, 0), np.uint8)
    if not variable:
        width = fixed.shape[1]
        return fixed.tobytes(), np.arange(1, rows + 1, dtype=np.int64) * width
    return _interleave(fixed, variable)


def _plain(name: str, dtype: pl.DataType) -> pl.Expr:
    """The column as 64-bit integers, doubles, text or bytes, without nulls."""
    column = pl.col(name)
    if isinstance(dtype, pl.UInt64):
        return column.fill_null(0)
    if isinstance(dtype, _INTEGERS):
        return column.to_physical().cast(pl.Int64).fill_null(0)
    if isinstance(dtype, pl.Float32 | pl.Float64):
        return column.cast(pl.Float64).fill_null(0.0)
    if isinstance(dtype, pl.Binary):
        return column.fill_null(b"")
    if isinstance(dtype, pl.List):
        column = pl.when(column.is_not_null()).then(pl.struct(column.alias("v")).struct.json_encode()).alias(name)
    return column.cast(pl.String).fill_null("")


def _interleave(
    fixed: np.ndarray[Any, Any], variable: list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]
) -> tuple[bytes, np.ndarray[Any, np.dtype[np.int64]]]:
    rows, width = fixed.shape
    sizes = np.full(rows, width, np.int64)
    for lengths, _ in variable:
        sizes += lengths
    ends = np.cumsum(sizes)
    starts = ends - sizes
    out = np.zeros(int(ends[-1]), np.uint8)
    out[(starts[:, None] + np.arange(width)).ravel()] = fixed.ravel()
    place = starts + width
    for lengths, data in variable:
        total = int(lengths.sum())
        if total:
            source = np.cumsum(lengths) - lengths
            out[np.repeat(place - source, lengths) + np.arange(total)] = data
        place = place + lengths
    return out.tobytes(), ends


def _cell(tags: pl.Series, values: np.ndarray[Any, Any], width: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    cell = np.empty((len(tags), 1 + width), np.uint8)
    cell[:, 0] = tags.to_numpy()
    cell[:, 1:] = values.view(np.uint8).reshape(-1, width)
    return cell


def _float_bits(series: pl.Series) -> np.ndarray[Any, Any]:
    values = series.to_numpy()
    return np.where(np.isnan(values), np.int64(0x7FF8000000000000), values.view("<i8"))


def _bytes_of(series: pl.Series) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """(length of each value, all bytes one after another)."""
    array: Any = series.rechunk().to_arrow()
    wide = pa.large_binary() if series.dtype == pl.Binary else pa.large_string()
    if array.type != wide:
        array = array.cast(wide)
    _, offsets, data = array.buffers()
    ends = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    raw = np.frombuffer(data, np.uint8)[ends[0] : ends[-1]] if data is not None else np.zeros(0, np.uint8)
    return np.diff(ends), raw
