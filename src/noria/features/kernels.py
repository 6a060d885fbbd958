"""Point-in-time look-ups on numpy arrays: the same code for a million rows and for one.

A row of a table has an event time and a known-since time. At the moment ``at`` it is visible if its event time and
its known-since time are both not later (reference studio.md, section 1).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl

Ints = np.ndarray[Any, np.dtype[np.int64]]
_PAIRS: Final = 500_000


@dataclass(frozen=True, slots=True)
class Index:
    """Rows of a table, sorted by (group, event time, known-since, row), and the questions about them.

    Attributes:
        order: row numbers of the table in sorted order.
        groups, times, knowns: of the sorted rows; times in microseconds.
        ranks: group and rank of the event time in one integer, for binary search.
        moments: the distinct event times.
        asked: group of each row of the spine, -1 where no row of the table has its key.
    """

    order: Ints
    groups: Ints
    times: Ints
    knowns: Ints
    ranks: Ints
    moments: Ints
    asked: Ints

    def upto(self, at: Ints) -> Ints:
        """For each spine row: how many sorted rows come before the first one of its group later than ``at``."""
        rank = np.searchsorted(self.moments, at, side="right")
        return np.searchsorted(self.ranks, self.asked * (len(self.moments) + 1) + rank, side="right")


def index(
    spine: pl.DataFrame,
    table: pl.DataFrame,
    on: Sequence[tuple[str, str]],
    time: str | None,
    known: str | None,
    between: tuple[int, int] | None = None,
) -> Index:
    """Groups and sorts the rows of a table whose key occurs in the spine.

    Args:
        on: (column of the spine, column of the table) pairs.
        between: event times (microseconds) outside of which no row can be asked for, so that few moments need not
            sort the whole table.
    """
    left = [a for a, _ in on]
    keys = spine.select(left).unique().with_row_index("__group")
    asked = spine.select(left).join(keys, on=left, how="left", maintain_order="left")["__group"]
    wanted = [_micros(time).alias("__time"), _micros(known or time).alias("__known")]
    rows = table.select([*(pl.col(b).alias(a) for a, b in on), *wanted]).with_row_index("__row")
    if between is not None:
        rows = rows.filter(pl.col("__time").is_between(*between))
    rows = (
        rows.join(keys, on=left, how="inner")
        .drop_nulls("__time")
        .select(
            pl.col("__group").cast(pl.Int64),
            pl.col("__time"),
            pl.col("__known"),
            pl.col("__row").cast(pl.Int64),
        )
        .sort("__group", "__time", "__known", "__row")
    )
    groups, times = rows["__group"].to_numpy(), rows["__time"].to_numpy()
    # a row without a known-since time was known when it happened
    knowns = rows["__known"].fill_null(0).to_numpy()
    order, who = rows["__row"].to_numpy(), asked.cast(pl.Int64).fill_null(-1).to_numpy()
    return sorted_index(order, groups, times, knowns, who)


def sorted_index(order: Ints, groups: Ints, times: Ints, knowns: Ints, asked: Ints) -> Index:
    """The index of rows that are sorted already."""
    ordered = np.sort(times)  # np.unique hashes first, which takes twice as long
    first = np.ones(len(ordered), bool)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    moments = ordered[first]
    ranks = groups * (len(moments) + 1) + np.searchsorted(moments, times, side="left") + 1
    return Index(order=order, groups=groups, times=times, knowns=knowns, ranks=ranks, moments=moments, asked=asked)


def _micros(column: str | None) -> pl.Expr:
    """A time column as microseconds; a table without times was always known."""
    return pl.lit(0, pl.Int64) if column is None else pl.col(column).dt.epoch("us")


def last_known(found: Index, at: Ints, tolerance_us: int | None = None) -> Ints:
    """For each spine row: the place of the row with the latest event time that was visible at ``at``; -1 for none.

    Of several rows with the same event time the one that became known last (a correction) wins, then the later row.
    """
    if not len(found.order):
        return np.full(len(at), -1, np.int64)
    spot = found.upto(at) - 1
    open_ = np.nonzero((found.asked >= 0) & (spot >= 0) & (at != _NEVER))[0]
    result = np.full(len(at), -1, np.int64)
    while len(open_):
        # Step back while the row belongs to the group and was not known yet.
        place = spot[open_]
        mine = (place >= 0) & (found.groups[np.maximum(place, 0)] == found.asked[open_])
        known = mine & (found.knowns[np.maximum(place, 0)] <= at[open_])
        done = open_[known]
        result[done] = spot[done]
        open_ = open_[mine & ~known]
        spot[open_] -= 1
    if tolerance_us is not None:
        hit = result >= 0
        old = np.zeros(len(at), bool)
        old[hit] = at[hit] - found.times[result[hit]] > tolerance_us
        result[old] = -1
    return result


_NEVER: Final = np.iinfo(np.int64).min


def reach(at: Ints, span_us: int | None) -> tuple[int, int] | None:
    """The event times that look-ups at these moments can see: None where there is no bound or no moment."""
    moments = at[at != _NEVER]
    if span_us is None or not len(moments):
        return None
    return int(moments.min()) - span_us, int(moments.max())


@dataclass(frozen=True, slots=True)
class Windows:
    """For each spine row the sorted table rows in (at - window, at] by event time: [low, high)."""

    low: Ints
    high: Ints


def windows(found: Index, at: Ints, window_us: int) -> Windows:
    visible = (found.asked >= 0) & (at != _NEVER)
    low = found.upto(np.where(visible, at - window_us, _NEVER + window_us))
    high = np.maximum(low, found.upto(at))
    return Windows(np.where(visible, low, 0), np.where(visible, high, 0))


def whole_sums(found: Index, spans: Windows, at: Ints, columns: Sequence[Ints]) -> list[Ints]:
    """Exact sums of integers over the visible rows of each window, for columns in sorted order.

    Running totals answer for the rows that are certainly known; only the newest rows, and the few that became known
    unusually late, are looked at one by one.
    """
    if not columns:
        return []
    delays = np.maximum(found.knowns - found.times, 0)
    usual = _usual(delays)
    late = delays > usual
    some_late = bool(late.any())
    sure = np.clip(found.upto(np.where(at == _NEVER, _NEVER, at - usual)), spans.low, spans.high)
    results: list[Ints] = []
    for values in columns:
        totals = np.zeros(len(values) + 1, np.int64)
        np.cumsum(np.where(late, 0, values) if some_late else values, out=totals[1:])
        results.append(totals[sure] - totals[spans.low])
    for rows, places in _pairs(sure, spans.high):
        _add_visible(results, columns, rows, places, (found.knowns[places] <= at[rows]) & ~late[places])
    if some_late:
        places_late = np.nonzero(late)[0]
        low, high = np.searchsorted(places_late, spans.low), np.searchsorted(places_late, spans.high)
        for rows, positions in _pairs(low, high):
            places = places_late[positions]
            _add_visible(results, columns, rows, places, found.knowns[places] <= at[rows])
    return results


def _add_visible(
    results: Sequence[Ints], columns: Sequence[Ints], rows: Ints, places: Ints, visible: np.ndarray[Any, Any]
) -> None:
    rows, places = rows[visible], places[visible]
    for result, values in zip(results, columns, strict=True):
        np.add.at(result, rows, values[places])


def _usual(delays: Ints) -> int:
    """A delay that at most a hundredth of the rows exceed."""
    if not len(delays):
        return 0
    rank = int(0.99 * (len(delays) - 1))
    return int(np.partition(delays, rank)[rank])


def _pairs(low: Ints, high: Ints) -> Iterator[tuple[Ints, Ints]]:
    """(spine row, position) for every position in [low, high) of each row, in batches of bounded size."""
    counts = np.maximum(high - low, 0)
    ends = np.cumsum(counts)
    start = 0
    while start < len(counts):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + _PAIRS, side="right")))
        part = counts[start:stop]
        total = int(part.sum())
        if total:
            rows = np.repeat(np.arange(start, stop), part)
            first = np.repeat(np.cumsum(part) - part, part)
            yield rows, np.arange(total) - first + np.repeat(low[start:stop], part)
        start = stop


def segments(found: Index, spans: Windows, at: Ints) -> Iterator[tuple[Ints, Ints, Ints]]:
    """Batches of (spine rows, start of each one's segment, positions of visible rows); empty ones are left out."""
    for rows, places in _pairs(spans.low, spans.high):
        visible = found.knowns[places] <= at[rows]
        rows, places = rows[visible], places[visible]
        if len(rows):
            starts = np.nonzero(np.concatenate([[True], rows[1:] != rows[:-1]]))[0]
            yield rows[starts], starts, places


def never() -> int:
    """The value of ``at`` that means: unknown, nothing is visible."""
    return int(_NEVER)
