"""A curve of some hundred points out of a metric of any length, in bounded memory.

Of equal shares of the points, in the order of steps, the least and the greatest of each are shown, so that a spike is
never lost. Blocks that follow each other are not put together for that: a block that lies within one share is opened
only if its least or greatest value, which its row says, is that of the share. So a curve costs what its shares cost,
not what the metric does. Blocks that overlap are put in order first, and where too many of them do, the shares are
those of a sample of their points: then they are about equal, and the extremes are as exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, select

from noria.tracking import series
from noria.tracking import tables as t
from noria.tracking.blocks import Mark, decode

_AT_ONCE: Final = 16
"""Blocks that are read together."""
_CROWD: Final = 131_072
"""So many points that overlap are put in order in memory; of more, a sample is."""
_SAMPLE: Final = 65_536
_TIME_BITS: Final = 45


class _Columns(NamedTuple):
    """Points as arrays of NumPy, which is loaded with the first curve."""

    step: Any
    at: Any
    value: Any


class _Part(NamedTuple):
    """A block, or the points that are in none.

    Attributes:
        first, last: (step, time) between which all points lie.
        low, high: least and greatest value; None: not known, or only NaN.
        seq: of the block.
        held: points without a block.
    """

    first: tuple[int, int]
    last: tuple[int, int]
    size: int
    low: float | None = None
    high: float | None = None
    seq: int = -1
    held: _Columns | None = None


@dataclass(slots=True, eq=False)
class _Segment:
    """Parts that overlap; whatever lies in another segment lies before or behind all of it.

    Attributes:
        begin: the rank of its first point.
        crowd: its sample, if it has too many points to be put in order.
    """

    parts: list[_Part]
    begin: int = 0
    size: int = 0
    crowd: _Crowd | None = None


@dataclass(slots=True, eq=False)
class _Extreme:
    """The least (or greatest) value of a share so far.

    Attributes:
        inside: the block that has it, and was not opened.
    """

    value: float
    mark: Mark | None = None
    rank: int = -1
    inside: _Segment | None = None


@dataclass(slots=True)
class _Crowd:
    """Points in no order, ranked by a sample of them.

    Attributes:
        steps: of the sample, each once, in order.
        codes: step and time of the sampled points as one number, in order.
        marks: the sampled points in that order.
    """

    steps: Any
    earliest: int
    shift: int
    codes: Any
    marks: _Columns
    ends: list[Mark] = field(default_factory=list[Mark])


def sample(
    conn: Connection, run_no: int, key_id: int, limit: int, start: int | None = None, end: int | None = None
) -> list[Mark]:
    """At most ``limit`` points of a curve, in the order of steps: first and last, and of equal shares of the points the
    least and the greatest of each, so that a spike is never lost. With ``limit`` 1 it is the last."""
    return _Curve(conn, run_no, key_id, start, end).sample(limit)


class _Curve:
    def __init__(self, conn: Connection, run_no: int, key_id: int, start: int | None, end: int | None) -> None:
        import numpy

        self._np: Any = numpy
        self._conn = conn
        self._where = (t.blocks.c.run_no == run_no, t.blocks.c.key_id == key_id)
        self._start, self._end = start, end
        self._segments = self._in_segments([*self._blocks(), *self._loose(run_no, key_id)])
        self._total = sum(one.size for one in self._segments)
        self._chosen: dict[tuple[int, int, float, bool], tuple[int, Mark]] = {}

    # ---- what there is

    def _blocks(self) -> Iterator[_Part]:
        b = t.blocks.c
        where = list(self._where)
        if self._start is not None:
            where.append(b.max_step >= self._start)
        if self._end is not None:
            where.append(b.min_step <= self._end)
        columns = (b.min_step, b.min_at, b.max_step, b.max_at, b.count, b.low, b.high, b.seq)
        cut: list[_Part] = []
        for step, at, last_step, last_at, count, low, high, seq in self._conn.execute(select(*columns).where(*where)):
            part = _Part((step, at), (last_step, last_at), count, low, high, seq)
            if (self._start is None or step >= self._start) and (self._end is None or last_step <= self._end):
                yield part
            else:
                cut.append(part)
        for part, columns_ in self._open(cut):
            if len(columns_.step):
                yield self._part(columns_, part.seq)

    def _loose(self, run_no: int, key_id: int) -> Iterator[_Part]:
        found = self._cut(self._as_columns(series.loose(self._conn, run_no, key_id)))
        if len(found.step):
            yield self._part(found)._replace(held=found)

    def _as_columns(self, marks: Sequence[Mark]) -> _Columns:
        np = self._np
        at, step = (np.array([mark[n] for mark in marks], np.int64) for n in (0, 1))
        return _Columns(step, at, np.array([mark[2] for mark in marks], np.float64))

    def _part(self, points: _Columns, seq: int = -1) -> _Part:
        step, at, _ = points
        first, last = (int(step.min()), int(at.min())), (int(step.max()), int(at.max()))
        return _Part(first, last, len(step), seq=seq)

    def _cut(self, points: _Columns) -> _Columns:
        step = points.step
        if self._start is None and self._end is None:
            return points
        keep = self._np.ones(len(step), bool)
        if self._start is not None:
            keep &= step >= self._start
        if self._end is not None:
            keep &= step <= self._end
        return points if keep.all() else _Columns(*(column[keep] for column in points))

    def _in_segments(self, parts: list[_Part]) -> list[_Segment]:
        made: list[_Segment] = []
        reach: tuple[int, int] | None = None
        for part in sorted(parts, key=_first):
            if reach is None or part.first > reach:
                made.append(_Segment([]))
                reach = part.last
            made[-1].parts.append(part)
            reach = max(reach, part.last)
        rank = 0
        for one in made:
            one.begin, one.size = rank, sum(part.size for part in one.parts)
            rank += one.size
            if len(one.parts) > 1 and one.size > _CROWD:
                one.crowd = self._crowd(one)
        return made

    # ---- opening

    def _open(self, parts: Sequence[_Part]) -> Iterator[tuple[_Part, _Columns]]:
        """The points of parts, some blocks at once."""
        c = t.blocks.c
        for begin in range(0, len(parts), _AT_ONCE):
            some = parts[begin : begin + _AT_ONCE]
            wanted = [part.seq for part in some if part.held is None]
            chosen = select(c.seq, c.data).where(*self._where, c.seq.in_(wanted))
            found: dict[int, bytes] = {row[0]: row[1] for row in self._conn.execute(chosen)} if wanted else {}
            for part in some:
                if part.held is not None:
                    yield part, part.held
                else:
                    at, step, value = decode(found.pop(part.seq))
                    yield part, self._cut(_Columns(step, at, value))

    def _together(self, parts: Sequence[_Part]) -> Iterator[_Columns]:
        """The points of parts in any order, those of some blocks at once."""
        for begin in range(0, len(parts), _AT_ONCE):
            some = [columns for _, columns in self._open(parts[begin : begin + _AT_ONCE])]
            yield _Columns(*map(self._np.concatenate, zip(*some, strict=True)))

    def _ordered(self, segments: Sequence[_Segment]) -> Iterator[tuple[_Segment, _Columns]]:
        """The points of segments that are no crowds, in order."""
        np = self._np
        opened = self._open([part for one in segments for part in one.parts])
        for one in segments:
            columns = [next(opened)[1] for _ in one.parts]
            points = columns[0] if len(columns) == 1 else _Columns(*map(np.concatenate, zip(*columns, strict=True)))
            if not (points.step[1:] > points.step[:-1]).all():
                order = np.lexsort((points.value, points.at, points.step))
                points = _Columns(*(column[order] for column in points))
            yield one, points

    # ---- choosing

    def sample(self, limit: int) -> list[Mark]:
        np, total = self._np, self._total
        if total <= limit:
            ranks = np.arange(total)
        elif limit < 4:
            ranks = np.linspace(0, total - 1, limit).astype(np.int64) if limit > 1 else np.array([total - 1])
        else:
            self._choose_extremes(limit)
            self._choose_ranks(np.array([0, total - 1]))
            ranks = self._between(limit - len(self._chosen), limit)
        self._choose_ranks(np.unique(ranks))
        self._fill(min(limit, total))
        return [mark for _, (_, mark) in sorted(self._chosen.items())]

    def _choose(self, rank: int, mark: Mark) -> None:
        at, step, value = mark
        nan = value != value
        self._chosen.setdefault((step, at, math.inf if nan else value, nan), (rank, mark))

    def _choose_extremes(self, limit: int) -> None:
        np = self._np
        borders = np.linspace(0, self._total, (limit - 2) // 2 + 1).astype(np.int64)
        count = len(borders) - 1
        lows = [_Extreme(math.inf) for _ in range(count)]
        highs = [_Extreme(-math.inf) for _ in range(count)]
        opened: list[_Segment] = []
        for one in self._segments:
            share = int(borders.searchsorted(one.begin, "right")) - 1
            (part, *more) = one.parts
            known = not more and part.seq >= 0 and part.low is not None and part.high is not None
            if known and one.begin + one.size <= borders[share + 1]:
                _offer(lows[share], one, part.low, _less)
                _offer(highs[share], one, part.high, _greater)
            elif one.crowd is None:
                opened.append(one)
        for one, points in self._ordered(opened):
            self._see(one, points, borders, lows, highs)
        for one in self._segments:
            if one.crowd is not None:
                self._see_crowd(one, one.crowd, borders, lows, highs)
        self._see_inside(lows, highs)
        for extreme in (*lows, *highs):
            if extreme.mark is not None:
                self._choose(extreme.rank, extreme.mark)

    def _see(self, one: _Segment, points: _Columns, borders: Any, lows: list[_Extreme], highs: list[_Extreme]) -> None:
        """Looks at all points of a segment that is no crowd."""
        low, high = self._for_least(points.value), self._for_greatest(points.value)
        share = int(borders.searchsorted(one.begin, "right")) - 1
        first = 0
        while first < one.size:
            stop = min(one.size, int(borders[share + 1]) - one.begin)
            if stop > first:
                for extremes, values, n, better in (
                    (lows, low, first + int(low[first:stop].argmin()), _less),
                    (highs, high, first + int(high[first:stop].argmax()), _greater),
                ):
                    _take(extremes[share], float(values[n]), one.begin + n, points, n, better)
                first = stop
            share += 1

    def _see_inside(self, lows: list[_Extreme], highs: list[_Extreme]) -> None:
        """Opens the blocks whose rows say that they have the extreme of a share."""
        wanted: dict[int, _Segment] = {
            extreme.inside.begin: extreme.inside for extreme in (*lows, *highs) if extreme.inside is not None
        }
        found: dict[int, tuple[tuple[int, Mark], tuple[int, Mark]]] = {}
        for one, points in self._ordered([wanted[begin] for begin in sorted(wanted)]):
            low, high = int(self._for_least(points.value).argmin()), int(self._for_greatest(points.value).argmax())
            found[one.begin] = (one.begin + low, _mark(points, low)), (one.begin + high, _mark(points, high))
        for which, extremes in enumerate((lows, highs)):
            for extreme in extremes:
                if extreme.inside is not None:
                    extreme.rank, extreme.mark = found[extreme.inside.begin][which]

    def _for_least(self, value: Any) -> Any:
        # NaN is neither least nor greatest; a share of nothing else is shown by its first point.
        return self._np.where(self._np.isnan(value), math.inf, value)

    def _for_greatest(self, value: Any) -> Any:
        return self._np.where(self._np.isnan(value), -math.inf, value)

    def _between(self, spare: int, limit: int) -> Any:
        """Where the extremes are few, for they are the ends or each other, points in between, evenly."""
        np = self._np
        chosen = np.array([rank for rank, _ in self._chosen.values()])
        between = np.setdiff1d(np.linspace(0, self._total - 1, limit).astype(np.int64), chosen)
        return between[np.linspace(0, len(between) - 1, spare).astype(np.int64)]

    def _choose_ranks(self, ranks: Any) -> None:
        """Points by their ranks, which are in order."""
        there = {rank for rank, _ in self._chosen.values()}
        wanted: list[tuple[_Segment, list[int]]] = []
        for one in self._segments:
            first, stop = ranks.searchsorted(one.begin), ranks.searchsorted(one.begin + one.size)
            some = [rank for rank in ranks[first:stop].tolist() if one.crowd is not None or rank not in there]
            if not some:
                continue
            if one.crowd is not None:
                for rank in some:
                    self._choose(rank, self._sampled(one, one.crowd, rank))
            else:
                wanted.append((one, some))
        for (one, points), (_, some) in zip(self._ordered([one for one, _ in wanted]), wanted, strict=True):
            for rank in some:
                self._choose(rank, _mark(points, rank - one.begin))

    # ---- crowds

    def _crowd(self, one: _Segment) -> _Crowd:
        np = self._np
        stride = -(-one.size // _SAMPLE)
        taken: list[_Columns] = []
        ends: list[Mark] = []
        skip = 0
        for points in self._together(one.parts):
            taken.append(_Columns(*(column[skip::stride].copy() for column in points)))
            skip = (skip - len(points.step)) % stride
            for step in (points.step.min(), points.step.max()):
                some = _Columns(*(column[points.step == step] for column in points))
                order = np.lexsort((some.value, some.at))
                ends += [_mark(some, n) for n in (int(order[0]), int(order[-1]))]
            ends = [min(ends, key=_order), max(ends, key=_order)]
        marks = _Columns(*map(np.concatenate, zip(*taken, strict=True)))
        order = np.lexsort((marks.value, marks.at, marks.step))
        marks = _Columns(*(column[order] for column in marks))
        earliest = min(part.first[1] for part in one.parts)
        span = max(part.last[1] for part in one.parts) - earliest
        made = _Crowd(np.unique(marks.step), earliest, max(0, span.bit_length() - _TIME_BITS), None, marks, ends)
        made.codes = self._codes(made, marks)
        return made

    def _codes(self, crowd: _Crowd, points: _Columns) -> Any:
        """Step and time as one number each, in the order of both."""
        np = self._np
        n = crowd.steps.searchsorted(points.step)
        same = crowd.steps[np.minimum(n, len(crowd.steps) - 1)] == points.step
        # Without a sign the difference wraps around, and so comes out right however far apart they are.
        since = points.at.astype(np.uint64) - np.int64(crowd.earliest).astype(np.uint64)
        time = since >> np.uint64(crowd.shift)
        return ((2 * n + same).astype(np.int64) << _TIME_BITS) | time.astype(np.int64)

    def _see_crowd(
        self, one: _Segment, crowd: _Crowd, borders: Any, lows: list[_Extreme], highs: list[_Extreme]
    ) -> None:
        np = self._np
        size = len(crowd.codes)
        for points in self._together(one.parts):
            place = crowd.codes.searchsorted(self._codes(crowd, points), "right")
            rank = one.begin + np.minimum(place * one.size // size, one.size - 1)
            share = borders.searchsorted(rank, "right") - 1
            order = share.argsort(kind="stable")
            begins = np.flatnonzero(np.diff(share[order], prepend=-1))
            shares = share[order[begins]]
            for extremes, values, least, better in (
                (lows, self._for_least(points.value)[order], np.minimum, _less),
                (highs, self._for_greatest(points.value)[order], np.maximum, _greater),
            ):
                found = least.reduceat(values, begins)
                before = np.array([extremes[number].value for number in shares.tolist()])
                # Those of a share that has nothing yet too, whose value is infinite until then.
                for k in np.flatnonzero((least(found, before) != before) | np.isinf(before)).tolist():
                    value, stop = float(found[k]), begins[k + 1] if k + 1 < len(begins) else len(order)
                    n = int(order[int(begins[k]) + int((values[begins[k] : stop] == value).argmax())])
                    _take(extremes[int(shares[k])], value, int(rank[n]), points, n, better)

    @staticmethod
    def _sampled(one: _Segment, crowd: _Crowd, rank: int) -> Mark:
        place = rank - one.begin
        if place in (0, one.size - 1):
            return crowd.ends[0 if place == 0 else 1]
        return _mark(crowd.marks, place * len(crowd.codes) // one.size)

    def _fill(self, wanted: int) -> None:
        """Ranks in a crowd may have led to the same point twice: others of its sample take their place."""
        for one in self._segments:
            if len(self._chosen) >= wanted:
                return
            if one.crowd is not None:
                count = len(one.crowd.codes)
                for stride in (max(1, count // wanted), 1):
                    for n in range(0, count, stride):
                        if len(self._chosen) < wanted:
                            self._choose(one.begin, _mark(one.crowd.marks, n))


def _first(part: _Part) -> tuple[int, int]:
    return part.first


def _less(value: float, than: float) -> bool:
    return value < than


def _greater(value: float, than: float) -> bool:
    return value > than


Better = Callable[[float, float], bool]


def _offer(extreme: _Extreme, one: _Segment, value: float | None, better: Better) -> None:
    """A block that is not open has this value."""
    assert value is not None
    if (extreme.mark is None and extreme.inside is None) or better(value, extreme.value):
        extreme.value, extreme.mark, extreme.inside = value, None, one


def _take(extreme: _Extreme, value: float, rank: int, points: _Columns, n: int, better: Better) -> None:
    """A point has this value; of equal ones the first is shown."""
    nothing = extreme.mark is None and extreme.inside is None
    there = extreme.rank if extreme.inside is None else extreme.inside.begin
    if nothing or better(value, extreme.value) or (value == extreme.value and rank < there):
        extreme.value, extreme.mark, extreme.rank, extreme.inside = value, _mark(points, n), rank, None


def _mark(points: _Columns, n: int) -> Mark:
    return int(points.at[n]), int(points.step[n]), float(points.value[n])


def _order(mark: Mark) -> tuple[int, int, float]:
    at, step, value = mark
    return step, at, math.inf if value != value else value
