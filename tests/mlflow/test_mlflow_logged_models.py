"""Logged models: what ``log_model`` writes and what ``load_model`` reads, through the real client."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import pytest
from mlflow.entities import LoggedModelInput, LoggedModelOutput
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from mlflow_wire import Wire, fresh, number
from sklearn.linear_model import LogisticRegression

from mlflow import MlflowClient

DATABASES = ("sqlite", "postgres")
X = pd.DataFrame({"a": np.arange(20.0), "b": np.arange(20.0)[::-1] % 7})
Y = (X["a"] > 9).astype(int)
PLAIN: dict[str, Any] = {"pip_requirements": ["scikit-learn"]}  # else MLflow loads the model in a process of its own


@pytest.fixture(scope="module")
def fitted() -> LogisticRegression:
    return LogisticRegression().fit(X, Y)


# ---- logging and loading


def test_sklearn_by_every_address(fluent: Any, client: MlflowClient, fitted: LogisticRegression) -> None:
    name = fresh("m")
    signature = infer_signature(X, fitted.predict(X))
    with fluent.start_run() as run:
        made = fluent.sklearn.log_model(
            fitted, name="model", signature=signature, input_example=X[:3], registered_model_name=name,
            params={"C": 1}, tags={"team": "a"}, **PLAIN,
        )  # fmt: skip
    client.set_registered_model_alias(name, "champion", "1")
    wanted = fitted.predict(X).tolist()
    for uri in (
        f"models:/{name}/1", f"models:/{name}@champion", f"models:/{name}/latest", f"models:/{made.model_id}",
        f"runs:/{run.info.run_id}/model", made.model_uri,
    ):  # fmt: skip
        loaded = fluent.pyfunc.load_model(uri)
        assert loaded.predict(X).tolist() == wanted, uri
        assert fluent.sklearn.load_model(uri).predict(X).tolist() == wanted, uri
        assert loaded.metadata.signature == signature
        assert loaded.input_example.equals(X[:3])
    info = fluent.models.get_model_info(f"models:/{name}/1")
    assert (info.signature, info.model_id) == (signature, made.model_id)
    logged = client.get_logged_model(made.model_id)
    assert (logged.name, logged.status, logged.source_run_id) == ("model", "READY", run.info.run_id)
    assert logged.params == {"C": "1"}
    assert logged.tags["team"] == "a"
    assert [m.model_id for m in client.get_run(run.info.run_id).outputs.model_outputs] == [made.model_id]
    version = client.get_model_version(name, "1")
    assert (version.source, version.run_id) == (f"models:/{made.model_id}", run.info.run_id)


def test_the_page_of_a_version_reads_its_files(fluent: Any, wire: Wire, fitted: LogisticRegression) -> None:
    name = fresh("m")
    with fluent.start_run() as run:
        fluent.sklearn.log_model(fitted, name="model", registered_model_name=name, **PLAIN)
        fluent.log_text("x", "folder/note.txt")
    made = wire.post(
        "model-versions/create", name=name, source=f"runs:/{run.info.run_id}/folder", run_id=run.info.run_id
    )
    wire.post("model-versions/create", name=name, source="s3://elsewhere/model")
    assert made["model_version"]["version"] == "2"
    for version, path, status, content in (
        ("1", "MLmodel", 200, b"flavors:"),
        ("2", "note.txt", 200, b"x"),
        ("2", "nothing.txt", 404, b"RESOURCE_DOES_NOT_EXIST"),
        ("2", "../note.txt", 400, b"INVALID_PARAMETER_VALUE"),
        ("3", "MLmodel", 404, b"do not lie here"),
    ):
        found = wire.call("GET", f"/model-versions/get-artifact?name={name}&version={version}&path={path}")
        assert found.status == status, found.body
        assert content in found.body


def test_lightgbm(fluent: Any) -> None:
    booster = lightgbm.train(
        {"objective": "binary", "verbose": -1, "min_data_in_leaf": 2}, lightgbm.Dataset(X, Y), num_boost_round=5
    )
    made = fluent.lightgbm.log_model(booster, name="trees", input_example=X[:2], pip_requirements=["lightgbm"])
    assert np.allclose(fluent.lightgbm.load_model(made.model_uri).predict(X), booster.predict(X))
    assert np.allclose(fluent.pyfunc.load_model(made.model_uri).predict(X), booster.predict(X))


def test_a_python_model(fluent: Any) -> None:
    class Doubler(fluent.pyfunc.PythonModel):
        def predict(self, context, model_input):  # type: ignore[no-untyped-def]  # MLflow reads hints of types
            return [2 * x for x in model_input["x"]]

    name = fresh("m")
    fluent.pyfunc.log_model(
        name="doubler",
        python_model=Doubler(),
        input_example=[1.0, 2.0],
        registered_model_name=name,
        pip_requirements=[],
    )
    assert fluent.pyfunc.load_model(f"models:/{name}/1").predict(pd.DataFrame({"x": [4.0]})) == [8.0]


def test_a_model_among_the_artifacts_of_a_run(fluent: Any, client: MlflowClient, tmp_path: Any, fitted: Any) -> None:
    """As clients before MLflow 3 did it: files of the run, and a version made of them."""
    fluent.sklearn.save_model(fitted, tmp_path / "model", **PLAIN)
    name = fresh("m")
    with fluent.start_run() as run:
        fluent.log_artifacts(str(tmp_path / "model"), "model")
    fluent.register_model(f"runs:/{run.info.run_id}/model", name)
    assert client.get_model_version(name, "1").source == f"{run.info.artifact_uri}/model"
    for uri in (f"models:/{name}/1", f"runs:/{run.info.run_id}/model"):
        assert fluent.sklearn.load_model(uri).predict(X).tolist() == fitted.predict(X).tolist()


def test_registering_later_and_twice(fluent: Any, client: MlflowClient, fitted: LogisticRegression) -> None:
    name = fresh("m")
    with fluent.start_run() as run:
        made = fluent.sklearn.log_model(fitted, name="late", **PLAIN)
    first = fluent.register_model(f"runs:/{run.info.run_id}/late", name)
    second = fluent.register_model(f"models:/{made.model_id}", name, tags={"k": "v"})
    assert (int(first.version), int(second.version), second.tags) == (1, 2, {"k": "v"})
    assert "mlflow.modelVersions" in client.get_logged_model(made.model_id).tags
    assert fluent.sklearn.load_model(f"models:/{name}/2").predict(X).tolist() == fitted.predict(X).tolist()
    copied = client.copy_model_version(f"models:/{name}/2", fresh("copy"))
    assert fluent.sklearn.load_model(f"models:/{copied.name}/1").predict(X).tolist() == fitted.predict(X).tolist()


# ---- the calls one by one


def test_a_logged_model_is_made_finished_tagged_and_deleted(client: MlflowClient, experiment: str) -> None:
    run = client.create_run(experiment).info.run_id
    made = client.create_logged_model(
        experiment, name="x", source_run_id=run, tags={"t": "u"}, params={"a": "1"}, model_type="agent"
    )
    assert made.status == "PENDING"
    assert made.artifact_location.endswith(f"/models/{made.model_id}/artifacts")
    assert client.finalize_logged_model(made.model_id, "READY").status == "READY"
    client.set_logged_model_tags(made.model_id, {"t": "v", "w": "x", "a/b": "1"})
    client.log_model_params(made.model_id, {"b": "2"})
    found = client.get_logged_model(made.model_id)
    assert (found.tags, found.params) == ({"t": "v", "w": "x", "a/b": "1"}, {"a": "1", "b": "2"})
    assert (found.name, found.model_type, found.experiment_id) == ("x", "agent", experiment)
    assert made.creation_timestamp == found.creation_timestamp <= found.last_updated_timestamp
    client.delete_logged_model_tag(made.model_id, "w")
    assert set(client.get_logged_model(made.model_id).tags) == {"t", "a/b"}
    with pytest.raises(MlflowException, match="w"):
        client.delete_logged_model_tag(made.model_id, "w")
    assert client.finalize_logged_model(made.model_id, "FAILED").status == "FAILED"
    client.delete_logged_model(made.model_id)
    client.delete_logged_model(made.model_id)
    with pytest.raises(MlflowException) as caught:
        client.get_logged_model(made.model_id)
    assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    assert client.search_logged_models([experiment]) == []


def test_a_deleted_model_is_shown_to_who_asks_for_it(wire: Wire, client: MlflowClient, experiment: str) -> None:
    made = client.create_logged_model(experiment, name="x")
    client.delete_logged_model(made.model_id)
    found = wire.get(f"logged-models/{made.model_id}", allow_deleted="true")
    assert found["model"]["info"]["name"] == "x"


def test_what_was_measured_of_a_model(wire: Wire, client: MlflowClient, experiment: str) -> None:
    run, other = wire.run(experiment), wire.run(experiment)
    model = client.create_logged_model(experiment, name="x", source_run_id=run).model_id
    about = {"model_id": model, "dataset_name": "d", "dataset_digest": "1"}
    wire.post("runs/log-metric", run_id=run, key="acc", value=0.5, timestamp=10, step=1, **about)
    points = [
        {"key": "acc", "value": 0.75, "timestamp": 11, "step": 2, "model_id": model},
        {"key": "acc", "value": 0.75, "timestamp": 11, "step": 2, "model_id": model},
        {"key": "loss", "value": 1.5, "timestamp": 11, "step": 2, "model_id": model},
        {"key": "of the run only", "value": 1, "timestamp": 1},
    ]
    for _ in range(2):
        wire.post("runs/log-batch", run_id=run, metrics=points)
    wire.post("runs/log-metric", run_id=other, key="acc", value=0.25, timestamp=9, model_id=model)
    metrics = wire.get(f"logged-models/{model}")["model"]["data"]["metrics"]
    found = {
        (m["key"], number(m["value"]), m["timestamp"], m.get("step", 0), m["run_id"], m.get("dataset_name"))
        for m in metrics
    }
    assert found == {
        ("acc", 0.25, 9, 0, other, None),
        ("acc", 0.5, 10, 1, run, "d"),
        ("acc", 0.75, 11, 2, run, None),
        ("loss", 1.5, 11, 2, run, None),
    }
    assert len(metrics) == 4
    assert {m["model_id"] for m in metrics} == {model}
    assert set(wire.data(run)["metrics"]) == {"acc", "loss", "of the run only"}


@pytest.mark.ours
def test_a_batch_about_a_model_that_is_not_there_is_refused_whole(wire: Wire, experiment: str) -> None:
    """MLflow's own server answers 400 with the words of its database."""
    run = wire.run(experiment)
    points = [{"key": "a", "value": 1, "timestamp": 1}, {"key": "b", "value": 1, "timestamp": 1, "model_id": "m-0"}]
    found = wire.refused("runs/log-batch", {"run_id": run, "metrics": points})
    assert found[:2] == (404, "RESOURCE_DOES_NOT_EXIST")
    assert wire.data(run)["metrics"] == {}


