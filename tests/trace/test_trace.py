from __future__ import annotations

import asyncio
import io
import json
import random
from collections.abc import Iterable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import msgspec
import polars as pl
import pytest

from noria.base.actor import Actor
from noria.data.records import RepositoryKind
from noria.data.rows.schema import polars_type
from noria.features.function import FeatureFunction
from noria.features.slices import TableMeta
from noria.features.tables_seen import WholeTable
from noria.http.access import Access
from noria.http.app import build
from noria.scorecard import Scorecard
from noria.serving.contract import Contract
from noria.serving.errors import EndpointNotFound
from noria.terminal import Shell
from noria.trace import Trace
from noria.trace.cli import trace as command
from noria.trace.errors import NoPredictions, ReplayFailed, ThingNotFound, ThingUnclear
from noria.trace.http import routes
from noria.trace.records import Node, UsedRows

ME = Actor(name="user:test")
ROBOT = Actor(name="system:test", automatic=True)


def test_a_hundred_random_predictions_are_computed_again_and_equal(served) -> None:
    replays = served.trace.prove("delays", count=100, actor=ROBOT, chance=random.Random(7))
    assert len({r.prediction.id for r in replays}) == 100
    assert len({r.prediction.commits for r in replays}) > 8
    assert [r.different for r in replays if not r.equal] == []
    assert all(list(r.recomputed) == ["dest", "wind", "seats", "landed", "share", "mean", "hour"] for r in replays)
    assert len({r.recomputed["mean"] for r in replays}) > 50
    evidence, planted = served.ws.evidence.list(served.ws.project.id, tests=["trace"])[-2:]
    assert planted.passed
    assert (planted.details["mutation"], planted.details["planted"], planted.details["found"]) == (True, 7, 7)
    assert (evidence.passed, evidence.automatic, evidence.subject) == (True, True, "delay/1")
    assert evidence.version_id == served.deployment.version_id
    assert (evidence.details["rows"], evidence.details["equal"], evidence.details["random"]) == (100, 100, True)


def test_answers_of_the_version_that_serves_are_drawn_where_there_are_any(served) -> None:
    ws, predictions = served.ws, served.trace.predictions
    rows = ws.data.read(ws.data.get(ws.project.id, "delays.predictions"), hidden=False).head(10)
    twice = pl.concat([rows, rows.with_columns(id=pl.col("id") + "x", deployment=pl.lit(77, pl.Int64))])
    table = ws.data.ensure(ws.project.id, "two.predictions", RepositoryKind.TABLE, actor=ME)
    ws.data.append(table, twice, actor=ME)
    chance = random.Random(3)
    assert {p.deployment for p in predictions.draw("two", 10, chance, of={77})} == {77}
    assert len({p.deployment for p in predictions.draw("two", 20, chance)}) == 2
    assert len(predictions.draw("two", 20, chance, of={78})) == 20  # it gave none: from all


def test_the_rows_found_for_a_hundred_random_predictions_give_exactly_the_captured_features(served) -> None:
    """The tables are made anew of the shown rows and nothing else, one prediction at a time."""
    captured = [served.trace.predictions.find("delays", one)[0] for one in random.Random(11).sample(served.ids, 100)]
    package = served.ws.training.package(served.ws.assets.version(served.deployment.version_id))
    spec = package.features
    made = served.ws.pipelines.graph().node("trip").thing
    function = FeatureFunction(spec.name, made, spec.spine_parameter, spec.spine.key)
    contract = Contract(spec.spine, spec.columns)
    sizes: list[int] = []
    for replay in served.trace._replayer.replay(captured, rows=100_000):
        assert all(len(used.rows) == used.count for used in replay.used)
        tables = {name: _rebuilt(meta, replay.used) for name, meta in spec.tables.items()}
        spine = contract.frame(contract.decode(f'{{"rows":[{replay.prediction.request}]}}'.encode())[0])
        (found,) = function.compute(spine, tables).select(package.columns.names).iter_rows(named=True)
        assert json.loads(msgspec.json.encode(found)) == replay.captured
        sizes.append(sum(len(table.frame) for table in tables.values()))
        # and each row counts: without the newest one of a history the features are others
        history = next(used for used in replay.used if used.how == "history")
        if history.count > 1:
            less = replace(history, rows=history.rows[1:])
            fewer = [less if used is history else used for used in replay.used]
            tables = {name: _rebuilt(meta, fewer) for name, meta in spec.tables.items()}
            (other,) = function.compute(spine, tables).select(package.columns.names).iter_rows(named=True)
            assert (other["landed"], other["mean"]) != (found["landed"], found["mean"])
    assert len(sizes) == 100
    assert min(sizes) < max(sizes) < 60  # a few rows, of tables that hold hundreds


