"""A run that was moved to another experiment: its files are where they were, and clients are told so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from mlflow_server import serve
from mlflow_wire import Wire

from mlflow import MlflowClient
from noria.base.ids import RunId

if TYPE_CHECKING:
    from pathlib import Path

    from noria.workspace import Workspace


@pytest.mark.parametrize("how", ["one", "many"])
def test_a_moved_run_keeps_the_place_of_its_files(both: Workspace, how: str, tmp_path: Path) -> None:
    track, project = both.tracking, both.project.id

    def move(id: str, name: str) -> None:
        if how == "one":
            track.move_run(RunId(id), name, actor=both.actor)
        else:
            track.move_runs(project, [RunId(id)], name, actor=both.actor)

    with serve(both) as url:
        client, wire = MlflowClient(url, url), Wire(url)
        bucket = client.create_experiment("bucket", artifact_location="s3://bucket/x")
        plain = client.create_experiment("plain")
        there, here = (client.create_run(one).info.run_id for one in (bucket, plain))
        model = client.create_logged_model(bucket, source_run_id=there)

        def places(id: str) -> set[str]:
            answers = [client.get_run(id), *client.search_runs([plain, bucket], f"run_id = '{id}'")]
            place = answers[0].info.artifact_uri
            (found,) = client.search_runs([plain, bucket], f"artifact_uri = '{place}'")
            assert found.info.run_id == id
            root = wire.get("artifacts/list", run_id=id)["root_uri"]
            return {*(one.info.artifact_uri for one in answers), root}

        (tmp_path / "f").write_text("kept")
        client.log_artifact(here, str(tmp_path / "f"))
        move(there, "plain")
        move(here, "bucket")
        assert places(there) == {f"s3://bucket/x/{there}/artifacts"}
        assert places(here) == {f"mlflow-artifacts:/{bucket}/{here}/artifacts"}
        (found,) = client.list_artifacts(here)
        assert client.download_artifacts(here, found.path, str(tmp_path)).endswith("/f")
        client.log_artifact(here, str(tmp_path / "f"), "more")
        source = f"mlflow-artifacts:/{bucket}/{here}/artifacts/more"
        client.create_registered_model("m")
        assert client.create_model_version("m", source, here).run_id == here
        move(there, "third")
        assert client.get_run(there).info.artifact_uri == f"s3://bucket/x/{there}/artifacts"
        assert client.get_logged_model(model.model_id).artifact_location == model.artifact_location
        move(there, "bucket")
        move(here, "plain")
        assert places(there) == {f"s3://bucket/x/{there}/artifacts"}
        assert places(here) == {f"mlflow-artifacts:/{plain}/{here}/artifacts"}
        wire.close()


def test_what_moves_between_ordinary_experiments_keeps_nothing(both: Workspace) -> None:
    track, project = both.tracking, both.project.id
    with both.db.write() as tx:
        at = track.ensure_experiment(tx, project, "a")
        run = track.create_run(tx, project, at, name="r", actor=both.actor).id
    track.move_runs(project, [run], "b", actor=both.actor)
    assert (track.location(run), track.data(run).location) == (None, None)
