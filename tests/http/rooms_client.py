"""A caller of the control API's routes, in this process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from noria.data.http import routes as data_routes
from noria.http import Route
from noria.http.access import Access
from noria.http.app import build
from noria.pipelines.http import routes as graph_routes
from noria.registry.http import routes as model_routes
from noria.serving.http import routes as endpoint_routes
from noria.tracking.http import routes as run_routes
from noria.workspace import Workspace


class Answer:
    """What a server answered."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        value = self.json
        assert set(value) == {"error"}
        assert set(value["error"]) == {"code", "message", "hint", "details"}
        return value["error"]


class Client:
    """Calls an ASGI application in this process, with bytes as they would come from the network."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def get(self, path: str, query: str = "") -> Answer:
        return self.call("GET", path, query)

    def send(self, method: str, path: str, value: Any, **headers: str) -> Answer:
        return self.call(method, path, "", json.dumps(value).encode(), **headers)

    def call(self, method: str, path: str, query: str = "", body: bytes = b"", **headers: str) -> Answer:
        given = {"host": "127.0.0.1:5000", **{name.replace("_", "-"): value for name, value in headers.items()}}
        raw = [(name.encode(), value.encode()) for name, value in given.items()]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": quote(path).encode(),
            "query_string": query.encode("latin-1", "replace"),
            "headers": raw,
            "server": ("127.0.0.1", 5000),
            "client": ("127.0.0.1", 40000),
        }
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        asyncio.run(self._app(scope, receive, send))
        found = {k.decode(): v.decode() for k, v in sent[0]["headers"]}
        return Answer(sent[0]["status"], found, b"".join(m.get("body", b"") for m in sent[1:]))


def all_routes(ws: Workspace) -> list[Route]:
    project = ws.project.id
    return [
        *data_routes(ws.data, project),
        *graph_routes(ws.pipelines, ws.assets, ws.jobs, project),
        *run_routes(ws.tracking, ws.assets, project),
        *model_routes(ws.registry, project),
        *endpoint_routes(ws.serving),
    ]


def client(routes: Iterable[Route]) -> Client:
    return Client(build(routes, Access()))
