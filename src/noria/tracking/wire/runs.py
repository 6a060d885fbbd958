"""Wire shapes of runs: what HTTP sends and what ``--json`` prints."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec

from noria.assets import Assets
from noria.assets.records import Edge, Run, RunState, Version
from noria.base.errors import Invalid, NotFound
from noria.base.ids import ProjectId, RunId, VersionId
from noria.base.names import nearest
from noria.base.pages import Page
from noria.base.times import to_text
from noria.tracking import Tracking
from noria.tracking.records import Artifact, Curve, DatasetInput, Line, Listed, Owner, OwnerKind, Point
from noria.tracking.service import NOTE

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
    """A run with the newest value of each of its metrics, or of those asked for.

    Attributes:
        tags: without those of clients (``mlflow.``), unless they were asked for.
    """

    run: RunOut
    params: dict[str, str]
    metrics: dict[str, float | str]
    experiment: str | None = None
    user: str = ""
    tags: dict[str, str] = {}


class RunPage(msgspec.Struct):
    items: list[RunSummary]
    next: str | None = None


class CompareQuery(msgspec.Struct, forbid_unknown_fields=True):
    """``runs``: ids or their beginnings, with commas; ``all``: also what is equal in all of them; ``lower``,
    ``higher``: metrics, with commas, of which the least or the greatest is best."""

    runs: str
    all: bool = False
    lower: str = ""
    higher: str = ""
    limit: Limit = 1_000
    after: str | None = None


class Compared(msgspec.Struct):
    """Parameter, metric or tag -> its value in each run, null where a run has none.

    Attributes:
        best: metric -> the places of its best values, where its name says which way is better.
    """

    runs: list[RunOut]
    params: dict[str, list[str | None]]
    metrics: dict[str, list[float | str | None]]
    tags: dict[str, list[str | None]]
    best: dict[str, list[int]]
    next: str | None = None


class DatasetOut(msgspec.Struct):
    """Data that a client says the run read; ``context`` says what for."""

    name: str
    digest: str
    source_type: str
    source: str
    context: str | None


class ArtifactOut(msgspec.Struct):
    path: str
    size: int


class ArtifactPage(msgspec.Struct):
    """Files of all folders, by folder and name."""

    items: list[ArtifactOut]
    next: str | None = None


class ArtifactsQuery(msgspec.Struct):
    limit: Limit = 100
    after: str | None = None


class PurgedRun(msgspec.Struct):
    """What the run said was deleted for good; ``done``: all of it."""

    at: str
    actor: str
    done: bool


class RunDetail(msgspec.Struct):
    run: RunOut
    params: dict[str, str]
    metrics: dict[str, PointOut]
    tags: dict[str, str]
    edges: list[EdgeOut]
    children: list[RunOut]
    experiment: str | None = None
    user: str = ""
    note: str | None = None
    datasets: list[DatasetOut] = []
    artifacts: ArtifactPage | None = None
    deleted_at: str | None = None
    purged: PurgedRun | None = None
    models_made: list[str] = []
    models_read: list[str] = []


class PointPage(msgspec.Struct):
    """``total``: points of the whole history, where a curve was asked for."""

    items: list[PointOut]
    next: str | None = None
    total: int | None = None


class RunsQuery(msgspec.Struct):
    """``kind``, ``state``, ``experiment``, ``order`` and ``columns`` take several, with commas; ``under`` is a folder
    of experiments; ``deleted``: only what is in the bin."""

    kind: str | None = None
    name: str | None = None
    state: str | None = None
    parent: str | None = None
    filter: str | None = None
    experiment: str | None = None
    under: str | None = None
    order: str | None = None
    columns: str | None = None
    deleted: bool = False
    limit: Limit = 100
    after: str | None = None


class PointsQuery(msgspec.Struct):
    """``points``: a curve in so many points, in the order of steps, its extremes among them; without it the history in
    the order of time, in pages. ``start``, ``end``: steps of a curve."""

    limit: Limit = 1_000
    after: str | None = None
    points: int | None = None
    start: int | None = None
    end: int | None = None


class CurvesQuery(msgspec.Struct):
    """``runs``: up to 100 ids or their beginnings, with commas."""

    runs: str
    key: str
    points: int = 500
    start: int | None = None
    end: int | None = None


class CurveOut(msgspec.Struct):
    """A metric of a run; ``total``: points of its whole history."""

    run: str
    key: str
    total: int
    points: list[PointOut]


class Curves(msgspec.Struct):
    items: list[CurveOut]


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


def summary_out(listed: Listed, *, chosen: bool = False) -> RunSummary:
    """``chosen``: its data holds only what was asked for."""
    data = listed.data
    metrics = {key: number_out(point.value) for key, point in data.metrics.items()}
    tags = {key: value for key, value in data.tags.items() if chosen or not key.startswith("mlflow.")}
    return RunSummary(run_out(listed.run), data.params, metrics, listed.experiment, data.user, tags)


def compared_out(runs: list[Run], page: Page[Line]) -> Compared:
    parts: dict[str, dict[str, list[Any]]] = {"params": {}, "metrics": {}, "tags": {}}
    for line in page.items:
        parts[line.part][line.key] = [number_out(v) if isinstance(v, float) else v for v in line.values]
    best = {line.key: list(line.best) for line in page.items if line.best}
    return Compared([run_out(r) for r in runs], parts["params"], parts["metrics"], parts["tags"], best, page.next)


def curve_out(curve: Curve) -> CurveOut:
    return CurveOut(curve.run_id, curve.key, curve.total, [point_out(p) for p in curve.points])


def dataset_out(found: DatasetInput) -> DatasetOut:
    one = found.dataset
    return DatasetOut(one.name, one.digest, one.source_type, one.source, found.tags.get("mlflow.data.context"))


def artifacts_out(page: Page[Artifact]) -> ArtifactPage:
    return ArtifactPage([ArtifactOut(one.path, one.size) for one in page.items], page.next)


def edge_out(edge: Edge, versions: dict[VersionId, Version]) -> EdgeOut:
    version = versions[edge.version_id]
    return EdgeOut(edge.direction.value, edge.slot, version.asset, version.id, str(version.digest), version.rows)


def detail_out(assets: Assets, tracking: Tracking, run: Run) -> RunDetail:
    data = tracking.data(run.id)
    edges = assets.edges(run.id)
    versions = assets.versions_by_ids({e.version_id for e in edges})
    names = tracking.experiment_names(run.project_id, [data.experiment_id] if data.experiment_id else [])
    stone = None if run.deleted_at is None else tracking.tombstone(run.id)
    read, made = tracking.models_of([run.id])
    return RunDetail(
        models_made=[id for id, _ in made.get(run.id, ())],
        models_read=list(read.get(run.id, ())),
        run=run_out(run),
        params=data.params,
        metrics={key: point_out(point) for key, point in data.metrics.items()},
        tags=data.tags,
        edges=[edge_out(e, versions) for e in edges if e.version_id in versions],
        children=[run_out(r) for r in assets.list_runs(run.project_id, parent_id=run.id).items],
        experiment=names.get(data.experiment_id or 0),
        user=data.user,
        note=data.tags.get(NOTE),
        datasets=[dataset_out(one) for one in tracking.inputs_of([run.id]).get(run.id, [])],
        artifacts=artifacts_out(tracking.all_artifacts(Owner(OwnerKind.RUN, run.id), limit=100)),
        deleted_at=None if run.deleted_at is None else to_text(run.deleted_at),
        purged=None if stone is None else PurgedRun(to_text(stone.at), stone.actor, stone.done),
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


def find_runs(assets: Assets, project_id: ProjectId, texts: Sequence[str], most: int = 1_000) -> list[Run]:
    """Several runs, each by its id or by the beginning of it; each once, in their order.

    Raises:
        RunNotFound, Invalid: one of them is not there; there are too many.
    """
    if not 0 < len(texts) <= most:
        raise Invalid(f"{len(texts)} runs are named.", hint=f"Name 1 to {most} of them.")
    whole = [text for text in texts if len(text) == 32]
    known = assets.runs_by_ids([RunId(t) for t in whole])
    found: dict[str, Run] = {}
    for text in texts:
        run = known.get(RunId(text))
        if run is None or run.project_id != project_id:
            run = find_run(assets, project_id, text)
        found[run.id] = run
    return list(found.values())


def find_left(assets: Assets, project_id: ProjectId, texts: Sequence[str], most: int = 1_000) -> list[RunId]:
    """The same for runs that may be gone: whole ids of none are passed over.

    Raises:
        RunNotFound, Invalid: the beginning of an id names none; there are too many.
    """
    if len(texts) > most:
        raise Invalid(f"{len(texts)} runs are named.", hint=f"Name up to {most} of them.")
    there = assets.runs_by_ids([RunId(text) for text in texts if len(text) == 32])
    known = [text for text in texts if len(text) != 32 or RunId(text) in there]
    return [run.id for run in find_runs(assets, project_id, known, most)] if known else []


def states_of(text: str | None) -> list[RunState]:
    """States by their names, with commas.

    Raises:
        Invalid: there is no such state.
    """
    known = {state.value: state for state in RunState}
    names = split(text)
    for name in names:
        if name not in known:
            raise Invalid(f"{name!r:.60} is no state of a run.", hint=f"One of {', '.join(known)}.")
    return [known[name] for name in names]


def split(text: str | None) -> list[str]:
    return [part.strip() for part in (text or "").split(",") if part.strip()]
