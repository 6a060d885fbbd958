"""Collecting from a source that has nothing leaves no repository behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from noria.base.actor import Actor
from noria.base.errors import Invalid, NoriaError
from noria.cli.main import run
from noria.data.service.collecting.collector import Collected
from noria.data.service.collecting.sources import SourceSpec
from noria.workspace import Workspace


def collect(ws: Workspace, actor: Actor, spec: SourceSpec, **how: Any) -> Collected:
    return ws.collector.collect_from(ws.project.id, "new", spec, actor=actor, **how)


@pytest.mark.parametrize("folder", [False, True])
def test_an_empty_folder_or_a_pattern_without_files_makes_nothing(
    workspace: Workspace, actor: Actor, folder: bool
) -> None:
    (workspace.home.parent / "in").mkdir()
    done = collect(workspace, actor, SourceSpec(files="in"), folder=folder)
    assert (done.commits, done.run_id, done.notes) == ([], None, ["The source has nothing yet; new was not made."])
    if not folder:
        assert collect(workspace, actor, SourceSpec(files="in/*.csv"), key=("id",)).commits == []
    assert workspace.data.repositories(workspace.project.id) == []


@pytest.mark.parametrize(
    ("spec", "how"),
    [
        (SourceSpec(files="none.csv"), {}),
        (SourceSpec(files="none"), {"folder": True}),
        (SourceSpec(url="http://127.0.0.1:9/rows.csv"), {}),
        (SourceSpec(url="sqlite:////nowhere/at/all.db", sql="select 1"), {}),
        (SourceSpec(files="bad.csv"), {}),
        (SourceSpec(files="good.csv"), {"key": ("idd",)}),
        (SourceSpec(files="good.csv"), {"branch": "b"}),
        (SourceSpec(url="http://127.0.0.1:9/rows.csv"), {"folder": True}),
    ],
)
def test_a_source_that_cannot_be_read_makes_nothing(
    workspace: Workspace, actor: Actor, spec: SourceSpec, how: dict[str, Any]
) -> None:
    root = workspace.home.parent
    (root / "bad.csv").write_bytes(b"a,b\n1,2,3\n")
    (root / "good.csv").write_text("id,n\n1,1\n")
    with pytest.raises(NoriaError):
        collect(workspace, actor, spec, **how)
    assert workspace.data.repositories(workspace.project.id) == []


def test_what_was_looked_at_first_is_read_once_and_taken_once(
    workspace: Workspace, actor: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    from noria.data.collectors import lines

    read: list[str] = []
    plain = lines.read_lines
    monkeypatch.setattr(lines, "read_lines", lambda path, *rest: read.append(Path(path).name) or plain(path, *rest))
    root = workspace.home.parent
    for number in (1, 2, 3):
        (root / f"{number}.csv").write_text(f"id,x\n{number},{number}.5\n")
    (root / "2.csv").write_text("id,x\n2,n/a\n20,2\n")
    done = collect(workspace, actor, SourceSpec(files="*.csv"), key=("id",))
    assert read == ["1.csv", "2.csv", "3.csv"]
    assert (done.rows, len(done.refused)) == (3, 1), "the second file is compared with what the first one made"
    made = workspace.data.get(workspace.project.id, "new")
    assert made.key == ("id",)
    assert workspace.data.read(made).sort("id").rows() == [(1, 1.5), (3, 3.5), (20, 2.0)]
    again = collect(workspace, actor, SourceSpec(files="*.csv"), key=("id",))
    assert (again.commits, again.notes) == ([], [])
    with pytest.raises(Invalid):
        collect(workspace, actor, SourceSpec(files="*.csv"), key=("x",))


def test_by_commands(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    root = workspace.home.parent
    monkeypatch.chdir(root)
    assert run(["data", "collect", "new", "--from", "in/*.csv"]) == 0
    out = capsys.readouterr()
    assert "nothing new" in out.out
    assert "new was not made" in out.err
    (root / "in").mkdir()
    pl.DataFrame({"id": [1]}).write_csv(root / "in" / "a.csv")
    assert run(["data", "collect", "new", "--from", "in/*.csv"]) == 0
    assert workspace.data.read(workspace.data.get(workspace.project.id, "new"))["id"].to_list() == [1]
