"""The process that owns the inference port: holds its socket, keeps the endpoint workers as the database says.

It outlives the control process (decision 19): when that dies, predictions go on; when it comes back, it finds the
supervisor through its lease. A worker that dies is replaced; it gets connections only when it holds everything that
any routing names.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from noria.base import faults
from noria.base.environment import of_child
from noria.base.errors import NoriaError, Unavailable
from noria.http.access import check_listener
from noria.jobs.service import pid_of
from noria.server.asked import Op, answering
from noria.server.listening import listen, url_of
from noria.serving.link import LEASE, LEASE_MS, socket_path
from noria.serving.protocol import (
    Answer,
    Command,
    Flush,
    Forget,
    Load,
    Route,
    RoutingSpec,
    Serve,
    Stop,
    Unload,
    WorkerSettings,
    decode_answer,
)
from noria.serving.records import DeploymentState
from noria.workspace import Workspace, connect

if TYPE_CHECKING:
    from noria.serving.records import Deployment
    from noria.serving.service import Plan

log = logging.getLogger("noria.supervisor")

POLL: Final = 0.5
_LOAD_SECONDS: Final = 120
_STOP_SECONDS: Final = 15
_DEATHS_OF_CHANCE: Final = 2
_YOUNG_SECONDS: Final = 60
"""Workers that do not live so long are replaced slower and slower."""


class WorkerGone(Unavailable):
    """An endpoint worker ended."""

    code = "worker_gone"


class WorkerSlow(Unavailable):
    """An endpoint worker lives and does not answer."""

    code = "worker_slow"


@dataclass(slots=True)
class _Worker:
    """One endpoint worker, as its supervisor sees it."""

    name: str
    process: asyncio.subprocess.Process
    asked: dict[int, asyncio.Future[Answer]] = field(default_factory=dict[int, asyncio.Future[Answer]])
    loaded: set[int] = field(default_factory=set[int])
    routed: dict[str, int] = field(default_factory=dict[str, int])
    serving: bool = False
    gone: bool = False
    number: int = 0
    started: float = field(default_factory=time.monotonic)

    async def ask(self, command: Command, timeout: float = 30.0) -> dict[str, Any]:
        """Sends a command and waits for its answer.

        Raises:
            WorkerGone: the worker ended first.
            WorkerSlow: it did not answer in time.
        """
        self.number += 1
        command.id = self.number
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.asked[command.id] = future
        try:
            if self.gone:
                raise WorkerGone(f"The endpoint worker {self.name} ended.")
            assert self.process.stdin is not None
            self.process.stdin.write(msgspec.json.encode(command) + b"\n")
            answer = await asyncio.wait_for(future, timeout)
        except ConnectionError:
            raise WorkerGone(f"The endpoint worker {self.name} ended.") from None
        except TimeoutError:
            raise WorkerSlow(f"The endpoint worker {self.name} did not answer in {timeout:g} s.") from None
        finally:
            self.asked.pop(command.id, None)
        if not answer.ok:
            raise _as_error(answer)
        return answer.facts

    async def read(self) -> None:
        """Takes the worker's answers until it ends."""
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            answer = decode_answer(line)
            future = self.asked.get(answer.id)
            if future is not None and not future.done():
                future.set_result(answer)
        self.gone = True
        for future in self.asked.values():
            if not future.done():
                future.set_exception(WorkerGone(f"The endpoint worker {self.name} ended."))


def _as_error(answer: Answer) -> NoriaError:
    found = answer.error or {}
    made = Unavailable(str(found.get("message", "?")), hint=str(found.get("hint", "")))
    made.details = {"code": found.get("code", "")}
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Relieved:
    """Who stood on the port before (``standin``).

    Attributes:
        holder: has the lease, and gives it to this process.
        leave: lets it end to accept, and waits for that; takes the status of the new supervisor.
    """

    holder: str
    leave: Callable[[dict[str, Any]], Awaitable[None]]


