"""Point-in-time look-ups against the plainest possible reference."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import noria as nr
from noria.features import api
from noria.features.errors import FeatureInvalid
from noria.features.tables_seen import WholeTable

TIMES = int(os.environ.get("NORIA_TEST_FUZZ", "1"))

T0 = datetime(2013, 1, 1, tzinfo=UTC)


def t(hours: float) -> datetime:
    return T0 + timedelta(hours=hours)


def seen(rows: list[dict[str, Any]]) -> WholeTable:
    schema = {
        "k": pl.String,
        "time": pl.Datetime("us", "UTC"),
        "known": pl.Datetime("us", "UTC"),
        "v": pl.Int64,
        "f": pl.Float64,
    }
    return WholeTable(name="weather", frame=pl.DataFrame(rows, schema=schema), time="time", known="known")


def spine(rows: list[tuple[str | None, datetime | None]]) -> pl.DataFrame:
    return pl.DataFrame(
        {"k": [k for k, _ in rows], "at": [a for _, a in rows]}, schema={"k": pl.String, "at": pl.Datetime("us", "UTC")}
    )


hours = st.integers(0, 12).map(float)
row = st.fixed_dictionaries(
    {
        "k": st.none() | st.sampled_from("ab"),
        "time": hours,
        "delay": st.sampled_from([0, 0, 0, 1, 2, 30]),
        "v": st.none() | st.integers(-5, 5),
        "f": st.none() | st.floats(-3, 3),
    }
)
tables = st.lists(row, max_size=25).map(
    lambda rows: [
        {"k": r["k"], "time": t(r["time"]), "known": t(r["time"] + r["delay"]), "v": r["v"], "f": r["f"]} for r in rows
    ]
)
spines = st.lists(
    st.tuples(st.none() | st.sampled_from("abc"), st.none() | st.integers(0, 40).map(lambda h: t(float(h)))),
    min_size=1,
    max_size=10,
)


def visible(rows: list[dict[str, Any]], k: str | None, at: datetime | None) -> list[dict[str, Any]]:
    if k is None or at is None:
        return []
    numbered = [dict(r, n=n) for n, r in enumerate(rows)]
    found = [r for r in numbered if r["k"] == k and r["time"] <= at and r["known"] <= at]
    return sorted(found, key=lambda r: (r["time"], r["known"], r["n"]))


@settings(max_examples=120 * TIMES)
@given(tables, spines, st.none() | st.integers(1, 6))
def test_asof_is_the_newest_row_that_was_known(rows, left, tolerance) -> None:
    found = api.asof(
        spine(left), seen(rows), on="k", at=pl.col("at"), tolerance=None if tolerance is None else f"{tolerance}h"
    ).collect()
    expected = []
    for k, at in left:
        best = visible(rows, k, at)[-1:]
        if best and tolerance is not None and at - best[0]["time"] > timedelta(hours=tolerance):
            best = []
        expected.append((best[0]["v"], best[0]["f"]) if best else (None, None))
    assert list(zip(found["v"], found["f"], strict=True)) == expected
    assert found["k"].to_list() == [k for k, _ in left]


@settings(max_examples=120 * TIMES)
@given(tables, spines, st.integers(1, 10))
def test_history_is_what_a_loop_over_the_rows_gives(rows, left, window) -> None:
    found = api.history(
        spine(left), seen(rows), on="k", at=pl.col("at"), window=f"{window}h",
        n="count", c=("count", "v"), s=("sum", "v"), m=("mean", "v"), lo=("min", "v"), hi=("max", "f"), z=("last", "f"),
        big=("sum", pl.col("v") > 0), fs=("sum", "f"), fm=("mean", "f"), first_time=("min", "time"),
    ).collect()  # fmt: skip
    for number, (k, at) in enumerate(left):
        part = [r for r in visible(rows, k, at) if r["time"] > at - timedelta(hours=window)] if at else []
        v, f = [r["v"] for r in part if r["v"] is not None], [r["f"] for r in part if r["f"] is not None]
        got = found.row(number, named=True)
        assert got["n"] == len(part)
        assert got["c"] == len(v)
        assert got["s"] == sum(v)
        assert got["m"] == (sum(v) / len(v) if v else None)
        assert got["lo"] == (min(v) if v else None)
        assert got["hi"] == (max(f) if f else None)
        assert got["z"] == (part[-1]["f"] if part else None)
        assert got["big"] == sum(x > 0 for x in v)
        assert got["fs"] == pytest.approx(sum(f))
        assert got["fm"] == (pytest.approx(sum(f) / len(f)) if f else None)
        assert got["first_time"] == (min(r["time"] for r in part) if part else None)


@settings(max_examples=40 * TIMES)
@given(tables, spines)
def test_one_row_at_a_time_is_the_same_to_the_last_bit(rows, left) -> None:
    def run(part):
        made = api.asof(spine(part), seen(rows), on="k", at=pl.col("at"), prefix="w_")
        return api.history(
            made, seen(rows), on="k", at=pl.col("at"), window="5h", fs=("sum", "f"), fm=("mean", "f")
        ).collect()

    assert run(left).equals(pl.concat([run([one]) for one in left]))


def test_known_since_counts_and_not_only_event_time() -> None:
    rows = [
        {"k": "a", "time": t(1), "known": t(1), "v": 1, "f": None},
        {"k": "a", "time": t(2), "known": t(5), "v": 2, "f": None},
        {"k": "a", "time": t(1), "known": t(4), "v": 10, "f": None},
    ]
    found = api.asof(spine([("a", t(3)), ("a", t(4)), ("a", t(5))]), seen(rows), on="k", at=pl.col("at")).collect()
    assert found["v"].to_list() == [1, 10, 2]


def test_keys_of_several_columns_and_other_names() -> None:
    table = WholeTable(
        name="x",
        frame=pl.DataFrame({"from": ["a", "a"], "to": ["b", "c"], "time": [T0, T0], "v": [1, 2]}),
        time="time",
        known=None,
    )
    left = pl.DataFrame({"origin": ["a"], "to": ["c"], "at": [t(1)]})
    found = api.asof(left, table, on={"origin": "from", "to": "to"}, at=pl.col("at")).collect()
    assert found["v"].to_list() == [2]
    found = api.asof(
        left.rename({"origin": "from"}), table, on=["from", "to"], at=pl.col("at"), columns=["v"], prefix="x_"
    ).collect()
    assert found["x_v"].to_list() == [2]


weather = nr.source("weather", key="k", time="time", known="known")


def trip(df, weather):
    return nr.asof(df, weather, on="k", at=pl.col("at"))


def test_a_features_function_runs_on_plain_frames_in_a_unit_test() -> None:
    rows = seen([{"k": "a", "time": t(1), "known": t(9), "v": 1, "f": None}]).frame
    assert trip(spine([("a", t(3))]).lazy(), rows).collect()["v"].to_list() == [None]
    assert trip(spine([("a", t(9))]), rows.lazy()).collect()["v"].to_list() == [1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s, w: nr.asof(s, w, on="kk", at=pl.col("at")), "no column 'kk'"),
        (lambda s, w: nr.asof(s, w, on="k", at="at"), "not an expression"),
        (lambda s, w: nr.asof(s, w, on="k", at=pl.col("k")), "not a time"),
        (lambda s, w: nr.asof(s, w, on="k", at=pl.col("nope")), "does not fit"),
        (lambda s, w: nr.asof(s, w, on="k", at=pl.col("at"), columns=["x"]), "no column 'x'"),
        (lambda s, w: nr.asof(s.with_columns(v=1), w, on="k", at=pl.col("at")), "is there already"),
        (lambda s, w: nr.history(s, w, on="k", at=pl.col("at"), window="1h"), "adds nothing"),
        (lambda s, w: nr.history(s, w, on="k", at=pl.col("at"), window="1h", x=("median", "v")), "not an aggregate"),
        (lambda s, w: nr.history(s, w, on="k", at=pl.col("at"), window="1h", x=("sum", "w")), "no column 'w'"),
        (lambda s, w: nr.history(s, w, on="k", at=pl.col("at"), window="1h", x=("sum", "k")), "needs numbers"),
        (lambda s, w: nr.asof(s, 3, on="k", at=pl.col("at")), "is a int"),
    ],
)
def test_wrong_uses_are_explained(call, message: str) -> None:
    with pytest.raises(nr.NoriaError, match=message):
        call(spine([("a", t(3))]), seen([{"k": "a", "time": t(1), "known": t(1), "v": 1, "f": 1.0}]))


def test_a_plain_frame_whose_time_is_not_known_is_refused() -> None:
    frame = pl.DataFrame({"k": ["a"], "x": [T0], "y": [T0]})
    with pytest.raises(FeatureInvalid, match="time of this table is not known"):
        nr.asof(spine([("a", t(3))]), frame, on="k", at=pl.col("at"))
