"""Logged models as rows: reading them with what they say, and their search."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, case, delete, exists, false, func, or_, select
from sqlalchemy import null as nothing

from noria.base.ids import ProjectId, RunId, VersionId
from noria.base.search import Clause
from noria.db import Tx
from noria.db.compare import compare
from noria.db.paging import Part, behind, mark, marked, ordered
from noria.tracking import tables as t
from noria.tracking.errors import LoggedModelInvalid
from noria.tracking.keys import Keys
from noria.tracking.records import LoggedModel, LoggedPoint, LoggedState
from noria.tracking.search import uri

_M = t.logged_models.c
_P = t.logged_metrics.c
_PART: Final = 400
"""Models that one statement asks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedOrder:
    """One part of an order: an attribute, or ``metrics.NAME``, maybe only as measured on a dataset."""

    field: str
    descending: bool = False
    dataset: str = ""
    digest: str = ""


# ---- reading


def model(conn: Connection, id: str, *, full: bool = True) -> LoggedModel | None:
    """A logged model, deleted ones too. ``full``: with parameters, tags and metrics."""
    rows = conn.execute(select(t.logged_models).where(_M.id == id)).all()
    return next(iter(_filled(conn, rows) if full else [_model(row) for row in rows]), None)


def numbers(conn: Connection, ids: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Id -> number and project, for those that are there."""
    wanted, found = list(dict.fromkeys(ids)), dict[str, tuple[int, int]]()
    for start in range(0, len(wanted), _PART):
        rows = select(_M.id, _M.no, _M.project_id).where(_M.id.in_(wanted[start : start + _PART]))
        found.update((id, (no, project)) for id, no, project in conn.execute(rows))
    return found


def _model(row: Row[Any]) -> LoggedModel:
    return LoggedModel(
        no=row.no,
        id=row.id,
        project_id=ProjectId(row.project_id),
        experiment_id=row.experiment_id,
        name=row.name,
        kind=row.kind,
        state=LoggedState(row.state),
        status_message=row.status_message,
        source_run=row.source_run,
        version_id=None if row.version_id is None else VersionId(row.version_id),
        created_at=row.created_at,
        updated_at=row.updated_at,
        deleted=row.deleted,
    )


def _filled(conn: Connection, rows: Sequence[Row[Any]]) -> list[LoggedModel]:
    made = [_model(row) for row in rows]
    by_no = {found.no: found for found in made}
    every = list(by_no)
    for start in range(0, len(every), _PART):
        part = every[start : start + _PART]
        for table, of in ((t.logged_params, "params"), (t.logged_tags, "tags")):
            texts = select(table.c.model_no, t.keys.c.name, table.c.value).join(t.keys, t.keys.c.id == table.c.key_id)
            for no, key, value in conn.execute(texts.where(table.c.model_no.in_(part)).order_by(t.keys.c.name)):
                getattr(by_no[no], of)[key] = value
        points = select(t.logged_metrics, t.keys.c.name, t.tracked_runs.c.run_id).select_from(
            t.logged_metrics.join(t.keys, t.keys.c.id == _P.key_id).join(
                t.tracked_runs, t.tracked_runs.c.no == _P.run_no
            )
        )
        for row in conn.execute(
            points.where(_P.model_no.in_(part)).order_by(_P.model_no, t.keys.c.name, _P.at, _P.step)
        ):
            by_no[row.model_no].metrics.append(
                LoggedPoint(
                    key=row.name,
                    value=math.nan if row.is_nan else row.value,
                    at=row.at,
                    step=row.step,
                    run_id=RunId(row.run_id),
                    dataset=row.dataset,
                    digest=row.digest,
                )
            )
    return made


# ---- what runs read and made


def of_runs(conn: Connection, ids: Sequence[RunId]) -> list[tuple[RunId, bool, str, int | None]]:
    """Run, whether it made it, id of the model, step; in the order of models."""
    c, found = t.run_models.c, list[tuple[RunId, bool, str, int | None]]()
    for start in range(0, len(ids), _PART):
        rows = select(t.tracked_runs.c.run_id, c.made, c.model_id, c.step).join(
            t.tracked_runs, t.tracked_runs.c.no == c.run_no
        )
        rows = rows.outerjoin(t.logged_models, _M.id == c.model_id)
        rows = rows.where(t.tracked_runs.c.run_id.in_(list(ids[start : start + _PART]))).order_by(_M.no, c.model_id)
        found += [(RunId(run), bool(made), id, step) for run, made, id, step in conn.execute(rows)]
    return found


def made_by(conn: Connection, ids: Sequence[RunId]) -> dict[str, RunId]:
    """Logged model -> the run that made it."""
    c = t.logged_models.c
    rows = conn.execute(select(c.id, c.source_run).where(c.source_run.in_(list(ids))))
    return {id: RunId(run) for id, run in rows}


def delete_tag(tx: Tx, no: int, key_id: int) -> bool:
    c = t.logged_tags.c
    return tx.execute(delete(t.logged_tags).where(c.model_no == no, c.key_id == key_id)).rowcount == 1


# ---- search

_ATTRIBUTES: Final[Mapping[str, Any]] = {
    "name": _M.name,
    "model_id": _M.id,
    "status": func.upper(_M.state),
    "model_type": _M.kind,
    "source_run_id": _M.source_run,
    "status_message": _M.status_message,
    "creation_timestamp": _M.created_at,
    "last_updated_timestamp": _M.updated_at,
    "experiment_id": _M.experiment_id,
}


def search(
    conn: Connection,
    keys: Keys,
    project_id: ProjectId,
    experiments: Sequence[int],
    *,
    clauses: Sequence[Clause] = (),
    order: Sequence[LoggedOrder] = (),
    datasets: Sequence[tuple[str, str]] = (),
    limit: int = 100,
    after: str | None = None,
    root: str = "",
) -> tuple[list[LoggedModel], str | None]:
    """Models that fit, and the token of the next page; unasked, the newest come first.

    Args:
        root: where files lie whose experiment names no place, for ``artifact_location``.
        datasets: name and digest (empty: any); metrics count only where they were measured on one of them.
    """
    names = {c.key for c in clauses if c.kind != "attribute"} | {
        o.field.partition(".")[2] for o in order if o.field.startswith("metrics.")
    }
    ids = keys.find(conn, names) if names else {}
    parts = [part for one in order for part in _parts(one, ids)]
    asked = {one.field for one in order}
    if "creation_timestamp" not in asked:
        parts.append(Part(_M.created_at, descending=True))
    if "model_id" not in asked:
        parts.append(Part(_M.id))
    measured = or_(*(_on(name, digest) for name, digest in datasets)) if datasets else None
    where = [_condition(clause, ids, measured, root) for clause in clauses]
    if measured is not None and not any(clause.kind == "metric" for clause in clauses):
        where.append(exists().where(_P.model_no == _M.no, measured))
    found: Select[Any] = select(t.logged_models, *(part.value.label(f"part_{n}") for n, part in enumerate(parts)))
    few = len(experiments) == 1
    place = _M.experiment_id == experiments[0] if few else _M.experiment_id.in_(list(experiments))
    found = found.where(_M.project_id == project_id, place, ~_M.deleted, *where)
    values = marked(after, parts)
    if values is not None:
        found = found.where(behind(parts, values))
    rows = conn.execute(found.order_by(*ordered(parts)).limit(limit + 1)).all()
    following = mark(rows[limit - 1][-len(parts) :]) if len(rows) > limit else None
    return _filled(conn, rows[:limit]), following


def _on(name: str, digest: str) -> ColumnElement[bool]:
    return and_(_P.dataset == name, _P.digest == digest) if digest else _P.dataset == name


def _parts(order: LoggedOrder, ids: Mapping[str, int]) -> list[Part]:
    """What is missing comes last in either direction."""
    if not order.field.startswith("metrics."):
        if order.field not in _ATTRIBUTES:
            raise LoggedModelInvalid(
                f"Logged models cannot be ordered by {order.field!r:.100}.",
                hint=f"metrics.NAME, or one of {', '.join(_ATTRIBUTES)}.",
            )
        return [Part(_ATTRIBUTES[order.field], order.descending)]
    key_id = ids.get(order.field.partition(".")[2])
    if key_id is None:
        return []
    newest = select(case((_P.is_nan, nothing()), else_=_P.value)).where(_P.model_no == _M.no, _P.key_id == key_id)
    if order.dataset:
        newest = newest.where(_P.dataset == order.dataset)
    if order.digest:
        newest = newest.where(_P.digest == order.digest)
    value = newest.order_by(_P.at.desc(), _P.step.desc(), _P.run_no, _P.dataset, _P.digest).limit(1).scalar_subquery()
    return [Part(case((value.is_(None), 1), else_=0)), Part(value, order.descending, whole=False)]


def _condition(
    clause: Clause, ids: Mapping[str, int], measured: ColumnElement[bool] | None, root: str
) -> ColumnElement[bool]:
    if clause.kind == "attribute":
        return _of_attribute(clause, root)
    key_id = ids.get(clause.key)
    if key_id is None:
        return false()
    if clause.kind == "metric":
        here = [_P.model_no == _M.no, _P.key_id == key_id, *([] if measured is None else [measured])]
        if clause.op == "!=":  # NaN differs from every number
            return exists().where(*here, or_(_P.is_nan, compare(_P.value, clause)))
        return exists().where(*here, ~_P.is_nan, compare(_P.value, clause))
    table = {"param": t.logged_params, "tag": t.logged_tags}[clause.kind]
    value = select(table.c.value).where(table.c.model_no == _M.no, table.c.key_id == key_id).scalar_subquery()
    return compare(value, clause)


def _of_attribute(clause: Clause, root: str) -> ColumnElement[bool]:
    if clause.key == "lifecycle_stage":
        return compare(case((_M.deleted, "deleted"), else_="active"), clause)
    if clause.key == "artifact_location":
        return compare(uri(root, _M.experiment_id, "/models/", _M.id), clause)
    if clause.key == "experiment_id":  # a number here, a text in the filter
        texts = clause.value if isinstance(clause.value, tuple) else (clause.value,)
        known = [int(x) for x in map(str, texts) if x.isascii() and x.isdecimal() and len(x) < 19]
        value = tuple(known) if isinstance(clause.value, tuple) else next(iter(known), -1)
        if clause.op in ("like", "ilike"):
            raise LoggedModelInvalid("experiment_id is compared with = and != only.")
        return compare(_M.experiment_id, replace(clause, value=value))
    return compare(_ATTRIBUTES[clause.key], clause)
