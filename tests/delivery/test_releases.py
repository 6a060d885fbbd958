"""A release from its gates to its end, day by day, without a supervisor: deployments are marked as loaded by hand."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from looped_shop import (
    ENDPOINT,
    ME,
    START_MS,
    Scores,
    Traffic,
    copied,
    declare,
    fair,
    good,
    level,
    poor,
    serve,
    settle,
    version,
)

from noria.base.errors import Conflict
from noria.base.times import DAY
from noria.delivery.errors import NothingBefore, ReleaseOpen
from noria.delivery.records import JOB, Candidate, CandidateState, Phase, Rollout
from noria.jobs.work import Worker
from noria.monitoring.labeller import Labeller
from noria.registry.records import CHALLENGER, CHAMPION
from noria.serving.records import DeploymentState
from noria.serving.segments import Captured, SegmentWriter
from noria.workspace import Workspace


def release(ws: Workspace, number: int, **more: Any) -> Candidate:
    """Puts a version through its gates and, where they say yes, to the first step."""
    made = ws.delivery.release(version(ws, number), actor=ME, **more)
    settle(ws)
    return ws.delivery.candidate(made.id)


def rollout(ws: Workspace, candidate: Candidate) -> Rollout:
    found = ws.delivery.rollout_of(candidate.id)
    assert found is not None
    return found


def shares(ws: Workspace) -> dict[str, tuple[str, float]]:
    """Model -> (role, share of traffic) of the routing in force."""
    routing = ws.serving.status(ENDPOINT).routing
    return {ws.serving.deployment(a.deployment).model: (a.role, round(a.weight, 6)) for a in routing.arms}


def states(ws: Workspace) -> dict[str, str]:
    return {d.model: d.state.value for d in ws.serving.status(ENDPOINT).deployments}


def champion_alias(ws: Workspace) -> int | None:
    return ws.registry.alias(ws.project.id, "tree", CHAMPION)


def evidence(ws: Workspace, test: str, subject: str) -> list[Any]:
    return ws.evidence.list(ws.project.id, tests=[test], subject=subject)


def one_day(traffic: Traffic, how: Mapping[str, Scores]) -> None:
    """A day that the deployments in the routing score, each in its way."""
    scores = {}
    for arm in traffic.ws.serving.status(ENDPOINT).routing.arms:
        scores[arm.deployment] = how[traffic.ws.serving.deployment(arm.deployment).model]
    traffic.day(scores)
    settle(traffic.ws)


def until_ended(traffic: Traffic, candidate: Candidate, how: Mapping[str, Scores], most: int = 40) -> list[Any]:
    """Goes on day by day until the release is over; returns (phase, step, shares) at the end of each day."""
    seen: list[Any] = []
    for _ in range(most):
        one_day(traffic, how)
        found = rollout(traffic.ws, candidate)
        seen.append((found.phase.value, found.step, shares(traffic.ws)))
        if found.phase == Phase.DONE:
            return seen
    raise AssertionError(f"still {seen[-1]} after {most} days")


def consistent(ws: Workspace, champion: str, *, without: str | None = None) -> None:
    """Alias, routing and deployments say the same."""
    assert shares(ws) == {champion: ("champion", 1.0)}
    assert champion_alias(ws) == int(champion.partition("/")[2])
    assert states(ws)[champion] == "ready"
    if without is not None:
        assert states(ws)[without] == "retired"
    assert ws.delivery.champions() == {ENDPOINT: champion}


# ---- the ways that a release can go


def test_the_first_release_of_an_endpoint_is_promoted_as_soon_as_it_is_loaded(shop: Workspace) -> None:
    made = shop.delivery.release(version(shop, 1), actor=ME)
    assert (made.state, made.trigger, made.number) == (CandidateState.GATING, "manual", 1)
    worker = Worker(shop.jobs, shop.clock, {JOB: shop.delivery.bring_on})
    assert worker.run_one()
    assert shop.delivery.candidate(made.id).state == CandidateState.RELEASING
    assert rollout(shop, made).phase == Phase.LOADING
    assert shop.delivery.loading()
    assert shop.delivery.begin_loaded() == 0
    assert shares(shop) == {}
    assert shop.registry.alias(shop.project.id, "tree", CHALLENGER) == 1
    settle(shop)
    ended = shop.delivery.candidate(made.id)
    assert (ended.state, ended.verdict["kind"], ended.ended) == (CandidateState.PROMOTED, "first", START_MS)
    consistent(shop, "tree/1")
    assert not shop.delivery.loading()
    assert [e.passed for e in evidence(shop, "gate", "tree/1")] == [True]
    assert evidence(shop, "canary", "tree/1") == []  # there was nothing to compare it with
    assert shop.delivery.promotions() == []
    assert [g["kind"] for g in ended.gates] == ["beats_baseline", "beats_baseline"]


def test_a_better_version_goes_over_shadow_and_growing_steps_to_champion(shop: Workspace) -> None:
    serve(shop, 1)
    candidate = release(shop, 2)
    assert candidate.state == CandidateState.RELEASING
    assert rollout(shop, candidate).phase == Phase.SHADOW
    assert shares(shop) == {"tree/1": ("champion", 1.0), "tree/2": ("shadow", 0.0)}
    routing = shop.serving.status(ENDPOINT).routing
    assert routing.paired
    seen = until_ended(Traffic(shop), candidate, {"tree/1": level, "tree/2": good})
    steps = [s for n, s in enumerate(seen) if n == 0 or s != seen[n - 1]]
    assert [(phase, step) for phase, step, _ in steps[:2]] == [("canary", 0), ("canary", 1)]
    assert steps[0][2] == {"tree/1": ("champion", 0.8), "tree/2": ("canary", 0.2)}
    assert steps[1][2] == {"tree/1": ("champion", 0.5), "tree/2": ("canary", 0.5)}
    assert steps[-1][2] == {"tree/2": ("champion", 1.0)}
    salts = {r.salt for r in shop.serving.history(ENDPOINT) if r.paired}
    assert len(salts) == 1  # nobody is moved back and forth as the share grows
    ended = shop.delivery.candidate(candidate.id)
    assert ended.state == CandidateState.PROMOTED
    assert ended.verdict["kind"] == "better"
    assert ended.verdict["mean"] == pytest.approx(-0.154, abs=0.001)  # log 0.6 - log 0.7
    assert ended.verdict["rows"] == 80 * ended.verdict["days"]
    consistent(shop, "tree/2")
    assert states(shop)["tree/1"] == "ready"  # the way back
    (canary,) = evidence(shop, "canary", "tree/2")
    assert canary.passed
    assert canary.details["requests"] == 80 * len(seen)
    assert (canary.details["errors"], canary.details["drill"], canary.details["steps"]) == (0, False, [0.2, 0.5, 1.0])
    (speed,) = evidence(shop, "speed", "tree/2")
    assert (speed.passed, speed.details["p99_ms"], speed.details["p99_ms_before"]) == (True, 0.9, 0.9)
    assert evidence(shop, "pipeline", "tree/2") == []  # a person began it
    assert [c.name for c in shop.delivery.promotions()] == ["tree/2"]
    days = [int(b[0]) for b in rollout(shop, candidate).blocks]
    assert days == list(range(START_MS, START_MS + DAY * len(days), DAY))
    assert shop.verify() == []
    assert shop.audit.verify(shop.project.id) == []


def test_a_worse_version_is_thrown_out_by_itself(shop: Workspace) -> None:
    serve(shop, 1)
    candidate = release(shop, 3, drill=True)
    assert candidate.trigger == "drill"
    seen = until_ended(Traffic(shop), candidate, {"tree/1": level, "tree/3": poor})
    assert all(s[2]["tree/1"][1] >= 0.8 for s in seen)  # it never got more than the first share
    ended = shop.delivery.candidate(candidate.id)
    assert (ended.state, ended.verdict["kind"]) == (CandidateState.THROWN_OUT, "worse")
    assert ended.verdict["text"].startswith("worse by 0.28")
    consistent(shop, "tree/1", without="tree/3")
    (canary,) = evidence(shop, "canary", "tree/3")
    assert (canary.passed, canary.details["drill"]) == (False, True)
    (alert,) = shop.monitoring.alerts(only_open=True)
    assert (alert.kind, alert.subject) == ("release", ENDPOINT)
    assert "tree/3 was thrown out" in alert.message
    release(shop, 2)
    until_ended(Traffic(shop, seed=50), shop.delivery.candidates()[-1], {"tree/1": level, "tree/2": good})
    assert shop.monitoring.alerts(only_open=True) == []  # a good release closes it


def test_a_version_that_is_neither_better_nor_worse_is_given_up_and_the_champion_stays(shop: Workspace) -> None:
    serve(shop, 1)
    candidate = release(shop, 2)
    seen = until_ended(Traffic(shop), candidate, {"tree/1": level, "tree/2": fair})
    assert len(seen) == 12  # policy: longest="12d"
    ended = shop.delivery.candidate(candidate.id)
    assert (ended.state, ended.verdict["kind"]) == (CandidateState.INCONCLUSIVE, "open")
    assert "no verdict in 12d" in ended.verdict["text"]
    consistent(shop, "tree/1", without="tree/2")
    assert [e.passed for e in evidence(shop, "canary", "tree/2")] == [False]
    assert shop.monitoring.alerts(only_open=True) == []


def test_without_truth_no_candidate_gets_beyond_the_first_share(shop: Workspace) -> None:
    serve(shop, 1)
    candidate = release(shop, 2)
    traffic = Traffic(shop)
    for _ in range(6):
        arms = shop.serving.status(ENDPOINT).routing.arms
        traffic.day({a.deployment: good for a in arms}, truth=False)
    assert (rollout(shop, candidate).phase, rollout(shop, candidate).step) == (Phase.CANARY, 0)
    assert rollout(shop, candidate).blocks == []


def test_a_step_carries_its_requests_before_the_next(shop: Workspace) -> None:
    serve(shop, 1)
    candidate = release(shop, 2)
    traffic = Traffic(shop, per_day=25)  # policy: hold=60
    phases = []
    for _ in range(4):
        one_day(traffic, {"tree/1": level, "tree/2": good})
        phases.append(rollout(shop, candidate).phase.value)
    assert phases == ["shadow", "shadow", "canary", "canary"]


def test_a_candidate_that_fails_on_requests_is_thrown_out_without_any_truth(shop: Workspace) -> None:
    champion = serve(shop, 1)
    candidate = release(shop, 2)
    other = rollout(shop, candidate).deployment
    traffic = Traffic(shop)
    traffic.day({champion.id: level, other: level}, truth=False, process=False)
    writer = SegmentWriter(shop.serving.capture_folder, "errors")
    for _ in range(8):
        writer.write(
            Captured(
                endpoint=ENDPOINT, revision=2, deployment=other, model="tree/2", role="shadow", answered=False,
                received=START_MS + 60_000, latency=10, commits=[], rows=[], error="scoring_failed", count=1,
            )
        )  # fmt: skip
    writer.close()
    traffic.process()
    ended = shop.delivery.candidate(candidate.id)
    assert (ended.state, ended.verdict["kind"]) == (CandidateState.THROWN_OUT, "broken")
    assert ended.verdict["text"] == "8 errors in 88 requests"
    consistent(shop, "tree/1", without="tree/2")


def test_what_is_as_slow_as_the_champion_is_not_broken_and_what_is_slower_is(shop: Workspace) -> None:
    serve(shop, 1)
    candidate = release(shop, 2)
    traffic = Traffic(shop, per_day=200, latency=400_000)  # policy: p99_ms=250
    one_day(traffic, {"tree/1": level, "tree/2": level})
    one_day(traffic, {"tree/1": level, "tree/2": level})
    assert shop.delivery.candidate(candidate.id).state == CandidateState.RELEASING
    shop.delivery.cancel(ENDPOINT, actor=ME)
    candidate = release(shop, 3)
    traffic.latency, traffic.latencies = 900, {rollout(shop, candidate).deployment: 400_000}
    for _ in range(2):  # in the shadow nobody waits for it; as a canary it answers
        one_day(traffic, {"tree/1": level, "tree/3": level})
    ended = shop.delivery.candidate(candidate.id)
    assert ended.state == CandidateState.THROWN_OUT
    assert "above the promised latency" in ended.verdict["text"]


def test_a_deployment_that_cannot_be_loaded_is_thrown_out_and_the_champion_never_noticed(shop: Workspace) -> None:
    serve(shop, 1)
    before = shop.serving.get(ENDPOINT).revision
    made = shop.delivery.release(version(shop, 2), actor=ME)
    settle(shop, DeploymentState.FAILED, "no module named shop_tools")
    ended = shop.delivery.candidate(made.id)
    assert ended.state == CandidateState.THROWN_OUT
    assert "no module named shop_tools" in ended.verdict["text"]
    assert shop.serving.get(ENDPOINT).revision == before
    assert shares(shop) == {"tree/1": ("champion", 1.0)}
    again = release(shop, 2)  # it may be tried again
    assert again.state == CandidateState.RELEASING
    assert states(shop)["tree/2"] == "ready"


def test_a_release_at_once_waits_for_no_verdict(shop: Workspace) -> None:
    serve(shop, 1)
    policy = {**shop.serving.get(ENDPOINT).policy}
    policy["release"] = {**policy["release"], "steps": [1.0], "shadow": False, "hold": 0}
    shop.serving.ensure(ENDPOINT, "tree", policy, actor=ME)
    candidate = release(shop, 2)
    assert (candidate.state, candidate.verdict["kind"]) == (CandidateState.PROMOTED, "at_once")
    consistent(shop, "tree/2")
    assert states(shop) == {"tree/1": "ready", "tree/2": "ready"}
    release(shop, 3)
    consistent(shop, "tree/3", without="tree/1")  # what is not even the way back is unloaded
    policy["release"] = {**policy["release"], "steps": [0.5, 1.0], "hold": 60}
    shop.serving.ensure(ENDPOINT, "tree", policy, actor=ME)
    candidate = release(shop, 1)  # loaded again; and without a shadow it has the first share at once
    assert (rollout(shop, candidate).phase, shares(shop)["tree/1"]) == (Phase.CANARY, ("canary", 0.5))


# ---- gates


def test_a_candidate_that_a_gate_refuses_is_not_deployed_unless_it_is_forced(shop: Workspace) -> None:
    serve(shop, 1)
    never = {
        "kind": "metric",
        "metric": "roc_auc",
        "by": None,
        "least": 2.0,
        "most": None,
        "confidence": 0.9,
        "min_rows": 1,
    }
    declare(shop, gates=[never])
    refused = release(shop, 2)
    assert (refused.state, refused.ended) == (CandidateState.REFUSED, START_MS)
    assert [g["passed"] for g in refused.gates if g["kind"] == "metric"] == [False]
    assert shop.delivery.rollout_of(refused.id) is None
    assert "tree/2" not in states(shop)
    (kept,) = evidence(shop, "gate", "tree/2")
    assert (kept.passed, kept.details["champion"], kept.details["forced"]) == (False, "tree/1", False)
    assert kept.details["gates"] == refused.gates
    forced = release(shop, 2, force=True)
    assert (forced.state, forced.forced) == (CandidateState.RELEASING, True)
    assert [e.details["forced"] for e in evidence(shop, "gate", "tree/2")] == [False, True]


def test_the_champion_is_compared_on_rows_that_neither_was_trained_on(shop: Workspace) -> None:
    serve(shop, 1)
    gate = {
        "kind": "beats_champion",
        "metric": None,
        "by": None,
        "least": None,
        "most": None,
        "confidence": 0.99,
        "min_rows": 50,
    }
    declare(shop, gates=[gate])
    candidate = release(shop, 2)
    (said,) = [g for g in candidate.gates if g["kind"] == "beats_champion"]
    evaluation = shop.training.evaluation(version(shop, 2))
    assert said["details"]["champion"] == "tree/1"
    assert said["details"]["n"] == len(evaluation)  # the same window: all of its test rows
    assert said["details"]["champion_value"] == pytest.approx(shop.training.evaluation(version(shop, 1))["log_loss"])


def test_the_champion_itself_and_the_same_candidate_again_begin_nothing(shop: Workspace) -> None:
    serve(shop, 1)
    again = release(shop, 1, force=True)
    assert again.state == CandidateState.REFUSED
    assert "tree/1 is the champion" in again.gates[-1]["text"]
    consistent(shop, "tree/1")
    first = shop.delivery.release(version(shop, 2), actor=ME)
    assert shop.delivery.release(version(shop, 2), actor=ME).id == first.id
    with pytest.raises(Conflict, match="tree/2 is on its way"):
        shop.delivery.release(version(shop, 3), actor=ME)
    settle(shop)
    assert [c.number for c in shop.delivery.candidates(only_open=True)] == [2]


def test_a_model_without_an_endpoint_is_promoted_by_its_gates_alone(shop: Workspace) -> None:
    shop.serving.ensure(ENDPOINT, "another", {}, actor=ME)
    candidate = release(shop, 2)
    assert (candidate.state, candidate.verdict["kind"]) == (CandidateState.PROMOTED, "no_endpoint")
    assert champion_alias(shop) == 2
    assert shop.delivery.candidates(only_open=True) == []  # the next one is not held up for ever
    assert release(shop, 3).state == CandidateState.PROMOTED


# ---- cancel and rollback


def test_a_release_can_be_cancelled_at_every_phase(shop: Workspace) -> None:
    serve(shop, 1)
    assert shop.delivery.cancel(ENDPOINT, actor=ME) is None
    made = shop.delivery.release(version(shop, 2), actor=ME)
    Worker(shop.jobs, shop.clock, {JOB: shop.delivery.bring_on}).run_one()
    revision = shop.serving.get(ENDPOINT).revision
    cancelled = shop.delivery.cancel(ENDPOINT, actor=ME)  # loading: it has no traffic, so no routing changes
    assert cancelled is not None
    assert (cancelled.id, cancelled.state) == (made.id, CandidateState.CANCELLED)
    assert shop.serving.get(ENDPOINT).revision == revision
    consistent(shop, "tree/1", without="tree/2")
    traffic = Traffic(shop)
    for days in (0, 2):
        candidate = release(shop, 2)
        for _ in range(days):
            one_day(traffic, {"tree/1": level, "tree/2": fair})
        assert rollout(shop, candidate).phase == (Phase.CANARY if days else Phase.SHADOW)
        cancelled = shop.delivery.cancel(ENDPOINT, actor=ME)
        assert cancelled is not None
        assert (cancelled.state, cancelled.verdict["text"]) == (CandidateState.CANCELLED, "by user:test")
        consistent(shop, "tree/1", without="tree/2")
    assert shop.delivery.open_rollouts() == []


def test_a_rollback_gives_all_traffic_to_the_champion_before(shop: Workspace) -> None:
    with pytest.raises(NothingBefore):
        release(shop, 1)
        shop.delivery.rollback(ENDPOINT, actor=ME)
    until_ended(Traffic(shop), release(shop, 2), {"tree/1": level, "tree/2": good})
    found = shop.delivery.rollback_now(ENDPOINT, actor=ME, drill=True)
    assert (found["before"], found["after"], found["drill"]) == ("tree/2", "tree/1", True)
    consistent(shop, "tree/1")
    assert states(shop)["tree/2"] == "ready"
    assert shop.serving.status(ENDPOINT).routing.reason == "rollback drill: tree/1"
    (kept,) = evidence(shop, "rollback", ENDPOINT)
    assert (kept.passed, kept.details["ms"] >= 0) == (False, True)  # no worker answered, so it is no proof
    assert shop.delivery.rollback(ENDPOINT, actor=ME) == ("tree/1", "tree/2")  # and forth
    consistent(shop, "tree/2")
    release(shop, 3)
    with pytest.raises(ReleaseOpen):
        shop.delivery.rollback(ENDPOINT, actor=ME)


# ---- all or nothing, and going on


class Raises:
    """Stops at a point, where it is armed."""

    def __init__(self) -> None:
        self.point = ""

    def at(self, point: str) -> None:
        if self.point and point.startswith(self.point):
            self.point = ""
            raise KeyboardInterrupt(point)


def snapshot(ws: Workspace) -> Any:
    """Everything that a promotion changes."""
    return (
        champion_alias(ws),
        ws.serving.status(ENDPOINT),
        ws.delivery.candidates(),
        [(r.phase, r.step) for r in ws.delivery.open_rollouts()],
        len(ws.evidence.list(ws.project.id, tests=["canary", "speed", "rollback"])),
        ws.monitoring.alerts(),
        len(ws.assets.list_events(ws.project.id, types=["champion.changed"], limit=100)),
    )


@pytest.mark.parametrize(
    ("verb", "how"), [("delivery.promote", good), ("delivery.stop", poor), ("delivery.step", good)]
)
def test_every_move_of_a_release_is_one_transaction(
    template: Path, tmp_path: Path, labeller: Labeller, verb: str, how: Scores
) -> None:
    """Interrupted after everything was written and before it is committed; and the day is processed once more."""
    faults = Raises()
    with copied(template, tmp_path / "shop", labeller, faults) as ws:
        serve(ws, 1)
        candidate = release(ws, 2)
        traffic = Traffic(ws)
        scores: dict[str, Scores] = {"tree/1": level, "tree/2": how}
        for _ in range(30):
            before = snapshot(ws)
            faults.point = f"change.{verb}"
            try:
                one_day(traffic, scores)
            except KeyboardInterrupt:
                break
        else:
            raise AssertionError(f"{verb} was never reached")
        after = snapshot(ws)
        assert after[:5] == before[:5]
        assert after[6] == before[6]
        traffic.process()  # the server goes on where it was: at the same moment of event time
        settle(ws)
        assert snapshot(ws)[:4] != before[:4]
        if verb == "delivery.step":
            assert shares(ws)["tree/2"] == ("canary", 0.2)
        else:
            consistent(ws, "tree/2" if how is good else "tree/1")
            assert len(ws.delivery.candidates()) == 1
            assert ws.delivery.candidate(candidate.id).ended == traffic.now
            assert len(evidence(ws, "canary", "tree/2")) == 1


def test_a_promotion_that_fails_in_the_middle_leaves_nothing_behind(
    shop: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(shop, 1)
    candidate = release(shop, 2)
    traffic = Traffic(shop)

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shop.delivery, "_retire", fail)  # alias and routing are written by then
    for _ in range(30):
        before = snapshot(shop)
        try:
            one_day(traffic, {"tree/1": level, "tree/2": good})
        except OSError:
            break
    assert snapshot(shop)[:5] == before[:5]
    assert champion_alias(shop) == 1
    monkeypatch.undo()
    traffic.process()
    assert shop.delivery.candidate(candidate.id).state == CandidateState.PROMOTED
    consistent(shop, "tree/2")


def test_a_rollback_is_one_transaction(template: Path, tmp_path: Path, labeller: Labeller) -> None:
    faults = Raises()
    with copied(template, tmp_path / "shop", labeller, faults) as ws:
        release(ws, 1)
        until_ended(Traffic(ws), release(ws, 2), {"tree/1": level, "tree/2": good})
        before = snapshot(ws)
        faults.point = "change.delivery.rollback"
        with pytest.raises(KeyboardInterrupt):
            ws.delivery.rollback(ENDPOINT, actor=ME)
        assert snapshot(ws) == before
        consistent(ws, "tree/2")
        ws.delivery.rollback(ENDPOINT, actor=ME)
        consistent(ws, "tree/1")


CRASH = """
import sys
from noria.workspace import connect
with connect(sys.argv[1]) as ws:
    ws.ingest.take(actor=ws.actor)
    ws.delivery.process("shops")
