"""The points of a metric: rows of a tail, folded into blocks. Written under the lock of their run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from sqlalchemy import Connection, Integer, and_, bindparam, delete, or_, select, tuple_, type_coerce

from noria.db import Tx
from noria.tracking import tables as t
from noria.tracking.blocks import DIRECT, FOLD, LARGEST, PART, Mark, bundled_marks, encode, marks

_AT_ONCE: Final = 16
"""Blocks that are read together."""
_FEW: Final = 20
"""Metrics of one run that are looked for one by one; more are a range."""
_PARTS: Final = 500
"""Parts of a tail that one statement asks for."""
_LATEST: Final = ("run_no", "key_id", "at", "step", "value", "is_nan", "count", "tail")
_TAIL: Final = ("run_no", "part", "key_id", "seq", "at", "step", "value", "is_nan")
BLOCK: Final = ("run_no", "key_id", "seq", "count", "min_at", "max_at", "min_step", "max_step", "low", "high", "data")


def rank(mark: Mark) -> tuple[int, int, float]:
    """Which of two points is the latest: by step, then time, then value (as MLflow decides). NaN is the least value."""
    at, step, value = mark
    return step, at, -math.inf if value != value else value


def place(mark: Mark) -> tuple[int, int, float, bool]:
    """The order of a history: by time, then step, then value. NaN stands where 0 does (as MLflow stores it)."""
    at, step, value = mark
    nan = value != value
    return at, step, 0.0 if nan else value, nan


def stored(value: float) -> tuple[float, bool]:
    """A value as the two columns that hold it."""
    return (0.0, True) if value != value else (value, False)


_L = t.latest.c
# The flag as a number: turning it into a bool costs more than the row.
_ROWS = select(_L.run_no, _L.key_id, _L.at, _L.step, _L.value, type_coerce(_L.is_nan, Integer), _L.count, _L.tail)
_ONE = _ROWS.where(_L.run_no == bindparam("run_no"), _L.key_id == bindparam("key_id"))
_RANGE = _ROWS.where(_L.run_no == bindparam("run_no"), _L.key_id.between(bindparam("first"), bindparam("last")))
_PAIRS = _ROWS.where(tuple_(_L.run_no, _L.key_id).in_(bindparam("pairs", expanding=True)))

Place = tuple[int, int]
"""Numbers of a run and of a metric."""


def _stored_rows(conn: Connection, places: Iterable[Place]) -> dict[Place, Any]:
    """Place -> row (run, key, time, step, value, whether NaN, points, points in the tail); of these and maybe more."""
    by_run: dict[int, list[int]] = {}
    for run_no, key_id in places:
        by_run.setdefault(run_no, []).append(key_id)
    pairs: list[Place] = []
    rows: list[Any] = []
    for run_no, key_ids in by_run.items():
        if len(by_run) > 1 and len(key_ids) < _FEW:
            pairs += [(run_no, key_id) for key_id in key_ids]
        elif len(key_ids) == 1:
            rows += conn.execute(_ONE, {"run_no": run_no, "key_id": key_ids[0]}).all()
        else:
            # A range and not a list: names that come together got their numbers together, and one statement fits all.
            rows += conn.execute(_RANGE, {"run_no": run_no, "first": min(key_ids), "last": max(key_ids)}).all()
    for start in range(0, len(pairs), _FEW * _FEW):
        rows += conn.execute(_PAIRS, {"pairs": pairs[start : start + _FEW * _FEW]}).all()
    return {(row[0], row[1]): row for row in rows}


def add(tx: Tx, points: Mapping[Place, list[Mark]]) -> None:
    """Adds points; one that is there already is left out (a retry after a lost answer).

    Called under the locks of the runs.
    """
    have = _stored_rows(tx.conn, points)
    latest: list[tuple[Any, ...]] = []
    tails: list[tuple[Any, ...]] = []
    blocks: list[tuple[Any, ...]] = []
    for where, given in points.items():
        run_no, key_id = where
        row = have.get(where)
        total, tail, old = 0, 0, None
        if row is not None:
            _, _, old_at, old_step, old_value, old_nan, total, tail = row
            old = (old_at, old_step, math.nan if old_nan else old_value)
        if len(given) == 1:  # by far the most; written out, since a batch has a thousand of them
            at, step, value = given[0]
            later = old is None or step > old[1] or (step == old[1] and at > old[0])
            if later and tail < FOLD and value == value:
                tails.append((run_no, total // PART, key_id, total, at, step, value, False))
                latest.append((run_no, key_id, at, step, value, False, total + 1, tail + 1))
                continue
        fresh = _fresh(tx.conn, run_no, key_id, given, old)
        if not fresh:
            continue
        newest = max(fresh, key=rank)
        if old is not None and rank(old) > rank(newest):
            newest = old
        if len(fresh) >= DIRECT or tail + len(fresh) > FOLD:  # the tail goes first: it stays what came last
            whole = [*_take_tail(tx, run_no, key_id, total, tail), *fresh]
            first = total - tail
            pieces = ((first + n, whole[n : n + LARGEST]) for n in range(0, len(whole), LARGEST))
            blocks += [block_row(run_no, key_id, seq, piece) for seq, piece in pieces]
            tail = 0
        else:
            for n, (at, step, value) in enumerate(fresh, total):
                tails.append((run_no, n // PART, key_id, n, at, step, *stored(value)))
            tail += len(fresh)
        latest.append((run_no, key_id, newest[0], newest[1], *stored(newest[2]), total + len(fresh), tail))
    tx.write_rows(t.latest, _LATEST, latest, key=("run_no", "key_id"))
    tx.write_rows(t.tail, _TAIL, tails)
    tx.write_rows(t.blocks, BLOCK, blocks)


def block_row(run_no: int, key_id: int, seq: int, points: list[Mark]) -> tuple[Any, ...]:
    times, steps = [p[0] for p in points], [p[1] for p in points]
    values = [p[2] for p in points if p[2] == p[2]]
    low, high = (min(values), max(values)) if values else (None, None)
    return run_no, key_id, seq, len(points), min(times), max(times), min(steps), max(steps), low, high, encode(points)


def _take_tail(tx: Tx, run_no: int, key_id: int, total: int, tail: int) -> list[Mark]:
    found = _tail_rows(tx.conn, run_no, key_id, total, tail)
    for parts in _tail_parts(total, tail):
        c = t.tail.c
        tx.execute(delete(t.tail).where(c.run_no == run_no, c.part.in_(parts), c.key_id == key_id))
    return found


_C = t.tail.c
_TAIL_ROWS = select(_C.at, _C.step, _C.value, type_coerce(_C.is_nan, Integer)).where(
    _C.run_no == bindparam("run_no"), _C.part.in_(bindparam("parts", expanding=True)), _C.key_id == bindparam("key_id")
)


def tail_parts(total: int, tail: int) -> range:
    """The parts of the table that hold the last ``tail`` of ``total`` points."""
    return range((total - tail) // PART, (total - 1) // PART + 1) if tail else range(0)


def _tail_parts(total: int, tail: int) -> Iterator[list[int]]:
    """The same, some hundred at once."""
    parts = tail_parts(total, tail)
    for start in range(0, len(parts), _PARTS):
        yield list(parts[start : start + _PARTS])


def _tail_rows(conn: Connection, run_no: int, key_id: int, total: int, tail: int) -> list[Mark]:
    """The points of a tail, in the order in which they were logged."""
    found: list[Mark] = []
    for parts in _tail_parts(total, tail):
        rows = conn.execute(_TAIL_ROWS.order_by(_C.seq), {"run_no": run_no, "parts": parts, "key_id": key_id}).all()
        found += [(at, step, math.nan if is_nan else value) for at, step, value, is_nan in rows]
    return found


def loose(conn: Connection, run_no: int, key_id: int) -> list[Mark]:
    """The points that are in no block of their own: those of the tail, and those that share a bundle with others."""
    row = conn.execute(_ONE, {"run_no": run_no, "key_id": key_id}).one_or_none()
    if row is None:
        return []
    total, tail = row[6], row[7]
    found = _tail_rows(conn, run_no, key_id, total, tail)
    return found if tail == total else _bundled(conn, run_no, key_id) + found


_B = t.bundles.c
_BUNDLE = (
    select(_B.first_key, _B.data)
    .where(_B.run_no == bindparam("run_no"), _B.last_key >= bindparam("key_id"))
    .order_by(_B.last_key)
    .limit(1)
)


def _bundled(conn: Connection, run_no: int, key_id: int) -> list[Mark]:
    row = conn.execute(_BUNDLE, {"run_no": run_no, "key_id": key_id}).one_or_none()
    return [] if row is None or row[0] > key_id else bundled_marks(row[1], key_id)


def _fresh(conn: Connection, run_no: int, key_id: int, given: list[Mark], old: Mark | None) -> list[Mark]:
    """Those of ``given`` that are not stored yet, each once."""
    newest = None if old is None else rank(old)
    last = newest
    for mark in given:
        this = rank(mark)
        if last is not None and this <= last:
            break
        last = this
    else:  # each is later than the one before: nothing can be there already
        return given
    seen: set[tuple[int, int, float, bool]] = set()
    fresh: list[Mark] = []
    doubtful: list[Mark] = []
    for mark in given:
        name = place(mark)
        if name in seen:
            continue
        seen.add(name)
        fresh.append(mark)
        if newest is not None and rank(mark) <= newest:
            doubtful.append(mark)
    if not doubtful:
        return fresh
    there = _there(conn, run_no, key_id, doubtful)
    return [mark for mark in fresh if place(mark) not in there]


def _there(conn: Connection, run_no: int, key_id: int, asked: list[Mark]) -> set[tuple[int, int, float, bool]]:
    """The points that are stored, of those that may be equal to one asked for."""
    times, steps = [m[0] for m in asked], [m[1] for m in asked]
    found = {place(mark) for mark in loose(conn, run_no, key_id)}
    b = t.blocks.c
    overlapping = select(b.data).where(
        b.run_no == run_no,
        b.key_id == key_id,
        b.min_at <= max(times),
        b.max_at >= min(times),
        b.min_step <= max(steps),
        b.max_step >= min(steps),
    )
    for (data,) in conn.execute(overlapping):
        found.update(place(mark) for mark in marks(data))
    return found


# ---- reading


def size(conn: Connection, run_no: int, key_id: int) -> int:
    """How many points there are."""
    row = conn.execute(_ONE, {"run_no": run_no, "key_id": key_id}).one_or_none()
    return 0 if row is None else row[6]


def history(conn: Connection, run_no: int, key_id: int, after: Mark | None, limit: int) -> list[Mark]:
    """The points behind ``after``, in the order of time, step and value; at most ``limit``."""
    mark = None if after is None else place(after)
    pool = [one for one in loose(conn, run_no, key_id) if after is None or one[0] >= after[0]]
    parts = _parts(conn, run_no, key_id, after)
    found: list[Mark] = []
    while len(found) < limit:
        part = next(parts, None)
        if part is None:
            pool.sort(key=place)
            found += pool if mark is None else [m for m in pool if place(m) > mark]
            break
        following, data = part
        for one in data:
            pool += marks(one)
        if following is None:
            continue
        pool.sort(key=place)
        split = next((n for n, (at, step, _) in enumerate(pool) if (at, step) >= following), len(pool))
        found += pool[:split] if mark is None else [m for m in pool[:split] if place(m) > mark]
        pool = pool[split:]
    return found[:limit]


def _parts(
    conn: Connection, run_no: int, key_id: int, after: Mark | None
) -> Iterator[tuple[tuple[int, int] | None, list[bytes]]]:
    """Blocks in the order of their first times and steps, some at once, with those of the block that comes next. Steps
    too: a client may say the same time of all its points."""
    b = t.blocks.c
    where = [b.run_no == run_no, b.key_id == key_id]
    if after is not None:
        at, step, _ = after
        where.append(or_(b.max_at > at, and_(b.max_at == at, b.max_step >= step)))
    place_ = (b.min_at, b.min_step, b.seq)
    order = select(*place_).where(*where).order_by(*place_)
    count = 1  # most pages need one or two; who goes on gets more at once
    rows = conn.execute(order.limit(count + 1)).all()
    while rows:
        part, more = rows[:count], rows[count:]
        chosen = select(b.data).where(b.run_no == run_no, b.key_id == key_id, b.seq.in_([row.seq for row in part]))
        yield (tuple(more[0])[:2] if more else None), [data for (data,) in conn.execute(chosen)]
        count = min(4 * count, _AT_ONCE)
        behind = tuple_(*place_) > tuple(part[-1])
        rows = conn.execute(order.where(behind).limit(count + 1)).all() if more else []
