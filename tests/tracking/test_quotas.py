"""How much a project may hold: checked where it grows, by counters that are counted anew now and then."""

from __future__ import annotations

from typing import Any

import pytest

from noria.base.actor import Actor
from noria.base.errors import Invalid
from noria.base.ids import RunId
from noria.base.times import MINUTE
from noria.gateways.mlflow.errors import fault_of
from noria.testing import ManualClock
from noria.tracking.errors import QuotaReached
from noria.tracking.records import Owner, OwnerKind, Point
from noria.workspace import Workspace


def new_run(ws: Workspace, actor: Actor, experiment: str = "e") -> RunId:
    with ws.db.write() as tx:
        at = ws.tracking.ensure_experiment(tx, ws.project.id, experiment)
        return ws.tracking.create_run(tx, ws.project.id, at, name="r", actor=actor).id


def points(key: str, many: int, first: int = 0) -> list[Point]:
    return [Point(key=key, value=1.0, at=first + n, step=first + n) for n in range(many)]


def limit(ws: Workspace, actor: Actor, **most: int | None) -> None:
    for what, value in most.items():
        ws.tracking.set_quota(ws.project.id, what, value, actor=actor)


def test_runs_are_refused_beyond_their_number_and_room_is_made_by_purging(both: Workspace, actor: Actor) -> None:
    limit(both, actor, runs=2)
    first = new_run(both, actor)
    new_run(both, actor)
    with pytest.raises(QuotaReached, match=r"3 runs .* more than 2") as refused:
        new_run(both, actor)
    status, fault = fault_of(refused.value)
    assert (status, fault.error_code) == (422, "RESOURCE_EXHAUSTED")
    assert "noria admin quota runs" in fault.message
    both.tracking.delete_runs(both.project.id, [first], actor=actor)
    with pytest.raises(QuotaReached):
        new_run(both, actor)
    both.tracking.purge(both.project.id, dry_run=False, actor=actor)
    new_run(both, actor)
    limit(both, actor, runs=None)
    new_run(both, actor)
    assert both.tracking.quotas(both.project.id)["runs"] == (None, 3)


def test_points_of_a_run_are_bounded_and_a_refused_batch_leaves_nothing(both: Workspace, actor: Actor) -> None:
    limit(both, actor, points=10)
    run, other = new_run(both, actor), new_run(both, actor)
    both.tracking.log(run, points=points("a", 8))
    with pytest.raises(QuotaReached, match="11 points of one run"):
        both.tracking.log(run, points=points("b", 3), params={"p": "1"})
    assert both.tracking.data(run).params == {}
    both.tracking.log(run, points=points("b", 2))
    both.tracking.log(other, points=points("a", 10))
    both.tracking.log(run, points=points("c", 5), counted=False)
    assert both.tracking.quotas(both.project.id)["points"] == (10, 15)


def test_names_of_metrics_in_an_experiment_are_bounded(both: Workspace, actor: Actor) -> None:
    limit(both, actor, keys=2)
    run, other = new_run(both, actor), new_run(both, actor)
    both.tracking.log(run, points=[*points("a", 1), *points("b", 1)])
    both.tracking.log(other, points=points("a", 3))
    with pytest.raises(QuotaReached, match="'c' is new"):
        both.tracking.log(other, points=points("c", 1))
    both.tracking.log(new_run(both, actor, "f"), points=points("c", 1))
    assert both.tracking.quotas(both.project.id)["keys"] == (2, 2)


def test_bytes_of_files_are_bounded(both: Workspace, actor: Actor) -> None:
    limit(both, actor, bytes=1_000)
    owner = Owner(OwnerKind.RUN, new_run(both, actor))
    both.tracking.put_artifact(owner, "a", b"x" * 700, project_id=both.project.id)
    with pytest.raises(QuotaReached, match="1,100 bytes"):
        both.tracking.put_artifact(owner, "b", b"x" * 400, project_id=both.project.id)
    assert [one.path for one in both.tracking.all_artifacts(owner).items] == ["a"]
    assert both.tracking.quotas(both.project.id)["bytes"] == (1_000, 700)
    both.tracking.delete_artifacts(owner, "a", project_id=both.project.id, actor=actor)
    both.tracking.put_artifact(owner, "b", b"x" * 900, project_id=both.project.id)


def test_other_processes_see_a_limit_soon(both: Workspace, actor: Actor, clock: ManualClock) -> None:
    new_run(both, actor)
    with both.db.write() as tx:  # as another process does it
        from noria.tracking import quotas

        quotas.put(tx, both.project.id, "runs", 1)
    clock.tick(MINUTE)
    with pytest.raises(QuotaReached):
        new_run(both, actor)


def test_without_limits_nothing_is_counted(both: Workspace, actor: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> int:
        pytest.fail("counted")

    for name in ("runs_of", "points_of", "names_of", "bytes_of"):
        monkeypatch.setattr(f"noria.tracking.quotas.{name}", never)
    run = new_run(both, actor)
    both.tracking.log(run, points=points("a", 5))
    both.tracking.put_artifact(Owner(OwnerKind.RUN, run), "a", b"1", project_id=both.project.id)


def test_a_limit_that_is_none_is_refused(both: Workspace, actor: Actor) -> None:
    for what, most in (("rows", 1), ("runs", -1), ("runs", 1 << 63)):
        with pytest.raises(Invalid):
            both.tracking.set_quota(both.project.id, what, most, actor=actor)
    limit(both, actor, runs=0)
    with pytest.raises(QuotaReached):
        new_run(both, actor)
    assert "admin.quota" in [entry.verb for entry in both.audit.list(both.project.id, limit=5).items]
