"""The reference that drift is measured against: counts on edges that are frozen from the whole reference.

1,024 quantile edges for each number, exact counts for texts; counts merge by addition (reference monitoring.md,
section 4). Drift is computed in the monitoring room; here is what both sides share.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import polars as pl

EDGES: Final = 1024
LEVELS: Final = 1000
SCORE: Final = "__score"

Counts = np.ndarray[Any, np.dtype[np.int64]]


def freeze(scores: Any, features: pl.DataFrame) -> dict[str, Any]:
    """The reference of a model: scores and features of held-out rows."""
    made = {SCORE: _number(np.asarray(scores, np.float64))}
    for name, dtype in features.schema.items():
        if dtype == pl.String:
            made[name] = _text(features[name])
        else:
            made[name] = _number(features[name].cast(pl.Float64).to_numpy())
    return {"format": 1, "rows": len(features), "columns": made}


def _number(values: Any) -> dict[str, Any]:
    finite = values[np.isfinite(values)]
    edges = (
        np.unique(np.quantile(finite, np.linspace(0, 1, EDGES + 1)[1:-1], method="lower"))
        if len(finite)
        else np.zeros(0)
    )
    found = {"kind": "number", "edges": edges.tolist()}
    return {**found, "counts": count_numbers(values, edges).tolist()}


def _text(series: pl.Series) -> dict[str, Any]:
    levels = sorted(series.drop_nulls().unique().to_list())[:LEVELS]
    return {"kind": "text", "levels": levels, "counts": count_texts(series, levels).tolist()}


def count_numbers(values: Any, edges: Any) -> Counts:
    """Counts in the bins (-inf, e0], (e0, e1], ..., (ek, inf), then missing, then infinite: len(edges) + 3 of them."""
    values = np.asarray(values, np.float64)
    finite = np.isfinite(values)
    bins = np.searchsorted(np.asarray(edges, np.float64), values[finite], side="left")
    counts = np.bincount(bins, minlength=len(edges) + 1)
    return np.concatenate([counts, [np.isnan(values).sum(), np.isinf(values).sum()]]).astype(np.int64)


def count_texts(series: pl.Series, levels: list[str]) -> Counts:
    """Counts of the levels, then of other texts, then of missing ones: len(levels) + 2 of them."""
    missing = series.null_count()
    found = dict(series.drop_nulls().value_counts().iter_rows())
    known = [int(found.pop(level, 0)) for level in levels]
    return np.array([*known, sum(found.values()), missing], np.int64)


def count(column: Mapping[str, Any], values: pl.Series) -> Counts:
    """Counts of new values on the edges or levels of a reference column."""
    if column["kind"] == "text":
        return count_texts(values, column["levels"])
    return count_numbers(values.cast(pl.Float64).to_numpy(), column["edges"])
