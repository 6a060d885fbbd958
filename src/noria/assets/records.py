"""What the graph consists of."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any

from noria.base.digest import Digest
from noria.base.ids import AssetId, EventId, ProjectId, RunId, VersionId


class AssetKind(enum.StrEnum):
    SOURCE = "source"
    DATASET = "dataset"
    FEATURES = "features"
    LABELS = "labels"
    MODEL = "model"
    REPORT = "report"
    CHECK = "check"
    ENDPOINT = "endpoint"
    PREDICTIONS = "predictions"
    CODE = "code"


class Content(enum.StrEnum):
    """What a version's object is."""

    TABLE = "table"
    TREE = "tree"
    MODEL = "model"
    JSON = "json"


class RunState(enum.StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"
    """Its process died; seen when its lease ran out."""


# A finished run may be reopened: MLflow clients log to runs that they ended, and set them running again.
RUN_MOVES: dict[RunState, frozenset[RunState]] = {
    RunState.QUEUED: frozenset({RunState.RUNNING, RunState.CANCELLED, RunState.FAILED}),
    RunState.RUNNING: frozenset({RunState.DONE, RunState.FAILED, RunState.CANCELLED, RunState.LOST}),
    RunState.DONE: frozenset({RunState.RUNNING}),
    RunState.FAILED: frozenset({RunState.RUNNING}),
    RunState.CANCELLED: frozenset({RunState.RUNNING}),
    RunState.LOST: frozenset({RunState.RUNNING}),
}


class Direction(enum.StrEnum):
    """How a run touches a version."""

    IN = "in"
    OUT = "out"
    REUSED = "reused"
    """A cache hit: the parent run took an old version."""
    CODE = "code"
    ABOUT = "about"
    """A check, gate or deployment is about a version that it neither made nor read as data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    id: ProjectId
    name: str
    created_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    id: AssetId
    project_id: ProjectId
    name: str
    kind: AssetKind
    current_id: VersionId | None
    created_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One immutable content of an asset.

    Attributes:
        digest: of the content (decision 2).
        layout: the object that holds it; may be replaced by an equal one (compaction).
        size: bytes of the content as a reader sees it.
        rows: of a table; None for others.
        meta: facts for people and planners: columns, entries, signature; ``erased``: numbers of erasures.
        gone: the content was removed; the row stays for lineage.
    """

    id: VersionId
    asset_id: AssetId
    asset: str
    digest: Digest
    content: Content
    layout: Digest
    size: int
    rows: int | None
    meta: dict[str, Any]
    created_at: int
    gone: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One execution (decision 1). Its id is the MLflow run id.

    Attributes:
        kind: step, pipeline, sweep, trial, commit, collection, deployment, check, gate, mlflow.
        identity: digest of the step's manifest, the cache key.
        event_ms: event time at its start.
        cost: cpu_ms, wall_ms, memory bytes at the peak.
    """

    id: RunId
    project_id: ProjectId
    kind: str
    name: str
    state: RunState
    parent_id: RunId | None
    asset_id: AssetId | None
    actor: str
    trigger: str | None
    identity: Digest | None
    started_at: int
    ended_at: int | None
    event_ms: int
    error: dict[str, Any] | None
    cost: dict[str, Any]
    deleted_at: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    run_id: RunId
    version_id: VersionId
    direction: Direction
    slot: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened, written in the transaction in which it happened.

    Attributes:
        type: noun and past tense, for instance ``commit.created``.
        subject: the name of what it happened to.
    """

    id: EventId
    project_id: ProjectId
    type: str
    subject: str
    payload: dict[str, Any]
    event_ms: int
    created_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One state change. ``hash`` covers the entry and the hash before it, so a change in the past shows."""

    seq: int
    at: int
    actor: str
    verb: str
    subject: str
    detail: dict[str, Any]
    prev: str
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A fact that a test of the ML Test Score, a gate or an auditor can stand on.

    Attributes:
        test: what was tested, for instance ``contract`` or ``parity``.
        subject: the version, model or endpoint that it speaks of.
        passed: the verdict.
        automatic: no person asked for it.
        evaluator: digest or version of the code that judged.
        event_ms: event time of the judgement.
    """

    id: int
    project_id: ProjectId
    test: str
    subject: str
    version_id: VersionId | None
    run_id: RunId | None
    passed: bool
    automatic: bool
    actor: str
    evaluator: str
    details: dict[str, Any] = field(default_factory=dict[str, Any])
    event_ms: int = 0
    created_at: int = 0