@pytest.mark.ours
def test_nan_of_a_model_stays_nan(wire: Wire, client: MlflowClient, experiment: str) -> None:
    """MLflow's own server keeps 0 instead."""
    run, model = wire.run(experiment), client.create_logged_model(experiment, name="x").model_id
    wire.post("runs/log-metric", run_id=run, key="a", value="NaN", timestamp=1, model_id=model)
    assert wire.get(f"logged-models/{model}")["model"]["data"]["metrics"][0]["value"] == "NaN"


def test_models_that_runs_read_and_made(client: MlflowClient, experiment: str) -> None:
    run = client.create_run(experiment).info.run_id
    one, two = (client.create_logged_model(experiment, name=n, source_run_id=run).model_id for n in "ab")
    client.log_inputs(run, models=[LoggedModelInput(one), LoggedModelInput(two)])
    client.log_inputs(run, models=[LoggedModelInput(one)])
    client.log_outputs(run, [LoggedModelOutput(one, step=3), LoggedModelOutput(two, step=0)])
    for found in (client.get_run(run), client.search_runs([experiment])[0]):
        assert [(m.model_id, m.step) for m in found.outputs.model_outputs] == [(one, 3), (two, 0)]
    assert [m.model_id for m in client.get_run(run).inputs.model_inputs] == [one, two]


