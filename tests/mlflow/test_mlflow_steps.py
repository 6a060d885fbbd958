"""MLflow's clients inside of steps: what they log is part of the step's own run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from mlflow.tracking import fluent
from mlflow_wire import Wire

import mlflow
from noria import workspace as w
from noria.assets.records import RunState
from noria.base.actor import Actor
from noria.db.group import GroupWriter
from noria.gateways.mlflow import all_routes
from noria.gateways.mlflow.door import Door
from noria.gateways.steps.rules import Rules
from noria.pipelines.executors import ProcessExecutor
from noria.tracking.records import Owner, OwnerKind
from noria.workspace import Workspace

ME = Actor(name="user:test")

PLAIN = """\
import os
import sys

import noria as nr


@nr.dataset
def plain():
    nr.log(n=1)
    return {"pid": os.getpid(), "mlflow": "mlflow" in sys.modules, "env": dict(os.environ)}
"""

STEPS = """\
import json
import os
import threading
import urllib.error
import urllib.request

import noria as nr
from plain import plain


def _data():
    from sklearn.datasets import make_classification

    return make_classification(200, random_state=0)


@nr.dataset
def fitted(plain, *, C: float = 0.5):
    import mlflow
    from sklearn.linear_model import LogisticRegression

    mlflow.autolog(log_models=False, log_datasets=False)
    X, y = _data()
    model = LogisticRegression(C=C).fit(X, y)
    mlflow.log_metric("after", model.score(X, y))
    return {"pid": os.getpid()}


@nr.dataset
def silent(fitted):
    from sklearn.linear_model import LogisticRegression

    LogisticRegression().fit(*_data())  # what the step before turned on is off again
    return {"pid": os.getpid()}


@nr.dataset
def explicit(silent, *, lr: float = 0.1, name: str = "a", same: int = 3):
    import mlflow

    mlflow.set_experiment("of another name")
    mlflow.log_params({"lr": "0.10", "name": "b", "same": 3, "own": "x"})
    mlflow.log_metric("m", 0.25, step=1)
    mlflow.log_metric("m", 0.5, step=2)
    mlflow.set_tag("t", "v")
    nr.log(m=0.5, step=2)
    nr.log(both=0.75)
    mlflow.log_metric("both", 0.75)
    with mlflow.start_run(nested=True, run_name="inner") as inner:
        mlflow.log_metric("m", 9)
    mlflow.start_run(nested=True, run_name="left open")
    found = mlflow.search_runs(output_format="list")
    return {"pid": os.getpid(), "run": mlflow.active_run().info.run_id, "inner": inner.info.run_id,
            "found": [run.info.run_id for run in found]}


@nr.dataset
def boosted(explicit):
    import lightgbm
    import mlflow

    mlflow.lightgbm.autolog(log_models=False, log_datasets=False)
    X, y = _data()
    data = lightgbm.Dataset(X, y)
    lightgbm.train({"objective": "binary", "verbosity": -1, "num_leaves": 4}, data, 5, valid_sets=[data])
    return {"run": os.environ.get("MLFLOW_RUN_ID")}


@nr.dataset
def curious(boosted, explicit):
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    import mlflow

    client, own = MlflowClient(), os.environ["MLFLOW_RUN_ID"]
    other = explicit["inner"]
    tried = {
        "delete": lambda: client.delete_run(own),
        "log to another": lambda: client.log_metric(other, "m", 1),
        "tag another": lambda: client.set_tag(other, "t", "v"),
        "read another": lambda: client.get_run(other),
        "a child of another": lambda: client.create_run("0", tags={"mlflow.parentRunId": other}),
        "experiment": lambda: client.create_experiment("x"),
        "another experiment": lambda: client.create_run("1"),
    }
    answers = {}
    for name, call in tried.items():
        try:
            call()
            answers[name] = "done"
        except MlflowException as error:
            answers[name] = error.error_code
    mlflow.log_metric("own", 1)
    request = urllib.request.Request(os.environ["MLFLOW_TRACKING_URI"] + "/api/2.0/mlflow/runs/get?run_id=" + own)
    try:
        urllib.request.urlopen(request)
    except urllib.error.HTTPError as error:
        answers["no token"] = error.code
    return answers


