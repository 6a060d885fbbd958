"""The loop in this process, with a stand-in for the supervisor: event time, its days, and what comes of them."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from looped_shop import (
    ENDPOINT,
    ME,
    START_MS,
    Traffic,
    copied,
    declare,
    good,
    level,
    serve,
    world,
)
from sqlalchemy import select

import noria as nr
import waiting
from noria import workspace as workspaces
from noria.assets.errors import ClockBackwards
from noria.assets.records import RunState
from noria.assets.retention import DEFAULTS, PRUNE
from noria.assets.service import RUN_LEASE
from noria.base.clock import SystemClock
from noria.base.errors import Conflict, Invalid
from noria.base.times import DAY, HOUR, to_datetime, to_text
from noria.delivery.records import JOB, CandidateState
from noria.server.loop import COLLECT, GC, LEASE, Loop, NoScheduler
from noria.serving.records import DeploymentState
from noria.testing import ManualClock
from noria.tracking.tables import bundles
from noria.workspace import Workspace

WAIT = 60


class LoadingLoop(Loop):
    """Its workers load everything that they are told to."""

    def _supervisor(self, op: str) -> dict[str, Any] | None:
        ws = self._ws
        if op == "sync":
            for found in ws.serving.plan().deployments:
                if found.state == DeploymentState.STARTING:
                    ws.serving.mark(found.id, DeploymentState.READY)
        return {"routed": {n: r.number for n, r in ws.serving.plan().routings.items()}}


@pytest.fixture
def loop(shop: Workspace) -> Iterator[LoadingLoop]:
    """Not started: its verbs are called by the test."""
    made = LoadingLoop(shop)
    yield made
    shop.jobs.release_lease(LEASE)


until = partial(waiting.until, seconds=WAIT)


def tell(ws: Workspace, day: int, count: int = 30) -> None:
    """Orders and their outcomes of a day of the replay."""
    for name, frame in world(to_datetime(START_MS + day * DAY), 1, count, day, f"l{day}-").items():
        ws.data.append(ws.data.get(ws.project.id, name), frame, actor=ME)


# ---- event time


def test_event_time_moves_over_days_once_and_never_back(shop: Workspace, loop: LoadingLoop) -> None:
    assert loop.advance(START_MS) == {"watermark": to_text(START_MS), "days": 0}
    seen: list[int] = []
    boundary = loop.boundary

    def count() -> None:
        seen.append(shop.event_clock.event_ms(shop.project.id))
        boundary()

    loop.boundary = count  # type: ignore[method-assign]
    to = START_MS + 3 * DAY + 5 * HOUR
    assert loop.advance(to) == {"watermark": to_text(to), "days": 3}
    assert seen == [START_MS + n * DAY for n in (1, 2, 3)]  # each day is processed at its end
    assert loop.advance(to) == {"watermark": to_text(to), "days": 0}
    assert loop.advance(to + HOUR)["days"] == 0
    with pytest.raises(ClockBackwards):
        loop.advance(to)
    with pytest.raises(ClockBackwards):
        loop.advance(START_MS)
    assert shop.event_clock.event_ms(shop.project.id) == to + HOUR
    assert shop.days.processed() == START_MS + 3 * DAY
    assert len(seen) == 3


def test_a_replay_begins_where_it_is_put_first(tmp_path: Path, clock: ManualClock) -> None:
    (tmp_path / "new").mkdir()
    with workspaces.init(tmp_path / "new", clock=clock, environment={}) as ws:
        loop = LoadingLoop(ws)
        assert ws.event_clock.mode(ws.project.id) == "wall"
        assert loop.advance(START_MS + HOUR)["days"] == 0
        assert ws.event_clock.mode(ws.project.id) == "replay"
        assert ws.days.processed() == START_MS
        assert loop.advance(START_MS + 2 * DAY)["days"] == 2


def test_with_the_wall_clock_the_days_of_a_long_sleep_are_processed_together(
    tmp_path: Path, clock: ManualClock
) -> None:
    (tmp_path / "new").mkdir()
    with workspaces.init(tmp_path / "new", clock=clock, environment={}) as ws:
        loop = LoadingLoop(ws)
        days: list[int] = []
        loop.boundary = lambda: days.append(ws.event_clock.event_ms(ws.project.id))  # type: ignore[method-assign]
        loop._turn()
        assert (days, ws.days.processed()) == ([], clock.now_ms() // DAY * DAY)
        clock.tick(30 * DAY + HOUR)
        loop._held = True  # the lease ran out long ago; the keeper would have renewed it
        for _ in range(60):
            loop._turn()
        assert days == [clock.now_ms()]
        assert ws.days.processed() == clock.now_ms() // DAY * DAY
        assert ws.event_clock.mode(ws.project.id) == "wall"


def test_a_day_that_could_not_be_processed_is_processed_again(
    shop: Workspace, loop: LoadingLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion = serve(shop)
    loop.advance(START_MS)
    Traffic(shop).capture(*_a_day(), {champion.id: level})
    whole = shop.monitoring.process
    monkeypatch.setattr(shop.monitoring, "process", lambda name: (_ for _ in ()).throw(Conflict("the disk is full")))
    with pytest.raises(Conflict, match="disk"):
        loop.advance(START_MS + 2 * DAY)
    assert shop.days.processed() == START_MS
    assert shop.monitoring.windows(ENDPOINT) == []
    monkeypatch.setattr(shop.monitoring, "process", whole)
    assert loop.advance(START_MS + 2 * DAY)["days"] == 2
    assert [w.n for w in shop.monitoring.windows(ENDPOINT)] == [80]


def _a_day() -> tuple[Any, Any]:
    frames = world(to_datetime(START_MS), 1, 80, 4, "x")
    return frames["orders"], frames["outcomes"]["back"].to_numpy()


def test_only_one_loop_works_on_a_workspace(shop: Workspace, loop: LoadingLoop) -> None:
    loop.advance(START_MS)
    with copied(shop.home.parent, shop.home.parent) as same:
        other = LoadingLoop(same)
        with pytest.raises(NoScheduler):
            other.advance(START_MS + DAY)
        other._turn()  # it waits
        assert other.state["turns"] == 0
        shop.jobs.release_lease(LEASE)
        assert other.advance(START_MS + DAY)["days"] == 1
        same.jobs.release_lease(LEASE)


# ---- what comes of a day


def test_a_training_that_a_trigger_starts_runs_to_its_end_within_the_day(shop: Workspace, loop: LoadingLoop) -> None:
    champion = serve(shop)
    budget = {"runs": 9, "per": "30d", "pause": "0s"}
    declare(shop, retrain=[{"kind": "new_rows", "value": 60, "schedule": "", "window": "7d"}], budget=budget)
    loop.advance(START_MS)
    for day in range(4):
        tell(shop, day)
    assert loop.advance(START_MS + DAY)["days"] == 1  # the count begins
    assert shop.delivery.candidates() == []
    for day in range(4, 7):
        tell(shop, day)
    assert loop.advance(START_MS + 2 * DAY)["days"] == 1
    (candidate,) = shop.delivery.candidates()
    assert (candidate.state, candidate.number, candidate.opened) == (CandidateState.RELEASING, 4, START_MS + 2 * DAY)
    (rollout,) = shop.delivery.open_rollouts(ENDPOINT)
    assert rollout.phase.value == "shadow"
    roles = {a.deployment: a.role for a in shop.serving.status(ENDPOINT).routing.arms}
    assert roles == {champion.id: "champion", rollout.deployment: "shadow"}
    assert shop.jobs.open_count() == 0


def test_captures_of_the_day_are_taken_and_a_release_goes_on_with_it(shop: Workspace, loop: LoadingLoop) -> None:
    champion = serve(shop)
    loop.advance(START_MS)
    shop.delivery.release(shop.registry.version(shop.project.id, "tree", 2), actor=ME)
    loop.settle()
    (rollout,) = shop.delivery.open_rollouts(ENDPOINT)
    Traffic(shop).capture(*_a_day(), {champion.id: level, rollout.deployment: good})
    loop.advance(START_MS + DAY)
    assert {w.deployment: w.n for w in shop.monitoring.windows(ENDPOINT)} == {champion.id: 80, rollout.deployment: 80}
    (rollout,) = shop.delivery.open_rollouts(ENDPOINT)
    assert (rollout.phase.value, rollout.step) == ("canary", 0)


def test_once_a_month_an_answer_is_traced_and_a_failure_of_that_stops_nothing(
    shop: Workspace, loop: LoadingLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(shop)
    proved: list[str] = []

    def prove(name: str, **_: Any) -> None:
        proved.append(f"{name} {to_text(shop.event_clock.event_ms(shop.project.id))}")
        raise Conflict("no predictions yet")

    monkeypatch.setattr(shop.trace, "prove", prove)
    loop.advance(START_MS)
    assert loop.advance(START_MS + 9 * DAY)["days"] == 9
    assert proved == [f"{ENDPOINT} 2013-02-01T00:00:00Z"]


# ---- once a day of wall time


def test_points_of_runs_that_ended_are_folded_by_a_turn(shop: Workspace, loop: LoadingLoop) -> None:
    with shop.db.write() as tx:
        run = shop.tracking.create_run(tx, shop.project.id, 0, name="r", actor=ME).id
    shop.tracking.log(run, marks={"m": [(1, 1, 0.5), (2, 2, 0.25)]})
    shop.tracking.update_run(run, state=RunState.FAILED, ended_at=3)
    loop._turn()
    at = shop.tracking.tracked(run)
    assert at is not None
    with shop.db.read() as conn:
        assert conn.execute(select(bundles.c.count).where(bundles.c.run_no == at.no)).scalars().all() == [2]
    assert [p.value for p in shop.tracking.history(run, "m").items] == [0.5, 0.25]


def test_what_is_older_than_its_retention_is_pruned_once_a_day_by_a_job(template: Path, tmp_path: Path) -> None:
    clock = ManualClock("2030-01-01T00:00:00Z")
    with copied(template, tmp_path / "shop", clock=clock) as ws:
        champion = serve(ws)
        Traffic(ws).capture(*_a_day(), {champion.id: level})
        ws.ingest.take(actor=ME)
        run = ws.assets.list_runs(ws.project.id, kinds=["step"]).items[0]
        logs = {name: ws.home / "logs" / name for name in (f"runs/{run.id}.log", "runs/unknown.log", "supervisor.log")}
        for path in logs.values():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("said\n")
            os.utime(path, (clock.now_ms() / 1000,) * 2)
        loop = held(LoadingLoop(ws))
        loop._turn()
        (job,) = ws.jobs.list(ws.project.id, kinds=[PRUNE])
        assert job.state.value == "done"
        assert job.result is not None
        assert set(job.result["removed"]) == set(DEFAULTS)
        assert (job.result["removed"]["segments"], job.result["removed"]["logs"]) == (0, 0)  # a week, a month
        for _ in range(3):
            loop._turn()
        clock.tick(7 * DAY)
        held(loop)._turn()
        (job, _) = ws.jobs.list(ws.project.id, kinds=[PRUNE])
        assert job.result is not None
        assert (job.result["removed"]["segments"], job.result["removed"]["logs"]) == (1, 0)
        assert list(ws.serving.capture_folder.glob("*.seg")) == []
        held(LoadingLoop(ws))._turn()  # a server that is started anew on the same day
        assert len(ws.jobs.list(ws.project.id, kinds=[PRUNE])) == 2
        with ws.db.write() as tx:
            ws.retention.set(tx, ws.project.id, "logs", 8 * DAY)
        clock.tick(DAY)
        assert ws.deliveries.waiting() == 0
        held(loop)._turn()
        assert len(ws.jobs.list(ws.project.id, kinds=[PRUNE])) == 3
        assert [n for n, path in logs.items() if path.exists()] == ["supervisor.log"]
        assert logs["supervisor.log"].read_text() == ""  # its process has it open
        clock.tick(31 * DAY)
        held(loop)._turn()
        assert len(ws.jobs.list(ws.project.id, kinds=[PRUNE])) == 1  # of the jobs themselves
        assert ws.assets.list_events(ws.project.id, types=["commit.created"]) == []
        assert ws.verify() == []


def held(loop: LoadingLoop) -> LoadingLoop:
    """With the lease, which its keeper would have renewed."""
    loop._held = True
    return loop


# ---- life


def test_others_ask_it_and_get_its_answer_or_its_error(shop: Workspace) -> None:
    loop = LoadingLoop(shop)
    loop.start()
    try:
        assert loop.call(lambda: threading.current_thread().name) == "loop"
        with pytest.raises(Conflict, match="no such thing"):
            loop.call(lambda: (_ for _ in ()).throw(Conflict("no such thing")))
        assert loop.call(lambda: 7) == 7
    finally:
        loop.stop()
    assert not shop.jobs.held(LEASE)
    with pytest.raises(Conflict, match="stopping"):
        loop.call(lambda: 8)


def test_turns_do_what_is_due_and_errors_do_not_end_it(shop: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    serve(shop)
    loop = LoadingLoop(shop)
    failures = iter([RuntimeError("a bug"), Conflict("in the way")])
    whole = shop.deliveries.run_due

    def run_due(handlers: Any, **more: Any) -> Any:
        error = next(failures, None)
        if error is not None:
            raise error
        return whole(handlers, **more)

    shop.deliveries.run_due = run_due  # type: ignore[method-assign]
    made = shop.delivery.release(shop.registry.version(shop.project.id, "tree", 2), actor=ME)
    loop.start()
    try:
        until(lambda: shop.delivery.open_rollouts(ENDPOINT), "the release begins")
        until(lambda: shop.delivery.open_rollouts(ENDPOINT)[0].phase.value == "shadow", "it is loaded")
    finally:
        loop.stop()
    assert shop.delivery.candidate(made.id).state == CandidateState.RELEASING
    assert "a bug" in caplog.text
    assert "in the way" in caplog.text


WAITING = """\
import pathlib, time
import noria as nr


