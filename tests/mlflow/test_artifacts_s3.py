"""The artifact proxy over a store in a bucket: the real client, noria, and a real S3 server behind it."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow_server import serve
from mlflow_wire import Wire

from noria import workspace as ws
from noria.workspace import Workspace

pytestmark = pytest.mark.s3
FILES = "/api/2.0/mlflow-artifacts/artifacts/"


@pytest.fixture
def opened(s3_server: Any, tmp_path: Path) -> Iterator[Workspace]:
    url = f"s3://packs/of/{uuid.uuid4().hex}"
    made = ws.init(tmp_path / "here", store_url=url, environment=s3_server.environment)
    yield made
    made.close()


def test_files_go_to_the_bucket_in_parts_come_back_in_ranges_and_are_deleted(
    opened: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "true")
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE", "6000000")
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE", "5242880")
    draw = random.Random(4)
    files = {
        "in parts.bin": draw.randbytes(12_000_001),
        "whole.bin": draw.randbytes(2_000_000),
        "deep/small.txt": b"in its row",
        "deep/again.bin": draw.randbytes(300_000),
    }
    for path, data in files.items():
        (tmp_path / "in" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / path).write_bytes(data)
    packs = opened.store.source
    with serve(opened) as url:
        wire = Wire(url)
        experiment = wire.experiment()
        place = f"{experiment}/{wire.run(experiment)}/artifacts"
        repository = get_artifact_repository(f"mlflow-artifacts:/{place}", url)
        repository.log_artifacts(str(tmp_path / "in"))
        held = sum(packs.size(name) for name in packs.list("packs/"))
        assert held >= 14_300_000
        assert not (opened.home / "store").exists()
        for name in (opened.home / "cache").glob("*"):
            name.unlink() if name.is_file() else None
        assert {f.path: f.is_dir for f in repository.list_artifacts()} == {
            "deep": True, "in parts.bin": False, "whole.bin": False
        }  # fmt: skip
        (tmp_path / "out").mkdir()
        got = Path(repository.download_artifacts("", str(tmp_path / "out")))
        assert {p.relative_to(got).as_posix(): p.read_bytes() for p in got.rglob("*") if p.is_file()} == files
        data = files["in parts.bin"]
        for asked, part in (("0-0", data[:1]), ("5242879-5242882", data[5_242_879:5_242_883]), ("-7", data[-7:])):
            found = wire.call("GET", f"{FILES}{place}/in%20parts.bin", Range=f"bytes={asked}")
            assert (found.status, found.body) == (206, part), asked
        repository.delete_artifacts("in parts.bin")
        repository.delete_artifacts("deep")
        assert [f.path for f in repository.list_artifacts()] == ["whole.bin"]
        assert wire.call("GET", f"{FILES}{place}/in%20parts.bin").status == 404
        assert Path(repository.download_artifacts("whole.bin", str(tmp_path))).read_bytes() == files["whole.bin"]
        wire.close()
    assert opened.verify(data=True) == []