def _rebuilt(meta: TableMeta, used: Iterable[UsedRows]) -> WholeTable:
    """A table of nothing but the rows that were found in it, oldest first as they lie in a table."""
    shown = {json.dumps(row): row for one in used if one.table == meta.name for row in reversed(one.rows)}
    types = {name: polars_type(kind) for name, kind in meta.columns.items()}
    known = meta.known.removeprefix("__") if meta.known else None
    if known is not None and known not in types:
        types[known] = pl.Datetime("us", "UTC")
    columns = []
    for name, kind in types.items():
        series = pl.Series(name, [row[name] for row in shown.values()], dtype=pl.String if kind.is_temporal() else kind)
        columns.append(series.str.to_datetime(time_unit="us", time_zone="UTC") if kind.is_temporal() else series)
    return WholeTable(name=meta.name, frame=pl.DataFrame(columns), time=meta.time, known=known)


def test_a_prediction_leads_to_model_run_code_parameters_truth_and_rows(served) -> None:
    ws = served.ws
    prediction = served.ids[40]
    trail = served.trace.trace(f"prediction:{prediction}", rows=4)
    root = trail.backward
    assert (root.kind, root.name, root.id) == ("prediction", "delays", prediction)
    assert root.facts["recomputed"] == "equal"
    (request,) = root.find("request")
    (captured,) = served.trace.predictions.find("delays", prediction)
    assert request.facts == json.loads(captured.request)
    (deployment,) = root.find("deployment")
    assert deployment.id == str(served.deployment.id)
    (model,) = root.find("model")
    assert model.name == "delay/1"
    names = {n.name for n in root.find("run")}
    assert {"delay", "trip", "late"} <= names
    (params,) = root.find("params")
    assert params.facts == {"C": "1.0"}
    assert {n.name for n in root.find("code")} == {"code"}
    assert root.find("environment")
    assert [n.name for n in root.find("features")] == ["trip"]
    assert [n.name for n in root.find("labels")] == ["late"]
    assert {n.name for n in root.find("source")} == {"flights", "weather", "landings", "planes"}
    # the captured commits, and in each the rows that were found for this prediction
    top = [n for n in root.children if n.kind == "commit"]
    assert {n.id for n in top} == set(captured.commits)
    for node in top:
        repository = ws.data.get(ws.project.id, node.name)
        frame = ws.data.read(repository, node.id)
        for rows in node.find("rows"):
            assert len(rows.children) == min(rows.facts["found"], 4)
            for row in rows.find("row"):
                _in(frame, row.facts)
    features = json.loads(captured.features)
    by_name = {n.name: n for n in top}
    (wind,) = by_name["weather"].find("row")
    assert wind.facts["wind"] == features["wind"]
    assert by_name["landings"].find("rows")[0].facts["found"] == features["landed"]


def _in(frame: pl.DataFrame, facts: dict[str, Any]) -> None:
    columns = [c for c in frame.columns if c in facts]
    texts = {tuple(str(v) for v in row) for row in frame.select(columns).iter_rows()}
    assert tuple(str(facts[c]) for c in columns) in texts


def test_an_early_prediction_names_an_early_commit_and_no_later_row(served) -> None:
    early = served.trace.predictions.find("delays", served.ids[0])[0]
    late = served.trace.predictions.find("delays", served.ids[-1])[0]
    order = [c.id for c in served.weather]
    place = {p.id: next(order.index(c) for c in p.commits if c in order) for p in (early, late)}
    assert place[early.id] < place[late.id]
    trail = served.trace.trace(f"delays/{early.id}", rows=50)
    for row in trail.backward.find("row"):
        if "published" in row.facts:
            assert row.facts["published"] <= str(pl.Series([early.at]).cast(pl.Datetime("us", "UTC"))[0])


