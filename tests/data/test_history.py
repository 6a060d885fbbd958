"""Change sets, open commits, merge and what else moves a branch; on both databases."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from noria.base.actor import Actor
from noria.base.errors import Invalid, NotFound
from noria.base.ids import CommitId
from noria.base.once import Once
from noria.data import queries
from noria.data.edits import Append, Copy, Delete, Describe, Link, Move, Put
from noria.data.errors import (
    BranchNotFound,
    CommitGone,
    CommitInUse,
    ContractBroken,
    DraftClosed,
    DraftNotFound,
    FolderAdrift,
    FolderLeft,
    HeadMoved,
    MergeConflict,
    PathExists,
    TagExists,
)
from noria.data.records import Names, Repository, RepositoryKind
from noria.data.service.landing import LostRaceError
from noria.store import reading
from noria.testing import ManualClock
from noria.workspace import Workspace


@pytest.fixture
def repo(both: Workspace, actor: Actor) -> Repository:
    return both.data.create(both.project.id, "f", RepositoryKind.FILES, actor=actor)


@pytest.fixture
def files(workspace: Workspace, actor: Actor) -> Repository:
    """On SQLite only, for what has nothing to do with the database."""
    return workspace.data.create(workspace.project.id, "f", RepositoryKind.FILES, actor=actor)


@pytest.fixture
def table(both: Workspace, actor: Actor) -> Repository:
    return both.data.create(both.project.id, "t", RepositoryKind.TABLE, actor=actor, key=("k",))


def content(ws: Workspace, repo: Repository, ref: str = "main") -> dict[str, bytes]:
    return {e.path: ws.data.read_file(repo, e.path, ref) for e in ws.data.files(repo, ref)}


def rows(**values: str) -> pl.DataFrame:
    return pl.DataFrame({"k": list(values), "v": list(values.values())}, schema={"k": pl.String, "v": pl.String})


def held(ws: Workspace, table: Repository, ref: str = "main") -> dict[str, str]:
    return dict(ws.data.read(table, ref).select("k", "v").rows())


def put(ws: Workspace, repo: Repository, actor: Actor, branch: str = "main", **files: str) -> Any:
    return ws.data.change(repo, [Put(n, v) for n, v in files.items()], actor=actor, branch=branch, message=repr(files))


# ---- change sets


def test_a_change_set_is_one_commit(workspace: Workspace, files: Repository, actor: Actor, tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_text("#!/bin/sh")
    (tmp_path / "run.sh").chmod(0o755)
    workspace.data.change(
        files,
        [
            Put("a", "one"),
            Put("big", io.BytesIO(b"x" * 300_000), meta={"camera": "left"}),
            Put("run.sh", tmp_path / "run.sh"),
            Link("link", "a"),
            Append("a", " two"),
            Copy("big", "copies/big"),
            Move("a", "b"),
        ],
        actor=actor,
    )
    found = {e.path: e for e in workspace.data.files(files)}
    assert sorted(found) == ["b", "big", "copies/big", "link", "run.sh"]
    assert workspace.data.read_file(files, "b") == b"one two"
    assert found["run.sh"].executable
    assert found["link"].target == "a"
    assert found["copies/big"].content == found["big"].content
    assert found["copies/big"].meta == {"camera": "left"}
    assert len(workspace.data.log(files)) == 1


def test_an_append_gives_what_storing_it_whole_gives(workspace: Workspace, files: Repository, actor: Actor) -> None:
    data = bytes(range(256)) * 4_000
    workspace.data.change(files, [Put("grown", data[:700_000]), Put("whole", data)], actor=actor)
    commit = workspace.data.change(files, [Append("grown", data[700_000:])], actor=actor)
    found = {e.path: e for e in workspace.data.files(files)}
    assert found["grown"].content == found["whole"].content
    assert commit.stats["stored"] < 20_000


def test_metadata_of_paths_is_changed_name_by_name(workspace: Workspace, files: Repository, actor: Actor) -> None:
    workspace.data.change(files, [Put("a", "1", meta={"x": 1, "y": 2})], actor=actor)
    workspace.data.change(files, [Describe("a", {"y": None, "z": "3"})], actor=actor)
    workspace.data.change(files, [Put("a", "new bytes")], actor=actor)
    (entry,) = workspace.data.files(files)
    assert entry.meta == {"x": 1, "z": "3"}


def test_deletions_by_path_folder_and_pattern(workspace: Workspace, files: Repository, actor: Actor) -> None:
    put(workspace, files, actor, **{"a/1": "", "a/2": "", "b/1": "", "c.tmp": "", "d.tmp": ""})
    workspace.data.change(files, [Delete("a"), Delete("b/1"), Delete("c.*")], actor=actor)
    assert set(content(workspace, files)) == {"d.tmp"}
    with pytest.raises(NotFound, match="no path 'nothing'"):
        workspace.data.change(files, [Delete("nothing")], actor=actor)


@pytest.mark.parametrize(
    "edits",
    [
        [Put("../out", "")],
        [Put("/etc/passwd", "")],
        [Put("a/.noria/x", "")],
        [Copy("a", "a\0b")],
        [Put("a/b", "")],
        [Put("d", "")],
        [Append("d", "x")],
        [Append("link", "x")],
        [Copy("d", "d/in")],
        [Copy("missing", "x")],
        [Describe("missing", {})],
    ],
    ids=str,
)
def test_what_does_not_fit_changes_nothing(
    workspace: Workspace, files: Repository, actor: Actor, edits: list[Any]
) -> None:
    workspace.data.change(files, [Put("a", "file"), Put("d/x", "in"), Link("link", "a")], actor=actor)
    before = workspace.data.head(files)
    with pytest.raises((Invalid, NotFound)):
        workspace.data.change(files, [Put("other", "fine"), *edits], actor=actor)
    assert workspace.data.head(files) == before


def test_a_retried_change_set_lands_once(both: Workspace, repo: Repository, actor: Actor) -> None:
    from noria.base.once import Once

    put(both, repo, actor, log="")
    for _ in range(2):
        both.data.change(repo, [Append("log", "line\n")], actor=actor, once=Once("k1", {}))
    assert content(both, repo) == {"log": b"line\n"}


# ---- many writers


def test_disjoint_changes_of_two_writers_both_land(both: Workspace, repo: Repository, actor: Actor) -> None:
    put(both, repo, actor, a="1", b="1")
    interfere(both, repo, lambda: put(both, repo, actor, b="2"))
    both.data.change(repo, [Put("a", "2")], actor=actor)
    assert content(both, repo) == {"a": b"2", "b": b"2"}
    assert both.verify(data=True) == []


def test_the_same_path_of_two_writers_is_a_conflict_that_names_it(
    both: Workspace, repo: Repository, actor: Actor
) -> None:
    put(both, repo, actor, a="1", b="1")
    interfere(both, repo, lambda: put(both, repo, actor, a="theirs"))
    with pytest.raises(MergeConflict, match="both sides changed a") as caught:
        both.data.change(repo, [Put("a", "mine"), Put("b", "mine")], actor=actor)
    assert caught.value.details["conflicts"] == ["a"]
    assert content(both, repo) == {"a": b"theirs", "b": b"1"}


def test_appends_of_two_writers_to_one_file_follow_one_another(both: Workspace, repo: Repository, actor: Actor) -> None:
    put(both, repo, actor, log="0")
    interfere(both, repo, lambda: both.data.change(repo, [Append("log", "1")], actor=actor))
    both.data.change(repo, [Append("log", "2")], actor=actor)
    assert content(both, repo) == {"log": b"012"}


def interfere(ws: Workspace, repo: Repository, act: Any) -> None:
    """Lets another writer be faster, once: between the look at the head and the landing."""
    original = ws.data._commit_made

    def landing(*args: Any, **how: Any) -> Any:
        ws.data._commit_made = original
        act()
        return original(*args, **how)

    ws.data._commit_made = landing


class Slow(io.RawIOBase):
    """A stream that gives its bytes when it is let."""

    def __init__(self) -> None:
        self.begun, self.let = threading.Event(), threading.Event()
        self._left = b"slow"

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        self.begun.set()
        assert self.let.wait(30)
        data, self._left = self._left, b""
        return data


def test_nobody_waits_for_data_that_another_one_writes(both: Workspace, repo: Repository, actor: Actor) -> None:
    put(both, repo, actor, a="1")
    both.data.create_branch(repo, "trial", actor=actor)
    slow = Slow()
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(both.data.change, repo, [Put("big", slow)], actor=actor)
        try:
            assert slow.begun.wait(30)
            put(both, repo, actor, a="2")
            both.data.change(repo, [Put("t", "1")], branch="trial", actor=actor)
            assert not writing.done()
        finally:
            slow.let.set()
        writing.result()
    assert content(both, repo) == {"a": b"2", "big": b"slow"}
    assert both.verify(data=True) == []


def test_many_writers_of_one_branch_all_land(both: Workspace, repo: Repository, actor: Actor) -> None:
    put(both, repo, actor, start="0")
    with ThreadPoolExecutor(8) as pool:
        done = [pool.submit(both.data.change, repo, [Put(f"p{n}", str(n))], actor=actor) for n in range(24)]
        assert len({one.result().id for one in done}) == 24
    assert content(both, repo) == {"start": b"0", **{f"p{n}": b"%d" % n for n in range(24)}}


def test_a_folder_that_lost_a_race_is_not_read_again(
    workspace: Workspace, files: Repository, actor: Actor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what it stored stays: no garbage collection takes it before the second attempt."""
    folder = tmp_path / "folder"
    put(workspace, files, actor, a="1", b="1")
    workspace.data.checkout(files, folder)
    (folder / "c").write_bytes(b"c" * 100_000)
    read: list[str] = []
    original = reading.read_closely
    monkeypatch.setattr(reading, "read_closely", lambda *a: (read.append(a[2]), original(*a))[1])

    def act() -> None:
        put(workspace, files, actor, b="2")
        workspace.gc.run(dry_run=False)

    interfere(workspace, files, act)
    workspace.data.commit(files, folder, actor=actor)
    assert read.count("c") == 1
    assert content(workspace, files) == {"a": b"1", "b": b"2", "c": b"c" * 100_000}
    assert workspace.verify(data=True) == []


