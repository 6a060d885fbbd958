"""Wire shapes of endpoints: what HTTP sends and what ``--json`` prints."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from noria.base.times import to_text
from noria.serving.records import Deployment, Endpoint, EndpointStatus, Routing


class EndpointOut(msgspec.Struct):
    name: str
    model: str
    contract: dict[str, Any]
    policy: dict[str, Any]
    revision: int
    created_at: str


class ArmOut(msgspec.Struct):
    deployment: int
    model: str
    role: str
    weight: float


class RoutingOut(msgspec.Struct):
    """A routing revision; 0 is the empty one, of an endpoint that nobody answers yet."""

    number: int
    arms: list[ArmOut]
    paired: bool
    reason: str
    actor: str
    at: str | None


class DeploymentOut(msgspec.Struct):
    id: int
    endpoint: str
    model: str
    version: int
    state: str
    error: str
    created_at: str
    ready_at: str | None


class EndpointSummary(msgspec.Struct):
    endpoint: EndpointOut
    routing: RoutingOut


class EndpointPage(msgspec.Struct):
    items: list[EndpointSummary]


class EndpointDetail(msgspec.Struct):
    """``history``: routing revisions, newest first."""

    endpoint: EndpointOut
    routing: RoutingOut
    deployments: list[DeploymentOut]
    history: list[RoutingOut]


class DeployBody(msgspec.Struct, forbid_unknown_fields=True):
    """``model``: name, name@alias, name@v3 or name/3."""

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=300)]


def endpoint_out(endpoint: Endpoint) -> EndpointOut:
    return EndpointOut(
        name=endpoint.name,
        model=endpoint.model,
        contract=endpoint.contract,
        policy=endpoint.policy,
        revision=endpoint.revision,
        created_at=to_text(endpoint.created_at),
    )


def routing_out(routing: Routing, deployments: list[Deployment]) -> RoutingOut:
    models = {d.id: d.model for d in deployments}
    return RoutingOut(
        number=routing.number,
        arms=[ArmOut(a.deployment, models.get(a.deployment, ""), a.role, a.weight) for a in routing.arms],
        paired=routing.paired,
        reason=routing.reason,
        actor=routing.actor,
        at=to_text(routing.at) if routing.number else None,
    )


def deployment_out(deployment: Deployment) -> DeploymentOut:
    return DeploymentOut(
        id=deployment.id,
        endpoint=deployment.endpoint,
        model=deployment.model,
        version=deployment.version_id,
        state=deployment.state.value,
        error=deployment.error,
        created_at=to_text(deployment.created_at),
        ready_at=None if deployment.ready_at is None else to_text(deployment.ready_at),
    )


def summary_out(status: EndpointStatus) -> EndpointSummary:
    return EndpointSummary(endpoint_out(status.endpoint), routing_out(status.routing, status.deployments))


def detail_out(status: EndpointStatus, history: list[Routing]) -> EndpointDetail:
    return EndpointDetail(
        endpoint=endpoint_out(status.endpoint),
        routing=routing_out(status.routing, status.deployments),
        deployments=[deployment_out(d) for d in status.deployments],
        history=[routing_out(r, status.deployments) for r in history],
    )
