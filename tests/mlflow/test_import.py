"""``noria import mlflow``: a folder that the real client wrote and the database of a real ``mlflow server``, moved in and
compared through the real client."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import urllib3
from mlflow.entities import Metric, ViewType
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow_server import serve
from moving_content import BINARY, FILES, LONG, fill

from mlflow import MlflowClient
from noria import workspace as ws
from noria.base.ids import RunId
from noria.cli.main import run as noria
from noria.gateways.mlflow.moving import Moved, MoveIn, open_source
from noria.gateways.mlflow.places import WIDE
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


def files(client: MlflowClient, run: str, folder: Path, place: str | None = None) -> dict[str, bytes]:
    place = place or str(client.get_run(run).info.artifact_uri)
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
                # MLflow's client refuses a folder with # in a name, so it is told of the sign's wide form.
                name = one.path.replace(WIDE, "#")
                found[name] = Path(repository.download_artifacts(one.path, str(folder))).read_bytes()
    for path in FILES:
        if "#" in path and found and run:
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


def models(client: MlflowClient, experiment: str, folder: Path) -> dict[str, Any]:
    """Logged and registered models as a client sees them."""
    seen: dict[str, Any] = {}
    for one in client.search_logged_models([experiment]):
        seen[one.model_id] = {
            "info": (one.name, one.model_type, str(one.status), one.source_run_id, one.creation_timestamp),
            "params": one.params,
            "tags": one.tags,
            "metrics": [(m.key, m.value, m.timestamp, m.step, m.run_id) for m in one.metrics or []],
            "files": files(client, "", folder, one.artifact_location),
        }
    for model in client.search_registered_models():
        versions = [
            (int(v.version), v.source, v.run_id, v.description, v.current_stage, v.tags, v.creation_timestamp)
            for v in client.search_model_versions(f"name='{model.name}'")
        ]
        aliases = {alias: int(number) for alias, number in model.aliases.items()}
        times = (model.creation_timestamp, model.last_updated_timestamp)
        seen[model.name] = (model.description or "", model.tags, aliases, times, sorted(versions))
    return seen


def test_a_folder_comes_over_as_it_is(
    written: tuple[Path, dict[str, Any]], opened: Workspace, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    root, ids = written
    done = moved(opened, capsys, root)
    assert (done["runs_new"], done["experiments_new"], done["files"]) == (6, 2, len(FILES) + done["logged_new"] * 2 + 1)
    assert done["left"] == []
    assert done["renamed"] == {}
    assert {one["theirs"]: one["name"] for one in done["experiments"]}[ids["flights"]] == "flights"
    theirs = MlflowClient(root.as_uri(), root.as_uri())
    with serve(opened) as url:
        client = MlflowClient(url, url)
        there, here = snapshot(theirs, tmp_path / "a"), snapshot(client, tmp_path / "b")
        flights = client.get_experiment_by_name("flights").experiment_id
        assert models(client, flights, tmp_path / "b") == models(theirs, ids["flights"], tmp_path / "a")
        found = client.get_run(ids["one"])
        assert [(m.model_id, m.step) for m in found.outputs.model_outputs] == [(ids["model"], 2)]
        assert client.get_model_version_by_alias("eta", "champion").version == "3"
    assert (done["logged_new"], done["models_new"], done["versions_new"]) == (1, 2, 2)
    bound = {v.number: v.version_id for v in opened.registry.versions(opened.project.id, "eta")}
    logged = opened.tracking.logged_of(opened.project.id, ids["model"])
    assert logged is not None
    assert set(bound.values()) == {logged}  # what came along can be adopted and served
    code = [e.version_id for e in opened.assets.edges(RunId(ids["one"])) if e.slot == "git"]
    assert [opened.assets.version(one).meta["git"]["commit"] for one in code] == ["c0ffee"]
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
        assert (done["logged_same"], done["models_new"], done["models_changed"]) == (1, 0, 0)
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
    theirs.log_metric(ids["running"], "loss", 3.5, 1_700_000_004_000, 4)
    done = moved(opened, capsys, root, "--again")
    assert (done["runs_new"], done["runs_updated"], done["runs_same"], done["points"]) == (0, 1, 6, 1)
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
    assert (done["logged_updated"], done["models_changed"]) == (1, 1)  # its versions have files now
    assert not moved(opened, capsys, uri, "--artifacts", database / "files")["changed"]
    with serve(opened) as url:
        client = MlflowClient(url, url)
        here = snapshot(client, tmp_path)
        found = models(client, client.get_experiment_by_name("flights").experiment_id, tmp_path)
    description, tags, aliases, _, versions = found.pop("eta")
    assert (description, tags, aliases) == ("How late it will be.", {"owner": "ada"}, {"champion": 3})
    assert [(v[0], v[3], v[4], v[5]) for v in versions] == [
        (1, "version 1", "Archived", {"n": "0"}),
        (3, "version 3", "Production", {"n": "2"}),
    ]
    assert found.pop("empty")[4] == []
    (model,) = found.values()
    assert (model["info"][:3], model["params"]) == (("tree", "classifier", "READY"), {"leaves": "31"})
    assert [metric[:4] for metric in model["metrics"]] == [("accuracy", 0.9, 1_700_000_000_100, 2)]
    assert model["files"] == {"MLmodel": b"flavors: {}\n", "data/model.bin": BINARY}
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
        conn.execute(
            "INSERT INTO trace_info (request_id, experiment_id, timestamp_ms, status) VALUES ('tr-1', 1, 1, 'OK')"
        )
    conn.close()
    done = moved(opened, capsys, old)
    assert done["runs_new"] == 6
    assert (done["others"], done["traces_new"]) == ({}, 3)
    with sqlite3.connect(old) as conn:
        conn.execute("DROP TABLE params")
    conn.close()
    assert noria(["import", "mlflow", str(old), "--workspace", str(opened.home)]) == 2
    assert "no table 'params'" in capsys.readouterr().err


def test_a_running_server_is_a_source_too(
    written: tuple[Path, dict[str, Any]], opened: Workspace, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    moved(opened, capsys, written[0])
    other = ws.init(tmp_path / "other", environment={})
    with serve(opened) as there, serve(other) as here:
        done = moved(other, capsys, there)
        assert (done["runs_new"], done["experiments_new"], done["source"]) == (6, 2, there)
        assert (done["logged_new"], done["models_new"], done["versions_new"], done["left"]) == (1, 2, 2, [])
        ours, theirs = MlflowClient(here, here), MlflowClient(there, there)
        left, right = snapshot(ours, tmp_path / "a"), snapshot(theirs, tmp_path / "b")
        assert left.pop("Default")[3] == right.pop("Default")[3]
        assert left == right
        place = [client.get_experiment_by_name("flights").experiment_id for client in (ours, theirs)]
        assert models(ours, place[0], tmp_path / "a") == models(theirs, place[1], tmp_path / "b")
        for more in ((), ("--again",)):
            done = moved(other, capsys, there, *more)
            assert (done["changed"], done["runs_same"], done["logged_same"]) == (False, 6, 1), more
        theirs.log_metric(written[1]["running"], "loss", 0.5, 1_700_000_003_500, 7)
        done = moved(other, capsys, there)
        assert (done["runs_updated"], done["points"]) == (1, 1)
    other.close()


def test_both_databases_take_it(written: tuple[Path, dict[str, Any]], both: Workspace) -> None:
    counts: list[tuple[int, ...]] = []
    for again in (False, True):
        report = Moved(source="")
        with open_source(both, str(written[0]), report) as source:
            done = MoveIn(both, source, report, actor=both.actor, again=again).run()
        counts.append((done.runs_new, done.logged_new, done.models_new, done.versions_new, int(done.changed)))
        assert done.left == []
    assert counts == [(6, 1, 2, 2, 1), (0, 0, 0, 0, 0)]
    child = RunId(written[1]["child"])
    assert len(both.tracking.history(child, "curve", limit=LONG).items) == LONG
    assert both.assets.run(RunId(written[1]["gone"])).deleted_at is not None


def test_credentials_come_from_the_environment_and_a_refusal_says_so(
    opened: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str | None] = []

    class Refuses(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.headers.get("Authorization"))
            self.send_response(401)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Refuses) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "s3cret")
        code = noria(["import", "mlflow", url, "--workspace", str(opened.home)])
        said = capsys.readouterr().err
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "pw")
        noria(["import", "mlflow", url, "--workspace", str(opened.home)])
        server.shutdown()
        thread.join()
    assert code == 6
    assert "MLFLOW_TRACKING_TOKEN" in said
    assert asked == ["Bearer s3cret", "Basic YWRhOnB3"]
    assert noria(["import", "mlflow", url, "--workspace", str(opened.home), "--json"]) == 6  # nobody answers any more


KILLED = """
import os, sys
from noria.gateways.mlflow import moving
from noria.gateways.mlflow.moving import folder, verb
folder._PAGE = 2
verb._POINTS = 400
left = int(sys.argv.pop())
from noria.db import Database
write = Database.write
def counted(self, tx=None):
    global left
    if tx is None:
        left -= 1
        if left < 0:
            os.kill(os.getpid(), 9)
    return write(self, tx)
