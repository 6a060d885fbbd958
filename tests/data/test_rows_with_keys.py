"""Rows found by key are those that a look at the whole table finds."""

from __future__ import annotations

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from noria.base.actor import Actor
from noria.data.records import RepositoryKind
from noria.workspace import Workspace

batches = st.lists(
    st.dictionaries(st.integers(0, 30), st.integers(0, 5), min_size=1, max_size=8), min_size=1, max_size=5
)
numbers = iter(range(1_000_000))


@given(batches, st.lists(st.integers(0, 35), max_size=12))
def test_rows_found_by_key_are_those_of_the_whole_table(
    workspace: Workspace, found: list[dict[int, int]], asked: list[int]
) -> None:
    actor = Actor(name="user:alice")
    name = f"t{next(numbers)}"
    repository = workspace.data.create(workspace.project.id, name, RepositoryKind.TABLE, actor=actor, key=("k",))
    for batch in found:
        workspace.data.append(repository, pl.DataFrame({"k": list(batch), "v": list(batch.values())}), actor=actor)
    workspace.data.append(repository, pl.DataFrame({"k": [next(iter(found[0]))]}), actor=actor, mode="delete")
    keys = pl.DataFrame({"k": asked}, schema={"k": pl.Int32})
    by_key = workspace.data.rows_with_keys(repository, "main", keys)
    whole = workspace.data.read(repository, hidden=True)
    wanted = whole.filter(pl.col("k").is_in(asked))
    assert by_key.columns == whole.columns
    assert by_key.sort("k").equals(wanted.sort("k"))
