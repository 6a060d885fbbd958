"""Differences between two layouts of a table, and the three-way merge built on them."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tablebench import BAG, Bench, Rows, rows_of  # pyright: ignore[reportMissingImports]

from noria.base.digest import Digest
from noria.data.rows import Layout, TableReader, change_between, diff_layouts
from noria.data.rows.schema import SEQ, infer

TIMES = int(os.environ.get("NORIA_TEST_FUZZ", "1"))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture(scope="module")
def shared() -> Iterator[Bench]:
    with tempfile.TemporaryDirectory() as folder:
        yield Bench(Path(folder))


def test_a_diff_tells_rows_and_columns(bench: Bench) -> None:
    before = bench.fresh(rows_of({1: "a", 2: "b", 3: "c"}))
    after = bench.append(bench.delete(before, 1), rows_of({2: "B", 4: "d", 3: "c"}))
    found = diff_layouts(bench.reader, before, after)
    assert found.added.select("k", "v").rows() == [(4, "d")]
    assert found.removed.select("k", "v").rows() == [(1, "a")]
    assert found.before["v"].to_list() == ["b"]
    assert found.after["v"].to_list() == ["B"]
    assert found.after[SEQ].to_list() == [2]
    assert found.schema.nothing
    assert not found.nothing
    wide = bench.fresh(pl.DataFrame({"k": pl.Series([1, 2], dtype=pl.Int32), "w": [1.5, 2.5]}), infer(
        pl.DataFrame({"k": pl.Series([1], dtype=pl.Int32), "w": [1.5]}), key=["k"]
    ))  # fmt: skip
    schema = diff_layouts(bench.reader, before, wide).schema
    assert [c.name for c in schema.added] == ["w"]
    assert [c.name for c in schema.removed] == ["v"]
    assert schema.retyped == (("k", "int64", "int32"),)


def test_a_diff_reads_only_what_differs(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 70_000
    base = bench.fresh(rows_of(dict.fromkeys(range(count), "x")))
    after = bench.append(base, rows_of({count: "new"}))
    read: list[int] = []
    whole = TableReader.fragment

    def counted(self: TableReader, *args: Any) -> pl.DataFrame:
        found = whole(self, *args)
        read.append(len(found))
        return found

    monkeypatch.setattr(TableReader, "fragment", counted)
    assert diff_layouts(bench.reader, base, after).added["k"].to_list() == [count]
    assert sum(read) == 1


def test_rows_without_a_key_are_a_bag(bench: Bench) -> None:
    before = bench.fresh(rows_of({1: "a", 2: None, 3: "c"}), BAG)
    after = bench.fresh(pl.DataFrame({"k": [3, 2, 2, 1], "v": ["c", None, None, "z"]}), BAG)
    found = diff_layouts(bench.reader, before, after)
    assert sorted(found.added.select("k", "v").rows()) == [(1, "z"), (2, None)]
    assert found.removed.select("k", "v").rows() == [(1, "a")]
    assert found.after.is_empty()


keyed = st.dictionaries(st.integers(0, 9), st.none() | st.sampled_from("abc"), max_size=8)


@given(before=keyed, after=keyed)
@settings(max_examples=30 * TIMES, deadline=None)
def test_a_diff_applied_to_before_is_after(shared: Bench, before: Rows, after: Rows) -> None:
    old = shared.fresh(rows_of(before))
    new = shared.to(old, after)
    found = diff_layouts(shared.reader, old, new)
    with shared.store.writer() as w:
        rows = pl.concat([found.added, found.after]).select("k", "v")
        done = shared.writer.apply(w, old, rows, found.removed.select("k"), seq=9, known_us=0)
        w.flush()
    assert shared.rows(done.layout) == after
    assert done.layout.digest == new.digest == shared.fresh(rows_of(after)).digest
    assert (done.added, done.updated, done.deleted) == (len(found.added), len(found.after), len(found.removed))
    moved = change_between(shared.reader, old, new, Digest(bytes(32)))
    assert sorted(moved.new_rows["k"]) == sorted([*found.added["k"], *found.after["k"]])
    assert sorted(moved.old_rows["k"]) == sorted([*found.removed["k"], *found.before["k"]])


def wanted(base: Rows, ours: Rows, theirs: Rows) -> tuple[Rows, set[int]]:
    """A merge of three dictionaries, and the keys in conflict."""
    missing = object()
    merged, conflicts = dict(ours), set[int]()
    for key in {*base, *ours, *theirs}:
        b, o, t = (side.get(key, missing) for side in (base, ours, theirs))
        if t in (b, o):
            continue
        if o != b:
            conflicts.add(key)
        elif t is missing:
            merged.pop(key, None)
        else:
            merged[key] = theirs[key]
    return merged, conflicts


@given(base=keyed, ours=keyed, theirs=keyed)
@settings(max_examples=40 * TIMES, deadline=None)
def test_a_merge_of_tables_is_a_merge_of_dictionaries(shared: Bench, base: Rows, ours: Rows, theirs: Rows) -> None:
    start = shared.fresh(rows_of(base))
    left, right = shared.to(start, ours), shared.to(start, theirs)
    merged, conflicts = wanted(base, ours, theirs)
    done = shared.merge(start, left, right)
    assert {c["key"]["k"] for c in done.conflicts} == conflicts
    assert done.conflict_count == len(conflicts)
    if conflicts:
        assert done.change.nothing
        assert shared.rows(done.layout) == ours
    else:
        assert shared.rows(done.layout) == merged
        assert done.layout.digest == shared.merge(start, right, left).layout.digest, "merging is symmetric"
    assert shared.rows(shared.merge(start, left, right, "ours").layout) == merged
    taken = {k: v for k, v in merged.items() if k not in conflicts} | {k: theirs[k] for k in conflicts if k in theirs}
    settled = shared.merge(start, left, right, "theirs")
    assert shared.rows(settled.layout) == taken
    assert settled.layout.digest == shared.fresh(rows_of(taken)).digest


def test_conflicts_show_both_rows(bench: Bench) -> None:
    base = bench.fresh(rows_of({1: "a", 2: "b"}))
    done = bench.merge(base, bench.append(base, rows_of({1: "x", 2: "y"})), bench.delete(
        bench.append(base, rows_of({1: "z"})), 2
    ))  # fmt: skip
    by_key = {c["key"]["k"]: (c["ours"], c["theirs"]) for c in done.conflicts}
    assert by_key == {1: ({"k": 1, "v": "x"}, {"k": 1, "v": "z"}), 2: ({"k": 2, "v": "y"}, None)}


def test_merged_rows_arrive_with_the_merge(bench: Bench) -> None:
    """Who read ``ours`` up to its head and goes on from there sees them."""
    base = bench.fresh(rows_of({1: "a"}))
    theirs = bench.append(base, rows_of({2: "b"}))
    ours = bench.append(base, rows_of({3: "c"}))
    seen = bench.seq
    done = bench.merge(base, ours, theirs)
    assert bench.reader.read(done.layout, after_seq=seen)["k"].to_list() == [2]
    assert (done.change.added, done.change.new_rows["k"].to_list()) == (1, [2])


bag = st.lists(st.tuples(st.integers(0, 2), st.sampled_from("ab")), max_size=6)


@given(base=bag, ours=bag, theirs=bag)
@settings(max_examples=20 * TIMES, deadline=None)
def test_without_a_key_both_sides_count(shared: Bench, base: list[Any], ours: list[Any], theirs: list[Any]) -> None:
    def made(values: list[Any]) -> Layout:
        return shared.fresh(pl.DataFrame(values, schema={"k": pl.Int64, "v": pl.String}, orient="row"), BAG)

    done = shared.merge(made(base), made(ours), made(theirs))
    was, left, right = Counter(base), Counter(ours), Counter(theirs)
    expected = left + (right - was)
    expected -= (was - right) - (was - left)
    found = shared.reader.read(done.layout)
    assert Counter(found.rows()) == expected
    assert done.layout.digest == shared.fresh(found, BAG).digest, "the digest is that of the rows in their order"
    assert done.conflict_count == 0


def test_two_tables_of_no_common_origin(bench: Bench) -> None:
    done = bench.merge(None, bench.fresh(rows_of({1: "a", 2: "b"})), bench.fresh(rows_of({2: "b", 3: "c"})))
    assert bench.rows(done.layout) == {1: "a", 2: "b", 3: "c"}
    assert bench.merge(None, bench.fresh(rows_of({1: "a"})), bench.fresh(rows_of({1: "b"}))).conflict_count == 1
