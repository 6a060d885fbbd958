"""The tails of a run that ended, folded into bundles: a row of a tail costs some 60 bytes, a point of a bundle some 8.

A bundle holds the points of many metrics that have few each; what has more gets a block of its own. Histories, curves
and what is logged later know no difference, so any run may be folded at any moment, and one that is logged to again is
folded again: its new rows join the bundle that holds their metrics.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, Integer, delete, func, select, type_coerce, update

from noria.assets import tables as at
from noria.assets.records import RunState
from noria.base.ids import RunId
from noria.db import Tx
from noria.tracking import series
from noria.tracking import tables as t
from noria.tracking.blocks import DIRECT, LARGEST, Mark, decode_bundle, encode_bundle

log = logging.getLogger("noria.tracking")

_METRICS: Final = 1_024
"""Metrics that are folded together."""
_PARTS: Final = 500
"""Parts of a tail that one statement asks for."""
_BUNDLE: Final = ("run_no", "last_key", "first_key", "count", "data")
_OPEN: Final = (RunState.QUEUED.value, RunState.RUNNING.value)


class _Tail(NamedTuple):
    """How much a metric has: points of its history, and rows of its tail."""

    key_id: int
    total: int
    rows: int


class _Bundle(NamedTuple):
    first_key: int
    last_key: int
    size: int


class Candidate(NamedTuple):
    """A run with rows in the tail.

    Attributes:
        ended: it was ended, or everything that it said lies before the moment asked for.
        purged: it is being deleted for good: nothing of it may move.
    """

    no: int
    run_id: RunId
    ended: bool
    purged: bool


class Folded(NamedTuple):
    """What one step did.

    Attributes:
        points: that were rows.
        behind: the last metric it came to; None where there are no more.
    """

    points: int
    behind: int | None


_DONE: Final = Folded(0, None)


def waiting(conn: Connection, after: int, limit: int, quiet: int) -> list[Candidate]:
    """Runs with rows in the tail, by their numbers: at most ``limit`` behind ``after``.

    Args:
        quiet: milliseconds; a run that never ended and said nothing since counts as ended.
    """
    numbers: list[int] = []
    c = t.tail.c
    while len(numbers) < limit:  # from run to run: the table has many rows of each
        one = conn.execute(select(c.run_no).where(c.run_no > after).order_by(c.run_no).limit(1)).scalar_one_or_none()
        if one is None:
            break
        numbers.append(after := one)
    if not numbers:
        return []
    r = t.tracked_runs.c
    newest = select(func.max(t.latest.c.at)).where(t.latest.c.run_no == r.no).scalar_subquery()
    found = (
        select(r.no, r.run_id, at.runs.c.state, newest, t.purged_runs.c.run_id)
        .join(at.runs, at.runs.c.id == r.run_id)
        .outerjoin(t.purged_runs, t.purged_runs.c.run_id == r.run_id)
        .where(r.no.in_(numbers))
        .order_by(r.no)
    )
    return [
        Candidate(no, RunId(run_id), state not in _OPEN or (newest is not None and newest < quiet), purged is not None)
        for no, run_id, state, newest, purged in conn.execute(found)
    ]


def is_purged(conn: Connection, run_id: RunId) -> bool:
    """Whether the run was deleted for good, or is about to be."""
    c = t.purged_runs.c.run_id
    return conn.execute(select(c).where(c == run_id)).scalar_one_or_none() is not None


def fold(tx: Tx, run_no: int, after: int = -1) -> Folded:
    """Folds the tails of some metrics of a run behind the key ``after``. Called under the run's lock."""
    c = t.latest.c
    where = (c.run_no == run_no, c.tail > 0, c.key_id > after)
    found = tx.execute(select(c.key_id, c.count, c.tail).where(*where).order_by(c.key_id).limit(_METRICS))
    rows = _fitting([_Tail(*row) for row in found])
    if not rows:
        return _DONE
    b = t.bundles.c
    order = select(b.first_key, b.last_key, b.count).where(b.run_no == run_no).order_by(b.last_key)
    rows, last_key = _beside(rows, [_Bundle(*row) for row in tx.execute(order)])
    behind = rows[-1].key_id
    tails = _tails(tx.conn, run_no, rows)
    if {key_id: len(points) for key_id, points in tails.items()} != {row.key_id: row.rows for row in rows}:
        log.warning("Points of run %d in the table metric_tail do not match their counts; they stay there.", run_no)
        return Folded(0, behind)
    metrics = tails
    if last_key is not None:
        one = (b.run_no == run_no, b.last_key == last_key)
        metrics = decode_bundle(tx.execute(select(b.data).where(*one)).scalar_one())
        tx.execute(delete(t.bundles).where(*one))
        for key_id, points in tails.items():
            metrics[key_id] = [*metrics.get(key_id, ()), *points]
    # As in series.add: what is a block begins with the first point of what was the tail.
    begins = {row.key_id: row.total - row.rows for row in rows}
    long = [key_id for key_id in tails if len(metrics[key_id]) >= DIRECT]
    blocks = [series.block_row(run_no, key_id, begins[key_id], metrics.pop(key_id)) for key_id in long]
    tx.write_rows(t.blocks, series.BLOCK, blocks)
    tx.write_rows(t.bundles, _BUNDLE, [_bundle_row(run_no, part) for part in _pieces(metrics)])
    for some in _where(run_no, rows):
        tx.execute(delete(t.tail).where(*some))
    tx.execute(update(t.latest).where(*where, c.key_id <= behind).values(tail=0))
    return Folded(sum(row.rows for row in rows), behind)


