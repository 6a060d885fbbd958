from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, select, update

from noria.base.digest import Digest
from noria.base.ids import ProjectId, VersionId
from noria.db import Tx
from noria.serving import tables as t
from noria.serving.records import DEPLOYMENT_MOVES, EMPTY, Arm, Deployment, DeploymentState, Endpoint, Routing

_DEPLOYMENTS = select(t.deployments, t.endpoints.c.name.label("endpoint")).join(
    t.endpoints, t.endpoints.c.id == t.deployments.c.endpoint_id
)


def endpoint(conn: Connection, project_id: ProjectId, name: str) -> Endpoint | None:
    where = (t.endpoints.c.project_id == project_id, t.endpoints.c.name == name)
    row = conn.execute(select(t.endpoints).where(*where)).one_or_none()
    return None if row is None else _endpoint(row)


def endpoints(conn: Connection, project_id: ProjectId) -> list[Endpoint]:
    found = select(t.endpoints).where(t.endpoints.c.project_id == project_id).order_by(t.endpoints.c.name)
    return [_endpoint(row) for row in conn.execute(found)]


def _endpoint(row: Row[Any]) -> Endpoint:
    return Endpoint(
        id=row.id,
        project_id=ProjectId(row.project_id),
        name=row.name,
        model=row.model,
        contract=row.contract,
        policy=row.policy,
        revision=row.revision,
        created_at=row.created_at,
    )


def has_endpoints(conn: Connection, project_id: ProjectId) -> bool:
    found = select(t.endpoints.c.id).where(t.endpoints.c.project_id == project_id).limit(1)
    return conn.execute(found).first() is not None


def has_deployments(conn: Connection, project_id: ProjectId) -> bool:
    """Whether there is one that workers have to load, or hold."""
    ids = select(t.endpoints.c.id).where(t.endpoints.c.project_id == project_id)
    held = [DeploymentState.STARTING.value, DeploymentState.READY.value]
    found = select(t.deployments.c.id).where(t.deployments.c.endpoint_id.in_(ids), t.deployments.c.state.in_(held))
    return conn.execute(found.limit(1)).first() is not None


def deployment(conn: Connection, deployment_id: int) -> Deployment | None:
    row = conn.execute(_DEPLOYMENTS.where(t.deployments.c.id == deployment_id)).one_or_none()
    return None if row is None else _deployment(row)


def deployment_of(conn: Connection, endpoint_id: int, model: str) -> Deployment | None:
    where = (t.deployments.c.endpoint_id == endpoint_id, t.deployments.c.model == model)
    row = conn.execute(_DEPLOYMENTS.where(*where)).one_or_none()
    return None if row is None else _deployment(row)


def deployments(conn: Connection, endpoint_id: int) -> list[Deployment]:
    found = _DEPLOYMENTS.where(t.deployments.c.endpoint_id == endpoint_id).order_by(t.deployments.c.id)
    return [_deployment(row) for row in conn.execute(found)]


def deployments_of_versions(conn: Connection, ids: list[VersionId]) -> list[Deployment]:
    return [_deployment(row) for row in conn.execute(_DEPLOYMENTS.where(t.deployments.c.version_id.in_(ids)))]


def _deployment(row: Row[Any]) -> Deployment:
    return Deployment(
        id=row.id,
        endpoint_id=row.endpoint_id,
        endpoint=row.endpoint,
        model=row.model,
        version_id=VersionId(row.version_id),
        package=Digest.parse(row.package),
        code=Digest.parse(row.code),
        state=DeploymentState(row.state),
        error=row.error,
        created_at=row.created_at,
        ready_at=row.ready_at,
    )


def stamp(conn: Connection, project_id: ProjectId) -> list[Any]:
    """Revisions of the endpoints and states of the deployments, as plain values."""
    ids = select(t.endpoints.c.id).where(t.endpoints.c.project_id == project_id)
    revisions = select(t.endpoints.c.id, t.endpoints.c.revision).where(t.endpoints.c.project_id == project_id)
    states = select(t.deployments.c.id, t.deployments.c.state).where(t.deployments.c.endpoint_id.in_(ids))
    rows = [*conn.execute(revisions.order_by(t.endpoints.c.id)), *conn.execute(states.order_by(t.deployments.c.id))]
    return [tuple(row) for row in rows]


def serves_model(conn: Connection, project_id: ProjectId, name: str, number: int | None) -> str | None:
    """The name of an endpoint that serves a model, or (with a number) has a live deployment of that version."""
    found = select(t.endpoints.c.name).where(t.endpoints.c.project_id == project_id, t.endpoints.c.model == name)
    if number is not None:
        live = [DeploymentState.STARTING.value, DeploymentState.READY.value]
        found = found.join(t.deployments, t.deployments.c.endpoint_id == t.endpoints.c.id)
        found = found.where(t.deployments.c.model == f"{name}/{number}", t.deployments.c.state.in_(live))
    return conn.execute(found.limit(1)).scalar_one_or_none()


def move_deployment(conn: Connection, deployment_id: int, to: DeploymentState, values: dict[str, Any]) -> bool:
    sources = [state.value for state, targets in DEPLOYMENT_MOVES.items() if to in targets]
    where = (t.deployments.c.id == deployment_id, t.deployments.c.state.in_(sources))
    return conn.execute(update(t.deployments).where(*where).values(state=to.value, **values)).rowcount == 1


def routing(conn: Connection, endpoint_id: int, number: int) -> Routing:
    where = (t.routing.c.endpoint_id == endpoint_id, t.routing.c.number == number)
    row = conn.execute(select(t.routing).where(*where)).one_or_none()
    return EMPTY if row is None else _routing(row)


def routings(conn: Connection, endpoint_id: int, limit: int) -> list[Routing]:
    found = select(t.routing).where(t.routing.c.endpoint_id == endpoint_id).order_by(t.routing.c.number.desc())
    return [_routing(row) for row in conn.execute(found.limit(limit))]


def _routing(row: Row[Any]) -> Routing:
    return Routing(
        number=row.number,
        arms=tuple(Arm(deployment=d, role=r, weight=w) for d, r, w in row.arms),
        salt=row.salt,
        paired=row.paired,
        reason=row.reason,
        actor=row.actor,
        at=row.at,
    )


def move_revision(tx: Tx, endpoint_id: int, before: int, after: int) -> bool:
    """Compare-and-swap of an endpoint's revision number."""
    where = (t.endpoints.c.id == endpoint_id, t.endpoints.c.revision == before)
    return tx.execute(update(t.endpoints).where(*where).values(revision=after)).rowcount == 1


def taken(conn: Connection) -> dict[str, int]:
    """Segment -> how many of its bytes were taken over."""
    return {row.name: row.taken for row in conn.execute(select(t.capture_segments))}
