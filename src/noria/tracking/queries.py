from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, bindparam, case, exists, false, null, or_, select

from noria.assets import tables as at
from noria.base.ids import ProjectId, RunId
from noria.base.search import Clause, Order
from noria.db.compare import compare
from noria.tracking import tables as t
from noria.tracking.records import Artifact, Experiment, Point, RunData


def experiment(
    conn: Connection, project_id: ProjectId, *, name: str | None = None, id: int | None = None
) -> Experiment | None:
    where = [t.experiments.c.project_id == project_id]
    where.append(t.experiments.c.name == name if name is not None else t.experiments.c.id == id)
    row = conn.execute(select(t.experiments).where(*where)).one_or_none()
    return None if row is None else _experiment(conn, row)


_EXPERIMENT_ID = select(t.experiments.c.id).where(
    t.experiments.c.project_id == bindparam("project_id"), t.experiments.c.name == bindparam("name")
)


def experiment_id(conn: Connection, project_id: ProjectId, name: str) -> int | None:
    return conn.execute(_EXPERIMENT_ID, {"project_id": project_id, "name": name}).scalar_one_or_none()


def experiments(conn: Connection, project_id: ProjectId) -> list[Experiment]:
    found = select(t.experiments).where(t.experiments.c.project_id == project_id).order_by(t.experiments.c.id)
    return [_experiment(conn, row) for row in conn.execute(found).all()]


def _experiment(conn: Connection, row: Row[Any]) -> Experiment:
    tags = conn.execute(select(t.experiment_tags).where(t.experiment_tags.c.experiment_id == row.id))
    return Experiment(
        id=row.id,
        project_id=ProjectId(row.project_id),
        name=row.name,
        deleted=row.deleted_at is not None,
        created_at=row.created_at,
        updated_at=row.updated_at,
        tags={tag.key: tag.value for tag in tags},
    )


def point_row(run_id: RunId, point: Point) -> dict[str, Any]:
    nan = math.isnan(point.value)
    return {
        "run_id": run_id,
        "key": point.key,
        "at": point.at,
        "step": point.step,
        "value": 0.0 if nan else point.value,
        "is_nan": nan,
    }


def point_of(row: Row[Any]) -> Point:
    return Point(key=row.key, value=math.nan if row.is_nan else row.value, at=row.at, step=row.step)


def order_of(point: Point) -> tuple[int, int, float]:
    """Which of two points is the latest: by step, then time, then value (as MLflow decides)."""
    return point.step, point.at, -math.inf if math.isnan(point.value) else point.value


def latest(conn: Connection, run_id: RunId, keys: Iterable[str] | None = None) -> dict[str, Point]:
    found = select(t.latest).where(t.latest.c.run_id == run_id)
    if keys is not None:
        found = found.where(t.latest.c.key.in_(list(keys)))
    return {row.key: point_of(row) for row in conn.execute(found.order_by(t.latest.c.key))}


def history(conn: Connection, run_id: RunId, key: str, after: int, limit: int) -> list[tuple[int, Point]]:
    where = (t.points.c.run_id == run_id, t.points.c.key == key, t.points.c.id > after)
    return [
        (row.id, point_of(row))
        for row in conn.execute(select(t.points).where(*where).order_by(t.points.c.id).limit(limit))
    ]


def params(conn: Connection, run_id: RunId) -> dict[str, str]:
    found = select(t.params).where(t.params.c.run_id == run_id).order_by(t.params.c.key)
    return {row.key: row.value for row in conn.execute(found)}


def tags(conn: Connection, run_id: RunId) -> dict[str, str]:
    found = select(t.tags).where(t.tags.c.run_id == run_id).order_by(t.tags.c.key)
    return {row.key: row.value for row in conn.execute(found)}


