from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noria.assets.errors import RunNotFound
from noria.base.actor import Actor
from noria.base.errors import DiskFull
from noria.base.ids import ProjectId, RunId
from noria.db import Database
from noria.db.group import GroupWriter, WriterClosed
from noria.tracking import series
from noria.tracking.blocks import DIRECT, FOLD, BlockDamaged, Mark, decode, encode, marks
from noria.tracking.errors import KeyInvalid, ParamChanged, RunDeleted
from noria.tracking.records import Point, Said
from noria.tracking.service import lock_of
from noria.workspace import Workspace

INT64 = st.integers(-(2**63), 2**63 - 1)
MARKS = st.tuples(INT64, INT64, st.floats(width=64))


def named(found: list[Mark]) -> list[tuple[int, int, str]]:
    """Comparable, NaN too."""
    return [(at, step, float(value).hex()) for at, step, value in found]


@given(st.lists(MARKS, min_size=1, max_size=50))
def test_a_block_gives_back_what_went_in(points: list[Mark]) -> None:
    assert named(marks(encode(points))) == named(points)


def test_a_block_takes_few_bytes_and_a_damaged_one_is_named() -> None:
    points = [(1_700_000_000_000 + 1_000 * n, n, 1 / (n + 1)) for n in range(FOLD)]
    data = encode(points)
    assert len(data) < 9 * FOLD
    for damaged in (b"", b"NRMB", data[:-1], data[:20] + bytes([data[20] ^ 1]) + data[21:], b"NRMB\x02" + data[5:]):
        with pytest.raises(BlockDamaged):
            decode(damaged)


@pytest.fixture
def run(both: Workspace, actor: Actor) -> RunId:
    with both.db.write() as tx:
        return both.tracking.create_run(tx, both.project.id, 0, name="r", actor=actor).id


def paged(ws: Workspace, run: RunId, key: str, size: int) -> list[Mark]:
    found, after = [], None
    while True:
        part, after = ws.tracking.marks(run, key, limit=size, after=after)
        found += part
        if after is None:
            return found


@pytest.mark.parametrize("batch", [1, 7, DIRECT, 700])
def test_tails_and_blocks_are_one_history(both: Workspace, run: RunId, batch: int) -> None:
    many = [(1_000 * n, n, math.nan if n % 50 == 3 else n / 7) for n in range(1_500 if batch > 1 else 600)]
    for start in range(0, len(many), batch):
        both.tracking.log(run, marks={"m": many[start : start + batch], "other": [(start, start, 1.0)]})
    for size in (1_000, 97):
        assert named(paged(both, run, "m", size)) == named(many)
    latest = both.tracking.data(run).metrics["m"]
    assert (latest.step, latest.at) == (many[-1][1], many[-1][0])


def test_points_in_any_order_and_repeated_are_stored_once_and_read_in_order(both: Workspace, run: RunId) -> None:
    chance = random.Random(7)
    many = [(chance.randrange(400), chance.randrange(400), float(chance.randrange(4))) for _ in range(2_000)]
    sent = [*many, *chance.sample(many, 500)]
    for start in range(0, len(sent), 90):
        both.tracking.log(run, marks={"m": sent[start : start + 90]})
    both.tracking.log(run, marks={"m": many[:100]})
    assert paged(both, run, "m", 333) == sorted(set(many))


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.sampled_from([0.0, 1.0, math.nan, math.inf])),
       min_size=1, max_size=130), max_size=6))  # fmt: skip
def test_whatever_is_logged_a_history_is_the_sorted_set(workspace: Workspace, batches: list[list[Mark]]) -> None:
    with workspace.db.write() as tx:
        run = workspace.tracking.create_run(tx, workspace.project.id, 0, name="r", actor=Actor(name="u")).id
    for batch in batches:
        workspace.tracking.log(run, marks={"m": batch})
    wanted = {series.place(mark): mark for batch in batches for mark in batch}
    assert named(paged(workspace, run, "m", 3)) == named([wanted[name] for name in sorted(wanted)])
    if wanted:
        last = max(wanted.values(), key=series.rank)
        latest = workspace.tracking.data(run).metrics["m"]
        assert named([(latest.at, latest.step, latest.value)]) == named([last])


@pytest.mark.parametrize("same", ["time", "step", "neither"])
def test_a_page_opens_few_blocks(both: Workspace, run: RunId, monkeypatch: pytest.MonkeyPatch, same: str) -> None:
    many = [(0 if same == "time" else n, 0 if same == "step" else n, n / 7) for n in range(10_000)]
    for start in range(0, len(many), 500):
        both.tracking.log(run, marks={"m": many[start : start + 500]})
    opened: list[int] = []
    whole = series.marks
    monkeypatch.setattr(series, "marks", lambda data: (opened.append(1), whole(data))[1])
    found, after = both.tracking.marks(run, "m", limit=400)
    assert len(opened) <= 5
    for _ in range(20):
        opened.clear()
        part, after = both.tracking.marks(run, "m", limit=400, after=after)
        assert len(opened) <= 6
        found += part
    assert found == many[: 21 * 400]


def test_a_sampled_curve_keeps_its_extremes(both: Workspace, run: RunId) -> None:
    many = [(n, n, math.sin(n / 50)) for n in range(5_000)]
    many[1_234] = (1_234, 1_234, 99.0)
    many[4_001] = (4_001, 4_001, -99.0)
    many[17] = (17, 17, math.nan)
    both.tracking.log(run, marks={"m": many})
    found = both.tracking.sample(run, "m", limit=100)
    assert len(found) <= 100
    assert [p.step for p in found] == sorted({p.step for p in found})
    assert {p.value for p in found} >= {99.0, -99.0}
    assert (found[0].step, found[-1].step) == (0, 4_999)
    part = both.tracking.sample(run, "m", limit=100, start=1_200, end=1_300)
    assert (part[0].step, part[-1].step) == (1_200, 1_300)
    assert 99.0 in {p.value for p in part}
    assert [p.step for p in both.tracking.sample(run, "m", limit=1)] == [4_999]
    assert both.tracking.sample(run, "nope", limit=10) == []


