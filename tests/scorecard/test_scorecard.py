"""The score of a trained, served model, from what the system itself recorded."""

from __future__ import annotations

import asyncio
import io
import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from sqlalchemy import delete

from noria.assets import tables as asset_tables
from noria.base.actor import Actor
from noria.base.times import DAY
from noria.http.access import Access
from noria.http.app import build
from noria.registry.errors import ModelNotFound
from noria.scorecard import Scorecard
from noria.scorecard.cli import scorecard as command
from noria.scorecard.errors import SubjectUnclear
from noria.scorecard.http import routes
from noria.serving.records import Arm, DeploymentState
from noria.terminal import Shell
from noria.workspace import Workspace

ME = Actor(name="user:test")
ROBOT = Actor(name="system:test", automatic=True)
T0 = datetime(2013, 1, 1, tzinfo=UTC)

PROJECT = """\
import noria as nr
import polars as pl
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

orders = nr.source("orders", key="id", time="at")
outcomes = nr.source("outcomes", key="id", time="known", known="known")


@nr.features(of=orders, at=pl.col("at"))
def basket(orders: pl.LazyFrame) -> pl.LazyFrame:
    return orders.select("id", "shop", "n", "price")


@nr.labels(of=orders, after="1d")
def returned(outcomes: pl.LazyFrame) -> pl.LazyFrame:
    return outcomes.select("id", returned=pl.col("back"))


@nr.model(features=basket, target=returned, split=nr.split.time(valid="6d", test="6d"), metrics=["log_loss"],
          search={"C": nr.space.log(0.05, 5.0)})
def tree(train, valid, *, C: float = 1.0):
    columns = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["shop", "n"]), (StandardScaler(), ["price"]))
    return make_pipeline(columns, LogisticRegression(C=C)).fit(train.X, train.y)
"""


def world(n: int = 1500) -> tuple[pl.DataFrame, pl.DataFrame]:
    rng = np.random.default_rng(0)
    at = [T0 + timedelta(minutes=int(m)) for m in np.sort(rng.integers(0, 40 * 24 * 60, n))]
    shop, items, price = rng.choice(["a", "b"], n), rng.integers(1, 9, n), rng.gamma(2, 20, n).round(2)
    chance = 1 / (1 + np.exp(-(-2 + 0.03 * price + 0.3 * (shop == "a") + 2 * np.isin(items, (2, 5, 7)))))
    orders = pl.DataFrame({"id": [f"o{i}" for i in range(n)], "at": at, "shop": shop, "n": items, "price": price})
    back = pl.DataFrame({"id": orders["id"], "back": rng.random(n) < chance, "known": [t + timedelta(hours=12) for t in at]})  # fmt: skip
    return orders, back


def scorecard_of(ws: Workspace) -> Scorecard:
    return Scorecard(
        ws.project.id, ws.assets, ws.lineage, ws.evidence, ws.changes, ws.sessions, ws.serving, ws.registry,
        ws.tracking, ws.event_clock,
    )  # fmt: skip


@pytest.fixture
def swept(project) -> Workspace:
    """Swept and then trained again with the values that were found, both by a trigger; served nowhere."""
    ws: Workspace = project({"shop.py": PROJECT})
    graph = ws.pipelines.graph()
    for name, frame in zip(("orders", "outcomes"), world(), strict=True):
        ws.data.append(ws.pipelines.ensure_source(graph.node(name).thing), frame, actor=ME)
    swept = ws.training.sweep("tree", trials=4, actor=ROBOT)
    ws.pipelines.run(["tree"], swept.best.params, actor=ROBOT, force=True)
    return ws


def serve(ws: Workspace, model: str, endpoint: str = "shops") -> None:
    found = ws.serving.ensure(endpoint, "tree", {}, actor=ME)
    deployment = ws.serving.deploy(found, ws.registry.resolve(ws.project.id, model), actor=ME)
    ws.serving.mark(deployment.id, DeploymentState.READY)
    with ws.changes.begin("test.route", ws.project.id, ME) as change:
        arms = [Arm(deployment=deployment.id, role="champion", weight=1.0)]
        ws.serving.route(change, ws.serving.get(endpoint), arms, salt="", paired=False, reason="test")
        change.note(endpoint)


def record(ws: Workspace, test: str, subject: str, *, passed: bool = True, actor: Actor = ROBOT, **details: Any) -> int:
    with ws.changes.begin("test.evidence", ws.project.id, actor) as change:
        change.note(subject)
        return ws.evidence.record(change, test, subject, passed=passed, evaluator="t:1", details=details)


