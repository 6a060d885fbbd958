"""``noria import mlflow`` opens no folder of this machine only because a source names it."""

# ruff: noqa: F811 - names of fixtures that are imported
from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_server import serve
from test_import import _file_store, database, moved, opened, written  # noqa: F401 - fixtures

from mlflow import MlflowClient
from noria import workspace as ws
from noria.cli.main import run as noria
from noria.tracking.records import Owner, OwnerKind
from noria.workspace import Workspace

if TYPE_CHECKING:
    import pytest


def held(opened: Workspace, run: str) -> list[str]:
    return [one.path for one in opened.tracking.all_artifacts(Owner(OwnerKind.RUN, run)).items]


def test_a_server_names_folders_of_this_machine_in_vain(
    opened: Workspace, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    other = ws.init(tmp_path / "other", environment={})
    secret, shared = tmp_path / "secret", tmp_path / "shared"
    shared.mkdir()
    (shared / "link").symlink_to(secret)
    runs: list[str] = []
    with serve(opened) as there:
        client = MlflowClient(there, there)
        for name, place in (("plain", secret), ("linked", shared / "link")):
            experiment = client.create_experiment(name, artifact_location=place.as_uri())
            runs.append(client.create_run(experiment).info.run_id)
            (secret / runs[-1] / "artifacts").mkdir(parents=True)
            (secret / runs[-1] / "artifacts" / "key").write_text("secret")
        for more in ((), ("--artifacts", shared, "--again")):
            done = moved(other, capsys, there, *more)
            assert (done["files"], done["places"]) == (0, {str(secret): 1, str(shared / "link"): 1}), more
        assert "--artifacts" in done["stays"][str(secret)]
        assert noria(["import", "mlflow", there, "--again", "--workspace", str(other.home)]) == 0
        assert f"left at {secret}: " in capsys.readouterr().err
        assert [held(other, run) for run in runs] == [[], []]
        done = moved(other, capsys, there, "--artifacts", secret, "--again")
        assert (done["files"], done["places"], held(other, runs[0])) == (2, {}, ["key"])
    other.close()


def test_a_database_is_read_with_the_folders_beside_it(
    database: Path, opened: Workspace, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    home, secret = tmp_path / "theirs", tmp_path / "secret"
    home.mkdir()
    shutil.copy(database / "mlflow.db", home / "mlflow.db")
    with sqlite3.connect(home / "mlflow.db") as conn:
        found = conn.execute("SELECT run_uuid FROM runs WHERE lifecycle_stage = 'active' ORDER BY start_time LIMIT 3")
        one, two, three = (row[0] for row in found)
        places = {one: home / "mlruns" / "1" / one, two: secret / two, three: home / "mlruns" / "link" / three}
        for run, folder in places.items():
            conn.execute("UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?", (f"{folder}/artifacts", run))
    conn.close()
    for folder in (home / "mlruns" / "1" / one, secret / two, secret / three):
        (folder / "artifacts").mkdir(parents=True)
        (folder / "artifacts" / "f").write_text("x")
    (home / "mlruns" / "link").symlink_to(secret)
    os.mkfifo(home / "mlruns" / "1" / one / "artifacts" / "pipe")
    done = moved(opened, capsys, home / "mlflow.db")
    assert [held(opened, run) for run in places] == [["f"], [], []]
    assert {str(secret), str(home / "mlruns" / "link")} <= done["places"].keys()
    moved(opened, capsys, home / "mlflow.db", "--artifacts", secret)
    assert [held(opened, run) for run in places] == [["f"], ["f"], ["f"]]


def test_a_folder_is_read_inside_of_it_only(
    written: tuple[Path, dict[str, Any]], opened: Workspace, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    root, secret, run = tmp_path / "mlruns", tmp_path / "secret", written[1]["child"]
    shutil.copytree(written[0], root)
    (meta,) = root.glob(f"*/{run}/meta.yaml")
    (secret / "artifacts").mkdir(parents=True)
    (secret / "artifacts" / "key").write_text("secret")
    kept = [line for line in meta.read_text().splitlines() if not line.startswith("artifact_uri")]
    meta.write_text("\n".join([*kept, f"artifact_uri: {(secret / 'artifacts').as_uri()}", ""]))
    own = meta.parent / "artifacts"
    shutil.rmtree(own, ignore_errors=True)
    done = moved(opened, capsys, root)
    assert (held(opened, run), done["left"], len(done["places"])) == ([], [], 1)
    assert "--artifacts" in next(iter(done["stays"].values()))
    meta.write_text("\n".join([*kept, f"artifact_uri: {own.as_uri()}", ""]))
    own.symlink_to(secret / "artifacts")
    moved(opened, capsys, root, "--again")
    assert held(opened, run) == []
    moved(opened, capsys, root, "--artifacts", secret)
    assert held(opened, run) == ["key"]