@nr.dataset
def slow():
    pathlib.Path(BEGAN).touch()
    while True:
        time.sleep(0.02)
"""


def test_under_a_running_server_a_killed_run_is_seen_within_its_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noria.server.loop.LEASE_MS", 300)  # it looks ten times in a second
    root = tmp_path / "waits"
    root.mkdir()
    (root / "waits.py").write_text(WAITING.replace("BEGAN", repr(str(root / "began"))))
    (root / "noria.toml").write_text('name = "waits"\nmodules = ["waits"]\nexecutor = "process"\n')
    workspaces.init(root, environment={}).close()
    clock = ManualClock(to_text(SystemClock().now_ms()))
    asked = [sys.executable, "-m", "noria", "run", "slow", "--workspace", str(root)]
    with workspaces.connect(root, clock=clock) as ws:
        loop = LoadingLoop(ws)
        loop.start()
        process = subprocess.Popen(asked, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            until((root / "began").exists, "the step begins")
            runs = ws.assets.list_runs(ws.project.id).items
            assert {(r.kind, r.state.value) for r in runs} == {("pipeline", "running"), ("step", "running")}
            process.kill()
            process.wait()
            clock.tick(2 * RUN_LEASE)
            ids = [r.id for r in runs]
            until(lambda: {r.state.value for r in ws.assets.runs_by_ids(ids).values()} == {"lost"}, "both are lost")
        finally:
            process.kill()
            process.wait()
            loop.stop()


CLAIM = """
import os, sys
from noria.workspace import connect
ws = connect(sys.argv[1])
with ws.db.write() as tx:
    ws.jobs.add(tx, ws.project.id, "prune", {}, unique="prune")