@pytest.mark.ours
def test_a_search_says_which_models_a_run_read(client: MlflowClient, experiment: str) -> None:
    """MLflow's own server says it of one run only."""
    run = client.create_run(experiment).info.run_id
    client.log_inputs(run, models=[LoggedModelInput("m-elsewhere")])
    assert [m.model_id for m in client.search_runs([experiment])[0].inputs.model_inputs] == ["m-elsewhere"]


def test_files_of_a_model(wire: Wire, client: MlflowClient, experiment: str, tmp_path: Any) -> None:
    model = client.create_logged_model(experiment, name="x")
    (tmp_path / "sub").mkdir()
    (tmp_path / "MLmodel").write_text("flavors: {}")
    (tmp_path / "sub" / "w.bin").write_bytes(b"\x00\x01" * 100)
    client.log_model_artifacts(model.model_id, str(tmp_path))
    found = wire.get(f"logged-models/{model.model_id}/artifacts/directories")
    assert found["root_uri"] == model.artifact_location
    assert {f["path"]: f["is_dir"] for f in found["files"]} == {"MLmodel": False, "sub": True}
    below = wire.get(f"logged-models/{model.model_id}/artifacts/directories", artifact_directory_path="sub")
    assert below["files"] == [{"path": "sub/w.bin", "is_dir": False, "file_size": 200}]
    at = f"/ajax-api/2.0/mlflow/logged-models/{model.model_id}/artifacts/files"
    answer = wire.call("GET", at, query={"artifact_file_path": "sub/w.bin"})
    assert (answer.status, answer.body) == (200, b"\x00\x01" * 100)
    assert wire.call("GET", at, query={"artifact_file_path": "../x"}).status == 400
    assert {f.path for f in client.list_logged_model_artifacts(model.model_id)} == {"MLmodel", "sub"}


