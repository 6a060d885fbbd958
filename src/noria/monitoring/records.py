from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One day (UTC, event time) of one deployment. Counts merge by addition.

    Attributes:
        n: rows that it scored; ``answered`` of them were the answer.
        errors: rows that it could not score; slow: answers above the promised latency.
        latency: quantiles in milliseconds of its answers: p50, p99.
        score: counts on the edges of the model's own reference; columns: the same on tenths, for each feature.
        labelled: rows whose truth is known; metrics: name -> value on them.
    """

    endpoint: str
    deployment: int
    model: str
    start: int
    n: int
    answered: int
    errors: int
    slow: int
    latency: dict[str, float]
    score: list[int]
    columns: dict[str, list[int]]
    facts: dict[str, Any]
    labelled: int
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """How far a distribution has moved from a reference.

    Attributes:
        psi: population stability index on tenths of the reference, shares clipped at 1e-4.
        ks: largest distance of the cumulative distributions.
        missing: share without a value; ``outside``: share of texts that the reference does not know.
    """

    name: str
    n: int
    psi: float
    ks: float | None = None
    missing: float = 0.0
    outside: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftOf:
    """Drift of a deployment in a stretch of event time."""

    endpoint: str
    model: str
    since: int
    until: int
    score: Drift
    features: list[Drift]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What was answered beside what another version would have answered, for a stretch of event time.

    Attributes:
        n: requests answered; labelled: those of which both have a score, and the truth is known.
        metrics: ``answered``, ``against`` and ``constant`` -> metric -> value.
    """

    start: int
    n: int
    labelled: int
    positives: float
    metrics: dict[str, dict[str, float]] = field(default_factory=dict[str, dict[str, float]])


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """What turned out to be so, for a stretch of event time.

    Attributes:
        model: of the deployment; ``""`` for everything that was answered, whoever answered it.
        n: rows served; labelled: rows with truth; due: rows whose truth should be there by now.
        metrics: name -> value, low, high (95 %, whole days resampled).
    """

    start: int
    end: int
    model: str
    n: int
    labelled: int
    due: int
    positives: float
    metrics: dict[str, dict[str, float]] = field(default_factory=dict[str, dict[str, float]])

    @property
    def coverage(self) -> float:
        """Share of the rows that are due of which the truth is known."""
        return self.labelled / self.due if self.due else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One incident: opened once, closed when it is over.

    Attributes:
        kind: drift, inputs, errors, latency, accuracy, release, training.
        opened, closed: event time.
    """

    id: int
    endpoint: str
    kind: str
    subject: str
    message: str
    details: dict[str, Any]
    opened: int
    closed: int | None
