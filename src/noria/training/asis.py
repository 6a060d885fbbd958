"""Rows of a model that takes them as they are sent: nothing is looked up and nothing computed."""

from __future__ import annotations

import polars as pl

from noria.features.function import AT, FeatureSpec, as_moments


def as_they_are(rows: pl.DataFrame, spec: FeatureSpec) -> pl.DataFrame:
    """Key, features and the moment of each row, which one of its columns may hold."""
    time = spec.spine.time
    if time is None:
        at = pl.Series(AT, [None] * len(rows), pl.Datetime("us", "UTC"))
    else:
        at = as_moments(rows.get_column(time)).alias(AT)
    return rows.select(list(dict.fromkeys([*spec.spine.key, *spec.columns]))).with_columns(at)