def test_two_folders_of_one_branch_merge_by_themselves(
    workspace: Workspace, files: Repository, actor: Actor, tmp_path: Path
) -> None:
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    put(workspace, files, actor, a="1", b="1", c="1")
    workspace.data.checkout(files, mine)
    workspace.data.checkout(files, theirs)
    (theirs / "b").write_text("theirs")
    workspace.data.commit(files, theirs, actor=actor)
    (mine / "a").write_text("mine")
    (mine / "c").unlink()
    status = workspace.data.status(files, mine)
    assert [(c.kind, c.path) for c in status.changes] == [("changed", "a"), ("removed", "c")]
    assert status.behind == 1
    workspace.data.commit(files, mine, actor=actor)
    assert content(workspace, files) == {"a": b"mine", "b": b"theirs"}
    assert workspace.data.status(files, mine).changes == []
    head = workspace.data.head(files)
    assert workspace.data.commit(files, mine, actor=actor) == head
    workspace.data.checkout(files, mine)
    assert (mine / "b").read_text() == "theirs"


def test_two_folders_that_changed_one_file_conflict(
    workspace: Workspace, files: Repository, actor: Actor, tmp_path: Path
) -> None:
    put(workspace, files, actor, a="1")
    for name in ("mine", "theirs"):
        workspace.data.checkout(files, tmp_path / name)
        (tmp_path / name / "a").write_text(name)
    workspace.data.commit(files, tmp_path / "theirs", actor=actor)
    with pytest.raises(MergeConflict, match="both sides changed a"):
        workspace.data.commit(files, tmp_path / "mine", actor=actor)
    assert content(workspace, files) == {"a": b"theirs"}
    assert (tmp_path / "mine" / "a").read_text() == "mine"


