"""Slices read back as they were written, wherever their moments lie."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.features.slices import SLACK_US, Slicer, TableMeta, TableRows, encode_key
from noria.features.tables_seen import Use

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
COLUMNS = {"k": "str", "time": "datetime[us, UTC]", "known": "datetime[us, UTC]", "v": "int64"}
TABLE = TableMeta(name="t", key=("k", "time"), time="time", known="known", columns=COLUMNS)
USE = Use(table="t", kind="history", on=(("k", "k"),), columns=("v",), span_us=1 << 60)

# around the epoch a number takes fewer bytes than elsewhere
moments = st.sampled_from([0, 1, -1, -33, 200, 70_000, 1 << 32, -(1 << 32), 1_359_000_000_000_000]) | st.integers(
    -(1 << 50), 1 << 51
)
parts = st.dictionaries(
    st.sampled_from("abc"),
    st.lists(st.tuples(moments, st.integers(0, 5), st.none() | st.integers(-300, 300)), min_size=1, max_size=40),
)


def _sorted(rows: Iterable[tuple[int, ...]]) -> list[tuple[int, ...]]:
    return sorted(rows, key=lambda row: row[1:3])


HOUR = 3_600_000_000
batches = st.lists(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 120), st.integers(0, 30)), min_size=1, max_size=6),
    min_size=1,
    max_size=12,
)


@pytest.mark.parametrize("kind", ["history", "asof"])
@given(batches)
def test_a_slice_answers_as_all_its_rows_would(kind: str, found: list[list[tuple[int, int, int]]]) -> None:
    """Batch after batch: rows are put in, replaced where their number is there, and old ones are let go."""
    use = Use(table="t", kind=kind, on=(("k", "k"),), columns=("v",), span_us=6 * HOUR)
    slicer = Slicer(use, TABLE)
    blob: bytes | None = None
    rows: dict[int, tuple[int, ...]] = {}
    for batch in found:
        new = {number: (number, time * HOUR, (time + late) * HOUR, number) for number, time, late in batch}
        blob = slicer.changed(blob, _sorted(new.values()), set(new) & set(rows))
        rows.update(new)
    if blob is None:
        return
    since, columns = msgspec.msgpack.decode(blob)
    kept = list(zip(*columns, strict=True))
    assert kept == _sorted(kept)
    assert since == -(1 << 62) or since >= max(row[1] for row in kept) - SLACK_US - 6 * HOUR
    for hour in range(max(0, since // HOUR), 200):
        at = hour * HOUR
        if at >= since:
            assert _answer(kind, kept, at) == _answer(kind, rows.values(), at)


def _answer(kind: str, rows: Iterable[tuple[int, ...]], at: int) -> list[tuple[int, ...]]:
    seen = _sorted(row for row in rows if row[1] <= at and row[2] <= at)
    if kind == "asof":
        newest = [row[1:3] for row in seen[-1:]]
        return [row for row in newest if row[0] >= at - 6 * HOUR]
    return sorted(row for row in seen if row[1] > at - 6 * HOUR)


@given(parts)
def test_rows_of_several_keys_are_read_one_after_another(rows: dict[str, list[tuple[int, int, int | None]]]) -> None:
    slicer = Slicer(USE, TABLE)
    blobs = [
        slicer.changed(None, _sorted((n, time, time + late, v) for n, (time, late, v) in enumerate(found)), set())
        for found in rows.values()
    ]
    asked = np.arange(len(rows))
    found = slicer.found([(key,) for key in rows], blobs, asked, np.full(len(rows), 1 << 52))
    wanted = [
        (number, time, time + late, v)
        for number, part in enumerate(rows.values())
        for time, late, v in sorted(part, key=lambda row: (row[0], row[0] + row[1]))
    ]
    index = found.index
    assert list(zip(index.groups, index.times, index.knowns, found.column("v"), strict=True)) == wanted
    assert found.column("k").to_list() == [list(rows)[number] for number, *_ in wanted]
    assert index.moments.tolist() == sorted({time for _, time, _, _ in wanted})


def test_a_frame_becomes_slices_that_hold_its_rows() -> None:
    times = [EPOCH + timedelta(seconds=n) for n in (5, 1, 3)]
    frame = pl.DataFrame({"k": ["a", "b", "a"], "time": times, "known": times, "v": [1, 2, None]})
    frame = frame.with_columns(pl.col(pl.Datetime).cast(pl.Datetime("us", "UTC")))
    slicer = Slicer(USE, TABLE)
    rows_of = slicer.rows_of(TableRows(frame, TABLE.key))
    blobs = {key: slicer.changed(None, rows, set()) for key, rows in rows_of.items()}
    found = slicer.found([("a",), ("z",)], [blobs[encode_key(["a"])], None], np.array([0, 1]), np.array([10**9] * 2))
    assert found.index.times.tolist() == [3_000_000, 5_000_000]
    assert found.column("v").to_list() == [None, 1]
