"""One warm worker process for noria's own tasks: truth of served rows, scores in bulk, predictions computed again."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from noria.base.errors import Failed
from noria.pipelines.executors.process import ProcessExecutor
from noria.pipelines.executors.protocol import Done, Lost
from noria.pipelines.task import TaskResult, TaskSpec

IDLE_SECONDS: Final = 120.0
"""A worker that had nothing to do for so long is ended by ``rest``."""
_WATCH: Final = 0.2


class TaskFailed(Failed):
    """A task failed, or its process died; the message is the reason."""

    code = "task_failed"


class SideWorker:
    """One task at a time, in a process that is started when it is first needed. Thread-safe.

    Most of the time of a short task would be the import of machine-learning libraries; here only the first one pays.
    The process is started and watched by one thread of its own: on Linux a child that is to die with its parent dies
    with the thread that started it, and the threads of a server come and go.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._closing = threading.Event()
        self._thread = ThreadPoolExecutor(1, "side-worker")
        self._executor: ProcessExecutor | None = None
        self._number = 0
        self._used = time.monotonic()

    def run(self, task: TaskSpec) -> TaskResult:
        """Runs a task with an attempt of its own, and waits for it, and for those before it.

        Raises:
            TaskFailed: it failed, its process died, or the worker is closed.
        """
        try:
            future = self._thread.submit(self._run, task)
        except RuntimeError:
            raise TaskFailed("the workspace is closed") from None
        return future.result()

    def _run(self, task: TaskSpec) -> TaskResult:
        if self._executor is None:
            self._executor = ProcessExecutor(workers=1, environment=self._environment)
        self._number += 1
        task.attempt = f"{task.asset}.{self._number}"
        try:
            self._executor.submit(task)
            return self._finished(self._executor, task)
        finally:
            self._used = time.monotonic()

    def _finished(self, executor: ProcessExecutor, task: TaskSpec) -> TaskResult:
        while not self._closing.is_set():
            for event in executor.poll(_WATCH):
                if event.attempt != task.attempt:
                    continue
                if isinstance(event, Lost):
                    raise TaskFailed(event.reason)
                if isinstance(event, Done):
                    if event.result.ok:
                        return event.result
                    error = event.result.error or {}
                    raise TaskFailed(str(error.get("message", "?")), hint=str(error.get("hint", "")))
        raise TaskFailed("the workspace was closed while it ran")

    def rest(self) -> None:
        """Ends the worker if it has idled for long; memory is worth more than the start of the next one."""
        if self._executor is not None and time.monotonic() - self._used > IDLE_SECONDS:
            self._thread.submit(self._end_idle)

    def _end_idle(self) -> None:
        if time.monotonic() - self._used > IDLE_SECONDS:
            self._end()

    def close(self) -> None:
        """Ends the worker, and what it is at."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._thread.submit(self._end)
        self._thread.shutdown()

    def _end(self) -> None:
        if self._executor is not None:
            self._executor.close()
            self._executor = None
