"""Rows of a model that takes them as they are sent: nothing is looked up and nothing computed."""

from __future__ import annotations

import polars as pl

from noria.features.function import AT, FeatureSpec


def as_they_are(rows: pl.DataFrame, spec: FeatureSpec) -> pl.DataFrame:
    """Key, features and the moment of each row, which one of its columns may hold."""
    time = spec.spine.time
    if time is None:
        at = pl.Series(AT, [None] * len(rows), pl.Datetime("us", "UTC"))
    else:
        at = moments(rows.get_column(time))
    return rows.select(list(dict.fromkeys([*spec.spine.key, *spec.columns]))).with_columns(at)


def moments(series: pl.Series) -> pl.Series:
    """Times of a table as moments; those without a zone are UTC."""
    zone = series.dtype.time_zone if isinstance(series.dtype, pl.Datetime) else None
    made = series.cast(pl.Datetime("us", zone))
    return (made.dt.convert_time_zone("UTC") if zone else made.dt.replace_time_zone("UTC")).alias(AT)