def run_data(conn: Connection, ids: list[RunId]) -> dict[RunId, RunData]:
    """What several runs said, in five queries whatever their number."""
    tracked = {r.run_id: r for r in conn.execute(select(t.tracked_runs).where(t.tracked_runs.c.run_id.in_(ids)))}
    made = {
        run_id: RunData(
            run_id=run_id,
            experiment_id=tracked[run_id].experiment_id if run_id in tracked else None,
            user=tracked[run_id].user if run_id in tracked else "",
            params={},
            metrics={},
            tags={},
        )
        for run_id in ids
    }
    for row in conn.execute(select(t.params).where(t.params.c.run_id.in_(ids)).order_by(t.params.c.key)):
        made[RunId(row.run_id)].params[row.key] = row.value
    for row in conn.execute(select(t.latest).where(t.latest.c.run_id.in_(ids)).order_by(t.latest.c.key)):
        made[RunId(row.run_id)].metrics[row.key] = point_of(row)
    for row in conn.execute(select(t.tags).where(t.tags.c.run_id.in_(ids)).order_by(t.tags.c.key)):
        made[RunId(row.run_id)].tags[row.key] = row.value
    return made


def artifacts(conn: Connection, run_id: RunId) -> list[Artifact]:
    found = select(t.artifacts).where(t.artifacts.c.run_id == run_id).order_by(t.artifacts.c.path)
    return [
        Artifact(path=row.path, size=row.size, content_kind=row.content_kind, content=row.content)
        for row in conn.execute(found)
    ]


def search(
    conn: Connection,
    project_id: ProjectId,
    clauses: Sequence[Clause],
    *,
    experiment_id: int | None,
    order: Order | None,
    offset: int,
    limit: int,
) -> list[RunId]:
    """Ids of the runs that fit, newest first or by one value; missing values come last."""
    runs = at.runs.c
    found: Select[Any] = select(at.runs.c.id).where(runs.project_id == project_id, runs.deleted_at.is_(None))
    if experiment_id is not None:
        found = found.join(t.tracked_runs, t.tracked_runs.c.run_id == runs.id)
        found = found.where(t.tracked_runs.c.experiment_id == experiment_id)
    for clause in clauses:
        found = found.where(_condition(clause))
    if order is not None:
        found = _ordered(found, order)
    found = found.order_by(runs.started_at.desc(), runs.id.desc()).offset(offset).limit(limit)
    return [RunId(one) for (one,) in conn.execute(found)]


def _ordered(found: Select[Any], order: Order) -> Select[Any]:
    runs = at.runs.c
    if order.kind in _VALUES:
        table = _VALUES[order.kind].alias("ordered")
        found = found.outerjoin(table, (table.c.run_id == runs.id) & (table.c.key == order.key))
        # NaN has no place in an order: it comes last, like a missing value.
        value: Any = case((table.c.is_nan, null()), else_=table.c.value) if order.kind == "metric" else table.c.value
    elif order.key == "user":
        table = t.tracked_runs.alias("ordered")
        found = found.outerjoin(table, table.c.run_id == runs.id)
        value = table.c.user
    elif order.key in _COLUMNS:
        value = runs[_COLUMNS[order.key]]
    else:
        return found
    return found.order_by((value.desc() if order.descending else value.asc()).nulls_last())


_VALUES = {"metric": t.latest, "param": t.params, "tag": t.tags}
_COLUMNS = {
    "run_id": "id",
    "name": "name",
    "state": "state",
    "status": "state",
    "kind": "kind",
    "start_time": "started_at",
    "end_time": "ended_at",
}


def _condition(clause: Clause) -> ColumnElement[bool]:
    if clause.kind == "attribute":
        return _attribute(clause)
    table = _VALUES.get(clause.kind)
    if table is None:  # nothing of this kind is kept for runs
        return false()
    where = [table.c.run_id == at.runs.c.id, table.c.key == clause.key]
    if clause.op in ("is_null", "is_not_null"):
        there = exists().where(*where)
        return ~there if clause.op == "is_null" else there
    compared = compare(table.c.value, clause)
    if clause.kind == "metric":
        # NaN differs from every number and has no other relation to one.
        compared = or_(compared, table.c.is_nan) if clause.op == "!=" else compared & ~table.c.is_nan
    return exists().where(*where, compared)


def _attribute(clause: Clause) -> ColumnElement[bool]:
    if clause.key == "user":
        where = (t.tracked_runs.c.run_id == at.runs.c.id, compare(t.tracked_runs.c.user, clause))
        return exists().where(*where)
    if clause.key not in _COLUMNS:
        return false()
    return compare(at.runs.c[_COLUMNS[clause.key]], clause)
