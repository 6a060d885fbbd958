"""What belongs to a run and goes with it when it is deleted for good: one list, to which every room adds its own.

Each entry deletes a bounded number of rows, so that a transaction stays small however much a run said.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, Table, delete, func, select, tuple_

from noria.base.ids import RunId
from noria.db import Tx
from noria.tracking import shelves
from noria.tracking import tables as t
from noria.tracking.records import OwnerKind
from noria.tracking.traces import tables as tt
from noria.tracking.traces.removal import delete_traces

_MODELS: Final = 50
"""Logged models that are deleted together."""
_TRACES: Final = 500
"""Traces that are deleted together: each is a few dozen rows."""


class Doomed(NamedTuple):
    """Runs that are deleted for good.

    Attributes:
        ids: at most a few hundred.
        numbers: of those that have one (``tracked_runs.no``).
        held: of those, the runs whose files and logged models something outside of this room is loaded from.
    """

    ids: Sequence[RunId]
    numbers: Sequence[int]
    held: frozenset[RunId] = frozenset()

    @property
    def free(self) -> list[RunId]:
        """Runs whose files and logged models may go."""
        return [id for id in self.ids if id not in self.held]


@dataclass(frozen=True, slots=True, kw_only=True)
class Belonging:
    """One kind of rows that belong to runs.

    Attributes:
        what: for people: "points", "files".
        count: how many there are, and bytes of content among them.
        delete: deletes up to so many of them, and says how many; fewer than asked for: there are no more.
    """

    what: str
    count: Callable[[Connection, Doomed], tuple[int, int]]
    delete: Callable[[Tx, Doomed, int], int]


def rows_of(
    what: str,
    table: Table,
    *,
    by: Literal["no", "id"],
    column: str,
    where: Sequence[ColumnElement[bool]] = (),
    each: ColumnElement[Any] | None = None,
    size: ColumnElement[Any] | None = None,
) -> Belonging:
    """Rows of a table that name the run in a column.

    Args:
        by: the column holds the run's number in this room, or its id.
        each: what counts for one row; default 1.
        size: bytes of content of a row.
    """
    key = list(table.primary_key.columns)
    named = table.c[column]

    def fitting(runs: Doomed) -> list[ColumnElement[bool]]:
        return [named.in_(list(runs.numbers if by == "no" else runs.ids)), *where]

    def count(conn: Connection, runs: Doomed) -> tuple[int, int]:
        total = func.count() if each is None else func.coalesce(func.sum(each), 0)
        held = func.coalesce(func.sum(size), 0) if size is not None else func.min(0)
        row = conn.execute(select(total, held).select_from(table).where(*fitting(runs))).one()
        return int(row[0]), int(row[1] or 0)

    def remove(tx: Tx, runs: Doomed, limit: int) -> int:
        chosen: Select[Any] = select(*key).where(*fitting(runs)).limit(limit)
        return tx.execute(delete(table).where(tuple_(*key).in_(chosen))).rowcount

    return Belonging(what=what, count=count, delete=remove)


def _count_files(conn: Connection, runs: Doomed) -> tuple[int, int]:
    c = t.artifacts.c
    found = select(func.count(c.content_kind), func.coalesce(func.sum(c.size), 0)).where(
        c.owner_kind == OwnerKind.RUN.value, c.owner.in_(runs.free)
    )
    row = conn.execute(found).one()
    return int(row[0]), int(row[1])


def _delete_files(tx: Tx, runs: Doomed, limit: int) -> int:
    return shelves.delete_files(tx, OwnerKind.RUN, runs.free, limit)


def _own_traces(conn: Connection, runs: Doomed, limit: int | None = None) -> list[tuple[int, str]]:
    c = tt.runs.c
    found = select(tt.traces.c.id, tt.traces.c.trace_id).join(tt.runs, c.trace == tt.traces.c.id)
    found = found.where(c.own, c.run_id.in_(list(runs.ids))).distinct().limit(limit)
    return [(number, id) for number, id in conn.execute(found)]


def _count_traces(conn: Connection, runs: Doomed) -> tuple[int, int]:
    c = tt.runs.c
    own = select(func.count(c.trace.distinct())).where(c.own, c.run_id.in_(list(runs.ids)))
    return conn.execute(own).scalar_one(), 0


def _delete_traces(tx: Tx, runs: Doomed, limit: int) -> int:
    """Traces that ran in a run, with their files. Each counts for one, however many rows it has."""
    most = min(limit, _TRACES)
    found = _own_traces(tx.conn, runs, most)
    delete_traces(tx, found)
    return limit if len(found) == most else len(found)


def _models(conn: Connection, runs: Doomed, limit: int) -> list[tuple[int, str]]:
    c = t.logged_models.c
    found = select(c.no, c.id).where(c.source_run.in_(runs.free)).order_by(c.no).limit(limit)
    return [(no, id) for no, id in conn.execute(found)]


def _count_models(conn: Connection, runs: Doomed) -> tuple[int, int]:
    c, a = t.logged_models.c, t.artifacts.c
    its = select(c.id).where(c.source_run.in_(runs.free))
    size = select(func.coalesce(func.sum(a.size), 0)).where(a.owner_kind == OwnerKind.MODEL.value, a.owner.in_(its))
    many = select(func.count()).select_from(t.logged_models).where(c.source_run.in_(runs.free))
    return conn.execute(many).scalar_one(), int(conn.execute(size).scalar_one())


def _delete_models(tx: Tx, runs: Doomed, limit: int) -> int:
    """Logged models that a run made, with their files and what was said about them. Each counts for one."""
    found = _models(tx.conn, runs, _MODELS)
    numbers, ids = [no for no, _ in found], [id for _, id in found]
    if not found:
        return 0
    for table in (t.logged_metrics, t.logged_params, t.logged_tags):
        key = list(table.primary_key.columns)
        some = select(*key).where(table.c.model_no.in_(numbers)).limit(limit)
        if tx.execute(delete(table).where(tuple_(*key).in_(some))).rowcount == limit:
            return limit
    if shelves.delete_files(tx, OwnerKind.MODEL, ids, limit) == limit:
        return limit
    tx.execute(delete(t.logged_models).where(t.logged_models.c.no.in_(numbers)))
    return limit if len(found) == _MODELS else len(found)


OWN: Final[list[Belonging]] = [
    rows_of("points", t.blocks, by="no", column="run_no", each=t.blocks.c.count, size=func.length(t.blocks.c.data)),
    rows_of("points", t.bundles, by="no", column="run_no", each=t.bundles.c.count, size=func.length(t.bundles.c.data)),
    rows_of("points", t.tail, by="no", column="run_no"),
    rows_of("metrics", t.latest, by="no", column="run_no"),
    rows_of("parameters", t.params, by="no", column="run_no"),
    rows_of("tags", t.tags, by="no", column="run_no"),
    rows_of("datasets read", t.inputs, by="no", column="run_no"),
    Belonging(what="files", count=_count_files, delete=_delete_files),
    rows_of("measured metrics", t.logged_metrics, by="no", column="run_no"),
    rows_of("links of models", t.run_models, by="no", column="run_no"),
    Belonging(what="logged models", count=_count_models, delete=_delete_models),
    Belonging(what="traces", count=_count_traces, delete=_delete_traces),
    rows_of("marks of imports", t.brought, by="id", column="ours", where=(t.brought.c.kind == "run",)),
    rows_of("links of traces", tt.runs, by="id", column="run_id"),
]
"""What this room keeps of runs, in an order in which it can be deleted. Rows that only say that a trace or model of
another run has to do with this one go too."""
