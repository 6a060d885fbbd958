"""Types of rows that come: cast where nothing is lost, before the contract looks at them, and else refused."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given, reject
from hypothesis import strategies as st

from noria.base.actor import Actor
from noria.data.errors import ContractBroken
from noria.data.records import Repository, RepositoryKind
from noria.data.rows.schema import fit
from noria.data.service.collecting.collector import SourceSpec
from noria.workspace import Workspace

DAY = datetime(2024, 1, 1)
TYPES = {"id": "int64", "x": "float64", "at": "datetime[us]", "note": "str", "ok": "bool"}


def table(ws: Workspace, actor: Actor) -> Repository:
    made = ws.data.create(ws.project.id, "t", RepositoryKind.TABLE, actor=actor, key=("id",))
    ws.data.set_contract(made, {"columns": {n: {"type": k} for n, k in TYPES.items()}}, actor=actor)
    return ws.data.get(ws.project.id, "t")


def frame(ids: Any, **columns: Any) -> pl.DataFrame:
    given = {"x": [1.5], "at": [DAY], "note": ["a"], "ok": [True], **columns}
    return pl.DataFrame({"id": ids, **given})


def test_a_contract_looks_at_rows_after_they_have_its_types(workspace: Workspace, actor: Actor) -> None:
    data, t = workspace.data, table(workspace, actor)
    narrow = pl.Series([1], dtype=pl.Int32)
    data.append(t, frame(narrow, x=[7], at=[date(2024, 1, 1)], note=[None], ok=[None]), actor=actor)
    nothing = pl.Series([None], dtype=pl.String)  # so a CSV gives a column without any value
    data.append(t, frame([2], x=nothing, at=nothing, ok=nothing), actor=actor)
    data.append(t, frame([3.0], x=pl.Series([0.5], dtype=pl.Float32), at=["2024-01-02 03:00:00"]), actor=actor)
    assert data.read(t).sort("id").rows() == [
        (1, 7.0, DAY, None, None),
        (2, None, None, "a", None),
        (3, 0.5, datetime(2024, 1, 2, 3), "a", True),
    ]
    assert data.check_contract(t, frame(narrow, x=[7])) == (1, [])


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("id", 1.5),
        ("id", "one"),
        ("x", 2**53 + 1),
        ("x", "n/a"),
        ("at", 1704067200),
        ("at", "soon"),
        ("ok", 2),
    ],
)
def test_what_a_cast_would_lose_is_refused_with_the_value(
    workspace: Workspace, actor: Actor, column: str, value: Any
) -> None:
    data, t = workspace.data, table(workspace, actor)
    bad = {"ids": [1], **({"ids": [value]} if column == "id" else {column: [value]})}
    with pytest.raises(ContractBroken) as broken:
        data.append(t, frame(bad.pop("ids"), **bad), actor=actor)
    (found,) = broken.value.details["findings"]
    assert (found["rule"], found["count"]) == (f"{column}.type", 1)
    assert f"would be lost or changed by a cast: {value!r}" in found["message"]
    assert found["rows"][0][column] == value
    assert data.quarantine(workspace.project.id)[0].rows == 1


def test_whole_numbers_in_a_csv_are_numbers_of_a_float_column(workspace: Workspace, actor: Actor) -> None:
    data, t = workspace.data, table(workspace, actor)
    root = workspace.home.parent
    (root / "a.csv").write_text("id,x,at,note,ok\n1,7,2024-01-01 00:00:00,a,true\n")
    (root / "b.csv").write_text("id,x,at,note,ok\n2,,2024-01-01,,\n")
    done = workspace.collector.collect(t, SourceSpec(files="*.csv"), actor=actor)
    assert (done.rows, done.refused) == (2, [])
    assert data.read(t).sort("id").rows() == [(1, 7.0, DAY, "a", True), (2, None, DAY, None, None)]


def test_without_a_contract_a_table_does_not_cut_numbers_either(workspace: Workspace, actor: Actor) -> None:
    made = workspace.data.create(workspace.project.id, "t", RepositoryKind.TABLE, actor=actor)
    workspace.data.append(made, pl.DataFrame({"n": [1]}), actor=actor)
    with pytest.raises(Exception, match=r"n of row 1 is 2\.5, and n holds int64"):
        workspace.data.append(made, pl.DataFrame({"n": [2.0, 2.5]}), actor=actor)
    workspace.data.append(made, pl.DataFrame({"n": [2.0]}), actor=actor)
    assert workspace.data.read(made)["n"].to_list() == [1, 2]


NUMBERS = [pl.Int8(), pl.Int32(), pl.Int64(), pl.UInt64(), pl.Float32(), pl.Float64(), pl.Decimal(20, 2), pl.Boolean()]
MOMENTS = [pl.Date(), pl.Datetime("ms"), pl.Datetime("us", "UTC"), pl.Datetime("ns")]


@given(
    values=st.lists(st.none() | st.integers(-(2**60), 2**60) | st.floats(width=64), max_size=8),
    found=st.sampled_from(NUMBERS),
    wanted=st.sampled_from([*NUMBERS, *MOMENTS, pl.String()]),
)
def test_what_is_cast_comes_back_as_it_was(values: list[Any], found: pl.DataType, wanted: pl.DataType) -> None:
    try:
        column = pl.Series("x", values, dtype=pl.Float64, strict=False).cast(found, strict=False)
    except pl.exceptions.PolarsError:
        reject()  # more digits than a decimal has
    made, misfits = fit(pl.DataFrame([column]), {"x": wanted})
    if misfits:
        assert made["x"].dtype == found
        assert misfits["x"].any()
        assert not (misfits["x"] & column.is_null()).any()
    else:
        assert made["x"].dtype == wanted
        if wanted != pl.String():
            assert made["x"].cast(found).eq_missing(column).all()


@given(
    value=st.integers(-(2**70), 2**70) | st.floats(width=64) | st.decimals(-(10**20), 10**20, places=12),
    wanted=st.sampled_from([n for n in NUMBERS if n != pl.Boolean()]),
)
@example(value=2**53 + 1, wanted=pl.Float64())
@example(value=2**24 + 1, wanted=pl.Float32())
@example(value=1e300, wanted=pl.Float32())
@example(value=0.1, wanted=pl.Float32())
@example(value=Decimal("1.00000000000001"), wanted=pl.Decimal(20, 2))
@example(value=Decimal("0.99999999999999999999"), wanted=pl.Int64())
def test_what_text_says_is_the_value_or_the_nearest_float(value: Any, wanted: pl.DataType) -> None:
    text = str(value)
    made, misfits = fit(pl.DataFrame({"x": [text]}), {"x": wanted})
    exact = None if text in ("inf", "-inf", "nan") else Decimal(text)
    if misfits:
        if exact is not None and wanted.is_integer():
            assert (
                exact != int(exact)
                or abs(exact) >= 2**53
                or pl.Series([int(exact)]).cast(wanted, strict=False)[0] is None
            )
        return
    found = made["x"][0]
    assert made["x"].dtype == wanted
    if exact is None:
        assert str(found) == text
    elif not wanted.is_float():
        assert found == exact
    else:
        assert found == pl.Series([float(exact)], dtype=pl.Float64).cast(wanted)[0]
        assert math.isfinite(found)
        assert isinstance(value, int) <= (Decimal(found) == exact)


@pytest.mark.parametrize(
    ("text", "wanted", "fits"),
    [
        ("2024-01-02 10:00:00.123456", pl.Datetime("ms"), False),
        ("2024-01-02 10:00:00.123000", pl.Datetime("ms"), True),
        ("2024-01-02T10:00:00.1234567Z", pl.Datetime("us", "UTC"), False),
        ("2024-01-02 10:00:00.123456789", pl.Datetime("ns"), True),
        ("1500-01-02 10:00:00", pl.Datetime("us"), True),
        ("1500-01-02 10:00:00", pl.Datetime("ns"), False),
        ("2024-01-02", pl.Datetime("ms", "UTC"), True),
        ("2024-01-02 00:00:00", pl.Date(), True),
        ("2024-01-02 00:00:01", pl.Date(), False),
        ("10:00:00.5", pl.Time(), True),
    ],
)
def test_times_of_text_keep_their_digits(text: str, wanted: pl.DataType, fits: bool) -> None:
    for others in ([], ["soon"], ["01/02/2024 10:00:00"]):
        made, misfits = fit(pl.DataFrame({"x": [*others, text]}), {"x": wanted})
        assert fits != bool(misfits and misfits["x"][-1])
        if wanted == pl.Datetime("ns") and fits and not misfits:
            assert made["x"].to_physical()[-1] % 10**9 == 123456789


@given(st.lists(st.none() | st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)), max_size=5), st.data())
def test_moments_keep_their_instant(values: list[Any], data: st.DataObject) -> None:
    wanted = data.draw(st.sampled_from(MOMENTS))
    column = pl.Series("x", values, dtype=pl.Datetime("us"))
    made, misfits = fit(pl.DataFrame([column]), {"x": wanted})
    for number, value in enumerate(values):
        exact = value is None or (
            value.time() == DAY.time() if wanted == pl.Date() else wanted != MOMENTS[1] or not value.microsecond % 1000
        )
        assert exact != bool(misfits and misfits["x"][number])
    if not misfits and isinstance(wanted, pl.Datetime) and wanted.time_zone:
        assert made["x"].to_list() == [v and v.replace(tzinfo=UTC) for v in values]
