"""``noria import mlflow``: a folder that the real client wrote and the database of a real ``mlflow server``, moved in and
compared through the real client."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
from mlflow.entities import Metric, ViewType
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow_server import serve
from moving_content import FILES, LONG, fill

from mlflow import MlflowClient
from noria import workspace as ws
from noria.cli.main import run as noria
from noria.workspace import Workspace

GOLDEN = Path(__file__).parent.parent / "golden" / "mlflow-3.17.zip"


@pytest.fixture(autouse=True)
def _file_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder that the real client wrote, and what is in it. Tests that change it copy it."""
    root = tmp_path_factory.mktemp("store") / "mlruns"
    before = os.environ.get("MLFLOW_ALLOW_FILE_STORE")
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    try:
        return root, fill(root.as_uri())
    finally:
        if before is None:
            del os.environ["MLFLOW_ALLOW_FILE_STORE"]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the database and the files of a real ``mlflow server``."""
    folder = tmp_path_factory.mktemp("golden")
    with zipfile.ZipFile(GOLDEN) as packed:
        packed.extractall(folder)
    return folder


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Workspace]:
    made = ws.init(tmp_path / "here", environment={})
    yield made
    made.close()


def moved(opened: Workspace, capsys: pytest.CaptureFixture[str], *given: str | Path) -> dict[str, Any]:
    """What the command answers under ``--json``."""
    capsys.readouterr()
    code = noria(["import", "mlflow", *map(str, given), "--workspace", str(opened.home), "--json"])
    said = capsys.readouterr()
    assert code == 0, said.err
    return json.loads(said.out)


def history(client: MlflowClient, run: str, key: str) -> list[tuple[int, int, str]]:
    return sorted((m.timestamp, m.step, repr(m.value)) for m in client.get_metric_history(run, key))


def files(client: MlflowClient, run: str, folder: Path) -> dict[str, bytes]:
    place = client.get_run(run).info.artifact_uri
    if place.startswith("file:"):  # MLflow's client cannot fetch names with # and % from a folder
        top = Path(place.removeprefix("file://"))
        return {str(one.relative_to(top)): one.read_bytes() for one in top.rglob("*") if one.is_file()}
    folder.mkdir(exist_ok=True)
    found: dict[str, bytes] = {}
    repository = get_artifact_repository(place, client.tracking_uri)
    folders: list[str | None] = [None]
    for path in folders:  # grows while it is walked through
        for one in repository.list_artifacts(path):
            if one.is_dir:
                folders.append(one.path)
            else:
                found[one.path] = Path(repository.download_artifacts(one.path, str(folder))).read_bytes()
    for path in FILES:
        if "#" in path and found:  # MLflow's client refuses a folder with such a name, so it is shown to others only
            given = {"run_id": run, "path": path}
            answer = urllib3.request("GET", f"{client.tracking_uri}/get-artifact", fields=given)
            found |= {path: answer.data} if answer.status == 200 else {}
    return found


def snapshot(client: MlflowClient, folder: Path) -> dict[str, Any]:
    """Everything that a client sees, without the ids of experiments and places of files."""
    seen: dict[str, Any] = {}
    for experiment in client.search_experiments(ViewType.ALL):
        runs: dict[str, Any] = {}
        for run in client.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL):
            info, data = run.info, run.data
            runs[info.run_id] = {
                "info": (
                    info.run_name,
                    info.status,
                    info.start_time,
                    info.end_time,
                    info.lifecycle_stage,
                    info.user_id,
                ),
                "params": data.params,
                "tags": data.tags,
                "metrics": {key: history(client, info.run_id, key) for key in data.metrics},
                "inputs": [
                    (vars(one.dataset), sorted((tag.key, tag.value) for tag in one.tags))
                    for one in run.inputs.dataset_inputs
                ],
            }
            if info.lifecycle_stage == "active":
                runs[info.run_id]["files"] = files(client, info.run_id, folder)
        seen[experiment.name] = (experiment.lifecycle_stage, experiment.creation_time, experiment.tags, runs)
    return seen


def test_a_folder_comes_over_as_it_is(
    written: tuple[Path, dict[str, Any]], opened: Workspace, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    root, ids = written
    done = moved(opened, capsys, root)
    assert (done["runs_new"], done["experiments_new"], done["files"]) == (6, 2, len(FILES) + done["logged_new"] * 2)
    assert done["left"] == []
    assert done["renamed"] == {}
    assert {one["theirs"]: one["name"] for one in done["experiments"]}[ids["flights"]] == "flights"
    theirs = MlflowClient(root.as_uri(), root.as_uri())
    with serve(opened) as url:
        there, here = snapshot(theirs, tmp_path / "a"), snapshot(MlflowClient(url, url), tmp_path / "b")
    stage, _, tags, runs = here["flights"]
    assert stage == "active"
    assert tags == {"team": "ops", "mlflow.note.content": "About\nflights"}
    assert len(runs[ids["child"]]["metrics"]["curve"]) == LONG
    assert runs[ids["one"]]["files"] == FILES
    assert here["thrown away"][0] == "deleted"
    for name in ("flights", "thrown away", "Default"):
        assert here[name][3] == there[name][3], name
    assert {k: v for k, v in here.items() if k != "Default"} == {k: v for k, v in there.items() if k != "Default"}


def test_the_same_again_changes_nothing(
    written: tuple[Path, dict[str, Any]], opened: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    root, _ = written
    assert moved(opened, capsys, root)["changed"]
    for more in ((), ("--again",)):
        done = moved(opened, capsys, root, *more)
        assert (done["changed"], done["runs_same"], done["runs_new"], done["runs_updated"]) == (False, 6, 0, 0), more
        assert (done["points"], done["files"], done["left"]) == (0, 0, [])
    assert noria(["import", "mlflow", str(root), "--workspace", str(opened.home)]) == 0
    assert "Nothing new." in capsys.readouterr().out


def test_what_grew_is_brought_up_to_date(
    written: tuple[Path, dict[str, Any]], opened: Workspace, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    root, ids = tmp_path / "mlruns", written[1]
    shutil.copytree(written[0], root)
    moved(opened, capsys, root)
    theirs = MlflowClient(root.as_uri())
    theirs.log_batch(ids["running"], [Metric("loss", 1.0 / n, 1_700_000_003_000 + n, n) for n in range(1, 4)])
    theirs.log_metric(ids["running"], "loss", 9.0, 1_600_000_000_000, -1)  # earlier than all others
    theirs.log_param(ids["running"], "late", "yes")
    theirs.set_tag(ids["running"], "mood", "good")
    theirs.set_terminated(ids["running"], "FINISHED", 1_700_000_009_000)
    new = theirs.create_run(ids["flights"], run_name="new").info.run_id
    done = moved(opened, capsys, root)
    assert (done["runs_new"], done["runs_updated"], done["runs_same"], done["points"]) == (1, 1, 5, 4)
    with serve(opened) as url:
        here = MlflowClient(url)
        found = here.get_run(ids["running"])
        assert (found.info.status, found.info.end_time) == ("FINISHED", 1_700_000_009_000)
        assert (found.data.params, found.data.tags["mood"]) == ({"late": "yes"}, "good")
        assert history(here, ids["running"], "loss") == history(theirs, ids["running"], "loss")
        assert here.get_run(new).info.run_name == "new"
    assert not moved(opened, capsys, root)["changed"]


def test_a_dry_run_counts_and_writes_nothing(
    written: tuple[Path, dict[str, Any]], opened: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    done = moved(opened, capsys, written[0], "--dry-run")
    assert (done["runs_new"], done["experiments_new"]) == (6, 2)
    assert [e.name for e in opened.tracking.experiments(opened.project.id)] in ([], ["Default"])
    assert moved(opened, capsys, written[0])["runs_new"] == 6
    assert moved(opened, capsys, written[0], "--dry-run")["runs_same"] == 6


def test_only_the_experiments_that_were_asked_for(
    written: tuple[Path, dict[str, Any]], opened: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    done = moved(opened, capsys, written[0], "--experiment", "thrown away")
    assert (done["runs_new"], [e["name"] for e in done["experiments"]]) == (1, ["thrown away"])
    assert noria(["import", "mlflow", str(written[0]), "--experiment", "none", "--workspace", str(opened.home)]) == 4
    assert "'none'" in capsys.readouterr().err


def test_the_database_of_a_real_server(
    database: Path, opened: Workspace, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    uri = f"sqlite:///{database / 'mlflow.db'}"
    done = moved(opened, capsys, uri)
    assert (done["runs_new"], done["files"]) == (6, 0)
    assert any("--artifacts" in reason for reason in done["reasons"])
    done = moved(opened, capsys, uri, "--artifacts", database / "files", "--again")
    assert (done["runs_new"], done["runs_updated"], done["points"]) == (0, 1, 0)
    assert not moved(opened, capsys, uri, "--artifacts", database / "files")["changed"]
    with serve(opened) as url:
        here = snapshot(MlflowClient(url, url), tmp_path)
    one = next(run for run in here["flights"][3].values() if run["info"][0] == "one")
    assert one["info"] == ("one", "FINISHED", 1_700_000_000_000, 1_700_000_100_000, "active", "ada")
    assert one["params"] == {"depth": "3", "text": "two\nlines, ünïcode: 'x' #no", "model/kind": "gbm"}
    assert one["metrics"]["val/auc"] == [(1_700_000_000_001, -3, "0.5"), (1_700_000_000_002, -3, "0.75")]
    assert {point[2] for point in one["metrics"]["odd"]} >= {"nan", "-1.5"}
    assert one["inputs"][0][1] == [("mlflow.data.context", "train")]
    assert one["files"]["plots/roc curve.png"] == FILES["plots/roc curve.png"]
    child = next(run for run in here["flights"][3].values() if run["info"][0] == "child")
    assert len(child["metrics"]["curve"]) == LONG
    assert {run["info"][4] for run in here["flights"][3].values()} == {"active", "deleted"}
    assert here["thrown away"][0] == "deleted"


def test_a_database_without_what_newer_ones_have(
    database: Path, opened: Workspace, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    old = tmp_path / "old.db"
    shutil.copy(database / "mlflow.db", old)
    with sqlite3.connect(old) as conn:
        for table in ("inputs", "input_tags", "datasets", "logged_models", "registered_model_aliases"):
            conn.execute(f"DROP TABLE {table}")
    conn.close()
    done = moved(opened, capsys, old)
    assert done["runs_new"] == 6
    with sqlite3.connect(old) as conn:
        conn.execute("DROP TABLE params")
    conn.close()
    assert noria(["import", "mlflow", str(old), "--workspace", str(opened.home)]) == 2
    assert "no table 'params'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("source", "code"),
    [("none/here", 4), ("noria.toml", 2), (".", 2), ("postgresql://h/db", 2), ("sqlite:///nowhere.db", 4)],
)
def test_what_is_no_source_is_refused_with_what_to_type(
    opened: Workspace, capsys: pytest.CaptureFixture[str], source: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(opened.home.parent)
    (opened.home.parent / "noria.toml").touch()
    assert noria(["import", "mlflow", source, "--workspace", str(opened.home)]) == code
    said = capsys.readouterr().err
    assert said.startswith("Error: ")
    assert len(said.splitlines()) >= 2


def test_a_run_of_another_project_keeps_its_id_and_the_new_one_is_said(
    written: tuple[Path, dict[str, Any]], opened: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    moved(opened, capsys, written[0])
    done = moved(opened, capsys, written[0], "--project", "other")
    assert done["runs_new"] == 6
    assert set(done["renamed"]) == {written[1][k] for k in ("one", "child", "running", "gone", "lost", "default")}
    again = moved(opened, capsys, written[0], "--project", "other", "--again")
    assert not again["changed"]
    assert again["renamed"] == done["renamed"]


def test_what_lies_in_the_bin_here_stays_there(
    written: tuple[Path, dict[str, Any]], opened: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    moved(opened, capsys, written[0])
    opened.tracking.delete_run(written[1]["one"], actor=opened.actor)
    done = moved(opened, capsys, written[0], "--again")
    assert not done["changed"]
    assert done["left"] == [{"what": f"run {written[1]['one']}", "why": "it lies in the bin here"}]