@pytest.mark.parametrize("name", ["a/b", "a:b", "a.b", "a%b", 'a"b', "a'b"])
def test_names_that_are_refused(wire: Wire, experiment: str, name: str) -> None:
    found = wire.refused("logged-models", {"experiment_id": experiment, "name": name})
    assert found[:2] == (400, "INVALID_PARAMETER_VALUE")


def test_a_model_without_a_name_gets_one(wire: Wire, experiment: str) -> None:
    assert wire.post("logged-models", experiment_id=experiment)["model"]["info"]["name"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "logged-models", {"name": "x"}, 400),
        ("POST", "logged-models", {"name": "x", "experiment_id": "987654"}, 404),
        ("PATCH", "logged-models/m-0", {"model_id": "m-0", "status": "LOGGED_MODEL_READY"}, 404),
        ("PATCH", "logged-models/m-0/tags", {"tags": [{"key": "a", "value": "b"}]}, 404),
        ("POST", "logged-models/m-0/params", {"model_id": "m-0", "params": [{"key": "a", "value": "b"}]}, 404),
        ("DELETE", "logged-models/m-0", None, 404),
        ("DELETE", "logged-models/m-0/tags/x", None, 404),
        ("GET", "logged-models/m-0", None, 404),
        ("GET", "logged-models/m-0/artifacts/directories", None, 404),
        ("POST", "runs/outputs", {"run_id": "0" * 32, "models": [{"model_id": "m-0"}]}, 404),
        ("POST", "runs/outputs", {"run_id": "0" * 32}, 400),
        ("POST", "runs/log-model", {"run_id": "0" * 32, "model_json": "{}"}, 400),
        ("POST", "runs/log-model", {"run_id": "0" * 32, "model_json": "{"}, 400),
    ],
)
def test_what_is_not_there_or_not_said(wire: Wire, method: str, path: str, body: Any, status: int) -> None:
    assert wire.refused(path, body, method)[0] == status


