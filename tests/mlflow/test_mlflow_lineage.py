"""What clients log stands in noria's own graph, and what noria trains loads in plain MLflow."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.models import infer_signature
from mlflow_server import serve
from mlflow_wire import Wire, fresh
from sklearn.linear_model import LogisticRegression

sys.path.insert(0, str(Path(__file__).parents[1] / "serving"))
import git
from mlflow.entities import RunTag
from mlflow.tracking.context.git_context import GitRunContext
from mlflow.tracking.context.registry import _run_context_provider_registry as context_providers
from trained_shop import trained

from mlflow import MlflowClient
from noria.assets.records import AssetKind, Content, Direction
from noria.base.errors import NoriaError
from noria.base.ids import RunId
from noria.cli.main import run as noria
from noria.workspace import Workspace

X = pd.DataFrame({"a": np.arange(20.0), "b": np.arange(20.0)[::-1] % 7})
MODEL = LogisticRegression().fit(X, X["a"] > 9)
PLAIN: dict[str, Any] = {"pip_requirements": ["scikit-learn"]}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with trained(tmp_path_factory.mktemp("shop"), 1) as ws:
        yield ws


@pytest.fixture(scope="module")
def server(shop: Workspace) -> Iterator[str]:
    with serve(shop) as url:
        yield url


@pytest.fixture
def logged(fluent: Any) -> tuple[str, str]:
    """A run and the model that it logged."""
    with fluent.start_run() as run:
        made = fluent.sklearn.log_model(
            MODEL, name="my model", signature=infer_signature(X, MODEL.predict(X)), input_example=X[:2], **PLAIN
        )
    return run.info.run_id, made.model_id


def version_of(shop: Workspace, model: str) -> Any:
    found = shop.tracking.logged_model(shop.project.id, model)
    assert found.version_id is not None
    return shop.assets.version(found.version_id)


def test_a_logged_model_is_a_version_that_its_run_made(shop: Workspace, client: MlflowClient, logged: Any) -> None:
    run, model = logged
    version = version_of(shop, model)
    assert (version.asset, version.content) == ("logged.my-model", Content.MODEL)
    assert shop.assets.asset(shop.project.id, version.asset).kind is AssetKind.MODEL
    assert [r.id for r in shop.lineage.makers(version.id)] == [run]
    assert version.meta["flavors"] == ["python_function", "sklearn"]
    assert [c["name"] for c in version.meta["signature"]["inputs"]] == ["a", "b"]
    assert version.meta["input_example"] == "input_example.json"
    assert version.meta["logged_model"] == model
    files = {f.path for f in client.list_logged_model_artifacts(model)}
    folder = shop.pipelines.values.materialise(version)
    assert {p.name for p in folder.iterdir()} == files
    assert "loader_module: mlflow.sklearn" in (folder / "MLmodel").read_text()


def test_a_registered_model_names_that_version(
    shop: Workspace, fluent: Any, client: MlflowClient, wire: Wire, logged: Any
) -> None:
    run, model = logged
    name = fresh("fly")
    fluent.register_model(f"models:/{model}", name)
    fluent.register_model(f"runs:/{run}/my model", name)
    client.copy_model_version(f"models:/{name}/1", f"{name}-copy")
    wanted = version_of(shop, model).id
    assert [v.version_id for v in shop.registry.versions(shop.project.id, name)] == [wanted, wanted]
    assert shop.registry.version(shop.project.id, f"{name}-copy", 1).version_id == wanted
    assert {v.name for v in shop.registry.versions_with([wanted])} == {f"{name}/1", f"{name}/2", f"{name}-copy/1"}
    shown = wire.get(f"/v1/models/{name}")["versions"][0]
    assert (shown["version"], shown["run"]) == (wanted, run)
    assert f"{name}/1" in json.dumps(wire.get("/v1/trace", thing=f"{name}/1"))


def test_files_of_a_run_become_a_version_when_they_are_registered(shop: Workspace, fluent: Any, tmp_path: Path) -> None:
    fluent.sklearn.save_model(MODEL, tmp_path / "m", **PLAIN)
    with fluent.start_run() as run:
        fluent.log_artifacts(str(tmp_path / "m"), "deep/model")
        fluent.log_text("beside", "notes.txt")
    name = fresh("fly")
    fluent.register_model(f"runs:/{run.info.run_id}/deep/model", name)
    found = shop.registry.version(shop.project.id, name, 1)
    assert found.version_id is not None
    version = shop.assets.version(found.version_id)
    assert version.asset == "logged.model"
    assert [r.id for r in shop.lineage.makers(version.id)] == [run.info.run_id]
    assert {p.name for p in shop.pipelines.values.materialise(version).iterdir()} == {
        p.name for p in (tmp_path / "m").iterdir()
    }


def test_what_is_no_package_becomes_no_version(shop: Workspace, fluent: Any, client: MlflowClient) -> None:
    made = client.create_logged_model(client.create_experiment(fresh()), name="agent")
    client.finalize_logged_model(made.model_id, "READY")
    assert shop.tracking.logged_model(shop.project.id, made.model_id).version_id is None
    name = fresh("fly")
    client.create_registered_model(name)
    with fluent.start_run() as run:
        fluent.log_text("x", "model/readme.txt")
    client.create_model_version(name, f"runs:/{run.info.run_id}/model", run_id=run.info.run_id)
    client.create_model_version(name, "s3://bucket/model")
    assert [v.version_id for v in shop.registry.versions(shop.project.id, name)] == [None, None]


def test_datasets_of_ours_are_inputs_of_the_run(shop: Workspace, wire: Wire, experiment: str) -> None:
    orders = shop.data.get(shop.project.id, "orders")
    commit = shop.data.resolve(orders)
    run = wire.run(experiment)
    datasets = [
        {"name": "by address", "digest": "x", "source_type": "http",
         "source": json.dumps({"uri": f"noria://orders@{commit.id[:16]}"})},
        {"name": "orders", "digest": commit.id[:12], "source_type": "local", "source": "{}"},
        {"name": "orders", "digest": "0123abcd", "source_type": "local", "source": "noria://nowhere"},
        {"name": "theirs", "digest": "0" * 12, "source_type": "s3", "source": '{"uri": "s3://x/y"}'},
    ]  # fmt: skip
    wire.post("runs/log-inputs", run_id=run, datasets=[{"dataset": d, "tags": []} for d in datasets])
    edges = shop.assets.edges(RunId(run))
    assert {(e.version_id, e.direction, e.slot) for e in edges} == {
        (commit.version_id, Direction.IN, "by address"),
        (commit.version_id, Direction.IN, "orders"),
    }


def test_lineage_leads_from_a_commit_to_the_registered_model(
    shop: Workspace, fluent: Any, client: MlflowClient, wire: Wire
) -> None:
    commit = shop.data.resolve(shop.data.get(shop.project.id, "orders"))
    source = {"name": "orders", "digest": commit.id[:12], "source_type": "local", "source": "{}"}
    theirs = {"name": "theirs", "digest": "1", "source_type": "local", "source": '{"uri": "s3://x/y"}'}
    name = fresh("fly")
    with fluent.start_run(tags={"mlflow.source.git.commit": "abc123"}) as run:
        inputs = [{"dataset": d, "tags": []} for d in (source, theirs)]
        wire.post("runs/log-inputs", run_id=run.info.run_id, datasets=inputs)
        made = fluent.sklearn.log_model(MODEL, name="m", registered_model_name=name, **PLAIN)
    version = version_of(shop, made.model_id)
    assert version.meta["git"] == "abc123"
    assert [d["name"] for d in version.meta["datasets"]] == ["theirs"]
    graph = shop.lineage.upstream([version.id])
    assert commit.version_id in graph.versions
    assert version.id in shop.lineage.downstream([commit.version_id]).versions
    trail = json.dumps(wire.get("/v1/trace", thing=f"{name}/1"))
    assert run.info.run_id in trail
    assert "orders" in trail


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The client's script lies in a git repository; its commit."""
    made = git.Repo.init(tmp_path / "flights", initial_branch="trunk")
    (tmp_path / "flights" / "train.py").write_text("pass\n")
    made.index.add(["train.py"])
    who = git.Actor("A", "a@example.com")
    commit = made.index.commit("first", author=who, committer=who)
    made.create_remote("origin", "https://bot:secret-token@git.example.com/acme/flights.git")
    context = next(one for one in context_providers if isinstance(one, GitRunContext))
    monkeypatch.setattr(context, "_cache", {})  # it remembers where the process was started
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "flights" / "train.py")])
    return commit.hexsha


