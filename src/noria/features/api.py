"""``nr.asof`` and ``nr.history``: how a features function looks into other tables."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import polars as pl

from noria.base.errors import Invalid
from noria.base.names import nearest
from noria.base.times import parse_duration
from noria.features import kernels
from noria.features.errors import FeatureInvalid
from noria.features.found import Found, with_missing
from noria.features.kernels import Ints
from noria.features.tables_seen import Use, WholeTable

Frame: TypeAlias = "pl.LazyFrame | pl.DataFrame"
On: TypeAlias = "str | Sequence[str] | Mapping[str, str]"
AGGREGATES = ("count", "sum", "mean", "min", "max", "last")


def asof(
    left: Frame,
    right: Any,
    *,
    on: On,
    at: pl.Expr,
    columns: Sequence[str] | None = None,
    prefix: str = "",
    tolerance: str | None = None,
) -> pl.LazyFrame:
    """Adds to each row the newest row of a table that was known at that moment.

    Args:
        left: the spine.
        right: a table of the project. In a unit test a plain frame: the source of the same name in the function's
            module says which column is its time.
        on: the key: a column, several, or spine column -> table column.
        at: an expression over the spine: the moment.
        columns: which columns to add; default all but the key, the time and the known-since time.
        prefix: put before the names of the added columns.
        tolerance: rows older than this do not count, for instance ``"3h"``.
    """
    spine = _spine(left)
    table = _table(right)
    pairs = _pairs(on, spine.frame, table)
    taken = _columns(table, pairs, columns)
    span = None if tolerance is None else parse_duration(tolerance) * 1000
    use = Use(table=table.name, kind="asof", on=pairs, columns=tuple(taken), span_us=span)
    moments = spine.moments(at)
    found = table.find(use, spine.frame, moments)
    places = kernels.last_known(found.index, moments, span)
    return spine.with_added([found.taken(name, places).alias(prefix + name) for name in taken])


def history(
    left: Frame, right: Any, *, on: On, at: pl.Expr, window: str, **aggregates: tuple[str, Any] | str
) -> pl.LazyFrame:
    """Adds aggregates over the past of a key: the rows in (at - window, at] by event time that were known at ``at``.

    Args:
        aggregates: name of the new column -> ``("mean", "delay")``, ``("sum", pl.col("delay") > 15)`` or ``"count"``;
            one of count, sum, mean, min, max, last, of a column or of an expression over the table's rows.

    Sums and means of whole numbers are exact, so that bulk and single requests agree to the last bit.
    """
    if not aggregates:
        raise FeatureInvalid("nr.history adds nothing.", hint='carrier_delay=("mean", "delay")')
    spine = _spine(left)
    table = _table(right)
    pairs = _pairs(on, spine.frame, table)
    wanted = {name: _aggregate(name, value) for name, value in aggregates.items()}
    names = _known_columns(table)
    read = sorted({c for _, e in wanted.values() if e is not None for c in e.meta.root_names()})
    for column in read:
        if names is not None and column not in names:
            raise FeatureInvalid(f"{table.name} has no column {column!r}.", hint=nearest(column, names))
    span = parse_duration(window) * 1000
    use = Use(table=table.name, kind="history", on=pairs, columns=tuple(read), span_us=span)
    moments = spine.moments(at)
    found = table.find(use, spine.frame, moments)
    spans = kernels.windows(found.index, moments, span)
    values = _evaluated(found, {name: e for name, (_, e) in wanted.items() if e is not None}, read)
    hows = {name: how for name, (how, _) in wanted.items()}
    return spine.with_added(_aggregated(hows, values, found.index, spans, moments))


def _evaluated(found: Found, wanted: Mapping[str, pl.Expr], read: Sequence[str]) -> dict[str, pl.Series]:
    """The values that are aggregated, in sorted order; all expressions of one call at once."""
    columns = {name: found.column(name) for name in read}
    plain = {name: e.meta.root_names()[0] for name, e in wanted.items() if e.meta.is_column()}
    made = {name: columns[column] for name, column in plain.items()}
    rest = [e.alias(name) for name, e in wanted.items() if name not in plain]
    if rest:
        frame = pl.DataFrame([series.alias(name) for name, series in columns.items()])
        for series in frame.select_seq(rest).get_columns():
            # an expression without a column, such as a literal, has one value for all rows
            short = len(series) == 1 and len(frame) != 1
            made[series.name] = series.extend_constant(series[0], len(frame) - 1) if short and len(frame) else series
    return made


def _aggregate(name: str, value: Any) -> tuple[str, pl.Expr | None]:
    if value == "count":
        return "count", None
    if not (isinstance(value, tuple) and len(value) == 2) or value[0] not in AGGREGATES:
        raise FeatureInvalid(
            f"{name}={value!r} is not an aggregate.", hint='("mean", "delay"), ("sum", pl.col("delay") > 15) or "count"'
        )
    how, what = value
    expression = pl.col(what) if isinstance(what, str) else what
    if not isinstance(expression, pl.Expr):
        raise FeatureInvalid(f"{name} aggregates {what!r}, which is neither a column nor an expression.")
    return how, expression


def _aggregated(
    hows: Mapping[str, str], values: Mapping[str, pl.Series], index: kernels.Index, spans: kernels.Windows, at: Ints
) -> list[pl.Series]:
    """The aggregates of one call. Whole numbers are added up all in one go, and rows without gaps counted once."""
    columns: dict[tuple[str, str], Ints] = {}
    counted: dict[str, tuple[str, str]] = {}
    for name, how in hows.items():
        series = values.get(name)
        if how != "count" and not (how in ("sum", "mean") and series is not None and _is_whole(series)):
            continue
        counted[name] = place = (name if series is not None and series.null_count() else "", "count")
        if place not in columns:
            columns[place] = (
                np.ones(len(index.order), np.int64) if series is None else _present(series).astype(np.int64)
            )
        if how != "count" and series is not None:
            columns[name, "sum"] = _filled(series.cast(pl.Int64), 0)
    sums = dict(zip(columns, kernels.whole_sums(index, spans, at, list(columns.values())), strict=True))
    made: list[pl.Series] = []
    for name, how in hows.items():
        if name not in counted:
            made.append(_by_segment(name, how, values[name], _present(values[name]), index, spans, at))
        elif how == "mean":
            made.append(_mean(name, sums[name, "sum"], sums[counted[name]]))
        else:
            made.append(pl.Series(name, sums[counted[name] if how == "count" else (name, "sum")]))
    return made


def _is_whole(values: pl.Series) -> bool:
    return values.dtype == pl.Boolean or values.dtype.is_integer()


def _present(values: pl.Series) -> Any:
    return values.is_not_null().to_numpy() if values.null_count() else np.ones(len(values), bool)


def _filled(values: pl.Series, with_: Any) -> Any:
    return (values.fill_null(with_) if values.null_count() else values).to_numpy()


def _mean(name: str, sums: Any, counts: Ints) -> pl.Series:
    means = np.divide(sums, counts, out=np.zeros(len(sums)), where=counts > 0)
    return with_missing(name, means, counts > 0)


def _by_segment(
    name: str, how: str, values: pl.Series, present: Any, index: kernels.Index, spans: kernels.Windows, at: Ints
) -> pl.Series:
    """Aggregates that look at each visible row: of floats, and min, max, last of anything."""
    size = len(at)
    if how == "last":
        chosen = np.full(size, -1, np.int64)
        for rows, starts, places in kernels.segments(index, spans, at):
            chosen[rows] = places[np.append(starts[1:], len(places)) - 1]
        if not len(values):
            return values.clear(size).alias(name)
        return values.gather(with_missing("", np.maximum(chosen, 0), chosen >= 0)).alias(name)
    dtype = values.dtype
    if not dtype.is_numeric() and not dtype.is_temporal() and dtype != pl.Boolean:
        raise FeatureInvalid(f"{name}: {how} needs numbers or times, not {dtype}.")
    floats = dtype.is_float()
    numbers = _filled(values.cast(pl.Float64), 0.0) if floats else _filled(values.to_physical().cast(pl.Int64), 0)
    neutral: Any = {"sum": 0, "mean": 0, "min": np.inf if floats else _BIG, "max": -np.inf if floats else -_BIG}[how]
    result = np.full(size, neutral, numbers.dtype)
    counts = np.zeros(size, np.int64)
    reduce_ = {"sum": np.add, "mean": np.add, "min": np.minimum, "max": np.maximum}[how]
    masked = np.where(present, numbers, neutral)
    for rows, starts, places in kernels.segments(index, spans, at):
        result[rows] = reduce_.reduceat(masked[places], starts)
        counts[rows] = np.add.reduceat(present[places].astype(np.int64), starts)
    if how == "mean":
        return _mean(name, result, counts)
    series = pl.Series(name, result) if how == "sum" else with_missing(name, result, counts > 0)
    if not floats:
        series = series.cast(dtype) if dtype != pl.Boolean else series.cast(pl.Boolean)
    return series


_BIG = np.iinfo(np.int64).max


# ---- what was passed


_ATTRIBUTE: Final = "_noria_spine"


class Spine:
    """A spine on its way through a features function.

    It rides on the LazyFrames that ``asof`` and ``history`` return, so that the next one need not compute the frame
    and the moments again: for one row that is most of the time. Whatever else is done to such a LazyFrame gives a
    new one, without it.
    """

    __slots__ = ("_moments", "frame")

    def __init__(self, frame: pl.DataFrame, moments: dict[int | str, tuple[pl.Expr, Ints]] | None = None) -> None:
        self.frame = frame
        self._moments = {} if moments is None else moments

    def moments(self, at: Any) -> Ints:
        """The moment of each row, microseconds; the rows do not change, so each expression is computed once."""
        plain = isinstance(at, pl.Expr) and at.meta.is_column()
        key = at.meta.output_name() if plain else id(at)
        found = self._moments.get(key)
        if found is None:
            found = self._moments[key] = (at, _moments(self.frame, at))
        return found[1]

    def with_added(self, added: list[pl.Series]) -> pl.LazyFrame:
        there = set(self.frame.columns)
        for series in added:
            if series.name in there:
                raise FeatureInvalid(
                    f"The column {series.name!r} is there already.",
                    hint="Use prefix=, or another name for the aggregate.",
                )
        return Spine(self.frame.hstack(added), self._moments).lazy()

    def lazy(self) -> pl.LazyFrame:
        made = self.frame.lazy()
        setattr(made, _ATTRIBUTE, self)
        return made


def _spine(left: Any) -> Spine:
    found = getattr(left, _ATTRIBUTE, None)
    if isinstance(found, Spine):
        return found
    if isinstance(left, pl.LazyFrame):
        return Spine(collected(left))
    if isinstance(left, pl.DataFrame):
        return Spine(left)
    raise FeatureInvalid(f"The spine is a {type(left).__name__}; a Polars frame is needed.")


def collected(lazy: pl.LazyFrame) -> pl.DataFrame:
    """By the one engine for many rows and for one; the other one takes four times as long for one."""
    return lazy.collect(engine="in-memory")


def _table(right: Any) -> Any:
    if hasattr(right, "find") and hasattr(right, "time"):
        return right
    if not isinstance(right, pl.LazyFrame | pl.DataFrame):
        raise FeatureInvalid(f"The table is a {type(right).__name__}; pass it as the function got it.")
    caller = sys._getframe(2)
    source: Any = None
    for name, value in caller.f_locals.items():
        if value is right:
            source = caller.f_globals.get(name) or caller.f_globals.get(f"{name}_source")
    frame = collected(right) if isinstance(right, pl.LazyFrame) else right
    time = getattr(source, "time", None)
    if not getattr(type(source), "__noria_inert__", False):
        times = [n for n, d in frame.schema.items() if isinstance(d, pl.Datetime)]
        if len(times) != 1:
            raise FeatureInvalid(
                f"Which of {times or frame.columns} is the time of this table is not known.",
                hint="In a unit test the parameter has to be named like the source, in the module that declares it.",
            )
        time = times[0]
    name = getattr(source, "name", "table")
    return WholeTable(name=name, frame=frame, time=time, known=getattr(source, "known", None))


def _known_columns(table: Any) -> list[str] | None:
    frame = getattr(table, "frame", None)
    return None if frame is None else [c for c in frame.columns if not c.startswith("__")]


def _pairs(on: On, spine: pl.DataFrame, table: Any) -> tuple[tuple[str, str], ...]:
    if isinstance(on, str):
        pairs = ((on, on),)
    elif isinstance(on, Mapping):
        pairs = tuple(on.items())
    else:
        pairs = tuple((name, name) for name in on)
    names = _known_columns(table)
    for a, b in pairs:
        if a not in spine.columns:
            raise FeatureInvalid(f"The spine has no column {a!r} (on=).", hint=nearest(a, spine.columns))
        if names is not None and b not in names:
            raise FeatureInvalid(f"{table.name} has no column {b!r} (on=).", hint=nearest(b, names))
    return pairs


def _columns(table: Any, pairs: Sequence[tuple[str, str]], columns: Sequence[str] | None) -> list[str]:
    names = _known_columns(table)
    if columns is None:
        if names is None:
            return table.default_columns([b for _, b in pairs])
        skipped = {*(b for _, b in pairs), table.time, table.known}
        return [n for n in names if n not in skipped]
    for name in columns:
        if names is not None and name not in names:
            raise FeatureInvalid(f"{table.name} has no column {name!r}.", hint=nearest(name, names))
    return list(columns)


def _moments(spine: pl.DataFrame, at: Any) -> Ints:
    if not isinstance(at, pl.Expr):
        raise FeatureInvalid(f"at={at!r} is not an expression.", hint='at=pl.col("scheduled_departure")')
    try:
        # a column alone needs no query, which takes ten times as long
        plain = at.meta.is_column() and at.meta.output_name() in spine.columns
        found = spine.get_column(at.meta.output_name()) if plain else spine.select(at).to_series()
    except pl.exceptions.PolarsError as error:
        raise FeatureInvalid(f"at= does not fit the spine: {str(error).splitlines()[0]}") from None
    if not isinstance(found.dtype, pl.Datetime):
        raise Invalid(f"at= gives {found.dtype}, not a time.")
    return _filled(found.cast(pl.Datetime("us", found.dtype.time_zone)).cast(pl.Int64), kernels.never())
