"""What starts a training without a person: each trigger fires once, one at a time, within its budget."""

from __future__ import annotations

from typing import Any

import pytest
from looped_shop import (
    ENDPOINT,
    ME,
    START_MS,
    Traffic,
    declare,
    fair,
    good,
    level,
    move_clock,
    poor,
    serve,
    settle,
    version,
)

from noria.base.times import DAY, HOUR, to_datetime
from noria.delivery import queries
from noria.delivery.errors import CandidateNotFound, NotApplied
from noria.delivery.records import JOB, Candidate, CandidateState
from noria.jobs.work import Worker
from noria.workspace import Workspace

FREE = {"runs": 100, "per": "30d", "pause": "0s"}


def when(kind: str, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "value": 0.0, "schedule": "", "window": "7d"} | more


def end(ws: Workspace, candidate: Candidate) -> None:
    """A training that came to nothing, as its job would have written it."""
    with ws.changes.begin("test.end", ws.project.id, ME) as change:
        assert queries.move_candidate(change.tx, candidate.id, CandidateState.FAILED, {"ended": change.event_ms})
        change.note(candidate.model)
    for job in ws.jobs.list(ws.project.id, kinds=[JOB]):
        if job.state.value == "waiting":
            with ws.db.write() as tx:
                ws.jobs.cancel(tx, job.id)


def wait(ws: Workspace, ms: int) -> None:
    move_clock(ws, ws.event_clock.event_ms(ws.project.id) + ms)


def test_a_schedule_begins_when_it_is_first_seen_and_fires_once_when_it_is_due(shop: Workspace) -> None:
    serve(shop)
    declare(shop, retrain=[when("every", schedule="month")], budget=FREE)
    fired = []
    for _ in range(45):  # 25 January to 11 March
        found = shop.delivery.fire("tree")
        if found is not None:
            fired.append(to_datetime(found.opened).date().isoformat())
            assert shop.delivery.fire("tree") is None  # it is on its way
            end(shop, found)
            assert shop.delivery.fire("tree") is None  # and it is not due again
        wait(shop, DAY)
    assert fired == ["2013-02-01", "2013-03-01"]
    (due,) = shop.delivery.candidates()[-1].reason["due"]
    assert due == {"kind": "every", "schedule": "month", "at": START_MS + 35 * DAY}


def test_after_a_long_pause_a_schedule_fires_once_and_not_for_every_time_that_was_missed(shop: Workspace) -> None:
    declare(shop, retrain=[when("every", schedule="day at 18:00 America/New_York")], budget=FREE)
    assert shop.delivery.fire("tree") is None
    wait(shop, 10 * DAY)
    found = shop.delivery.fire("tree")
    assert found is not None
    end(shop, found)
    assert shop.delivery.fire("tree") is None
    wait(shop, DAY)
    assert shop.delivery.fire("tree") is not None


