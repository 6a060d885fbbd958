"""Values stay what they are, or are refused: when tables are merged, and when rows come as JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tablebench import BAG, Bench, rows_of  # pyright: ignore[reportMissingImports]

from noria.base.actor import Actor
from noria.base.errors import Invalid, NoriaError
from noria.data.records import Repository, RepositoryKind
from noria.data.rows.alter import Alterations, CannotAlter, NewColumn
from noria.data.rows.merge_columns import SchemasContradict
from noria.data.rows.write import KeyMissing, KeyRepeated
from noria.workspace import Workspace


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def table(ws: Workspace, actor: Actor, *key: str, **how: Any) -> Repository:
    return ws.data.create(ws.project.id, "t", RepositoryKind.TABLE, actor=actor, key=key, **how)


def fresh(ws: Workspace) -> Repository:
    return ws.data.get(ws.project.id, "t")


# ---- merges


def test_rows_of_theirs_are_not_bent_into_a_type_of_ours(workspace: Workspace, actor: Actor) -> None:
    data, t = workspace.data, table(workspace, actor, "id")
    data.append(t, pl.DataFrame({"id": [1], "v": ["1"]}), actor=actor)
    data.create_branch(t, "b", actor=actor)
    picked = data.append(t, pl.DataFrame({"id": [2], "v": ["abc"]}), actor=actor, branch="b")
    head = data.append(t, pl.DataFrame({"id": [1], "v": [1]}), actor=actor, mode="overwrite")
    with pytest.raises(SchemasContradict, match="'v' is int64 here and str there"):
        data.merge(t, "b", actor=actor)
    with pytest.raises(SchemasContradict, match="'v' is int64 here and str there"):
        data.cherry_pick(t, picked.id, actor=actor)
    assert data.resolve(t).id == head.id


def test_a_type_that_ours_made_narrower_is_widened_for_rows_of_theirs(workspace: Workspace, actor: Actor) -> None:
    data, t = workspace.data, table(workspace, actor, "id")
    data.append(t, pl.DataFrame({"id": [1], "v": [1.5]}), actor=actor)
    data.create_branch(t, "b", actor=actor)
    data.append(t, pl.DataFrame({"id": [1], "v": [1]}), actor=actor, mode="overwrite")
    data.append(t, pl.DataFrame({"id": [2], "v": [2.75]}), actor=actor, branch="b")
    data.merge(t, "b", actor=actor)
    assert data.read(t).sort("id").rows() == [(1, 1.0), (2, 2.75)]


def test_a_whole_number_that_is_not_exact_as_a_float_is_not_merged(bench: Bench) -> None:
    base = bench.alter(bench.fresh(rows_of({1: "a"})), add=(NewColumn(name="n", type="int64"),))
    more = pl.DataFrame({"k": [2], "v": ["b"], "n": [2**53 + 1]})
    with pytest.raises(SchemasContradict, match="9007199254740993"):
        bench.merge(base, bench.alter(base, widen={"n": "float64"}), bench.append(base, more))
    fine = bench.append(base, more.with_columns(n=pl.lit(7, pl.Int64)))
    done = bench.merge(base, bench.alter(base, widen={"n": "float64"}), fine)
    assert bench.reader.read(done.layout).sort("k")["n"].to_list() == [None, 7.0]


def test_other_defaults_of_a_column_that_both_added_contradict(bench: Bench) -> None:
    base = bench.fresh(rows_of({1: "a"}))
    sides = [bench.alter(base, add=(NewColumn(name="n", type="int8", default=d),)) for d in ("1", "2", "1")]
    with pytest.raises(SchemasContradict, match="hold 1 here and 2 there"):
        bench.merge(base, sides[0], sides[1])
    assert bench.reader.read(bench.merge(base, sides[0], sides[2]).layout)["n"].to_list() == [1]


def test_a_row_of_theirs_replaces_none_under_a_key_that_ours_gave(bench: Bench) -> None:
    base = bench.fresh(rows_of({1: "a", 2: "b"}), BAG)
    ours = bench.alter(base, key=("k",))
    for more in ({1: "new"}, {2: "b"}):
        with pytest.raises(KeyRepeated):
            bench.merge(base, ours, bench.append(base, rows_of(more)))
    with pytest.raises(KeyMissing):
        bench.merge(
            base, ours, bench.append(base, pl.DataFrame({"k": [None], "v": ["x"]}, schema_overrides={"k": pl.Int64}))
        )
    done = bench.merge(base, ours, bench.append(base, rows_of({3: "c"})))
    assert bench.rows(done.layout) == {1: "a", 2: "b", 3: "c"}


def test_the_log_of_records_shows_rows_of_a_longer_branch_that_was_merged(both: Workspace, actor: Actor) -> None:
    data, t = both.data, table(both, actor, "id")
    data.append(t, [{"id": 0}], actor=actor)
    data.create_branch(t, "b", actor=actor)
    for n in range(1, 5):
        data.append(t, [{"id": n}], actor=actor, branch="b")
    data.append(t, [{"id": 9}], actor=actor)
    page = data.records(t, "earliest", limit=2)
    data.merge(t, "b", actor=actor)
    assert [row["id"] for _, row in page.records] == [0, 9]
    assert sorted(row["id"] for _, row in data.records(t, str(page.next)).records) == [1, 2, 3, 4]
    assert sorted(row["id"] for _, row in data.records(t, "earliest").records) == [0, 1, 2, 3, 4, 9]


# ---- a branch keeps its own key and times


def test_a_branch_keeps_its_key_and_times_when_main_renames_them(workspace: Workspace, actor: Actor) -> None:
    data, t = workspace.data, table(workspace, actor, "id", time="at")
    row: dict[str, Any] = {"id": 1, "at": datetime(2020, 1, 1, tzinfo=UTC)}
    data.append(t, pl.DataFrame([row]), actor=actor)
    data.create_branch(t, "b", actor=actor)
    data.alter(t, Alterations(rename={"id": "number", "at": "time"}), actor=actor)
    t = fresh(workspace)
    assert (t.key, t.time) == (("number",), "time")
    made = data.produce(t, [{"id": 2, "at": "2020-01-02T00:00:00Z"}], actor=actor, branch="b")
    assert made.first is not None
    some = data.produce(t, [{"id": n, "at": "2020-01-02T00:00:00Z"} for n in (2, 3)], actor=actor, branch="b")
    assert some.first == some.last, "one of them was there"
    naive = pl.DataFrame({"id": [4], "at": [datetime(2020, 1, 3)]})
    data.append(t, naive, actor=actor, branch="b")
    data.append(t, [{"id": 1}], actor=actor, branch="b", mode="delete")
    assert data.read(t, "b")["id"].to_list() == [2, 3, 4]
    data.append(t, [{"number": 1}], actor=actor, mode="delete")
    assert data.read(t).is_empty()


# ---- rows of JSON

BASE = pl.DataFrame({"id": [0], "i": [1], "f": [1.5], "s": ["a"], "b": [True], "l": [["x"]]}).with_columns(
    g=pl.lit(1.5, pl.Float32)
)
ROW: dict[str, Any] = {"id": 1, "i": 1, "f": 1.5, "s": "a", "b": True, "l": ["x"], "g": 0.5}


@pytest.mark.parametrize(
    ("column", "value", "held"),
    [
        ("i", True, "whole numbers"),
        ("i", "6", "whole numbers"),
        ("i", 1.5, "whole numbers"),
        ("f", True, "numbers"),
        ("f", "2.5", "numbers"),
        ("f", 2**53 + 1, "numbers"),
        pytest.param("f", 10**400, "numbers", id="huge"),
        ("g", 2**24 + 1, "numbers"),
        ("s", 5, "text"),
        ("s", True, "text"),
        ("s", ["a"], "text"),
        ("b", 1, "true or false"),
        ("l", [5], "lists"),
    ],
)
def test_a_posted_value_of_another_type_is_refused(
    workspace: Workspace, actor: Actor, column: str, value: object, held: str
) -> None:
    data, t = workspace.data, table(workspace, actor, "id")
    data.append(t, BASE, actor=actor)
    with pytest.raises(Invalid, match=f"{column} of row 1 is .* holds {held}") as refused:
        data.append(t, [ROW, {**ROW, "id": 2, column: value}], actor=actor)
    assert refused.value.details == {"row": 1, "column": column}
    assert data.read(t).equals(BASE)


def test_posted_values_that_fit_exactly_are_taken(workspace: Workspace, actor: Actor) -> None:
    data, t = workspace.data, table(workspace, actor, "id")
    data.append(t, BASE, actor=actor)
    empty = dict.fromkeys(ROW)
    data.append(t, [{**ROW, "i": 2.0, "f": 2**53, "g": 2**24}, {**empty, "id": 2}], actor=actor)
    assert data.read(t).sort("id").rows(named=True)[1:] == [
        {**ROW, "i": 2, "f": 2.0**53, "g": 2.0**24},
        {**empty, "id": 2},
    ]


# ---- keys and types that cannot be


@pytest.mark.parametrize("bad", [[1], {"a": 1}])
def test_a_key_that_is_no_single_value_fails_its_own_request_only(
    workspace: Workspace, actor: Actor, bad: object
) -> None:
    data, t = workspace.data, table(workspace, actor, "id")
    with data._locks[t.id]:
        sent = [data.produce_soon(t, [{"id": n}], actor=actor) for n in (bad, 1, bad, 2)]
    errors = [future.exception(60) for future in sent]
    assert [isinstance(e, NoriaError) for e in errors] == [True, False, True, False]
    assert sorted(data.read(t)["id"]) == [1, 2]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"key": ("k", "k")}, "names 'k' twice"),
        ({"add": (NewColumn(name="d", type="decimal[40, 3]"),)}, "at most 38 digits"),
        ({"add": (NewColumn(name="d", type="decimal[3, 4]"),)}, "at most 38 digits"),
        ({"add": (NewColumn(name="d", type="decimal[0, 0]"),)}, "at most 38 digits"),
        ({"add": (NewColumn(name="l", type="list<str>"),), "key": ("l",)}, "holds lists"),
    ],
)
def test_keys_and_types_that_cannot_be_are_refused(bench: Bench, changes: dict[str, Any], why: str) -> None:
    with pytest.raises((Invalid, CannotAlter), match=why):
        bench.alter(bench.fresh(rows_of({1: "a"})), **changes)


def test_a_column_is_read_once(workspace: Workspace, actor: Actor) -> None:
    data, t = workspace.data, table(workspace, actor, "id")
    data.append(t, BASE, actor=actor)
    with pytest.raises(Invalid, match="twice"):
        data.read(t, columns=["id", "id"])