@pytest.mark.ours
def test_a_parameter_of_a_model_does_not_change(wire: Wire, client: MlflowClient, experiment: str) -> None:
    """It may come again as it is; MLflow's own server answers with the words of its database."""
    model = client.create_logged_model(experiment, name="x", params={"a": "1"}).model_id
    client.log_model_params(model, {"a": "1", "b": "2"})
    body = {"params": [{"key": "a", "value": "2"}, {"key": "c", "value": "3"}]}
    assert wire.refused(f"logged-models/{model}/params", body)[:2] == (400, "INVALID_PARAMETER_VALUE")
    assert client.get_logged_model(model).params == {"a": "1", "b": "2"}


HISTORY = "mlflow.log-model.history"


def told(path: str, flavour: str = "a") -> dict[str, Any]:
    """What a client says of a model that it logged."""
    flavours = {flavour: {}}
    return {"run_id": "r", "artifact_path": path, "utc_time_created": "2020-01-01 00:00:00", "flavors": flavours}


def test_the_history_of_clients_before_mlflow_3(wire: Wire, experiment: str) -> None:
    run = wire.run(experiment)
    for path in ("one", "two"):
        wire.post("runs/log-model", run_id=run, model_json=json.dumps(told(path)))
    history = json.loads(wire.data(run)["tags"][HISTORY])
    assert [entry["artifact_path"] for entry in history] == ["one", "two"]


@pytest.mark.ours
@pytest.mark.parametrize("before", ["abc", "5", "null", "{}", '"x"', "[" * 5_000, ""])
def test_a_history_that_a_client_spoiled_begins_anew(wire: Wire, experiment: str, before: str) -> None:
    run = wire.run(experiment, tags=[{"key": HISTORY, "value": before}])
    wire.post("runs/log-model", run_id=run, model_json=json.dumps(told("one")))
    assert [entry["artifact_path"] for entry in json.loads(wire.data(run)["tags"][HISTORY])] == ["one"]


@pytest.mark.ours
def test_the_oldest_of_a_history_go_where_it_is_too_long(wire: Wire, experiment: str) -> None:
    run = wire.run(experiment)
    for path in ("one", "two", "three"):
        wire.post("runs/log-model", run_id=run, model_json=json.dumps(told(path, "x" * 3_500)))
    history = json.loads(wire.data(run)["tags"][HISTORY])
    assert [entry["artifact_path"] for entry in history] == ["two", "three"]
    body = {"run_id": run, "model_json": json.dumps(told("four", "x" * 8_000))}
    assert wire.refused("runs/log-model", body)[:2] == (400, "INVALID_PARAMETER_VALUE")


# ---- search, compared with a model in Python


@dataclass
class Row:
    name: str
    kind: str
    status: str
    params: dict[str, str]
    tags: dict[str, str]
    run: str
    acc: list[float] = field(default_factory=list)
    """In the order of time; every second one on the dataset d/1, the others on e/2."""

    def on(self, dataset: str | None) -> list[float]:
        return [v for n, v in enumerate(self.acc) if dataset is None or dataset == "de"[n % 2]]


@pytest.fixture(scope="module")
def shelf(server: str) -> tuple[str, dict[str, Row]]:
    """An experiment with logged models: id -> row."""
    client = MlflowClient(server, server)
    experiment = client.create_experiment(fresh())
    runs = [client.create_run(experiment).info.run_id for _ in range(3)]
    rows: dict[str, Row] = {}
    for n in range(12):
        row = Row(
            name=f"{'Net' if n % 2 else 'tree'}{n}",
            kind=("agent", "")[n % 2],
            status=("READY", "PENDING", "FAILED")[n % 3],
            params={"depth": str(n % 4)} if n % 5 else {},
            tags={"team": "ab"[n % 2]},
            run=runs[n % 3],
            acc=[n / 12, 1 - n / 12, (n % 3) / 3][: n % 4],
        )
        made = client.create_logged_model(
            experiment, name=row.name, model_type=row.kind or None, params=row.params, tags=row.tags,
            source_run_id=row.run,
        )  # fmt: skip
        if row.status != "PENDING":
            client.finalize_logged_model(made.model_id, row.status)
        for at, value in enumerate(row.acc):
            name, digest = ("d", "1") if at % 2 == 0 else ("e", "2")
            client.log_metric(
                runs[0], "acc", value, timestamp=at, step=at, model_id=made.model_id, dataset_name=name,
                dataset_digest=digest,
            )  # fmt: skip
        rows[made.model_id] = row
    return experiment, rows


