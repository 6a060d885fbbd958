"""All routes of the control port together. What it imports takes most of a second: see ``growing``."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from typing import Any

import msgspec

from noria.data import http as data_http
from noria.delivery import http as delivery_http
from noria.http import Route
from noria.http.openapi import document
from noria.monitoring import http as monitoring_http
from noria.pipelines import http as pipelines_http
from noria.registry import http as registry_http
from noria.scorecard import http as scorecard_http
from noria.server import admin
from noria.server.loop import Loop
from noria.server.own import own
from noria.serving import http as serving_http
from noria.trace import http as trace_http
from noria.tracking import http as tracking_http
from noria.training import http as training_http
from noria.webhooks import http as webhooks_http
from noria.workspace import Workspace


def all_routes(
    ws: Workspace, loop: Loop | None = None, endpoints: Callable[[], str | None] = lambda: None
) -> list[Route]:
    """Every operation of the control port."""
    project = ws.project.id
    return [
        *own(ws, loop, endpoints),
        *admin.routes(ws),
        *data_http.routes(ws.data, project, ws.transfer, ws.care),
        *pipelines_http.routes(ws.pipelines, ws.assets, ws.jobs, project),
        *tracking_http.routes(ws.tracking, ws.assets, project),
        *delivery_http.routes(ws.delivery),
        *monitoring_http.routes(ws.monitoring, ws.serving, ws.registry, ws.project.id),
        *registry_http.routes(ws.registry, project),
        *training_http.routes(ws.training, ws.registry, project),
        *webhooks_http.routes(ws.webhooks, project),
        *serving_http.routes(ws.serving),
        *scorecard_http.routes(ws.scorecard),
        *trace_http.routes(ws.trace),
    ]


def openapi(routes: list[Route]) -> bytes:
    """The OpenAPI document, as it is served and kept as a golden file."""
    made: dict[str, Any] = document(routes, importlib.metadata.version("noria"))
    return msgspec.json.format(msgspec.json.encode(made), indent=1) + b"\n"