def test_the_commit_of_a_clients_script_is_the_code_of_its_run(
    shop: Workspace, fluent: Any, wire: Wire, repository: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name = fresh("fly")
    runs: list[str] = []
    for _ in range(2):
        with fluent.start_run() as run:
            runs.append(run.info.run_id)
            fluent.sklearn.log_model(MODEL, name="m", registered_model_name=name, **PLAIN)
    (edge,), (other,) = ([e for e in shop.assets.edges(RunId(r)) if e.direction is Direction.CODE] for r in runs)
    assert edge.version_id == other.version_id
    code = shop.assets.version(edge.version_id)
    address = "https://git.example.com/acme/flights.git"
    assert (code.asset, code.meta["git"]) == ("git.flights", {"commit": repository, "repository": address})
    assert shop.assets.asset(shop.project.id, code.asset).kind is AssetKind.CODE
    assert code.id in shop.lineage.upstream([shop.registry.version(shop.project.id, name, 1).version_id]).versions
    trail = wire.get("/v1/trace", thing=f"models:/{name}/1")["backward"]
    (found,) = [child for child in trail["children"][0]["children"] if child["kind"] == "code"]
    assert trail["children"][0]["id"] == runs[0]
    assert found["facts"] == {
        "commit": repository,
        "repository": address,
        "branch": "trunk",
        "source": sys.argv[0],
        "files": "not here",
    }
    capsys.readouterr()
    assert noria(["trace", f"models:/{name}/1", "--workspace", str(shop.home)]) == 0
    shown = capsys.readouterr().out
    assert repository in shown
    assert "secret-token" not in json.dumps(trail) + shown


def test_code_that_is_said_later_or_otherwise(shop: Workspace, client: MlflowClient, wire: Wire) -> None:
    def code(run: str) -> list[dict[str, str]]:
        edges = [e for e in shop.assets.edges(RunId(run)) if e.direction is Direction.CODE]
        return [shop.assets.version(e.version_id).meta["git"] for e in edges]

    run = client.create_run(wire.experiment()).info.run_id
    assert code(run) == []
    client.set_tag(run, "mlflow.source.git.repoURL", "git@example.com:acme/tools")
    assert code(run) == []
    client.set_tag(run, "mlflow.source.git.commit", "aaaa1111")
    assert code(run) == [{"commit": "aaaa1111", "repository": "git@example.com:acme/tools"}]
    client.log_batch(run, tags=[RunTag("mlflow.source.git.commit", "bbbb2222")])
    assert [one["commit"] for one in code(run)] == ["bbbb2222"]
    client.delete_tag(run, "mlflow.source.git.commit")
    assert code(run) == []


def test_the_same_package_again_is_the_same_version(shop: Workspace, client: MlflowClient, logged: Any) -> None:
    _, model = logged
    before = version_of(shop, model)
    client.finalize_logged_model(model, "READY")
    assert version_of(shop, model).id == before.id


def test_nothing_is_stored_twice_and_nothing_is_collected(shop: Workspace, fluent: Any, logged: Any) -> None:
    shop.gc.run()
    assert fluent.sklearn.load_model(f"models:/{logged[1]}").predict(X).tolist() == MODEL.predict(X).tolist()


# ---- what noria trained


def test_plain_mlflow_loads_what_noria_trained(shop: Workspace, fluent: Any, client: MlflowClient, wire: Wire) -> None:
    client.set_registered_model_alias("tree", "champion", "1")
    version = shop.registry.version(shop.project.id, "tree", 1)
    uri = client.get_model_version_download_uri("tree", "1")
    assert uri == f"mlflow-artifacts:/versions/{version.version_id}/artifacts"
    folder = shop.pipelines.values.materialise(shop.assets.version(version.version_id))
    sample = json.loads((folder / "sample.json").read_text())
    for address in ("models:/tree@champion", "models:/tree/1", "models:/tree/latest"):
        model = fluent.pyfunc.load_model(address)
        assert model.predict(model.input_example).tolist() == pytest.approx(sample["scores"][:5]), address
    listed = wire.call("GET", "/api/2.0/mlflow-artifacts/artifacts", query={"path": uri.partition(":/")[2]})
    names = {f["path"] for f in listed.json["files"]}
    assert names == {p.name for p in folder.iterdir()}
    assert client.get_model_version("tree", "1").run_id == version.run_id


def test_the_files_of_a_version_never_change(shop: Workspace, wire: Wire) -> None:
    version = shop.registry.version(shop.project.id, "tree", 1)
    at = f"/api/2.0/mlflow-artifacts/artifacts/versions/{version.version_id}/artifacts/MLmodel"
    before = wire.call("GET", at)
    assert before.status == 200
    assert wire.call("PUT", at, b"mine").status == 400
    assert wire.call("DELETE", at).status == 400
    assert wire.call("GET", at).body == before.body
    for wrong in (
        "versions/0/artifacts/MLmodel",
        "versions/x/artifacts/MLmodel",
        "versions/99999999/artifacts/MLmodel",
    ):
        assert wire.call("GET", f"/api/2.0/mlflow-artifacts/artifacts/{wrong}").status == 404
    table = shop.data.resolve(shop.data.get(shop.project.id, "orders")).version_id
    assert wire.call("GET", f"/api/2.0/mlflow-artifacts/artifacts/versions/{table}/artifacts/x").status == 404


def test_a_model_that_only_mlflow_can_load_is_not_deployed(shop: Workspace, fluent: Any, logged: Any) -> None:
    name = fresh("fly")
    fluent.register_model(f"models:/{logged[1]}", name)
    with pytest.raises(NoriaError, match="MLflow"):
        shop.training.package_of(shop.registry.version(shop.project.id, name, 1))