@nr.dataset
def whole(curious):
    import mlflow
    from sklearn.linear_model import LogisticRegression

    mlflow.autolog()
    X, y = _data()
    model = LogisticRegression().fit(X, y)
    mlflow.log_text("hello", "notes/a b.txt")
    logged = mlflow.sklearn.log_model(model, name="again", registered_model_name="shop_model")

    @mlflow.trace
    def asked(n):
        return n + 1

    asked(1)
    own = mlflow.active_run().info.run_id
    loaded = mlflow.pyfunc.load_model("models:/shop_model/1")
    return {"own": own, "model": logged.model_id, "same": bool((loaded.predict(X) == model.predict(X)).all())}


@nr.dataset
def evaluated(whole):
    import mlflow
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client, answers = MlflowClient(), {}
    own = mlflow.start_run().info.run_id
    tried = {
        "alias": lambda: client.set_registered_model_alias("shop_model", "prod", "1"),
        "delete model": lambda: client.delete_registered_model("shop_model"),
        "delete version": lambda: client.delete_model_version("shop_model", "1"),
        "tag a version": lambda: client.set_model_version_tag("shop_model", "1", "t", "v"),
        "register": lambda: client.create_model_version("shop_model", "models:/" + whole["model"]),
        "tag a model": lambda: client.set_logged_model_tags(whole["model"], {"t": "v"}),
        "delete a model": lambda: client.delete_logged_model(whole["model"]),
        "write a file": lambda: client.log_text(whole["own"], "x", "x.txt"),
        "read a file": lambda: mlflow.artifacts.load_text("runs:/" + whole["own"] + "/notes/a b.txt"),
        "delete traces": lambda: client.delete_traces("0", max_timestamp_millis=1),
    }
    for name, call in tried.items():
        try:
            answers[name] = call() or "done"
        except MlflowException as error:
            answers[name] = error.error_code
        except Exception as error:
            answers[name] = "PERMISSION_DENIED" if "PERMISSION_DENIED" in str(error) or "403" in str(error) else str(error)
    model = mlflow.pyfunc.load_model("models:/shop_model/1")
    mlflow.log_metric("accuracy", float((model.predict(_data()[0]) == _data()[1]).mean()))
    return answers


@nr.dataset
def broken(evaluated):
    import mlflow

    mlflow.start_run()
    mlflow.log_metric("before", 1)
    mlflow.start_run(nested=True)
    raise RuntimeError("no more")


outer = nr.command("python outer.py {plain} {out}", name="outer", out="json")
"""

OUTER = """\
import json
import os
import sys
import urllib.request

body = {"run_id": os.environ["MLFLOW_RUN_ID"], "key": "outer", "value": 4.5, "timestamp": 1}
headers = {"Authorization": "Bearer " + os.environ["MLFLOW_TRACKING_TOKEN"], "Content-Type": "application/json"}
url = os.environ["MLFLOW_TRACKING_URI"] + "/api/2.0/mlflow/runs/log-metric"
urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers))
json.dump({}, open(sys.argv[2], "w"))
"""


CHOSEN = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID")
"""What a client writes into the environment of its process, where other files have chosen a server."""


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No server is chosen in this process; other files choose one."""
    for name in CHOSEN:
        monkeypatch.delenv(name, raising=False)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(None)
    yield
    mlflow.set_tracking_uri(before)


