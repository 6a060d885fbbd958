"""Wire shapes of plans, pipeline runs, assets, events and jobs: what HTTP sends and what ``--json`` prints."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from noria.assets.records import Asset, Event, Version
from noria.base.times import to_text
from noria.jobs import Job, JobState
from noria.pipelines.records import Definition, PipelineRun, PlannedStep, StepResult, Why

Limit = Annotated[int, msgspec.Meta(ge=1, le=1_000)]
EventNumber = Annotated[int, msgspec.Meta(ge=0, le=2**62)]


class WhyOut(msgspec.Struct):
    """``level`` is CODE, VALUE, PARAM, INPUT, LIBRARY, ENV, POLICY, UPSTREAM or NEW."""

    level: str
    text: str


class PlannedOut(msgspec.Struct):
    """``action`` is source, reuse, run or empty."""

    asset: str
    kind: str
    action: str
    why: list[WhyOut]
    expected_ms: int | None
    version: int | None
    notes: list[str]


class PlanOut(msgspec.Struct):
    steps: list[PlannedOut]
    expected_ms: int


class StepOut(msgspec.Struct):
    """``action`` is source, reused, made, failed or blocked; ``outputs`` maps an output slot to its version.

    ``warnings`` have the form of errors: a batch that a contract refused while the run went on without it.
    """

    asset: str
    kind: str
    action: str
    run: str | None
    outputs: dict[str, int]
    error: dict[str, Any] | None
    why: list[WhyOut]
    wall_ms: int
    warnings: list[dict[str, Any]] = []


class PipelineOut(msgspec.Struct):
    run: str
    state: str
    steps: list[StepOut]


class VersionOut(msgspec.Struct):
    id: int
    digest: str
    content: str
    size: int
    rows: int | None
    meta: dict[str, Any]
    created_at: str


class VersionPage(msgspec.Struct):
    items: list[VersionOut]
    next: str | None = None


class AssetOut(msgspec.Struct):
    """An asset with what it stands at and what it is made from, as last applied."""

    name: str
    kind: str
    inputs: list[str]
    current: VersionOut | None
    applied_at: str | None


class AssetPage(msgspec.Struct):
    items: list[AssetOut]


class AssetDetail(msgspec.Struct):
    """``spec`` is what the project says of it, as last applied; the code itself is in the snapshot ``code``."""

    asset: AssetOut
    entry: str
    spec: dict[str, Any]
    code: str


class AssetsQuery(msgspec.Struct):
    kind: str | None = None


class VersionsQuery(msgspec.Struct):
    limit: Limit = 100
    after: str | None = None


class EventOut(msgspec.Struct):
    id: int
    type: str
    subject: str
    payload: dict[str, Any]
    event_time: str
    at: str


class EventPage(msgspec.Struct):
    """``next`` is the number to pass as ``after`` for what comes later."""

    items: list[EventOut]
    next: int


class EventsQuery(msgspec.Struct):
    """``types``: with commas between."""

    after: EventNumber = 0
    types: str | None = None
    subject: str | None = None
    limit: Limit = 100


class JobOut(msgspec.Struct):
    id: int
    kind: str
    state: str
    unique: str | None
    attempts: int
    max_attempts: int
    payload: dict[str, Any]
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    due_at: str
    event_time: str
    created_at: str
    ended_at: str | None


class JobPage(msgspec.Struct):
    items: list[JobOut]


class JobsQuery(msgspec.Struct):
    kind: str | None = None
    state: JobState | None = None
    limit: Limit = 100


class LogsQuery(msgspec.Struct):
    tail: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1_000


class LogOut(msgspec.Struct):
    run: str
    name: str
    lines: list[str]


def _why(found: tuple[Why, ...]) -> list[WhyOut]:
    return [WhyOut(w.level, w.text) for w in found]


def planned_out(step: PlannedStep) -> PlannedOut:
    return PlannedOut(
        asset=step.asset,
        kind=step.kind,
        action=step.action,
        why=_why(step.why),
        expected_ms=step.expected_ms,
        version=step.version_id,
        notes=list(step.notes),
    )


def plan_out(steps: list[PlannedStep]) -> PlanOut:
    return PlanOut([planned_out(s) for s in steps], sum(s.expected_ms or 0 for s in steps if s.action == "run"))


def step_out(step: StepResult) -> StepOut:
    return StepOut(
        asset=step.asset,
        kind=step.kind,
        action=step.action,
        run=step.run_id,
        outputs={slot: int(version) for slot, version in step.outputs.items()},
        error=step.error,
        why=_why(step.why),
        wall_ms=step.wall_ms,
        warnings=list(step.warnings),
    )


def pipeline_out(run: PipelineRun) -> PipelineOut:
    return PipelineOut(run.run_id, "failed" if run.failed else "done", [step_out(s) for s in run.steps.values()])


def version_out(version: Version) -> VersionOut:
    return VersionOut(
        id=version.id,
        digest=str(version.digest),
        content=version.content.value,
        size=version.size,
        rows=version.rows,
        meta=version.meta,
        created_at=to_text(version.created_at),
    )


def asset_out(name: str, asset: Asset | None, current: Version | None, definition: Definition | None) -> AssetOut:
    kind = definition.kind if definition is not None else asset.kind.value if asset is not None else ""
    edges = [] if definition is None else definition.spec.get("edges", [])
    model = None if definition is None else definition.spec.get("model")
    return AssetOut(
        name=name,
        kind=kind,
        inputs=list(dict.fromkeys([*(edge[1] for edge in edges), *([model] if model else [])])),
        current=None if current is None else version_out(current),
        applied_at=None if definition is None else to_text(definition.updated_at),
    )


def event_out(event: Event) -> EventOut:
    return EventOut(
        id=event.id,
        type=event.type,
        subject=event.subject,
        payload=event.payload,
        event_time=to_text(event.event_ms),
        at=to_text(event.created_at),
    )


def job_out(job: Job) -> JobOut:
    return JobOut(
        id=job.id,
        kind=job.kind,
        state=job.state.value,
        unique=job.unique,
        attempts=job.attempts,
        max_attempts=job.max_attempts,
        payload=job.payload,
        result=job.result,
        error=job.error,
        due_at=to_text(job.due_at),
        event_time=to_text(job.event_ms),
        created_at=to_text(job.created_at),
        ended_at=None if job.ended_at is None else to_text(job.ended_at),
    )
