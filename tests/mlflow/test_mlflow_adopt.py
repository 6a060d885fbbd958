"""What a client logs is judged, gated and served by noria: adopted, in a process of its own."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import polars as pl
import psutil
import pytest
from mlflow.models import infer_signature
from mlflow_server import serve
from mlflow_wire import fresh
from sklearn.dummy import DummyClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.pipeline import make_pipeline

import mlflow
from noria import workspace as workspaces
from noria.base.actor import Actor
from noria.base.errors import Invalid, NoriaError
from noria.data.records import RepositoryKind
from noria.delivery.records import CandidateState
from noria.delivery.service.base import JOB
from noria.jobs.work import Worker
from noria.monitoring.errors import TruthUnfit
from noria.registry.records import ModelVersion
from noria.serving.loaded import Loaded, ModelFailed
from noria.serving.records import Arm, DeploymentState
from noria.serving.segments import Captured, CapturedRow, SegmentWriter
from noria.training.adopting import Adopting, gates_of
from noria.training.apart import Apart
from noria.training.errors import AdoptionInvalid, ModelApartFailed, PackageForeign, SignatureUnfit
from noria.training.signature import Signature, of_inputs
from noria.worker.pyfunc import Unfit, scores
from noria.workspace import Workspace

pytestmark = pytest.mark.ours
ME = Actor(name="user:test")
PLAIN: dict[str, Any] = {"pip_requirements": ["scikit-learn"]}


def rows(count: int = 400, seed: int = 0) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    frame = pd.DataFrame(draw.normal(size=(count, 3)), columns=list("abc"))
    frame["y"] = (frame["a"] + frame["b"] + draw.normal(size=count) > 0).astype(int)
    return frame.assign(id=[f"r{n}" for n in range(count)])


FRAME = rows()
X, Y = FRAME[["a", "b", "c"]], FRAME["y"]
GOOD = LogisticRegression().fit(X, Y)
POOR = DummyClassifier(strategy="uniform", random_state=1).fit(X, Y)


@pytest.fixture(scope="module")
def ws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    opened = workspaces.init(tmp_path_factory.mktemp("adopting"), environment=dict(os.environ))
    table = opened.data.ensure(opened.project.id, "held", RepositoryKind.TABLE, actor=ME, key=("id",))
    opened.data.append(table, pl.from_pandas(rows(300, seed=1)), actor=ME)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def server(ws: Workspace) -> Iterator[str]:
    with serve(ws) as url:
        yield url


@pytest.fixture(scope="module")
def client(server: str) -> Any:
    """The module ``mlflow``, which logs to the server of this file."""
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    mlflow.set_tracking_uri(server)
    mlflow.set_registry_uri(server)
    mlflow.set_experiment(fresh("adopting"))
    return mlflow


def logged(client: Any, ws: Workspace, name: str, model: Any = GOOD, **more: Any) -> ModelVersion:
    """The next version of a registered model, logged by the client."""
    given = {"signature": infer_signature(X, Y), "input_example": X[:3], **PLAIN, **more}
    with client.start_run():
        client.log_metric("acc", 0.8)
        client.sklearn.log_model(model, name="model", registered_model_name=name, **given)
    return ws.registry.versions(ws.project.id, name)[0]


@pytest.fixture(scope="module")
def plain(client: Any, ws: Workspace) -> ModelVersion:
    """A model that no rows judge."""
    made = logged(client, ws, fresh("plain"))
    ws.training.adoption.adopt(made, actor=ME)
    return made


@pytest.fixture(scope="module")
def judged(client: Any, ws: Workspace) -> ModelVersion:
    """A model that the table judges."""
    made = logged(client, ws, fresh("judged"))
    ws.training.adoption.adopt(made, actor=ME, settings=ON)
    return made


def loaded(ws: Workspace, model: ModelVersion, endpoint: str) -> Loaded:
    """The model as an endpoint worker holds it."""
    made = ws.serving.ensure(endpoint, model.model, {}, actor=ME)
    deployment = ws.serving.deploy(made, model, actor=ME)
    return Loaded(deployment.id, deployment.model, *ws.serving.folders(deployment), ws.features.replica_path)


def scored(found: Loaded, frame: pd.DataFrame) -> list[float]:
    asked = found.contract.decode_rows(frame.to_dict("records"))
    return found.score(found.features(found.contract.frame(asked))).tolist()


ON = Adopting(on="held", target="y", proba=True)


# ---- without rows


def test_an_adopted_model_answers_what_plain_mlflow_answers(client: Any, ws: Workspace, plain: ModelVersion) -> None:
    found = loaded(ws, plain, fresh("e"))
    try:
        assert found.warm_up() == 3
        assert (found.apart, found.contract.keyed) == (True, False)
        assert found.contract.describe()["columns"] == {"a": "float64", "b": "float64", "c": "float64"}
        theirs = client.pyfunc.load_model(f"models:/{plain.name}")
        assert scored(found, X[:20]) == theirs.predict(X[:20]).tolist()
        with pytest.raises(Invalid, match="got `null`"):  # the caller's fault, not the model's
            scored(found, pd.DataFrame([{"a": 1.0, "b": None, "c": 1.0}], dtype=object))
    finally:
        found.close()


def test_a_model_that_nobody_has_adopted_is_served_by_nobody(client: Any, ws: Workspace) -> None:
    model = logged(client, ws, fresh("shy"))
    endpoint = ws.serving.ensure(fresh("e"), model.model, {}, actor=ME)
    with pytest.raises(PackageForeign) as caught:
        ws.serving.deploy(endpoint, model, actor=ME)
    assert caught.value.hint == f"noria adopt {model.name}"


# ---- judged by rows


def test_held_out_rows_judge_it_and_become_the_reference_for_drift(ws: Workspace, judged: ModelVersion) -> None:
    made = ws.training.version_of(judged)
    held = rows(300, seed=1)
    chances = GOOD.predict_proba(held[["a", "b", "c"]])[:, 1]
    assert made.meta["metrics"]["log_loss"] == pytest.approx(log_loss(held["y"], chances))
    assert made.meta["metrics"]["roc_auc"] == pytest.approx(roc_auc_score(held["y"], chances))
    assert len(ws.training.evaluation(judged)) == 300
    package = ws.training.package_of(judged)
    assert (package.task, package.features.spine.name, package.features.spine.key) == ("binary", "held", ("id",))
    assert ws.training.reference(made)["rows"] == 300
    tests = {e.test for e in ws.evidence.list(ws.project.id, subject=judged.name)}
    assert {"baseline", "numeric"} <= tests


def test_rows_with_holes_judge_a_model_that_bears_them_and_are_no_sample_of_requests(
    client: Any, ws: Workspace
) -> None:
    frame = rows(60, seed=5)
    frame.loc[:9, "a"] = np.nan
    table = ws.data.ensure(ws.project.id, "holes", RepositoryKind.TABLE, actor=ME, key=("id",))
    ws.data.append(table, pl.from_pandas(frame), actor=ME)
    bears = make_pipeline(SimpleImputer(), LogisticRegression()).fit(X, Y)
    model = logged(client, ws, fresh("holes"), bears, skops_trusted_types=["numpy.dtype"])
    made = ws.training.adoption.adopt(model, actor=ME, settings=Adopting(on="holes", target="y", proba=True))
    assert made.meta["rows"] == 60
    found = loaded(ws, model, fresh("e"))
    try:
        assert found.warm_up() == 5
        assert len(found._sample["rows"]) == 5
        assert all(row["a"] is not None for row in found._sample["rows"])
    finally:
        found.close()


def test_equal_settings_on_equal_rows_compute_nothing_again_and_the_next_version_takes_them_over(
    client: Any, ws: Workspace, judged: ModelVersion
) -> None:
    made = ws.training.version_of(judged)
    assert ws.training.adoption.adopt(judged, actor=ME).id == made.id
    taken = ws.training.ensure_adopted(logged(client, ws, judged.model), actor=ME)
    assert (taken.meta["asked"]["on"], taken.meta["asked"]["proba"], taken.meta["rows"]) == ("held", True, 300)


def test_its_lineage_leads_to_the_clients_run_and_to_the_rows(ws: Workspace, judged: ModelVersion) -> None:
    found = ws.lineage.upstream([ws.training.version_of(judged).id])
    assert judged.run_id in found.runs
    assert {"held", "logged.model"} <= {version.asset for version in found.versions.values()}


# ---- gates


def gated(ws: Workspace, model: ModelVersion) -> Any:
    candidate = ws.delivery.release(model, actor=ME)
    work(ws)
    return ws.delivery.candidate(candidate.id)


def work(ws: Workspace) -> None:
    worker = Worker(ws.jobs, ws.clock, {JOB: ws.delivery.bring_on})
    while worker.run_one():
        pass


def ready(ws: Workspace, endpoint: str) -> None:
    for found in ws.serving.status(endpoint).deployments:
        if found.state == DeploymentState.STARTING:
            ws.serving.mark(found.id, DeploymentState.READY)
    ws.delivery.begin_loaded()


def test_a_worse_version_is_refused_and_a_better_one_released(client: Any, ws: Workspace) -> None:
    name, endpoint = fresh("gated"), fresh("e")
    gates = gates_of(["beats_champion", "roc_auc>=0.4"])
    poor = logged(client, ws, name, POOR)
    ws.training.adoption.adopt(poor, actor=ME, settings=Adopting(on="held", target="y", proba=True, gates=gates))
    ws.serving.ensure(endpoint, name, {}, actor=ME)
    assert gated(ws, poor).state == CandidateState.REFUSED  # not better than the constant
    forced = ws.delivery.release(poor, actor=ME, force=True)
    work(ws)
    ready(ws, endpoint)
    assert ws.delivery.candidate(forced.id).state == CandidateState.PROMOTED
    good = logged(client, ws, name)
    found = gated(ws, good)
    assert (found.state, [g["kind"] for g in found.gates]) == (
        CandidateState.RELEASING, ["beats_baseline", "beats_champion", "metric"],
    )  # fmt: skip
    assert all(g["passed"] for g in found.gates)
    assert found.gates[1]["details"]["champion"] == poor.name
    ws.delivery.cancel(endpoint, actor=ME)


def test_without_rows_the_clients_own_metrics_are_what_gates_see(client: Any, ws: Workspace) -> None:
    name = fresh("unseen")
    model = logged(client, ws, name)
    ws.training.adoption.adopt(model, actor=ME, settings=Adopting(gates=gates_of(["acc>=0.7"])))
    assert gated(ws, model).state == CandidateState.PROMOTED  # nothing serves it
    second = logged(client, ws, name)
    ws.training.adoption.adopt(second, actor=ME, settings=Adopting(gates=gates_of(["acc>=0.9", "auc<=1"])))
    found = gated(ws, second)
    assert found.state == CandidateState.REFUSED
    assert [(g["kind"], g["passed"]) for g in found.gates] == [("loads", True), ("metric", False), ("metric", False)]
    assert "its run logged no auc" in found.gates[2]["text"]


@pytest.mark.parametrize(
    "text", ["", "better", "auc>", "auc>=x", "auc>=nan", "slices:a:rmse>=1", "slices:a:acc>=1", ">=1"]
)
def test_a_gate_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="is no gate"):
        gates_of([text])


# ---- what cannot be adopted


def test_what_cannot_be_adopted_is_told_why(client: Any, ws: Workspace, tmp_path: Path) -> None:
    model = logged(client, ws, fresh("wrong"))
    adopt = ws.training.adoption.adopt
    cases: list[tuple[dict[str, Any], str]] = [
        ({"on": "held"}, "needs a column with the truth"),
        ({"on": "held", "target": "z"}, "no column 'z'"),
        ({"on": "held", "target": "id"}, "yes-or-no and numbers"),
        ({"on": "nowhere", "target": "y"}, "nowhere"),
        ({"on": "held", "target": "y", "gates": gates_of(["rocauc>=1"])}, "no metric 'rocauc'"),
        ({"task": "ranking"}, "no task 'ranking'"),
        ({"on": "held", "target": "a", "task": "binary"}, "is not yes or no"),
    ]
    for settings, said in cases:
        with pytest.raises(NoriaError, match=said):
            adopt(model, actor=ME, settings=Adopting(**settings))
    bare = logged(client, ws, fresh("bare"), signature=None, input_example=None)
    with pytest.raises(SignatureUnfit, match="without a signature"):
        adopt(bare, actor=ME)
    line = logged(client, ws, fresh("line"), LinearRegression().fit(X, Y))
    with pytest.raises(NoriaError, match="gives no probabilities"):
        adopt(line, actor=ME, settings=ON)
    raw = client.MlflowClient()
    name = fresh("elsewhere")
    raw.create_registered_model(name)
    raw.create_model_version(name, "s3://somewhere/model")
    with pytest.raises(AdoptionInvalid, match="not here"):
        adopt(ws.registry.resolve(ws.project.id, f"{name}/1"), actor=ME)
    failed = [run for run in ws.assets.list_runs(ws.project.id, limit=200).items if run.kind == "adopt" and run.error]
    assert {run.state.value for run in failed} == {"failed"}


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (None, "without a signature"),
        ([], "without a signature"),
        ([{"type": "binary", "name": "a"}], "binary"),
        ([{"type": "array", "items": {"type": "long"}, "name": "a"}], "array"),
        ([{"type": "long", "name": "a"}, {"type": "long", "name": "a"}], "'a'"),
        ([{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 28, 28, 1]}}], "shape"),
        ([{"type": "tensor", "tensor-spec": {"dtype": "str", "shape": [-1, 2]}}], "tensor of str"),
        ([{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, -1]}}], "shape"),
        ([{"type": "tensor", "name": "x", "tensor-spec": {}}, {"type": "tensor", "name": "y"}], "2 tensors"),
    ],
)
def test_a_signature_that_no_row_fits_is_refused(inputs: Any, said: str) -> None:
    with pytest.raises(SignatureUnfit, match=said):
        of_inputs(inputs, "iris/1")


# ---- truth, evidence


def routed(ws: Workspace, model: ModelVersion, endpoint: str) -> None:
    """The model answers an endpoint alone."""
    made = ws.serving.ensure(endpoint, model.model, {}, actor=ME)
    deployment = ws.serving.deploy(made, model, actor=ME)
    ws.serving.mark(deployment.id, DeploymentState.READY)
    with ws.changes.begin("test.route", ws.project.id, ME) as change:
        arms = [Arm(deployment=deployment.id, role="champion", weight=1.0)]
        ws.serving.route(change, made, arms, salt="", paired=False, reason="test")
        change.note(endpoint)


def test_truth_is_told_by_the_id_of_the_prediction(ws: Workspace, plain: ModelVersion) -> None:
    name = fresh("e")
    routed(ws, plain, name)
    first = pl.DataFrame({"id": ["a", "b"], "truth": [1, 0]})
    assert ws.monitoring.tell_truth(name, first, actor=ME) == 2
    known = ws.monitoring.truth(name).sort("entity")
    assert known["entity"].to_list() == ['["a"]', '["b"]']
    head = ws.data.head(ws.data.get(ws.project.id, f"{name}.truth"))
    assert ws.monitoring.tell_truth(name, first, actor=ME) == 2  # told again: nothing is written
    assert ws.data.head(ws.data.get(ws.project.id, f"{name}.truth")) == head
    ws.monitoring.tell_truth(name, pl.DataFrame({"id": ["b"], "truth": [1.0]}), actor=ME)
    assert ws.monitoring.truth(name).sort("entity")["truth"].to_list() == [1, 1]
    for rows, said in [
        ({"id": ["a"], "y": [1]}, "columns id and truth"),
        ({"id": ["a", "a"], "truth": [1, 0]}, "there twice"),
        ({"id": ["a"], "truth": ["yes"]}, "no number"),
        ({"id": ["a", None], "truth": [1, 1]}, "1 rows have no id"),
        ({"id": ["a"], "truth": [float("nan")]}, "1 rows have no id or no truth"),
        ({"id": [], "truth": []}, "All rows"),
    ]:
        with pytest.raises(TruthUnfit, match=said):
            ws.monitoring.tell_truth(name, pl.DataFrame(rows), actor=ME)


def test_what_judged_it_counts_in_the_scorecard(ws: Workspace, judged: ModelVersion) -> None:
    name = fresh("e")
    routed(ws, judged, name)
    with pytest.raises(TruthUnfit, match="the column 'y' of 'held'"):
        ws.monitoring.tell_truth(name, pl.DataFrame({"id": ["a"], "truth": [1]}), actor=ME)
    marks = {test.id: test for test in ws.scorecard.score(name).tests}
    assert marks["M5"].points > 0, marks["M5"]  # a simpler model is worse: the constant


def test_the_truth_of_rows_with_a_key_comes_from_the_table_that_judged_it(client: Any, ws: Workspace) -> None:
    name = fresh("e")
    table = ws.data.ensure(ws.project.id, "growing", RepositoryKind.TABLE, actor=ME, key=("id",))
    ws.data.append(table, pl.from_pandas(rows(300, seed=1)), actor=ME)
    judged = logged(client, ws, fresh("keyed"))
    ws.training.adoption.adopt(judged, actor=ME, settings=Adopting(on="growing", target="y", proba=True))
    routed(ws, judged, name)
    (deployment,) = [d for d in ws.serving.status(name).deployments if d.model == judged.name]
    found = Loaded(deployment.id, deployment.model, *ws.serving.folders(deployment), ws.features.replica_path)
    asked = rows(50, seed=7).assign(id=[f"new{n}" for n in range(50)])
    capture = SegmentWriter(ws.serving.capture_folder, name)
    try:
        assert found.contract.keyed
        made = found.contract.decode_rows(asked[["id", "a", "b", "c"]].to_dict("records"))
        computed = found.features(found.contract.frame(made))
        lines = [
            CapturedRow(f"p{n}", found.contract.entity(row), None, score, msgspec.json.encode(row), features)
            for n, (row, score, features) in enumerate(
                zip(made, found.score(computed).tolist(), found.values(computed), strict=True)
            )
        ]
        capture.write(
            Captured(
                endpoint=name, revision=1, deployment=deployment.id, model=judged.name, role="champion", answered=True,
                received=ws.clock.now_ms(), latency=900, commits=[], rows=lines,
            )
        )  # fmt: skip
    finally:
        found.close()
        capture.close()
    ws.ingest.take(actor=ME)
    ws.delivery.process(name)
    (window,) = ws.monitoring.windows(name)
    assert (window.n, window.labelled, set(window.columns)) == (50, 0, {"a", "b", "c"})
    ws.data.append(table, pl.from_pandas(asked), actor=ME)
    ws.delivery.process(name)
    (window,) = ws.monitoring.windows(name)
    assert window.labelled == 50
    chances = GOOD.predict_proba(asked[["a", "b", "c"]])[:, 1]
    assert window.metrics["roc_auc"] == pytest.approx(roc_auc_score(asked["y"], chances))
    drift = ws.monitoring.report(name, None, None, None)
    assert drift.score.n == 50
    assert 0 < drift.score.psi < 1


# ---- other forms of rows


def test_a_matrix_of_numbers_is_asked_by_place(client: Any, ws: Workspace) -> None:
    fitted = LinearRegression().fit(X.to_numpy(), Y)
    sign = infer_signature(X.to_numpy(), fitted.predict(X.to_numpy()))
    model = logged(client, ws, fresh("matrix"), fitted, signature=sign, input_example=X.to_numpy()[:4])
    ws.training.adoption.adopt(model, actor=ME)
    found = loaded(ws, model, fresh("e"))
    try:
        assert found.warm_up() == 4
        asked = X[:5].set_axis(["x0", "x1", "x2"], axis=1)
        assert scored(found, asked) == pytest.approx(fitted.predict(X.to_numpy()[:5]))
    finally:
        found.close()


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ([[0.9, 0.1], [0.2, 0.8]], [0.1, 0.8]),
        ([[3], [4]], [3, 4]),
        (pd.Series([1, 0]), [1, 0]),
        (pd.DataFrame({"p": [1.5, float("nan")]}), [1.5, None]),
        (np.array([True, False]), [1, 0]),
        ([[10, -5], [20, -7]], None),  # two targets of a regression are no chances
        (["a", "b"], None),
        ([[1, 2, 3]], None),
        ([1.0], None),
    ],
)
def test_one_number_for_each_of_two_rows_or_none(given: Any, wanted: list[float | None] | None) -> None:
    if wanted is None:
        with pytest.raises(Unfit, match="one number for each row"):
            scores(given, 2)
    else:
        assert scores(given, 2) == wanted


MIXED = """
import os
import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Mixed(PythonModel):
    def predict(self, context, model_input, params=None):
        print("what a model prints is no answer", flush=True)
        word = model_input["word"].iloc[0]
        if word == "die":
            os._exit(3)
        if word == "raise":
            raise RuntimeError("a bad word")
        if word == "texts":
            return ["a"] * len(model_input)
        if word == "many":
            return np.zeros((len(model_input), 4))
        return model_input["word"].str.len() + model_input["when"].dt.year + model_input["n"]