Database.write = counted
from noria.cli.main import run
sys.exit(run(sys.argv[1:]))
"""


def test_an_import_that_is_killed_goes_on_where_it_was(
    written: tuple[Path, dict[str, Any]], opened: Workspace, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = ["import", "mlflow", str(written[0]), "--workspace", str(opened.home), "--json"]
    deaths = 0
    for allowed in (3, 6, 9, 11, 14, 17):
        found = subprocess.run(
            [sys.executable, "-c", KILLED, *arguments, str(allowed)], capture_output=True, timeout=60
        )
        deaths += found.returncode == -9
    assert deaths >= 4
    done = moved(opened, capsys, written[0])
    assert (done["left"], done["renamed"]) == ([], {})
    assert not moved(opened, capsys, written[0], "--again")["changed"]
    theirs = MlflowClient(written[0].as_uri(), written[0].as_uri())
    with serve(opened) as url:
        client = MlflowClient(url, url)
        there, here = snapshot(theirs, tmp_path / "a"), snapshot(client, tmp_path / "b")
        flights = client.get_experiment_by_name("flights").experiment_id
        assert models(client, flights, tmp_path / "b") == models(theirs, written[1]["flights"], tmp_path / "a")
    assert {name: one[3] for name, one in here.items()} == {name: one[3] for name, one in there.items()}


def test_numbers_of_other_versions_are_left_alone(
    written: tuple[Path, dict[str, Any]], opened: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    registry, project = opened.registry, opened.project.id
    registry.create(project, "eta", actor=opened.actor)
    registry.add_version(project, "eta", actor=opened.actor, source="s3://own/one")
    done = moved(opened, capsys, written[0])
    assert [one["what"] for one in done["left"]] == ["registered model 'eta': version 1"]
    found = {version.number: version.source for version in registry.versions(project, "eta")}
    assert found == {1: "s3://own/one", 3: f"models:/{written[1]['model']}"}
    assert registry.get(project, "eta").aliases == {"champion": 3}


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
    assert [one["what"].split()[0] for one in done["left"]] == ["logged", "trace", "trace"]
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