# ---- merge


def test_merge_brings_a_branch_in(both: Workspace, repo: Repository, actor: Actor) -> None:
    put(both, repo, actor, a="1", b="1", c="1")
    both.data.create_branch(repo, "x", actor=actor)
    theirs = both.data.change(repo, [Put("a", "x"), Delete("c"), Put("n/new", "x")], actor=actor, branch="x")
    ours = put(both, repo, actor, b="main")
    merged = both.data.merge(repo, "x", actor=actor)
    assert content(both, repo) == {"a": b"x", "b": b"main", "n/new": b"x"}
    assert merged.parents == (ours.id, theirs.id)
    assert both.data.merge(repo, "x", actor=actor) == merged
    assert both.data.log(repo)[0].id == merged.id
    assert len(both.data.log(repo)) == 4


def test_a_branch_without_anything_of_its_own_is_moved(both: Workspace, repo: Repository, actor: Actor) -> None:
    put(both, repo, actor, a="1")
    both.data.create_branch(repo, "x", actor=actor)
    theirs = put(both, repo, actor, "x", a="2")
    assert both.data.merge(repo, "x", actor=actor).id == theirs.id
    put(both, repo, actor, "x", a="3")
    made = both.data.merge(repo, "x", actor=actor, fast_forward=False)
    assert len(made.parents) == 2
    assert both.assets.asset(both.project.id, "f").current_id == made.version_id


@pytest.mark.parametrize(("strategy", "wins"), [("ours", b"main"), ("theirs", b"x")])
def test_a_conflict_names_the_paths_and_strategies_decide_it(
    both: Workspace, repo: Repository, actor: Actor, strategy: str, wins: bytes
) -> None:
    put(both, repo, actor, a="1", b="1")
    both.data.create_branch(repo, "x", actor=actor)
    put(both, repo, actor, "x", a="x", b="same", only="x")
    put(both, repo, actor, a="main", b="same")
    head = both.data.head(repo)
    with pytest.raises(MergeConflict) as caught:
        both.data.merge(repo, "x", actor=actor)
    assert caught.value.details["conflicts"] == ["a"]
    assert both.data.head(repo) == head
    both.data.merge(repo, "x", actor=actor, strategy=strategy)
    assert content(both, repo) == {"a": wins, "b": b"same", "only": b"x"}


def test_a_file_where_the_other_side_made_a_folder_is_a_conflict(
    workspace: Workspace, files: Repository, actor: Actor
) -> None:
    put(workspace, files, actor, a="1")
    workspace.data.create_branch(files, "x", actor=actor)
    put(workspace, files, actor, "x", **{"d/e": "x"})
    put(workspace, files, actor, d="main")
    with pytest.raises(MergeConflict, match="both sides changed d/e"):
        workspace.data.merge(files, "x", actor=actor)
    with pytest.raises(MergeConflict, match="both sides changed d, d/e"):
        workspace.data.merge(files, "x", actor=actor, resolve={"d/e": "theirs"})
    workspace.data.create_branch(files, "y", actor=actor)
    workspace.data.merge(files, "x", into="y", actor=actor, resolve={"d/e": "ours"})
    assert content(workspace, files, "y") == {"a": b"1", "d": b"main"}
    workspace.data.merge(files, "x", actor=actor, resolve={"d": "theirs"})
    assert content(workspace, files) == {"a": b"1", "d/e": b"x"}


def test_conflicts_are_decided_path_by_path(both: Workspace, repo: Repository, actor: Actor) -> None:
    everything = {"a": "1", "cat/1": "1", "cat/2": "1", "dog/1": "1"}
    put(both, repo, actor, **everything)
    both.data.create_branch(repo, "x", actor=actor)
    picked = put(both, repo, actor, "x", **dict.fromkeys(everything, "x"), only="x")
    put(both, repo, actor, **dict.fromkeys(everything, "main"))
    decided = {"cat": "theirs", "cat/2": "ours", "d*": "ours"}
    with pytest.raises(MergeConflict, match=r"both sides changed a\.") as caught:
        both.data.merge(repo, "x", actor=actor, resolve=decided)
    assert caught.value.details["conflicts"] == ["a"]
    assert caught.value.hint.startswith("--ours PATH or --theirs PATH")
    seen = both.data.preview_merge(repo, "x", resolve=decided)
    assert (seen.how, seen.count, seen.conflicts) == ("merge", 1, ["a"])
    assert [(c.kind, c.path) for c in seen.changes] == [("changed", "cat/1"), ("added", "only")]
    assert seen.stats == {"added": 1, "updated": 1, "deleted": 0}
    both.data.create_branch(repo, "y", actor=actor)
    both.data.merge(repo, "x", actor=actor, resolve={**decided, "*": "ours"})
    expected = {"a": b"main", "cat/1": b"x", "cat/2": b"main", "dog/1": b"main", "only": b"x"}
    assert content(both, repo) == expected
    both.data.cherry_pick(repo, picked.id, branch="y", actor=actor, strategy="ours", resolve={"cat/1": "theirs"})
    assert content(both, repo, "y") == expected
    put(both, repo, actor, "y", **{"cat/1": "later", "cat/2": "x"})
    with pytest.raises(MergeConflict, match=r"both sides changed a, cat/1, dog/1\."):
        both.data.revert(repo, picked.id, branch="y", actor=actor)
    both.data.revert(repo, picked.id, branch="y", actor=actor, resolve={"*": "theirs", "cat/1": "ours", "d*": "ours"})
    assert content(both, repo, "y") == {"a": b"1", "cat/1": b"later", "cat/2": b"1", "dog/1": b"main"}
    with pytest.raises(Invalid, match="no side of a merge"):
        both.data.merge(repo, "x", actor=actor, resolve={"a": "mine"})


