"""From a layout to rows."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import polars as pl
from pyroaring import BitMap

from noria.base.digest import Digest
from noria.base.times import parse_time
from noria.data.rows.layout import Fragment, Layout
from noria.data.rows.schema import KNOWN, SEQ, polars_type
from noria.store import Kind, ObjectStore

_CACHED_BYTES = 96 << 20
_MANY_ROWS = 1 << 20
_THREADS = 3

Flags = np.ndarray[Any, np.dtype[np.bool_]]


class TableReader:
    """Reads tables of one store. Keeps fragments that were read lately; they never change. Thread-safe."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._cache: OrderedDict[tuple[bytes, tuple[str, ...]], pl.DataFrame] = OrderedDict()
        self._cached_bytes = 0

    def read(
        self,
        layout: Layout,
        *,
        columns: Sequence[str] | None = None,
        hidden: bool = False,
        after_seq: int | None = None,
        times: tuple[int | None, int | None] = (None, None),
    ) -> pl.DataFrame:
        """The live rows, in the order in which they were written.

        Args:
            columns: only these; default all of the schema.
            hidden: with the hidden columns ``__known`` (where the table has one) and ``__seq``.
            after_seq: only rows that arrived in a later commit generation.
            times: only fragments that touch this range of event time (microseconds, both ends included); a coarse
                filter that saves reading, the caller filters the rows.
        """
        wanted = list(columns) if columns is not None else layout.schema.names
        extra = [*([KNOWN] if layout.schema.hides_known else []), SEQ] if hidden else []
        needed: list[str] = [*wanted, *extra]
        if after_seq is not None and SEQ not in needed:
            needed.append(SEQ)

        def part(fragment: Fragment) -> pl.DataFrame:
            found = self.live(layout, fragment, needed)
            if after_seq is not None and fragment.first_seq <= after_seq:
                found = found.filter(pl.col(SEQ) > after_seq)
            return found.select([*wanted, *extra])

        touched = [fragment for fragment in layout.fragments if _touches(fragment, after_seq, times)]
        if len(touched) > 1 and sum(fragment.rows for fragment in touched) > _MANY_ROWS:
            with ThreadPoolExecutor(_THREADS) as pool:  # one is fetched and checked while another one is decoded
                parts = [found for found in pool.map(part, touched) if len(found)]
        else:
            parts = [found for found in map(part, touched) if len(found)]
        if not parts:
            return empty_rows(layout, [*wanted, *extra])
        return pl.concat(parts, how="vertical") if len(parts) > 1 else parts[0]

    def live(self, layout: Layout, fragment: Fragment, names: Sequence[str] | None = None) -> pl.DataFrame:
        """The rows of a fragment that are not deleted; by default with all columns, hidden ones included."""
        frame = self.whole(layout, fragment, names)
        return frame.filter(pl.Series(self.keep(fragment))) if fragment.deleted else frame

    def whole(self, layout: Layout, fragment: Fragment, names: Sequence[str] | None = None) -> pl.DataFrame:
        """All rows of a fragment as its table has them, deleted ones included.

        Columns that were renamed or widened since the file was written are so here; those that were added hold their
        default.
        """
        names = all_names(layout) if names is None else list(dict.fromkeys(names))
        if not fragment.shape:
            return self.fragment(fragment.id, names).select(names)
        return shaped(layout, fragment, names, lambda columns: self.fragment(fragment.id, columns))

    def fragment(self, fragment_id: bytes, columns: Iterable[str] | None = None) -> pl.DataFrame:
        """All rows of a fragment, deleted ones included."""
        names = None if columns is None else tuple(dict.fromkeys(columns))
        key = (fragment_id, names or ())
        with self._lock:
            for have in (key, (fragment_id, ())):
                found = self._cache.get(have)
                if found is not None:
                    self._cache.move_to_end(have)
                    return found if names is None or have[1] else found.select(names)
        data = io.BytesIO(self._store.view(Digest(fragment_id), Kind.FRAGMENT))
        frame = pl.read_parquet(data, columns=None if names is None else list(names))
        self._keep(key, frame)
        return frame

    def remember(self, fragment_id: bytes, frame: pl.DataFrame) -> None:
        """What was just written is often read next."""
        self._keep((fragment_id, ()), frame)

    def _keep(self, key: tuple[bytes, tuple[str, ...]], frame: pl.DataFrame) -> None:
        with self._lock:
            size = int(frame.estimated_size())
            if key in self._cache or size > _CACHED_BYTES // 4:  # one large one would drive all others out
                return
            self._cache[key] = frame
            self._cached_bytes += size
            while self._cached_bytes > _CACHED_BYTES and len(self._cache) > 1:
                _, old = self._cache.popitem(last=False)
                self._cached_bytes -= int(old.estimated_size())

    def keep(self, fragment: Fragment) -> Flags:
        """For each row of a fragment whether it is not deleted."""
        return flags(fragment.rows, self.deleted(fragment))

    def deleted(self, fragment: Fragment) -> BitMap:
        if not fragment.deleted:
            return BitMap()
        return BitMap.deserialize(self._store.get(Digest(fragment.deleted), Kind.BLOB))


