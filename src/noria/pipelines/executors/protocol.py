from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from noria.pipelines.execute import Output
from noria.pipelines.task import PointSpec, TaskResult, TaskSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What an executor can do.

    Attributes:
        isolation: none, process or node.
        can_kill: time-outs and memory limits are enforced.
        files: inputs and outputs cross as files; otherwise as values in memory.
        cpus, memory: what there is, for tasks that ask for more than there is.
        at_once: how many tasks may run at once; None for as many as the processors allow.
    """

    isolation: str
    can_kill: bool
    files: bool
    cpus: int
    memory: int
    at_once: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    attempt: str
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """Metric points and parameters of a running task."""

    attempt: str
    points: list[PointSpec]
    params: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A task came to its end, well or not. ``values`` are set by executors without files."""

    attempt: str
    result: TaskResult
    values: list[Output] = field(default_factory=list[Output])


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """The process of a task is gone, or was ended for its time or memory."""

    attempt: str
    code: str
    reason: str


Event: TypeAlias = "Started | Logged | Done | Lost"


class Executor(Protocol):
    """Runs tasks. Retries, limits by name, caching and the state of runs are not its business.

    ``submit`` never blocks for long and never raises for errors of the user's code: they come as ``Done``. After
    ``cancel`` a ``Lost`` comes. After a restart of the driver nothing is reattached: a process ends with its driver,
    and the step runs again.
    """

    caps: Capabilities

    def submit(self, task: TaskSpec) -> None: ...

    def poll(self, timeout: float) -> list[Event]:
        """What happened since; waits at most ``timeout`` seconds for something to happen."""
        ...

    def cancel(self, attempt: str, *, code: str, reason: str, grace: float = 2.0) -> None:
        """Ends a task: politely, then by force after ``grace`` seconds."""
        ...

    def close(self) -> None: ...
