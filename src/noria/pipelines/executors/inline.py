"""Runs tasks in the driver's own process: for small steps, tests and debugging. Values stay in memory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from noria.pipelines.execute import execute
from noria.pipelines.executors.protocol import Capabilities, Done, Event, Logged, Started
from noria.pipelines.task import InputSpec, PointSpec, TaskSpec


class InlineExecutor:
    """One task at a time, in ``submit``.

    Args:
        load: the value of an input, from the store.
        entry: the thing that an entry names, in the code that is loaded already.
    """

    def __init__(self, load: Callable[[InputSpec], Any], entry: Callable[[str], Any]) -> None:
        self.caps = Capabilities(
            isolation="none", can_kill=False, files=False, cpus=os.cpu_count() or 1, memory=1 << 62
        )
        self._load = load
        self._entry = entry
        self._events: list[Event] = []
        self._scratch: list[tempfile.TemporaryDirectory[str]] = []

    def submit(self, task: TaskSpec) -> None:
        self._events.append(Started(attempt=task.attempt, pid=os.getpid()))

        def sink(points: list[PointSpec], params: dict[str, str]) -> None:
            self._events.append(Logged(attempt=task.attempt, points=points, params=params))

        result, values = execute(task, self._load, self._entry, self._folder, sink)
        self._events.append(Done(attempt=task.attempt, result=result, values=values))

    def _folder(self) -> Path:
        """A scratch folder; kept until ``close``, since outputs may lie in it."""
        made = tempfile.TemporaryDirectory(prefix="noria-")
        self._scratch.append(made)
        return Path(made.name)

    def poll(self, timeout: float) -> list[Event]:
        events, self._events = self._events, []
        return events

    def cancel(self, attempt: str, *, code: str, reason: str, grace: float = 2.0) -> None:
        return  # it is over when submit returns

    def close(self) -> None:
        for folder in self._scratch:
            folder.cleanup()
        self._scratch.clear()
