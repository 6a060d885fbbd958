from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, delete, func, select, update

from noria.base.ids import ProjectId, RunId, VersionId
from noria.db import Tx
from noria.registry import tables as t
from noria.registry.records import ModelVersion, RegisteredModel, Stage

_M = t.registered_models.c
_V = t.model_versions.c
_PART: Final = 400
"""Models that one statement asks for."""

VERSIONS: Final[Select[Any]] = select(t.model_versions, _M.name).join(
    t.registered_models, t.registered_models.c.id == t.model_versions.c.model_id
)


def model(conn: Connection, project_id: ProjectId, name: str) -> RegisteredModel | None:
    where = (_M.project_id == project_id, _M.name == name, _M.deleted_at.is_(None))
    row = conn.execute(select(t.registered_models).where(*where)).one_or_none()
    return None if row is None else models_of(conn, [row])[0]


def models(conn: Connection, project_id: ProjectId) -> list[RegisteredModel]:
    found = select(t.registered_models).where(_M.project_id == project_id, _M.deleted_at.is_(None))
    return models_of(conn, conn.execute(found.order_by(_M.name)).all())


def names(conn: Connection, project_id: ProjectId, limit: int = 1_000) -> list[str]:
    """For telling people what they may have meant."""
    found = select(_M.name).where(_M.project_id == project_id, _M.deleted_at.is_(None))
    return list(conn.execute(found.order_by(_M.name).limit(limit)).scalars())


def models_of(conn: Connection, rows: Sequence[Row[Any]]) -> list[RegisteredModel]:
    """Records of rows, with their aliases and tags."""
    ids = [row.id for row in rows]
    aliases: dict[int, dict[str, int]] = {id: {} for id in ids}
    tags: dict[int, dict[str, str]] = {id: {} for id in ids}
    for part in _parts(ids):
        for row in conn.execute(_aliases(part)):
            aliases[row.model_id][row.alias] = row.number
        own = select(t.model_tags).where(t.model_tags.c.model_id.in_(part), t.model_tags.c.number == 0)
        for row in conn.execute(own.order_by(t.model_tags.c.key)):
            tags[row.model_id][row.key] = row.value
    return [
        RegisteredModel(
            id=row.id,
            project_id=ProjectId(row.project_id),
            name=row.name,
            description=row.description,
            created_at=row.created_at,
            updated_at=row.updated_at,
            aliases=aliases[row.id],
            tags=tags[row.id],
        )
        for row in rows
    ]


def _aliases(ids: Sequence[int]) -> Select[Any]:
    return select(t.model_aliases).where(t.model_aliases.c.model_id.in_(ids)).order_by(t.model_aliases.c.alias)


def _parts(ids: Iterable[int]) -> Iterable[list[int]]:
    wanted = list(dict.fromkeys(ids))
    return (wanted[start : start + _PART] for start in range(0, len(wanted), _PART))


def next_number(tx: Tx, model_id: int) -> int:
    tx.lock(f"model:{model_id}")
    found = select(func.max(_V.number)).where(_V.model_id == model_id)
    return (tx.execute(found).scalar_one_or_none() or 0) + 1


def numbers(conn: Connection, model_id: int) -> set[int]:
    """Numbers that a model has used, those of deleted versions too."""
    return set(conn.execute(select(_V.number).where(_V.model_id == model_id)).scalars())


def version(conn: Connection, model_id: int, number: int) -> ModelVersion | None:
    found = VERSIONS.where(_V.model_id == model_id, _V.number == number, _V.deleted_at.is_(None))
    return next(iter(versions_of(conn, conn.execute(found).all())), None)


def version_of_run(conn: Connection, model_id: int, run_id: RunId, version_id: VersionId | None) -> ModelVersion | None:
    where = (_V.model_id == model_id, _V.run_id == run_id, _V.version_id == version_id, _V.deleted_at.is_(None))
    found = VERSIONS.where(*where).order_by(_V.number).limit(1)
    return next(iter(versions_of(conn, conn.execute(found).all())), None)


def versions(conn: Connection, model_id: int, *, limit: int | None = None) -> list[ModelVersion]:
    """Newest first."""
    found = VERSIONS.where(_V.model_id == model_id, _V.deleted_at.is_(None)).order_by(_V.number.desc()).limit(limit)
    return versions_of(conn, conn.execute(found).all())


