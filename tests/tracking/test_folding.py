"""Points of runs that ended take a few bytes, and nobody who asks sees a difference."""

from __future__ import annotations

import math
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, func, select

from noria.assets.records import RunState
from noria.base.actor import Actor
from noria.base.errors import DiskFull
from noria.base.ids import RunId
from noria.base.times import DAY
from noria.db import Database
from noria.testing import ManualClock
from noria.tracking import folding, series
from noria.tracking import tables as t
from noria.tracking.blocks import (
    DIRECT,
    LARGEST,
    BlockDamaged,
    Mark,
    bundled_marks,
    decode,
    decode_bundle,
    encode_bundle,
)
from noria.tracking.service import lock_of
from noria.workspace import Workspace, connect, init

INT64 = st.integers(-(2**63), 2**63 - 1)
MARKS = st.lists(st.tuples(INT64, INT64, st.floats(width=64)), min_size=1, max_size=9)
ME = Actor(name="u")


def named(found: list[Mark]) -> list[tuple[int, int, str]]:
    """Comparable, NaN too."""
    return [(at, step, float(value).hex()) for at, step, value in found]


def begun(ws: Workspace) -> RunId:
    with ws.db.write() as tx:
        return ws.tracking.create_run(tx, ws.project.id, 0, name="r", actor=ME).id


def ended(ws: Workspace, run: RunId) -> None:
    ws.tracking.update_run(run, state=RunState.DONE, ended_at=1)


def rows(ws: Workspace, run: RunId) -> tuple[int, int, int]:
    """Rows of the tail, bundles, blocks of a run."""
    no = ws.tracking.tracked(run).no  # type: ignore[union-attr]
    with ws.db.read() as conn:
        count = [
            conn.execute(select(func.count()).select_from(table).where(table.c.run_no == no)).scalar_one()
            for table in (t.tail, t.bundles, t.blocks)
        ]
    return count[0], count[1], count[2]


def told(ws: Workspace, run: RunId, keys: list[str], size: int = 300) -> dict[str, Any]:
    """Everything that anybody can ask about the metrics of a run."""
    made: dict[str, Any] = {}
    for key in keys:
        for most in (25_000, size):
            found, after = [], None
            while True:
                part, after = ws.tracking.marks(run, key, limit=most, after=after)
                found += part
                if after is None:
                    break
            made[f"{key} by {most}"] = named(found)
        for limit in (1, 60):
            for start, end in ((None, None), (2, 40)):
                sample = ws.tracking.sample(run, key, limit=limit, start=start, end=end)
                made[f"{key} {limit} {start} {end}"] = named([(p.at, p.step, p.value) for p in sample])
    made["curves"] = [
        (curve.total, named([(p.at, p.step, p.value) for p in curve.points]))
        for key in keys
        for curve in ws.tracking.curves([run], key, points=20)
    ]
    latest = ws.tracking.data(run).metrics
    made["latest"] = {key: named([(p.at, p.step, p.value)]) for key, p in latest.items()}
    return made


@given(st.dictionaries(INT64, MARKS, min_size=1, max_size=9))
def test_a_bundle_gives_back_what_went_in(given_: dict[int, list[Mark]]) -> None:
    metrics = {key: given_[key] for key in sorted(given_)}
    data = encode_bundle(metrics)
    assert {key: named(found) for key, found in decode_bundle(data).items()} == {
        key: named(found) for key, found in metrics.items()
    }
    for key, points in metrics.items():
        assert named(bundled_marks(data, key)) == named(points)
        if key + 1 not in metrics:
            assert bundled_marks(data, key + 1 if key < 2**63 - 1 else 0) == [] or 0 in metrics


def test_a_damaged_bundle_is_named() -> None:
    data = encode_bundle({1: [(1, 2, 3.0)], 5: [(1, 2, 3.0)] * 20})
    for damaged in (b"", b"NRMM", data[:-1], data[:20] + bytes([data[20] ^ 1]) + data[21:], b"NRMM\x02" + data[5:]):
        with pytest.raises(BlockDamaged):
            decode_bundle(damaged)
    with pytest.raises(BlockDamaged):
        decode(data)


