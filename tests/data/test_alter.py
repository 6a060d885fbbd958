"""Columns of a table change; its files do not."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tablebench import BAG, Bench, rows_of  # pyright: ignore[reportMissingImports]

from noria.base.errors import Invalid
from noria.data.rows import Layout, diff_layouts, load_layout
from noria.data.rows.alter import CannotAlter, NewColumn, parse_column
from noria.data.rows.encoding import hash_rows
from noria.data.rows.layout import encode_layout
from noria.data.rows.merge_columns import SchemasContradict
from noria.data.rows.schema import infer
from noria.data.rows.write import KeyMissing, KeyRepeated
from noria.store import Kind


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def fresh_digest(bench: Bench, layout: Layout) -> Any:
    """The digest of the same rows, written anew with the same schema."""
    return bench.fresh(bench.reader.read(layout), layout.schema).digest


ROWS = pl.DataFrame(
    {
        "k": pl.Series([1, 2, 3], dtype=pl.Int32),
        "n": pl.Series([1, None, -3], dtype=pl.Int8),
        "f": pl.Series([0.5, None, float("nan")], dtype=pl.Float32),
        "d": [date(2013, 4, 1), None, date(1969, 1, 1)],
        "s": ["a", None, "c"],
    }
)


@pytest.mark.parametrize(
    ("changes", "column", "found"),
    [
        ({"add": (NewColumn(name="x", type="int16"),)}, "x", [None, None, None]),
        ({"add": (NewColumn(name="x", type="str", default="new"),)}, "x", ["new"] * 3),
        ({"add": (NewColumn(name="x", type="bool", default="true"),)}, "x", [True] * 3),
        (
            {"add": (NewColumn(name="x", type="datetime[us, UTC]", default="2013-04-01T05:15:00Z"),)},
            "x",
            [datetime(2013, 4, 1, 5, 15, tzinfo=UTC)] * 3,
        ),
        ({"drop": ("s",)}, "n", [1, None, -3]),
        ({"rename": {"s": "text"}}, "text", ["a", None, "c"]),
        ({"rename": {"k": "key"}}, "key", [1, 2, 3]),
        ({"rename": {"s": "n", "n": "s"}}, "n", ["a", None, "c"]),
        ({"widen": {"n": "int64"}}, "n", [1, None, -3]),
        ({"widen": {"n": "float64"}}, "n", [1.0, None, -3.0]),
        ({"widen": {"k": "int64"}, "rename": {"k": "id"}}, "id", [1, 2, 3]),
        ({"widen": {"d": "datetime[us, UTC]"}}, "d", [datetime(2013, 4, 1, tzinfo=UTC), None, datetime(1969, 1, 1, tzinfo=UTC)]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("keyed", [True, False])
def test_files_stay_and_the_digest_is_that_of_a_fresh_table(
    bench: Bench, changes: dict[str, Any], column: str, found: list[Any], keyed: bool
) -> None:
    before = bench.fresh(ROWS, infer(ROWS, key=["k"] if keyed else []))
    with bench.store.writer() as w:
        more = bench.writer.append(w, before, ROWS[:1].with_columns(k=pl.lit(9, pl.Int32)), seq=5, known_us=0).layout
        w.flush()
    after = bench.alter(more, **changes)
    assert [f.id for f in after.fragments] == [f.id for f in more.fragments]
    read = bench.reader.read(after)
    wanted = [*found, 9 if column in ("key", "id") else found[0]]
    assert read[column].to_list() == wanted
    assert bench.reader.read(after, columns=[column])[column].to_list() == wanted
    assert read.schema == after.schema.polars()
    assert after.digest == fresh_digest(bench, after)
    assert after.digest != more.digest
    assert bench.reader.read(more).columns == ROWS.columns, "the version before shows what it was"


def test_a_widened_float_keeps_its_hash() -> None:
    narrow = ROWS.select("f")
    assert (hash_rows(narrow) == hash_rows(narrow.cast(pl.Float64))).all()


def test_rows_go_on_landing_after_a_change(bench: Bench) -> None:
    """Appends find old keys in files of another shape; folds write files of the new one."""
    layout = bench.fresh(rows_of({1: "a", 2: "b", 3: "c"}))
    layout = bench.alter(layout, rename={"k": "id"}, add=(NewColumn(name="n", type="int64", default="7"),))

    def row(number: int, text: str, n: int | None) -> pl.DataFrame:
        return pl.DataFrame({"id": [number], "v": [text], "n": pl.Series([n], dtype=pl.Int64)})

    layout = bench.append(layout, row(2, "B", None))
    assert sorted(bench.reader.read(layout).rows()) == [(1, "a", 7), (2, "B", None), (3, "c", 7)]
    layout = bench.alter(layout, rename={"v": "text"})
    assert len(layout.shapes) == 2
    for number in range(20):
        layout = bench.append(layout, row(10 + number, "x", number).rename({"v": "text"}))
    assert layout.digest == fresh_digest(bench, layout)
    assert {f.shape for f in layout.fragments} >= {0}
    assert len(bench.reader.read(layout)) == 23
    with bench.store.writer() as w:
        left = bench.writer.delete(w, layout, pl.DataFrame({"id": [1, 15]})).layout
        w.flush()
    assert left.digest == fresh_digest(bench, left)


def test_a_column_that_was_dropped_does_not_come_back(bench: Bench) -> None:
    layout = bench.fresh(rows_of({1: "secret"}))
    layout = bench.alter(bench.alter(layout, drop=("v",)), add=(NewColumn(name="v", type="str"),))
    assert bench.reader.read(layout)["v"].to_list() == [None]
    assert diff_layouts(bench.reader, bench.alter(layout, drop=("v",)), layout).schema.added[0].name == "v"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"drop": ("k",)}, "'k' is the key"),
        ({"drop": ("vv",)}, "no column 'vv' to drop"),
        ({"rename": {"v": "k"}}, "two columns 'k'"),
        ({"rename": {"v": "__seq"}}, "reserved"),
        ({"widen": {"k": "int8"}}, "cannot become int8"),
        ({"widen": {"v": "int64"}}, "'v' is str"),
        ({"add": (NewColumn(name="v", type="str"),)}, "two columns 'v'"),
        ({"add": (NewColumn(name="x", type="int8", default="300"),)}, "'300' is no value of 'x'"),
        ({"add": (NewColumn(name="x", type="whole"),)}, "not the name of a column type"),
        ({"key": ("q",)}, "key column 'q'"),
    ],
)
def test_what_cannot_be_done_is_said(bench: Bench, changes: dict[str, Any], message: str) -> None:
    layout = bench.fresh(rows_of({1: "a"}))
    with pytest.raises(Invalid, match=message):
        bench.alter(layout, **changes)


def test_whole_numbers_become_floats_only_where_that_is_exact(bench: Bench) -> None:
    rows = pl.DataFrame({"k": [2**53, 2**53 + 1]})
    with pytest.raises(CannotAlter, match="9007199254740993, which is not exact"):
        bench.alter(bench.fresh(rows, infer(rows)), widen={"k": "float64"})
    fits = bench.alter(bench.fresh(rows[:1], infer(rows)), widen={"k": "float64"})
    assert fits.digest == fresh_digest(bench, fits)


def test_a_key_is_added_where_rows_are_unique_under_it(bench: Bench) -> None:
    layout = bench.fresh(pl.DataFrame({"k": [1, 2, 2], "v": ["a", "b", "b"]}), BAG)
    with pytest.raises(KeyRepeated, match="2 rows") as error:
        bench.alter(layout, key=("k",))
    assert error.value.details["rows"][0] == {"k": 2}
    with pytest.raises(KeyMissing):
        bench.alter(bench.fresh(pl.DataFrame({"k": [1, None], "v": ["a", "b"]}), BAG), key=("k",))
    unique = bench.fresh(pl.DataFrame({"k": [1, 2], "v": ["a", "b"]}), BAG)
    keyed = bench.alter(unique, key=("k",))
    assert keyed.digest == fresh_digest(bench, keyed)
    assert bench.rows(bench.append(keyed, rows_of({2: "B"}))) == {1: "a", 2: "B"}


def test_columns_are_written_as_text() -> None:
    assert parse_column("a:int64") == NewColumn(name="a", type="int64")
    assert parse_column("a:datetime[us, UTC]=2013-01-01") == NewColumn(
        name="a", type="datetime[us, UTC]", default="2013-01-01"
    )
    assert parse_column("s:str=").default == ""
    for text in ("a", ":int64", "a:"):
        with pytest.raises(CannotAlter, match="is not a column"):
            parse_column(text)


def test_a_layout_with_shapes_reads_back(bench: Bench) -> None:
    layout = bench.alter(bench.fresh(rows_of({1: "a"})), add=(NewColumn(name="n", type="int64", default="7"),))
    with bench.store.writer() as w:
        oid = w.put(Kind.TABLE, encode_layout(layout))
        w.flush()
    assert load_layout(bench.store, oid) == layout
    assert layout.shapes == [[(layout.ids[0], "k", "int64"), (layout.ids[1], "v", "str")]]


def test_changes_of_columns_merge(bench: Bench) -> None:
    base = bench.fresh(rows_of({1: "a", 2: "b"}))
    ours = bench.alter(base, rename={"v": "text"})
    theirs = bench.append(
        bench.alter(base, add=(NewColumn(name="n", type="int16", default="0"),)),
        pl.DataFrame({"k": [2, 3], "v": ["B", "c"], "n": pl.Series([5, None], dtype=pl.Int16)}),
    )
    done = bench.merge(base, ours, theirs)
    assert bench.reader.read(done.layout).sort("k").rows(named=True) == [
        {"k": 1, "text": "a", "n": 0},
        {"k": 2, "text": "B", "n": 5},
        {"k": 3, "text": "c", "n": None},
    ]
    assert done.layout.digest == fresh_digest(bench, done.layout)
    assert done.change.altered
    other = bench.merge(base, theirs, ours)
    assert bench.reader.read(other.layout).sort("k").equals(bench.reader.read(done.layout).sort("k"))
    both = bench.merge(base, bench.alter(base, drop=("v",)), bench.append(base, rows_of({4: "d"})))
    assert bench.reader.read(both.layout)["k"].to_list() == [1, 2, 4]


def test_a_column_that_both_sides_added_is_one(bench: Bench) -> None:
    base = bench.fresh(rows_of({1: "a"}))
    ours = bench.alter(base, add=(NewColumn(name="n", type="int16"),))
    theirs = bench.append(
        bench.alter(base, add=(NewColumn(name="n", type="int32"),)),
        pl.DataFrame({"k": [2], "v": ["b"], "n": pl.Series([70_000], dtype=pl.Int32)}),
    )
    done = bench.merge(base, ours, theirs).layout
    assert done.columns[2] == ("n", "int32")
    assert sorted(bench.reader.read(done).rows()) == [(1, "a", None), (2, "b", 70_000)]


def test_a_key_that_one_side_added_holds_for_both(bench: Bench) -> None:
    base = bench.fresh(rows_of({1: "a", 2: "b"}), BAG)
    ours = bench.append(base, rows_of({3: "c"}))
    done = bench.merge(base, ours, bench.append(bench.alter(base, key=("k",)), rows_of({2: "B"})))
    assert done.layout.key == ["k"]
    assert bench.rows(done.layout) == {1: "a", 2: "B", 3: "c"}
    assert done.layout.digest == fresh_digest(bench, done.layout)


@pytest.mark.parametrize(
    ("ours", "theirs", "message"),
    [
        ({"rename": {"v": "x"}}, {"rename": {"v": "y"}}, "renamed to 'x' and to 'y'"),
        ({"drop": ("v",)}, {"rename": {"v": "y"}}, "dropped on one side"),
        (
            {"add": (NewColumn(name="n", type="int64"),)},
            {"add": (NewColumn(name="n", type="str"),)},
            "'n' is int64 here and str there",
        ),
        ({"rename": {"v": "n"}}, {"add": (NewColumn(name="n", type="str"),)}, "'n' is another column here"),
        ({"key": ("k",)}, {"key": ("v",)}, "both sides changed the key"),
    ],
)
def test_changes_that_contradict_are_refused(bench: Bench, ours: Any, theirs: Any, message: str) -> None:
    base = bench.fresh(rows_of({1: "a"}), BAG)
    with pytest.raises(SchemasContradict, match=message):
        bench.merge(base, bench.alter(base, **ours), bench.alter(base, **theirs))
