"""Splits, search spaces, gates, triggers and releases: plain values. Policies never cause a step to run again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from noria.base.errors import Invalid
from noria.base.times import parse_duration


class Inert:
    """Marks a value as a declaration: part of the graph, not of a function's identity."""

    __noria_inert__: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Split(Inert):
    """How rows are divided. Test rows never reach the function.

    Attributes:
        kind: time, group or random.
        by: the column of a group split.
        train: how far the training rows reach back; None for all (time).
        valid, test: a duration for time splits, a share from 0 to 1 for the others.
        gap: left out between the parts, so that late truth of one cannot touch the next.
    """

    kind: str
    valid: str | float
    test: str | float
    train: str | None = None
    gap: str = "0s"
    by: str | None = None
    seed: int = 0

    def spec(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "valid": self.valid,
            "test": self.test,
            "train": self.train,
            "gap": self.gap,
            "by": self.by,
            "seed": self.seed,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Space(Inert):
    """One searched hyperparameter. ``kind`` is floats, log, ints or choice."""

    kind: str
    low: float = 0.0
    high: float = 0.0
    choices: tuple[Any, ...] = ()

    def spec(self) -> dict[str, Any]:
        return {"kind": self.kind, "low": self.low, "high": self.high, "choices": list(self.choices)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate(Inert):
    """A condition that a candidate has to meet, judged on its test rows.

    Attributes:
        kind: beats_champion, beats_baseline, slices, metric.
    """

    kind: str
    metric: str | None = None
    by: str | None = None
    least: float | None = None
    most: float | None = None
    confidence: float = 0.9
    min_rows: int = 100

    def spec(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "metric": self.metric,
            "by": self.by,
            "least": self.least,
            "most": self.most,
            "confidence": self.confidence,
            "min_rows": self.min_rows,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class When(Inert):
    """What starts a training without a person. ``kind`` is every, new_rows, drift or worse."""

    kind: str
    value: float = 0.0
    schedule: str = ""
    window: str = "7d"

    def spec(self) -> dict[str, Any]:
        return {"kind": self.kind, "value": self.value, "schedule": self.schedule, "window": self.window}


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget(Inert):
    """How often triggers may train: at most ``runs`` in ``per``, and not within ``pause`` of the last one."""

    runs: int = 10
    per: str = "30d"
    pause: str = "1d"

    def spec(self) -> dict[str, Any]:
        return {"runs": self.runs, "per": self.per, "pause": self.pause}


@dataclass(frozen=True, slots=True, kw_only=True)
class Release(Inert):
    """How a model version that passed its gates takes over.

    Attributes:
        steps: shares of traffic, growing, ending with 1.0.
        shadow: first the candidate answers in the shadow only, scored against the champion on the same requests.
        alpha: of the canary's verdict, valid however often it is looked at.
        margin: how much worse (in the primary metric) still counts as no worse.
        hold: requests that each step has to carry before the next.
        longest: event time after which a release without a verdict is given up; the champion stays.
    """

    steps: tuple[float, ...]
    shadow: bool = True
    alpha: float = 0.05
    margin: float = 0.005
    hold: int = 500
    longest: str = "28d"

    def spec(self) -> dict[str, Any]:
        return {
            "steps": list(self.steps),
            "shadow": self.shadow,
            "alpha": self.alpha,
            "margin": self.margin,
            "hold": self.hold,
            "longest": self.longest,
        }


def check_duration(text: str) -> str:
    parse_duration(text)
    return text


def check_share(value: float, what: str) -> float:
    if not 0 < value < 1:
        raise Invalid(f"{what} is {value}; it is a share between 0 and 1.")
    return value