def test_without_rows_nothing_is_computed_and_the_commits_are_named(served) -> None:
    trail = served.trace.trace(f"delays/{served.ids[3]}", rows=0)
    assert trail.backward.find("row") == []
    assert "recomputed" not in trail.backward.facts
    assert len([n for n in trail.backward.children if n.kind == "commit"]) == 3


def test_a_commit_leads_forward_to_models_endpoints_and_predictions(served) -> None:
    ws = served.ws
    flights = ws.data.get(ws.project.id, "flights")
    head = ws.data.head(flights)
    trail = served.trace.trace(head.id[:10])
    assert (trail.backward.kind, trail.backward.id) == ("commit", head.id)
    made = {n.kind for node in trail.forward for n in _all(node)}
    assert {"features", "labels", "model", "endpoint"} <= made
    endpoint = next(n for node in trail.forward for n in node.find("endpoint"))
    assert (endpoint.name, endpoint.id) == ("delays", "delay/1")
    assert endpoint.facts["predictions"] == len(served.ids)
    assert endpoint.facts["role"] == "champion"


def _all(node: Node) -> list[Node]:
    return [node, *(found for child in node.children for found in _all(child))]


def test_predictions_that_read_a_commit_are_counted_by_the_captured_ids(served) -> None:
    counts: dict[str, int] = {}
    for prediction in served.ids:
        (found,) = served.trace.predictions.find("delays", prediction)
        for commit in found.commits:
            counts[commit] = counts.get(commit, 0) + 1
    total = 0
    for commit in reversed(served.weather):
        forward = served.trace.trace(commit.id).forward
        found = [n for n in forward if n.kind == "predictions"]
        exact = counts.get(commit.id, 0)
        assert (found[0].facts if found else {"read_this_commit": 0, "read_a_later_one": 0}) == {
            "read_this_commit": exact,
            "read_a_later_one": total,
        }
        total += exact
    assert total == len(served.ids)


def test_the_first_commit_reaches_the_model_and_a_later_one_does_not(served) -> None:
    ws = served.ws
    weather = ws.data.get(ws.project.id, "weather")
    first = ws.data.log(weather, limit=1000)[-1]
    for commit, reached in ((first.id, True), (served.weather[-1].id, False)):
        names = {n.name for node in served.trace.trace(commit).forward for n in node.find("model")}
        assert ("delay/1" in names) is reached


@pytest.mark.parametrize("thing", ["delay/1", "delay", "trip", "weather", "late"])
def test_models_and_assets_are_traced(served, thing: str) -> None:
    trail = served.trace.trace(thing)
    assert {n.name for n in trail.backward.find("source")} or trail.backward.kind == "commit"
    assert trail.forward
    json.dumps(trail.as_value())


def test_runs_digests_and_aliases_are_traced(served) -> None:
    ws = served.ws
    model = ws.registry.resolve(ws.project.id, "delay/1")
    trail = served.trace.trace(model.run_id)
    assert trail.backward.id == model.run_id
    assert {n.name for n in trail.forward} == {"delay", "delay.evaluation"}
    version = ws.training.version_of(model)
    assert served.trace.trace(str(version.digest)).backward.id == version.digest.short
    assert served.trace.trace(version.digest.hex[:16]).backward.name == "delay"
    ws.registry.move_alias(ws.project.id, "delay", "champion", 1, actor=ME)
    assert served.trace.trace("delay@champion").backward.name == "delay/1"
    assert served.trace.trace("models:/delay@champion").backward.name == "delay/1"


@pytest.mark.parametrize("thing", ["", "wether", "delay/9", "delay@nobody", "delays/nothing", "prediction:x", "abcdefabcdef"])  # fmt: skip
def test_what_is_not_there_is_said(served, thing: str) -> None:
    with pytest.raises(ThingNotFound) as error:
        served.trace.trace(thing)
    assert error.value.hint
    if thing == "wether":
        assert "weather" in error.value.hint


