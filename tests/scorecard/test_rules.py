"""The rules against gaming, one by one, on plain records."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.assets.records import Evidence
from noria.base.ids import ProjectId, RunId, VersionId
from noria.base.times import DAY
from noria.scorecard.catalogue import NAMES, TESTS
from noria.scorecard.records import Mark, Score, Section, Subject, band
from noria.scorecard.rules import evaluate

NOW = 1_000 * DAY
SERVING = Subject(
    endpoint="delays",
    model="delay/3",
    registered="delay",
    version_id=VersionId(30),
    versions=frozenset({VersionId(30), VersionId(20), VersionId(10)}),
    assets=frozenset({"delay", "trip", "flights"}),
    params=(("C", "0.5"), ("kind", "l2")),
    stood=((500, 600), (900, None)),
)
BY_ID = {test.id: test for test in TESTS}
_COUNT = iter(range(1, 1_000_000))


def ev(test: str, subject: str = "delay/3", *, days: float = 1, passed: bool = True, auto: bool = True, **more: Any):
    details = more.pop("details", None)
    given_ = {k: more.pop(k) for k in ("version_id", "run_id", "evaluator", "created_at") if k in more}
    return Evidence(
        id=next(_COUNT), project_id=ProjectId(1), test=test, subject=subject, version_id=given_.get("version_id"),
        run_id=given_.get("run_id"), passed=passed, automatic=auto, actor="system" if auto else "user:alice",
        evaluator=given_.get("evaluator", "e:1"), details=details if details is not None else more,
        event_ms=round(NOW - days * DAY), created_at=given_.get("created_at", 1000),
    )  # fmt: skip


def scored(id_: str, *records: Evidence, subject: Subject = SERVING) -> Mark:
    return evaluate(BY_ID[id_], records, subject, NOW)


def red(test: str, subject: str = "delay/1", **more: Any) -> Evidence:
    return ev(test, subject, passed=False, **more)


def test_there_are_28_tests_seven_in_each_section() -> None:
    assert [t.id for t in TESTS] == [f"{s}{n}" for s in ("D", "M", "I", "Mo") for n in range(1, 8)]
    assert all(sum(t.section == s for t in TESTS) == 7 for s in Section)
    assert len({t.title for t in TESTS}) == 28


def test_without_a_record_there_is_no_point_and_every_test_says_what_is_missing() -> None:
    for test in TESTS:
        found = evaluate(test, [], SERVING, NOW)
        assert (found.points, found.evidence) == (0, ())
        assert found.missing


def test_one_run_by_hand_is_half_a_point_and_marked() -> None:
    record = ev("baseline", auto=False)
    found = scored("M5", record)
    assert (found.points, found.evidence, found.note) == (0.5, (record,), "self-attested by user:alice")
    assert any("let a trigger run it" in text for text in found.missing)


def test_two_automatic_passes_of_a_check_that_was_seen_red_are_one_point() -> None:
    bad, first, second = red("baseline"), ev("baseline", "delay/2"), ev("baseline")
    found = scored("M5", bad, first, second)
    assert (found.points, found.missing) == (1, ())
    assert {e.id for e in found.evidence} == {bad.id, first.id, second.id}
    assert scored("M5", first, second).points == 0.5
    assert "never seen red" in scored("M5", first, second).missing[0]
    assert scored("M5", bad, second).points == 0.5


def test_a_planted_fault_proves_a_check_only_where_it_was_found_by_the_same_code() -> None:
    passes = [ev("baseline", "delay/2"), ev("baseline")]
    assert scored("M5", ev("baseline", mutation=True), *passes).points == 1
    assert scored("M5", ev("baseline", mutation=True, passed=False), *passes).points == 0.5
    assert scored("M5", ev("baseline", mutation=True, evaluator="e:0"), *passes).points == 0.5
    assert scored("M5", red("baseline", evaluator="e:0"), *passes).points == 0.5
    assert scored("M5", ev("drill", "delays", details={"test": "baseline"}), *passes).points == 1
    # the planted fault itself is no pass of the check
    assert scored("M5", ev("baseline", mutation=True)).points == 0


def test_records_of_one_run_are_one_occasion() -> None:
    run = RunId("a" * 32)
    both = [ev("baseline", run_id=run, baseline="constant"), ev("baseline", run_id=run, baseline="linear")]
    assert scored("M5", red("baseline", run_id=RunId("b" * 32)), *both).points == 0.5
    half_red = [ev("baseline", run_id=run), ev("baseline", run_id=run, passed=False)]
    assert scored("M5", *half_red).points == 0


def test_evidence_goes_stale_in_event_time() -> None:
    assert scored("M5", ev("baseline", days=30)).points == 0.5
    found = scored("M5", ev("baseline", days=30.1))
    assert found.points == 0
    assert "older than 30 days" in found.missing[0]
    old = ev("baseline", "delay/2", days=31)
    assert scored("M5", red("baseline", days=300), old, ev("baseline")).points == 0.5


@pytest.mark.parametrize(
    ("record", "counts"),
    [
        (ev("baseline", "delay/3"), True),
        (ev("baseline", "delay/2"), False),
        (ev("baseline", "delay/4"), False),
        (ev("baseline", "other/3"), False),
        (ev("baseline", "delay/3", version_id=VersionId(30)), True),
        (ev("baseline", "delay/3", version_id=VersionId(31)), False),
        (ev("baseline", "whatever", version_id=VersionId(10)), True),
    ],
)
def test_evidence_counts_for_the_serving_version_and_its_exact_ancestors(record: Evidence, counts: bool) -> None:
    assert (scored("M5", record).points > 0) is counts


def test_records_of_an_endpoint_count_for_the_version_that_stood_behind_it() -> None:
    for at, counts in ((550, True), (700, False), (950, True), (100, False)):
        found = scored("Mo3", ev("skew", "delays", created_at=at, rows=5, equal=5))
        assert (found.points > 0) is counts, at
    assert scored("Mo3", ev("skew", "delays", created_at=1, rows=5, model="delay/3")).points == 0.5
    assert scored("Mo3", ev("skew", "delays", created_at=950, rows=5, model="delay/2")).points == 0
    assert scored("Mo3", ev("skew", "other", created_at=950, rows=5)).points == 0


def test_a_failed_check_gives_nothing_even_after_passes() -> None:
    passes = [ev("baseline", "delay/3"), ev("baseline")]
    last = ev("baseline", passed=False)
    found = scored("M5", *passes, last)
    assert (found.points, found.evidence) == (0, (last,))
    assert "is red" in found.missing[0]
    assert scored("M5", *passes, last, ev("baseline")).points == 0.5
    assert scored("M5", *passes, last, ev("baseline"), ev("baseline")).points == 1


def test_one_red_part_takes_the_points_of_the_others() -> None:
    good = ev("numeric", finite=True)
    assert scored("Mo5", good).points == 0.5
    assert scored("Mo5", good, ev("numeric", "delays", passed=False)).points == 0


def test_numbers_are_counted_in_training_and_in_serving() -> None:
    training = [red("numeric"), ev("numeric", "delay/2"), ev("numeric")]
    serving = [ev("numeric", "delays"), ev("numeric", "delays")]
    assert scored("Mo5", *training).points == 0.5
    assert scored("Mo5", *serving).points == 0.5
    assert scored("Mo5", *training, *serving).points == 1


@pytest.mark.parametrize(
    ("id_", "record"),
    [
        ("D2", ev("importance", features=[])),
        ("D3", ev("feature_check", rows=3)),
        ("D7", ev("feature_check", rows=0)),
        ("M3", ev("search", trials=1)),
        ("M6", ev("slices", slices={})),
        ("I4", ev("gate", gates=[])),
        ("I5", ev("trace", rows=0)),
        ("I6", ev("canary", requests=0)),
        ("I6", ev("canary", requests=900, drill=True)),
        ("I7", ev("rollback", "delays", before="delay/3", after="delay/3", ms=4)),
        ("Mo2", ev("serving_inputs", "delays", rows=0)),
        ("Mo3", ev("skew", "delays", rows=0, equal=0)),
        ("Mo4", ev("staleness", "delays", age_days=None)),
        ("Mo7", ev("quality", "delays", rows=0)),
    ],
)
def test_an_empty_check_is_no_evidence_and_the_reason_is_said(id_: str, record: Evidence) -> None:
    found = scored(id_, record)
    assert found.points == 0
    assert any("no evidence" in text for text in found.missing)


def test_what_runs_every_day_has_to_go_on() -> None:
    def three(*days: float) -> list[Evidence]:
        proof = ev("skew", "delays", mutation=True, days=20)
        return [proof, *(ev("skew", "delays", rows=9, equal=9, days=d) for d in days)]

    assert scored("Mo3", *three(2, 1)).points == 1
    late = scored("Mo3", *three(9, 8))
    assert late.points == 0.5
    assert "is its schedule on?" in late.missing[0]


def test_a_forced_gate_is_half_a_point_however_often() -> None:
    gates = [{"kind": "beats_champion", "passed": True}, {"kind": "metric", "passed": True}]
    before = [red("gate", gates=gates), ev("gate", "delay/2", gates=gates)]
    assert scored("I4", *before, ev("gate", gates=gates, forced=False)).points == 1
    for passed in (True, False):
        found = scored("I4", *before, ev("gate", gates=gates, forced=True, passed=passed))
        assert found.points == 0.5
        assert any("was forced" in text for text in found.missing)
    assert scored("I4", *before).points == 0
    assert scored("I4", *before, ev("gate", gates=gates[:1])).points == 0.5
    # a candidate that was kept out is the gate at work, not a fault of the version that serves
    refused = red("gate", "delay/2", gates=gates)
    assert scored("I4", refused, ev("gate", gates=gates)).points == 1


def test_slices_need_a_gate_for_the_full_point() -> None:
    shown = [
        red("slices", slices={"a": [1]}),
        ev("slices", "delay/2", slices={"a": [1]}),
        ev("slices", slices={"a": [1]}),
    ]
    assert scored("M6", *shown).points == 0.5
    gates = [{"kind": "slices", "passed": True}]
    more = [red("gate", gates=gates), ev("gate", "delay/2", gates=gates), ev("gate", gates=gates)]
    assert scored("M6", *shown, *more).points == 1


def test_the_sweep_that_found_the_values_counts_for_a_retrained_version() -> None:
    best = {"C": 0.5, "kind": "l2"}
    sweep = ev("search", "delay/1", version_id=VersionId(99), trials=12, best=best)
    assert scored("M3", sweep).points == 0.5
    assert scored("M3", ev("search", "delay/1", trials=12, best={**best, "C": 0.25})).points == 0
    assert scored("M3", ev("search", "other/1", trials=12, best=best)).points == 0
    assert scored("M3", ev("search", "delay/3", trials=3)).missing[0].startswith("a sweep with at least 10")


def test_a_way_back_has_to_lead_somewhere_else_and_be_quick() -> None:
    def back(ms: int, **more: Any) -> Evidence:
        return ev("rollback", "delays", before="delay/3", after="delay/2", ms=ms, created_at=1, **more)

    proof = ev("rollback", "delays", mutation=True)
    assert scored("I7", proof, back(900, drill=True), back(800, drill=True)).points == 1
    assert scored("I7", proof, back(900), back(900_000)).points == 0.5
    assert scored("I7", proof, back(900), ev("rollback", "delays", details={"from": "delay/1", "to": "delay/2", "ms": 3})).points == 0.5  # fmt: skip


def test_a_chosen_prediction_is_worth_less_than_a_drawn_one() -> None:
    proof = ev("trace", mutation=True)
    assert scored("I5", proof, ev("trace", rows=1, random=True), ev("trace", rows=1, random=True)).points == 1
    found = scored("I5", proof, ev("trace", rows=1, random=True), ev("trace", rows=1, random=False))
    assert found.points == 0.5
    assert "drawn at random" in found.missing[0]


def test_an_estimate_is_no_truth() -> None:
    proof, first = ev("quality", "delays", mutation=True), ev("quality", "delays", rows=9)
    assert scored("Mo7", proof, first, ev("quality", "delays", rows=9, coverage=0.9)).points == 1
    assert scored("Mo7", proof, first, ev("quality", "delays", rows=9, estimate=True)).points == 0.5
    assert scored("Mo7", proof, first, ev("quality", "delays", rows=9, coverage=0.2)).points == 0.5


def test_a_refused_batch_proves_the_contract_and_blames_nobody() -> None:
    refused = red("contract", "flights", rows=10)
    assert scored("D1", refused).points == 0
    kept = [ev("contract", "flights", rows=10), ev("contract", "flights", rows=10)]
    served = [
        ev("serving_inputs", "delays", rows=4, mutation=True),
        *(ev("serving_inputs", "delays", rows=4) for _ in "ab"),
    ]
    assert scored("D1", *kept, red("contract", "flights", rows=1)).points == 0.5
    assert scored("D1", *kept, *served).points == 0.5
    assert scored("D1", refused, *kept, *served).points == 1
    assert scored("D1", *kept, *served, red("contract", "flights", rows=1)).points == 1


def test_a_model_that_serves_nowhere_has_no_points_from_an_endpoint() -> None:
    alone = Subject(model="delay/3", registered="delay", versions=frozenset({VersionId(30)}))
    assert scored("Mo3", ev("skew", "delays", rows=4), subject=alone).points == 0
    assert scored("M5", ev("baseline"), subject=alone).points == 0.5
    assert scored("M5", ev("baseline"), subject=Subject()).points == 0


@given(
    st.lists(
        st.tuples(
            st.sampled_from(NAMES),
            st.sampled_from(["delay/3", "delay/2", "delays", "flights", "trip"]),
            st.booleans(), st.booleans(), st.booleans(), st.integers(0, 60),
        ),
        max_size=40,
    )
)  # fmt: skip
def test_whatever_is_recorded_points_are_steps_name_their_records_and_vanish_with_them(given_: list[Any]) -> None:
    full = {"rows": 5, "features": [{"low": 0, "high": 1}], "trials": 20, "slices": {"a": 1}, "cost": {"wall_ms": 1},
            "requests": 500, "ms": 5, "random": True, "age_days": 1, "limit_days": 2,
            "gates": [{"kind": k, "passed": True} for k in ("beats_champion", "slices")]}  # fmt: skip
    records = [
        ev(
            test,
            subject,
            passed=passed,
            auto=auto,
            days=days,
            details={**full, **({"mutation": True} if planted else {})},
        )
        for test, subject, passed, auto, planted, days in given_
    ]
    for test in TESTS:
        found = evaluate(test, records, SERVING, NOW)
        assert found.points in (0, 0.5, 1)
        assert (found.missing == ()) is (found.points == 1)
        assert found == evaluate(test, records, SERVING, NOW)
        if found.points:
            assert found.evidence
            kinds = {e.test for e in found.evidence}
            assert evaluate(test, [e for e in records if e.test not in kinds], SERVING, NOW).points < found.points
        if found.points == 1:
            assert sum(e.automatic and e.passed for e in found.evidence) >= 2


def test_the_weakest_section_is_the_score() -> None:
    def score(points: dict[str, float]) -> Score:
        tests = tuple(
            Mark(id=t.id, section=t.section, title=t.title, points=points.get(t.section.value, 0.0)) for t in TESTS
        )
        return Score(subject=SERVING, at=NOW, upto=1, tests=tests)

    assert score({}).value == 0
    full = {"data": 1.0, "model": 0.5, "infrastructure": 1.0, "monitoring": 1.0}
    assert score(full).sections == {
        Section.DATA: 7,
        Section.MODEL: 3.5,
        Section.INFRASTRUCTURE: 7,
        Section.MONITORING: 7,
    }
    assert score(full).value == 3.5
    texts = [band(v) for v in (0, 0.5, 1, 1.5, 2, 2.5, 3, 4, 5, 5.5, 7)]
    assert len(set(texts)) == 6
    assert texts[1] == texts[2] != texts[3]
