"""The main verbs of versioned data over every pair of metadata database and byte store, all of them real."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

from noria.base.actor import Actor
from noria.data.records import RepositoryKind
from noria.workspace import Workspace, connect, init

ROWS = pl.DataFrame({"k": list(range(300)), "v": [f"value {n}" for n in range(300)]})
Open = Callable[[], Workspace]


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.s3)])
def opened(request: pytest.FixtureRequest, tmp_path: Path, db_url: str) -> Iterator[Open]:
    """Opens one workspace again and again, each time with nothing cached."""
    environment: dict[str, str] = {}
    store_url = "file:"
    if request.param == "s3":
        environment = request.getfixturevalue("s3_server").environment
        store_url = f"s3://packs/backends/{uuid.uuid4().hex}"
    root = tmp_path / "project"
    root.mkdir()
    db = None if db_url.startswith("sqlite") else db_url
    init(root, db_url=db, store_url=store_url, environment=environment).close()
    workspaces: list[Workspace] = []

    def again() -> Workspace:
        while workspaces:
            workspaces.pop().close()
        shutil.rmtree(root / ".noria" / "cache", ignore_errors=True)
        workspaces.append(connect(root, environment=environment))
        return workspaces[-1]

    yield again
    for ws in workspaces:
        ws.close()


def test_files_and_rows_over_every_pair_of_backends(opened: Open, tmp_path: Path, actor: Actor) -> None:
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    for number in range(200):
        (folder / "sub" / f"{number:03}.bin").write_bytes(bytes([number]) * (100 + number * 17))
    big = os.urandom(1_500_000)
    (folder / "big").write_bytes(big)

    ws = opened()
    files = ws.data.create(ws.project.id, "f", RepositoryKind.FILES, actor=actor)
    first = ws.data.commit(files, folder, actor=actor)
    ws.data.create_branch(files, "work", actor=actor)
    (folder / "sub" / "000.bin").write_bytes(b"changed on a branch" * 9)
    (folder / "sub" / "001.bin").unlink()
    second = ws.data.commit(files, folder, actor=actor, branch="work")
    table = ws.data.create(ws.project.id, "t", RepositoryKind.TABLE, key=("k",), actor=actor)
    ws.data.append(table, ROWS, actor=actor, key="once")
    ws.data.append(table, ROWS, actor=actor, key="once")
    edited = ROWS.head(3).with_columns(v=pl.lit("edited"))
    third = ws.data.append(table, edited, actor=actor)
    ws.data.append(table, ROWS.select("k").tail(5), actor=actor, mode="delete")

    ws = opened()  # by another process, on a machine without a cache
    files, table = ws.data.get(ws.project.id, "f"), ws.data.get(ws.project.id, "t")
    assert ws.data.resolve(files).id == first.id
    assert ws.data.resolve(files, "work").parents == (first.id,)
    assert [(c.path, c.kind) for c in ws.data.diff(files, "main", "work")] == [
        ("sub/000.bin", "changed"),
        ("sub/001.bin", "removed"),
    ]
    assert ws.data.read_file(files, "big") == big
    ws.data.checkout(files, tmp_path / "out", second.id)
    assert {p.relative_to(tmp_path / "out"): p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()} == {
        p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }
    assert len(ws.data.log(table)) == 3
    assert ws.data.read(table).sort("k").equals(pl.concat([edited, ROWS[3:-5]]))
    assert ws.data.read(table, third.id).sort("k").equals(pl.concat([edited, ROWS[3:]]))
    assert ws.data.read(table, "main~2").sort("k").equals(ROWS)

    ws = opened()
    assert ws.verify(data=True) == []
