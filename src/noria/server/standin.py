"""In the supervisor's place, inside of the control process, as long as there is no deployment to serve.

Most servers never have an endpoint; three processes and 300 MB would wait for one. The stand-in holds what a supervisor
without endpoints holds (the inference port, the lease, a control socket) and answers as that would. At the first
deployment it starts the supervisor, which relieves it:

    1. the new workers accept on the same socket, and answer as the stand-in does: nothing is routed yet
    2. the stand-in ends to accept, and says so
    3. the supervisor takes the lease, loads the deployment, and only then marks it as ready for traffic

So no request for what is routed ever reaches the stand-in, and the port is never closed. Whoever still asks at the
stand-in's control socket is passed on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import uvicorn

from noria.base.errors import NoriaError
from noria.http.access import Access
from noria.server import launch
from noria.server.asked import Op, answering
from noria.server.listening import listen, url_of
from noria.serving import link
from noria.serving.door import InferenceDoor
from noria.workspace import Workspace

log = logging.getLogger("noria.standin")

_POLL: Final = 0.5
_LONGEST_PAUSE: Final = 60.0
"""Seconds between two attempts to start a supervisor that does not come up."""
_UNDER_WAY: Final = 1.0
"""Seconds that a connection which was accepted has for its request."""
_LOOK: Final = 0.01


class StandIn:
    """Runs in a thread of its own, so that a busy API keeps no probe of the inference port waiting.

    Attributes:
        url: of the inference port.
    """

    def __init__(
        self,
        ws: Workspace,
        access: Callable[[str], Access],
        *,
        host: str,
        port: int,
        workers: int,
        hosts: Sequence[str] = (),
    ) -> None:
        self._ws = ws
        self._workers = workers
        self._host, self._hosts = host, hosts
        self._listening: socket.socket = listen(host, port)
        self.url = url_of(self._listening)
        self._port = _Port(self._listening, access(self._listening.getsockname()[0]))
        self._path = link.socket_path(ws.id, os.getpid())
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="stand-in")
        self._opened = threading.Event()
        self._failure: BaseException | None = None
        self._ending = asyncio.Event()
        self._changing = asyncio.Lock()
        self._stands = False
        self._relieved = False
        self._loop: asyncio.AbstractEventLoop

    # ---- from other threads

    def start(self) -> bool:
        """Takes the supervisor's place; False where another process has it, and nothing is left open then.

        Raises:
            NoriaError: port, socket or lease cannot be had.
        """
        self._thread.start()
        self._opened.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        if not self._stands:
            self._thread.join()
        return self._stands

    def end(self, *, relieved: bool) -> None:
        """Ends. With ``relieved``, a supervisor is started to go on in its place: another server needs the port."""
        if relieved:
            with contextlib.suppress(NoriaError):
                asyncio.run_coroutine_threadsafe(self._relieve(), self._loop).result()
        self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join()

    # ---- in its own thread

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        control: asyncio.Server | None = None
        tasks: list[asyncio.Task[None]] = []
        try:
            self._path.unlink(missing_ok=True)  # of a process of the same number that was killed
            control = await asyncio.start_unix_server(answering(self._answer), str(self._path))
            self._path.chmod(0o600)
            await self._port.open()
            self._stands = await asyncio.to_thread(self._take_lease)
            self._opened.set()
            if self._stands:
                tasks = [asyncio.create_task(self._keep_lease()), asyncio.create_task(self._poll())]
                await self._ending.wait()
        except Exception as error:  # noqa: BLE001 - it is raised where it was started
            self._failure = error
        finally:
            self._opened.set()
            async with self._changing:  # what is being started has to be known to be ended
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                await self._leave()
            if control is not None:
                control.close()
                self._path.unlink(missing_ok=True)

    def _take_lease(self) -> bool:
        info = {"socket": str(self._path), "url": self.url, "pid": os.getpid(), "workers": 0}
        return self._ws.jobs.take_lease(link.LEASE, link.LEASE_MS, info) is not None

    async def _keep_lease(self) -> None:
        while self._stands:
            await asyncio.sleep(link.LEASE_MS / 3000)
            try:
                if self._port.accepts and not await asyncio.to_thread(self._take_lease) and self._port.accepts:
                    log.error("the lease was taken by another supervisor; this one leaves the port to it")
                    async with self._changing:
                        await self._leave()
            except NoriaError as error:
                log.warning("the lease could not be renewed: %s", error)

    async def _poll(self) -> None:
        """Looks for a first deployment of another process, which did not ask for it to be loaded."""
        pause = _POLL
        while self._stands:
            await asyncio.sleep(pause)
            try:
                await self._relieve_if_needed()
                pause = _POLL
            except Exception as error:  # noqa: BLE001 - it is tried again, less and less often
                pause = min(2 * pause, _LONGEST_PAUSE)
                log.warning("the endpoints cannot be served yet: %s", error)

    async def _relieve_if_needed(self) -> None:
        if self._stands and await asyncio.to_thread(self._ws.glance.has_deployments):
            await self._relieve()

    async def _relieve(self) -> None:
        """Starts the supervisor and leaves it the place; returns when it has loaded what there is.

        Raises:
            SupervisorFailed: it did not come up; the stand-in goes on.
        """
        async with self._changing:
            if not self._stands:
                return
            try:
                await asyncio.to_thread(self._start)
            except BaseException:
                await self._port.open()
                self._stands = await asyncio.to_thread(self._take_lease)
                raise
            self._stands = False
            self._listening.close()

    def _start(self) -> None:
        def leave() -> None:
            asyncio.run_coroutine_threadsafe(self._port.close(), self._loop).result()

        relieved = launch.Relieved(self._listening, self._ws.assets.holder, leave)
        launch.start(
            self._ws, host=self._host, port=0, workers=self._workers, hosts=self._hosts, relieved=relieved
        )  # the port is that of the socket

    async def _leave(self) -> None:
        """Gives up port and lease."""
        await self._port.close()
        self._listening.close()
        if self._stands:
            self._stands = False
            with contextlib.suppress(NoriaError):
                await asyncio.to_thread(self._ws.jobs.release_lease, link.LEASE)

    # ---- its control socket

    async def _answer(self, op: Op) -> dict[str, Any]:
        if op == "sync":
            await self._relieve_if_needed()
        if not self._stands:
            return await asyncio.to_thread(self._pass_on, op)
        if op == "flush":
            return {"counts": {}}
        if op == "stop":
            async with self._changing:
                await self._leave()
        return {"url": self.url, "pid": os.getpid(), "workers": 0, "serving": 0, "pids": [], "deaths": 0, "routed": {}}

    def _pass_on(self, op: Op) -> dict[str, Any]:
        info = self._ws.jobs.lease_info(link.LEASE)
        if info is None or info["socket"] == str(self._path):
            raise link.SupervisorGone("The endpoints of this workspace were stopped.", hint="noria up")
        return link.call(info["socket"], op, 180)


class _Port:
    """The inference port with nobody behind it."""

    def __init__(self, listening: socket.socket, access: Access) -> None:
        self._listening = listening
        # A connection that stayed open would end in the middle of a caller's work when the workers take over.
        door = InferenceDoor(access, [(b"connection", b"close")])
        self._config = uvicorn.Config(
            door, log_config=None, access_log=False, lifespan="off", server_header=False, date_header=False,
            timeout_graceful_shutdown=5,
        )  # fmt: skip
        self._server: uvicorn.Server | None = None

    @property
    def accepts(self) -> bool:
        return self._server is not None

    async def open(self) -> None:
        """Accepts; nothing happens where it does."""
        if self._server is not None:
            return
        if not self._config.loaded:
            self._config.load()
        # Without its main loop: that looks ten times a second for signals and limits, of which there are none.
        server = uvicorn.Server(self._config)
        server.lifespan = self._config.lifespan_class(self._config)
        await server.startup(sockets=[self._listening.dup()])
        self._server = server

    async def close(self) -> None:
        """Ends to accept, and returns when what was accepted is answered; the socket stays open for others."""
        server, self._server = self._server, None
        if server is not None:
            for one in server.servers:  # a closed server drops what it has just accepted: first it hears of no more
                for listening in one.sockets:
                    asyncio.get_running_loop().remove_reader(listening.fileno())
            await asyncio.sleep(_LOOK)  # what was accepted becomes a connection
            end = time.monotonic() + _UNDER_WAY
            while server.server_state.connections and time.monotonic() < end:  # each ends with its answer
                await asyncio.sleep(_LOOK)
            await server.shutdown()