def test_new_rows_with_truth_are_counted_since_the_last_training(shop: Workspace) -> None:
    champion = serve(shop)
    declare(shop, retrain=[when("new_rows", value=200)], budget=FREE)
    traffic = Traffic(shop, per_day=80)
    for day in range(8):
        traffic.day({champion.id: level}, truth=day != 1)
        for candidate in shop.delivery.candidates(only_open=True):
            end(shop, candidate)
    found = shop.delivery.candidates()
    # the first day only begins the count; the second one brings no truth
    assert [(c.trigger, (c.opened - START_MS) // DAY) for c in found] == [("new_rows", 5), ("new_rows", 8)]
    assert [c.reason["due"][0]["rows"] for c in found] == [240, 240]


def test_a_training_that_a_person_started_begins_the_count_anew(shop: Workspace) -> None:
    champion = serve(shop)
    declare(shop, retrain=[when("new_rows", value=200)], budget=FREE)
    traffic = Traffic(shop, per_day=80)
    for _ in range(3):
        traffic.day({champion.id: level})
    end(shop, shop.delivery.train("tree", actor=ME))
    for _ in range(2):
        traffic.day({champion.id: level})
    assert [c.trigger for c in shop.delivery.candidates()] == ["manual"]
    traffic.day({champion.id: level})
    assert [c.trigger for c in shop.delivery.candidates()] == ["manual", "new_rows"]


def test_scores_that_moved_away_from_the_models_own_reference_start_a_training(shop: Workspace) -> None:
    champion = serve(shop)
    declare(shop, retrain=[when("drift", value=0.2, window="2d")], budget=FREE)
    traffic = Traffic(shop, per_day=110)
    rows = shop.training.evaluation(version(shop, 1)).frame["score"].to_numpy()

    def usual(y: Any, rng: Any) -> Any:
        return rng.choice(rows, len(y))

    for _ in range(4):
        traffic.day({champion.id: usual})
    assert shop.delivery.candidates() == []
    assert shop.monitoring.alerts() == []
    for _ in range(2):
        traffic.day({champion.id: good})  # 0.3 and 0.7, nothing between
    (candidate,) = shop.delivery.candidates()
    (due,) = candidate.reason["due"]
    assert (candidate.trigger, candidate.state, due["limit"], due["rows"]) == (
        "drift",
        CandidateState.TRAINING,
        0.2,
        220,
    )
    assert due["psi"] > 0.2
    assert candidate.params == shop.training.package_of(version(shop, 1)).params == {"leaves": 4}
    (alert,) = shop.monitoring.alerts()
    assert (alert.kind, alert.closed, alert.details["psi"]) == ("drift", None, due["psi"])
    for _ in range(3):
        traffic.day({champion.id: usual})
    (alert,) = shop.monitoring.alerts()
    assert alert.closed is not None


def test_few_rows_are_no_drift(shop: Workspace) -> None:
    champion = serve(shop)
    declare(shop, retrain=[when("drift", value=0.2)], budget=FREE)
    Traffic(shop, per_day=150).day({champion.id: good})
    assert shop.delivery.candidates() == []


def test_a_metric_that_is_surely_worse_than_at_the_gate_starts_a_training(shop: Workspace) -> None:
    champion = serve(shop)
    declare(shop, retrain=[when("worse", value=0.15, window="14d")], budget=FREE)
    traffic = Traffic(shop, per_day=70)
    for _ in range(5):
        traffic.day({champion.id: level})  # 0.51, better than at the gate
    assert shop.delivery.candidates() == []
    assert shop.evidence.list(shop.project.id, tests=["quality"])[-1].passed
    for _ in range(10):
        traffic.day({champion.id: poor})
    (candidate,) = shop.delivery.candidates()
    (due,) = candidate.reason["due"]
    at_gate = shop.training.evaluation(version(shop, 1))["log_loss"]
    assert candidate.trigger == "worse"
    assert due["at_gate"] == pytest.approx(at_gate, abs=1e-6)
    assert due["low"] > at_gate
    assert due["worse_by"] == pytest.approx((due["value"] - at_gate) / at_gate, abs=1e-5)
    assert due["worse_by"] >= due["limit"] == 0.15
    assert due["coverage"] == 1
    assert [a.kind for a in shop.monitoring.alerts(only_open=True)] == ["accuracy"]


def test_too_little_truth_is_no_loss_of_accuracy(shop: Workspace) -> None:
    champion = serve(shop)
    declare(shop, retrain=[when("worse", value=0.15)], budget=FREE)
    traffic = Traffic(shop, per_day=90)
    for day in range(5):
        traffic.day({champion.id: poor}, truth=day == 0)
    assert shop.delivery.candidates() == []


def test_several_triggers_that_are_due_start_one_training_and_are_all_named(shop: Workspace) -> None:
    champion = serve(shop)
    declare(shop, retrain=[when("every", schedule="day"), when("new_rows", value=50)], budget=FREE)
    traffic = Traffic(shop)
    traffic.day({champion.id: level})
    assert shop.delivery.candidates() == []  # both begin to count
    traffic.day({champion.id: level})
    (candidate,) = shop.delivery.candidates()
    assert candidate.trigger == "every"
    assert [d["kind"] for d in candidate.reason["due"]] == ["every", "new_rows"]
    end(shop, candidate)
    assert shop.delivery.fire("tree") is None  # both were served by it


# ---- one at a time, within the budget


def always(ws: Workspace, **budget: Any) -> None:
    """A trigger that is due every hour."""
    declare(ws, retrain=[when("every", schedule="hour")], budget={**FREE, **budget})
    assert ws.delivery.fire("tree") is None


def test_while_a_candidate_is_on_its_way_nothing_is_started(shop: Workspace) -> None:
    always(shop)
    by_hand = shop.delivery.train("tree", actor=ME)
    assert (by_hand.trigger, by_hand.reason) == ("manual", {"actor": "user:test"})
    wait(shop, DAY)
    assert shop.delivery.fire("tree") is None
    assert shop.delivery.train("tree", actor=ME).id == by_hand.id
    held = [e for e in shop.audit.list(shop.project.id, limit=10).items if e.verb == "delivery.trigger"]
    assert held[0].detail["held"] == "a candidate is on its way"
    end(shop, by_hand)
    found = shop.delivery.fire("tree")  # it is still due: nothing was lost by waiting
    assert found is not None
    assert [j.state.value for j in shop.jobs.list(shop.project.id, kinds=[JOB])].count("waiting") == 1


def test_a_pause_is_kept_after_each_training(shop: Workspace) -> None:
    always(shop, pause="5d")
    opened = []
    for _ in range(24 * 12):
        wait(shop, HOUR)
        found = shop.delivery.fire("tree")
        if found is not None:
            opened.append((found.opened - START_MS) // HOUR)
            end(shop, found)
    assert opened == [1, 121, 241]


def test_a_budget_is_kept_and_what_a_person_starts_does_not_count(shop: Workspace) -> None:
    always(shop, runs=2, per="4d")
    opened = []
    for hour in range(24 * 9):
        wait(shop, HOUR)
        found = shop.delivery.fire("tree")
        if found is not None:
            opened.append((found.opened - START_MS) // HOUR)
            end(shop, found)
        if hour % 50 == 0:
            end(shop, shop.delivery.train("tree", actor=ME))
    assert opened == [1, 2, 97, 98, 193, 194]
    held = [e for e in shop.audit.list(shop.project.id, limit=10).items if e.verb == "delivery.trigger"]
    assert held[0].detail["held"] == "2 trainings in 4d, 2 are allowed"


def test_triggers_of_a_model_that_nobody_applied_are_said(shop: Workspace) -> None:
    for name in ("basket", "nothing"):
        with pytest.raises(NotApplied):
            shop.delivery.fire(name)
        with pytest.raises(NotApplied):
            shop.delivery.train(name, actor=ME)
    with pytest.raises(CandidateNotFound):
        shop.delivery.candidate(10**9)


# ---- from the trigger on


def test_a_trigger_trains_in_a_process_of_its_own_and_releases_what_came_of_it(shop: Workspace) -> None:
    """The whole turn of the loop, with a real training from the code snapshot that was applied."""
    champion = serve(shop)
    declare(shop, retrain=[when("new_rows", value=300)], budget=FREE)
    traffic = Traffic(shop, per_day=100)
    for _ in range(4):
        traffic.day({champion.id: fair})
    (candidate,) = shop.delivery.candidates()
    assert candidate.state == CandidateState.TRAINING
    settle(shop)
    trained = shop.delivery.candidate(candidate.id)
    assert (trained.state, trained.number, trained.error) == (CandidateState.RELEASING, 4, None)
    model = version(shop, 4)
    assert model.run_id is not None
    run = shop.assets.run(model.run_id)
    assert (run.actor, run.trigger) == ("trigger:new_rows", "new_rows")
    assert shop.training.package_of(model).params == {"leaves": 4}
    declare(shop, retrain=[])
    for _ in range(15):
        arms = shop.serving.status(ENDPOINT).routing.arms
        traffic.day({a.deployment: good if a.deployment != champion.id else level for a in arms})
        settle(shop)
        if shop.delivery.candidate(candidate.id).state != CandidateState.RELEASING:
            break
    assert shop.delivery.champions() == {ENDPOINT: "tree/4"}
    (kept,) = shop.evidence.list(shop.project.id, tests=["pipeline"], subject="tree/4")
    assert kept.details["trigger"] == "new_rows"
    assert kept.automatic


def test_a_training_that_gives_the_champion_again_is_nothing_new(shop: Workspace) -> None:
    serve(shop, 2)
    candidate = shop.delivery.train("tree", actor=ME)  # with the champion's hyperparameters
    settle(shop)
    ended = shop.delivery.candidate(candidate.id)
    assert (ended.state, ended.number) == (CandidateState.REFUSED, 2)
    assert ended.gates == [
        {"kind": "new", "passed": False, "text": "nothing new: the training gave the champion again", "details": {}}
    ]


def test_a_training_that_fails_ends_its_candidate_with_an_alert_until_one_succeeds(shop: Workspace) -> None:
    serve(shop, 1)
    candidate = shop.delivery.train("tree", actor=ME, params={"leavs": 3})
    worker = Worker(shop.jobs, shop.clock, {JOB: shop.delivery.bring_on})
    assert worker.run_one()
    ended = shop.delivery.candidate(candidate.id)
    assert ended.state == CandidateState.FAILED
    assert ended.error is not None
    assert "leavs" in ended.error["message"]
    (alert,) = shop.monitoring.alerts(only_open=True)
    assert (alert.kind, alert.subject) == ("training", "tree")
    assert shop.delivery.candidates(only_open=True) == []
    good_one = shop.delivery.train("tree", actor=ME, params={"leaves": 5})
    assert worker.run_one()
    assert shop.delivery.candidate(good_one.id).state == CandidateState.RELEASING
    assert shop.monitoring.alerts(only_open=True) == []
