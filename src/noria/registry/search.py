"""Searches of models and their versions as SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, exists, func, select

from noria.base.ids import ProjectId
from noria.base.search import Clause, Order
from noria.db.compare import compare
from noria.db.paging import Part, behind, mark, marked, ordered
from noria.registry import queries
from noria.registry import tables as t
from noria.registry.records import ModelVersion, RegisteredModel

_M = t.registered_models.c
_V = t.model_versions.c
_T = t.model_tags.c
_MODEL: Final[Mapping[str, Any]] = {
    "name": _M.name,
    "creation_timestamp": _M.created_at,
    "last_updated_timestamp": _M.updated_at,
}
_VERSION: Final[Mapping[str, Any]] = {
    "name": _M.name,
    "version_number": _V.number,
    "run_id": func.coalesce(_V.run_id, _V.stray_run, ""),
    "source_path": _V.source,
    "creation_timestamp": _V.created_at,
    "last_updated_timestamp": _V.updated_at,
}


def models(
    conn: Connection,
    project_id: ProjectId,
    *,
    clauses: Sequence[Clause] = (),
    order: Sequence[Order] = (),
    without: tuple[str, str] | None = None,
    limit: int = 100,
    after: str | None = None,
) -> tuple[list[RegisteredModel], str | None]:
    """Models that fit, and the token of the next page; unasked, by name.

    Args:
        without: a tag and its value; models that have it are left out.
    """
    parts = [Part(_MODEL[o.key], o.descending) for o in order]
    if not any(o.key == "name" for o in order):
        parts.append(Part(_M.name))
    found = select(t.registered_models, *_labelled(parts)).where(
        _M.project_id == project_id, _M.deleted_at.is_(None), *(_of_model(clause) for clause in clauses)
    )
    if without is not None:
        found = found.where(~_tagged(without, _T.number == 0))
    rows, following = _page(conn, found, parts, limit, after)
    return queries.models_of(conn, rows), following


def versions(
    conn: Connection,
    project_id: ProjectId,
    *,
    clauses: Sequence[Clause] = (),
    order: Sequence[Order] = (),
    without: tuple[str, str] | None = None,
    limit: int = 100,
    after: str | None = None,
) -> tuple[list[ModelVersion], str | None]:
    """Versions that fit, and the token of the next page; unasked, what changed last comes first.

    Args:
        without: a tag and its value; models of which a version has it are left out.
    """
    parts = [Part(_VERSION[o.key], o.descending) for o in order]
    if not parts:
        parts.append(Part(_V.updated_at, descending=True))
    if not any(o.key == "name" for o in order):
        parts.append(Part(_M.name))
    if not any(o.key == "version_number" for o in order):
        parts.append(Part(_V.number, descending=True))
    found = queries.VERSIONS.add_columns(*_labelled(parts)).where(
        _M.project_id == project_id, _V.deleted_at.is_(None), *(_of_version(clause) for clause in clauses)
    )
    if without is not None:
        found = found.where(~_tagged(without, _T.number > 0))
    rows, following = _page(conn, found, parts, limit, after)
    return queries.versions_of(conn, rows), following


def _labelled(parts: Sequence[Part]) -> list[Any]:
    return [part.value.label(f"part_{n}") for n, part in enumerate(parts)]


def _page(
    conn: Connection, found: Select[Any], parts: Sequence[Part], limit: int, after: str | None
) -> tuple[Sequence[Any], str | None]:
    values = marked(after, parts)
    if values is not None:
        found = found.where(behind(parts, values))
    rows = conn.execute(found.order_by(*ordered(parts)).limit(limit + 1)).all()
    following = mark(rows[limit - 1][-len(parts) :]) if len(rows) > limit else None
    return rows[:limit], following


def _of_model(clause: Clause) -> ColumnElement[bool]:
    if clause.kind == "attribute":
        return compare(_MODEL[clause.key], clause)
    value = select(_T.value).where(_T.model_id == _M.id, _T.number == 0, _T.key == clause.key).scalar_subquery()
    return compare(value, clause)


def _of_version(clause: Clause) -> ColumnElement[bool]:
    if clause.kind == "attribute":
        return compare(_VERSION[clause.key], clause)
    here = (_T.model_id == _V.model_id, _T.number == _V.number, _T.key == clause.key)
    return compare(select(_T.value).where(*here).scalar_subquery(), clause)


def _tagged(tag: tuple[str, str], which: ColumnElement[bool]) -> ColumnElement[bool]:
    key, value = tag
    return exists().where(_T.model_id == _M.id, which, _T.key == key, _T.value == value)
