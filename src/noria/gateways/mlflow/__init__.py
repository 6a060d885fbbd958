"""MLflow's protocol: unmodified clients log to noria, search in it and load from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from noria.db.group import GroupWriter
from noria.gateways.mlflow import (
    absent,
    artifacts,
    assessments,
    experiments,
    metrics,
    models,
    oldtraces,
    probes,
    registry,
    runs,
    search,
    spans,
    tracemetrics,
    traces,
    webhooks,
)
from noria.gateways.mlflow.app import Gateway
from noria.gateways.mlflow.door import Door
from noria.gateways.mlflow.routes import Route
from noria.gateways.mlflow.webhooks import MlflowForm
from noria.http.access import Access
from noria.workspace import Workspace

if TYPE_CHECKING:
    from starlette.types import ASGIApp

__all__ = ["Gateway", "MlflowForm", "all_routes", "mlflow_gateway"]

_GROUPS = (
    experiments,
    runs,
    metrics,
    models,
    search,
    artifacts,
    registry,
    tracemetrics,
    traces,
    oldtraces,
    assessments,
    spans,
    webhooks,
)


def all_routes(door: Door) -> list[Route]:
    """Every path of MLflow: those that are served, and behind them those whose feature is absent."""
    served = [*probes.routes(), *(route for group in _GROUPS for route in group.routes(door))]
    return [*served, *absent.routes(served)]


def mlflow_gateway(ws: Workspace, writer: GroupWriter, access: Access, inner: ASGIApp | None = None) -> Gateway:
    """The gateway in front of a workspace; paths that are not MLflow's go to ``inner``."""
    return Gateway(all_routes(Door(ws=ws, writer=writer)), access, inner, within=ws.db.limited)
