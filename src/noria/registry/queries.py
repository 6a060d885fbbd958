from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, delete, func, select, update

from noria.base.ids import ProjectId, RunId, VersionId
from noria.db import Tx
from noria.registry import tables as t
from noria.registry.records import ModelVersion, RegisteredModel

_VERSIONS = select(t.model_versions, t.registered_models.c.name).join(
    t.registered_models, t.registered_models.c.id == t.model_versions.c.model_id
)


def model(conn: Connection, project_id: ProjectId, name: str) -> RegisteredModel | None:
    where = (t.registered_models.c.project_id == project_id, t.registered_models.c.name == name)
    row = conn.execute(select(t.registered_models).where(*where)).one_or_none()
    return None if row is None else _model(conn, row)


def models(conn: Connection, project_id: ProjectId) -> list[RegisteredModel]:
    found = select(t.registered_models).where(t.registered_models.c.project_id == project_id)
    return [_model(conn, row) for row in conn.execute(found.order_by(t.registered_models.c.name)).all()]


def _model(conn: Connection, row: Row[Any]) -> RegisteredModel:
    aliases = conn.execute(select(t.model_aliases).where(t.model_aliases.c.model_id == row.id))
    return RegisteredModel(
        id=row.id,
        project_id=ProjectId(row.project_id),
        name=row.name,
        description=row.description,
        created_at=row.created_at,
        updated_at=row.updated_at,
        aliases={a.alias: a.number for a in aliases},
        tags=_tags(conn, row.id, 0),
    )


def _tags(conn: Connection, model_id: int, number: int) -> dict[str, str]:
    where = (t.model_tags.c.model_id == model_id, t.model_tags.c.number == number)
    return {row.key: row.value for row in conn.execute(select(t.model_tags).where(*where))}


def next_number(tx: Tx, model_id: int) -> int:
    tx.lock(f"model:{model_id}")
    found = select(func.max(t.model_versions.c.number)).where(t.model_versions.c.model_id == model_id)
    return (tx.execute(found).scalar_one_or_none() or 0) + 1


def version(conn: Connection, model_id: int, number: int) -> ModelVersion | None:
    where = (t.model_versions.c.model_id == model_id, t.model_versions.c.number == number)
    row = conn.execute(_VERSIONS.where(*where)).one_or_none()
    return None if row is None else _version(conn, row)


def version_of_run(conn: Connection, model_id: int, run_id: RunId, version_id: VersionId | None) -> ModelVersion | None:
    where = (
        t.model_versions.c.model_id == model_id,
        t.model_versions.c.run_id == run_id,
        t.model_versions.c.version_id == version_id,
    )
    row = conn.execute(_VERSIONS.where(*where).order_by(t.model_versions.c.number).limit(1)).one_or_none()
    return None if row is None else _version(conn, row)


def versions(conn: Connection, model_id: int) -> list[ModelVersion]:
    found = _VERSIONS.where(t.model_versions.c.model_id == model_id).order_by(t.model_versions.c.number.desc())
    return [_version(conn, row) for row in conn.execute(found).all()]


def versions_with(conn: Connection, version_ids: list[VersionId]) -> list[ModelVersion]:
    found = _VERSIONS.where(t.model_versions.c.version_id.in_(version_ids)).order_by(t.model_versions.c.created_at)
    return [_version(conn, row) for row in conn.execute(found).all()]


def _version(conn: Connection, row: Row[Any]) -> ModelVersion:
    return ModelVersion(
        model=row.name,
        number=row.number,
        model_id=row.model_id,
        version_id=None if row.version_id is None else VersionId(row.version_id),
        run_id=None if row.run_id is None else RunId(row.run_id),
        source=row.source,
        status=row.status,
        description=row.description,
        created_at=row.created_at,
        updated_at=row.updated_at,
        tags=_tags(conn, row.model_id, row.number),
    )


def alias(conn: Connection, model_id: int, name: str) -> int | None:
    where = (t.model_aliases.c.model_id == model_id, t.model_aliases.c.alias == name)
    return conn.execute(select(t.model_aliases.c.number).where(*where)).scalar_one_or_none()


def move_alias(tx: Tx, model_id: int, name: str, before: int | None, after: int | None) -> bool:
    """Compare-and-swap; ``after`` None removes the alias."""
    c = t.model_aliases.c
    here = (c.model_id == model_id, c.alias == name)
    if before is None:
        if after is None:
            return alias(tx.conn, model_id, name) is None
        row = {"model_id": model_id, "alias": name, "number": after, "updated_at": tx.now_ms}
        return tx.insert_new(t.model_aliases, row)
    same = (*here, c.number == before)
    if after is None:
        return tx.execute(delete(t.model_aliases).where(*same)).rowcount == 1
    changed = update(t.model_aliases).where(*same).values(number=after, updated_at=tx.now_ms)
    return tx.execute(changed).rowcount == 1
