"""Files of runs: the real client puts, lists and fetches them; raw HTTP does what no client would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

if TYPE_CHECKING:
    from mlflow_wire import Wire

PROXY = "/api/2.0/mlflow-artifacts/"
DATABASES = ("sqlite", "postgres")


@pytest.fixture
def run(wire: Wire, experiment: str) -> str:
    return wire.run(experiment)


def test_files_and_folders_come_back_as_they_were(server: str, fluent: Any, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    (folder / "deep" / "er").mkdir(parents=True)
    files = {"a.txt": b"a", "deep/b.bin": bytes(range(256)) * 300, "deep/er/c.txt": b"", "deep/d.csv": b"x" * 200_000}
    for path, data in files.items():
        (folder / path).write_bytes(data)
    with fluent.start_run() as run:
        fluent.log_artifact(str(folder / "a.txt"))
        fluent.log_artifacts(str(folder), "all")
        fluent.log_text("hello", "notes/hello.txt")
        fluent.log_dict({"k": [1, 2]}, "notes/d.json")
    place = run.info.artifact_uri
    assert place.startswith("mlflow-artifacts:/")
    repository = get_artifact_repository(place, server)
    top = repository.list_artifacts()
    assert [(f.path, f.is_dir, f.file_size) for f in top] == [
        ("a.txt", False, 1),
        ("all", True, None),
        ("notes", True, None),
    ]
    listed = repository.list_artifacts("all/deep")
    assert [(f.path, f.is_dir, f.file_size) for f in listed] == [
        ("all/deep/b.bin", False, 76_800), ("all/deep/d.csv", False, 200_000), ("all/deep/er", True, None)
    ]  # fmt: skip
    assert repository.list_artifacts("all/deep/b.bin") == []
    got = Path(repository.download_artifacts("all", str(tmp_path)))
    assert {p.relative_to(got).as_posix(): p.read_bytes() for p in got.rglob("*") if p.is_file()} == files
    notes = Path(repository.download_artifacts("notes", str(tmp_path)))
    assert (notes / "hello.txt").read_text() == "hello"
    assert json.loads((notes / "d.json").read_text()) == {"k": [1, 2]}
