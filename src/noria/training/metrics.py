"""Metrics on plain arrays, with intervals that respect that rows of one day are alike.

Own formulas in numpy, checked against scikit-learn in the tests: monitoring computes them in a process that must not
import scikit-learn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from noria.base.names import nearest
from noria.training.errors import MetricUnknown

Floats = np.ndarray[Any, np.dtype[np.float64]]
_EPS: Final = 1e-15


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        better: 1 where more is better, -1 where less is.
        score: (truth, score) -> number; NaN where it is not defined (one class only, no rows).
        rows: (truth, score) -> loss of each row, where the metric is the mean of such losses (sign: less is better).
    """

    name: str
    better: int
    score: Callable[[Floats, Floats], float]
    rows: Callable[[Floats, Floats], Floats] | None = None
    tasks: tuple[str, ...] = ("binary",)


def _log_losses(y: Floats, p: Floats) -> Floats:
    p = np.clip(p, _EPS, 1 - _EPS)
    return -np.where(y > 0.5, np.log(p), np.log1p(-p))


def _brier(y: Floats, p: Floats) -> Floats:
    return (y - p) ** 2


def _errors(y: Floats, p: Floats) -> Floats:
    return ((p >= 0.5) != (y > 0.5)).astype(np.float64)


def roc_auc(y: Floats, p: Floats) -> float:
    """The chance that a positive row has a higher score than a negative one; ties count half."""
    positive = y > 0.5
    count = int(positive.sum())
    other = len(y) - count
    if not count or not other:
        return float("nan")
    order = np.argsort(p, kind="mergesort")
    ordered = p[order]
    starts = np.concatenate([[0], np.nonzero(ordered[1:] != ordered[:-1])[0] + 1])
    ends = np.append(starts[1:], len(ordered))
    ranks = np.empty(len(p))
    ranks[order] = np.repeat((starts + ends + 1) / 2, ends - starts)
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * other))


def average_precision(y: Floats, p: Floats) -> float:
    positive = (y > 0.5).astype(np.float64)
    total = positive.sum()
    if not total:
        return float("nan")
    order = np.argsort(-p, kind="mergesort")
    scores, hits = p[order], np.cumsum(positive[order])
    last = np.append(np.nonzero(scores[1:] != scores[:-1])[0], len(scores) - 1)
    precision, recall = hits[last] / (last + 1), hits[last] / total
    return float(np.sum(np.diff(np.concatenate([[0.0], recall])) * precision))


def _mean_of(rows: Callable[[Floats, Floats], Floats]) -> Callable[[Floats, Floats], float]:
    return lambda y, p: float(rows(y, p).mean()) if len(y) else float("nan")


def _rmse(y: Floats, p: Floats) -> float:
    return float(np.sqrt(np.mean((y - p) ** 2))) if len(y) else float("nan")


def _r2(y: Floats, p: Floats) -> float:
    spread = float(((y - y.mean()) ** 2).sum()) if len(y) else 0.0
    return 1 - float(((y - p) ** 2).sum()) / spread if spread else float("nan")


def _accuracy(y: Floats, p: Floats) -> float:
    return 1 - float(_errors(y, p).mean()) if len(y) else float("nan")


def _absolute(y: Floats, p: Floats) -> Floats:
    return np.abs(y - p)


METRICS: Final[dict[str, Metric]] = {
    m.name: m
    for m in (
        Metric("log_loss", -1, _mean_of(_log_losses), _log_losses),
        Metric("brier", -1, _mean_of(_brier), _brier),
        Metric("roc_auc", 1, roc_auc),
        Metric("average_precision", 1, average_precision),
        Metric("accuracy", 1, _accuracy, _errors),
        Metric("rmse", -1, _rmse, _brier, ("regression",)),
        Metric("mae", -1, _mean_of(_absolute), _absolute, ("regression",)),
        Metric("r2", 1, _r2, None, ("regression",)),
    )
}
DEFAULTS: Final = {"binary": ("log_loss", "roc_auc"), "regression": ("rmse", "mae")}


def metric(name: str) -> Metric:
    found = METRICS.get(name)
    if found is None:
        raise MetricUnknown(
            f"There is no metric {name!r}.", hint=nearest(name, METRICS) or f"Metrics: {', '.join(METRICS)}."
        )
    return found