assert ws.jobs.claim(["prune"]) is not None
os._exit(9)
"""


def test_under_a_running_server_the_job_of_a_dead_process_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noria.server.loop.LEASE_MS", 300)
    (tmp_path / "new").mkdir()
    clock = ManualClock(to_text(SystemClock().now_ms()))
    with workspaces.init(tmp_path / "new", clock=clock, environment={}) as ws:
        loop = LoadingLoop(ws)
        loop._queued_at = {PRUNE: clock.now_ms(), GC: clock.now_ms()}  # it adds none of its own
        loop.start()
        try:
            done = subprocess.run([sys.executable, "-c", CLAIM, str(tmp_path / "new")], check=False)
            assert done.returncode == 9

            def is_done() -> bool:
                clock.tick(1)  # by far not as long as a lease
                return [j.state.value for j in ws.jobs.list(ws.project.id)] == ["done"]

            until(is_done, "it is done")
        finally:
            loop.stop()


SLOW = """
    import os, pathlib, time
    trap = pathlib.Path({trap!r})
    (trap.parent / f"training-{{os.getpid()}}").touch()
    while trap.exists():
        time.sleep(0.02)
    return"""


def slow_code(ws: Workspace, trap: Path) -> None:
    """From now on a training waits while ``trap`` exists; applied as an edited project."""
    (module,) = ws.home.parent.glob("looped_*.py")
    text = module.read_text()
    module.write_text(text.replace("\n    return LGBM", SLOW.format(trap=str(trap)) + " LGBM"))
    ws.delivery.apply(actor=ME)


def test_stopping_gives_a_training_up_and_leaves_it_to_the_next_loop(shop: Workspace, tmp_path: Path) -> None:
    """Who takes it on is in test_up.py."""
    serve(shop)
    (tmp_path / "trap").touch()
    slow_code(shop, tmp_path / "trap")
    candidate = shop.delivery.train("tree", actor=ME, params={"leaves": 7})
    loop = LoadingLoop(shop)
    loop.start()
    until(lambda: list(tmp_path.glob("training-*")), "the training begins")
    loop.stop()
    assert shop.delivery.candidate(candidate.id).state == CandidateState.TRAINING
    (job,) = shop.jobs.list(shop.project.id, kinds=[JOB])
    assert job.state.value == "waiting"
    assert shop.delivery.candidate(candidate.id).error is None


def test_a_source_that_says_how_often_is_collected_without_the_project_s_code(
    project: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = tmp_path / "shop.db"
    with sqlite3.connect(database) as shop:
        shop.execute("CREATE TABLE orders (id INTEGER, n INTEGER)")
        shop.execute("INSERT INTO orders VALUES (1, 10)")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text("id,n\n1,1\n")
    text = """