"""


def test_a_server_killed_at_a_promotion_leaves_all_of_it_or_nothing(
    template: Path, tmp_path: Path, labeller: Labeller
) -> None:
    with copied(template, tmp_path / "shop", labeller) as ws:
        serve(ws, 1)
        candidate = release(ws, 2)
        traffic = Traffic(ws)
        while True:  # up to the eve of the promotion
            one_day(traffic, {"tree/1": level, "tree/2": good})
            found = rollout(ws, candidate)
            if found.step == 1:
                break
        arms = [a.deployment for a in ws.serving.status(ENDPOINT).routing.arms]
        for _ in range(3):
            traffic.day({arms[0]: level, arms[1]: good}, process=False)
    # Everything of the promotion is written, and its commit never comes.
    point = f"db.commit:{commits_before_promotion(tmp_path / 'shop', tmp_path / 'count')}"
    folder = tmp_path / "shop"
    done = subprocess.run(
        [sys.executable, "-c", CRASH, str(folder)],
        env={**os.environ, "NORIA_FAULT": point}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 137, done.stderr
    with copied(template, folder, labeller) as ws:
        assert champion_alias(ws) == 1
        assert shares(ws)["tree/1"][0] == "champion"
        assert ws.delivery.candidate(candidate.id).state == CandidateState.RELEASING
        ws.ingest.take(actor=ME)
        ws.delivery.process(ENDPOINT)
        assert ws.delivery.candidate(candidate.id).state == CandidateState.PROMOTED
        consistent(ws, "tree/2")
        assert ws.verify() == []


class CommitsUntil:
    """Counts commits up to the one of a verb."""

    def __init__(self, verb: str) -> None:
        self.verb, self.commits, self.found = verb, 0, 0

    def at(self, point: str) -> None:
        self.commits += point == "db.commit"
        if point == self.verb:
            self.found = self.commits + 1


def commits_before_promotion(shop: Path, root: Path) -> int:
    count = CommitsUntil("change.delivery.promote")
    with copied(shop, root, faults=count) as ws:
        count.commits = 0
        ws.ingest.take(actor=ws.actor)
        ws.delivery.process(ENDPOINT)
    return count.found


def history(ws: Workspace, candidate: Candidate) -> Any:
    """What came of a release, without ids and times of the wall."""
    ended = ws.delivery.candidate(candidate.id)
    found = rollout(ws, candidate)
    moves = [(r.number, r.arms, r.reason) for r in ws.serving.history(ENDPOINT)]
    return ended.state, ended.verdict, ended.ended, found.blocks, found.step, moves


def test_a_release_goes_on_where_it_was_when_everything_is_started_anew_each_day(
    template: Path, tmp_path: Path, labeller: Labeller
) -> None:
    scores: dict[str, Scores] = {"tree/1": level, "tree/2": good}
    with copied(template, tmp_path / "whole", labeller) as ws:
        serve(ws, 1)
        candidate = release(ws, 2)
        until_ended(Traffic(ws), candidate, scores)
        expected = history(ws, candidate)
    with copied(template, tmp_path / "parts", labeller) as ws:
        serve(ws, 1)
        candidate = release(ws, 2)
    for day in range(30):
        with copied(template, tmp_path / "parts", labeller) as ws:
            one_day(Traffic(ws, seed=1 + day), scores)
            Traffic(ws).process()  # and every day is processed twice
            if rollout(ws, candidate).phase == Phase.DONE:
                break
    with copied(template, tmp_path / "parts", labeller) as ws:
        assert history(ws, candidate) == expected
        consistent(ws, "tree/2")