def test_the_forms_on_disk_are_read_as_they_were_written() -> None:
    block = bytes.fromhex(BLOCK)
    at, step, value = decode(block)
    assert (at.tolist(), step.tolist(), value.tolist()) == ([1_000, 2_500], [0, 1], [0.5, -1.0])
    assert decode_bundle(bytes.fromhex(BUNDLE)) == {
        3: [(1_000, 0, 0.5)],
        7: [(1_000, 0, 2.0), (2_500, 1, math.inf)],
    }


BLOCK = "4e524d42010200000028b52ffd20309d000058e8dc0305000100e0f03fbf020060c11cd002"
BUNDLE = "4e524d4d01020000000300000028b52ffd2068fd0000a8030400010200e800dc030005000100e000f03f407f0410001f9c98631c43"

BATCHES = st.lists(
    st.one_of(
        st.just(None),  # somebody folds
        st.dictionaries(
            st.sampled_from(["a", "b", "c"]),
            st.tuples(
                st.sampled_from([1, 1, 2, 7, 40, 63, 64, 130]), st.integers(0, 50), st.sampled_from([1, 1, 0, -1, 3])
            ),
            min_size=1,
        ),
    ),
    max_size=12,
)
VALUES = [0.0, 1.0, math.nan, math.inf, -0.5, 1e300]


@settings(max_examples=25)
@given(batches=BATCHES, seed=st.integers(0, 9))
def test_a_run_that_is_folded_at_any_time_answers_as_one_that_never_was(
    workspace: Workspace, batches: list[dict[str, tuple[int, int, int]] | None], seed: int
) -> None:
    folded, plain = begun(workspace), begun(workspace)
    draw = random.Random(seed)
    no = workspace.tracking.tracked(folded).no  # type: ignore[union-attr]
    for batch in [*batches, None]:
        if batch is None:
            with workspace.db.write() as tx:
                behind: int | None = -1
                while behind is not None:
                    behind = folding.fold(tx, no, behind).behind
            assert rows(workspace, folded)[0] == 0
            continue
        marks = {
            key: [(start + n * stride, start + n * stride, draw.choice(VALUES)) for n in range(count)]
            for key, (count, start, stride) in batch.items()
        }
        for run in (folded, plain):
            workspace.tracking.log(run, marks=marks)
    keys = ["a", "b", "c", "none"]
    assert told(workspace, folded, keys, 31) == told(workspace, plain, keys, 31)


def test_runs_that_ended_are_folded_and_answer_alike(both: Workspace, actor: Actor) -> None:
    done, open_, empty = begun(both), begun(both), begun(both)
    keys = [f"m{n}" for n in range(30)]
    for step in range(20):
        both.tracking.log(done, marks={key: [(1_000 * step, step, n / (step + 1))] for n, key in enumerate(keys)})
    both.tracking.log(done, marks={"long": [(n, n, float(n)) for n in range(60)]})
    both.tracking.log(done, marks={"long": [(n, n, float(n)) for n in range(60, 90)]})
    both.tracking.log(done, marks={"huge": [(2**45 + n, n, math.sin(n)) for n in range(3_000)]})
    both.tracking.log(open_, marks={"m1": [(2**45, 1, 1.0)]})
    ended(both, empty)
    before = told(both, done, ["m3", "m29", "long", "huge"])
    found = both.tracking.search(both.project.id, "metrics.m3 < 2 AND metrics.long = 89").items
    assert both.tracking.fold_ended() == 0  # nobody ended
    ended(both, done)
    assert both.tracking.fold_ended() == 20 * 30 + 90
    assert rows(both, done) == (0, 1, 2)  # "long" has enough points for a block of its own
    assert rows(both, open_) == (1, 0, 0)
    assert told(both, done, ["m3", "m29", "long", "huge"]) == before
    assert both.tracking.search(both.project.id, "metrics.m3 < 2 AND metrics.long = 89").items == found == [done]
    assert both.tracking.fold_ended() == 0
    page = both.tracking.history(done, "m3", limit=7)
    both.tracking.log(done, marks={"m3": [(19_500, 5, 7.0), (0, 0, 3.0)], "new": [(5, 5, 5.0)]})  # late, and a retry
    rest = both.tracking.history(done, "m3", limit=100, after=page.next)
    steps = [p.step for p in [*page.items, *rest.items]]
    assert steps == [*range(20), 5]
    assert rows(both, done)[0] == 2
    late = told(both, done, ["m3", "m4", "new"])
    assert both.tracking.fold_ended() == 2
    assert rows(both, done) == (0, 1, 2)
    assert told(both, done, ["m3", "m4", "new"]) == late


