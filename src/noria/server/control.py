"""The control process: the HTTP API, the loop, and the supervisor of the endpoints beside it."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.responses import Response
from starlette.routing import Route as StarletteRoute

from noria.http.access import Access, allowed, check_listener
from noria.http.app import build
from noria.server import launch
from noria.server.loop import Loop
from noria.server.routes import all_routes, openapi
from noria.server.supervisor import listen
from noria.workspace import Workspace

if TYPE_CHECKING:
    from starlette.requests import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How ``noria up`` was called. ``port`` is the API's; the endpoints listen on the next one; 0 takes free ones."""

    host: str = "127.0.0.1"
    port: int = 5000
    workers: int = 2
    hosts: Sequence[str] = ()


class Server:
    """Everything that ``noria up`` starts."""

    def __init__(self, ws: Workspace, settings: Settings) -> None:
        token = ws.environment.get("NORIA_TOKEN")
        check_listener(settings.host, token)
        self._ws = ws
        self._settings = settings
        self._access = Access(token=token, hosts=allowed(settings.hosts))
        self._socket: socket.socket = listen(settings.host, settings.port)
        host, port = self._socket.getsockname()[:2]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        self.endpoints = ""

    def run(self, ready: Any) -> None:
        """Serves until SIGTERM or SIGINT, then ends everything that it started. ``ready(self)`` is called once."""
        ws, settings = self._ws, self._settings
        try:
            port = settings.port + 1 if settings.port else 0
            found = launch.ensure(ws, host=settings.host, port=port, workers=settings.workers, hosts=settings.hosts)
            self.endpoints = found["url"]
            loop = Loop(ws)
            app = self.app(loop)
            config = uvicorn.Config(
                app, log_level="warning", access_log=False, lifespan="off", server_header=False, date_header=False,
                timeout_graceful_shutdown=5,
            )  # fmt: skip
            loop.start()
            try:
                server = _Server(config, lambda: ready(self))
                server.run(sockets=[self._socket])
            finally:
                loop.stop()
        finally:
            self._socket.close()
            launch.stop(ws)

    def app(self, loop: Loop | None) -> Any:
        """The ASGI application of the control port."""
        routes = all_routes(self._ws, loop, self.endpoints)
        text = openapi(routes)

        async def spec(_: Request) -> Response:
            return Response(text, media_type="application/json")

        return build(routes, self._access, [StarletteRoute("/openapi.json", spec)])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Any) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()
