"""The quick way to the types of a CSV gives what the long way gives, on every file."""

from __future__ import annotations

import io
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from noria.data.collectors import csv

VALUES = [
    "1", "007", "-3", "1.5", "99999999999999999999", "true", "x", "", "2024-01-01", "2024-01-02 10:00:00",
    "2024-01-02T10:00:00Z", "2024-01-02T10:00:00+02:00", "2024-01-02T10:00:00.123", "01/02/2024", "13/02/2024",
    "10:00:00", '"a,b"', '"2024-01-01"', "nan", "1e3",
]  # fmt: skip


def long_way(data: bytes) -> Any:
    try:
        return pl.read_csv(io.BytesIO(data), try_parse_dates=True, infer_schema_length=None)
    except pl.exceptions.PolarsError as error:
        return type(error)


@settings(max_examples=300, deadline=None)
@given(
    columns=st.lists(st.lists(st.sampled_from(VALUES), min_size=1, max_size=3), min_size=1, max_size=3),
    picks=st.lists(st.integers(0, 2), min_size=1, max_size=12),
    sample=st.integers(1, 4),
)
@example(columns=[["2024-01-02 10:00:00", "2024-01-01"]], picks=[0, 1], sample=1)
@example(columns=[["2024-01-01", "1", "01/02/2024"]], picks=[0, 0, 0, 2, 1], sample=4)
def test_both_ways_give_the_same(columns: list[list[str]], picks: list[int], sample: int) -> None:
    lines = [",".join(values[pick % len(values)] for values in columns) for pick in picks]
    data = "\n".join([",".join(f"c{n}" for n in range(len(columns))), *lines, ""]).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv, "SMALL", 0)
        patch.setattr(csv, "SAMPLE", sample)
        try:
            found: Any = csv.read_csv(data)
        except pl.exceptions.PolarsError as error:
            found = type(error)
    expected = long_way(data)
    if isinstance(expected, pl.DataFrame):
        assert isinstance(found, pl.DataFrame)
        assert found.schema == expected.schema
        assert found.equals(expected)
    else:
        assert not isinstance(found, pl.DataFrame)


def test_the_quick_way_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = "".join(f"{n},2024-01-{n % 28 + 1:02} 10:00:00,{n}.5,text {n}\n" for n in range(60_000))
    data = f"id,at,x,note\n{rows}".encode()
    plain = pl.read_csv
    asked: list[Any] = []

    def watched(*args: Any, **how: Any) -> pl.DataFrame:
        asked.append(
            (how.get("try_parse_dates"), len(args[0].getvalue() if isinstance(args[0], io.BytesIO) else args[0]))
        )
        return plain(*args, **how)

    monkeypatch.setattr(pl, "read_csv", watched)
    found = csv.read_csv(data)
    assert found.schema == {"id": pl.Int64(), "at": pl.Datetime("us"), "x": pl.Float64(), "note": pl.String()}
    assert len(found) == 60_000
    assert all(not dates or size < len(data) // 2 for dates, size in asked)