def test_many_metrics_make_bundles_that_do_not_overlap(both: Workspace) -> None:
    run = begun(both)
    keys = [f"k{n:04}" for n in range(2_500)]
    for step in range(3):
        both.tracking.log(run, marks={key: [(step, step, float(step))] for key in keys})
    ended(both, run)
    both.tracking.fold_ended()
    draw = random.Random(3)
    for n in range(6):  # late points, of metrics all over
        both.tracking.log(run, marks={key: [(9 + n, 9 + n, 1.0)] for key in draw.sample(keys, 40)})
        both.tracking.log(run, marks={f"later{n}": [(1, 1, 1.0)]})
        both.tracking.fold_ended()
        with both.db.read() as conn:
            c = t.bundles.c
            found = conn.execute(select(c.first_key, c.last_key, c.count).order_by(c.last_key)).all()
        ends = [end for first, last, _ in found for end in (first, last)]
        assert ends == sorted(ends)
        assert all(first < last for first, last in zip(ends[1::2], ends[2::2], strict=False))
        assert max(count for *_, count in found) <= LARGEST
        assert sum(count for *_, count in found) == 7_500 + 41 * (n + 1)
        assert len(found) <= 5
    assert rows(both, run)[0] == 0
    assert [p.step for p in both.tracking.history(run, keys[7]).items][:3] == [0, 1, 2]


def test_points_that_come_late_and_one_by_one_grow_into_a_block(workspace: Workspace) -> None:
    run = begun(workspace)
    ended(workspace, run)
    for n in range(DIRECT + 3):
        workspace.tracking.log(run, marks={"m": [(n, n, float(n))], "other": [(0, 0, 0.0)]})
        workspace.tracking.fold_ended()
    assert rows(workspace, run) == (0, 1, 1)
    assert [p.step for p in workspace.tracking.history(run, "m").items] == list(range(DIRECT + 3))


def test_a_run_that_never_ended_is_folded_when_it_was_silent_for_a_day(both: Workspace, clock: ManualClock) -> None:
    run = begun(both)
    both.tracking.log(run, marks={"m": [(clock.now_ms(), 1, 1.0)]})
    assert both.tracking.fold_ended() == 0
    clock.tick(DAY + 1)
    assert both.tracking.fold_ended() == 1
    both.tracking.log(run, marks={"m": [(clock.now_ms(), 2, 1.0)]})
    assert both.tracking.fold_ended() == 0
    assert [p.step for p in both.tracking.history(run, "m").items] == [1, 2]


def test_a_server_goes_from_run_to_run_and_then_rests(workspace: Workspace, clock: ManualClock) -> None:
    runs = [begun(workspace) for _ in range(5)]
    for run in runs:
        workspace.tracking.log(run, marks={"m": [(1, 1, 1.0), (2, 2, 1.0)]})
        ended(workspace, run)
    done = [workspace.tracking.fold_ended(seconds=1e-9) for _ in range(3)]
    assert done == [0, 0, 0]  # no time at all
    assert workspace.tracking.fold_ended(seconds=60) == 10
    workspace.tracking.log(runs[2], marks={"m": [(3, 3, 1.0)]})
    assert workspace.tracking.fold_ended(seconds=60) == 0  # it rests
    clock.tick(DAY)
    assert workspace.tracking.fold_ended(seconds=60) == 1


class NoRoom:
    """Commits fail."""

    def at(self, name: str) -> None:
        if name == "db.commit":
            raise DiskFull("the disk")


def test_a_fold_that_is_cut_off_leaves_everything_as_it_was(both: Workspace, clock: ManualClock) -> None:
    run = begun(both)
    both.tracking.log(run, marks={f"m{n}": [(k, k, float(k)) for k in range(9)] for n in range(9)})
    no = both.tracking.tracked(run).no  # type: ignore[union-attr]
    before, there = told(both, run, ["m1", "m8"]), rows(both, run)
    db = Database(both.db.url, clock, NoRoom())
    with pytest.raises(DiskFull), db.write() as tx:
        assert folding.fold(tx, no).points == 81
    db.close()
    assert rows(both, run) == there == (81, 0, 0)
    assert told(both, run, ["m1", "m8"]) == before


