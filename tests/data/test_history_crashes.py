"""The process dies at every write, fsync, rename and change of state of a verb: nothing is half there, nothing is lost,
and the same command, typed again, succeeds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from noria.base.faults import CountPoints, Faults
from noria.data.edits import Append, Delete, Put
from noria.data.records import RepositoryKind
from noria.testing import ManualClock
from noria.workspace import Workspace, connect, init

FORKS = """
import os, sys
from pathlib import Path
import test_history_crashes as tests
from noria.base.faults import CrashAt

root, verb = Path(sys.argv[1]), getattr(tests, sys.argv[2])
for line in sys.stdin:
    child = os.fork()  # of a process that has used neither the database nor a thread pool
    if child == 0:
        tests.run(root, verb, CrashAt("", int(line)))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""

Dies = Callable[[int], int]


def prepare(root: Path, clock: ManualClock) -> None:
    """Two repositories with a branch each, a folder with a change, and an open commit."""
    (root / "ws").mkdir(parents=True)
    with init(root / "ws", clock=clock, environment={}) as ws:
        actor = ws.actor
        files = ws.data.create(ws.project.id, "f", RepositoryKind.FILES, actor=actor)
        ws.data.change(files, [Put("a", "1"), Put("b", "1" * 200_000)], actor=actor)
        ws.data.create_branch(files, "x", actor=actor)
        ws.data.change(files, [Put("new", "x")], actor=actor, branch="x")
        ws.data.checkout(files, root / "folder")
        ws.data.change(files, [Append("b", "2")], actor=actor)
        (root / "folder" / "a").write_text("folder")
        draft = ws.data.start(files, actor=actor)
        ws.data.edit(files, draft.id, [Put("drafted", "1")], actor=actor)
        table = ws.data.create(ws.project.id, "t", RepositoryKind.TABLE, actor=actor, key=("k",))
        ws.data.append(table, pl.DataFrame({"k": [1, 2], "v": ["a", "b"]}), actor=actor)
        ws.data.create_branch(table, "x", actor=actor)
        ws.data.append(table, pl.DataFrame({"k": [3], "v": ["x"]}), actor=actor, branch="x")
        ws.data.append(table, pl.DataFrame({"k": [2], "v": ["main"]}), actor=actor)


def state(ws: Workspace, root: Path) -> Any:
    """Everything that a reader sees."""
    seen: dict[str, Any] = {}
    for name in ("f", "t"):
        repo = ws.data.get(ws.project.id, name)
        for branch in ws.data.branches(repo):
            if name == "f":
                found = {e.path: ws.data.read_file(repo, e.path, branch.name) for e in ws.data.files(repo, branch.name)}
            else:
                found = dict(ws.data.read(repo, branch.name).select("k", "v").rows())
            seen[f"{name}@{branch.name}"] = (found, len(ws.data.log(repo, branch.name)))
    seen["drafts"] = len(ws.data.drafts(ws.data.get(ws.project.id, "f")))
    seen["folder"] = {p.name: p.read_bytes() for p in (root / "folder").iterdir() if p.is_file()}
    return seen


def change(ws: Workspace, root: Path) -> None:
    repo = ws.data.get(ws.project.id, "f")
    if ws.data.read_file(repo, "a") != b"2":  # what a person does who is not sure whether it had landed: looks
        ws.data.change(repo, [Put("a", "2"), Put("big", "9" * 300_000), Delete("b")], actor=ws.actor)


def commit(ws: Workspace, root: Path) -> None:
    ws.data.commit(ws.data.get(ws.project.id, "f"), root / "folder", actor=ws.actor)


def merge(ws: Workspace, root: Path) -> None:
    ws.data.merge(ws.data.get(ws.project.id, "f"), "x", actor=ws.actor)


def merge_rows(ws: Workspace, root: Path) -> None:
    ws.data.merge(ws.data.get(ws.project.id, "t"), "x", actor=ws.actor)


def finish(ws: Workspace, root: Path) -> None:
    repo = ws.data.get(ws.project.id, "f")
    for draft in ws.data.drafts(repo):
        ws.data.finish(repo, draft.id, actor=ws.actor)


def squash(ws: Workspace, root: Path) -> None:
    repo = ws.data.get(ws.project.id, "t")
    ws.data.squash(repo, ws.data.log(repo)[-1].id, actor=ws.actor)


def checkout(ws: Workspace, root: Path) -> None:
    ws.data.checkout(ws.data.get(ws.project.id, "f"), root / "folder", "x", force=True)


def run(root: Path, verb: Callable[[Workspace, Path], None], faults: Faults | None = None) -> None:
    with connect(root / "ws", clock=ManualClock(), faults=faults, environment={}) as ws:
        verb(ws, root)


@pytest.fixture
def dies(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Dies]:
    """Runs the verb in a process that dies at the n-th point; the exit status."""
    verb = request.getfixturevalue("verb").__name__
    command = [sys.executable, "-c", FORKS, str(tmp_path / "work"), verb]
    here = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=here) as server:
        assert server.stdin is not None
        assert server.stdout is not None

        def at(number: int) -> int:
            server.stdin.write(f"{number}\n")
            server.stdin.flush()
            return int(server.stdout.readline())

        yield at
        server.stdin.close()


@pytest.mark.parametrize("verb", [change, commit, merge, merge_rows, finish, squash, checkout])
def test_a_crash_at_any_point_leaves_all_or_nothing_and_the_retry_succeeds(
    tmp_path: Path, dies: Dies, verb: Callable[[Workspace, Path], None]
) -> None:
    kept, root = tmp_path / "kept", tmp_path / "work"
    prepare(root, ManualClock())
    root.rename(kept)

    def fresh() -> None:
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(kept, root, symlinks=True)

    def seen() -> Any:
        with connect(root / "ws", clock=ManualClock(), environment={}) as ws:
            assert ws.verify(data=True) == []
            return state(ws, root)

    fresh()
    before = seen()
    points = CountPoints()
    run(root, verb, points)
    after = seen()
    assert points.seen
    visited = sorted({len(points.seen) - points.seen[::-1].index(p) for p in points.seen})
    for number in visited:
        fresh()
        assert dies(number) == 137, points.seen[number - 1]
        halfway = seen()
        for place, value in halfway.items():
            if place != "folder":
                assert value in (before[place], after[place]), (points.seen[number - 1], place)
        for name, data in halfway["folder"].items():  # each file is the old one or the new one
            assert data in (before["folder"].get(name), after["folder"].get(name)), points.seen[number - 1]
        run(root, verb)
        assert seen() == after, points.seen[number - 1]
        assert [p for p in (root / "folder").iterdir() if p.is_dir()] == [], points.seen[number - 1]