def own(name: str, function: Callable[..., float]) -> Metric:
    """A user's function of (truth, score) as a metric: more is better, unless it has ``better = -1``."""
    return Metric(
        name, int(getattr(function, "better", 1)), lambda y, p: float(function(y, p)), None, ("binary", "regression")
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A value with its interval."""

    value: float
    low: float
    high: float
    n: int

    def as_value(self) -> dict[str, float | int]:
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}


def blocks_of(days: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The number of the block (day) of each row, from 0."""
    return np.unique(days, return_inverse=True)[1].astype(np.int64)


def interval(
    chosen: Metric,
    y: Floats,
    p: Floats,
    days: np.ndarray[Any, Any],
    *,
    confidence: float = 0.95,
    rounds: int = 200,
    seed: int = 0,
) -> Interval:
    """A metric with a bootstrap interval that resamples whole days: rows of one day are not independent."""
    value = chosen.score(y, p)
    blocks = blocks_of(days) if len(y) else np.zeros(0, np.int64)
    count = int(blocks.max()) + 1 if len(y) else 0
    if count < 2:
        return Interval(value=value, low=float("nan"), high=float("nan"), n=len(y))
    draws = draw_days(count, rounds, seed)
    if chosen.rows is not None and chosen.name not in ("rmse", "accuracy"):
        values = _weighted_means(chosen.rows(y, p), blocks, count, draws)
    else:
        members = [np.nonzero(blocks == b)[0] for b in range(count)]
        values = np.array([_resampled(chosen, y, p, members, draw) for draw in draws[: min(rounds, 100)]])
    values = values[np.isfinite(values)]
    if len(values) < 20:
        return Interval(value=value, low=float("nan"), high=float("nan"), n=len(y))
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(value=value, low=float(low), high=float(high), n=len(y))


def draw_days(count: int, rounds: int, seed: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.random.default_rng(seed).integers(0, count, (rounds, count))


def _weighted_means(losses: Floats, blocks: np.ndarray[Any, Any], count: int, draws: np.ndarray[Any, Any]) -> Floats:
    sums = np.bincount(blocks, losses, count)
    sizes = np.bincount(blocks, minlength=count).astype(np.float64)
    return sums[draws].sum(axis=1) / sizes[draws].sum(axis=1)


def _resampled(chosen: Metric, y: Floats, p: Floats, members: Sequence[Any], draw: Any) -> float:
    rows = np.concatenate([members[b] for b in draw])
    return chosen.score(y[rows], p[rows])


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two scores of the same rows. ``gain`` is how much better the first is (in the metric's own unit)."""

    gain: float
    low: float
    high: float
    chance: float
    n: int
    days: int

    def as_value(self) -> dict[str, float | int]:
        return {
            "gain": self.gain,
            "low": self.low,
            "high": self.high,
            "chance": self.chance,
            "n": self.n,
            "days": self.days,
        }


def compare(
    chosen: Metric,
    y: Floats,
    first: Floats,
    second: Floats,
    days: np.ndarray[Any, Any],
    *,
    rounds: int = 1000,
    seed: int = 0,
) -> Comparison:
    """How much better the first score is than the second, paired on the same rows, whole days resampled.

    ``chance`` is the share of resamplings in which the first one is better.
    """
    if not len(y):
        nan = float("nan")
        return Comparison(gain=nan, low=nan, high=nan, chance=0.0, n=0, days=0)
    blocks = blocks_of(days)
    count = int(blocks.max()) + 1
    draws = draw_days(count, rounds, seed)
    if chosen.rows is not None and chosen.name not in ("rmse", "accuracy"):
        losses = chosen.rows(y, second) - chosen.rows(y, first)
        gain, values = float(losses.mean()), _weighted_means(losses, blocks, count, draws)
    else:
        gain = chosen.better * (chosen.score(y, first) - chosen.score(y, second))
        members = [np.nonzero(blocks == b)[0] for b in range(count)]
        few = draws[: min(rounds, 200)]
        values = np.array(
            [
                chosen.better * (_resampled(chosen, y, first, members, d) - _resampled(chosen, y, second, members, d))
                for d in few
            ]
        )
    values = values[np.isfinite(values)]
    low, high = np.quantile(values, [0.025, 0.975]) if len(values) else (float("nan"), float("nan"))
    chance = float((values > 0).mean()) if len(values) else 0.0
    return Comparison(gain=gain, low=float(low), high=float(high), chance=chance, n=len(y), days=count)
