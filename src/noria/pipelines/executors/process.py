"""Runs tasks in warm worker processes: killable, measured, without access to the database (decision 12).

A worker is ``python -m noria.worker``: it reads task specifications as lines of JSON, and answers with lines of
JSON. It leads a process group of its own, dies with its driver, and holds no credentials.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import psutil

from noria.base import faults
from noria.base.environment import of_child
from noria.pipelines.executors.protocol import Capabilities, Done, Event, Logged, Lost, Started
from noria.pipelines.task import PointSpec, TaskResult, TaskSpec, encode

_WATCH: Final = 0.2
_ALSO: Final = ("USER", "CUDA_VISIBLE_DEVICES", "DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY")
"""Variables that a step sees beside those of every child."""


class _Message(msgspec.Struct):
    event: str
    attempt: str
    result: TaskResult | None = None
    points: list[PointSpec] = []
    params: dict[str, str] = {}


@dataclass(slots=True)
class _Worker:
    process: subprocess.Popen[bytes]
    cpu: int
    task: TaskSpec | None = None
    started: float = 0.0
    buffer: bytes = b""
    ending: tuple[str, str] | None = None
    events: list[Event] = field(default_factory=list[Event])


class ProcessExecutor:
    """Tasks in processes: as many at once as there are processors, or ``workers``."""

    def __init__(self, workers: int | None = None, environment: dict[str, str] | None = None) -> None:
        self.caps = Capabilities(
            isolation="process",
            can_kill=True,
            files=True,
            cpus=os.cpu_count() or 1,
            memory=psutil.virtual_memory().total,
            at_once=workers,
        )
        self._environment = environment if environment is not None else dict(os.environ)
        self._selector = selectors.DefaultSelector()
        self._workers: list[_Worker] = []

    def prepare(self, code: str, cpu: int = 1) -> None:
        """Starts a worker that imports the modules of a code snapshot right away, before there is a task for it."""
        self._start(cpu, code)

    def submit(self, task: TaskSpec) -> None:
        worker = next((w for w in self._workers if w.task is None and w.cpu == task.cpu), None) or self._start(task.cpu)
        worker.task, worker.started = task, time.monotonic()
        assert worker.process.stdin is not None
        try:
            worker.process.stdin.write(encode(task) + b"\n")
            worker.process.stdin.flush()
        except BrokenPipeError:
            return  # it died while it was idle; poll sees it and says so

    def poll(self, timeout: float) -> list[Event]:
        deadline = time.monotonic() + timeout
        events: list[Event] = []
        while not events:
            left = deadline - time.monotonic()
            for key, _ in self._selector.select(max(0.0, min(left, _WATCH))):
                events += self._read(key.data)
            self._enforce()
            if left <= 0:
                break
        return events

    def cancel(self, attempt: str, *, code: str, reason: str, grace: float = 2.0) -> None:
        for worker in self._workers:
            if worker.task is not None and worker.task.attempt == attempt and worker.ending is None:
                worker.ending = (code, reason)
                _end(worker.process, grace)

    def close(self) -> None:
        for worker in self._workers:
            if worker.task is not None:
                _end(worker.process, 0.5)
            else:
                assert worker.process.stdin is not None
                with contextlib.suppress(OSError):
                    worker.process.stdin.close()
        for worker in self._workers:
            try:
                worker.process.wait(2)
            except subprocess.TimeoutExpired:
                _end(worker.process, 0)
            self._forget(worker)
        self._workers.clear()
        self._selector.close()

    # ---- workers

    def _start(self, cpu: int, code: str = "") -> _Worker:
        process = subprocess.Popen(
            [sys.executable, "-m", "noria.worker", code, self._environment.get(faults.SETTING, "")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=of_child(self._environment, also=_ALSO, threads=cpu),
            start_new_session=True,  # a group of its own, so that ending it ends its children
        )
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        worker = _Worker(process, cpu)
        self._workers.append(worker)
        self._selector.register(process.stdout, selectors.EVENT_READ, worker)
        return worker

    def _read(self, worker: _Worker) -> list[Event]:
        assert worker.process.stdout is not None
        data = worker.process.stdout.read()
        if data is None:
            return []
        if not data:
            return self._gone(worker)
        *lines, worker.buffer = (worker.buffer + data).split(b"\n")
        return [event for line in lines for event in self._event(worker, line)]

    def _event(self, worker: _Worker, line: bytes) -> list[Event]:
        message = msgspec.json.decode(line, type=_Message)
        if message.event == "started":
            return [Started(attempt=message.attempt, pid=worker.process.pid)]
        if message.event == "log":
            return [Logged(attempt=message.attempt, points=message.points, params=message.params)]
        assert message.result is not None
        worker.task = None
        return [Done(attempt=message.attempt, result=message.result)]

    def _gone(self, worker: _Worker) -> list[Event]:
        code = worker.process.wait()
        self._forget(worker)
        self._workers.remove(worker)
        if worker.task is None:
            return []
        name, reason = worker.ending or ("step_lost", _death(code))
        return [Lost(attempt=worker.task.attempt, code=name, reason=reason)]

    def _forget(self, worker: _Worker) -> None:
        for pipe in (worker.process.stdout, worker.process.stdin):
            if pipe is not None:
                with contextlib.suppress(KeyError, ValueError):
                    self._selector.unregister(pipe)
                with contextlib.suppress(OSError):
                    pipe.close()

    def _enforce(self) -> None:
        """Time and memory limits."""
        now = time.monotonic()
        for worker in self._workers:
            task = worker.task
            if task is None or worker.ending is not None:
                continue
            if task.timeout is not None and (now - worker.started) * 1000 > task.timeout:
                self.cancel(task.attempt, code="step_timeout", reason=f"it took longer than {task.timeout / 1000:g} s")
            elif task.memory is not None:
                used = _memory(worker.process.pid)
                if used > task.memory:
                    reason = f"it took {used >> 20} MiB of memory; {task.memory >> 20} MiB are allowed"
                    self.cancel(task.attempt, code="memory_exceeded", reason=reason, grace=0)


def _memory(pid: int) -> int:
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        return sum(p.memory_info().rss for p in family)
    except psutil.Error:
        return 0


def _end(process: subprocess.Popen[Any], grace: float) -> None:
    """Ends a whole process group: TERM, and KILL after ``grace`` seconds."""
    for number, wait in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        try:
            process.wait(wait)
        except subprocess.TimeoutExpired:
            continue
        return


def _death(code: int) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        more = " (out of memory?)" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{more}"
    return f"its process ended with code {code}"