class Supervisor:
    """One per machine and workspace.

    Attributes:
        url: of the inference port.
        synced: everything was loaded and routed once, as far as it can be.
    """

    def __init__(
        self,
        ws: Workspace,
        listening: socket.socket,
        *,
        workers: int,
        token: str | None,
        hosts: Iterable[str] = (),
        relieved: Relieved | None = None,
    ) -> None:
        self._ws = ws
        self._relieved = relieved
        self._listening = listening
        self._count = workers
        self._token = token
        self._hosts = list(hosts)
        self._workers: list[_Worker] = []
        self._started = 0
        self._deaths = 0
        self._early_deaths = 0
        self._killed: dict[int, int] = {}
        self._broken: set[int] = set()
        self._sync_lock = asyncio.Lock()
        self._repair_lock = asyncio.Lock()
        self._stopping = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._socket = socket_path(ws.id, os.getpid())
        self.url = url_of(listening)
        self.synced = False

    # ---- life

    async def run(self) -> None:
        """Serves until told to stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        control: asyncio.Server | None = None
        tasks: list[asyncio.Task[None]] = []
        try:
            if self._relieved is not None:
                await self._start_workers()
                await asyncio.gather(*(self._serve(worker) for worker in self._workers))
                await self._relieved.leave(self.status())
            control = await self._take_place()
            if self._relieved is None:
                await self._start_workers()
            tasks.append(asyncio.create_task(self._keep_lease()))  # loading may take longer than a lease
            await self.sync()
            self.synced = True
            tasks.append(asyncio.create_task(self._poll()))
            await self._stopping.wait()
        finally:
            self._stopping.set()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if control is not None:
                control.close()
                self._socket.unlink(missing_ok=True)
            async with self._repair_lock:  # whoever replaces a worker sees that it is over, or has listed the new one
                pass
            await asyncio.gather(*(self._end_worker(w) for w in self._workers))
            self._listening.close()
            with contextlib.suppress(NoriaError):
                await asyncio.to_thread(self._ws.jobs.release_lease, LEASE)

    async def _take_place(self) -> asyncio.Server:
        """Takes the lease and opens the control socket."""
        after = None if self._relieved is None else self._relieved.holder
        spared: set[str] = set()
        if after is not None:  # it passes on who still asks there
            spared.add(socket_path(self._ws.id, pid_of(after)).name)
        if after is None and not await asyncio.to_thread(self._take_lease):
            raise _another()
        for left in self._socket.parent.glob(f"{self._socket.name.partition('-')[0]}-*.sock"):
            if left.name not in spared:  # else of those that were killed: who has the lease is alone
                left.unlink(missing_ok=True)
        control = await asyncio.start_unix_server(answering(self._answer), str(self._socket))
        self._socket.chmod(0o600)
        if after is not None and not await asyncio.to_thread(self._take_lease, after):
            raise _another()
        return control

    def _take_lease(self, after: str | None = None) -> bool:
        info = {"socket": str(self._socket), "url": self.url, "pid": os.getpid(), "workers": self._count}
        return self._ws.jobs.take_lease(LEASE, LEASE_MS, info, after=after) is not None

    async def _keep_lease(self) -> None:
        while True:
            await asyncio.sleep(LEASE_MS / 3000)
            try:
                if not await asyncio.to_thread(self._take_lease):
                    log.error("the lease was taken by another supervisor; this one ends")
                    self._stopping.set()
                    return
            except NoriaError as error:
                log.warning("the lease could not be renewed: %s", error)

    async def _poll(self) -> None:
        """Looks for what other processes have changed, and for dead workers."""
        seen: Any = None
        while True:
            await asyncio.sleep(POLL)
            try:
                await self._replace_dead()
                await asyncio.to_thread(self._ws.features.replica.catch_up)  # other machines commit too
                found = await asyncio.to_thread(self._ws.serving.stamp)
                if found != seen:
                    await self.sync()
                    seen = found
            except NoriaError as error:
                log.warning("the endpoints could not be brought up to date: %s", error)
            except Exception:
                log.exception("the supervisor goes on after an error")

    # ---- workers

    async def _start_workers(self) -> None:
        await asyncio.gather(*(self._start_worker() for _ in range(self._count)))

    async def _serve(self, worker: _Worker) -> None:
        await worker.ask(Serve(0), _LOAD_SECONDS)
        worker.serving = True

    async def _start_worker(self) -> _Worker:
        self._started += 1
        name = f"w{self._started}-{os.getpid()}"
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "noria.worker.endpoint",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=(self._listening.fileno(),),
            env=of_child(os.environ, threads=1),
            limit=16 << 20,
        )
        settings = WorkerSettings(
            worker=name,
            socket=self._listening.fileno(),
            capture=str(self._ws.serving.capture_folder),
            replica=str(self._ws.features.replica_path),
            token=self._token,
            hosts=self._hosts,
            fault=self._ws.environment.get(faults.SETTING, ""),
            listener=self._listening.getsockname()[0],
        )
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(settings) + b"\n")
        worker = _Worker(name, process)
        self._spawn(worker.read())
        self._workers.append(worker)
        return worker

    def _spawn(self, what: Any) -> None:
        task = asyncio.create_task(what)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _replace_dead(self) -> None:
        async with self._repair_lock:  # the poller and a caller of "sync" may both come here
            for worker in [w for w in self._workers if w.gone]:
                code = await worker.process.wait()
                log.warning("the endpoint worker %s ended with code %s and is replaced", worker.name, code)
                self._workers.remove(worker)
                self._deaths += 1
                young = time.monotonic() - worker.started < _YOUNG_SECONDS
                self._early_deaths = self._early_deaths + 1 if young else 0
            missing = self._count - len(self._workers)
            if missing <= 0 or self._stopping.is_set():
                return
            with contextlib.suppress(TimeoutError):
                pause = min(5.0, 0.05 * 2 ** min(self._early_deaths, 7))
                await asyncio.wait_for(self._stopping.wait(), pause)
                return
            for _ in range(missing):
                await self._start_worker()
        await self.sync()

    async def _end_worker(self, worker: _Worker) -> None:
        with contextlib.suppress(NoriaError):
            await worker.ask(Stop(0), 5.0)
        try:
            await asyncio.wait_for(worker.process.wait(), _STOP_SECONDS)
        except TimeoutError:
            worker.process.kill()
            await worker.process.wait()

    # ---- bringing the workers to what the database says

    async def sync(self) -> dict[str, Any]:
        """Loads, routes and unloads until every worker is as the database says; returns what stands then."""
        async with self._sync_lock:
            plan = await asyncio.to_thread(self._ws.serving.plan)
            await self._load(plan)
            plan = await asyncio.to_thread(self._ws.serving.plan)
            await asyncio.gather(*(self._bring(worker, plan) for worker in self._workers))
            return self.status()

    async def _load(self, plan: Plan) -> None:
        """Loads what is missing in every worker; a new deployment is ready when all have it."""
        for item in sorted(plan.deployments, key=lambda d: d.state == DeploymentState.STARTING):
            missing = [w for w in self._workers if not w.gone and item.id not in w.loaded]
            if not missing and item.state == DeploymentState.READY:
                continue
            error = await self._load_one(item, missing)
            if item.state == DeploymentState.READY:
                if error is not None:
                    log.error("the deployment %s could not be loaded again: %s", item.id, error)
            elif error is not None:
                await asyncio.to_thread(self._ws.serving.mark, item.id, DeploymentState.FAILED, error)
            elif len(self._holding(item.id)) == self._count:  # else a worker died; its successor has to load it too
                await asyncio.to_thread(self._ws.serving.mark, item.id, DeploymentState.READY, "")
            self._broken.discard(item.id)
            if error is not None and not self._holding(item.id):
                self._broken.add(item.id)

    def _holding(self, deployment: int) -> list[_Worker]:
        return [w for w in self._workers if not w.gone and deployment in w.loaded]

    async def _load_one(self, item: Deployment, missing: list[_Worker]) -> str | None:
        """Why a deployment could not be loaded; None where nothing speaks against it.

        Nobody knows yet whether a new one harms the worker that loads it, so one worker after another loads it, and
        first one that does not answer requests, if there is any.
        """
        try:
            package, code = await asyncio.to_thread(self._ws.serving.folders, item)
        except NoriaError as error:
            return str(error)
        load = [Load(0, item.id, item.model, str(package), str(code)) for _ in missing]
        if item.state == DeploymentState.READY:
            results = await asyncio.gather(*(self._load_in(w, c) for w, c in zip(missing, load, strict=True)))
            return next((found for found in results if found is not None), None)
        for worker, command in zip(sorted(missing, key=lambda w: w.serving), load, strict=True):
            found = await self._load_in(worker, command)
            if found is not None:
                return found
            if worker.gone:
                return self._killed_by(item.id)
        return None

    async def _load_in(self, worker: _Worker, command: Load) -> str | None:
        try:
            await worker.ask(command, _LOAD_SECONDS)
        except WorkerGone:
            return None  # it is replaced, and its successor loads everything before it serves
        except NoriaError as error:
            return str(error)
        worker.loaded.add(command.deployment)
        return None

    def _killed_by(self, deployment: int) -> str | None:
        """A worker that ends while it loads may have been killed by chance; a second one has not."""
        self._killed[deployment] = self._killed.get(deployment, 0) + 1
        if self._killed[deployment] < _DEATHS_OF_CHANCE:
            return None
        del self._killed[deployment]
        return "The endpoint worker ended while it loaded the model: .noria/logs/supervisor.log may say why."

    async def _bring(self, worker: _Worker, plan: Plan) -> None:
        """Routes, and drops what nobody needs; a new worker serves from then on."""
        try:
            await self._bring_up(worker, plan)
        except WorkerGone:
            pass  # it is replaced
        except WorkerSlow as error:
            log.error("%s It is ended.", error)
            worker.process.kill()

    async def _bring_up(self, worker: _Worker, plan: Plan) -> None:
        whole = True
        for name, routing in plan.routings.items():
            if worker.routed.get(name) == routing.number:
                continue
            lacking = {a.deployment for a in routing.arms} - worker.loaded
            if lacking & self._broken:  # nobody can answer it; that must not hold up the other endpoints
                spec = RoutingSpec.of(routing)
                spec.arms = []
                await worker.ask(Route(0, name, spec))
                worker.routed.pop(name, None)
                continue
            if lacking:
                whole = False
                continue
            await worker.ask(Route(0, name, RoutingSpec.of(routing)))
            worker.routed[name] = routing.number
        for name in set(worker.routed) - set(plan.routings):
            await worker.ask(Forget(0, name))
            del worker.routed[name]
        gone = worker.loaded - {d.id for d in plan.deployments}
        if gone:
            await worker.ask(Unload(0, sorted(gone)))
            worker.loaded -= gone
        if whole and not worker.serving:
            await self._serve(worker)

    async def flush(self) -> dict[str, Any]:
        """Waits until everything that was answered so far is captured, the shadow's scores too."""
        asked = [w.ask(Flush(0), 60.0) for w in self._workers if w.serving and not w.gone]
        results = await asyncio.gather(*asked, return_exceptions=True)
        counts: dict[str, int] = {}
        for facts in results:
            if isinstance(facts, dict):
                for name, value in facts.items():
                    counts[name] = counts.get(name, 0) + value
        return {"counts": counts}

    @property
    def serving(self) -> int:
        """How many workers take requests."""
        return sum(w.serving and not w.gone for w in self._workers)

    def status(self) -> dict[str, Any]:
        names = {name for w in self._workers for name in w.routed}
        return {
            "url": self.url,
            "pid": os.getpid(),
            "workers": self._count,
            "serving": self.serving,
            "pids": [w.process.pid for w in self._workers],
            "deaths": self._deaths,
            "routed": {name: min(w.routed.get(name, 0) for w in self._workers) for name in sorted(names)},
        }

    # ---- the control socket

    async def _answer(self, op: Op) -> dict[str, Any]:
        if op == "sync":
            await self._replace_dead()
            return await self.sync()
        if op == "flush":
            return await self.flush()
        if op == "stop":
            self._stopping.set()
        return self.status()


