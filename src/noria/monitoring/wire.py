"""Wire shapes of monitoring."""

from __future__ import annotations

import math
from typing import Annotated, Any

import msgspec

from noria.base.times import parse_time, to_text
from noria.monitoring.records import Accuracy, Alert, Compared, Drift, DriftOf, Window


class TruthRow(msgspec.Struct, forbid_unknown_fields=True):
    """``id`` is what the request called the row, or what the answer did."""

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    truth: float | bool


class TruthBody(msgspec.Struct, forbid_unknown_fields=True):
    rows: Annotated[list[TruthRow], msgspec.Meta(min_length=1, max_length=100_000)]


class TruthOut(msgspec.Struct):
    endpoint: str
    told: int


class WindowOut(msgspec.Struct):
    start: str
    deployment: int
    model: str
    n: int
    answered: int
    errors: int
    slow: int
    latency: dict[str, float]
    labelled: int
    metrics: dict[str, float | None]


class WindowPage(msgspec.Struct):
    items: list[WindowOut]


class DriftOut(msgspec.Struct):
    name: str
    n: int
    psi: float
    ks: float | None
    missing: float
    outside: float


class DriftReport(msgspec.Struct):
    endpoint: str
    model: str
    since: str
    until: str
    score: DriftOut
    features: list[DriftOut]


class AccuracyOut(msgspec.Struct):
    start: str
    end: str
    model: str
    n: int
    due: int
    labelled: int
    coverage: float
    positives: float
    metrics: dict[str, dict[str, float | None]]


class AccuracyPage(msgspec.Struct):
    items: list[AccuracyOut]


class AgainstOut(msgspec.Struct):
    start: str
    n: int
    labelled: int
    positives: float
    metrics: dict[str, dict[str, float | None]]


class AgainstPage(msgspec.Struct):
    items: list[AgainstOut]


class AlertOut(msgspec.Struct):
    id: int
    endpoint: str
    kind: str
    subject: str
    message: str
    details: dict[str, Any]
    opened: str
    closed: str | None


class AlertPage(msgspec.Struct):
    items: list[AlertOut]


class SpanQuery(msgspec.Struct, forbid_unknown_fields=True):
    since: str | None = None
    until: str | None = None
    deployment: int | None = None


class AgainstQuery(msgspec.Struct, forbid_unknown_fields=True):
    against: str
    by: str = "all"
    since: str | None = None
    until: str | None = None


class AccuracyQuery(msgspec.Struct, forbid_unknown_fields=True):
    by: str = "all"
    since: str | None = None
    until: str | None = None
    deployment: int | None = None


class AlertQuery(msgspec.Struct, forbid_unknown_fields=True):
    open: bool = False
    limit: int = 100


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def window_out(w: Window) -> WindowOut:
    return WindowOut(
        start=to_text(w.start),
        deployment=w.deployment,
        model=w.model,
        n=w.n,
        answered=w.answered,
        errors=w.errors,
        slow=w.slow,
        latency=w.latency,
        labelled=w.labelled,
        metrics={k: _number(v) for k, v in w.metrics.items()},
    )


def drift_out(d: Drift) -> DriftOut:
    return DriftOut(name=d.name, n=d.n, psi=d.psi, ks=d.ks, missing=d.missing, outside=d.outside)


def accuracy_out(a: Accuracy) -> AccuracyOut:
    return AccuracyOut(
        start=to_text(a.start),
        end=to_text(a.end),
        model=a.model,
        n=a.n,
        due=a.due,
        labelled=a.labelled,
        coverage=a.coverage,
        positives=a.positives,
        metrics={name: {k: _number(v) for k, v in found.items()} for name, found in a.metrics.items()},
    )


def against_out(c: Compared) -> AgainstOut:
    return AgainstOut(
        start=to_text(c.start),
        n=c.n,
        labelled=c.labelled,
        positives=c.positives,
        metrics={side: {k: _number(v) for k, v in found.items()} for side, found in c.metrics.items()},
    )


def alert_out(a: Alert) -> AlertOut:
    closed = None if a.closed is None else to_text(a.closed)
    return AlertOut(a.id, a.endpoint, a.kind, a.subject, a.message, a.details, to_text(a.opened), closed)


def drift_report(found: DriftOf) -> DriftReport:
    return DriftReport(
        endpoint=found.endpoint,
        model=found.model,
        since=to_text(found.since),
        until=to_text(found.until),
        score=drift_out(found.score),
        features=[drift_out(f) for f in found.features],
    )


def span(since: str | None, until: str | None) -> tuple[int | None, int | None]:
    """Two times given as text, as milliseconds."""
    return (None if since is None else parse_time(since)), (None if until is None else parse_time(until))