_FOLDS = """
import sys
from noria.tracking import folding
from noria.workspace import connect
folding.LARGEST = 40  # several transactions for each run
fold = folding.fold
def told(*given):
    print(1, flush=True)
    return fold(*given)
folding.fold = told
with connect(sys.argv[1]) as ws:
    ws.tracking.fold_ended()
"""


def test_killed_in_the_middle_nothing_is_lost_and_nothing_is_there_twice(tmp_path: Path) -> None:
    keys = [f"m{n}" for n in range(12)]
    init(tmp_path).close()
    with connect(tmp_path) as ws:
        runs = [begun(ws) for _ in range(16)]
        for n, run in enumerate(runs):
            ws.tracking.log(run, marks={key: [(k, k, n / (k + 1)) for k in range(9)] for key in keys})
            ended(ws, run)
        before = [told(ws, run, keys[4:6]) for run in runs]
        count = sum(rows(ws, run)[0] for run in runs)
    process = subprocess.Popen([sys.executable, "-c", _FOLDS, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        for _ in range(20):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    process.wait()
    with connect(tmp_path) as ws:
        left = sum(rows(ws, run)[0] for run in runs)
        assert 0 < left < count
        assert [told(ws, run, keys[4:6]) for run in runs] == before
        assert ws.tracking.fold_ended() == left
        assert [told(ws, run, keys[4:6]) for run in runs] == before
        assert ws.verify() == []


def test_counts_that_do_not_match_are_left_alone(workspace: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    run = begun(workspace)
    workspace.tracking.log(run, marks={"m": [(k, k, float(k)) for k in range(9)], "n": [(0, 0, 0.0)]})
    with workspace.db.write() as tx:
        tx.execute(delete(t.tail).where(t.tail.c.seq == 4))
    ended(workspace, run)
    assert workspace.tracking.fold_ended() == 0
    assert rows(workspace, run) == (9, 0, 0)
    assert "metric_tail" in caplog.text


def test_purging_takes_bundles_and_folding_leaves_what_is_purged(
    both: Workspace, actor: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes, stays = begun(both), begun(both)
    for run in (goes, stays):
        both.tracking.log(run, marks={"m": [(1, 1, 1.0)], "n": [(1, 1, 1.0)]})
        ended(both, run)
    both.tracking.fold_ended()
    both.tracking.log(goes, marks={"n": [(2, 2, 2.0)]})
    both.tracking.delete_runs(both.project.id, [goes], actor=actor)

    def folds(*_: Any) -> Callable[..., Any]:
        raise AssertionError("it is being deleted")

    with monkeypatch.context() as patch:
        patch.setattr(folding, "fold", folds)
        mark = both.tracking._mark
        patch.setattr(both.tracking, "_mark", lambda *a: (mark(*a), both.tracking.fold_ended()))
        done = both.tracking.purge(both.project.id, dry_run=False, actor=actor)
    assert (done.runs, done.rows["points"]) == (1, 3)
    with both.db.read() as conn:
        for table in (t.bundles, t.latest, t.tail):
            assert len(set(conn.execute(select(table.c.run_no)).scalars())) == (0 if table is t.tail else 1)
    assert both.tracking.data(stays).metrics.keys() == {"m", "n"}


def test_who_reads_while_a_run_is_folded_sees_one_moment(both: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Points move from table to table between two statements of a reader."""
    run = begun(both)
    both.tracking.log(run, marks={"m": [(n, n, float(n)) for n in range(40)]})
    ended(both, run)
    want = told(both, run, ["m"])["m by 25000"]
    rows_of_tail = series._tail_rows

    def folded_then(*given: Any) -> Any:
        found = rows_of_tail(*given)
        monkeypatch.setattr(series, "_tail_rows", rows_of_tail)
        with both.db.write() as tx:
            tx.lock(lock_of(run))
            assert folding.fold(tx, both.tracking.tracked(run).no).points == 40  # type: ignore[union-attr]
        both.tracking.log(run, marks={"m": [(99 + n, 99 + n, 0.0) for n in range(DIRECT)]})
        return found

    monkeypatch.setattr(series, "_tail_rows", folded_then)
    assert named(both.tracking.marks(run, "m", limit=1_000)[0]) == want
    assert rows(both, run) == (0, 1, 1)
