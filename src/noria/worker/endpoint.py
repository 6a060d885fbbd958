"""``python -m noria.worker.endpoint``: one endpoint worker. Serves HTTP on an inherited socket, obeys its supervisor.

The first line of the standard input is its settings, every further one a command; answers go to the standard output.
It ends when the input does: no worker outlives its supervisor.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import uvicorn

from noria.base import faults
from noria.base.errors import NoriaError
from noria.http.access import Access, allowed
from noria.http.errors import from_exception
from noria.serving.app import InferenceApp, Live
from noria.serving.loaded import Loaded
from noria.serving.protocol import (
    Answer,
    Command,
    Flush,
    Forget,
    Load,
    Route,
    Serve,
    Unload,
    WorkerSettings,
    decode_command,
    decode_settings,
)
from noria.serving.segments import SegmentWriter
from noria.worker.__main__ import die_with_parent

_DRAIN = 10


class EndpointWorker:
    """Holds what is loaded, and carries out commands."""

    def __init__(self, settings: WorkerSettings, out: int) -> None:
        self._settings = settings
        self._out = out
        self._capture = SegmentWriter(Path(settings.capture), settings.worker, faults.of(settings.fault))
        access = Access(token=settings.token, hosts=allowed(settings.hosts), listener=settings.listener)
        self.app = InferenceApp(self._capture, access, lambda: time.time_ns() // 1_000_000)
        self._loaded: dict[int, Loaded] = {}
        self.serving = asyncio.Event()
        self.stopping = asyncio.Event()

    async def handle(self, line: bytes) -> None:
        command: Command = decode_command(line)
        try:
            answer = Answer(command.id, facts=await self._do(command))
        except Exception as error:  # noqa: BLE001 - whatever fails is answered; the worker goes on serving
            found = error if isinstance(error, NoriaError) else from_exception(error)
            answer = Answer(command.id, ok=False, error=found.as_dict()["error"])
        self.send(answer)

    async def _do(self, command: Command) -> dict[str, Any]:
        if isinstance(command, Load):
            if command.deployment not in self._loaded:
                self._loaded[command.deployment] = await asyncio.to_thread(self._load, command)
        elif isinstance(command, Route):
            routing = command.routing.routing()
            arms = {a.deployment: self._loaded[a.deployment] for a in routing.arms}
            self.app.endpoints = {**self.app.endpoints, command.endpoint: Live(command.endpoint, routing, arms)}
        elif isinstance(command, Forget):
            self.app.endpoints = {n: e for n, e in self.app.endpoints.items() if n != command.endpoint}
        elif isinstance(command, Unload):
            for deployment in command.deployments:  # requests in flight hold what they need themselves
                self._loaded.pop(deployment, None)  # a model in a process of its own ends with the last of them
        elif isinstance(command, Flush):
            await self.app.drain_shadows()
            await asyncio.to_thread(self._capture.sync)
            return msgspec.to_builtins(self._facts())
        elif isinstance(command, Serve):
            self.serving.set()
        else:
            self.stopping.set()
        return {}

    def _load(self, command: Load) -> Loaded:
        made = Loaded(
            command.deployment,
            command.model,
            Path(command.package),
            Path(command.code),
            Path(self._settings.replica),
        )
        made.warm_up()
        return made

    def _facts(self) -> dict[str, Any]:
        counts = self.app.counts
        return {name: getattr(counts, name) for name in counts.__slots__}

    def send(self, answer: Answer) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(self._out, msgspec.json.encode(answer) + b"\n")

    def close(self) -> None:
        self.app.close()
        for loaded in self._loaded.values():
            loaded.close()
        self._capture.close()


async def serve(settings: WorkerSettings, reader: asyncio.StreamReader, out: int) -> None:
    """Obeys commands and serves until told to stop, or until nobody gives commands any more."""
    worker = EndpointWorker(settings, out)
    server = _Server(
        uvicorn.Config(
            worker.app,
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=_DRAIN,
            timeout_keep_alive=75,
            server_header=False,
            date_header=False,
        )
    )
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stopping.set)
    shadows = asyncio.create_task(worker.app.run_shadows())
    commands = asyncio.create_task(_obey(worker, reader))
    worker.send(Answer(0, event="started", facts={"pid": os.getpid()}))
    stopped = asyncio.create_task(worker.stopping.wait())
    await asyncio.wait({asyncio.create_task(worker.serving.wait()), stopped}, return_when=asyncio.FIRST_COMPLETED)
    if worker.serving.is_set():
        accepting = asyncio.create_task(server.serve(sockets=[socket.socket(fileno=settings.socket)]))
        await stopped
        server.should_exit = True
        await accepting
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(worker.app.drain_shadows(), _DRAIN)
    shadows.cancel()
    commands.cancel()
    worker.close()


async def _obey(worker: EndpointWorker, reader: asyncio.StreamReader) -> None:
    running: set[asyncio.Task[None]] = set()
    while line := await reader.readline():
        if isinstance(decode_command(line), Load | Flush):  # these take their time; others must not wait for them
            task = asyncio.create_task(worker.handle(line))
            running.add(task)
            task.add_done_callback(running.discard)
        else:
            await worker.handle(line)
    worker.stopping.set()


class _Server(uvicorn.Server):
    """uvicorn without signal handling: the supervisor says when to stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


async def _main() -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=16 << 20)
    commands = os.fdopen(os.dup(0), "rb")
    out = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what a user's code prints must not look like an answer
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), commands)
    settings = decode_settings(await reader.readline())
    await serve(settings, reader, out)


def main() -> None:
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor decides
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(name)s: %(message)s")
    import uvloop

    uvloop.run(_main())


if __name__ == "__main__":
    main()
