"""Columns, one row, compaction: the verbs of tables above their format."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest

from noria.base.actor import Actor
from noria.base.errors import Invalid
from noria.base.once import Once
from noria.data.errors import ContractBroken, HeadMoved
from noria.data.records import Repository, RepositoryKind
from noria.data.rows.alter import Alterations, CannotAlter, NewColumn
from noria.data.rows.read import TableReader
from noria.data.rows.write import KeyRepeated
from noria.data.service.tables.altering import ContractInTheWay
from noria.data.service.tables.onerow import RowNotFound
from noria.workspace import Workspace


def table(ws: Workspace, actor: Actor, *, key: tuple[str, ...] = ("k",), time: str | None = None) -> Repository:
    return ws.data.create(ws.project.id, "t", RepositoryKind.TABLE, actor=actor, key=key, time=time)


def rows(*keys: int, v: str = "x") -> pl.DataFrame:
    return pl.DataFrame({"k": list(keys), "v": [v] * len(keys)}, schema={"k": pl.Int64, "v": pl.String})


def fresh(ws: Workspace, repository: Repository) -> Repository:
    return ws.data.get(ws.project.id, repository.name)


def test_a_change_of_columns_is_a_commit(both: Workspace, actor: Actor) -> None:
    repository = table(both, actor)
    both.data.append(repository, rows(1, 2), actor=actor)
    changes = Alterations(add=(NewColumn(name="n", type="int16", default="5"),), rename={"k": "id"}, drop=("v",))
    done = both.data.alter(repository, changes, actor=actor, once=Once("once", "x"))
    assert both.data.alter(repository, changes, actor=actor, once=Once("once", "x")).id == done.id
    assert both.data.read(repository).rows(named=True) == [{"id": 1, "n": 5}, {"id": 2, "n": 5}]
    assert both.data.read(repository, "main~1").equals(rows(1, 2)), "an older commit shows the columns that it had"
    assert (done.message, done.stats["rows"]) == ("add n; drop v; rename k to id", 2)
    assert fresh(both, repository).key == ("id",), "the repository follows main"
    both.data.append(fresh(both, repository), pl.DataFrame({"id": [2], "n": [7]}), actor=actor)
    assert both.data.read(repository)["n"].to_list() == [5, 7]
    written = [a for a in both.audit.list(both.project.id).items if a.verb == "data.alter"]
    assert len(written) == 1
    found = both.data.compare_rows(repository, "main~2", "main")
    assert found.schema.renamed == (("k", "id"),)
    assert (len(found.added), len(found.removed), len(found.after)) == (0, 0, 1)


def test_a_time_that_is_renamed_stays_the_time(workspace: Workspace, actor: Actor) -> None:
    repository = table(workspace, actor, time="t")
    at = datetime(2013, 1, 1, tzinfo=UTC)
    workspace.data.append(repository, rows(1).with_columns(t=pl.lit(at)), actor=actor)
    workspace.data.alter(repository, Alterations(rename={"t": "at"}), actor=actor)
    assert fresh(workspace, repository).time == "at"
    again = fresh(workspace, repository)
    naive = rows(2).with_columns(at=pl.lit(datetime(2013, 1, 2)))
    workspace.data.append(again, naive, actor=actor)
    assert workspace.data.read(again)["at"].to_list() == [at, datetime(2013, 1, 2, tzinfo=UTC)]
    workspace.data.append(again, naive, actor=actor, mode="overwrite")
    assert len(workspace.data.read(again)) == 1


def test_other_columns_are_taken_over_only_where_that_is_asked(workspace: Workspace, actor: Actor) -> None:
    repository = table(workspace, actor)
    workspace.data.append(repository, rows(1), actor=actor)
    wide = pl.DataFrame({"k": [2], "n": [1.5]})
    with pytest.raises(Invalid, match="missing v; unknown n"):
        workspace.data.append(repository, wide, actor=actor)
    workspace.data.append(repository, wide, actor=actor, evolve=True)
    assert workspace.data.read(repository).rows() == [(1, "x", None), (2, None, 1.5)]
    workspace.data.append(repository, [{"k": 3, "m": True}, {"k": 4, "v": "y"}], actor=actor, evolve=True)
    assert workspace.data.read(repository).rows()[2:] == [(3, None, None, True), (4, "y", None, None)]
    with pytest.raises(Invalid, match="k"):
        workspace.data.append(repository, [{"v": "no key"}], actor=actor, evolve=True)


def test_types_are_widened_where_that_is_asked(workspace: Workspace, actor: Actor) -> None:
    repository = table(workspace, actor)
    narrow = pl.DataFrame({"k": [1], "n": pl.Series([1], dtype=pl.Int8)})
    workspace.data.append(repository, narrow, actor=actor)
    big = pl.DataFrame({"k": [2], "n": [100_000]})
    with pytest.raises(Invalid, match="does not fit"):
        workspace.data.append(repository, big, actor=actor)
    workspace.data.append(repository, big, actor=actor, evolve=True)
    assert workspace.data.read(repository).rows() == [(1, 1), (2, 100_000)]


def test_a_key_for_a_table_with_rows(both: Workspace, actor: Actor) -> None:
    """Declared anew, as a project does it that was edited."""
    repository = table(both, actor, key=())
    both.data.append(repository, pl.DataFrame({"k": [1, 2, 2], "v": ["a", "b", "b"]}), actor=actor)

    def declare() -> Repository:
        return both.data.ensure(both.project.id, "t", RepositoryKind.TABLE, actor=actor, key=("k",))

    with pytest.raises(KeyRepeated) as error:
        declare()
    assert error.value.details["rows"] == [{"k": 2}, {"k": 2}]
    both.data.append(repository, pl.DataFrame({"k": [1, 2], "v": ["a", "b"]}), actor=actor, mode="overwrite")
    assert declare().key == ("k",)
    both.data.append(fresh(both, repository), rows(2, v="B"), actor=actor)
    assert both.data.read(repository).sort("k")["v"].to_list() == ["a", "B"]


def test_a_contract_stays_true_to_its_columns(workspace: Workspace, actor: Actor) -> None:
    repository = table(workspace, actor)
    workspace.data.append(repository, rows(1), actor=actor)
    workspace.data.set_contract(repository, {"columns": {"k": {"type": "int64"}, "v": {"type": "str"}}}, actor=actor)
    repository = fresh(workspace, repository)
    change = Alterations(rename={"v": "text"})
    with pytest.raises(ContractInTheWay, match="'v' is not in the table; 'text' is not in the contract"):
        workspace.data.alter(repository, change, actor=actor)
    assert workspace.data.read(repository).columns == ["k", "v"], "nothing was changed"
    new = {"columns": {"k": {"type": "int64"}, "text": {"type": "str"}}}
    workspace.data.alter(repository, change, actor=actor, contract=new)
    repository = fresh(workspace, repository)
    assert repository.contract == 2
    workspace.data.append(repository, rows(2).rename({"v": "text"}), actor=actor)
    with pytest.raises(ContractBroken, match="'text' is missing"):
        workspace.data.append(repository, rows(3), actor=actor)


def test_what_cannot_be_altered(workspace: Workspace, actor: Actor) -> None:
    repository = table(workspace, actor)
    change = Alterations(drop=("v",))
    with pytest.raises(Invalid, match="no rows yet"):
        workspace.data.alter(repository, change, actor=actor)
    first = workspace.data.append(repository, rows(1), actor=actor)
    workspace.data.append(repository, rows(2), actor=actor)
    with pytest.raises(HeadMoved):
        workspace.data.alter(repository, change, actor=actor, expected=first.id)
    with pytest.raises(Invalid, match="nothing to change"):
        workspace.data.alter(repository, Alterations(), actor=actor)
    with pytest.raises(CannotAlter, match="'k' is the key"):
        workspace.data.alter(repository, Alterations(drop=("k",)), actor=actor)


def test_a_branch_has_columns_of_its_own(workspace: Workspace, actor: Actor) -> None:
    repository = table(workspace, actor)
    workspace.data.append(repository, rows(1), actor=actor)
    workspace.data.create_branch(repository, "dev", actor=actor)
    workspace.data.alter(repository, Alterations(rename={"k": "id"}), actor=actor, branch="dev")
    assert fresh(workspace, repository).key == ("k",)
    workspace.data.append(repository, rows(2), actor=actor)
    workspace.data.append(repository, rows(3).rename({"k": "id"}), actor=actor, branch="dev")
    overwritten = rows(4).rename({"k": "id"})
    workspace.data.append(repository, overwritten, actor=actor, branch="dev", mode="overwrite")
    assert workspace.data.read(repository, "dev")["id"].to_list() == [4]
    assert workspace.data.read(repository)["k"].to_list() == [1, 2]


def test_changes_of_columns_are_reverted_and_merged(workspace: Workspace, actor: Actor) -> None:
    repository = table(workspace, actor)
    workspace.data.append(repository, rows(1, 2), actor=actor)
    dropped = workspace.data.alter(repository, Alterations(drop=("v",)), actor=actor)
    workspace.data.append(repository, pl.DataFrame({"k": [3]}), actor=actor)
    workspace.data.revert(repository, dropped.id, actor=actor)
    assert workspace.data.read(repository).sort("k").rows() == [(1, "x"), (2, "x"), (3, None)], "its values are back"
    workspace.data.create_branch(repository, "dev", actor=actor)
    renamed = Alterations(rename={"k": "id"}, add=(NewColumn(name="n", type="int8", default="4"),))
    workspace.data.alter(repository, renamed, actor=actor, branch="dev")
    workspace.data.append(repository, rows(4), actor=actor)
    workspace.data.merge(repository, "dev", actor=actor)
    assert fresh(workspace, repository).key == ("id",), "a merge brings the key of main, too"
    assert sorted(workspace.data.read(repository)["n"].to_list()) == [4, 4, 4, 4]
    layout = workspace.data.layout(workspace.data.resolve(repository))
    assert layout.ids[-1] == workspace.data.layout(workspace.data.resolve(repository, "dev")).ids[-1]


def test_the_history_of_a_row(workspace: Workspace, actor: Actor) -> None:
    repository = table(workspace, actor)
    workspace.data.append(repository, rows(1, 2), actor=actor)
    for number in range(3, 8):
        workspace.data.append(repository, rows(number), actor=actor)
    changed = workspace.data.append(repository, rows(1, v="y"), actor=actor)
    workspace.data.alter(
        repository, Alterations(rename={"k": "id"}, add=(NewColumn(name="n", type="int8"),)), actor=actor
    )
    gone = workspace.data.append(repository, pl.DataFrame({"id": [1]}), actor=actor, mode="delete")
    back = workspace.data.append(repository, pl.DataFrame({"id": [1], "v": ["z"], "n": [3]}), actor=actor)
    workspace.data.append(repository, pl.DataFrame({"id": [9], "v": ["z"], "n": [3]}), actor=actor)
    found = workspace.data.row_history(repository, {"id": "1"})
    told = [(e.kind, e.commit.id, e.before, e.after) for e in found]
    first = workspace.data.log(repository, limit=99)[-1].id
    assert told == [
        ("added", back.id, None, {"id": 1, "v": "z", "n": 3}),
        ("removed", gone.id, {"id": 1, "v": "y", "n": None}, None),
        ("changed", changed.id, {"k": 1, "v": "x"}, {"k": 1, "v": "y"}),
        ("added", first, None, {"k": 1, "v": "x"}),
    ]
    assert [e.kind for e in workspace.data.row_history(repository, {"k": 1}, "main~4")] == ["changed", "added"]
    with pytest.raises(RowNotFound):
        workspace.data.row_history(repository, {"id": 77})
    with pytest.raises(Invalid, match="'x' is no value of 'id', which is int64"):
        workspace.data.row_history(repository, {"id": "x"})
    with pytest.raises(Invalid, match="'kk' is not part of the key"):
        workspace.data.row_history(repository, {"kk": 1}, "main~4")


def test_a_row_is_found_without_reading_every_version(
    workspace: Workspace, actor: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = table(workspace, actor)
    workspace.data.append(repository, rows(*range(1000)), actor=actor)
    for number in range(30):
        workspace.data.append(repository, rows(2000 + number), actor=actor)
    looked: list[object] = []
    layout = workspace.data.layout
    monkeypatch.setattr(workspace.data, "layout", lambda commit: looked.append(commit) or layout(commit))
    whole = TableReader.whole
    read: list[bytes] = []

    def counted(self: TableReader, of: object, fragment: object, *args: object) -> pl.DataFrame:
        read.append(fragment.id)  # type: ignore[attr-defined]
        return whole(self, of, fragment, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(TableReader, "whole", counted)
    (event,) = workspace.data.row_history(repository, {"k": 500})
    assert event.commit.generation == 1
    assert len(looked) <= 4, "it came with generation 1: what lies in between needs no look"
    assert len(read) < 3 * 31


def test_the_versions_that_hold_a_row(workspace: Workspace, actor: Actor) -> None:
    repository = table(workspace, actor)
    workspace.data.append(repository, rows(1, v="old"), actor=actor)
    one = workspace.data.append(repository, rows(1), actor=actor)
    two = workspace.data.append(repository, rows(2), actor=actor)
    workspace.data.create_branch(repository, "dev", actor=actor)
    workspace.data.append(repository, rows(1, v="new"), actor=actor)
    three = workspace.data.append(repository, rows(3), actor=actor, branch="dev")
    assert {c.id for c in workspace.data.versions_with_row(repository, {"k": 1}, "dev")} == {one.id, two.id, three.id}
    assert len(workspace.data.versions_with_row(repository, {"k": 1})) == 1
    with pytest.raises(RowNotFound):
        workspace.data.versions_with_row(repository, {"k": 5})


def test_compaction_leaves_the_version(both: Workspace, actor: Actor) -> None:
    repository = table(both, actor)
    for number in range(10):
        both.data.append(repository, rows(number, number + 1), actor=actor)
    both.data.append(repository, rows(3), actor=actor, mode="delete")
    before = both.data.resolve(repository)
    content = both.data.read(repository, hidden=True).sort("k")
    done = both.data.compact(repository, actor=actor)
    after = both.data.resolve(repository)
    assert (after.id, after.digest) == (before.id, before.digest)
    assert after.layout != before.layout
    assert both.data.version(after).layout == after.layout
    assert done.files_before > 1
    assert done.files_after == 1
    assert both.data.read(repository, hidden=True).sort("k").equals(content)
    assert both.data.layout(after).digest == after.digest
    assert both.data.read(repository, "main~1").height == 11
    assert both.verify(data=True) == []
    again = both.data.compact(repository, actor=actor)
    assert again.files_after == 1
    assert both.data.resolve(repository).layout == after.layout
    both.data.append(repository, rows(3, v="back"), actor=actor)
    assert both.data.read(repository).height == 11


def test_the_bytes_of_a_fold_are_told(workspace: Workspace, actor: Actor) -> None:
    repository = table(workspace, actor)
    commits = [workspace.data.append(repository, rows(n), actor=actor) for n in range(17)]
    folded = [commit.stats.get("folded", 0) for commit in commits]
    assert sum(size > 0 for size in folded) == 1


def test_rows_for_other_libraries(workspace: Workspace, actor: Actor) -> None:
    repository = table(workspace, actor)
    big = 2**60 + 1
    frame = pl.DataFrame({"k": [1, 2], "v": [big, None]})
    workspace.data.append(repository, frame, actor=actor)
    assert workspace.data.read_as(repository, "polars").equals(frame)
    assert workspace.read("t", to="arrow").column("v").to_pylist() == [big, None]
    assert workspace.read("t", to="pandas")["v"].iloc[0] == big, "not rounded to a float for the sake of the null"
    assert workspace.read("t", to="duckdb").filter("k = 1").fetchall() == [(1, big)]
    assert workspace.data.read_as(repository, "arrow", columns=["k"]).column_names == ["k"]
    with pytest.raises(Invalid, match="'panda'") as error:
        workspace.data.read_as(repository, "panda")  # type: ignore[arg-type]
    assert "'pandas'" in error.value.hint


def test_rows_as_they_were_known(workspace: Workspace, actor: Actor, clock) -> None:
    repository = table(workspace, actor, time="t")
    at = pl.lit(datetime(2013, 1, 1, tzinfo=UTC))
    for number in (1, 2):
        workspace.data.append(repository, rows(number).with_columns(t=at), actor=actor)
        clock.tick(86_400_000)
    known = workspace.data.read(repository, hidden=True)["__known"]
    read = workspace.data.read(repository, known_by=known[0].isoformat())
    assert read["k"].to_list() == [1]
    assert read.columns == ["k", "v", "t"]
    assert workspace.data.read(repository, known_by="2012-01-01", columns=["k"]).is_empty()