FILTERS: list[tuple[str, Any]] = [
    ("name = 'tree0'", lambda r: r.name == "tree0"),
    ("name != 'tree0'", lambda r: r.name != "tree0"),
    ("name LIKE 'Net%'", lambda r: r.name.startswith("Net")),
    ("name ILIKE 'NET_'", lambda r: r.name.startswith("Net") and len(r.name) == 4),
    ("name IN ('tree0', 'Net1')", lambda r: r.name in ("tree0", "Net1")),
    ("name NOT IN ('tree0', 'Net1')", lambda r: r.name not in ("tree0", "Net1")),
    ("model_type = 'agent'", lambda r: r.kind == "agent"),
    ("attributes.name = 'tree2'", lambda r: r.name == "tree2"),
    ("params.depth = '1'", lambda r: r.params.get("depth") == "1"),
    ("params.depth != '1'", lambda r: r.params.get("depth", "1") != "1"),
    ("params.depth IN ('1', '2')", lambda r: r.params.get("depth") in ("1", "2")),
    ("tags.team = 'a'", lambda r: r.tags["team"] == "a"),
    ("tags.team LIKE 'b%'", lambda r: r.tags["team"] == "b"),
    ("tags.never = 'a'", lambda r: False),
    ("metrics.acc > 0.5", lambda r: any(v > 0.5 for v in r.acc)),
    ("metrics.acc <= 0.25", lambda r: any(v <= 0.25 for v in r.acc)),
    ("metrics.acc != 0", lambda r: any(v != 0 for v in r.acc)),
    ("metrics.acc > 0.1 AND metrics.acc < 0.2", lambda r: any(v > 0.1 for v in r.acc) and any(v < 0.2 for v in r.acc)),
    ("metrics.acc > 0.3 AND tags.team = 'b'", lambda r: any(v > 0.3 for v in r.acc) and r.tags["team"] == "b"),
    ("creation_timestamp > 0", lambda r: True),
    ("last_updated_timestamp < 1", lambda r: False),
    ("metrics.never > 0", lambda r: False),
    ("lifecycle_stage = 'active'", lambda r: True),
    ("lifecycle_stage != 'active'", lambda r: False),
    ("lifecycle_stage LIKE 'act%'", lambda r: True),
    ("lifecycle_stage LIKE 'del%'", lambda r: False),
    ("lifecycle_stage ILIKE 'ACTIVE'", lambda r: True),
    ("lifecycle_stage IN ('deleted')", lambda r: False),
    ("lifecycle_stage IN ('deleted', 'active')", lambda r: True),
    ("lifecycle_stage NOT IN ('active')", lambda r: False),
    ("artifact_location LIKE 'mlflow-artifacts:/%/models/%/artifacts'", lambda r: True),
]


@pytest.mark.parametrize(("text", "fits"), FILTERS)
def test_search(client: MlflowClient, shelf: Any, text: str, fits: Any) -> None:
    experiment, rows = shelf
    found = client.search_logged_models([experiment], text)
    assert {m.model_id for m in found} == {id for id, row in rows.items() if fits(row)}
    assert len({m.model_id for m in found}) == len(found)


@pytest.mark.ours
@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("status = 'READY'", {"READY"}),
        ("status != 'READY'", {"PENDING", "FAILED"}),
        ("status = 'LOGGED_MODEL_PENDING'", {"PENDING"}),
        ("status IN ('READY', 'UPLOAD_FAILED')", {"READY", "FAILED"}),
        ("status LIKE '%D%'", {"READY", "PENDING", "FAILED"}),
    ],
)
def test_search_by_status(client: MlflowClient, shelf: Any, text: str, wanted: set[str]) -> None:
    """MLflow's own server finds nothing, whatever the status is."""
    experiment, rows = shelf
    found = {m.model_id for m in client.search_logged_models([experiment], text)}
    assert found == {id for id, row in rows.items() if row.status in wanted}