def _fitting(rows: list[_Tail]) -> list[_Tail]:
    """The first rows, as many as make one value."""
    room = LARGEST
    for n, row in enumerate(rows):
        room -= row.rows
        if room < 0 < n:
            return rows[:n]
    return rows


def _beside(rows: list[_Tail], bundles: Sequence[_Bundle]) -> tuple[list[_Tail], int | None]:
    """The rows that go together with one bundle, and its last key; None: they make a new one.

    Bundles never overlap: rows that would reach into a second one wait for the next step.
    """
    first, last = rows[0].key_id, rows[-1].key_id
    here = [one for one in bundles if one.last_key >= first and one.first_key <= last]
    if len(here) > 1:
        rows = [row for row in rows if row.key_id < here[1].first_key]
    if here:
        return rows, here[0].last_key
    new = sum(row.rows for row in rows)
    before = [one for one in bundles if one.last_key < first][-1:]
    behind = [one for one in bundles if one.first_key > last][:1]
    for one in (*before, *behind):  # a neighbour with room, so that points that come one by one do not stay apart
        if one.size + new <= LARGEST:
            return rows, one.last_key
    return rows, None


def _where(run_no: int, rows: Sequence[_Tail]) -> list[tuple[ColumnElement[bool], ...]]:
    """The rows of the tails of metrics that follow each other, in conditions that the table's order answers."""
    c = t.tail.c
    parts = sorted({part for row in rows for part in series.tail_parts(row.total, row.rows)})
    keys = c.key_id.between(rows[0].key_id, rows[-1].key_id)
    return [
        (c.run_no == run_no, c.part.in_(parts[start : start + _PARTS]), keys) for start in range(0, len(parts), _PARTS)
    ]


def _tails(conn: Connection, run_no: int, rows: Sequence[_Tail]) -> dict[int, list[Mark]]:
    c = t.tail.c
    found: dict[int, list[tuple[int, Mark]]] = {row.key_id: [] for row in rows}
    for some in _where(run_no, rows):
        columns = select(c.key_id, c.seq, c.at, c.step, c.value, type_coerce(c.is_nan, Integer))
        for key_id, seq, when, step, value, is_nan in conn.execute(columns.where(*some)):
            found.setdefault(key_id, []).append((seq, (when, step, math.nan if is_nan else value)))
    for points in found.values():
        points.sort(key=_number)
    return {key_id: [mark for _, mark in points] for key_id, points in found.items()}


def _number(one: tuple[int, Mark]) -> int:
    return one[0]


def _pieces(metrics: Mapping[int, list[Mark]]) -> list[dict[int, list[Mark]]]:
    """Metrics in the order of their keys, in parts that fit into one value each."""
    made: list[dict[int, list[Mark]]] = []
    room = 0
    for key_id in sorted(metrics):
        points = metrics[key_id]
        room -= len(points)
        if room < 0 or not made:
            made.append({})
            room = LARGEST - len(points)
        made[-1][key_id] = points
    return made


def _bundle_row(run_no: int, metrics: dict[int, list[Mark]]) -> tuple[Any, ...]:
    keys = list(metrics)
    return run_no, keys[-1], keys[0], sum(map(len, metrics.values())), encode_bundle(metrics)
