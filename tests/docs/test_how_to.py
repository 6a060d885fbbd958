"""The how-tos of ``docs/how-to``: each command and program in them is run, in the order in which it stands there.

A line of ``sh`` that ends in ``# exit 3`` has to end with that code, all others with 0. A block of another language
after ``<!-- file: NAME -->`` is written to that file.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from noria.cli.main import run
from noria.workspace import connect

PAGES = Path(__file__).parents[2] / "docs" / "how-to"
_BLOCK = re.compile(r"(?:<!-- file: (\S+) -->\n+)?```(\w+)\n(.*?)```", re.S)
_EXIT = re.compile(r"\s+#\s*exit (\d+)$")


def follow(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Does what a page says, in an empty folder; returns how many steps that were."""
    monkeypatch.chdir(folder)
    steps = 0
    for file, language, text in _BLOCK.findall((PAGES / page).read_text(encoding="utf-8")):
        if file:
            Path(file).write_text(text, encoding="utf-8")
        elif language == "python":
            exec(compile(text, f"{page}, a block of Python", "exec"), {"__name__": "page"})
            steps += 1
        elif language == "sh":
            for line in text.replace("\\\n", " ").splitlines():
                steps += command(page, line.strip())
    return steps


def command(page: str, line: str) -> int:
    if not line or line.startswith("#"):
        return 0
    found = _EXIT.search(line)
    wanted, line = (int(found[1]), line[: found.start()]) if found else (0, line)
    words = shlex.split(line, comments=True)
    if words[0] == "noria":
        code = run(words[1:])
    else:
        code = subprocess.run(words, check=False).returncode
    assert code == wanted, f"{page}: {line}"
    return 1


@pytest.fixture
def page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[[str], Any]]:
    from noria.gateways.fsspec import NoriaFileSystem

    yield lambda name: follow(name, tmp_path, monkeypatch)
    for one in list(NoriaFileSystem._cache.values()):
        one.close()
    NoriaFileSystem.clear_instance_cache()


def test_a_folder_of_images(page: Callable[[str], int], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert page("folder-of-images.md") > 20
    assert "only_cats" in {p.name for p in tmp_path.iterdir()}
    assert len(list((tmp_path / "only_cats").glob("*.jpg"))) == 50
    with connect(tmp_path) as ws:
        photos = ws.files.get(ws.project.id, "photos")
        assert ws.open("photos@main~1/labels.csv").read().startswith(b"path,label")
        assert ws.files.page(photos, pattern="labels.csv").items == []
        assert ws.open("photos/dog/049.jpg").read()
        assert ws.files.log(photos)[0].message == "as before the labels"


def test_a_table_by_key(page: Callable[[str], int], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert page("table-by-key.md") > 20
    with connect(tmp_path) as ws:
        rows = ws.read("prices").sort("sku")
        assert rows["sku"].to_list() == ["A1", "B2", "D4", "E5", "F6"]
        assert rows.filter(pl.col("sku") == "E5")["price"].item() == 20
        assert rows.columns == ["sku", "product", "price", "stock"]
        assert ws.read("prices", at="main~1").columns == ["sku", "name", "price"]
        assert ws.data.quarantine(ws.project.id)[0].state == "accepted"


def test_runs(page: Callable[[str], int], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert page("runs.md") > 20
    assert pl.read_csv(tmp_path / "runs.csv")["params.lr"].sort().to_list() == [0.001, 0.01, 0.1]
    assert pl.read_parquet(tmp_path / "points.parquet").height == 3_000
    with connect(tmp_path) as ws:
        assert ws.tracking.list_runs(ws.project.id, deleted=None).items == []
        assert [e.name for e in ws.tracking.search_experiments(ws.project.id, deleted=None).items] == ["animals/dogs"]
        assert ws.tracking.quotas(ws.project.id)["points"][0] == 10_000_000
