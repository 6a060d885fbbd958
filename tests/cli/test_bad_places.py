"""A damaged file, a full disk and a model that cannot be fitted, as a person meets them in the shell."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from test_models import ME, PROJECT, world

from noria.cli.main import run


@pytest.fixture
def noria(capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*args: str) -> tuple[int, Any, dict[str, Any]]:
        capsys.readouterr()
        code = run([*args, "--json"])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        error = json.loads(err.strip().splitlines()[-1])["error"] if err.strip() else {}
        return code, json.loads(out) if out.strip() else None, error

    return call


@pytest.fixture
def orders(project: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noria: Any) -> Path:
    monkeypatch.chdir(tmp_path)
    project({"steps.py": "import noria as nr\n", "one.csv": "id,n\n1,10\n2,20\n", "two.csv": "id,n\n3,30\n"})
    for args in (("create", "orders", "--key", "id"), ("append", "orders", "one.csv")):
        assert noria("data", *args)[0] == 0
    return tmp_path


def damage(root: Path) -> None:
    """Turns a bit in the middle of every pack."""
    for path in (root / ".noria" / "store").rglob("*.pack"):
        data = bytearray(path.read_bytes())
        data[len(data) // 3] ^= 1
        path.chmod(0o600)
        path.write_bytes(data)


def test_a_damaged_file_in_the_store_is_named_and_never_read_as_data(orders: Path, noria: Any) -> None:
    damage(orders)
    code, out, error = noria("data", "read", "orders")
    assert code not in (0, 70)
    assert out is None
    assert error["code"] == "object_corrupt"
    assert error["hint"]
    code, _, error = noria("admin", "verify", "--data")
    assert code == 1


def test_a_full_disk_changes_nothing_and_says_so(orders: Path, noria: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", full)
        code, _, error = noria("data", "append", "orders", "two.csv")
    assert code not in (0, 70)
    assert error["code"] == "disk_full"
    assert error["hint"]
    assert [row["id"] for row in noria("data", "read", "orders")[1]] == [1, 2]
    assert noria("data", "append", "orders", "two.csv")[0] == 0
    assert [row["id"] for row in noria("data", "read", "orders")[1]] == [1, 2, 3]
    assert noria("admin", "verify", "--data")[0] == 0


def test_a_type_that_the_model_cannot_take_fails_before_the_fit(
    project: Any, tmp_path: Path, noria: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ws = project({"shop.py": PROJECT.replace('"price", big=', '"price", "at", big=')})
    graph = ws.pipelines.graph()
    for name, frame in zip(("orders", "outcomes"), world(), strict=True):
        ws.data.append(ws.pipelines.ensure_source(graph.node(name).thing), frame, actor=ME)
    code, _, error = noria("run", "chance")
    assert code == 1
    assert "at" in error["message"]
    assert "datetime" in error["message"]
    assert ".dt.hour()" in error["hint"]
