"""Distances between counts. Everything is computed on counts that merge by addition (reference monitoring.md, 4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from noria.monitoring.records import Drift
from noria.training.reference import count

if TYPE_CHECKING:
    import polars as pl

TENTHS: Final = 10
_LEAST: Final = 1e-4
_RARE: Final = 0.01

Ints = np.ndarray[Any, np.dtype[np.int64]]


def groups_of(column: Mapping[str, Any]) -> Ints:
    """The group of each bin of a reference column.

    Of a number: ten groups of about equal mass, then missing, then infinite. Of a text: each level with at least 1 %
    of the rows, then the rest, then levels that the reference does not know, then missing.
    """
    counts = np.asarray(column["counts"], np.int64)
    if column["kind"] == "text":
        known, total = counts[:-2], max(1, int(counts.sum()))
        often = known >= _RARE * total
        number = int(often.sum())
        made = np.where(often, np.cumsum(often) - 1, number)
        return np.concatenate([made, [number + 1, number + 2]]).astype(np.int64)
    body = counts[:-2]
    total = max(1, int(body.sum()))
    middle = np.cumsum(body) - body / 2
    made = np.minimum((middle * TENTHS / total).astype(np.int64), TENTHS - 1)
    return np.concatenate([made, [TENTHS, TENTHS + 1]]).astype(np.int64)


def grouped(counts: Any, groups: Ints) -> Ints:
    """Counts of bins to counts of groups."""
    return np.bincount(groups, np.asarray(counts, np.float64), int(groups.max()) + 1).astype(np.int64)


def psi(reference: Any, current: Any) -> float:
    """The population stability index of two vectors of counts; shares are clipped at 1e-4.

    0 where either has no rows: nothing can be said of them.
    """
    if not np.any(reference) or not np.any(current):
        return 0.0
    p, q = _shares(reference), _shares(current)
    return float(((q - p) * np.log(q / p)).sum())


def _shares(counts: Any) -> Any:
    counts = np.asarray(counts, np.float64)
    total = counts.sum()
    return np.maximum(counts / total if total else counts, _LEAST)


def ks(reference: Any, current: Any) -> float:
    """The largest distance of two cumulative distributions, from counts in the same ordered bins."""
    p, q = np.asarray(reference, np.float64), np.asarray(current, np.float64)
    if not p.sum() or not q.sum():
        return 0.0
    return float(np.abs(np.cumsum(p) / p.sum() - np.cumsum(q) / q.sum()).max())


def score_drift(reference: Mapping[str, Any], counts: Any) -> Drift:
    """Drift of a model's scores from its own reference."""
    groups = groups_of(reference)
    found = np.asarray(counts, np.int64)
    total = int(found.sum())
    return Drift(
        name="score",
        n=total,
        psi=psi(grouped(reference["counts"], groups), grouped(found, groups)),
        ks=ks(np.asarray(reference["counts"])[:-2], found[:-2]),
        missing=float(found[-2:].sum() / total) if total else 0.0,
    )


def column_drift(name: str, reference: Mapping[str, Any], groups: Any) -> Drift:
    """Drift of a feature, from counts of its groups."""
    mapping = groups_of(reference)
    found = np.asarray(groups, np.int64)
    total = max(1, int(found.sum()))
    text = reference["kind"] == "text"
    return Drift(
        name=name,
        n=int(found.sum()),
        psi=psi(grouped(reference["counts"], mapping), found),
        missing=float(found[-1 if text else -2] / total),
        outside=float(found[-2] / total) if text else 0.0,
    )


def missing_share(reference: Mapping[str, Any]) -> float:
    """Share of the reference's rows without a value."""
    counts = np.asarray(reference["counts"], np.int64)
    total = max(1, int(counts.sum()))
    return float(counts[-1 if reference["kind"] == "text" else -2] / total)


def group_counts(column: Mapping[str, Any], values: pl.Series) -> Ints:
    """Counts of new values in the groups of a reference column."""
    return grouped(count(column, values), groups_of(column))