def test_an_open_commit_is_decided_path_by_path(workspace: Workspace, files: Repository, actor: Actor) -> None:
    put(workspace, files, actor, a="1", b="1")
    draft = workspace.data.start(files, actor=actor)
    workspace.data.edit(files, draft.id, [Put("a", "mine"), Put("b", "mine")], actor=actor)
    put(workspace, files, actor, a="main", b="main")
    workspace.data.finish(files, draft.id, actor=actor, strategy="ours", resolve={"a": "theirs"})
    assert content(workspace, files) == {"a": b"mine", "b": b"main"}


def test_a_merge_of_tables_is_looked_at_and_not_decided_by_path(
    both: Workspace, table: Repository, actor: Actor
) -> None:
    both.data.append(table, rows(a="1", b="1", c="1"), actor=actor)
    both.data.create_branch(table, "x", actor=actor)
    assert both.data.preview_merge(table, "x").how == "nothing"
    both.data.append(table, rows(a="x", b="x", d="x"), actor=actor, branch="x")
    ahead = both.data.preview_merge(table, "x")
    assert (ahead.how, ahead.count, ahead.stats) == ("fast-forward", 1, {"added": 1, "updated": 2, "deleted": 0})
    head = both.data.append(table, rows(a="main"), actor=actor)
    seen = both.data.preview_merge(table, "x")
    assert (seen.how, seen.conflicts, seen.head) == ("merge", ["k=a"], head.id)
    seen = both.data.preview_merge(table, "x", strategy="ours")
    assert (seen.conflicts, seen.stats) == ([], {"added": 1, "updated": 1, "deleted": 0})
    assert both.data.head(table) == head, "nothing was written"
    with pytest.raises(Invalid, match="is a table"):
        both.data.merge(table, "x", actor=actor, resolve={"a": "ours"})
    done = both.data.merge(table, "x", actor=actor, strategy="ours")
    assert {name: done.stats[name] for name in seen.stats} == seen.stats


def test_tables_merge_by_key(both: Workspace, table: Repository, actor: Actor) -> None:
    both.data.append(table, rows(a="1", b="1", c="1"), actor=actor)
    both.data.create_branch(table, "x", actor=actor)
    both.data.append(table, rows(a="x", d="x"), actor=actor, branch="x")
    both.data.append(table, rows(b="main"), actor=actor)
    both.data.append(table, rows(c=""), actor=actor, mode="delete")
    both.data.merge(table, "x", actor=actor)
    assert held(both, table) == {"a": "x", "b": "main", "d": "x"}
    both.data.append(table, rows(a="y"), actor=actor, branch="x")
    both.data.append(table, rows(a="z"), actor=actor)
    with pytest.raises(MergeConflict, match="k=a"):
        both.data.merge(table, "x", actor=actor)
    both.data.merge(table, "x", actor=actor, strategy="theirs")
    assert held(both, table)["a"] == "y"
    assert both.verify(data=True) == []


def test_rows_from_before_the_contract_are_checked_when_they_are_merged(
    both: Workspace, table: Repository, actor: Actor
) -> None:
    both.data.append(table, rows(a="1"), actor=actor)
    both.data.create_branch(table, "x", actor=actor)
    both.data.append(table, rows(b="bad"), actor=actor, branch="x")
    both.data.append(table, rows(c="1"), actor=actor)
    spec = {"columns": {"k": {"type": "str"}, "v": {"type": "str", "levels": ["1"]}}}
    both.data.set_contract(table, spec, actor=actor)
    table = both.data.get(both.project.id, "t")
    with pytest.raises(ContractBroken):
        both.data.merge(table, "x", actor=actor)
    assert "b" not in held(both, table)


# ---- revert, cherry-pick, reset


def test_a_commit_is_taken_back_and_later_ones_stay(both: Workspace, repo: Repository, actor: Actor) -> None:
    first = put(both, repo, actor, a="1")
    bad = both.data.change(repo, [Put("a", "bad"), Put("new", "bad")], actor=actor, message="bad")
    put(both, repo, actor, b="2")
    made = both.data.revert(repo, bad.id, actor=actor)
    assert content(both, repo) == {"a": b"1", "b": b"2"}
    assert made.message == "took back " + bad.id[:12] + ": bad"
    put(both, repo, actor, a="3")
    with pytest.raises(MergeConflict, match="changed a"):
        both.data.revert(repo, first.id, actor=actor)
    assert both.data.revert(repo, first.id, actor=actor, strategy="theirs").stats["deleted"] == 1