def test_an_id_that_several_share_is_refused_with_all_of_them(served, monkeypatch) -> None:
    monkeypatch.setattr(served.trace, "_ids", lambda digits: ["run a", "commit b"])
    with pytest.raises(ThingUnclear, match="run a, commit b"):
        served.trace.trace("abcd")


def test_two_automatic_proofs_are_a_whole_point_of_the_scorecard(served) -> None:
    ws = served.ws
    card = Scorecard(
        ws.project.id, ws.assets, ws.lineage, ws.evidence, ws.changes, ws.sessions, ws.serving, ws.registry,
        ws.tracking, ws.event_clock,
    )  # fmt: skip
    for _ in range(2):
        served.trace.prove("delays", actor=ROBOT)
    mark = next(t for t in card.score("delays").tests if t.id == "I5")
    assert (mark.points, mark.missing) == (1, ())


def test_a_correction_made_later_changes_nothing_that_was_answered_before(served) -> None:
    ws = served.ws
    weather = ws.data.get(ws.project.id, "weather")
    before = ws.data.read(weather)
    ws.data.append(weather, before.with_columns(pl.col("wind") + 100), actor=ME)
    replays = served.trace.prove("delays", count=20, actor=ME)
    assert all(r.equal for r in replays)
    winds = [r.recomputed["wind"] for r in replays if r.recomputed["wind"] is not None]
    assert max(winds) < 60
    ws.data.append(weather, before, actor=ME)  # the same rows again: the same version, known at another time
    assert all(r.equal for r in served.trace.prove("delays", count=20, actor=ME))


def test_trials_of_a_sweep_are_counted_and_the_sweep_is_named(served) -> None:
    ws = served.ws
    swept = ws.training.sweep("delay", trials=3, actor=ME)
    head = ws.data.head(ws.data.get(ws.project.id, "flights"))
    models = [n for node in served.trace.trace(head.id).forward for n in node.find("model")]
    assert {"delay/1", swept.model_version} <= {n.name for n in models}
    assert [n.facts for n in models if "not registered" in n.facts] == [{"not registered": 2}]
    runs = served.trace.trace(swept.model_version).backward.find("run")
    assert swept.run_id in {n.id for n in runs}


def test_an_endpoint_leads_to_who_answers(served) -> None:
    trail = served.trace.trace("delays")
    assert [n.name for n in trail.backward.find("deployment")] == ["delay/1"]
    assert [n.name for n in trail.forward] == ["delays"]


@pytest.mark.parametrize("deployment", [0, 1])
def test_an_error_leads_to_who_failed_if_anybody_did(served, deployment: int) -> None:
    ws = served.ws
    repository = ws.data.get(ws.project.id, "delays.predictions")
    frame = ws.data.read(repository)
    row = {**frame.to_dicts()[0], "id": f"error:seg:{deployment}", "deployment": deployment, "score": None, "entity": "",
           "request": "", "features": "", "commits": "[]", "error": "model_failed"}  # fmt: skip
    ws.data.append(repository, pl.DataFrame([row], schema=frame.schema), actor=ME)
    trail = served.trace.trace(f"delays/error:seg:{deployment}")
    assert trail.backward.facts["error"] == "model_failed"
    assert len(trail.backward.find("deployment")) == deployment
    gone = pl.DataFrame({"id": [row["id"]], "deployment": [deployment]})
    ws.data.append(repository, gone, mode="delete", actor=ME)


