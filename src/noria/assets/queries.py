from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, Row, Update, bindparam, func, or_, select, update

from noria.assets import tables as t
from noria.assets.records import (
    RUN_MOVES,
    Asset,
    AssetKind,
    Content,
    Direction,
    Edge,
    Event,
    Project,
    Run,
    RunState,
    Version,
)
from noria.base.digest import Digest
from noria.base.ids import AssetId, EventId, ProjectId, RunId, VersionId, begins_id

# Statements are built once: building costs more than running them on SQLite.
_VERSIONS = select(t.versions, t.assets.c.name.label("asset")).join(t.assets, t.assets.c.id == t.versions.c.asset_id)
_VERSION = _VERSIONS.where(t.versions.c.id == bindparam("version_id"))
_VERSIONS_BY_IDS = _VERSIONS.where(t.versions.c.id.in_(bindparam("ids", expanding=True)))
_VERSION_BY_DIGEST = _VERSIONS.where(
    t.versions.c.asset_id == bindparam("asset_id"), t.versions.c.digest == bindparam("digest")
)
_ASSET = select(t.assets).where(t.assets.c.project_id == bindparam("project_id"), t.assets.c.name == bindparam("name"))
_RUN = select(t.runs).where(t.runs.c.id == bindparam("run_id"))
_SET_CURRENT = update(t.assets).where(t.assets.c.id == bindparam("asset_id")).values(current_id=bindparam("version_id"))
_LAST_HASH = (
    select(t.audit.c.hash)
    .where(t.audit.c.project_id == bindparam("project_id"))
    .order_by(t.audit.c.seq.desc())
    .limit(1)
)


def project(conn: Connection, name: str) -> Project | None:
    row = conn.execute(select(t.projects).where(t.projects.c.name == name)).one_or_none()
    return None if row is None else _project(row)


def projects(conn: Connection) -> list[Project]:
    return [_project(row) for row in conn.execute(select(t.projects).order_by(t.projects.c.name))]


def _project(row: Row[Any]) -> Project:
    return Project(id=ProjectId(row.id), name=row.name, created_at=row.created_at)


def asset(conn: Connection, project_id: ProjectId, name: str) -> Asset | None:
    row = conn.execute(_ASSET, {"project_id": project_id, "name": name}).one_or_none()
    return None if row is None else _asset(row)


def asset_by_id(conn: Connection, asset_id: AssetId) -> Asset | None:
    row = conn.execute(select(t.assets).where(t.assets.c.id == asset_id)).one_or_none()
    return None if row is None else _asset(row)


def assets(conn: Connection, project_id: ProjectId, kinds: Iterable[AssetKind] | None = None) -> list[Asset]:
    statement = select(t.assets).where(t.assets.c.project_id == project_id).order_by(t.assets.c.name)
    if kinds is not None:
        statement = statement.where(t.assets.c.kind.in_([kind.value for kind in kinds]))
    return [_asset(row) for row in conn.execute(statement)]


def _asset(row: Row[Any]) -> Asset:
    return Asset(
        id=AssetId(row.id),
        project_id=ProjectId(row.project_id),
        name=row.name,
        kind=AssetKind(row.kind),
        current_id=None if row.current_id is None else VersionId(row.current_id),
        created_at=row.created_at,
    )


def version(conn: Connection, version_id: VersionId) -> Version | None:
    row = conn.execute(_VERSION, {"version_id": version_id}).one_or_none()
    return None if row is None else _version(row)


def versions_by_ids(conn: Connection, ids: Iterable[VersionId]) -> dict[VersionId, Version]:
    wanted = list(ids)
    if len(wanted) == 1:
        found = conn.execute(_VERSION, {"version_id": wanted[0]})
    else:
        found = conn.execute(_VERSIONS_BY_IDS, {"ids": wanted})
    return {VersionId(row.id): _version(row) for row in found}


def version_by_digest(conn: Connection, asset_id: AssetId, digest: Digest) -> Version | None:
    row = conn.execute(_VERSION_BY_DIGEST, {"asset_id": asset_id, "digest": str(digest)}).one_or_none()
    return None if row is None else _version(row)


