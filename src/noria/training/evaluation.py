"""How good a model is on rows that its function never saw."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from noria.base.names import nearest
from noria.features.function import AT
from noria.training import metrics as m
from noria.training.errors import TrainingInvalid
from noria.training.metrics import METRICS, Metric

SCORE, TRUTH, PART = "score", "truth", "part"
_MOST_SLICES: Final = 60


class Evaluation:
    """The test rows of a model with their scores: what a check gets as ``evaluation``.

    Attributes:
        frame: one row a test row: key, ``_at``, the features, ``truth``, ``score`` and the baselines' scores.
        metrics: name -> value with its interval.
    """

    def __init__(self, frame: pl.DataFrame, facts: dict[str, Any]) -> None:
        self.frame = frame
        self._facts = facts
        self.metrics: dict[str, dict[str, float]] = facts["metrics"]

    @property
    def primary(self) -> str:
        return self._facts["primary"]

    @property
    def task(self) -> str:
        """``binary`` or ``regression``."""
        return self._facts.get("task", "binary")

    def __len__(self) -> int:
        return len(self.frame)

    def __getitem__(self, metric: str) -> float:
        """The test value of a metric."""
        if metric not in self.metrics:
            raise TrainingInvalid(
                f"The model was not judged by {metric!r}.",
                hint=nearest(metric, self.metrics) or ", ".join(self.metrics),
            )
        return self.metrics[metric]["value"]

    def by(self, column: str, *, min_rows: int = 100) -> pl.DataFrame:
        """Each metric on every value of a column with at least ``min_rows`` rows: columns value, n, and the metrics."""
        if column not in self.frame.columns:
            raise TrainingInvalid(f"The test rows have no column {column!r}.", hint=nearest(column, self.frame.columns))
        chosen = [METRICS[name] for name in self.metrics if name in METRICS]
        return slices(self.frame, column, chosen, min_rows)

    @classmethod
    def read(cls, folder: Path) -> Evaluation:
        facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        return cls(pl.read_parquet(folder / "scores.parquet").filter(pl.col(PART) == "test").drop(PART), facts)


def slices(frame: pl.DataFrame, column: str, chosen: list[Metric], min_rows: int) -> pl.DataFrame:
    """Metrics on every value of a column."""
    rows: list[dict[str, Any]] = []
    for (value,), part in frame.group_by(column, maintain_order=True):
        if len(part) >= min_rows:
            y, p = part[TRUTH].cast(pl.Float64).to_numpy(), part[SCORE].to_numpy()
            rows.append({column: value, "n": len(part), **{c.name: c.score(y, p) for c in chosen}})
    types: dict[str, Any] = {column: frame.schema[column], "n": pl.Int64, **{c.name: pl.Float64 for c in chosen}}
    return pl.DataFrame(rows, schema=types).sort(column, nulls_last=True)


def judge(frame: pl.DataFrame, chosen: list[Metric], features: list[str]) -> dict[str, Any]:
    """Everything that is said of a model's test rows: metrics with intervals, baselines, slices."""
    y, p, days = arrays(frame)
    facts: dict[str, Any] = {
        "primary": chosen[0].name,
        "rows": len(frame),
        "positives": float(y.mean()) if len(y) else 0.0,
        "metrics": {c.name: m.interval(c, y, p, days).as_value() for c in chosen},
        "baselines": {},
        "slices": {},
    }
    for baseline in ("constant", "linear"):
        if baseline in frame.columns:
            other = frame[baseline].to_numpy()
            facts["baselines"][baseline] = {
                "metrics": {c.name: c.score(y, other) for c in chosen},
                "comparison": m.compare(chosen[0], y, p, other, days).as_value(),
            }
    for name in features:
        if frame.schema[name] == pl.String and 1 < frame[name].n_unique() <= _MOST_SLICES:
            facts["slices"][name] = slices(frame, name, chosen, 50).to_dicts()
    return facts


def arrays(frame: pl.DataFrame) -> tuple[Any, Any, Any]:
    """(truth, score, day) of rows, as arrays."""
    y = frame[TRUTH].cast(pl.Float64).to_numpy()
    return y, frame[SCORE].to_numpy(), days_of(frame)


def days_of(frame: pl.DataFrame) -> Any:
    """The day of each row's moment; one block for each row where there are no moments."""
    if AT in frame.columns and frame[AT].null_count() < len(frame):
        return frame[AT].dt.epoch("d").fill_null(-1).to_numpy()
    return np.arange(len(frame))


def importance(
    predict: Any, features: pl.DataFrame, y: Any, days: Any, chosen: Metric, names: list[str], *, seed: int = 0
) -> list[dict[str, Any]]:
    """Permutation importance on held-out rows: how much worse the metric gets when one feature is shuffled.

    At most 4,000 rows; with an interval over days, so that a feature that does not help can be named.
    """
    rng = np.random.default_rng(seed)
    if len(features) > 4000:
        picked = np.sort(rng.choice(len(features), 4000, replace=False))
        features, y, days = features[picked.tolist()], y[picked], days[picked]
    base = predict(features)
    found: list[dict[str, Any]] = []
    for name in names:
        shuffled = features.with_columns(features[name][rng.permutation(len(features)).tolist()].alias(name))
        result = m.compare(chosen, y, base, predict(shuffled), days, rounds=200, seed=seed)
        found.append({"feature": name, "worse_by": result.gain, "low": result.low, "high": result.high})
    return sorted(found, key=lambda item: -item["worse_by"])