def points(score: Any) -> dict[str, float]:
    return {t.id: t.points for t in score.tests if t.points}


def test_the_score_rests_on_what_training_recorded_and_falls_when_it_is_deleted(swept: Workspace) -> None:
    serve(swept, "tree/2")
    card = scorecard_of(swept)
    score = card.score("shops")
    assert (score.subject.endpoint, score.subject.model) == ("shops", "tree/2")
    assert score.subject.assets >= {"tree", "basket", "returned", "orders", "outcomes", "code", "environment"}
    assert points(score) == dict.fromkeys(("D2", "D3", "D7", "M3", "M5", "M6", "Mo5"), 0.5)
    assert score.value == 0
    for test in score.tests:
        assert all(e.id in {x.id for x in swept.evidence.list(swept.project.id)} for e in test.evidence)
    for kind, lost in (("baseline", {"M5"}), ("feature_check", {"D3", "D7"}), ("search", {"M3"})):
        before = points(card.score("shops"))
        with swept.db.write() as tx:
            tx.execute(delete(asset_tables.evidence).where(asset_tables.evidence.c.test == kind))
        after = points(card.score("shops"))
        assert set(before) - set(after) == lost
    with swept.db.write() as tx:
        tx.execute(delete(asset_tables.evidence))
    assert points(card.score("shops")) == {}


def test_a_version_is_scored_by_its_own_evidence_and_keeps_the_sweep_of_its_values(swept: Workspace) -> None:
    card = scorecard_of(swept)
    serve(swept, "tree/2")
    best = swept.evidence.list(swept.project.id, tests=["search"])[0].details["best"]
    for name, frame in zip(("orders", "outcomes"), world(), strict=True):
        time = pl.col("at" if name == "orders" else "known") + pl.duration(days=40)
        later = frame.with_columns(time, id=pl.lit("later-") + pl.col("id"))
        swept.data.append(swept.data.get(swept.project.id, name), later, actor=ME)
    swept.pipelines.run(["tree"], best, actor=ROBOT)
    serve(swept, "tree/3")
    score = card.score("tree")
    assert score.subject.model == "tree/3"
    by_id = {t.id: t for t in score.tests}
    assert by_id["M3"].points == 0.5
    assert by_id["M3"].evidence[0].subject == "tree/1"
    assert {e.subject for e in by_id["M5"].evidence if e.passed} == {"tree/2", "tree/3"}  # twice in a row
    # another value of C: the sweep did not find it
    swept.pipelines.run(["tree"], {"C": 0.123}, actor=ROBOT)
    assert {t.id: t.points for t in card.score("tree/4").tests}["M3"] == 0
    # trained by hand: half a point, whatever ran before
    swept.pipelines.run(["tree"], {"C": 0.321}, actor=ME)
    by_hand = {t.id: t for t in card.score("tree/5").tests}
    assert by_hand["M5"].points == 0.5
    assert by_hand["M5"].note == "self-attested by user:test"


def test_evidence_of_other_versions_and_old_evidence_do_not_count(swept: Workspace) -> None:
    card = scorecard_of(swept)
    serve(swept, "tree/2")
    record(swept, "gate", "tree/9", gates=[{"kind": "metric", "passed": True}])
    assert "I4" not in points(card.score())
    record(swept, "gate", "tree/2", gates=[{"kind": "metric", "passed": True}])
    assert points(card.score())["I4"] == 0.5
    now = swept.event_clock.event_ms(swept.project.id)
    with swept.db.write() as tx:
        swept.event_clock.set(tx, swept.project.id, now + 31 * DAY)
    score = card.score()
    assert points(score) == {}
    assert any("older than 30 days" in text for t in score.tests for text in t.missing)


def test_monitoring_of_an_endpoint_counts_for_who_serves(swept: Workspace) -> None:
    card = scorecard_of(swept)
    record(swept, "skew", "shops", rows=10, equal=10)  # before anything served
    serve(swept, "tree/2")
    assert "Mo3" not in points(card.score())
    record(swept, "skew", "shops", passed=False, rows=10, equal=9)
    assert "Mo3" not in points(card.score())
    record(swept, "skew", "shops", rows=10, equal=10)
    assert points(card.score())["Mo3"] == 0.5
    record(swept, "skew", "shops", rows=10, equal=10)
    assert points(card.score())["Mo3"] == 1
    record(swept, "skew", "shops", actor=ME, rows=10, equal=10)
    assert points(card.score())["Mo3"] == 0.5