def test_a_changed_capture_is_found_and_recorded_as_red(served) -> None:
    ws = served.ws
    repository = ws.data.get(ws.project.id, "delays.predictions")
    row = ws.data.read(repository).filter(pl.col("id") == served.ids[5]).to_dicts()[0]
    features = {**json.loads(row["features"]), "wind": 99.0}
    changed = {**row, "id": "tampered", "features": json.dumps(features)}
    ws.data.append(repository, pl.DataFrame([changed], schema=ws.data.read(repository).schema), actor=ME)
    captured, recomputed = served.trace.recompute("delays", "tampered", actor=ME)
    assert captured["wind"] == 99.0
    assert recomputed["wind"] == json.loads(row["features"])["wind"]
    last = ws.evidence.list(ws.project.id, tests=["trace"])[-1]
    assert (last.passed, last.automatic) == (False, False)
    assert last.details["different"] == {"tampered": ["wind"]}
    trail = served.trace.trace("prediction:tampered")
    assert trail.backward.facts["recomputed"] == "different: wind"
    ws.data.append(repository, pl.DataFrame({"id": ["tampered"], "deployment": [row["deployment"]]}), mode="delete", actor=ME)  # fmt: skip


def test_features_captured_as_a_list_and_one_prediction_alone_are_equal_too(served) -> None:
    (found,) = served.trace.predictions.find("delays", served.ids[11])
    values = list(json.loads(found.features).values())
    (replay,) = served.trace._replayer.replay([replace(found, features=json.dumps(values))])
    assert replay.equal
    captured, recomputed = served.trace.recompute("delays", found.id, actor=ME)
    assert captured == recomputed


def test_the_same_flight_asked_for_twice_is_computed_twice(served) -> None:
    (found,) = served.trace.predictions.find("delays", served.ids[12])
    assert [r.equal for r in served.trace._replayer.replay([found, found, found])] == [True] * 3


def test_error_records_have_nothing_to_compute(served) -> None:
    (found,) = served.trace.predictions.find("delays", served.ids[12])
    with pytest.raises(ReplayFailed, match="is an error"):
        served.trace._replayer.replay([replace(found, error="model_failed")])
    with pytest.raises(NoPredictions):
        served.trace.predictions.draw("other", 1, random.Random(1))
    with pytest.raises(EndpointNotFound):
        served.trace.prove("other", actor=ME)
    with pytest.raises(ThingNotFound):
        served.trace.recompute("delays", "nothing", actor=ME)


def test_commits_are_traced_on_every_database(both) -> None:
    ws = both
    table = ws.data.create(ws.project.id, "rows", RepositoryKind.TABLE, actor=ME, key=("id",))
    first = ws.data.append(table, [{"id": 1}], actor=ME)
    ws.data.append(table, [{"id": 2}], actor=ME)
    trace = Trace(
        ws.db, ws.project.id, ws.assets, ws.lineage, ws.changes, ws.evidence, ws.data, ws.registry, ws.tracking,
        ws.serving, ws.training, ws.side_worker, ws.ingest,
    )  # fmt: skip
    trail = trace.trace(first.id[:12])
    assert (trail.backward.id, trail.forward) == (first.id, ())
    assert trace.trace("rows").backward.facts["rows"] == 2
    assert trace.trace(first.run_id).backward.name == "rows@main"
    with pytest.raises(ThingNotFound):
        trace.trace("0000000000")


def run_cli(served, *args: str, json_: bool = False) -> str:
    out = io.StringIO()
    shell = Shell(lambda *a, **k: SimpleNamespace(trace=served.trace, actor=ME), out)
    shell.json = json_
    command.main(list(args), standalone_mode=False, obj=shell)
    return out.getvalue()


def test_the_command_prints_an_aligned_tree(served) -> None:
    text = run_cli(served, f"prediction:{served.ids[20]}", "--rows", "2")
    assert "comes from" in text
    assert "└─ deployment delay/1" in text
    assert "recomputed=equal" in text
    assert "asof" in text
    text = run_cli(served, "delay/1")
    assert "leads to" in text
    assert "predictions=" in text
    value = json.loads(run_cli(served, "weather", "--rows", "0", json_=True))
    assert value["backward"]["kind"] == "commit"


def test_the_route_answers_in_one_form(served) -> None:
    app = build(routes(served.trace), Access())
    status, answer = get(app, "/v1/trace", "thing=delay/1")
    assert (status, answer["backward"]["name"]) == (200, "delay/1")
    status, answer = get(app, "/v1/trace", "thing=nothing")
    assert (status, answer["error"]["code"]) == (404, "thing_not_found")
    assert get(app, "/v1/trace", "")[0] == 400


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
