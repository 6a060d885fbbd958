from __future__ import annotations

import datetime as dt
import json
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.data.rows.schema import polars_type
from noria.features.slices import TableMeta
from noria.serving.contract import MOST_ROWS, Contract
from noria.serving.errors import RequestInvalid

COLUMNS = {
    "id": "str",
    "at": "datetime[us, UTC]",
    "n": "int64",
    "size": "int8",
    "count": "uint64",
    "price": "float64",
    "weight": "float32",
    "paid": "bool",
    "day": "date",
    "nanos": "datetime[ns, UTC]",
}
ROW: dict[str, Any] = {
    "id": "o1",
    "at": "2013-01-01T02:00:00+02:00",
    "n": -(2**63),
    "size": 127,
    "count": 2**64 - 1,
    "price": 3,
    "weight": 0.5,
    "paid": True,
    "day": "2013-01-01",
    "nanos": None,
}


@pytest.fixture(scope="module")
def contract() -> Contract:
    source = TableMeta(name="orders", key=("id",), time="at", known=None, columns=COLUMNS)
    return Contract(source, {"big": "bool", "hour": "int8"})


def body(row: dict[str, Any] | None = None, **more: Any) -> bytes:
    return json.dumps({"row": ROW | (row or {}), **more}).encode()


def test_a_row_becomes_a_frame_of_the_source(contract: Contract) -> None:
    rows, ids, single = contract.decode(body())
    frame = contract.frame(rows)
    assert (ids, single) == (None, True)
    assert frame.columns == list(COLUMNS)
    assert [frame["n"][0], frame["count"][0], frame["price"][0]] == [-(2**63), 2**64 - 1, 3.0]
    assert frame["at"][0].isoformat() == "2013-01-01T00:00:00+00:00"
    assert frame.schema["nanos"] == pl.Datetime("ns", "UTC")
    assert contract.entity(rows[0]) == '["o1"]'


def test_several_rows_keep_their_order_and_ids(contract: Contract) -> None:
    asked = {"rows": [ROW | {"id": f"o{i}"} for i in range(3)], "ids": ["a", "b", "c"]}
    rows, ids, single = contract.decode(json.dumps(asked).encode())
    assert (ids, single) == (["a", "b", "c"], False)
    assert contract.frame(rows)["id"].to_list() == ["o0", "o1", "o2"]


_UTC_TIMES = st.datetimes(dt.datetime(2, 1, 1), dt.datetime(9998, 1, 1), timezones=st.timezones())
_OF_KIND: dict[str, st.SearchStrategy[Any]] = {
    "str": st.text(max_size=5),
    "bool": st.booleans(),
    "int8": st.integers(-(2**7), 2**7 - 1),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "uint64": st.integers(0, 2**64),
    "float32": st.floats(allow_nan=False, allow_infinity=False, width=32) | st.floats(-1, 1),
    "float64": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53),
    "date": st.dates(),
    "time": st.times(),
    **{f"datetime[{unit}]": st.datetimes(dt.datetime(2, 1, 1), dt.datetime(9998, 1, 1)) for unit in ("ms", "us")},
    **{f"datetime[{unit}, UTC]": _UTC_TIMES for unit in ("ms", "us")},
    "datetime[us, America/New_York]": _UTC_TIMES,
    "datetime[ns]": st.datetimes(dt.datetime(1690, 1, 1), dt.datetime(2261, 1, 1)),
}
_KINDS = {f"c{number}": kind for number, kind in enumerate(_OF_KIND)}
_WIDE = Contract(TableMeta(name="wide", key=(), time=None, known=None, columns=_KINDS), {})


@given(st.lists(st.fixed_dictionaries({n: st.none() | _OF_KIND[kind] for n, kind in _KINDS.items()}), min_size=1))
def test_a_frame_holds_what_polars_makes_of_each_column_alone(rows: list[dict[str, Any]]) -> None:
    made = _WIDE.decode(msgspec.json.encode({"rows": rows}))[0]
    try:
        wanted = [
            pl.Series(name, [getattr(row, name) for row in made], dtype=dtype, strict=dtype.is_integer())
            for name, dtype in ((name, polars_type(kind)) for name, kind in _KINDS.items())
        ]
    except (ValueError, OverflowError, TypeError, pl.exceptions.PolarsError):
        with pytest.raises(RequestInvalid, match="lies beyond"):
            _WIDE.frame(made)
    else:
        assert _WIDE.frame(made).equals(pl.DataFrame(wanted))
        assert _WIDE.frame(made).schema == pl.DataFrame(wanted).schema


def without(name: str) -> bytes:
    return json.dumps({"row": {k: v for k, v in ROW.items() if k != name}}).encode()