def test_search_by_the_whole_place_of_the_files(client: MlflowClient) -> None:
    for place in (None, "s3://bucket/deep"):
        experiment = client.create_experiment(fresh(), artifact_location=place)
        one, other = (client.create_logged_model(experiment, name=name) for name in "ab")
        for text, wanted in (
            (f"artifact_location = '{one.artifact_location}'", {one.model_id}),
            (f"artifact_location != '{one.artifact_location}'", {other.model_id}),
            (f"artifact_location IN ('{one.artifact_location}', 'x')", {one.model_id}),
            (f"artifact_location = 's3://nowhere/models/{one.model_id}/artifacts'", set()),
        ):
            assert {m.model_id for m in client.search_logged_models([experiment], text)} == wanted, text


@pytest.mark.parametrize(
    "datasets",
    [pytest.param([("d", None)], marks=pytest.mark.ours), [("e", "2")], [("d", "1"), ("e", "2")], [("d", "9")]],
)
@pytest.mark.parametrize("text", [None, "metrics.acc > 0.4"])
def test_search_on_datasets(client: MlflowClient, shelf: Any, datasets: Any, text: str | None) -> None:
    experiment, rows = shelf
    asked = [{"dataset_name": n, **({"dataset_digest": g} if g else {})} for n, g in datasets]
    found = {m.model_id for m in client.search_logged_models([experiment], text, datasets=asked)}
    there = [n for n, g in datasets if g in (None, {"d": "1", "e": "2"}[n])]

    def fits(row: Row) -> bool:
        values = [v for n in there for v in row.on(n)]
        return bool(values) if text is None else any(v > 0.4 for v in values)

    assert found == {id for id, row in rows.items() if fits(row)}


@pytest.mark.parametrize("dataset", [None, "d", "e"])
@pytest.mark.parametrize("ascending", [True, False])
def test_order_by_a_metric(client: MlflowClient, shelf: Any, dataset: str | None, ascending: bool) -> None:
    experiment, rows = shelf
    order: dict[str, Any] = {"field_name": "metrics.acc", "ascending": ascending}
    if dataset is not None:
        order |= {"dataset_name": dataset, "dataset_digest": {"d": "1", "e": "2"}[dataset]}
    found = client.search_logged_models([experiment], order_by=[order])
    newest = [rows[m.model_id].on(dataset)[-1:] for m in found]
    values = [v[0] for v in newest if v]
    assert values == sorted(values, reverse=not ascending)
    assert newest[len(values) :] == [[]] * (12 - len(values))  # what is missing comes last either way


def test_order_by_attributes_and_pages(client: MlflowClient, shelf: Any) -> None:
    experiment, rows = shelf
    order = [{"field_name": "name", "ascending": False}]
    names: list[str] = []
    token = None
    while True:
        page = client.search_logged_models([experiment], order_by=order, max_results=5, page_token=token)
        names += [m.name for m in page]
        token = page.token
        if not token:
            break
    assert names == sorted((r.name for r in rows.values()), reverse=True)
    newest = [m.creation_timestamp for m in client.search_logged_models([experiment])]
    assert newest == sorted(newest, reverse=True)


@pytest.mark.parametrize(
    "body",
    [
        {"order_by": [{"field_name": "params.a"}]},
        {"order_by": [{"field_name": "foo"}]},
        {"datasets": [{"dataset_digest": "d"}]},
        {"filter": "name > 'x'"},
        pytest.param({"filter": "metrics.a = 1 OR name = 'y'"}, marks=pytest.mark.ours),
        pytest.param({"filter": "foo = 1"}, marks=pytest.mark.ours),
        pytest.param({"filter": "metrics.acc > 'x'"}, marks=pytest.mark.ours),
        pytest.param({"page_token": "xx"}, marks=pytest.mark.ours),
        pytest.param({"max_results": -1}, marks=pytest.mark.ours),
    ],
)
def test_searches_that_are_refused(wire: Wire, experiment: str, body: Any) -> None:
    found = wire.refused("logged-models/search", {"experiment_ids": [experiment], **body})
    assert found[:2] == (400, "INVALID_PARAMETER_VALUE")
