from __future__ import annotations

from dataclasses import dataclass, field

from noria.base.ids import ProjectId, RunId


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """A set of runs to compare. ``id`` is dense: MLflow clients see it."""

    id: int
    project_id: ProjectId
    name: str
    deleted: bool
    created_at: int
    updated_at: int
    tags: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One point of a metric's history.

    Attributes:
        at: the client's time, int64 milliseconds.
        step: int64, may be negative and may repeat.
        value: any double; NaN and the infinities are kept.
    """

    key: str
    value: float
    at: int
    step: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A file of a run. ``content`` is (kind of object, hex id), or inline bytes for tiny ones."""

    path: str
    size: int
    content_kind: int
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunData:
    """Everything that a run said, newest point of each metric."""

    run_id: RunId
    experiment_id: int | None
    user: str
    params: dict[str, str]
    metrics: dict[str, Point]
    tags: dict[str, str]