@pytest.mark.parametrize(
    ("sent", "says", "hints"),
    [
        (body({"colour": "red"}), "colour", "Columns: id, at"),
        (body({"prise": 1.0}), "prise", "price"),
        (body({"big": True}), "big", "big is a feature"),
        (without("n"), "n", "Columns: id, at"),
        (without("id"), "id", "Columns"),
        (body({"id": None}), "id", "Columns"),
        (body({"n": "7"}), "$.row.n", "Columns"),
        (body({"n": 7.5}), "$.row.n", "Columns"),
        (body({"n": True}), "$.row.n", "Columns"),
        (body({"paid": 1}), "$.row.paid", "Columns"),
        (body({"size": 128}), "127", "Columns"),
        (body({"n": 2**63}), str(2**63 - 1), "Columns"),
        (body({"n": -(2**63) - 1}), str(-(2**63)), "Columns"),
        (body({"n": 10**400}), "$.row.n", "Columns"),
        (body({"count": 2**64}), "count", "uint64"),
        (body({"count": -1}), "$.row.count", "Columns"),
        (body({"price": 10**400}), "$.row.price", "Columns"),
        (body({"weight": 1e300}), "$.row.weight", "Columns"),
        (body({"at": "2013-01-01T00:00:00"}), "timezone", "Columns"),
        (body({"at": "0001-01-01T00:00:00+14:00"}), "at", "datetime[us, UTC]"),
        (body({"at": "9999-12-31T23:59:59-14:00"}), "at", "datetime[us, UTC]"),
        (body({"nanos": "1500-01-01T00:00:00Z"}), "nanos", "datetime[ns, UTC]"),
        (body({"at": "tomorrow"}), "$.row.at", "Columns"),
        (body({"id": "x" * 10_001}), "$.row.id", "Columns"),
        (body(rows=[ROW]), "either row or rows", '"rows"'),
        (b"{}", "either row or rows", '"rows"'),
        (b'{"rows": []}', "1 to", '"rows"'),
        (json.dumps({"rows": [ROW] * (MOST_ROWS + 1)}).encode(), str(MOST_ROWS + 1), "several requests"),
        (body(id=""), "1 to 200", "none"),
        (body(id="x" * 201), "1 to 200", "none"),
        (body(id=7), "$.id", "Columns"),
        (body(id="a", ids=["b"]), "either id or ids", "rows"),
        (body(ids=["a", "b"]), "2 ids for 1 rows", "one id a row"),
        (json.dumps({"rows": [ROW] * 2, "ids": ["a", "a"]}).encode(), "different", "none"),
        (json.dumps({"rows": [ROW] * 2, "id": "a"}).encode(), "1 ids for 2 rows", "one id a row"),
        (body(more=1), "more", "Columns"),
        (b"", "JSON", '"row"'),
        (b"\xff\xfe", "JSON", '"row"'),
        (b'{"row": ', "JSON", '"row"'),
        (body() + b"x", "JSON", '"row"'),
        (b'{"row": {"id": "\\ud800"}}', "JSON", '"row"'),
        (b'{"row": {"id": "a\xff"}}', "JSON", '"row"'),
        (b'{"row": NaN}', "JSON", '"row"'),
        (b"null", "object", "Columns"),
        (b"[1]", "object", "Columns"),
        (b'{"row":' * 100_000, "row", ""),
    ],
)
def test_what_does_not_keep_the_contract_is_refused_and_explained(
    contract: Contract, sent: bytes, says: str, hints: str
) -> None:
    with pytest.raises(RequestInvalid) as caught:
        contract.frame(contract.decode(sent)[0])
    assert says in caught.value.message
    assert hints in caught.value.hint
    assert caught.value.hint
    assert len(caught.value.message) < 500


def test_a_column_that_json_cannot_carry_is_refused_when_the_contract_is_made() -> None:
    source = TableMeta(name="orders", key=("id",), time=None, known=None, columns={"id": "str", "blob": "bytes"})
    with pytest.raises(RequestInvalid, match="bytes"):
        Contract(source, {})


_VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
_JSON = st.recursive(_VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner))


@given(
    st.dictionaries(st.sampled_from([*COLUMNS, "big"]), _JSON, max_size=3), st.dictionaries(st.text(max_size=4), _JSON)
)
def test_any_json_is_taken_or_refused_in_the_one_way(
    contract: Contract, changed: dict[str, Any], more: dict[str, Any]
) -> None:
    try:
        made = contract.frame(contract.decode(msgspec.json.encode({"row": ROW | changed, **more}))[0])
    except RequestInvalid as error:
        hint = error.hint
    else:
        hint = f"{len(made)} row"
    assert hint


@given(st.binary(max_size=60))
def test_any_bytes_are_refused_in_the_one_way(contract: Contract, sent: bytes) -> None:
    with pytest.raises(RequestInvalid):
        contract.decode(sent)


def test_columns_may_have_any_name() -> None:
    columns = {"flight id": "str", "class": "str", "Größe": "float64"}
    source = TableMeta(name="flights", key=("flight id",), time=None, known=None, columns=columns)
    contract = Contract(source, {})
    row = {"flight id": "x", "class": "Y", "Größe": 1.5}
    rows, _, _ = contract.decode(msgspec.json.encode({"row": row}))
    assert contract.frame(rows).to_dicts() == [row]
    assert contract.entity(rows[0]) == '["x"]'
    assert msgspec.json.decode(msgspec.json.encode(rows[0])) == row
