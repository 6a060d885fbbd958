"""CSV to rows: the types that Polars finds when it looks at every line, without asking each text whether it is a time.

That question costs many times the rest. So columns are typed by all lines without it, and those that look like times in
the first lines are read as such; where a later line disagrees, the long way is taken.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Final

import polars as pl

SMALL: Final = 1 << 20
"""Bytes up to which the long way is short enough."""
_DATE: Final = len("2024-01-01")
SAMPLE: Final = 10_000
"""Lines that are looked at for times."""


def read_csv(data: bytes, *, separator: str = ",", types: Mapping[str, pl.DataType] | None = None) -> pl.DataFrame:
    """The rows of a CSV; ``types`` are those of columns that are known already. Raises Polars' errors."""
    if len(data) > SMALL:
        found = _quick(data, separator, dict(types or {}))
        if found is not None:
            return found
    return pl.read_csv(
        io.BytesIO(data), separator=separator, try_parse_dates=True, infer_schema_length=None, schema_overrides=types
    )


def _quick(data: bytes, separator: str, types: dict[str, pl.DataType]) -> pl.DataFrame | None:
    """None where the first lines do not tell which columns are times."""
    plain = pl.read_csv(io.BytesIO(data), separator=separator, infer_schema_length=None, schema_overrides=types)
    texts = [name for name, dtype in plain.schema.items() if dtype == pl.String and name not in types]
    if not texts:
        return plain
    first = plain.select(texts).head(SAMPLE)
    if any(first[name].null_count() == len(first) and plain[name].null_count() < len(plain) for name in texts):
        return None
    lines = io.BytesIO()
    first.write_csv(lines)
    try:
        seen = pl.read_csv(lines.getvalue(), try_parse_dates=True, infer_schema_length=None).schema
    except pl.exceptions.PolarsError:
        return None  # times of two forms
    times = {name: dtype for name, dtype in seen.items() if dtype.is_temporal()}
    if not times:
        return plain
    if any(isinstance(dtype, pl.Time) for dtype in times.values()):
        return None
    moments = [name for name, dtype in times.items() if isinstance(dtype, pl.Datetime)]
    if any(plain[name].str.len_bytes().min() in range(_DATE + 1) for name in moments):
        return None  # dates among the moments: the long way takes such a column for text
    known = {**plain.schema, **times}
    try:
        return pl.read_csv(io.BytesIO(data), separator=separator, schema_overrides=known)
    except pl.exceptions.PolarsError:
        return None  # a later line is no time, or one of another form
