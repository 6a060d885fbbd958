"""The control process: the HTTP API, the loop, and the supervisor of the endpoints beside it."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.responses import Response
from starlette.routing import Route as StarletteRoute

from noria.base.errors import NoriaError
from noria.db.group import GroupWriter
from noria.gateways.mlflow import MlflowForm, mlflow_gateway
from noria.http.access import Access, allowed, check_listener
from noria.http.app import build, error_response
from noria.http.heads import BoundedHttp
from noria.server import launch
from noria.server.growing import Growing
from noria.server.listening import listen, url_of
from noria.server.loop import LEASE, Loop
from noria.server.own import light
from noria.server.standin import StandIn
from noria.webhooks import Sender, allowed_places
from noria.workspace import Workspace

if TYPE_CHECKING:
    from starlette.requests import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How ``noria up`` was called.

    Attributes:
        port: of the API; the endpoints listen on the next one; 0 takes free ones.
        role: ``server`` serves the API and turns the loop, without processes for endpoints.
        webhook_hosts: where webhooks may lead: HOST, HOST:PORT or http://HOST:PORT; compared whole.
        read_timeout: seconds that a question of MLflow's clients may take the database.
    """

    host: str = "127.0.0.1"
    port: int = 5000
    workers: int = 2
    hosts: Sequence[str] = ()
    role: str = "all"
    webhook_hosts: Sequence[str] = ()
    read_timeout: float = 30


@dataclass
class _Begun:
    """What runs already, and has to be ended."""

    endpoints: bool = False
    loop: bool = False


class Server:
    """Everything that ``noria up`` starts."""

    def __init__(self, ws: Workspace, settings: Settings) -> None:
        token = ws.environment.get("NORIA_TOKEN")
        check_listener(settings.host, token)
        places = allowed_places(settings.webhook_hosts)
        self._ws = ws
        self._settings = settings
        self._socket: socket.socket = listen(settings.host, settings.port)
        self._token = token
        self._access = self._access_at(self._socket.getsockname()[0])
        self.url = url_of(self._socket)
        self._standin: StandIn | None = None
        self.endpoints = ""
        self._ending = threading.Event()
        ws.db.limit_reads(settings.read_timeout)
        self._sender = Sender(ws.webhooks, ws.deliveries, ws.project.id, MlflowForm(ws), places)
        ws.webhooks.sender = self._sender
        self._writer = GroupWriter(ws.db)

    def run(self, ready: Any) -> None:
        """Serves until SIGTERM or SIGINT, then ends everything that it started. ``ready(self)`` is called once.

        The API answers at once; ``ready`` comes when the endpoints do so too.
        """
        ws = self._ws
        for number in (signal.SIGTERM, signal.SIGINT):
            # One that comes while we start counts too; and uvicorn raises it again when it has ended.
            signal.signal(number, self._end)
        begun = _Begun()
        try:
            loop = Loop(ws)
            app = self.app(loop)
            config = uvicorn.Config(
                app, http=BoundedHttp, log_level="warning", access_log=False, lifespan="off", server_header=False,
                date_header=False, timeout_graceful_shutdown=5,
            )  # fmt: skip

            def begin() -> None:
                if self._settings.role == "all":
                    self.endpoints = self._ensure()
                begun.endpoints = True
                loop.start()
                self._sender.start()
                begun.loop = True
                gc.freeze()  # what is there by now stays: the collector need not go through it again and again
                ready(self)
                if ws.glance.has_repositories() or ws.glance.has_definitions() or ws.glance.has_endpoints():
                    self._api.grow()  # it will be asked for: the first who does so need not wait

            try:
                server = _Server(config, begin, self._ending, loop.halt)
                server.run(sockets=[self._socket])
            finally:
                self._sender.stop()
                if begun.loop:
                    loop.stop()
            if server.failure is not None:
                raise server.failure
        finally:
            self._socket.close()
            self._writer.close()
            if self._settings.role == "all" and begun.endpoints:
                self._end_endpoints()

    def _ensure(self) -> str:
        """The address of the inference port: of who is there, or of a supervisor, or of who stands in for one."""
        ws, settings = self._ws, self._settings
        port = settings.port + 1 if settings.port else 0
        while True:
            found = launch.find_at(ws, settings.host, port)
            how: dict[str, Any] = {"workers": settings.workers, "hosts": settings.hosts}
            if found is None and ws.glance.has_deployments():
                found = launch.start(ws, host=settings.host, port=port, **how)
            if found is not None:
                return found["url"]
            standin = StandIn(ws, self._access_at, host=settings.host, port=port, **how)
            if standin.start():
                self._standin = standin
                return standin.url

    def _access_at(self, listener: str) -> Access:
        return Access(token=self._token, hosts=allowed([self._settings.host, *self._settings.hosts]), listener=listener)

    def _end_endpoints(self) -> None:
        """Another server of this workspace goes on with the same endpoints, on the same port."""
        goes_on = self._ws.jobs.held(LEASE)
        if self._standin is not None:
            self._standin.end(relieved=goes_on)
        if not goes_on:
            launch.stop(self._ws)

    def _end(self, *_: Any) -> None:
        self._ending.set()

    def app(self, loop: Loop | None) -> Any:
        """The ASGI application of the control port."""
        ws, access = self._ws, self._access

        def endpoints() -> str | None:
            return self.endpoints or None

        def whole() -> Any:
            from noria.server.routes import all_routes, openapi  # not before it is needed: it imports every room

            routes = all_routes(ws, loop, endpoints)
            text = openapi(routes)

            async def spec(request: Request) -> Response:
                try:
                    access.caller(dict(request.headers), request.scope)
                except NoriaError as error:
                    return error_response(error)
                return Response(text, media_type="application/json")

            return build(routes, access, [StarletteRoute("/openapi.json", spec)])

        self._api = Growing(build(light(ws, loop, endpoints), access), whole, ("/v1/", "/openapi.json"))
        return mlflow_gateway(ws, self._writer, access, self._api)


class _Server(uvicorn.Server):
    def __init__(
        self, config: uvicorn.Config, begin: Callable[[], None], ending: threading.Event, halt: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._begin = begin
        self._ending = ending
        self._halt = halt
        self._beginning: asyncio.Future[None] | None = None
        self.failure: BaseException | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._ending.is_set():
            self.should_exit = True
        elif self.started:
            self._beginning = asyncio.get_running_loop().run_in_executor(None, self._begin)
            self._beginning.add_done_callback(self._begun)

    def _begun(self, done: asyncio.Future[None]) -> None:
        self.failure = done.exception()
        if self.failure is not None or self._ending.is_set():
            self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._halt()  # first: a request may wait for what the loop is at
        if self._beginning is not None:
            await asyncio.wait([self._beginning])  # what it starts has to be known to be ended
        await super().shutdown(sockets)
