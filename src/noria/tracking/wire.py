"""Wire shapes of runs: what HTTP sends and what ``--json`` prints."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from noria.assets import Assets
from noria.assets.records import Edge, Run, RunState, Version
from noria.base.errors import NotFound
from noria.base.ids import ProjectId, RunId, VersionId
from noria.base.names import nearest
from noria.base.times import to_text
from noria.tracking import Tracking
from noria.tracking.records import Point, RunData

Limit = Annotated[int, msgspec.Meta(ge=1, le=1_000)]


class MetricNotFound(NotFound):
    """The run has no metric of this name."""

    code = "metric_not_found"


class RunOut(msgspec.Struct):
    id: str
    kind: str
    name: str
    state: str
    parent: str | None
    actor: str
    trigger: str | None
    started_at: str
    ended_at: str | None
    event_time: str
    error: dict[str, Any] | None
    cost: dict[str, Any]


class PointOut(msgspec.Struct):
    """One point of a metric.

    Attributes:
        value: a number, or the text ``NaN``, ``Infinity`` or ``-Infinity``, which JSON has no numbers for.
        at: the client's time in milliseconds since 1970.
    """

    value: float | str
    step: int
    at: int


class EdgeOut(msgspec.Struct):
    """A version that a run touched: ``direction`` is in, out, reused, code or about."""

    direction: str
    slot: str
    asset: str
    version: int
    digest: str
    rows: int | None


class RunSummary(msgspec.Struct):
    """A run with the newest value of each of its metrics."""

    run: RunOut
    params: dict[str, str]
    metrics: dict[str, float | str]


class RunPage(msgspec.Struct):
    items: list[RunSummary]
    next: str | None = None


class CompareQuery(msgspec.Struct, forbid_unknown_fields=True):
    """``runs``: ids or their beginnings, with commas; ``all``: also what is equal in all of them."""

    runs: str
    all: bool = False


class Compared(msgspec.Struct):
    """Parameter or metric -> its value in each run, null where a run has none."""

    runs: list[RunOut]
    params: dict[str, list[str | None]]
    metrics: dict[str, list[float | str | None]]


class RunDetail(msgspec.Struct):
    run: RunOut
    params: dict[str, str]
    metrics: dict[str, PointOut]
    tags: dict[str, str]
    edges: list[EdgeOut]
    children: list[RunOut]


class PointPage(msgspec.Struct):
    items: list[PointOut]
    next: str | None = None


class RunsQuery(msgspec.Struct):
    """``filter``, ``experiment`` and ``order`` search by what runs said of themselves; the rest by what they are."""

    kind: str | None = None
    name: str | None = None
    state: RunState | None = None
    parent: str | None = None
    filter: str | None = None
    experiment: str | None = None
    order: str | None = None
    limit: Limit = 100
    after: str | None = None


class PointsQuery(msgspec.Struct):
    limit: Limit = 1_000
    after: str | None = None


def number_out(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def run_out(run: Run) -> RunOut:
    return RunOut(
        id=run.id,
        kind=run.kind,
        name=run.name,
        state=run.state.value,
        parent=run.parent_id,
        actor=run.actor,
        trigger=run.trigger,
        started_at=to_text(run.started_at),
        ended_at=None if run.ended_at is None else to_text(run.ended_at),
        event_time=to_text(run.event_ms),
        error=run.error,
        cost=run.cost,
    )


def point_out(point: Point) -> PointOut:
    return PointOut(number_out(point.value), point.step, point.at)


def summary_out(run: Run, data: RunData) -> RunSummary:
    metrics = {key: number_out(point.value) for key, point in data.metrics.items()}
    return RunSummary(run_out(run), data.params, metrics)


def compared_out(runs: list[Run], data: Mapping[RunId, RunData], *, everything: bool) -> Compared:
    made = [summary_out(r, data[r.id]) for r in runs]

    def differing(parts: list[Any]) -> dict[str, list[Any]]:
        keys = dict.fromkeys(key for part in parts for key in part)
        lines = {key: [part.get(key) for part in parts] for key in keys}
        return {k: v for k, v in lines.items() if everything or any(one != v[0] for one in v)}

    params, metrics = differing([m.params for m in made]), differing([m.metrics for m in made])
    return Compared([m.run for m in made], params, metrics)


def edge_out(edge: Edge, versions: dict[VersionId, Version]) -> EdgeOut:
    version = versions[edge.version_id]
    return EdgeOut(edge.direction.value, edge.slot, version.asset, version.id, str(version.digest), version.rows)


def detail_out(assets: Assets, run: Run, data: RunData) -> RunDetail:
    edges = assets.edges(run.id)
    versions = assets.versions_by_ids({e.version_id for e in edges})
    return RunDetail(
        run=run_out(run),
        params=data.params,
        metrics={key: point_out(point) for key, point in data.metrics.items()},
        tags=data.tags,
        edges=[edge_out(e, versions) for e in edges if e.version_id in versions],
        children=[run_out(r) for r in assets.list_runs(run.project_id, parent_id=run.id).items],
    )


def find_run(assets: Assets, project_id: ProjectId, text: str) -> Run:
    """A run of this project by its id or by the beginning of it.

    Raises:
        RunNotFound: there is none, or several begin so.
    """
    return assets.resolve_run(project_id, text)


def find_metric(tracking: Tracking, run_id: RunId, key: str) -> str:
    """The key, if the run has such a metric.

    Raises:
        MetricNotFound: with the nearest one.
    """
    known = tracking.data(run_id).metrics
    if key not in known:
        hint = nearest(key, known) or f"Its metrics: {', '.join(known) or 'none'}."
        raise MetricNotFound(f"The run {run_id} has no metric {key!r:.80}.", hint=hint)
    return key