class Ran:
    """A project whose steps have run, one after the other in one worker."""

    def __init__(self, root: Path) -> None:
        for name, text in {"plain.py": PLAIN, "steps.py": STEPS, "outer.py": OUTER}.items():
            (root / name).write_text(text)
        (root / "noria.toml").write_text('name = "shop"\nmodules = ["plain", "steps"]\n')
        self.ws = w.init(root, environment={**os.environ, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"})
        workers = ProcessExecutor(workers=1, environment=dict(os.environ))
        run = self.ws.pipelines.run
        try:
            before = threading.enumerate()
            first = run(["plain"], actor=ME, executor=workers)
            self.threads = {thread.name for thread in threading.enumerate() if thread not in before}
            self.listening = self.ws.step_door.listener() is not None
            done = run(["broken", "outer"], actor=ME, executor=workers, check=False)
        finally:
            workers.close()
        self.steps = {**done.steps, "plain": first.steps["plain"]}
        failed = [step for name, step in done.steps.items() if step.action == "failed" and name != "broken"]
        assert failed == [], failed

    def value(self, name: str) -> Any:
        return self.ws.pipelines.value(name)

    def data(self, name: str) -> Any:
        return self.ws.tracking.data(self.steps[name].run_id)

    def log(self, name: str) -> str:
        return self.ws.pipelines.log_path(self.steps[name].run_id).read_text()

    def children(self, name: str) -> dict[str, Any]:
        found = self.ws.assets.list_runs(self.ws.project.id, parent_id=self.steps[name].run_id).items
        return {run.name: run for run in found}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    before = list(sys.path), set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        for name in CHOSEN:
            patch.delenv(name, raising=False)
        made = Ran(tmp_path_factory.mktemp("steps"))
    yield made
    made.ws.close()
    sys.path[:] = before[0]
    for name in ("plain", "steps"):
        if name not in before[1]:
            sys.modules.pop(name, None)


def test_a_step_that_needs_no_mlflow_starts_nothing(ran: Ran) -> None:
    found = ran.value("plain")
    assert not found["mlflow"]
    assert ran.listening
    assert "step-door" not in ran.threads
    env = found["env"]
    assert env["MLFLOW_RUN_ID"] == ran.steps["plain"].run_id
    assert env["MLFLOW_TRACKING_URI"].startswith("http://127.0.0.1:")
    assert env["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"
    assert ran.data("plain").metrics["n"].value == 1


def test_autolog_logs_to_the_run_of_the_step(ran: Ran) -> None:
    data = ran.data("fitted")
    assert (data.params["C"], data.params["solver"]) == ("0.5", "lbfgs")
    assert data.tags["estimator_name"] == "LogisticRegression"
    assert data.metrics["after"].value > 0.5
    assert set(ran.children("fitted")) == set()
    assert ran.ws.assets.run(ran.steps["fitted"].run_id).state == RunState.DONE


def test_the_next_step_in_the_same_worker_is_not_logged_if_it_does_not_ask(ran: Ran) -> None:
    assert ran.value("silent")["pid"] == ran.value("fitted")["pid"] == ran.value("explicit")["pid"]
    data = ran.data("silent")
    assert (data.params, data.metrics, data.tags) == ({}, {}, {})


def test_what_a_step_logs_by_itself_is_in_its_run_once(ran: Ran) -> None:
    run_id, data = ran.steps["explicit"].run_id, ran.data("explicit")
    assert data.params == {"lr": "0.1", "name": "a", "mlflow.name": "b", "same": "3", "own": "x"}
    assert data.tags["t"] == "v"
    points, _ = ran.ws.tracking.marks(run_id, "m", limit=10)
    assert [(step, value) for _, step, value in points] == [(1, 0.25), (2, 0.5)]
    assert [value for _, _, value in ran.ws.tracking.marks(run_id, "both", limit=10)[0]] == [0.75]
    name = ran.ws.tracking.experiment_by_id(ran.ws.project.id, data.experiment_id).name
    assert name == "explicit"
    assert ran.ws.assets.run(run_id).name == "explicit"


def test_runs_that_a_step_begins_are_its_children_and_end_with_it(ran: Ran) -> None:
    children = ran.children("explicit")
    assert set(children) == {"inner", "left open"}
    assert {run.state for run in children.values()} == {RunState.DONE}
    assert all(run.ended_at is not None for run in children.values())
    assert ran.ws.tracking.data(children["inner"].id).metrics["m"].value == 9
    assert set(ran.value("explicit")["found"]) == {ran.steps["explicit"].run_id, *(r.id for r in children.values())}


def test_a_callback_logs_each_iteration(ran: Ran) -> None:
    data = ran.data("boosted")
    assert data.params["num_leaves"] == "4"
    points, _ = ran.ws.tracking.marks(ran.steps["boosted"].run_id, "training-binary_logloss", limit=10)
    assert [step for _, step, _ in points] == [0, 1, 2, 3, 4]
    assert ran.children("boosted") == {}


def test_the_token_of_a_step_is_for_its_own_run_only(ran: Ran) -> None:
    answers = ran.value("curious")
    assert answers.pop("no token") == 401
    assert answers == dict.fromkeys(answers, "PERMISSION_DENIED")
    assert len(answers) == 7
    assert ran.data("curious").metrics["own"].value == 1
    assert "t" not in ran.ws.tracking.data(ran.value("explicit")["inner"]).tags


def test_models_files_and_traces_of_a_step_are_its_own(ran: Ran) -> None:
    value, run_id = ran.value("whole"), ran.steps["whole"].run_id
    assert value["own"] == run_id
    assert value["same"]
    tracking, project_id = ran.ws.tracking, ran.ws.project.id
    _, made = tracking.models_of([run_id])
    assert len(made[run_id]) == 2  # by autolog, and by log_model
    assert value["model"] in [id for id, _ in made[run_id]]
    files = {entry.path for entry in tracking.all_artifacts(Owner(OwnerKind.RUN, run_id)).items}
    assert "notes/a b.txt" in files
    versions = ran.ws.registry.versions(project_id, "shop_model")
    assert [(version.number, version.run_id) for version in versions] == [(1, run_id)]
    assert {"training_accuracy_score", "training_score"} <= set(ran.data("whole").metrics)
    traces = mlflow_traces(ran, "whole")
    assert [trace.name for trace in traces] == ["asked"]
    assert ran.children("whole") == {}


def mlflow_traces(ran: Ran, name: str) -> list[Any]:
    experiment = ran.data(name).experiment_id
    return list(ran.ws.tracking.traces.search(ran.ws.project.id, [experiment]).items)


def test_a_step_reads_models_of_others_and_changes_none(ran: Ran) -> None:
    answers = ran.value("evaluated")
    assert answers == dict.fromkeys(answers, "PERMISSION_DENIED")
    assert len(answers) == 10
    assert ran.data("evaluated").metrics["accuracy"].value > 0.5


def test_every_rule_is_about_a_path_that_is_served(ran: Ran) -> None:
    door = Door(ws=ran.ws, writer=GroupWriter(ran.ws.db))
    served = {(route.method, route.path) for route in all_routes(door)}
    missing = {path for method, path in set(Rules(door)._rules) - served}
    assert all("/mpu/" in path for path in missing)


def test_a_step_that_fails_keeps_what_was_logged_and_ends_what_it_began(ran: Ran) -> None:
    assert ran.steps["broken"].action == "failed"
    run = ran.ws.assets.run(ran.steps["broken"].run_id)
    assert (run.state, run.error["message"]) == (RunState.FAILED, "RuntimeError: no more")
    assert ran.data("broken").metrics["before"].value == 1
    assert [child.state for child in ran.children("broken").values()] == [RunState.FAILED]


def test_a_command_finds_its_run_in_the_environment(ran: Ran) -> None:
    assert ran.data("outer").metrics["outer"].value == 4.5


def test_a_server_that_the_user_has_chosen_stays_chosen_and_is_named(project, monkeypatch, tmp_path: Path) -> None:
    theirs = f"sqlite:///{tmp_path / 'theirs.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", theirs)
    text = """\
import os
import mlflow
import noria as nr

@nr.dataset
def other():
    return {name: mlflow.get_tracking_uri() if name == "at" else os.environ.get(name) for name in ("at", "MLFLOW_RUN_ID")}

@nr.dataset
def none():
    return 1
"""
    ws = project({"own_server.py": text})
    done = ws.pipelines.run(actor=ME)
    assert ws.pipelines.value("other") == {"at": theirs, "MLFLOW_RUN_ID": None}
    (warning,) = done.warnings
    assert theirs in warning["message"]
    assert ws.step_door.listener() is None


LOGS = """\
import noria as nr

@nr.dataset
def logs():
    import mlflow
    with mlflow.start_run():
        mlflow.log_metric("m", 1)
        with mlflow.start_run(nested=True):
            mlflow.log_param("p", 1)
    return 1
"""


def test_a_server_of_the_same_workspace_is_no_other_place(project, serving, monkeypatch) -> None:
    ws = project({"logs.py": LOGS})
    with serving(ws) as url:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        done = ws.pipelines.run(actor=ME)
    assert done.warnings == ()
    assert ws.tracking.data(done.steps["logs"].run_id).metrics["m"].value == 1


def test_a_password_for_another_server_is_not_sent_here(project, monkeypatch, tmp_path: Path) -> None:
    (tmp_path / ".mlflow").mkdir()
    (tmp_path / ".mlflow" / "credentials").write_text(
        "[mlflow]\nmlflow_tracking_username = a\nmlflow_tracking_password = b\n"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "elsewhere")
    ws = project({"logs.py": LOGS})
    done = ws.pipelines.run(actor=ME)
    assert ws.tracking.data(done.steps["logs"].run_id).metrics["m"].value == 1
    assert os.environ["MLFLOW_EXPERIMENT_NAME"] == "elsewhere"


def test_steps_log_on_both_databases(db_url: str, tmp_path: Path) -> None:
    (tmp_path / "logs.py").write_text(LOGS)
    (tmp_path / "noria.toml").write_text('name = "shop"\nmodules = ["logs"]\nexecutor = "inline"\n')
    with w.init(tmp_path, db_url=None if db_url.startswith("sqlite") else db_url, environment={}) as ws:
        done = ws.pipelines.run(actor=ME)
        run_id = done.steps["logs"].run_id
        (child,) = ws.assets.list_runs(ws.project.id, parent_id=run_id).items
        assert ws.tracking.data(run_id).metrics["m"].value == 1
        assert ws.tracking.data(child.id).params == {"p": "1"}
        assert child.state == RunState.DONE
    sys.modules.pop("logs")
    sys.path.remove(str(tmp_path))


# ---- in this very process

INLINE = """\
import mlflow
import noria as nr
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression

mlflow.sklearn.autolog(log_models=False, log_datasets=False, silent=True)
DATA = make_classification(50, random_state=0)


@nr.dataset
def first():
    LogisticRegression(C=0.25).fit(*DATA)
    mlflow.set_experiment("chosen")
    return 1


@nr.dataset
def second(first):
    mlflow.log_metric("m", 2)
    return 2
"""


@pytest.fixture
def quiet() -> Iterator[None]:
    yield
    mlflow.sklearn.autolog(disable=True)


def test_steps_in_the_drivers_process_log_to_their_runs_and_leave_nothing_behind(project, quiet) -> None:
    ws = project({"inline_steps.py": INLINE})
    before = fluent._active_experiment_id
    done = ws.pipelines.run(["second"], actor=ME)
    runs = {name: ws.tracking.data(step.run_id) for name, step in done.steps.items()}
    assert runs["first"].params["C"] == "0.25"  # its module has turned autologging on
    assert runs["second"].params == {}
    assert runs["second"].metrics["m"].value == 2
    assert {run.kind for run in ws.assets.list_runs(ws.project.id).items} == {"pipeline", "step"}
    assert "MLFLOW_RUN_ID" not in os.environ
    assert not mlflow.is_tracking_uri_set()
    assert mlflow.active_run() is None
    assert fluent._active_experiment_id == before


def test_a_run_that_is_open_in_the_drivers_process_stays_open(project, quiet, tmp_path: Path) -> None:
    text = (
        "import mlflow\nimport noria as nr\n\n\n@nr.dataset\ndef one():\n    mlflow.log_metric('m', 1)\n    return 1\n"
    )
    ws = project({"beside.py": text})
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mine.db'}")
    mlflow.set_experiment("mine")
    with mlflow.start_run() as mine:
        done = ws.pipelines.run(actor=ME)
        assert mlflow.active_run().info.run_id == mine.info.run_id
    assert mlflow.get_run(mine.info.run_id).data.metrics == {"m": 1}
    assert ws.tracking.data(done.steps["one"].run_id).metrics == {}
    fluent._active_experiment_id = None


def test_a_token_ends_with_its_step(project) -> None:
    text = """\
import os
import noria as nr

@nr.dataset
def told():
    import mlflow
    told = {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_")}
    mlflow.log_metric("m", 1)
    return told
"""
    ws = project({"told.py": text})
    ws.pipelines.run(actor=ME)
    env = ws.pipelines.value("told")
    wire = Wire(env["MLFLOW_TRACKING_URI"])
    path = f"2.0/mlflow/runs/get?run_id={env['MLFLOW_RUN_ID']}"
    for headers in ({"authorization": f"Bearer {env['MLFLOW_TRACKING_TOKEN']}"}, {}, {"authorization": "Bearer x"}):
        assert wire.call("GET", "/api/" + path, **headers).error[:2] == (401, "UNAUTHENTICATED")
    ws.close()
    with pytest.raises(ConnectionError):
        wire.call("GET", "/health")


def test_a_parameter_with_two_values_fails_its_step_and_no_other(project) -> None:
    text = """\
import noria as nr

@nr.dataset
def bad():
    nr.log(note="a")
    nr.log(note="b")

@nr.dataset
def good():
    nr.log(note="a")
    nr.log(note="a")
    return 1
"""
    ws = project({"notes.py": text})
    done = ws.pipelines.run(actor=ME, check=False)
    assert {name: step.action for name, step in done.steps.items()} == {"bad": "failed", "good": "made"}
    assert done.steps["bad"].error["code"] == "param_changed"


# ---- models

MODELS = """\
import mlflow
import noria as nr
import polars as pl
from sklearn.linear_model import LogisticRegression

orders = nr.source("orders", key="id", time="at")
outcomes = nr.source("outcomes", key="id", time="known", known="known")


@nr.features(of=orders, at=pl.col("at"))
def basket(orders: pl.LazyFrame) -> pl.LazyFrame:
    return orders.select("id", "n")


@nr.labels(of=orders, after="1d")
def returned(outcomes: pl.LazyFrame) -> pl.LazyFrame:
    return outcomes.select("id", returned=pl.col("back"))


@nr.model(features=basket, target=returned, split=nr.split.time(valid="6d", test="6d", gap="1d"),
          metrics=["roc_auc"], search={"C": nr.space.log(0.01, 10)})
def simple(train, valid, *, C: float = 1.0):
    mlflow.autolog(log_models=False, log_datasets=False, silent=True)
    model = LogisticRegression(C=C).fit(train.X, train.y)
    mlflow.log_metric("c", C)
    return model
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    root = tmp_path_factory.mktemp("shop")
    (root / "shop_models.py").write_text(MODELS)
    (root / "noria.toml").write_text('name = "shop"\nmodules = ["shop_models"]\n')
    environment = {k: v for k, v in os.environ.items() if k not in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID")}
    ws = w.init(root, environment=environment)
    rng, count = np.random.default_rng(0), 600
    at = [datetime(2013, 1, 1, tzinfo=UTC) + timedelta(minutes=int(m)) for m in np.sort(rng.integers(0, 57_600, count))]
    n = rng.integers(1, 9, count)
    ids = [f"o{i}" for i in range(count)]
    orders = pl.DataFrame({"id": ids, "at": at, "n": n})
    back = rng.random(count) < n / 12
    outcomes = pl.DataFrame({"id": ids, "back": back, "known": [t + timedelta(hours=12) for t in at]})
    graph = ws.pipelines.graph()
    for name, frame in (("orders", orders), ("outcomes", outcomes)):
        ws.data.append(ws.pipelines.ensure_source(graph.node(name).thing), frame, actor=ME)
    yield ws
    ws.close()
    sys.modules.pop("shop_models", None)
    if str(root) in sys.path:
        sys.path.remove(str(root))


def test_trials_side_by_side_log_to_a_run_each(shop: Workspace) -> None:
    workers = ProcessExecutor(workers=2, environment=dict(shop.environment))
    try:
        done = shop.training.sweep("simple", trials=4, actor=ME, executor=workers)
    finally:
        workers.close()
    assert len({trial.run_id for trial in done.trials}) == 4
    for trial in done.trials:
        data = shop.tracking.data(trial.run_id)
        assert float(data.params["C"]) == data.metrics["c"].value == trial.params["C"]
        assert data.metrics["test.roc_auc"].value > 0.5
        assert data.tags["estimator_name"] == "LogisticRegression"
        # The model that noria fits to compare with is no business of the client.
        assert shop.assets.list_runs(shop.project.id, parent_id=trial.run_id).items == []


def test_a_training_of_the_server_logs_to_its_run(shop: Workspace) -> None:
    asked = {
        "url": shop.url, "project": "shop", "root": str(shop.source.root), "model": "simple",
        "params": {"C": 0.125}, "trigger": "t1", "automatic": True,
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "noria.worker.train", json.dumps(asked)],
        capture_output=True, text=True, check=True, env=dict(shop.environment),
    )  # fmt: skip
    answer = json.loads(done.stdout.strip().splitlines()[-1])
    version = shop.registry.resolve(shop.project.id, f"simple/{answer['number']}")
    data = shop.tracking.data(version.run_id)
    assert (data.params["C"], data.metrics["c"].value) == ("0.125", 0.125)
    assert data.params["fit_intercept"] == "True"
