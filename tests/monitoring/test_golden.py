"""A whole workspace and a model package of this format, kept as they were written, opened with the code of today.

``--rewrite-golden`` writes both anew. Before a release adds one more, rename the old ones: they have to stay readable.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import zipfile
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from looped_shop import ENDPOINT, START_MS, Traffic, copied, good, make, serve, world

from noria.base.digest import Digest
from noria.base.times import DAY
from noria.store import Kind
from noria.training import package, rows
from noria.workspace import Workspace, migrate

GOLDEN = Path(__file__).parents[1] / "golden"
KEPT = GOLDEN / "workspace-1.zip"
PACKAGE = GOLDEN / "package-1"


def _folder(ws: Workspace, model: str) -> Path:
    version = ws.training.version_of(ws.registry.resolve(ws.project.id, model))
    return ws.pipelines.values.materialise(version)


def _write(root: Path) -> None:
    """A trained, served and watched project; no name of the machine that made it stays."""
    root.mkdir()
    make(root, versions=1)
    with copied(root, root) as ws:
        deployment = serve(ws)
        Traffic(ws, per_day=10).day({deployment.id: good})
        shutil.rmtree(PACKAGE, ignore_errors=True)
        shutil.copytree(_folder(ws, "tree"), PACKAGE)
    for path in PACKAGE.iterdir():
        path.chmod(0o644)
    with sqlite3.connect(root / ".noria" / "meta.db") as db:
        for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for _, column, *_ in db.execute(f'PRAGMA table_info("{table}")').fetchall():
                change = f'UPDATE "{table}" SET "{column}" = ? WHERE "{column}" LIKE ?'
                db.execute(change, ["golden:1:1", f"{os.uname().nodename}:%"])
    db.execute("VACUUM")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    assert os.uname().nodename.encode() + b":" not in (root / ".noria" / "meta.db").read_bytes()
    with zipfile.ZipFile(KEPT, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        for path in sorted(root.rglob("*")):
            skipped = {"cache", "online", "logs", "__pycache__"} & set(path.parts)
            if path.is_file() and not skipped:
                file.write(path, path.relative_to(root))


@pytest.fixture(scope="module")
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.config.getoption("--rewrite-golden"):
        _write(tmp_path_factory.mktemp("golden") / "kept")
    return KEPT


@pytest.fixture
def kept(written: Path, tmp_path: Path) -> Iterator[Workspace]:
    root = tmp_path / "opened"
    with zipfile.ZipFile(written) as file:
        file.extractall(root)
    migrate(root)  # what an older release made is opened after one command
    with copied(root, root) as ws:
        yield ws


def test_a_workspace_of_this_format_is_opened_whole(kept: Workspace) -> None:
    assert kept.verify(data=True) == []
    assert kept.audit.verify(kept.project.id) == []


def test_its_rows_and_its_history_are_read(kept: Workspace) -> None:
    orders = kept.data.get(kept.project.id, "orders")
    assert kept.data.read(orders).sort("at", "id").equals(world()["orders"].sort("at", "id"))
    (commit,) = kept.data.log(orders)
    raw = kept.store.get(Digest(bytes.fromhex(commit.id)), Kind.COMMIT)
    value = json.loads(raw[raw.index(b"{") :])
    assert (value["repository"], value["parents"], value["author"]) == ("orders", [], "user:test")
    assert value["version"] == str(kept.data.version(commit).digest)
    outcomes = kept.data.log(kept.data.get(kept.project.id, "outcomes"))
    assert [c.generation for c in outcomes] == [2, 1]


def test_its_model_is_loaded_and_gives_its_scores(kept: Workspace) -> None:
    folder = _folder(kept, "tree@champion")
    found, predict = package.load(folder)
    known = package.sample(folder)
    assert predict(rows.conform(pl.DataFrame(known["features"]), found.columns)).tolist() == known["scores"]
    assert kept.training.facts(kept.registry.resolve(kept.project.id, "tree"))["metrics"]["log_loss"]["value"] > 0


def test_its_predictions_and_their_windows_are_read(kept: Workspace) -> None:
    predictions = kept.data.read(kept.data.get(kept.project.id, f"{ENDPOINT}.predictions"))
    assert len(predictions) == 10
    (window,) = kept.monitoring.windows(ENDPOINT)
    assert (window.n, window.start) == (10, START_MS)
    assert kept.serving.status(ENDPOINT).routing.arms[0].role == "champion"


def test_work_goes_on_in_it(kept: Workspace) -> None:
    assert kept.pipelines.plan(["basket"])[-1].asset == "basket"
    traffic = Traffic(kept, seed=9, per_day=5)
    before = traffic.now
    traffic.day({kept.serving.status(ENDPOINT).routing.arms[0].deployment: good})
    assert len(kept.monitoring.windows(ENDPOINT)) == 2
    assert traffic.now == before + DAY


def test_a_package_of_this_format_is_loaded_and_gives_its_scores(written: Path) -> None:
    assert written.is_file()
    found, predict = package.load(PACKAGE)
    known = package.sample(PACKAGE)
    assert predict(rows.conform(pl.DataFrame(known["features"]), found.columns)).tolist() == known["scores"]
    value = json.loads((PACKAGE / "noria.json").read_text())
    assert {**found.as_value(), "files": value["files"]} == value
    assert package.reference(PACKAGE)["columns"]
