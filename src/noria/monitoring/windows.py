"""What a window holds, computed from the rows that were captured in it. Pure: rows in, numbers out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import polars as pl

from noria.monitoring.drift import group_counts
from noria.training import metrics as m
from noria.training.metrics import METRICS
from noria.training.reference import SCORE, count

_decode = msgspec.json.Decoder().decode


def describe(rows: pl.DataFrame, reference: Mapping[str, Any], p99_ms: float | None) -> dict[str, Any]:
    """The numbers of one deployment and day: everything of a ``Window`` but the truth."""
    failed = rows.filter(pl.col("error") != "")
    good = rows.filter(pl.col("error") == "")
    answered = good.filter(pl.col("answered"))
    latency = answered["latency"].to_numpy() / 1000
    slow = int((latency > p99_ms).sum()) if p99_ms is not None else 0
    quantiles = np.quantile(latency, [0.5, 0.99]) if len(latency) else (0.0, 0.0)
    columns = reference["columns"]
    scores = good["score"]
    return {
        "n": len(good),
        "answered": len(answered),
        "errors": int(failed["count"].sum() or 0),
        "slow": slow,
        "latency": {"p50": float(quantiles[0]), "p99": float(quantiles[1])},
        "score": count(columns[SCORE], scores).tolist(),
        "columns": _columns(good, columns),
        "facts": {"finite": bool(scores.is_finite().all())},
    }


def _columns(rows: pl.DataFrame, columns: Mapping[str, Any]) -> dict[str, list[int]]:
    if not len(rows):
        return {}
    features = pl.DataFrame([_decode(text) for text in rows["features"].to_list()], infer_schema_length=None)
    made: dict[str, list[int]] = {}
    for name, column in columns.items():
        if name in features.columns:
            series = features[name]
            wanted = pl.String() if column["kind"] == "text" else pl.Float64()
            made[name] = group_counts(column, series.cast(wanted, strict=False)).tolist()
    return made


def judge(rows: pl.DataFrame, names: list[str]) -> dict[str, float]:
    """Metrics on rows with ``score`` and ``truth``; NaN where a metric is not defined on them."""
    if not len(rows):
        return {}
    y, p = rows["truth"].to_numpy(), rows["score"].to_numpy()
    return {name: METRICS[name].score(y, p) for name in names if name in METRICS}


def judge_with_intervals(rows: pl.DataFrame, names: list[str]) -> dict[str, dict[str, float]]:
    """The same with intervals; columns ``score``, ``truth``, ``at``."""
    if not len(rows):
        return {}
    y, p = rows["truth"].to_numpy(), rows["score"].to_numpy()
    days = rows["at"].dt.epoch("d").to_numpy()
    return {n: dict(m.interval(METRICS[n], y, p, days).as_value()) for n in names if n in METRICS}


def losses(truth: Any, score: Any, task: str) -> Any:
    """The loss of each row that verdicts are made from: log loss for yes-or-no, squared error for numbers."""
    metric = METRICS["log_loss" if task == "binary" else "rmse"]
    assert metric.rows is not None
    return metric.rows(np.asarray(truth, np.float64), np.asarray(score, np.float64))