def test_a_commit_of_another_branch_is_picked(both: Workspace, repo: Repository, actor: Actor) -> None:
    put(both, repo, actor, a="1")
    both.data.create_branch(repo, "x", actor=actor)
    put(both, repo, actor, "x", b="x")
    wanted = put(both, repo, actor, "x", c="x")
    made = both.data.cherry_pick(repo, wanted.id, actor=actor)
    assert content(both, repo) == {"a": b"1", "c": b"x"}
    assert made.message == wanted.message
    assert len(made.parents) == 1


def test_rows_are_taken_back_and_picked(both: Workspace, table: Repository, actor: Actor) -> None:
    first = both.data.append(table, rows(a="1"), actor=actor)
    bad = both.data.append(table, rows(a="bad", b="bad"), actor=actor)
    both.data.append(table, rows(c="1"), actor=actor)
    both.data.revert(table, bad.id, actor=actor)
    assert held(both, table) == {"a": "1", "c": "1"}
    with pytest.raises(Invalid, match="first commit"):
        both.data.revert(table, first.id, actor=actor)
    both.data.create_branch(table, "x", at=first.id, actor=actor)
    both.data.cherry_pick(table, bad.id, branch="x", actor=actor)
    assert held(both, table, "x") == {"a": "bad", "b": "bad"}


def test_reset_moves_a_branch_and_it_can_be_moved_back(both: Workspace, table: Repository, actor: Actor) -> None:
    first = both.data.append(table, rows(a="1"), actor=actor)
    second = both.data.append(table, rows(b="2"), actor=actor)
    both.data.reset(table, first.id, actor=actor)
    assert held(both, table) == {"a": "1"}
    with pytest.raises(HeadMoved):
        both.data.reset(table, second.id, actor=actor, expected=second.id)
    both.data.reset(table, second.id, actor=actor, expected=first.id)
    assert held(both, table) == {"a": "1", "b": "2"}
    assert both.assets.asset(both.project.id, "t").current_id == second.version_id


# ---- squash, drop, prune


def test_squash_makes_one_commit_of_many(both: Workspace, table: Repository, actor: Actor) -> None:
    first = both.data.append(table, rows(a="1"), actor=actor)
    middle = both.data.append(table, rows(b="1"), actor=actor)
    both.data.append(table, rows(b="2", c="1"), actor=actor)
    made = both.data.squash(table, first.id, actor=actor, message="both")
    assert made.parents == (first.id,)
    assert made.stats["added"] == 2
    assert held(both, table) == {"a": "1", "b": "2", "c": "1"}
    assert [c.message for c in both.data.log(table)] == ["both", ""]
    with pytest.raises(BranchNotFound):
        both.data.resolve(table, middle.id)
    both.data.append(table, rows(d="1"), actor=actor)
    assert both.verify(data=True) == []
    with pytest.raises(Invalid, match="is not a commit before"):
        both.data.squash(table, "main", actor=actor)


def test_squash_keeps_what_a_tag_names(both: Workspace, repo: Repository, actor: Actor) -> None:
    first = put(both, repo, actor, a="1")
    middle = put(both, repo, actor, a="2")
    both.data.tag(repo, "kept", actor=actor)
    put(both, repo, actor, a="3")
    both.data.squash(repo, first.id, actor=actor)
    assert both.data.resolve(repo, "kept").id == middle.id
    assert content(both, repo, "kept") == {"a": b"2"}


def test_drop_takes_the_newest_commit_away_for_good(both: Workspace, repo: Repository, actor: Actor) -> None:
    first = put(both, repo, actor, a="1")
    second = put(both, repo, actor, a="secret")
    assert both.data.drop(repo, actor=actor).id == first.id
    with pytest.raises(BranchNotFound):
        both.data.resolve(repo, second.id)
    again = put(both, repo, actor, a="secret")  # the same content, committed again, is there again
    assert content(both, repo) == {"a": b"secret"}
    both.data.tag(repo, "v1", actor=actor)
    with pytest.raises(CommitInUse, match="held by a tag"):
        both.data.drop(repo, actor=actor)
    assert both.data.head(repo).id == again.id
    with pytest.raises(Invalid, match="no commit before"):
        both.data.drop(repo, actor=actor, count=2)


@pytest.mark.parametrize(
    ("verb", "moment", "expects"),
    [
        ("drop", "admit", False),
        ("drop", "admit", True),
        ("reset", "admit", False),
        ("reset", "admit", True),
        ("squash", "_rewrite", False),
    ],
)
def test_what_takes_commits_away_takes_none_that_came_after_the_look(
    both: Workspace, repo: Repository, actor: Actor, verb: str, moment: str, expects: bool
) -> None:
    """Another writer is faster than a drop, a reset or a squash: his commit stays, and the verb says so."""
    first = put(both, repo, actor, a="1")
    put(both, repo, actor, a="2")
    shown = put(both, repo, actor, a="3")
    theirs: list[CommitId] = []
    original = getattr(both.data, moment)

    def late(*args: Any, **how: Any) -> Any:
        if not theirs:
            theirs.append(put(both, repo, actor, b="precious").id)
        return original(*args, **how)

    setattr(both.data, moment, late)
    arguments = () if verb == "drop" else (first.id,)
    how = {"actor": actor, **({"expected": shown.id} if expects else {})}
    with pytest.raises(HeadMoved, match=f"stands at .*, not at {shown.id[:12]}") as moved:
        getattr(both.data, verb)(repo, *arguments, **how)
    assert "noria data log f --ref main" in moved.value.hint
    assert both.data.head(repo).id == theirs[0]
    assert content(both, repo) == {"a": b"3", "b": b"precious"}
    assert len(both.data.log(repo)) == 4
    how = {"actor": actor, **({"expected": theirs[0]} if expects else {})}
    getattr(both.data, verb)(repo, *arguments, **how)  # asked again, with all in sight