class Settings(msgspec.Struct):
    """What a supervisor's process is started with, as JSON on its command line.

    Attributes:
        url: of the workspace.
        ready: the descriptor of a socket; one line is written to it when predictions are served, or why that cannot be.
        listening: the descriptor of the inference port where it is open already; -1: it is opened at host and port.
        relieves: the holder of the lease who stands on that port; one line is written to ``ready`` when it is to leave,
            one comes back when it has.
    """

    url: str
    project: str
    host: str
    port: int
    workers: int
    hosts: list[str]
    ready: int
    listening: int = -1
    relieves: str = ""


async def _run(ws: Workspace, settings: Settings, ready: socket.socket) -> None:
    token = ws.environment.get("NORIA_TOKEN")
    check_listener(settings.host, token)
    if settings.listening < 0:
        listening = listen(settings.host, settings.port)
    else:
        listening = socket.socket(fileno=settings.listening)
        listening.set_inheritable(True)
    hosts = [settings.host, *settings.hosts]

    async def leave(status: dict[str, Any]) -> None:
        _say(ready, status)
        try:
            left = await asyncio.to_thread(ready.recv, 1)
        except OSError:
            left = b""
        if not left:
            raise Unavailable("Who stood on the port is gone, or does not leave it.", hint="noria up")

    relieved = Relieved(holder=settings.relieves, leave=leave) if settings.relieves else None
    supervisor = Supervisor(ws, listening, workers=settings.workers, token=token, hosts=hosts, relieved=relieved)
    running = asyncio.create_task(supervisor.run())
    while not running.done() and not (supervisor.synced and supervisor.serving):
        await asyncio.sleep(0.02)
    if not running.done():
        _say(ready, supervisor.status())
        ready.close()
    await running


def _say(ready: socket.socket, value: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        ready.sendall(json.dumps(value).encode() + b"\n")


def _another() -> Unavailable:
    return Unavailable("Another supervisor serves this workspace.", hint="noria up finds it by itself.")


def main() -> None:
    """Runs a supervisor in this process."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s")
    settings = msgspec.json.decode(sys.argv[1], type=Settings)
    ready = socket.socket(fileno=settings.ready)
    ready.settimeout(_LOAD_SECONDS)
    try:
        with connect(settings.url, project=settings.project) as ws:
            asyncio.run(_run(ws, settings, ready))
    except NoriaError as error:
        _say(ready, error.as_dict())
        sys.exit(1)


if __name__ == "__main__":
    main()
