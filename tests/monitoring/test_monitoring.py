"""Windows, accuracy, input checks and skew, over predictions that were captured and truth that comes when it comes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from looped_shop import (
    ENDPOINT,
    ME,
    ROBOT,
    START_MS,
    Traffic,
    captured,
    copied,
    deployed,
    fair,
    good,
    level,
    move_clock,
    poor,
    routed,
    serve,
    version,
    world,
)
from sklearn.metrics import log_loss, roc_auc_score

from noria.base.errors import NotFound
from noria.base.times import DAY, to_datetime
from noria.monitoring import windows
from noria.monitoring.errors import TruthFailed
from noria.monitoring.labeller import Labeller
from noria.monitoring.records import Window
from noria.serving.loaded import Loaded
from noria.serving.records import Arm
from noria.serving.segments import Captured, CapturedRow, SegmentWriter
from noria.training.reference import freeze
from noria.workspace import Workspace


def only(found: list[Window]) -> Window:
    (window,) = found
    return window


def joined(ws: Workspace) -> pl.DataFrame:
    """Scores and truth, joined by hand from the two tables."""
    scores = ws.data.read(ws.data.get(ws.project.id, f"{ENDPOINT}.predictions"))
    scores = scores.filter(pl.col("answered") & (pl.col("error") == ""))
    outcomes = ws.data.read(ws.data.get(ws.project.id, "outcomes")).select("id", "back")
    return scores.with_columns(id=pl.col("entity").str.json_decode(pl.List(pl.String)).list.first()).join(
        outcomes, on="id"
    )


# ---- windows and truth


def test_a_window_says_what_was_scored_and_how_fast(shop: Workspace) -> None:
    champion = serve(shop)
    traffic = Traffic(shop, per_day=40, latency=300_000)
    traffic.day({champion.id: good})
    window = only(shop.monitoring.windows(ENDPOINT))
    assert (window.start, window.deployment, window.model) == (START_MS, champion.id, "tree/1")
    assert (window.n, window.answered, window.errors, window.slow) == (40, 40, 0, 40)
    assert window.latency == {"p50": 300.0, "p99": 300.0}
    assert sum(window.score) == 40
    assert set(window.columns) == {"shop", "n", "price", "big"}
    assert all(sum(counts) == 40 for counts in window.columns.values())
    assert window.facts == {"finite": True}
    traffic.latency = 900
    traffic.day({champion.id: good})
    assert [w.slow for w in shop.monitoring.windows(ENDPOINT)] == [40, 0]


def test_truth_that_comes_late_opens_its_window_again(shop: Workspace) -> None:
    champion = serve(shop)
    traffic = Traffic(shop)
    told = traffic.day({champion.id: fair}, truth=False)
    for _ in range(2):
        traffic.day({champion.id: fair}, truth=False)
    before = shop.monitoring.windows(ENDPOINT)
    assert [(w.labelled, w.metrics) for w in before] == [(0, {})] * 3
    (all_of_it,) = shop.monitoring.accuracy(ENDPOINT)
    assert (all_of_it.n, all_of_it.labelled, all_of_it.due, all_of_it.coverage) == (240, 0, 160, 0.0)
    traffic.tell(told.head(60))
    changed = shop.monitoring.process(ENDPOINT)
    assert [(w.start, w.labelled) for w in changed] == [(START_MS, 60)]
    (all_of_it,) = shop.monitoring.accuracy(ENDPOINT)
    assert (all_of_it.labelled, all_of_it.due, all_of_it.coverage) == (60, 160, 60 / 160)
    (first,) = shop.monitoring.accuracy(ENDPOINT, until=START_MS + DAY)
    assert (first.labelled, first.due, first.coverage) == (60, 80, 0.75)
    traffic.tell(told.tail(20))
    assert only(shop.monitoring.process(ENDPOINT)).labelled == 80
    assert shop.monitoring.process(ENDPOINT) == []


def test_truth_that_is_corrected_changes_the_metrics(shop: Workspace) -> None:
    champion = serve(shop)
    traffic = Traffic(shop)
    told = traffic.day({champion.id: fair})
    before = only(shop.monitoring.windows(ENDPOINT))
    wrong = told.head(10).with_columns(~pl.col("back"))
    traffic.tell(wrong)
    after = only(shop.monitoring.process(ENDPOINT))
    assert (after.labelled, after.start) == (80, before.start)
    assert after.metrics["log_loss"] > before.metrics["log_loss"]
    by_hand = joined(shop)
    assert after.metrics["log_loss"] == pytest.approx(log_loss(by_hand["back"], by_hand["score"]))
    assert after.metrics["roc_auc"] == pytest.approx(roc_auc_score(by_hand["back"], by_hand["score"]))
    traffic.tell(wrong)  # the same again
    assert shop.monitoring.process(ENDPOINT) == []


class Raises:
    """Stops at a point, once."""

    def __init__(self) -> None:
        self.point = ""

    def at(self, point: str) -> None:
        if self.point and point == self.point:
            self.point = ""
            raise KeyboardInterrupt(point)


@pytest.mark.parametrize("point", ["change.data.append", "change.monitor.windows"])
def test_a_crash_between_truth_and_windows_leaves_no_window_behind(
    template: Path, tmp_path: Path, labeller: Labeller, point: str
) -> None:
    faults = Raises()
    with copied(template, tmp_path / "shop", labeller, faults) as ws:
        champion = serve(ws)
        traffic = Traffic(ws)
        told = traffic.day({champion.id: fair}, truth=False)
        traffic.tell(told)
        faults.point = point
        with pytest.raises(KeyboardInterrupt):
            ws.monitoring.process(ENDPOINT)
        ws.monitoring.process(ENDPOINT)
        assert only(ws.monitoring.windows(ENDPOINT)).labelled == 80


def test_every_deployment_that_scored_has_its_own_windows_and_truth(shop: Workspace) -> None:
    champion, other = serve(shop), deployed(shop, 2)
    routed(
        shop,
        Arm(deployment=champion.id, role="champion", weight=0.75),
        Arm(deployment=other.id, role="canary", weight=0.25),
    )
    Traffic(shop, per_day=100).day({champion.id: good, other.id: poor})
    first, second = shop.monitoring.windows(ENDPOINT)
    assert (first.n, second.n, first.labelled, second.labelled) == (100, 100, 100, 100)
    assert first.answered + second.answered == 100
    assert 10 < second.answered < 40
    assert first.metrics["log_loss"] == pytest.approx(-math.log(0.7))
    assert second.metrics["log_loss"] == pytest.approx(-math.log(0.45))
    pairs = shop.monitoring.paired(ENDPOINT, champion.id, other.id, START_MS, START_MS + DAY)
    assert len(pairs) == 100
    assert pairs.filter(pl.col("truth") == 1).select("first", "second").unique().rows() == [(0.7, 0.45)]
    assert len(shop.monitoring.paired(ENDPOINT, champion.id, other.id, START_MS, START_MS)) == 0
    assert only(shop.monitoring.windows(ENDPOINT, deployment=other.id)).deployment == other.id
    (mine,) = shop.monitoring.accuracy(ENDPOINT, deployment=other.id)
    assert (mine.model, mine.n) == ("tree/2", 100)  # what answered and what did not
    (all_of_it,) = shop.monitoring.accuracy(ENDPOINT)
    assert (all_of_it.model, all_of_it.n) == ("", 100)


def test_a_labels_function_that_fails_is_said_and_nothing_is_marked_as_read(
    shop: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion = serve(shop)
    traffic = Traffic(shop)
    whole = shop.monitoring._labeller.label

    def broken(spec: Any, code: Path, tables: Any) -> pl.DataFrame:
        tables = {slot: (frame.drop("back"), meta) for slot, (frame, meta) in tables.items()}
        return whole(spec, code, tables)

    monkeypatch.setattr(shop.monitoring._labeller, "label", broken)
    with pytest.raises(TruthFailed, match=r"returned.*back"):
        traffic.day({champion.id: fair})
    monkeypatch.undo()
    traffic.process()
    assert only(shop.monitoring.windows(ENDPOINT)).labelled == 80


def test_without_a_champion_or_without_traffic_there_is_nothing(shop: Workspace) -> None:
    assert shop.monitoring.process(ENDPOINT) == []
    assert shop.monitoring.accuracy(ENDPOINT) == []
    with pytest.raises(NotFound, match="champion"):
        shop.monitoring.report(ENDPOINT, None, None, None)
    serve(shop)
    assert shop.monitoring.process(ENDPOINT) == []
    assert shop.monitoring.windows(ENDPOINT) == []


frames = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.sampled_from(["a", "b", "new", None]),
        st.one_of(st.none(), st.floats(-10, 10), st.integers(-3, 3)),
        st.booleans(),
        st.integers(100, 400_000),
        st.sampled_from(["", "", "scoring_failed"]),
    ),
    max_size=25,
)


@settings(max_examples=40)
@given(frames, frames)
def test_counts_of_a_window_are_the_sum_of_the_counts_of_its_parts(one: list[Any], other: list[Any]) -> None:
    features = pl.DataFrame({"shop": ["a", "b", "a"], "n": [1.0, 2.0, 3.0]})
    known = freeze([0.1, 0.5, 0.9], features)

    def rows(values: list[Any]) -> pl.DataFrame:
        kinds: dict[str, Any] = {"score": pl.Float64, "features": pl.String, "answered": pl.Boolean, "latency": pl.Int64,
                                 "error": pl.String, "count": pl.Int32}  # fmt: skip
        data = [
            (None if e else s, msgspec.json.encode({"shop": t, "n": n}).decode(), a, late, e, 2 if e else 1)
            for s, t, n, a, late, e in values
        ]
        return pl.DataFrame(data, schema=kinds, orient="row")

    a, b, whole = (windows.describe(rows(v), known, 250.0) for v in (one, other, one + other))
    for name in ("n", "answered", "errors", "slow"):
        assert a[name] + b[name] == whole[name]
    assert (np.array(a["score"]) + np.array(b["score"])).tolist() == whole["score"]
    for name, counts in whole["columns"].items():
        parts = [np.array(p["columns"][name]) for p in (a, b) if p["columns"]]
        assert sum(parts).tolist() == counts


# ---- accuracy


def test_accuracy_by_month_is_what_scikit_learn_says_of_the_joined_rows(shop: Workspace) -> None:
    champion = serve(shop)
    traffic = Traffic(shop, per_day=60)
    for number in range(10):  # 25 January to 3 February
        traffic.day({champion.id: fair}, truth=number != 4)
    found = shop.monitoring.accuracy(ENDPOINT, by="month")
    by_hand = joined(shop).with_columns(month=pl.col("at").dt.month())
    assert [to_datetime(a.start).month for a in found] == [1, 2]
    assert [a.n for a in found] == [420, 180]
    for month, part in zip((1, 2), found, strict=True):
        mine = by_hand.filter(pl.col("month") == month)
        assert part.metrics["log_loss"]["value"] == pytest.approx(log_loss(mine["back"], mine["score"]))
        assert part.metrics["roc_auc"]["value"] == pytest.approx(roc_auc_score(mine["back"], mine["score"]))
        for value in part.metrics.values():
            assert value["low"] <= value["value"] <= value["high"]
            assert value["n"] == len(mine)
        assert part.positives == pytest.approx(mine["back"].mean())
    january, february = found
    assert january.coverage == pytest.approx(360 / 420)
    assert (february.due, february.labelled) == (120, 120)  # yesterday's truth has a day left
    assert len(shop.monitoring.accuracy(ENDPOINT, by="day")) == 10
    assert len(shop.monitoring.accuracy(ENDPOINT, by="week")) == 2  # weeks begin on Monday
    (one,) = shop.monitoring.accuracy(ENDPOINT, metrics=["log_loss"])
    assert list(one.metrics) == ["log_loss"]


# ---- inputs and alerts


def test_one_incident_of_inputs_is_one_alert_that_is_closed_when_it_is_over(shop: Workspace) -> None:
    champion = serve(shop)
    traffic = Traffic(shop)
    traffic.day({champion.id: fair})
    assert shop.monitoring.alerts(only_open=True) == []
    for change in ({"shop": "z"}, {"shop": "z", "price": None}, {"shop": None}):
        traffic.changes = change
        traffic.day({champion.id: fair})
    (alert,) = [a for a in shop.monitoring.alerts() if a.kind == "inputs"]
    assert (alert.endpoint, alert.closed, alert.opened) == (ENDPOINT, None, START_MS + 2 * DAY)
    assert alert.details["failed"] == [{"column": "shop", "what": "unknown", "share": 1.0, "limit": 0.2}]
    assert "shop unknown 100%" in alert.message
    traffic.changes = {}
    traffic.day({champion.id: fair})
    (alert,) = [a for a in shop.monitoring.alerts() if a.kind == "inputs"]
    assert alert.closed == START_MS + 5 * DAY
    traffic.changes = {"price": None}
    traffic.day({champion.id: fair})
    found = [a for a in shop.monitoring.alerts() if a.kind == "inputs"]  # newest first: another incident
    assert [a.closed for a in found] == [None, START_MS + 5 * DAY]
    assert [f["what"] for f in found[0].details["failed"]] == [
        "missing",
        "missing",
    ]  # price, and big that is made of it
    evidence = shop.evidence.list(shop.project.id, tests=["serving_inputs"])
    assert [e.passed for e in evidence] == [True, False, False, False, True, False]
    assert [e.passed for e in shop.evidence.list(shop.project.id, tests=["numeric"], subject=ENDPOINT)] == [True] * 6
    events = [e.type for e in shop.assets.list_events(shop.project.id, limit=500) if e.type.startswith("alert.")]
    assert events == ["alert.opened", "alert.closed", "alert.opened"]


def test_a_few_missing_values_are_no_incident(shop: Workspace) -> None:
    champion = serve(shop)
    writer = SegmentWriter(shop.serving.capture_folder, "t")
    for number, row in enumerate(world(to_datetime(START_MS), 1, 50, 4, "x")["orders"].iter_rows(named=True)):
        writer.write(captured(champion.id, "tree/1", row | ({"price": None} if number % 10 == 0 else {}), 0.4))
    writer.close()
    move_clock(shop, START_MS + DAY)
    shop.ingest.take(actor=ROBOT)
    shop.monitoring.process(ENDPOINT)
    endpoint = shop.serving.get(ENDPOINT)
    assert shop.monitoring.check_inputs(endpoint, START_MS) == []
    assert shop.monitoring.check_inputs(endpoint, START_MS + DAY) == []  # no traffic is no incident, and no evidence
    assert len(shop.evidence.list(shop.project.id, tests=["serving_inputs"])) == 1


def test_drift_is_that_of_all_windows_in_the_span_together(shop: Workspace) -> None:
    champion = serve(shop)
    traffic = Traffic(shop, per_day=100)
    for _ in range(2):
        traffic.day({champion.id: fair})
    traffic.changes = {"price": 500.0}
    for _ in range(2):
        traffic.day({champion.id: level})
    whole = shop.monitoring.report(ENDPOINT, None, None, None)
    assert (whole.model, whole.since, whole.until) == ("tree/1", START_MS - 3 * DAY, START_MS + 4 * DAY)
    assert whole.score.n == 400
    assert whole.features[0].name in ("price", "big")  # the largest first
    quiet = shop.monitoring.report(ENDPOINT, champion.id, START_MS, START_MS + 2 * DAY)
    moved = shop.monitoring.report(ENDPOINT, champion.id, START_MS + 2 * DAY, START_MS + 4 * DAY)
    by_name = {d.name: d for d in quiet.features}, {d.name: d for d in moved.features}
    assert by_name[0]["price"].psi < 0.2 < 5 < by_name[1]["price"].psi
    assert by_name[0]["shop"].psi == pytest.approx(by_name[1]["shop"].psi, abs=0.1)
    assert (quiet.score.n, moved.score.n) == (200, 200)


# ---- skew


@pytest.fixture
def answered(shop: Workspace) -> tuple[Workspace, list[Captured]]:
    """A day that is answered by the real scoring code; nothing is written yet."""
    champion = serve(shop)
    orders = world(to_datetime(START_MS), 1, 30, 8, "s")["orders"]
    shop.data.append(shop.data.get(shop.project.id, "orders"), orders, actor=ROBOT)
    loaded = Loaded(champion.id, champion.model, *shop.serving.folders(champion), shop.features.replica_path)
    made: list[Captured] = []
    for row in orders.iter_rows(named=True):
        (decoded,) = loaded.contract.decode_rows([row])
        computed = loaded.features(loaded.contract.frame([decoded]))
        (score,), (values,), (at,) = loaded.score(computed).tolist(), loaded.values(computed), loaded.moments(computed)
        body = CapturedRow(
            f"p-{row['id']}", loaded.contract.entity(decoded), at, score, msgspec.json.encode(decoded), values
        )
        made.append(
            Captured(
                endpoint=ENDPOINT, revision=1, deployment=champion.id, model=champion.model, role="champion",
                answered=True, received=START_MS, latency=800, commits=computed.commits, rows=[body],
            )
        )  # fmt: skip
    move_clock(shop, START_MS + 2 * DAY)
    outcomes = world(to_datetime(START_MS), 1, 30, 8, "s")["outcomes"]
    shop.data.append(shop.data.get(shop.project.id, "outcomes"), outcomes, actor=ROBOT)
    shop.pipelines.run(["basket"], actor=ME)
    return shop, made


def take(ws: Workspace, made: list[Captured]) -> None:
    writer = SegmentWriter(ws.serving.capture_folder, "s")
    writer.write(*made)
    writer.close()
    ws.ingest.take(actor=ROBOT)


def test_features_of_requests_that_are_those_of_the_bulk_pass(answered: tuple[Workspace, list[Captured]]) -> None:
    ws, made = answered
    take(ws, made)
    found = ws.monitoring.skew(ENDPOINT, 100, actor=ROBOT)
    assert found == {"rows": 30, "equal": 30, "scores_equal": 30, "absent": 0, "wrong": {}, "passed": True}
    assert [e.passed for e in ws.evidence.list(ws.project.id, tests=["skew"])] == [True]


def test_a_planted_difference_in_a_captured_feature_is_found_with_its_name(
    answered: tuple[Workspace, list[Captured]],
) -> None:
    ws, made = answered
    for number, (name, value) in enumerate((("n", lambda v: v + 1), ("price", lambda v: float(np.nextafter(v, 0))),
                                            ("shop", lambda _: None), ("price", lambda _: None))):  # fmt: skip
        row = made[number].rows[0]
        features = msgspec.json.decode(row.features)
        features[name] = value(features[name])
        row.features = msgspec.json.encode(features)
    made[9].rows[0].score = float(np.nextafter(made[9].rows[0].score, 1))
    made[10].rows[0].entity = '["nobody"]'
    take(ws, made)
    found = ws.monitoring.skew(ENDPOINT, 100, actor=ROBOT)
    assert found["wrong"] == {"n": 1, "price": 2, "shop": 1}
    assert (found["equal"], found["scores_equal"], found["absent"], found["passed"]) == (25, 28, 1, False)
    (evidence,) = ws.evidence.list(ws.project.id, tests=["skew"])
    assert (evidence.passed, evidence.subject) == (False, ENDPOINT)


def test_a_sample_is_random_but_the_same_for_the_same_seed(answered: tuple[Workspace, list[Captured]]) -> None:
    ws, made = answered
    made[0].answered = False
    take(ws, made)
    first, again, other = (ws.monitoring.sample(ENDPOINT, 10, seed=s)["id"].to_list() for s in (1, 1, 2))
    assert first == again != other
    assert len(ws.monitoring.sample(ENDPOINT, 100)) == 29


# ---- against another version


def test_another_version_is_judged_on_what_was_asked(answered: tuple[Workspace, list[Captured]]) -> None:
    ws, made = answered
    take(ws, made)
    ws.monitoring.process(ENDPOINT)
    truth = joined(ws).select("id", "back")
    (same,) = ws.monitoring.compare(ENDPOINT, version(ws, 1))
    assert (same.n, same.labelled) == (30, 30)
    assert same.metrics["answered"] == same.metrics["against"]
    by_hand = joined(ws)
    assert same.metrics["answered"]["log_loss"] == pytest.approx(log_loss(by_hand["back"], by_hand["score"]))
    (other,) = ws.monitoring.compare(ENDPOINT, version(ws, 2))
    assert other.metrics["answered"] == same.metrics["answered"]
    assert other.metrics["against"] != same.metrics["against"]
    assert other.positives == pytest.approx(truth["back"].mean())
    before = ws.monitoring.truth(ENDPOINT).filter(~pl.col("entity").is_in([m.rows[0].entity for m in made]))
    share = before["truth"].mean()
    assert other.metrics["constant"]["log_loss"] == pytest.approx(log_loss(truth["back"], [share] * 30))
    assert ws.monitoring.compare(ENDPOINT, version(ws, 2), since=START_MS + 5 * DAY) == []