def test_a_verb_that_loses_to_its_own_repetition_gets_its_answer(
    both: Workspace, repo: Repository, actor: Actor
) -> None:
    put(both, repo, actor, a="1")
    put(both, repo, actor, a="2")
    put(both, repo, actor, a="3")
    once, original, answers = Once("drop-1", {"count": 1}), both.data.admit, list[CommitId]()

    def late(*args: Any, **how: Any) -> Any:
        original(*args, **how)
        if not answers:
            both.data.admit = original
            answers.append(both.data.drop(repo, actor=actor, once=once).id)
            raise LostRaceError

    both.data.admit = late
    assert both.data.drop(repo, actor=actor, once=once).id == answers[0]
    assert both.data.head(repo).id == answers[0]
    assert len(both.data.log(repo)) == 2


def test_what_nothing_leads_to_is_found_by_id_until_it_is_pruned(
    both: Workspace, repo: Repository, actor: Actor
) -> None:
    put(both, repo, actor, a="1")
    both.data.create_branch(repo, "x", actor=actor)
    lost = put(both, repo, actor, "x", a="2")
    both.data.delete_branch(repo, "x", actor=actor)
    assert content(both, repo, lost.id) == {"a": b"2"}
    assert both.data.prune(repo, actor=actor) == [lost.id]
    with pytest.raises(BranchNotFound):
        both.data.resolve(repo, lost.id)


# ---- tags, names, who touched what


def test_tags_do_not_move(both: Workspace, repo: Repository, actor: Actor) -> None:
    first = put(both, repo, actor, a="1")
    both.data.tag(repo, "v1", actor=actor)
    put(both, repo, actor, a="2")
    assert both.data.tags(repo) == {"v1": first.id}
    assert content(both, repo, "v1") == {"a": b"1"}
    with pytest.raises(TagExists, match="Tags do not move"):
        both.data.tag(repo, "v1", actor=actor)
    with pytest.raises(TagExists, match="branch"):
        both.data.tag(repo, "main", actor=actor)
    both.data.delete_tag(repo, "v1", actor=actor)
    with pytest.raises(BranchNotFound, match="no tag"):
        both.data.delete_tag(repo, "v1", actor=actor)
    with pytest.raises(Invalid):
        both.data.delete_branch(repo, "main", actor=actor)


def test_as_of_a_time_is_what_a_branch_held_then(
    workspace: Workspace, files: Repository, actor: Actor, clock: ManualClock
) -> None:
    from noria.base.times import to_text

    first = put(workspace, files, actor, a="1")
    workspace.data.create_branch(files, "x", actor=actor)
    clock.tick(60_000)
    other = put(workspace, files, actor, "x", a="x")
    clock.tick(60_000)
    last = put(workspace, files, actor, a="2")
    between = to_text(other.at + 1)
    assert workspace.data.resolve(files, f"@{between}").id == first.id
    assert workspace.data.resolve(files, f"x@{between}").id == other.id
    assert workspace.data.resolve(files, f"@{to_text(last.at)}").id == last.id
    with pytest.raises(BranchNotFound):
        workspace.data.resolve(files, "@2001-01-01")


def test_the_history_comes_in_pages(both: Workspace, repo: Repository, actor: Actor) -> None:
    made = [put(both, repo, actor, a=str(n)).id for n in range(5)]
    found, after = [], None
    while True:
        page = both.data.log_page(repo, limit=2, after=after)
        found += [c.id for c in page.items]
        after = page.next
        if after is None:
            break
    assert found == made[::-1]


def test_a_gap_in_the_history_is_named(both: Workspace, repo: Repository, actor: Actor) -> None:
    made = [put(both, repo, actor, a=f"{n}") for n in range(4)]
    with both.db.write() as tx:
        queries.delete_commits(tx.conn, [made[1].id])
    wanted = f"{made[2].id[:12]} of f stands on {made[1].id[:12]}, which is not there"
    for look in (lambda: both.data.log(repo), lambda: both.data.resolve(repo, "main~2")):
        with pytest.raises(CommitGone, match=wanted) as gone:
            look()
        assert gone.value.details["commit"] == made[1].id
    assert both.data.resolve(repo, "main~1").id == made[2].id


def test_names_are_those_of_the_commits_asked_for(both: Workspace, repo: Repository, actor: Actor) -> None:
    """In one pass over what is asked for, whatever the number of tags."""
    first, second, third = (put(both, repo, actor, a=f"{n}") for n in range(3))
    other = both.data.create(both.project.id, "other", RepositoryKind.FILES, actor=actor)
    put(both, other, actor, a="0")
    both.data.create_branch(repo, "z", at=first.id, actor=actor)
    both.data.create_branch(repo, "y", at=first.id, actor=actor)
    for tag in ("v2", "v1"):
        both.data.tag(repo, tag, at=first.id, actor=actor)
    both.data.tag(repo, "elsewhere", at=third.id, actor=actor)
    found = both.data.names(repo, [second, first])
    assert found == {first.id: Names(("y", "z"), ("v1", "v2"))}
    assert both.data.names(repo, [third]) == {third.id: Names(("main",), ("elsewhere",))}
    assert both.data.names(other, [third, first]) == {}
    many = [SimpleNamespace(id=f"{n:064x}") for n in range(1200)]
    assert both.data.names(repo, [*many, third]).keys() == {third.id}