def test_many_clients_share_a_commit_and_one_that_is_refused_is_undone_alone(both: Workspace, run: RunId) -> None:
    writer = GroupWriter(both.db)
    both.tracking.log(run, params={"a": "1"})
    gate = threading.Event()
    held = writer.submit(lambda tx: gate.wait(10))  # what follows waits, and is written together

    def logs(n: int) -> Callable[..., object]:
        params = {"a": "2"} if n % 10 == 5 else None
        points = [Point(key="m", value=n, at=n, step=n), Point(key=f"only{n}", value=1, at=0)]
        return lambda tx: both.tracking.log(run, points=points, params=params, tx=tx, locked=True)

    futures = [writer.submit(logs(n), lock=lock_of(run)) for n in range(40)]
    gate.set()
    assert held.result(10)
    for n, future in enumerate(futures):
        if n % 10 == 5:
            with pytest.raises(ParamChanged):
                future.result(10)
        else:
            future.result(10)
    data = both.tracking.data(run)
    assert set(data.metrics) == {"m", *(f"only{n}" for n in range(40) if n % 10 != 5)}
    assert [p.step for p in both.tracking.history(run, "m").items] == [n for n in range(40) if n % 10 != 5]
    writer.close()
    with pytest.raises(WriterClosed):
        writer.submit(lambda tx: None)


class NoRoom:
    """The first commits fail."""

    def __init__(self, times: int) -> None:
        self.left = times

    def at(self, name: str) -> None:
        if name == "db.commit" and self.left:
            self.left -= 1
            raise DiskFull("the disk")


def test_a_commit_that_fails_is_told_to_everybody_and_nothing_is_written(workspace: Workspace, clock) -> None:
    with workspace.db.write() as tx:
        run = workspace.tracking.create_run(tx, workspace.project.id, 0, name="r", actor=Actor(name="u")).id
    db = Database(workspace.db.url, clock, NoRoom(1))
    writer = GroupWriter(db)
    gate = threading.Event()

    def log(key: str) -> Callable[..., object]:
        return lambda tx: gate.wait(10) and workspace.tracking.log(run, tags={key: "x"}, tx=tx, locked=True)

    futures = [writer.submit(log(f"lost{n}")) for n in range(3)]
    gate.set()
    told = [future.exception(10) for future in futures]
    assert isinstance(told[0], DiskFull)
    assert writer.submit(log("kept")).result(10)
    lost = {f"lost{n}" for n, error in enumerate(told) if error is not None}
    assert set(workspace.tracking.data(run).tags) == {"kept", "lost1", "lost2"} - lost
    writer.close()
    db.close()


def test_points_of_many_clients_are_written_at_once_and_each_hears_of_its_own(both: Workspace, actor: Actor) -> None:
    with both.db.write() as tx:
        runs = [both.tracking.create_run(tx, both.project.id, 0, name="r", actor=actor).id for _ in range(4)]
    both.tracking.delete_run(runs[3], actor=actor)
    said = [Said(runs[n % 3], both.project.id, {"m": [(n, n, float(n))], f"own{n}": [(0, 0, 1.0)]}) for n in range(30)]
    bad = [
        Said(runs[3], both.project.id, {"m": [(0, 0, 1.0)]}),
        Said(RunId("0" * 32), both.project.id, {"m": [(0, 0, 1.0)]}),
        Said(runs[0], both.project.id, {"../m": [(0, 0, 1.0)]}),
        Said(runs[0], both.project.id, {"m": [(0, 2**63, 1.0)], "torn": [(0, 0, 1.0)]}),
        Said(runs[0], ProjectId(10**6), {"m": [(0, 0, 99.0)]}),
        Said(runs[0], both.project.id, {"m": [(0, 0, 0.0)]}),  # is there already
    ]
    with both.db.write() as tx:
        told = both.tracking.log_together(tx, [*said, *bad])
    kinds = [RunDeleted, RunNotFound, KeyInvalid, KeyInvalid, RunNotFound, type(None)]
    assert told[:30] == [None] * 30
    assert [type(error) for error in told[30:]] == kinds
    for number, run in enumerate(runs[:3]):
        assert [p.step for p in both.tracking.history(run, "m").items] == list(range(number, 30, 3))
        assert set(both.tracking.data(run).metrics) == {"m", *(f"own{n}" for n in range(number, 30, 3))}


def test_what_breaks_the_others_transaction_is_found_and_undone_alone(both: Workspace, run: RunId) -> None:
    writer = GroupWriter(both.db)
    gate = threading.Event()
    held = writer.submit(lambda tx: gate.wait(10))

    def together(tx, items):
        for item in items:
            both.tracking.log(run, tags={item: "x"}, tx=tx, locked=True)
            if item == "bad":
                tx.conn.exec_driver_sql("SELECT nothing FROM nowhere")
        return [None] * len(items)

    futures = {item: writer.submit_item(together, item) for item in ("a", "bad", "b")}
    gate.set()
    assert held.result(10)
    assert futures["a"].result(10) is futures["b"].result(10) is None
    with pytest.raises(Exception, match="nowhere"):
        futures["bad"].result(10)
    assert set(both.tracking.data(run).tags) == {"a", "b"}
    writer.close()
