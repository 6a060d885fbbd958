"""What the online store keeps for one use and one key: the rows that a request may still need, in one small blob.

    MessagePack [since, [column, ...]]       the columns are __id, __time, __known and then the use's own, sorted

``since`` (microseconds of event time): the slice is complete for moments from there on. Times are microseconds, dates
days. For ``asof`` the newest row before ``since`` is kept too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import blake3
import msgspec
import numpy as np
import polars as pl

from noria.base.times import DAY
from noria.data.rows.schema import polars_type, type_name
from noria.features import kernels
from noria.features.errors import FeatureInvalid, TooFarBack
from noria.features.found import Online
from noria.features.kernels import Ints
from noria.features.tables_seen import Use

SLACK_US: Final = 2 * DAY * 1000
"""How much longer than its span a slice is kept, for requests about the recent past and for rows that come late."""
_NEVER: Final = kernels.never()


@dataclass(frozen=True, slots=True, kw_only=True)
class TableMeta:
    """What is known of a table without its rows.

    Attributes:
        columns: name -> type.
        known: the known-since column, hidden or not.
    """

    name: str
    key: tuple[str, ...]
    time: str | None
    known: str | None
    columns: Mapping[str, str]

    def as_value(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "key": list(self.key),
            "time": self.time,
            "known": self.known,
            "columns": dict(self.columns),
        }

    @classmethod
    def of(cls, value: dict[str, Any]) -> TableMeta:
        return cls(
            name=value["name"],
            key=tuple(value["key"]),
            time=value["time"],
            known=value["known"],
            columns=value["columns"],
        )


class Slicer:
    """Makes, changes and reads the slices of one use."""

    def __init__(self, use: Use, table: TableMeta) -> None:
        self.use = use
        self.table = table
        self.on = [b for _, b in use.on]
        self.columns = sorted(use.columns)
        for name in [*self.on, *self.columns]:
            kind = table.columns.get(name)
            if kind is None or kind.startswith(("list<", "decimal", "bytes")):
                raise FeatureInvalid(
                    f"The column {name!r} ({kind}) of {table.name} cannot be kept for single requests."
                )
        self._keep = (use.span_us or 0) + SLACK_US
        self._names = [table.time or "__time", table.known or "__known", *self.columns, *self.on]
        self._types = {name: table.columns.get(name, "datetime[us, UTC]") for name in self._names}

    # ---- writing

    def rows_of(self, frame: pl.DataFrame, ids: Ints | None = None) -> dict[bytes, list[tuple[Any, ...]]]:
        """Key -> rows of a frame of the table (hidden columns included), in the form of a slice.

        ``ids``: the rows' numbers (``row_ids``), where the caller has them.
        """
        table = self.table
        numbers = (row_ids(frame, table.key) if ids is None else ids).tolist()
        keys = zip(*(_plain(frame.get_column(name), table.columns[name]) for name in self.on), strict=True)
        times = _micros(frame, table.time) if table.time else [0] * len(frame)
        knowns = _micros(frame, table.known) if table.known in frame.columns else times
        columns = [_plain(frame.get_column(name), table.columns[name]) for name in self.columns]
        found: dict[bytes, list[tuple[Any, ...]]] = {}
        for number, key, time, known, *values in zip(numbers, keys, times, knowns, *columns, strict=True):
            if time is not None and None not in key:
                row = (number, time, time if known is None else known, *values)
                found.setdefault(encode_key(key), []).append(row)
        return found

    def changed(self, blob: bytes | None, added: Sequence[tuple[Any, ...]], removed: set[int]) -> bytes | None:
        """The slice with rows put in and taken out; None where nothing is left."""
        since, rows = _decode(blob) if blob is not None else (-(1 << 62), [])
        rows = [row for row in rows if row[0] not in removed]
        rows += added
        if not rows:
            return None
        rows.sort(key=lambda row: (row[1], row[2]))
        if self.table.time is not None:
            since = max(since, rows[-1][1] - self._keep)
            rows = self._trimmed(rows, since)
        return msgspec.msgpack.encode([since, [list(column) for column in zip(*rows, strict=True)]])

    def _trimmed(self, rows: list[tuple[Any, ...]], since: int) -> list[tuple[Any, ...]]:
        if self.use.kind == "history":
            return [row for row in rows if row[1] > since - (self.use.span_us or 0)]
        old = [row for row in rows if row[1] <= since and row[2] <= since]
        new = [row for row in rows if row[1] > since or row[2] > since]
        return [*old[-1:], *new]

    # ---- reading

    def keys(self, spine: pl.DataFrame, names: Sequence[str]) -> list[tuple[Any, ...] | None]:
        """The key of each row of a spine, as it lies in the store; None where a part of it is missing."""
        columns = [_plain(spine.get_column(a), self.table.columns[b]) for a, b in zip(names, self.on, strict=True)]
        return [None if None in key else key for key in zip(*columns, strict=True)]

    def found(self, keys: Sequence[tuple[Any, ...]], blobs: Sequence[bytes | None], asked: Ints, at: Ints) -> Online:
        """The rows of several keys, as a look-up finds them.

        Raises:
            TooFarBack: a moment lies before what a slice still holds.
        """
        earliest = min((a for a in at.tolist() if a != _NEVER), default=_NEVER)
        groups: list[int] = []
        sizes: list[int] = []
        parts: list[list[Any]] = []
        for number, (key, blob) in enumerate(zip(keys, blobs, strict=True)):
            if blob is None:
                continue
            since, columns = _columns_of.decode(blob)
            if earliest != _NEVER and earliest < since:
                raise TooFarBack(
                    f"A request asks for a moment of which the recent rows of {self.table.name} are no longer kept.",
                    hint="Rows of the past are scored in bulk: ws.training.score(model, features).",
                )
            size, _ = _array(columns[0])
            groups.append(number)
            sizes.append(size)
            parts.append([*columns[1:], *([value] * size for value in key)])
        times = _ints([part[0] for part in parts], sum(sizes))
        knowns = _ints([part[1] for part in parts], sum(sizes))
        group = np.repeat(np.array(groups, np.int64), sizes)
        index = kernels.sorted_index(np.arange(len(times)), group, times, knowns, asked)
        return Online(index, parts, self._names, self._series)

    def _series(self, name: str, values: list[Any]) -> pl.Series:
        return _series(values, self._types[name]).alias(name)


def row_ids(frame: pl.DataFrame, key: Sequence[str]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """A stable number for each row's key, so that a corrected row replaces the old one."""
    names = list(key) or [c for c in frame.columns if not c.startswith("__")]
    columns = [_plain(frame.get_column(name), type_name(frame.schema[name], name)) for name in names]
    digest, encode = blake3.blake3, msgspec.msgpack.Encoder().encode
    found = b"".join(digest(encode(values)).digest(8) for values in zip(*columns, strict=True))
    return np.frombuffer(found, "<i8")