def test_who_touched_a_path(workspace: Workspace, files: Repository, actor: Actor) -> None:
    first = put(workspace, files, actor, **{"a": "1", "d/x": "1"})
    put(workspace, files, actor, b="1")
    third = put(workspace, files, actor, **{"d/x": "2", "d/y": "1"})
    assert [t.commit.id for t in workspace.data.touched(files, "a").items] == [first.id]
    page = workspace.data.touched(files, "d/*", limit=1)
    assert [(t.commit.id, [c.path for c in t.changes]) for t in page.items] == [(third.id, ["d/x", "d/y"])]
    rest = workspace.data.touched(files, "d/*", limit=1, after=page.next)
    assert [t.commit.id for t in rest.items] == [first.id]


# ---- open commits


def test_many_writers_one_commit(both: Workspace, repo: Repository, actor: Actor) -> None:
    put(both, repo, actor, a="1")
    draft = both.data.start(repo, actor=actor, message="the day")
    both.data.edit(repo, draft.id, [Put("x", "1")], actor=actor)
    both.data.edit(repo, draft.id[:8], [Put("y", "2"), Append("x", "+")], actor=Actor(name="user:bob"))
    assert content(both, repo) == {"a": b"1"}
    assert [d.number for d in both.data.drafts(repo)] == [2]
    put(both, repo, actor, a="meanwhile")
    done = both.data.finish(repo, draft.id, actor=actor)
    assert done.message == "the day"
    assert content(both, repo) == {"a": b"meanwhile", "x": b"1+", "y": b"2"}
    assert both.data.finish(repo, draft.id, actor=actor).id == done.id
    with pytest.raises(DraftClosed, match="finished"):
        both.data.edit(repo, draft.id, [Put("z", "")], actor=actor)
    assert both.data.drafts(repo) == []


def test_an_open_commit_that_does_not_fit_any_more_says_where(both: Workspace, repo: Repository, actor: Actor) -> None:
    put(both, repo, actor, a="1")
    draft = both.data.start(repo, actor=actor)
    both.data.edit(repo, draft.id, [Put("a", "mine")], actor=actor)
    put(both, repo, actor, a="theirs")
    with pytest.raises(MergeConflict, match="changed a"):
        both.data.finish(repo, draft.id, actor=actor)
    both.data.drop_draft(repo, draft.id, actor=actor)
    with pytest.raises(DraftClosed, match="dropped"):
        both.data.finish(repo, draft.id, actor=actor)
    with pytest.raises(DraftNotFound):
        both.data.finish(repo, "0" * 32, actor=actor)


def test_the_first_commit_may_be_an_open_one(both: Workspace, repo: Repository, actor: Actor) -> None:
    draft = both.data.start(repo, actor=actor)
    with pytest.raises(Invalid, match="empty"):
        both.data.finish(repo, draft.id, actor=actor)
    both.data.edit(repo, draft.id, [Put("a", "1")], actor=actor)
    both.data.finish(repo, draft.id, actor=actor)
    assert content(both, repo) == {"a": b"1"}


# ---- what nearly took work back


def test_what_is_moved_onto_itself_stays(workspace: Workspace, files: Repository, actor: Actor) -> None:
    put(workspace, files, actor, **{"a": "1", "d/x": "2", "d/d/x": "3"})
    workspace.data.change(files, [Move("a", "a"), Move("d", "d")], actor=actor)
    assert content(workspace, files) == {"a": b"1", "d/x": b"2", "d/d/x": b"3"}
    for path, to in (("d", "d/e"), ("d/d", "d")):
        with pytest.raises(Invalid, match="lie in each other"):
            workspace.data.change(files, [Move(path, to)], actor=actor)


def test_nothing_is_overwritten_by_a_new_name(workspace: Workspace, files: Repository, actor: Actor) -> None:
    first = put(workspace, files, actor, **{"a": "1", "b": "2", "d/x": "1", "d/y": "3", "e/x": "1", "e/y": "4"})
    refused: list[list[Any]] = [
        [Put("b", "1"), Move("a", "b")],
        [Move("a", "b")],
        [Copy("a", "b")],
        [Copy("d", "e")],
        [Delete("e/x"), Move("d", "e")],
    ]
    for edits in refused:
        with pytest.raises(PathExists, match=r"'(b|e/y)' is there already") as caught:
            workspace.data.change(files, edits, actor=actor)
        assert "--force" in caught.value.hint
    draft = workspace.data.start(files, actor=actor)
    with pytest.raises(PathExists):
        workspace.data.edit(files, draft.id, [Put("c", "1"), Move("c", "b")], actor=actor)
    assert workspace.data.head(files) == first
    workspace.data.change(files, [Copy("a", "d/x"), Delete("b"), Move("a", "b")], actor=actor)
    workspace.data.change(files, [Copy("d", "e", overwrite=True), Move("e/y", "b", overwrite=True)], actor=actor)
    assert content(workspace, files) == {"b": b"3", "d/x": b"1", "d/y": b"3", "e/x": b"1"}
    with pytest.raises(PathExists):
        workspace.data.change(files, [Copy("b", "b", ref=first.id)], actor=actor)
    workspace.data.change(files, [Copy("b", "b", ref=first.id, overwrite=True)], actor=actor)
    assert content(workspace, files)["b"] == b"2"