def sources(layout: Layout, fragment: Fragment, names: Iterable[str]) -> dict[str, tuple[str, str] | None]:
    """Column of the table -> (its name, its type) in the file of a fragment; None where the file lacks it."""
    types = dict(layout.columns)
    if not fragment.shape:
        return {name: (name, types.get(name, "")) for name in names}
    shape = {number: (name, kind) for number, name, kind in layout.shapes[fragment.shape - 1]}
    ids = dict(zip(types, layout.column_ids, strict=True))
    return {name: shape.get(ids[name]) if name in ids else (name, "") for name in names}


def shaped(
    layout: Layout, fragment: Fragment, names: Sequence[str], load: Callable[[list[str]], pl.DataFrame]
) -> pl.DataFrame:
    """The rows of a file with other columns, as the table has them; ``load`` reads columns of the file."""
    types, ids = dict(layout.columns), dict(zip((n for n, _ in layout.columns), layout.column_ids, strict=True))
    found = sources(layout, fragment, names)
    loaded = load([source for source, _ in dict.fromkeys(s for s in found.values() if s is not None)] or [SEQ])
    columns: list[pl.Series] = []
    for name in names:
        source = found[name]
        if source is None:
            value = default_value(layout.defaults.get(ids[name]), types[name])
            columns.append(value.alias(name).new_from_index(0, len(loaded)))
        else:
            column = loaded.get_column(source[0]).alias(name)
            columns.append(widened(column, types[name]) if name in types else column)
    return pl.DataFrame(columns)


def default_value(text: str | None, kind: str) -> pl.Series:
    """One value of a type, from text; null for None.

    Raises:
        PolarsError: the text is no such value.
    """
    dtype = polars_type(kind)
    value = pl.Series("", [text], dtype=pl.String)
    if text is None or dtype == pl.String:
        return value if dtype == pl.String else pl.Series("", [None], dtype=dtype)
    if dtype == pl.Boolean:
        return pl.Series("", [{"true": True, "false": False}[text.lower()]])
    if isinstance(dtype, pl.Datetime):
        return pl.Series("", [parse_time(text)]).cast(pl.Datetime("ms", "UTC" if dtype.time_zone else None)).cast(dtype)
    return value.str.to_date() if dtype == pl.Date() else value.cast(dtype, strict=True)


def widened(column: pl.Series, kind: str) -> pl.Series:
    """A column as the wider type, exactly.

    Raises:
        PolarsError: a value does not fit.
    """
    dtype = polars_type(kind)
    if column.dtype == dtype:
        return column
    if column.dtype == pl.Date and isinstance(dtype, pl.Datetime):
        return column.cast(pl.Datetime(dtype.time_unit)).dt.replace_time_zone(dtype.time_zone)
    return column.cast(dtype, strict=True)


def flags(rows: int, dead: BitMap) -> Flags:
    """For each row whether it is not in the bitmap."""
    keep = np.ones(rows, bool)
    keep[numbers(dead)] = False
    return keep


def numbers(bitmap: BitMap) -> np.ndarray[Any, np.dtype[np.int64]]:
    """What is in a bitmap, ascending."""
    return np.frombuffer(bitmap.to_array(), np.uint32).astype(np.int64)


def all_names(layout: Layout) -> list[str]:
    """The columns of a table, then the hidden ones."""
    return [*layout.schema.names, *([KNOWN] if layout.schema.hides_known else []), SEQ]


def empty_rows(layout: Layout, names: Sequence[str] | None = None) -> pl.DataFrame:
    """No rows; by default with all columns, hidden ones included."""
    types: dict[str, pl.DataType] = {**layout.schema.polars(), KNOWN: pl.Datetime("us", "UTC"), SEQ: pl.Int64()}
    return pl.DataFrame(schema={name: types[name] for name in names or all_names(layout)})


def _touches(fragment: Fragment, after_seq: int | None, times: tuple[int | None, int | None]) -> bool:
    if fragment.live == 0 or (after_seq is not None and fragment.last_seq <= after_seq):
        return False
    low, high = times
    if fragment.first_time is None or fragment.last_time is None:
        return True
    return (low is None or fragment.last_time >= low) and (high is None or fragment.first_time <= high)


def objects_of(layout_id: Digest, layout: Layout) -> Iterator[tuple[Kind, bytes]]:
    """Every object that a table needs."""
    yield Kind.TABLE, layout_id.raw
    for fragment in layout.fragments:
        yield Kind.FRAGMENT, fragment.id
        if fragment.deleted:
            yield Kind.BLOB, fragment.deleted
