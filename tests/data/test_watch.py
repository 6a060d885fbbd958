"""A watched folder: what stands still is taken, what still grows waits, and an end leaves nothing half done."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from noria.assets.records import RunState
from noria.base.actor import Actor
from noria.base.errors import Invalid, NoriaError
from noria.data.collectors import FileSource
from noria.data.edits import Put
from noria.data.errors import SourceFailed
from noria.data.records import Repository, RepositoryKind
from noria.data.service.collecting.collector import Collected
from noria.data.service.landing import LostRaceError
from noria.store import Entry, Writer
from noria.workspace import Workspace

EVERY = 0.05


@pytest.fixture
def table(workspace: Workspace, actor: Actor) -> Repository:
    return workspace.data.create(workspace.project.id, "t", RepositoryKind.TABLE, actor=actor, key=("id",))


@pytest.fixture
def files(workspace: Workspace, actor: Actor) -> Repository:
    return workspace.data.create(workspace.project.id, "f", RepositoryKind.FILES, actor=actor)


class Watching:
    """A watch in a thread, and what it told."""

    def __init__(self, ws: Workspace, repository: Repository, place: str, actor: Actor) -> None:
        self.told: list[Collected | NoriaError] = []
        self.stop = threading.Event()
        how = {"actor": actor, "every": EVERY, "stop": self.stop, "tell": self.told.append}
        self.thread = threading.Thread(target=ws.collector.watch, args=(repository, place), kwargs=how, daemon=True)

    def __enter__(self) -> Watching:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join(20)
        assert not self.thread.is_alive()

    @property
    def errors(self) -> list[str]:
        return [found.message for found in self.told if isinstance(found, NoriaError)]


def until(what: Callable[[], object]) -> None:
    for _ in range(400):
        if what():
            return
        time.sleep(0.025)
    raise AssertionError("it did not happen within ten seconds")


def ids(ws: Workspace, table: Repository) -> list[int]:
    return [] if ws.data.head(table) is None else sorted(ws.data.read(table)["id"])


def once(ws: Workspace, repository: Repository, place: str, actor: Actor) -> list[Collected | NoriaError]:
    told: list[Collected | NoriaError] = []
    ws.collector.watch(repository, place, actor=actor, every=EVERY, once=True, tell=told.append)
    return told


def test_new_and_grown_files_of_rows_are_taken(workspace: Workspace, actor: Actor, table: Repository) -> None:
    place = workspace.home.parent / "in"
    place.mkdir()
    (place / "a.csv").write_text("id,n\n1,1\n")
    with Watching(workspace, table, "in/*.csv", actor):
        until(lambda: ids(workspace, table) == [1])
        with (place / "a.csv").open("a") as file:
            file.write("2,2\n3,")
        until(lambda: ids(workspace, table) == [1, 2])
        (place / "b.csv").write_text("id,n\n9,9\n")
        until(lambda: ids(workspace, table) == [1, 2, 9])
        with (place / "a.csv").open("a") as file:
            file.write("3\n")
        until(lambda: ids(workspace, table) == [1, 2, 3, 9])
    assert len(workspace.data.log(table)) == 4


def test_what_is_dropped_while_it_watches_is_taken_again(workspace: Workspace, actor: Actor, table: Repository) -> None:
    place = workspace.home.parent / "in"
    place.mkdir()
    (place / "a.csv").write_text("id,n\n1,1\n")
    with Watching(workspace, table, "in/*.csv", actor):
        until(lambda: ids(workspace, table) == [1])
        (place / "b.csv").write_text("id,n\n2,2\n")
        until(lambda: ids(workspace, table) == [1, 2])
        workspace.data.drop(table, actor=actor)
        until(lambda: ids(workspace, table) == [1, 2])


@pytest.mark.parametrize("kind", ["rows", "files"])
def test_what_is_reset_during_a_look_is_taken_again(
    workspace: Workspace,
    actor: Actor,
    table: Repository,
    files: Repository,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    place = workspace.home.parent / "in"
    place.mkdir()
    repo, collector = (table, workspace.collector) if kind == "rows" else (files, workspace.collector.folders)
    verb = "collect" if kind == "rows" else "commit_entries"
    real, resets = getattr(collector, verb), list[str]()

    def landed(*about: object, **how: object) -> Collected:
        done: Collected = real(*about, **how)
        line = workspace.data.log(repo)
        if len(line) == 2 and not resets:  # somebody resets the branch before the look has ended
            resets.append(workspace.data.reset(repo, line[1].id, actor=actor).id)
        return done

    def there() -> set[str]:
        if workspace.data.head(repo) is None:
            return set()
        if kind == "rows":
            return {str(one) for one in ids(workspace, repo)}
        return {entry.path.removesuffix(".csv") for entry in workspace.data.files(repo)}

    monkeypatch.setattr(collector, verb, landed)
    (place / "1.csv").write_text("id,n\n1,1\n")
    with Watching(workspace, repo, "in/*.csv" if kind == "rows" else "in", actor):
        until(lambda: there() == {"1"})
        (place / "2.csv").write_text("id,n\n2,2\n")
        until(lambda: resets and there() == {"1", "2"})


def test_a_known_file_that_never_stands_still_gives_its_complete_lines(
    workspace: Workspace, actor: Actor, table: Repository
) -> None:
    path = workspace.home.parent / "a.csv"
    path.write_text("id,n\n0,0\n")
    number, done = 0, threading.Event()

    def write() -> None:
        nonlocal number
        while not done.is_set():
            number += 1
            with path.open("a") as file:
                file.write(f"{number},{number}\n")
            time.sleep(0.01)

    writer = threading.Thread(target=write)
    with Watching(workspace, table, "*.csv", actor) as watching:
        writer.start()
        until(lambda: len(ids(workspace, table)) > 20)
        done.set()
        writer.join()
        until(lambda: ids(workspace, table) == list(range(number + 1)))
    assert watching.errors == []


def test_a_file_that_grows_is_left_until_it_stands_still(workspace: Workspace, actor: Actor, table: Repository) -> None:
    path = workspace.home.parent / "a.parquet"
    whole = workspace.home.parent / "whole"
    pl.DataFrame({"id": list(range(5000)), "n": list(range(5000))}).write_parquet(whole)
    data = whole.read_bytes()
    with Watching(workspace, table, "*.parquet", actor) as watching:
        for place in range(0, len(data), len(data) // 12 + 1):
            with path.open("ab") as file:
                file.write(data[place : place + len(data) // 12 + 1])
            time.sleep(EVERY / 3)
        until(lambda: len(ids(workspace, table)) == 5000)
    assert len(workspace.data.log(table)) == 1
    assert len(watching.errors) <= 1  # on a slow machine a pause may look like an end; then it is told and mended


def test_a_file_that_cannot_be_read_is_named_once_and_does_not_hold_up_the_others(
    workspace: Workspace, actor: Actor, table: Repository
) -> None:
    root = workspace.home.parent
    (root / "a.csv").write_bytes(b"id,n\n\xff\xfe,\x00\xff\n")
    (root / "b.csv").write_text("id,n\n1,1\n")
    with Watching(workspace, table, "*.csv", actor) as watching:
        until(lambda: ids(workspace, table) == [1])
        until(lambda: watching.errors)
        time.sleep(EVERY * 4)
        assert len(watching.errors) == 1
        assert "a.csv" in watching.errors[0]
        (root / "a.csv").write_text("id,n\n2,2\n")
        until(lambda: ids(workspace, table) == [1, 2])


def test_a_folder_is_kept_as_it_is(workspace: Workspace, actor: Actor, files: Repository, tmp_path: Path) -> None:
    place = workspace.home.parent / "in"
    (place / "sub").mkdir(parents=True)
    (place / "a").write_text("1")
    (place / ".a.swp").write_text("an editor's")
    (tmp_path / "outside").write_text("secret")
    (place / "link").symlink_to(tmp_path / "outside")
    (place / "sub" / "b").write_bytes(os.urandom(200_000))

    def paths() -> set[str]:
        return set() if workspace.data.head(files) is None else {e.path for e in workspace.data.files(files)}

    with Watching(workspace, files, "in", actor):
        until(lambda: paths() == {"a", "link", "sub/b"})
        (link,) = workspace.data.files(files, pattern="link")
        assert link.target == str(tmp_path / "outside")  # the link itself, never what it leads to
        (place / "a").rename(place / "c")
        until(lambda: paths() == {"c", "link", "sub/b"})
        (place / "c").write_text("2")
        until(lambda: workspace.data.read_file(files, "c") == b"2")
        before = workspace.data.head(files)
        (place / "c").touch()
        time.sleep(EVERY * 5)
        assert workspace.data.head(files) == before
    commit = workspace.data.head(files)
    assert commit is not None
    assert commit.meta["source"]["kind"] == "folder"
    assert commit.run_id in {r.id for r in workspace.assets.list_runs(workspace.project.id, kinds=["collection"]).items}


def test_once_takes_what_stands_still_and_ends(workspace: Workspace, actor: Actor, files: Repository) -> None:
    place = workspace.home.parent / "in"
    place.mkdir()
    (place / "a").write_text("1")
    assert len(once(workspace, files, "in", actor)) == 1
    assert once(workspace, files, "in", actor) == []
    (place / "a").unlink()
    (place / "b").write_text("2")
    assert len(once(workspace, files, "in", actor)) == 1
    assert [e.path for e in workspace.data.files(files)] == ["b"]
    with pytest.raises(SourceFailed, match="not a folder"):
        once(workspace, files, "nowhere", actor)
    rows = workspace.data.create(workspace.project.id, "rows", RepositoryKind.TABLE, actor=actor, key=("id",))
    with pytest.raises(SourceFailed, match="There is no folder"):
        once(workspace, rows, "nowhere/*.csv", actor)
    told: list[Any] = []
    workspace.collector.watch(rows, "in/*.csv", actor=actor, every=EVERY, once=True, tell=told.append)
    assert [one.notes for one in told] == [["Nothing fits 'in/*.csv' yet."]]
    with pytest.raises(Invalid, match="every"):
        workspace.collector.watch(files, "in", actor=actor, every=0)


def test_what_was_refused_is_not_read_again_at_every_look(
    workspace: Workspace, actor: Actor, table: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, looks, real = workspace.home.parent / "a.csv", list[str](), FileSource._look
    (workspace.home.parent / "0.csv").write_text("id,n\n1,1\n")
    once(workspace, table, "*.csv", actor)
    workspace.data.set_contract(
        table, {"columns": {"id": {"type": "int64", "max": 9}, "n": {"type": "int64"}}}, actor=actor
    )
    table = workspace.data.get(table.project_id, "t")
    path.write_text("id,n\n99,1\n")
    once(workspace, table, "*.csv", actor)
    os.utime(path, ns=(1, 1))
    monkeypatch.setattr(FileSource, "_look", lambda *about: looks.append(about[1].name) or real(*about))
    with Watching(workspace, table, "*.csv", actor):
        until(lambda: looks)
        time.sleep(EVERY * 6)
    assert looks.count("a.csv") == 1


def test_what_is_to_be_ignored_is_not_taken(workspace: Workspace, actor: Actor, files: Repository) -> None:
    place = workspace.home.parent / "in"
    for name in ("a.jpg", "b.tmp", "kept.tmp", "build/deep/c.jpg", "sub/d.jpg", "sub/e.tmp", "only/f.tmp"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(name)
    (place / "empty").mkdir()
    (place / ".noriaignore").write_text("*.tmp\n/build\n")
    workspace.data.change(files, [Put("kept.tmp", b"0")], actor=actor)
    once(workspace, files, "in", actor)
    watched = [entry.path for entry in workspace.data.files(files)]
    assert watched == ["a.jpg", "empty", "kept.tmp", "sub/d.jpg"]
    assert workspace.data.read_file(files, "kept.tmp") == b"kept.tmp"
    workspace.collector.folders.collect(files, "in", actor=actor)
    assert [entry.path for entry in workspace.data.files(files)] == [".noriaignore", *watched], "as collect sees it"
    (place / ".noriaignore").write_text("*.jpg\n")
    assert once(workspace, files, "in", actor) != []
    assert "b.tmp" in {entry.path for entry in workspace.data.files(files)}
    assert "a.jpg" in {entry.path for entry in workspace.data.files(files)}, "what a commit holds stays"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_named_and_the_rest_is_taken(
    workspace: Workspace, actor: Actor, files: Repository
) -> None:
    place = workspace.home.parent / "in"
    place.mkdir()
    (place / "a").write_text("1")
    (place / "b").write_text("2")
    (place / "b").chmod(0)
    (done,) = once(workspace, files, "in", actor)
    assert isinstance(done, Collected)
    assert "b" in done.notes[0]
    assert [e.path for e in workspace.data.files(files)] == ["a"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_ends_cleanly(workspace: Workspace, table: Repository, number: signal.Signals) -> None:
    root = workspace.home.parent
    (root / "a.csv").write_text("id,n\n1,1\n")
    line = [sys.executable, "-m", "noria", "data", "watch", "t", "*.csv", "--every", "100ms", "--json"]
    with subprocess.Popen(line, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        assert first["rows"] == 1
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")
    runs = workspace.assets.list_runs(workspace.project.id, kinds=["collection"]).items
    assert [r.state.value for r in runs] == ["done"]


def test_a_commit_that_lands_while_files_are_read_stays(workspace: Workspace, actor: Actor, files: Repository) -> None:
    data = workspace.data
    data.change(files, [Put("a", b"0")], actor=actor)
    reads: list[int] = []

    def changes(writer: Writer) -> dict[str, Entry | None]:
        reads.append(len(reads))
        if len(reads) < 3:
            data.change(files, [Put(f"mine{len(reads)}", b"landed meanwhile")], actor=actor)
        return {"b": Entry(path="b", size=1, inline=b"1")}

    how = {"actor": actor, "branch": "main", "meta": {"kind": "folder"}, "message": "m"}
    done = workspace.collector.folders.commit_entries(files, changes, **how)
    assert [e.path for e in data.files(files)] == ["a", "b", "mine1", "mine2"]
    assert len(reads) == 3
    assert (done.commits[0].stats["added"], done.commits[0].stats["deleted"]) == (1, 0)
    runs = workspace.assets.list_runs(workspace.project.id, kinds=["collection"]).items
    assert [run.state for run in runs] == [RunState.DONE]


def test_a_tree_is_not_committed_on_a_head_that_it_was_not_built_on(
    workspace: Workspace, actor: Actor, files: Repository
) -> None:
    first = workspace.data.change(files, [Put("a", b"0")], actor=actor)
    second = workspace.data.change(files, [Put("b", b"0")], actor=actor)
    with workspace.sessions.writer() as writer:
        for expected in (first, None):
            with pytest.raises(LostRaceError):
                workspace.data.commit_tree(writer, files, first.layout, actor=actor, expected=expected)
    assert workspace.data.head(files) == second