def test_a_name_with_brackets_is_a_name_first(workspace: Workspace, files: Repository, actor: Actor) -> None:
    put(workspace, files, actor, **{"img[1].jpg": "1", "img1.jpg": "2"})
    workspace.data.change(files, [Delete("img[1].jpg")], actor=actor)
    assert set(content(workspace, files)) == {"img1.jpg"}


def test_paths_of_a_folder_take_nothing_of_others_back(
    workspace: Workspace, files: Repository, actor: Actor, tmp_path: Path
) -> None:
    put(workspace, files, actor, a="1", b="1")
    for name in ("mine", "theirs"):
        workspace.data.checkout(files, tmp_path / name)
    (tmp_path / "theirs" / "b").write_text("theirs")
    workspace.data.commit(files, tmp_path / "theirs", actor=actor)
    workspace.data.commit(files, tmp_path / "mine", actor=actor, paths=["b"])
    assert content(workspace, files) == {"a": b"1", "b": b"theirs"}
    (tmp_path / "mine" / "b").write_text("mine")
    with pytest.raises(MergeConflict, match="changed b"):
        workspace.data.commit(files, tmp_path / "mine", actor=actor, paths=["b"])
    (tmp_path / "mine" / "a").write_text("mine")
    workspace.data.commit(files, tmp_path / "mine", actor=actor, paths=["a"])
    assert content(workspace, files) == {"a": b"mine", "b": b"theirs"}


def test_a_folder_of_a_commit_that_is_gone_does_not_take_others_work_back(
    workspace: Workspace, files: Repository, actor: Actor, tmp_path: Path
) -> None:
    put(workspace, files, actor, a="1")
    put(workspace, files, actor, a="2")
    folder = tmp_path / "folder"
    workspace.data.checkout(files, folder)
    workspace.data.drop(files, actor=actor)
    put(workspace, files, actor, theirs="1")
    (folder / "b").write_text("mine")
    with pytest.raises(FolderAdrift):
        workspace.data.commit(files, folder, actor=actor)
    assert content(workspace, files) == {"a": b"1", "theirs": b"1"}
    assert workspace.data.status(files, folder).changes
    workspace.data.commit(files, folder, actor=actor, snapshot=True)
    assert content(workspace, files) == {"a": b"2", "b": b"mine"}


def test_what_a_reset_took_away_does_not_come_back_with_a_folder(
    workspace: Workspace, files: Repository, actor: Actor, tmp_path: Path
) -> None:
    ws, folder = workspace, tmp_path / "folder"
    put(ws, files, actor, a="1", b="1")
    ws.data.checkout(files, folder)
    (folder / "secret").write_text("x")
    second = ws.data.commit(files, folder, actor=actor)
    ws.data.reset(files, "main~1", actor=actor)
    (folder / "a").write_text("mine")
    assert ws.data.status(files, folder).left
    with pytest.raises(FolderLeft, match=f"moved away from {second.id[:12]}"):
        ws.data.commit(files, folder, actor=actor)
    with pytest.raises(FolderLeft):
        ws.data.commit(files, folder, actor=actor, paths=["a"])
    assert content(ws, files) == {"a": b"1", "b": b"1"}
    ws.data.create_branch(files, "kept", at=second.id, actor=actor)
    kept = ws.data.commit(files, folder, actor=actor, branch="kept")
    ws.data.cherry_pick(files, kept.id, actor=actor)
    assert content(ws, files) == {"a": b"mine", "b": b"1"}, "what was changed, and not what was taken away"
    ws.data.checkout(files, folder)
    (folder / "b").write_text("2")
    assert not ws.data.status(files, folder).left
    ws.data.commit(files, folder, actor=actor)
    ws.data.checkout(files, folder, second.id)  # no branch: what it holds is merged, as that of another branch is
    ws.data.commit(files, folder, actor=actor)
    assert content(ws, files) == {"a": b"mine", "b": b"2", "secret": b"x"}


def test_a_folder_of_another_branch_is_merged(
    workspace: Workspace, files: Repository, actor: Actor, tmp_path: Path
) -> None:
    put(workspace, files, actor, a="1")
    workspace.data.create_branch(files, "x", actor=actor)
    put(workspace, files, actor, "x", b="x")
    put(workspace, files, actor, c="main")
    workspace.data.checkout(files, tmp_path / "folder", "x")
    (tmp_path / "folder" / "a").write_text("mine")
    workspace.data.commit(files, tmp_path / "folder", actor=actor)
    assert content(workspace, files) == {"a": b"mine", "b": b"x", "c": b"main"}


def test_an_unknown_strategy_drops_nothing(both: Workspace, repo: Repository, actor: Actor) -> None:
    put(both, repo, actor, a="1")
    draft = both.data.start(repo, actor=actor)
    both.data.edit(repo, draft.id, [Put("a", "mine")], actor=actor)
    put(both, repo, actor, a="theirs")
    with pytest.raises(Invalid, match="strategy"):
        both.data.finish(repo, draft.id, actor=actor, strategy="thiers")
    with pytest.raises(Invalid, match="cannot be dropped"):
        both.data.drop(repo, actor=actor, count=-5)
    assert both.data.draft(repo, draft.id).state == "open"


def test_the_first_commit_of_two_writers_is_a_race_too(both: Workspace, repo: Repository, actor: Actor) -> None:
    interfere(both, repo, lambda: put(both, repo, actor, a="theirs"))
    with pytest.raises(MergeConflict, match="changed a"):
        both.data.change(repo, [Put("a", "mine")], actor=actor)
    assert content(both, repo) == {"a": b"theirs"}
