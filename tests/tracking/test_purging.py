"""Deletion for good: everything that belongs to a run goes, in steps that may be interrupted anywhere."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from noria.assets import tables as at
from noria.assets.errors import RunNotFound
from noria.assets.records import AssetKind, Content, Direction, RunState
from noria.base.actor import Actor
from noria.base.digest import Digest
from noria.base.errors import Invalid, NotFound
from noria.base.ids import RunId
from noria.base.times import DAY
from noria.registry.tables import model_versions, registered_models
from noria.testing import ManualClock
from noria.tracking import tables as t
from noria.tracking.errors import NotInBin, RunDeleted, RunPurged, RunUnended
from noria.tracking.records import Dataset, DatasetInput, Owner, OwnerKind, Point
from noria.tracking.service import purging
from noria.workspace import Workspace, connect, init

TABLES = (t.params, t.tags, t.latest, t.tail, t.bundles, t.blocks, t.inputs, t.artifacts, t.tracked_runs, t.purged_runs)


def said(ws: Workspace, actor: Actor, experiment: str = "e", points: int = 700, file: bytes = b"x" * 9_000) -> RunId:
    """A run with some of everything."""
    with ws.db.write() as tx:
        at = ws.tracking.ensure_experiment(tx, ws.project.id, experiment)
        run = ws.tracking.create_run(tx, ws.project.id, at, name="r", actor=actor, tags={"a": "1"}).id
    many = [Point(key="m", value=float(n), at=n, step=n) for n in range(points)]
    ws.tracking.log(run, params={"p": "1", "q": "2"}, points=[*many, Point(key="k", value=1.0, at=1)])
    data = Dataset(name="d", digest="1", source_type="local", source="{}")
    ws.tracking.log_inputs(run, [DatasetInput(dataset=data)])
    ws.tracking.put_artifact(Owner(OwnerKind.RUN, run), "model/a.bin", file, project_id=ws.project.id)
    ws.tracking.put_artifact(Owner(OwnerKind.RUN, run), "note.txt", b"small", project_id=ws.project.id)
    return run


def rows(ws: Workspace) -> dict[str, int]:
    with ws.db.read() as conn:
        return {
            table.name: conn.execute(select(func.count()).select_from(table)).scalar_one()
            for table in (*TABLES, at.runs)
        }


def binned(ws: Workspace, actor: Actor, *ids: RunId) -> None:
    ws.tracking.delete_runs(ws.project.id, ids, actor=actor)


def test_a_dry_run_counts_and_changes_nothing(both: Workspace, actor: Actor) -> None:
    runs = [said(both, actor) for _ in range(3)]
    binned(both, actor, *runs[:2])
    before, audit = rows(both), both.audit.list(both.project.id, limit=1000).items
    found = both.tracking.purge(both.project.id, actor=actor)
    assert (found.dry_run, found.runs, found.kept, found.unended, found.experiments) == (True, 2, 0, 0, 0)
    assert found.rows == {
        "points": 1_402, "metrics": 4, "parameters": 4, "tags": 2, "datasets read": 2, "files": 4, "traces": 0,
        "links of traces": 0, "marks of imports": 0, "measured metrics": 0, "links of models": 0, "logged models": 0,
    }  # fmt: skip
    assert found.size > 2 * 9_000
    assert rows(both) == before
    assert both.audit.list(both.project.id, limit=1000).items == audit


def test_what_a_run_said_goes_and_the_others_stay(both: Workspace, actor: Actor) -> None:
    stays, goes = said(both, actor), [said(both, actor) for _ in range(2)]
    before = rows(both)
    history = both.tracking.history(stays, "m", limit=1_000).items
    binned(both, actor, *goes)
    done = both.tracking.purge(both.project.id, dry_run=False, actor=actor)
    assert (done.dry_run, done.runs, done.kept, done.rows["points"], done.rows["files"]) == (False, 2, 0, 1_402, 4)
    after = rows(both)
    assert {name: count * 3 for name, count in after.items()} == before
    assert both.tracking.history(stays, "m", limit=1_000).items == history
    for gone in goes:
        with pytest.raises(RunNotFound):
            both.assets.run(gone)
        with pytest.raises(RunNotFound):
            both.tracking.log(gone, params={"b": "1"})
    verbs = {entry.verb for entry in both.audit.list(both.project.id, limit=20).items}
    assert verbs >= {"tracking.purge", "tracking.purged"}
    assert both.audit.verify(both.project.id) == []
    assert both.verify() == []
    assert both.tracking.purge(both.project.id, dry_run=False, actor=actor).runs == 0


def test_content_of_purged_runs_is_garbage_and_what_others_hold_is_not(workspace: Workspace, actor: Actor) -> None:
    a, b = said(workspace, actor, file=os.urandom(80_000)), said(workspace, actor, file=b"shared" * 9_000)
    c = said(workspace, actor, file=b"shared" * 9_000)
    binned(workspace, actor, a, b)
    workspace.tracking.purge(workspace.project.id, dry_run=False, actor=actor)
    workspace.care.collect(dry_run=False, actor=actor)
    workspace.care.collect(dry_run=False, actor=actor)
    owner = Owner(OwnerKind.RUN, c)
    with workspace.tracking.open_artifact(workspace.tracking.artifact(owner, "model/a.bin")) as file:
        assert file.read() == b"shared" * 9_000
    assert workspace.verify(data=True) == []
    assert workspace.care.collect(dry_run=True, actor=actor).dead_bytes == 0


def test_a_run_that_the_graph_needs_stays_as_a_tombstone(both: Workspace, actor: Actor) -> None:
    ws = both
    needed, free = said(ws, actor), said(ws, actor)
    with ws.db.write() as tx:
        asset = ws.assets.define(tx, ws.project.id, "made", AssetKind.DATASET)
        digest = Digest.of(b"1")
        version = ws.assets.add_version(tx, asset.id, digest=digest, content=Content.JSON, layout=digest, size=1)
        ws.assets.link(tx, needed, version.id, Direction.OUT)
    binned(ws, actor, needed, free)
    assert ws.tracking.purge(ws.project.id, actor=actor).kept == 1
    done = ws.tracking.purge(ws.project.id, dry_run=False, actor=actor)
    assert (done.runs, done.kept) == (2, 1)
    assert ws.tracking.data(needed).params == {}
    found = ws.tracking.tombstone(needed)
    assert found is not None
    assert (found.done, found.actor) == (True, actor.name)
    assert ws.tracking.tombstone(free) is None
    assert [edge.version_id for edge in ws.assets.edges(needed)] == [version.id]
    with pytest.raises(RunPurged):
        ws.tracking.delete_run(needed, actor=actor, restore=True)
    with pytest.raises(RunPurged):
        ws.tracking.delete_runs(ws.project.id, [needed], actor=actor, restore=True)
    with pytest.raises(RunDeleted):
        ws.tracking.log(needed, params={"b": "1"})
    assert ws.tracking.purge(ws.project.id, dry_run=False, actor=actor).runs == 0


def test_logged_models_and_traces_go_with_their_run_unless_a_registered_model_is_loaded_from_them(
    both: Workspace, actor: Actor
) -> None:
    ws, track, project = both, both.tracking, both.project.id
    held, free = said(ws, actor), said(ws, actor)
    made: dict[RunId, str] = {}
    for run in (held, free):
        experiment = track.experiment(project, "e")
        model = track.create_logged_model(project, experiment.id, name="m", source_run=run, actor=actor)
        track.put_artifact(Owner(OwnerKind.MODEL, model.id), "MLmodel", b"m" * 9_000, project_id=project)
        track.log_model_params(project, model.id, {"p": "1"})
        made[run] = model.id
    with ws.db.write() as tx:
        model_id = tx.insert(
            registered_models,
            {"project_id": project, "name": "r", "description": "", "created_at": 1, "updated_at": 1},
        )
        row = {"model_id": model_id, "number": 1, "source": "", "status": "ready", "description": ""}
        tx.insert(model_versions, {**row, "logged_model": made[held], "created_at": 1, "updated_at": 1})
    binned(ws, actor, held, free)
    done = track.purge(project, dry_run=False, actor=actor)
    assert (done.runs, done.rows["logged models"], done.rows["files"]) == (2, 1, 2)
    assert track.artifact(Owner(OwnerKind.MODEL, made[held]), "MLmodel").size == 9_000
    assert track.artifact(Owner(OwnerKind.RUN, held), "model/a.bin").size == 9_000
    assert track.all_artifacts(Owner(OwnerKind.MODEL, made[free])).items == []
    assert track.logged_model(project, made[held]).params == {"p": "1"}
    with pytest.raises(NotFound):
        track.logged_model(project, made[free])
    assert ws.verify() == []


def test_parents_go_with_their_children_and_stay_for_those_that_stay(both: Workspace, actor: Actor) -> None:
    ws, made = both, list[RunId]()
    with ws.db.write() as tx:
        for parent in (None, 0, 0, None, 3):
            above = None if parent is None else made[parent]
            run = ws.assets.start_run(
                tx, ws.project.id, kind="sweep", name="s", actor=actor, parent_id=above, leased=False
            )
            made.append(run.id)
    binned(ws, actor, *made[:4])
    done = ws.tracking.purge(ws.project.id, dry_run=False, actor=actor)
    assert (done.runs, done.kept) == (4, 1)
    assert ws.assets.run(made[3]).deleted_at is not None
    assert ws.assets.run(made[4]).parent_id == made[3]
    with pytest.raises(RunNotFound):
        ws.assets.run(made[0])


def test_runs_are_chosen_by_name_experiment_filter_and_age(both: Workspace, actor: Actor, clock: ManualClock) -> None:
    ws, track, project = both, both.tracking, both.project.id
    old, new, other, alive = (said(ws, actor, name) for name in ("e", "e", "f", "e"))
    track.tag_run(project, other, {"kind": "odd"}, actor=actor)
    binned(ws, actor, old)
    clock.tick(40 * DAY)
    binned(ws, actor, new, other)

    def counted(**asked: Any) -> int:
        return track.purge(project, actor=actor, **asked).runs

    assert counted() == 3
    assert counted(older_than=30 * DAY) == 1
    assert counted(experiment="e") == 2
    assert counted(text='tags.kind = "odd"') == 1
    assert counted(experiment="e", text='tags.kind = "odd"') == 0
    assert counted(runs=[old, new]) == 2
    with pytest.raises(NotInBin):
        counted(runs=[old, alive])
    assert counted(runs=[alive], now=True) == 1
    assert counted(experiment="e", now=True) == 3
    assert counted(older_than=30 * DAY, now=True) == 4
    with pytest.raises(Invalid, match="All runs"):
        counted(now=True)
    assert track.purge_bin(project, clock.now_ms() - 30 * DAY, actor=actor) == 1
    assert {one.run.id for one in track.list_runs(project, deleted=True).items} == {new, other}


def test_the_daily_round_empties_the_bin_of_what_is_old(both: Workspace, actor: Actor, clock: ManualClock) -> None:
    run = said(both, actor)
    binned(both, actor, run)
    clock.tick(29 * DAY)
    assert both.retention.prune(both.project.id)["runs.bin"] == 0
    clock.tick(2 * DAY)
    assert both.retention.prune(both.project.id)["runs.bin"] == 1
    with pytest.raises(RunNotFound):
        both.assets.run(run)


def test_an_experiment_goes_as_a_whole(both: Workspace, actor: Actor) -> None:
    ws, track, project = both, both.tracking, both.project.id
    said(ws, actor, "whole")
    stays = said(ws, actor, "rest")
    track.tag_experiment(project, track.experiment(project, "whole").id, {"a": "1"}, actor=actor)
    assert track.purge(project, experiment="whole", actor=actor).experiments == 0
    found = track.purge(project, experiment="whole", now=True, actor=actor)
    assert (found.runs, found.experiments) == (1, 1)
    done = track.purge(project, experiment="whole", now=True, dry_run=False, actor=actor)
    assert (done.runs, done.experiments) == (1, 1)
    assert [one.name for one in track.search_experiments(project, deleted=None).items] == ["rest"]
    track.delete_experiment(project, track.experiment(project, "rest").id, actor=actor)
    assert track.purge(project, dry_run=False, actor=actor).experiments == 1
    with pytest.raises(RunNotFound):
        ws.assets.run(stays)
    assert track.create_experiment(project, "whole", actor=actor).name == "whole"


def test_a_run_that_noria_executes_is_left_alone(both: Workspace, actor: Actor) -> None:
    ws = both
    with ws.db.write() as tx:
        busy = ws.assets.start_run(tx, ws.project.id, kind="step", name="s", actor=actor).id
    binned(ws, actor, busy)
    assert ws.tracking.purge(ws.project.id, dry_run=False, actor=actor).unended == 1
    with pytest.raises(RunUnended):
        ws.tracking.purge(ws.project.id, runs=[busy], dry_run=False, actor=actor)
    with ws.db.write() as tx:
        ws.assets.end_run(tx, busy, RunState.DONE)
    assert ws.tracking.purge(ws.project.id, dry_run=False, actor=actor).runs == 1


def test_transactions_are_small_and_many_runs_go(
    both: Workspace, actor: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purging, "RUNS_AT_ONCE", 3)
    monkeypatch.setattr(purging, "ROWS_AT_ONCE", 50)
    runs = [said(both, actor, points=60) for _ in range(8)]
    binned(both, actor, *runs)
    most: list[int] = []
    for n, one in enumerate(both.tracking.belongings):

        def counting(tx: Any, doomed: Any, limit: int, one: Any = one) -> int:
            gone = one.delete(tx, doomed, limit)
            most.append(gone)
            return gone

        from dataclasses import replace

        both.tracking.belongings[n] = replace(one, delete=counting)
    assert both.tracking.purge(both.project.id, dry_run=False, actor=actor).runs == 8
    assert max(most) <= 50
    assert rows(both)["metric_tail"] == 0
    assert rows(both)["runs"] == 0


class Stop(Exception):
    pass


class StopAt:
    """Raises at the nth crash point of purging."""

    def __init__(self, nth: int) -> None:
        self.left = nth

    def at(self, point: str) -> None:
        if point.startswith(("purge.", "change.tracking.purge")):
            self.left -= 1
            if self.left == 0:
                raise Stop


def test_interrupted_anywhere_it_goes_on_with_the_same_command(
    both: Workspace, actor: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws = both
    monkeypatch.setattr(purging, "RUNS_AT_ONCE", 2)
    monkeypatch.setattr(purging, "ROWS_AT_ONCE", 40)
    stays = said(ws, actor, points=60)
    for nth in range(1, 40):
        goes = [said(ws, actor, points=60) for _ in range(3)]
        binned(ws, actor, *goes)
        faults = StopAt(nth)
        monkeypatch.setattr(ws.tracking, "_faults", faults)
        monkeypatch.setattr(ws.changes, "_faults", faults)
        try:
            ws.tracking.purge(ws.project.id, dry_run=False, actor=actor)
        except Stop:
            interrupted = True
        else:
            interrupted = False
        faults.left = -1
        assert ws.verify() == []
        for run in goes:
            if ws.tracking.tombstone(run) is not None:  # half of it may be gone: it does not come back
                with pytest.raises(RunPurged):
                    ws.tracking.delete_runs(ws.project.id, [run], actor=actor, restore=True)
        ws.tracking.purge(ws.project.id, dry_run=False, actor=actor)
        counts = rows(ws)
        assert (counts["runs"], counts["tracked_runs"], counts["purged_runs"], counts["params"]) == (1, 1, 0, 2), nth
        if not interrupted:
            break
    else:
        pytest.fail("it never came to an end")
    assert nth > 8
    assert len(ws.tracking.history(stays, "m", limit=100).items) == 60


_KILLED = """
import sys
from noria.base.actor import Actor
from noria.tracking.service import purging
from noria.workspace import connect
purging.RUNS_AT_ONCE, purging.ROWS_AT_ONCE = 2, 40
with connect(sys.argv[1]) as ws:
    ws.tracking.purge(ws.project.id, dry_run=False, actor=Actor(name="user:k"), advance=lambda n: print(n, flush=True))