def _micros(frame: pl.DataFrame, name: str | None) -> list[int | None]:
    """A column of times as microseconds."""
    assert name is not None
    series = frame.get_column(name)
    if isinstance(series.dtype, pl.Datetime) and series.dtype.time_unit == "us":
        return series.to_physical().to_list()  # without an expression: those cost more than all the rest here
    return frame.select(pl.col(name).dt.epoch("us")).to_series().to_list()


def encode_key(values: Sequence[Any]) -> bytes:
    return msgspec.msgpack.encode(list(values))


def _plain(series: pl.Series, kind: str) -> list[Any]:
    """The values of a key column as they lie in the store."""
    dtype = polars_type(kind)
    if series.dtype != dtype:
        series = series.cast(dtype)
    if dtype.is_temporal():
        name = series.name
        series = pl.DataFrame([series]).select(_physical(pl.col(name), kind)).to_series()
    return series.to_list()


def _physical(column: pl.Expr, kind: str) -> pl.Expr:
    if kind.startswith("datetime"):
        return column.dt.epoch("us")
    if kind == "date":
        return column.to_physical()
    if kind.startswith("duration"):
        return column.dt.total_microseconds()
    if kind == "time":
        return column.to_physical()
    return column


def _series(values: list[Any], kind: str) -> pl.Series:
    dtype = polars_type(kind)
    if isinstance(dtype, pl.Datetime):
        return pl.Series(values, dtype=pl.Int64).cast(pl.Datetime("us", dtype.time_zone)).cast(dtype)
    if isinstance(dtype, pl.Duration):
        return pl.Series(values, dtype=pl.Int64).cast(pl.Duration("us")).cast(dtype)
    if isinstance(dtype, pl.Date | pl.Time):
        return pl.Series(values, dtype=pl.Int64).cast(pl.Int32 if isinstance(dtype, pl.Date) else pl.Int64).cast(dtype)
    return pl.Series(values, dtype=dtype)


_columns_of: Final = msgspec.msgpack.Decoder(tuple[int, list[msgspec.Raw]])
"""The columns of a slice as they lie in it: most of them nobody asks for."""


def _array(column: msgspec.Raw) -> tuple[int, memoryview]:
    """(length, elements) of a MessagePack array."""
    data = memoryview(column)
    head = data[0]
    if head < 0xDC:
        return head & 0x0F, data[1:]
    width = 2 if head == 0xDC else 4
    return int.from_bytes(data[1 : 1 + width], "big"), data[1 + width :]


def _ints(columns: Sequence[msgspec.Raw], size: int) -> Ints:
    """The integers of several columns, one after another; ``size``: how many they are.

    In MessagePack an integer takes at most nine bytes: a mark, and eight that are the number. Times nearly always
    take nine, and then the numbers are where they are.
    """
    data = b"".join(_array(column)[1] for column in columns)
    if len(data) == _WIDE.itemsize * size:
        return np.frombuffer(data, _WIDE)["number"].astype(np.int64)
    return np.fromiter(chain.from_iterable(msgspec.msgpack.decode(column) for column in columns), np.int64, size)


_WIDE: Final = np.dtype([("mark", "u1"), ("number", ">i8")])


def _decode(blob: bytes) -> tuple[int, list[tuple[Any, ...]]]:
    since, columns = msgspec.msgpack.decode(blob)
    return since, list(zip(*columns, strict=True))
