"""What the online store keeps for one use and one key: the rows that a request may still need, in one small blob.

    MessagePack [since, [column, ...]]       the columns are __id, __time, __known and then the use's own, sorted

``since`` (microseconds of event time): the slice is complete for moments from there on. Times are microseconds, dates
days. For ``asof`` the newest row before ``since`` is kept too.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from operator import itemgetter
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

    def recent(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The rows of a whole table that its slices would hold, and few more."""
        time = self.table.time
        if self.use.kind != "history" or time is None:
            return frame
        kept = pl.duration(microseconds=self._keep + (self.use.span_us or 0))
        return frame.filter(pl.col(time) > pl.col(time).max().over(self.on) - kept)

    def rows_of(self, rows: TableRows) -> dict[bytes, list[tuple[Any, ...]]]:
        """Key -> rows of the table, in the form of a slice and sorted as in one."""
        table = self.table
        keys = zip(*(rows.plain(name, table.columns[name]) for name in self.on), strict=True)
        times = rows.micros(table.time) if table.time else [0] * len(rows.frame)
        knowns = rows.micros(table.known) if table.known in rows.frame.columns else times
        columns = [rows.plain(name, table.columns[name]) for name in self.columns]
        grouped: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}
        for key, number, time, known, *values in zip(keys, rows.ids, times, knowns, *columns, strict=True):
            if time is not None and None not in key:
                row = (number, time, time if known is None else known, *values)
                grouped.setdefault(key, []).append(row)
        for found in grouped.values():
            found.sort(key=_MOMENTS)
        return {encode_key(key): found for key, found in grouped.items()}

    def changed(self, blob: bytes | None, added: Sequence[tuple[Any, ...]], removed: set[int]) -> bytes | None:
        """The slice with rows put in (sorted, as ``rows_of`` gives them) and taken out; None where nothing is left."""
        since, columns = msgspec.msgpack.decode(blob) if blob is not None else (-(1 << 62), [])
        if columns and removed and not removed.isdisjoint(columns[0]):
            columns = _columns_of_rows([row for row in zip(*columns, strict=True) if row[0] not in removed])
        if added:
            columns = _with_added(columns, added)
        if not columns:
            return None
        if self.table.time is not None:
            since = max(since, columns[1][-1] - self._keep)
            columns = self._trimmed(columns, since)
            if not columns[0]:
                return None
        return msgspec.msgpack.encode([since, columns])

    def _trimmed(self, columns: list[list[Any]], since: int) -> list[list[Any]]:
        """Without the rows that no request after ``since`` can need: some at the front, since they are sorted."""
        _, times, knowns, *_ = columns
        if self.use.kind == "history":
            first = bisect_right(times, since - (self.use.span_us or 0))
            return [column[first:] for column in columns] if first else columns
        before = bisect_right(times, since)
        old = [place for place in range(before) if knowns[place] <= since]
        if len(old) <= 1:
            return columns
        gone = set(old[:-1])
        kept = [place for place in range(len(times)) if place not in gone]
        return [[column[place] for place in kept] for column in columns]

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


class TableRows:
    """Rows of a table as plain values: each column is turned into them once, however many uses ask for it."""

    def __init__(self, frame: pl.DataFrame, key: Sequence[str]) -> None:
        self.frame = frame
        self._key = key
        self._plain: dict[tuple[str, str], list[Any]] = {}
        self._micros: dict[str, list[int | None]] = {}

    @cached_property
    def ids(self) -> list[int]:
        """A stable number for each row's key, so that a corrected row replaces the old one."""
        frame = self.frame
        names = list(self._key) or [c for c in frame.columns if not c.startswith("__")]
        columns = [self.plain(name, type_name(frame.schema[name], name)) for name in names]
        digest, encode = blake3.blake3, msgspec.msgpack.Encoder().encode
        found = b"".join(digest(encode(values)).digest(8) for values in zip(*columns, strict=True))
        return np.frombuffer(found, "<i8").tolist()

    def plain(self, name: str, kind: str) -> list[Any]:
        """The values of a column as they lie in the store."""
        found = self._plain.get((name, kind))
        if found is None:
            found = self._plain[name, kind] = _plain(self.frame.get_column(name), kind)
        return found

    def micros(self, name: str | None) -> list[int | None]:
        """A column of times as microseconds."""
        assert name is not None
        found = self._micros.get(name)
        if found is None:
            series = self.frame.get_column(name)
            if isinstance(series.dtype, pl.Datetime) and series.dtype.time_unit == "us":
                found = series.cast(pl.Int64).to_list()  # without an expression: those cost more than all the rest here
            else:
                found = self.frame.select(pl.col(name).dt.epoch("us")).to_series().to_list()
            self._micros[name] = found
        return found


_MOMENTS: Final = itemgetter(1, 2)


def _with_added(columns: list[list[Any]], added: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    """Columns of a slice with rows put in, sorted by event time and known-since time. Both are sorted already."""
    if not columns:
        return _columns_of_rows(added)
    if _MOMENTS(added[0]) >= (columns[1][-1], columns[2][-1]):  # the newest rows, nearly always
        for column, values in zip(columns, zip(*added, strict=True), strict=True):
            column.extend(values)
        return columns
    return _columns_of_rows(sorted([*zip(*columns, strict=True), *added], key=_MOMENTS))


def _columns_of_rows(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


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