"""


def test_killed_in_the_middle_it_goes_on(tmp_path: Path, actor: Actor) -> None:
    init(tmp_path).close()
    with connect(tmp_path) as ws:
        goes = [said(ws, actor, points=60) for _ in range(12)]
        binned(ws, actor, *goes)
    process = subprocess.Popen([sys.executable, "-c", _KILLED, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        process.stdout.readline()  # some are gone
        process.send_signal(signal.SIGKILL)
    process.wait()
    with connect(tmp_path) as ws:
        assert ws.verify() == []
        assert 0 < rows(ws)["runs"] <= 10
        ws.tracking.purge(ws.project.id, dry_run=False, actor=actor)
        counts = rows(ws)
        assert {name: count for name, count in counts.items() if count} == {}
        assert ws.audit.verify(ws.project.id) == []


def test_crash_points_are_reached(tmp_path: Path, actor: Actor) -> None:
    """The process dies the way kill -9 does, at each kind of point."""
    for point in ("purge.rows", "purge.runs", "change.tracking.purge", "change.tracking.purged"):
        place = tmp_path / point
        init(place).close()
        with connect(place) as ws:
            binned(ws, actor, said(ws, actor, points=60))
        done = subprocess.run(
            [sys.executable, "-c", _KILLED, str(place)], env={**os.environ, "NORIA_FAULT": point}, check=False
        )
        assert done.returncode == 137, point
        with connect(place) as ws:
            assert ws.verify() == []
            ws.tracking.purge(ws.project.id, dry_run=False, actor=actor)
            assert rows(ws)["runs"] == 0


def test_a_late_client_cannot_log_to_what_is_being_deleted(
    both: Workspace, actor: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = said(both, actor)
    binned(both, actor, run)
    asked: list[Callable[[], Any]] = [
        lambda: both.tracking.log(run, params={"late": "1"}),
        lambda: both.tracking.put_artifact(Owner(OwnerKind.RUN, run), "late", b"1", project_id=both.project.id),
    ]
    seen: list[type[BaseException]] = []

    class Asking:
        def at(self, point: str) -> None:
            pass

    original = both.tracking._delete

    def late(*given: Any) -> Any:
        for one in asked:
            try:
                one()
            except RunDeleted:
                seen.append(RunDeleted)
        return original(*given)

    monkeypatch.setattr(both.tracking, "_delete", late)
    both.tracking.purge(both.project.id, dry_run=False, actor=actor)
    assert seen == [RunDeleted, RunDeleted]
    assert rows(both)["artifacts"] == 0