import noria as nr

orders = nr.source("orders", sql="SELECT * FROM orders", url=nr.secret("SHOP_DB"), watermark="id", key="id", every="1h")
files = nr.source("files", files="in/*.csv", key="id", every="day at 18:00 UTC")
posted = nr.source("posted", key="id", every="1m")
"""
    monkeypatch.setenv("SHOP_DB", f"sqlite:///{database}")
    made = project({"shop.py": text})
    made.pipelines.apply(actor=ME)
    made.close()
    (tmp_path / "shop.py").write_text("raise AssertionError('a server imports no code of the project')")
    clock = ManualClock("2030-01-01T12:00:00Z")
    with workspaces.connect(tmp_path, clock=clock, environment=os.environ) as ws:
        loop = held(LoadingLoop(ws))

        def rows(name: str) -> int:
            found = ws.data.get(ws.project.id, name)
            return 0 if ws.data.head(found) is None else len(ws.data.read(found))

        loop._turn()
        assert (rows("orders"), rows("files")) == (1, 1)
        with sqlite3.connect(database) as shop:
            shop.execute("INSERT INTO orders VALUES (2, 20)")
        (tmp_path / "in" / "b.csv").write_text("id,n\n2,2\n")
        clock.tick(59 * 60_000)
        held(loop)._turn()
        assert (rows("orders"), rows("files")) == (1, 1)
        clock.tick(60_000)
        held(LoadingLoop(ws))._turn()  # a server that was started anew knows when it was last
        assert (rows("orders"), rows("files")) == (2, 1)
        clock.tick(5 * 3_600_000)
        held(loop)._turn()
        assert rows("files") == 2
        jobs = ws.jobs.list(ws.project.id, kinds=[COLLECT])
        assert {j.state.value for j in jobs} == {"done"}
        assert {j.payload["source"] for j in jobs} == {"orders", "files"}
        (tmp_path / "in" / "c.csv").write_text("n\n3\n")  # without its key
        clock.tick(DAY)
        held(loop)._turn()
        failed = [j for j in ws.jobs.list(ws.project.id, kinds=[COLLECT]) if j.state.value == "failed"]
        assert [j.payload["source"] for j in failed] == ["files"]
        assert failed[0].error is not None
        assert "c.csv" in failed[0].error["message"]
        ws.jobs.release_lease(LEASE)


@pytest.mark.parametrize("every", ["often", "0s", "1ms", "* * *"])
def test_a_schedule_that_is_none_is_said_where_it_is_declared(every: str) -> None:
    with pytest.raises(Invalid):
        nr.source("x", files="*.csv", every=every)
