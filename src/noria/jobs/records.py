from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

from noria.base.ids import JobId, ProjectId


class JobState(enum.StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


JOB_MOVES: dict[JobState, frozenset[JobState]] = {
    JobState.WAITING: frozenset({JobState.RUNNING, JobState.CANCELLED}),
    JobState.RUNNING: frozenset({JobState.DONE, JobState.FAILED, JobState.WAITING, JobState.CANCELLED}),
    JobState.DONE: frozenset(),
    JobState.FAILED: frozenset({JobState.WAITING}),
    JobState.CANCELLED: frozenset({JobState.WAITING}),
}


def sources_of(target: JobState) -> list[str]:
    """The states from which a job may come to ``target``."""
    return [state.value for state, targets in JOB_MOVES.items() if target in targets]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A piece of background work. Safe to run twice: a lease that runs out is normal life.

    Attributes:
        kind: names the handler.
        unique: no second job of the project with the same value while this one waits or runs (single flight).
        fence: counts the leases; a result is accepted only under the newest one.
    """

    id: JobId
    project_id: ProjectId
    kind: str
    payload: dict[str, Any]
    state: JobState
    unique: str | None
    due_at: int
    attempts: int
    max_attempts: int
    fence: int
    lease_until: int | None
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    event_ms: int
    created_at: int
    ended_at: int | None