def test_a_score_is_kept_as_a_version_and_computed_again_the_same(swept: Workspace) -> None:
    card = scorecard_of(swept)
    serve(swept, "tree/2")
    record(swept, "trace", "tree/2", rows=1, random=True)
    score, version = card.keep(actor=ME)
    value = card.kept(version)
    assert value["score"] == score.value
    assert value["model"] == "tree/2"
    assert next(t for t in value["tests"] if t["id"] == "I5")["evidence"]
    asset = swept.assets.asset(swept.project.id, "scorecard")
    assert (asset.kind.value, asset.current_id) == ("report", version.id)
    graph = swept.lineage.upstream([version.id])
    assert "tree" in {v.asset for v in graph.versions.values()}
    # the world goes on: more evidence, another champion, the same run made again
    record(swept, "trace", "tree/2", passed=False, rows=1, random=True)
    swept.pipelines.run(["tree"], {"C": 0.2}, actor=ROBOT)
    serve(swept, "tree/3")
    assert points(card.score()) != points(score)
    assert card.again(version).as_value() == value
    assert swept.verify(data=True) == []


def test_who_is_scored(swept: Workspace) -> None:
    card = scorecard_of(swept)
    assert card.score().subject.model == "tree/2"
    assert card.score().subject.endpoint is None
    swept.pipelines.run(["tree"], {"C": 0.2}, actor=ROBOT)
    assert card.score("tree").subject.model == "tree/3"
    swept.registry.move_alias(swept.project.id, "tree", "champion", 2, actor=ME)
    assert card.score("tree").subject.model == "tree/2"
    assert card.score("tree@champion").subject.model == "tree/2"
    serve(swept, "tree/3")
    assert card.score("tree").subject.model == "tree/3"
    assert card.score().subject.endpoint == "shops"
    assert card.score("tree/2").subject.endpoint is None
    assert card.score("tree/3").subject.endpoint == "shops"
    serve(swept, "tree/2", "others")
    with pytest.raises(SubjectUnclear, match="others, shops"):
        card.score()
    with pytest.raises(ModelNotFound):
        card.score("nothing")


def test_an_empty_project_has_a_score_of_nothing(workspace: Workspace) -> None:
    score = scorecard_of(workspace).score()
    assert (score.value, score.subject.model, len(score.tests)) == (0, None, 28)
    text = run_cli(scorecard_of(workspace))
    assert "Nothing serves yet" in text


def test_a_score_is_kept_on_every_database(both: Workspace) -> None:
    card = scorecard_of(both)
    record(both, "trace", "m/1", rows=1)
    score, version = card.keep(actor=ME)
    assert card.kept(version) == score.as_value() == card.again(version).as_value()


def run_cli(card: Scorecard, *args: str, json_: bool = False) -> str:
    out = io.StringIO()
    shell = Shell(lambda *a, **k: SimpleNamespace(scorecard=card, actor=ME), out)
    shell.json = json_
    command.main(list(args), standalone_mode=False, obj=shell)
    return out.getvalue()


def test_the_command_and_the_route_show_all_tests_with_what_they_rest_on(swept: Workspace) -> None:
    serve(swept, "tree/2")
    card = scorecard_of(swept)
    text = run_cli(card, "shops")
    for test in card.score().tests:
        assert test.id in text
    assert "tree/2 behind shops" in text
    assert "baseline" in text
    assert "Score 0 of 7 (infrastructure is the weakest): a research project" in text
    value = json.loads(run_cli(card, "tree", "--keep", json_=True))
    assert swept.assets.find(swept.project.id, "scorecard") is not None
    status, answer = get(build(routes(card), Access()), "/v1/scorecard", "model=tree")
    assert status == 200
    answer["event_time"] = value["event_time"]
    assert answer == value
    assert len(answer["tests"]) == 28
    status, answer = get(build(routes(card), Access()), "/v1/scorecard", "model=nothing")
    assert (status, answer["error"]["code"]) == (404, "model_not_found")


def get(app: Any, path: str, query: str) -> tuple[int, Any]:
    """One request, straight into the ASGI application."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "path": path,
        "raw_path": path.encode(), "query_string": query.encode(), "root_path": "", "scheme": "http",
        "headers": [(b"host", b"localhost")], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], json.loads(b"".join(m.get("body", b"") for m in sent))