def newest_by_stage(conn: Connection, model_ids: Sequence[int]) -> dict[int, list[ModelVersion]]:
    """Model -> its newest version of each stage."""
    made: dict[int, list[ModelVersion]] = {id: [] for id in model_ids}
    for part in _parts(model_ids):
        newest = (
            select(_V.model_id, func.max(_V.number).label("number"))
            .where(_V.model_id.in_(part), _V.deleted_at.is_(None))
            .group_by(_V.model_id, _V.stage)
            .subquery()
        )
        join = (newest.c.model_id == _V.model_id) & (newest.c.number == _V.number)
        rows = conn.execute(VERSIONS.join(newest, join).order_by(_V.model_id, _V.number)).all()
        for found in versions_of(conn, rows):
            made[found.model_id].append(found)
    return made


def versions_with(conn: Connection, version_ids: Sequence[VersionId], *, deleted: bool = False) -> list[ModelVersion]:
    found = VERSIONS.where(_V.version_id.in_(version_ids)).order_by(_V.created_at)
    if not deleted:
        found = found.where(_V.deleted_at.is_(None))
    return versions_of(conn, conn.execute(found).all())


def versions_of(conn: Connection, rows: Sequence[Row[Any]]) -> list[ModelVersion]:
    """Records of rows, with their aliases and tags."""
    aliases: dict[tuple[int, int], list[str]] = {(row.model_id, row.number): [] for row in rows}
    tags: dict[tuple[int, int], dict[str, str]] = {at: {} for at in aliases}
    by_model: dict[int, list[int]] = {}
    for model_id, number in aliases:
        by_model.setdefault(model_id, []).append(number)
    for part in _parts(by_model):
        for row in conn.execute(_aliases(part)):
            if (row.model_id, row.number) in aliases:
                aliases[row.model_id, row.number].append(row.alias)
    for model_id, numbers in by_model.items():
        for part in _parts(numbers):
            c = t.model_tags.c
            found = select(t.model_tags).where(c.model_id == model_id, c.number.in_(part)).order_by(c.key)
            for row in conn.execute(found):
                tags[model_id, row.number][row.key] = row.value
    return [
        ModelVersion(
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
            stage=Stage(row.stage),
            stray_run=row.stray_run,
            link=row.link,
            logged_model=row.logged_model,
            aliases=tuple(aliases[row.model_id, row.number]),
            tags=tags[row.model_id, row.number],
        )
        for row in rows
    ]


# ---- changes


def touch(tx: Tx, model_id: int, **values: Any) -> None:
    """A registered model changed now, or when ``updated_at`` says."""
    changed = {"updated_at": tx.now_ms, **values}
    tx.execute(update(t.registered_models).where(_M.id == model_id).values(changed))


def touch_version(tx: Tx, model_id: int, number: int, **values: Any) -> None:
    changed = update(t.model_versions).where(_V.model_id == model_id, _V.number == number)
    tx.execute(changed.values({"updated_at": tx.now_ms, **values}))


def touch_versions(tx: Tx, model_id: int) -> None:
    """All versions of a model changed now."""
    changed = update(t.model_versions).where(_V.model_id == model_id, _V.deleted_at.is_(None))
    tx.execute(changed.values(updated_at=tx.now_ms))


def drop_version(tx: Tx, model_id: int, number: int) -> None:
    """Takes away what a version says; its row stays, and with it its number."""
    touch_version(tx, model_id, number, deleted_at=tx.now_ms, description="", source="", link="")
    tx.execute(delete(t.model_tags).where(t.model_tags.c.model_id == model_id, t.model_tags.c.number == number))


def drop_model(tx: Tx, model_id: int, name: str) -> None:
    """The same of a registered model and all its versions; its name is free for another one then."""
    gone = update(t.model_versions).where(_V.model_id == model_id, _V.deleted_at.is_(None))
    tx.execute(gone.values(updated_at=tx.now_ms, deleted_at=tx.now_ms, description="", source="", link=""))
    for table in (t.model_tags, t.model_aliases):
        tx.execute(delete(table).where(table.c.model_id == model_id))
    touch(tx, model_id, deleted_at=tx.now_ms, description="", name=f"{name}:{model_id}")


def archive_others(tx: Tx, model_id: int, number: int, stage: Stage) -> list[int]:
    """Versions that were in this stage and are archived now."""
    where = (_V.model_id == model_id, _V.number != number, _V.stage == stage.value, _V.deleted_at.is_(None))
    found = list(tx.execute(select(_V.number).where(*where).order_by(_V.number)).scalars())
    changed = update(t.model_versions).where(*where)
    tx.execute(changed.values(stage=Stage.ARCHIVED.value, updated_at=tx.now_ms))
    return found


def delete_tag(tx: Tx, model_id: int, number: int, key: str) -> bool:
    c = t.model_tags.c
    gone = delete(t.model_tags).where(c.model_id == model_id, c.number == number, c.key == key)
    return tx.execute(gone).rowcount == 1


# ---- aliases


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
