"""Runs beside each other, as SQL: the database finds the keys that differ, and only their values are read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, case, func, or_, select

from noria.base.ids import ProjectId, RunId
from noria.tracking import tables as t

PARTS: Final = ("params", "metrics", "tags")
"""In the order in which they are compared."""
_TABLES: Final[Mapping[str, Any]] = {"params": t.params, "metrics": t.latest, "tags": t.tags}
_OF_CLIENTS: Final = "mlflow."
"""Tags that begin so are a client's own notes: source files, users, models."""


def numbers(conn: Connection, ids: Sequence[RunId]) -> dict[RunId, int]:
    """The numbers of runs in this room, for those that have one."""
    c, found = t.tracked_runs.c, {}
    for start in range(0, len(ids), 500):
        rows = conn.execute(select(c.run_id, c.no).where(c.run_id.in_(list(ids[start : start + 500]))))
        found.update((RunId(run_id), no) for run_id, no in rows)
    return found


def keys(
    conn: Connection, part: str, runs: Sequence[int], of: int, *, after: str | None, limit: int, everything: bool
) -> list[tuple[int, str]]:
    """Keys in the order of their names: those that differ between the runs, or all.

    Args:
        of: how many runs are compared, with those that said nothing.
    """
    table = _TABLES[part]
    used = select(table.c.key_id.label("key_id")).where(table.c.run_no.in_(list(runs))).group_by(table.c.key_id)
    if not everything:
        differ = [func.count() < of, func.min(table.c.value) != func.max(table.c.value)]
        if part == "metrics":
            flag = case((table.c.is_nan, 1), else_=0)
            differ.append(func.min(flag) != func.max(flag))
        used = used.having(or_(*differ))
    chosen = used.subquery()
    found = select(t.keys.c.id, t.keys.c.name).join(chosen, chosen.c.key_id == t.keys.c.id)
    if after is not None:
        found = found.where(t.keys.c.name > after)
    if part == "tags" and not everything:
        found = found.where(~t.keys.c.name.startswith(_OF_CLIENTS, autoescape=True))
    return [(id, name) for id, name in conn.execute(found.order_by(t.keys.c.name).limit(limit))]


def values(conn: Connection, part: str, runs: Sequence[int], key_ids: Sequence[int]) -> dict[tuple[int, int], Any]:
    """(run, key) -> its value: a number for metrics, a text otherwise."""
    table = _TABLES[part]
    where = (table.c.run_no.in_(list(runs)), table.c.key_id.in_(list(key_ids)))
    if part != "metrics":
        rows = conn.execute(select(table.c.run_no, table.c.key_id, table.c.value).where(*where))
        return {(no, key_id): value for no, key_id, value in rows}
    rows = conn.execute(select(table.c.run_no, table.c.key_id, table.c.value, table.c.is_nan).where(*where))
    return {(no, key_id): math.nan if is_nan else value for no, key_id, value, is_nan in rows}


def names_used(conn: Connection, part: str, runs: Sequence[int]) -> set[str]:
    """Names of all parameters, metrics or tags that some runs have."""
    table, found = _TABLES[part], set[str]()
    for start in range(0, len(runs), 500):
        ids = select(table.c.key_id).distinct().where(table.c.run_no.in_(list(runs[start : start + 500])))
        found.update(conn.execute(select(t.keys.c.name).where(t.keys.c.id.in_(ids))).scalars())
    return found


def experiment_names(conn: Connection, project_id: ProjectId, ids: Sequence[int]) -> dict[int, str]:
    c, found = t.experiments.c, {}
    wanted = sorted(set(ids))
    for start in range(0, len(wanted), 500):
        where = (c.project_id == project_id, c.id.in_(wanted[start : start + 500]))
        found.update((id, name) for id, name in conn.execute(select(c.id, c.name).where(*where)))
    return found