def versions_like(conn: Connection, project_id: ProjectId, prefix: str, limit: int) -> list[Version]:
    """Versions whose digest begins with these hexadecimal digits; none for a text that is no such thing."""
    if not begins_id(prefix, 64):
        return []
    where = (t.assets.c.project_id == project_id, t.versions.c.digest.like(f"blake3:{prefix}%"))
    return [_version(row) for row in conn.execute(_VERSIONS.where(*where).order_by(t.versions.c.id).limit(limit))]


def versions_of(conn: Connection, asset_id: AssetId, before: int | None, limit: int) -> list[Version]:
    statement = _VERSIONS.where(t.versions.c.asset_id == asset_id).order_by(t.versions.c.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(t.versions.c.id < before)
    return [_version(row) for row in conn.execute(statement)]


def _version(row: Row[Any]) -> Version:
    return Version(
        id=VersionId(row.id),
        asset_id=AssetId(row.asset_id),
        asset=row.asset,
        digest=Digest.parse(row.digest),
        content=Content(row.content),
        layout=Digest.parse(row.layout),
        size=row.size,
        rows=row.rows,
        meta=row.meta,
        created_at=row.created_at,
        gone=row.gone_at is not None,
    )


def run(conn: Connection, run_id: RunId) -> Run | None:
    row = conn.execute(_RUN, {"run_id": run_id}).one_or_none()
    return None if row is None else _run(row)


def runs(
    conn: Connection,
    project_id: ProjectId,
    *,
    kinds: list[str] | None = None,
    name: str | None = None,
    parent_id: RunId | None = None,
    states: list[RunState] | None = None,
    before: tuple[int, str] | None = None,
    limit: int = 100,
) -> list[Run]:
    """Newest first; ``before`` is the (started_at, id) of the last run of the page before."""
    c = t.runs.c
    statement = select(t.runs).where(c.project_id == project_id, c.deleted_at.is_(None))
    if kinds is not None:
        statement = statement.where(c.kind.in_(kinds))
    if name is not None:
        statement = statement.where(c.name == name)
    if parent_id is not None:
        statement = statement.where(c.parent_id == parent_id)
    if states is not None:
        statement = statement.where(c.state.in_([state.value for state in states]))
    if before is not None:
        started, last = before
        statement = statement.where((c.started_at < started) | ((c.started_at == started) & (c.id < last)))
    statement = statement.order_by(c.started_at.desc(), c.id.desc()).limit(limit)
    return [_run(row) for row in conn.execute(statement)]


def runs_like(conn: Connection, project_id: ProjectId, prefix: str, limit: int) -> list[RunId]:
    """Runs whose id begins with these hexadecimal digits; none for a text that is no such thing."""
    if not begins_id(prefix, 32):
        return []
    where = (t.runs.c.project_id == project_id, t.runs.c.id.like(f"{prefix}%"))
    return [RunId(found) for (found,) in conn.execute(select(t.runs.c.id).where(*where).limit(limit))]


def runs_by_ids(conn: Connection, ids: Iterable[RunId]) -> dict[RunId, Run]:
    wanted = list(ids)
    if len(wanted) == 1:  # a list, even of one, is written out anew at each execution
        rows = conn.execute(_RUN, {"run_id": wanted[0]}).all()
        return {RunId(row.id): _run(row) for row in rows}
    found: dict[RunId, Run] = {}
    for start in range(0, len(wanted), _AT_ONCE):
        part = conn.execute(_RUNS, {"ids": wanted[start : start + _AT_ONCE]}).all()
        found.update((RunId(row.id), _run(row)) for row in part)
    return found


_RUNS = select(t.runs).where(t.runs.c.id.in_(bindparam("ids", expanding=True)))
_AT_ONCE = 1_000
"""Databases bound the number of parameters of a statement."""


def _run(row: Row[Any]) -> Run:
    return Run(
        id=RunId(row.id),
        project_id=ProjectId(row.project_id),
        kind=row.kind,
        name=row.name,
        state=RunState(row.state),
        parent_id=None if row.parent_id is None else RunId(row.parent_id),
        asset_id=None if row.asset_id is None else AssetId(row.asset_id),
        actor=row.actor,
        trigger=row.trigger,
        identity=None if row.identity is None else Digest.parse(row.identity),
        started_at=row.started_at,
        ended_at=row.ended_at,
        event_ms=row.event_ms,
        error=row.error,
        cost=row.cost,
        deleted_at=row.deleted_at,
    )


def move_run(
    conn: Connection,
    run_id: RunId,
    to: RunState,
    *,
    fence: int | None,
    values: dict[str, Any],
    take: bool = False,
) -> bool:
    """Compare-and-set of a run's state: only from a state that allows it, and only under the fence given.

    Args:
        take: raise the fence, so that the process that started the run cannot end it any more.
    """
    given = {"the_run": run_id, "the_fence": fence, "state": to.value, **values}
    if fence is None:
        del given["the_fence"]
    return conn.execute(_move(to, fence is not None, take), given).rowcount == 1


@functools.cache
def _move(to: RunState, fenced: bool, take: bool) -> Update:
    sources = [state.value for state, targets in RUN_MOVES.items() if to in targets]
    # Not IN, which SQLAlchemy writes out anew at each execution.
    from_one = or_(*(t.runs.c.state == state for state in sources))
    statement = update(t.runs).where(t.runs.c.id == bindparam("the_run"), from_one)
    if fenced:
        statement = statement.where(t.runs.c.fence == bindparam("the_fence"))
    return statement.values(fence=t.runs.c.fence + 1) if take else statement


def set_current(conn: Connection, current: Mapping[AssetId, VersionId]) -> None:
    if current:
        conn.execute(_SET_CURRENT, [{"asset_id": a, "version_id": v} for a, v in current.items()])


def fence_of(conn: Connection, run_id: RunId) -> int:
    return int(conn.execute(select(t.runs.c.fence).where(t.runs.c.id == run_id)).scalar_one())


def extend_run_leases(conn: Connection, holder: str, until: int) -> None:
    where = (t.runs.c.state == RunState.RUNNING.value, t.runs.c.holder == holder)
    conn.execute(update(t.runs).where(*where).values(lease_until=until))


def expired_runs(conn: Connection, now: int) -> list[RunId]:
    where = (t.runs.c.state == RunState.RUNNING.value, t.runs.c.lease_until < now)
    return [RunId(found) for (found,) in conn.execute(select(t.runs.c.id).where(*where))]


def edges_of_runs(conn: Connection, ids: Iterable[RunId], directions: Iterable[Direction] | None = None) -> list[Edge]:
    statement = select(t.edges).where(t.edges.c.run_id.in_(list(ids))).order_by(t.edges.c.id)
    if directions is not None:
        statement = statement.where(t.edges.c.direction.in_([d.value for d in directions]))
    return [_edge(row) for row in conn.execute(statement)]


def edges_of_versions(
    conn: Connection, ids: Iterable[VersionId], directions: Iterable[Direction] | None = None
) -> list[Edge]:
    statement = select(t.edges).where(t.edges.c.version_id.in_(list(ids))).order_by(t.edges.c.id)
    if directions is not None:
        statement = statement.where(t.edges.c.direction.in_([d.value for d in directions]))
    return [_edge(row) for row in conn.execute(statement)]


def _edge(row: Row[Any]) -> Edge:
    return Edge(
        run_id=RunId(row.run_id),
        version_id=VersionId(row.version_id),
        direction=Direction(row.direction),
        slot=row.slot,
    )


def events(
    conn: Connection,
    project_id: ProjectId,
    types: list[str] | None = None,
    subject: str | None = None,
    after: int = 0,
    limit: int = 100,
    newest: bool = False,
) -> list[Event]:
    statement = select(t.events).where(t.events.c.project_id == project_id, t.events.c.id > after)
    if types is not None:
        statement = statement.where(t.events.c.type.in_(types))
    if subject is not None:
        statement = statement.where(t.events.c.subject == subject)
    order = t.events.c.id.desc() if newest else t.events.c.id
    return [event_of(row) for row in conn.execute(statement.order_by(order).limit(limit))]


def event_of(row: Row[Any]) -> Event:
    return Event(
        id=EventId(row.id),
        project_id=ProjectId(row.project_id),
        type=row.type,
        subject=row.subject,
        payload=row.payload,
        event_ms=row.event_ms,
        created_at=row.created_at,
    )


def last_audit_hash(conn: Connection, project_id: ProjectId) -> str:
    return conn.execute(_LAST_HASH, {"project_id": project_id}).scalar_one_or_none() or ""


def count(conn: Connection, table: Any) -> int:
    return int(conn.execute(select(func.count()).select_from(table)).scalar_one())
