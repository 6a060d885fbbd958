"""One warm worker process for noria's own tasks: truth of served rows, scores in bulk, predictions computed again."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Final

from noria.base.errors import Failed
from noria.pipelines.executors.process import ProcessExecutor
from noria.pipelines.executors.protocol import Done, Lost
from noria.pipelines.task import TaskResult, TaskSpec

IDLE_SECONDS: Final = 120.0
"""A worker that had nothing to do for so long is ended by ``rest``."""


class TaskFailed(Failed):
    """A task failed, or its process died; the message is the reason."""

    code = "task_failed"


class SideWorker:
    """One task at a time, in a process that is started when it is first needed. Thread-safe.

    Most of the time of a short task would be the import of machine-learning libraries; here only the first one pays.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._lock = threading.Lock()
        self._executor: ProcessExecutor | None = None
        self._number = 0
        self._used = 0.0

    def run(self, task: TaskSpec) -> TaskResult:
        """Runs a task with an attempt of its own, and waits for it.

        Raises:
            TaskFailed: it failed, or its process died.
        """
        with self._lock:
            if self._executor is None:
                self._executor = ProcessExecutor(workers=1, environment=self._environment)
            self._number += 1
            task.attempt = f"{task.asset}.{self._number}"
            try:
                return self._finished(self._executor, task)
            except BaseException as error:
                if not isinstance(error, TaskFailed):  # given up half-way: the worker is still at it
                    self._close()
                raise
            finally:
                self._used = time.monotonic()

    @staticmethod
    def _finished(executor: ProcessExecutor, task: TaskSpec) -> TaskResult:
        executor.submit(task)
        while True:
            for event in executor.poll(1.0):
                if event.attempt != task.attempt:
                    continue
                if isinstance(event, Lost):
                    raise TaskFailed(event.reason)
                if isinstance(event, Done):
                    if event.result.ok:
                        return event.result
                    error = event.result.error or {}
                    raise TaskFailed(str(error.get("message", "?")), hint=str(error.get("hint", "")))

    def rest(self) -> None:
        """Ends the worker if it has idled for long; memory is worth more than the start of the next one."""
        if self._executor is not None and self._lock.acquire(blocking=False):
            try:
                if time.monotonic() - self._used > IDLE_SECONDS:
                    self._close()
            finally:
                self._lock.release()

    def close(self) -> None:
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._executor is not None:
            self._executor.close()
            self._executor = None
