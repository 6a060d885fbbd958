"""Rows by the plain values of their key, as captured predictions and requests name them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl


def with_keys(frame: pl.DataFrame, key: Sequence[str], values: Sequence[Sequence[Any]]) -> pl.DataFrame:
    """The rows of a frame whose key is one of ``values`` (plain JSON values, times as text)."""
    types = {name: frame.schema[name] if frame.schema[name] == pl.String else None for name in key}
    wanted = pl.DataFrame([list(row) for row in values], schema=types, orient="row", strict=False)
    casts: list[pl.Expr] = []
    for name in key:
        kind = frame.schema[name]
        column = pl.col(name)
        if wanted.schema[name] == pl.String and isinstance(kind, pl.Datetime):
            casts.append(column.str.to_datetime(time_unit=kind.time_unit, time_zone=kind.time_zone, strict=False))
        else:
            casts.append(column.cast(kind))
    return frame.join(wanted.with_columns(casts), on=list(key), how="semi", maintain_order="left")