set_model(Mixed())
"""
SLOW = """
import time
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Slow(PythonModel):
    def predict(self, context, model_input, params=None):
        time.sleep(60)


set_model(Slow())
"""


@pytest.fixture(scope="module")
def mixed(client: Any, ws: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    program = tmp_path_factory.mktemp("mixed") / "mixed.py"
    program.write_text(MIXED)
    frame = pd.DataFrame({"word": ["one"], "n": [1], "when": [pd.Timestamp("2020-05-06")]})
    name = fresh("mixed")
    with client.start_run():
        client.pyfunc.log_model(
            name="model", python_model=program, signature=infer_signature(frame, [1.5]), input_example=None,
            registered_model_name=name, pip_requirements=["pandas"],
        )  # fmt: skip
    model = ws.registry.resolve(ws.project.id, f"{name}/1")
    ws.training.adoption.adopt(model, actor=ME)
    found = loaded(ws, model, fresh("e"))
    yield found
    found.close()


def ask(found: Loaded, word: str, count: int = 1) -> list[float]:
    row = {"word": word, "n": 2, "when": "2020-05-06T07:08:09"}
    asked = found.contract.decode_rows([row] * count)
    return found.score(found.features(found.contract.frame(asked))).tolist()


def test_texts_moments_and_whole_numbers_reach_the_model_as_they_are(mixed: Loaded) -> None:
    assert mixed.warm_up() == 0
    assert ask(mixed, "four", 3) == [2026.0] * 3


@pytest.mark.parametrize(
    ("word", "said"),
    [("raise", "RuntimeError: a bad word"), ("texts", "one number for each row"), ("many", r"\[1, 4\] for 1 rows")],
)
def test_what_a_model_does_wrong_fails_one_answer(mixed: Loaded, word: str, said: str) -> None:
    with pytest.raises(ModelFailed, match=said):
        ask(mixed, word)
    assert ask(mixed, "four") == [2026.0]


def test_a_model_that_ends_its_process_is_started_again(mixed: Loaded) -> None:
    with pytest.raises(ModelFailed, match="died with 3"):
        ask(mixed, "die")
    assert ask(mixed, "four") == [2026.0]


def child(found: Loaded) -> psutil.Process:
    predict: Any = found._predict
    return psutil.Process(predict._child._process.pid)


def test_a_killed_process_of_a_model_costs_nothing_when_nobody_asks(mixed: Loaded) -> None:
    ask(mixed, "four")
    process = child(mixed)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)
    assert ask(mixed, "four") == [2026.0]


def test_the_process_sees_no_secrets(mixed: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    with pytest.raises(ModelFailed):
        ask(mixed, "die")
    ask(mixed, "four")
    assert "AWS_SECRET_ACCESS_KEY" not in child(mixed).environ()


def test_a_model_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    program = tmp_path / "slow.py"
    program.write_text(SLOW)
    mlflow.pyfunc.save_model(tmp_path / "slow", python_model=program, pip_requirements=["pandas"])
    made = Apart(tmp_path / "slow", Signature(types={"a": "float64"}, needed=()), answer_seconds=0.5)
    process = made._child._process
    with pytest.raises(ModelApartFailed, match="did not answer within"):
        made(pl.DataFrame({"a": [1.0]}))
    assert process.poll() is not None
    del made


def test_a_process_ends_with_what_holds_it(tmp_path: Path) -> None:
    mlflow.sklearn.save_model(GOOD, tmp_path / "m", **PLAIN)
    made = Apart(tmp_path / "m", Signature(types={"a": "float64", "b": "float64", "c": "float64"}, needed=()))
    process = made._child._process
    del made
    assert process.poll() is not None
