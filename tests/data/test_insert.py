"""``mode="insert"``: rows whose key is known are dropped, in the batch and against the table."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.base.actor import Actor
from noria.base.errors import Invalid
from noria.data.records import Repository, RepositoryKind
from noria.workspace import Workspace


def table(ws: Workspace, actor: Actor, name: str = "seen") -> Repository:
    return ws.data.ensure(ws.project.id, name, RepositoryKind.TABLE, actor=actor, key=("id", "by"))


def frame(*rows: tuple[str, int, float]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema={"id": pl.String, "by": pl.Int64, "v": pl.Float64}, orient="row")


def test_known_keys_keep_their_row_and_new_ones_land(both: Workspace, actor: Actor) -> None:
    repo = table(both, actor)
    first = both.data.append(repo, frame(("a", 1, 0.1), ("b", 1, 0.2)), actor=actor, mode="insert")
    second = both.data.append(repo, frame(("a", 1, 9.0), ("a", 2, 0.3), ("c", 1, 0.4)), actor=actor, mode="insert")
    assert both.data.read(repo).sort("id", "by").rows() == [
        ("a", 1, 0.1), ("a", 2, 0.3), ("b", 1, 0.2), ("c", 1, 0.4)
    ]  # fmt: skip
    assert second.generation == first.generation + 1
    added, removed, changed = both.data.diff_rows(repo, first.id, second.id)
    assert (len(added), len(removed), len(changed)) == (2, 0, 0)
    assert both.data.read(repo, after_seq=first.generation).sort("id", "by")["id"].to_list() == ["a", "c"]


def test_where_every_row_is_known_there_is_no_commit(both: Workspace, actor: Actor) -> None:
    repo = table(both, actor)
    first = both.data.append(repo, frame(("a", 1, 0.1)), actor=actor, mode="insert")
    called: list[int] = []
    again = both.data.append(
        repo, frame(("a", 1, 5.0)), actor=actor, mode="insert", also=lambda change: called.append(change.event_ms)
    )
    assert again.id == first.id
    assert called == []  # what would have landed with the commit has to be written by the caller
    replaced = both.data.append(repo, frame(("a", 1, 5.0)), actor=actor)
    assert replaced.id != first.id
    assert both.data.read(repo)["v"].to_list() == [5.0]


def test_an_unknown_mode_is_refused(workspace: Workspace, actor: Actor) -> None:
    with pytest.raises(Invalid, match="upsert"):
        workspace.data.append(table(workspace, actor), frame(("a", 1, 0.1)), actor=actor, mode="upsert")


batches = st.lists(
    st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 2)), min_size=1, max_size=5, unique=True), max_size=6
)


@settings(max_examples=25)
@given(batches)
def test_of_any_batches_the_first_row_of_each_key_is_there(
    workspace: Workspace, actor: Actor, batches: list[list[tuple[str, int]]]
) -> None:
    name = f"t{abs(hash(str(batches)))}"
    repo = table(workspace, actor, name)
    expected: dict[tuple[str, int], float] = {}
    if workspace.data.head(repo) is not None:
        return  # hypothesis tries an example again
    for number, batch in enumerate(batches):
        rows = [(i, by, number + n / 10) for n, (i, by) in enumerate(batch)]
        workspace.data.append(repo, frame(*rows), actor=actor, mode="insert")
        for i, by, value in rows:
            expected.setdefault((i, by), value)
    if batches:
        assert {(r[0], r[1]): r[2] for r in workspace.data.read(repo).rows()} == expected
