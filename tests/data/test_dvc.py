"""A DVC repository comes over with its history. Built here by its format: git, .dvc files and a cache by MD5."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import noria as nr
from noria.base.errors import Invalid, MissingExtra
from noria.base.faults import CountPoints, CrashAt
from noria.base.ids import CommitId
from noria.cli.main import run as cli
from noria.data.edits import Put
from noria.data.errors import CommitInUse, ContentLost, HookRefused, MoveBreaksContract, SourceFailed
from noria.data.hooks import HookChange
from noria.data.records import Repository, RepositoryKind
from noria.data.service import rewriting
from noria.data.service.transfer import sending
from noria.data.service.transfer.dvc import DvcImport, importing
from noria.testing import ManualClock
from noria.workspace import Workspace, connect, init

GIT_IDENTITY = {"GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.org", "GIT_CONFIG_GLOBAL": os.devnull}
GIT_IDENTITY |= {"GIT_COMMITTER_NAME": "Ada", "GIT_COMMITTER_EMAIL": "ada@example.org", "GIT_CONFIG_SYSTEM": os.devnull}


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


class Dvc:
    """Writes what DVC would write."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cache = folder / ".dvc" / "cache" / "files" / "md5"
        self._day = 0
        folder.mkdir()
        self.git("init", "-q", "-b", "master")
        (folder / ".dvc").mkdir()
        (folder / ".dvc" / "config").write_text("[core]\n    remote = store\n")
        (folder / ".gitignore").write_text(".dvc/cache\n")

    def git(self, *arguments: str) -> str:
        self._day += 1
        when = f"2021-03-{self._day % 28 + 1:02}T10:00:00+02:00"
        env = {**os.environ, **GIT_IDENTITY, "GIT_AUTHOR_DATE": when, "GIT_COMMITTER_DATE": when}
        command = ["git", "-C", str(self.folder), *arguments]
        return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout.strip()

    def blob(self, data: bytes, end: str = "", *, place: Path | None = None, name: str | None = None) -> str:
        name = (name or md5(data)) + end
        path = (place or self.cache) / name[:2] / name[2:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return name

    def add_file(self, path: str, data: bytes, **more: Any) -> None:
        self.write(path, [{"md5": self.blob(data), "size": len(data), "hash": "md5", **more}])

    def add_folder(self, path: str, contents: dict[str, bytes], *, store: bool = True) -> str:
        rows = []
        for name, data in contents.items():
            rows.append({"md5": self.blob(data) if store else md5(data), "relpath": name})
        listing = json.dumps(sorted(rows, key=lambda row: row["relpath"])).encode()
        name = self.blob(listing, ".dir")
        self.write(path, [{"md5": name, "size": 1, "nfiles": len(rows), "hash": "md5"}])
        return name

    def write(self, path: str, outs: list[dict[str, Any]]) -> None:
        name = path.rpartition("/")[2]
        lines = ["outs:"]
        for out in outs:
            about = [
                f"{key}: {json.dumps(value) if not isinstance(value, str) else value}" for key, value in out.items()
            ]
            lines += ["- " + about[0], *("  " + line for line in [*about[1:], f"path: {name}"])]
        file = self.folder / f"{path}.dvc"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(lines) + "\n")

    def commit(self, message: str) -> str:
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def dvc(tmp_path: Path) -> Dvc:
    return Dvc(tmp_path / "dvc")


def found(ws: Workspace, name: str) -> Repository:
    return ws.data.get(ws.project.id, name)


def contents(ws: Workspace, name: str, ref: str = "main") -> dict[str, bytes]:
    repo = found(ws, name)
    return {e.path: ws.data.read_file(repo, e.path, ref) for e in ws.data.files(repo, ref)}


def big(number: int) -> bytes:
    return bytes((n * number + n // 251) % 256 for n in range(200_000))


def test_the_history_of_a_folder_and_of_a_file(workspace: Workspace, dvc: Dvc) -> None:
    dvc.add_folder("data/images", {"a.png": b"a" * 100, "sub/b.png": b"b" * 100_000, "tiny": b"t"})
    dvc.add_file("model.pkl", big(3))
    one = dvc.commit("first images\n\nand a model")
    (dvc.folder / "train.py").write_text("pass")
    dvc.commit("code only")
    dvc.add_folder("data/images", {"a.png": b"A" * 100, "sub/b.png": b"b" * 100_000, "c.png": b"c" * 70})
    three = dvc.commit("more images")
    done = workspace.transfer.import_dvc(dvc.folder, actor=workspace.actor)
    assert [(r.name, r.path, r.commits) for r in done.repositories] == [
        ("data.images", "data/images", 2),
        ("model.pkl", "model.pkl", 1),
    ]
    assert (done.seen, done.lost, done.left) == (3, (), ())
    assert done.files == 6  # each content once
    images = found(workspace, "data.images")
    last, first = workspace.data.log(images)
    assert (last.message, first.message) == ("more images", "first images\n\nand a model")
    assert (last.meta["git"]["commit"], first.meta["git"]["commit"]) == (three, one)
    assert first.author == "Ada <ada@example.org>"
    assert first.meta["git"]["date"].startswith("2021-03-")
    assert 1_614_556_800_000 < first.event_ms < 1_617_235_200_000  # of March 2021, as git has it
    assert first.at == workspace.clock.now_ms()
    assert contents(workspace, "data.images", "main~1") == {
        "a.png": b"a" * 100,
        "sub/b.png": b"b" * 100_000,
        "tiny": b"t",
    }
    assert contents(workspace, "data.images") == {"a.png": b"A" * 100, "sub/b.png": b"b" * 100_000, "c.png": b"c" * 70}
    assert (last.stats["added"], last.stats["updated"], last.stats["deleted"]) == (1, 1, 1)
    assert contents(workspace, "model.pkl") == {"model.pkl": big(3)}
    assert workspace.verify(data=True) == []
    run = workspace.assets.run(last.run_id)
    assert (run.kind, run.trigger) == ("collection", f"dvc {dvc.folder}")


def test_a_second_import_takes_what_is_new(workspace: Workspace, dvc: Dvc) -> None:
    dvc.add_folder("images", {f"{n}": b"%d" % n * 50 for n in range(300)})
    dvc.commit("one")
    workspace.transfer.import_dvc(dvc.folder, "pictures", actor=workspace.actor)
    head = workspace.data.head(found(workspace, "pictures"))
    again = workspace.transfer.import_dvc(dvc.folder, "pictures", actor=workspace.actor)
    assert (again.files, again.written, again.repositories[0].commits) == (0, 0, 0)
    assert workspace.data.head(found(workspace, "pictures")) == head
    dvc.add_folder("images", {f"{n}": b"%d" % n * 50 for n in range(301)})
    dvc.commit("two")
    third = workspace.transfer.import_dvc(dvc.folder, "pictures", actor=workspace.actor)
    assert (third.files, third.repositories[0].commits) == (1, 1)
    assert [c.message for c in workspace.data.log(found(workspace, "pictures"))] == ["two", "one"]
    # Somebody commits here: the branch is left alone, and what is imported is there all the same.
    workspace.data.commit(found(workspace, "pictures"), dvc.folder / ".dvc" / "cache", actor=workspace.actor)
    mine = workspace.data.head(found(workspace, "pictures"))
    dvc.add_folder("images", {"0": b"0"})
    dvc.commit("three")
    fourth = workspace.transfer.import_dvc(dvc.folder, "pictures", actor=workspace.actor)
    assert fourth.repositories[0].kept == ("main",)
    assert workspace.data.head(found(workspace, "pictures")) == mine


def test_branches_merges_and_tags(workspace: Workspace, dvc: Dvc) -> None:
    dvc.add_file("a.csv", b"base" * 30)
    dvc.commit("base")
    dvc.git("tag", "v1")
    dvc.git("checkout", "-q", "-b", "exp/b")
    dvc.add_file("b.csv", b"experiment" * 30)
    dvc.commit("b")
    dvc.git("checkout", "-q", "master")
    dvc.add_file("a.csv", b"onward" * 30)
    dvc.commit("a")
    dvc.git("tag", "-a", "v2", "-m", "annotated")
    dvc.git("merge", "-q", "--no-ff", "-m", "merged", "exp/b")
    done = workspace.transfer.import_dvc(dvc.folder, "project", actor=workspace.actor, single=True, everything=True)
    repo = found(workspace, "project")
    assert done.repositories[0].commits == 4
    assert {b.name for b in workspace.data.branches(repo)} == {"main", "exp/b"}
    head = workspace.data.head(repo)
    assert (head.message, len(head.parents), head.generation) == ("merged", 2, 3)
    assert contents(workspace, "project") == {"a.csv": b"onward" * 30, "b.csv": b"experiment" * 30}
    assert contents(workspace, "project", "exp/b") == {"a.csv": b"base" * 30, "b.csv": b"experiment" * 30}
    assert workspace.data.resolve(repo, "v1").message == "base"
    assert workspace.data.resolve(repo, "v2").message == "a"
    # One repository for each output: of a merge that changed nothing for it, there is no commit.
    each = workspace.transfer.import_dvc(dvc.folder, actor=workspace.actor, everything=True)
    assert [(r.name, r.commits) for r in each.repositories] == [("a.csv", 2), ("b.csv", 1)]
    assert workspace.data.log(found(workspace, "a.csv"))[0].message == "a"
    only = workspace.transfer.import_dvc(
        dvc.folder, "just", actor=workspace.actor, branches=["exp/b"], targets=["b.csv.dvc"]
    )
    assert only.repositories[0].branches.keys() == {"exp/b"}
    with pytest.raises(Invalid, match="no branch 'nope'"):
        workspace.transfer.import_dvc(dvc.folder, actor=workspace.actor, branches=["nope"])


def test_stages_old_caches_remotes_and_texts_of_version_2(workspace: Workspace, dvc: Dvc, tmp_path: Path) -> None:
    """dvc.lock of both schemas with a wdir, the cache before version 3, a remote that is a folder, texts with CRLF."""
    old, far = dvc.folder / ".dvc" / "cache", tmp_path / "far"
    with (dvc.folder / ".dvc" / "config.local").open("w") as config:
        config.write("['remote \"store\"']\n    url = ../../far\n['remote \"cloud\"']\n    url = s3://bucket/x\n")
    text = b"a,b\r\n1,2\r\n" * 40_000
    plain = text.replace(b"\r\n", b"\n")
    name = dvc.blob(text, place=old, name=md5(plain))
    features = dvc.blob(b"features" * 20, place=far / "files" / "md5")
    lock = f"schema: '2.0'\nstages:\n  prepare@us:\n    cmd: x\n    outs:\n    - path: out.csv\n      md5: {name}\n"
    lock += f"  train:\n    cmd: y\n    outs:\n    - path: features\n      hash: md5\n      md5: {features}\n"
    lock += "    - path: metrics.json\n      md5: 0123456789abcdef0123456789abcdef\n"
    (dvc.folder / "p").mkdir()
    (dvc.folder / "p" / "dvc.lock").write_text(lock)
    stages = (
        "stages:\n  prepare:\n    foreach: [us]\n    do:\n      wdir: ../data\n      cmd: x\n  train:\n    cmd: y\n"
    )
    (dvc.folder / "p" / "dvc.yaml").write_text(stages)
    (dvc.folder / "p" / "metrics.json").write_text("{}")
    dvc.commit("pipeline")
    done = workspace.transfer.import_dvc(dvc.folder, "all", actor=workspace.actor, single=True)
    assert contents(workspace, "all") == {"data/out.csv": text, "p/features": b"features" * 20}
    assert [(one.path, one.why) for one in done.left] == [("p/metrics.json", "it is kept by git, not by DVC's cache")]


def test_what_is_missing_is_said_with_path_and_commit(workspace: Workspace, dvc: Dvc) -> None:
    dvc.add_folder("images", {"a": b"a" * 99, "b": b"b" * 99})
    first = dvc.commit("whole")
    dvc.add_folder("images", {"a": b"a" * 99, "b": b"b" * 99, "c": b"c" * 99}, store=False)
    second = dvc.commit("one lacks")
    (dvc.cache / md5(b"b" * 99)[:2] / md5(b"b" * 99)[2:]).write_bytes(b"damaged")
    with pytest.raises(ContentLost) as lost:
        workspace.transfer.import_dvc(dvc.folder, actor=workspace.actor)
    assert lost.value.details["lost"] == [
        {"path": "images/c", "commit": second, "why": f"is missing (MD5 {md5(b'c' * 99)})"}
    ]
    assert workspace.data.find(workspace.project.id, "images") is None  # nothing was imported
    done = workspace.transfer.import_dvc(dvc.folder, actor=workspace.actor, skip_missing=True)
    assert {(one.path, one.commit) for one in done.lost} == {("b", first), ("c", second)}
    assert contents(workspace, "images") == {"a": b"a" * 99}
    assert len(workspace.data.log(found(workspace, "images"))) == 2


@pytest.mark.parametrize("single", [False, True])
def test_what_was_missing_is_added_when_it_is_there(workspace: Workspace, dvc: Dvc, single: bool) -> None:
    at = "images/" if single else ""
    dvc.add_folder("images", {"a": b"a" * 99, "b": b"b" * 99}, store=False)
    dvc.commit("one")
    dvc.blob(b"a" * 99)
    how: dict[str, Any] = {"actor": workspace.actor, "single": single}
    workspace.transfer.import_dvc(dvc.folder, "images", skip_missing=True, **how)
    assert contents(workspace, "images") == {f"{at}a": b"a" * 99}
    first = workspace.data.head(found(workspace, "images"))
    still = workspace.transfer.import_dvc(dvc.folder, "images", skip_missing=True, **how)
    assert (still.repositories[0].commits, workspace.data.head(found(workspace, "images"))) == (0, first)
    dvc.blob(b"b" * 99)
    done = workspace.transfer.import_dvc(dvc.folder, "images", **how)
    assert (done.repositories[0].commits, done.lost) == (1, ())
    whole = {f"{at}a": b"a" * 99, f"{at}b": b"b" * 99}
    assert contents(workspace, "images") == whole
    head = workspace.data.head(found(workspace, "images"))
    assert head.parents == (first.id,)
    assert workspace.transfer.import_dvc(dvc.folder, "images", **how).repositories[0].commits == 0
    dvc.add_folder("images", {"a": b"a" * 99, "b": b"b" * 99, "c": b"c" * 99})
    dvc.commit("two")
    workspace.transfer.import_dvc(dvc.folder, "images", **how)
    assert contents(workspace, "images") == {**whole, f"{at}c": b"c" * 99}
    assert workspace.data.head(found(workspace, "images")).parents == (head.id,)


def test_a_list_of_files_that_was_missing_is_added_when_it_is_there(workspace: Workspace, dvc: Dvc) -> None:
    listing = dvc.add_folder("images", {"a": b"a" * 99})
    dvc.commit("one")
    path = dvc.cache / listing[:2] / listing[2:]
    data = path.read_bytes()
    path.unlink()
    workspace.transfer.import_dvc(dvc.folder, actor=workspace.actor, skip_missing=True)
    assert contents(workspace, "images") == {}
    path.write_bytes(data)
    dvc.add_file("images2", b"other")
    dvc.commit("two, of something else")
    workspace.transfer.import_dvc(dvc.folder, actor=workspace.actor)
    assert contents(workspace, "images") == {"a": b"a" * 99}


def test_other_outputs_than_the_first_time_are_refused(workspace: Workspace, dvc: Dvc) -> None:
    dvc.add_folder("images", {"a": b"a" * 99})
    dvc.add_file("table.csv", b"id\n1\n")
    dvc.commit("both")
    how: dict[str, Any] = {"actor": workspace.actor}
    workspace.transfer.import_dvc(dvc.folder, "shop", single=True, targets=["images"], **how)
    head = workspace.data.head(found(workspace, "shop"))
    for other in ({"single": True}, {"targets": ["images"]}, {"targets": ["table.csv"]}):
        with pytest.raises(Invalid, match="other outputs") as refused:
            workspace.transfer.import_dvc(dvc.folder, "shop", **other, **how)
        assert "another NAME" in refused.value.hint
    assert workspace.data.head(found(workspace, "shop")) == head
    workspace.transfer.import_dvc(dvc.folder, "all", single=True, **how)
    assert sorted(contents(workspace, "all")) == ["images/a", "table.csv"]
    # A new output of DVC is no other choice.
    dvc.add_file("new", b"new")
    dvc.commit("one more")
    workspace.transfer.import_dvc(dvc.folder, "all", single=True, **how)
    assert sorted(contents(workspace, "all")) == ["images/a", "new", "table.csv"]


def test_a_commit_with_metadata_of_the_same_name_is_none_of_git_s(workspace: Workspace, dvc: Dvc) -> None:
    dvc.add_folder("images", {"a": b"a" * 99})
    dvc.commit("one")
    workspace.transfer.import_dvc(dvc.folder, actor=workspace.actor)
    for number, git in enumerate(["abc", {"commit": 1}, None]):
        meta = {"git": git}
        workspace.data.change(found(workspace, "images"), [Put("x", str(number))], actor=workspace.actor, meta=meta)
    assert workspace.transfer.import_dvc(dvc.folder, actor=workspace.actor).repositories[0].commits == 0


def test_what_comes_has_to_keep_the_contract(both: Workspace, dvc: Dvc) -> None:
    dvc.add_folder("pics", {"a.jpg": b"a" * 99})
    dvc.commit("a picture")
    how: dict[str, Any] = {"actor": both.actor, "everything": True}
    first = both.transfer.import_dvc(dvc.folder, "pics", **how).repositories[0].branches["main"]
    both.data.set_contract(found(both, "pics"), {"files": {"allowed": ["*.jpg"]}}, actor=both.actor)
    dvc.git("checkout", "-q", "-b", "work")
    dvc.add_folder("pics", {"a.jpg": b"a" * 99, "b.jpg": b"b" * 99, "notes.txt": b"n" * 99})
    dvc.commit("notes beside them")
    dvc.git("checkout", "-q", "master")
    done = both.transfer.import_dvc(dvc.folder, "pics", **how)  # a new branch may hold it, as one that is made here
    assert done.repositories[0].branches.keys() == {"main", "work"}
    dvc.git("merge", "-q", "work")
    with pytest.raises(MoveBreaksContract, match="What comes to pics@main does not keep contract 1: ") as refused:
        both.transfer.import_dvc(dvc.folder, "pics", **how)
    assert "notes.txt" in refused.value.message
    assert "--at" in refused.value.hint
    assert "import again" in refused.value.hint
    assert both.data.head(found(both, "pics")).id == first
    both.data.set_contract(found(both, "pics"), {"files": {"allowed": ["*.jpg", "*.txt"]}}, actor=both.actor)
    done = both.transfer.import_dvc(dvc.folder, "pics", **how)
    assert contents(both, "pics").keys() == {"a.jpg", "b.jpg", "notes.txt"}


def test_the_first_import_into_a_repository_with_a_contract_is_checked(workspace: Workspace, dvc: Dvc) -> None:
    made = workspace.data.create(workspace.project.id, "pics", RepositoryKind.FILES, actor=workspace.actor)
    workspace.data.set_contract(made, {"files": {"allowed": ["*.jpg"]}}, actor=workspace.actor)
    dvc.add_folder("pics", {"notes.txt": b"n" * 99})
    dvc.commit("notes")
    with pytest.raises(MoveBreaksContract):
        workspace.transfer.import_dvc(dvc.folder, "pics", actor=workspace.actor)
    assert workspace.data.head(found(workspace, "pics")) is None


def test_hooks_are_asked_before_a_branch_moves(workspace: Workspace, dvc: Dvc) -> None:
    asked: list[tuple[str, str, str, list[str]]] = []

    def look(change: HookChange) -> None:
        asked.append((change.event, change.branch, change.message, [path.path for path in change.paths]))
        if any(path.path == "secret" for path in change.paths):
            nr.refuse("no secrets")

    workspace.data.hooks.add("before-merge", look)
    dvc.add_folder("pics", {"a": b"a" * 99})
    dvc.commit("one")
    workspace.transfer.import_dvc(dvc.folder, actor=workspace.actor)
    head = workspace.data.head(found(workspace, "pics"))
    dvc.add_folder("pics", {"a": b"a" * 99, "secret": b"s" * 99})
    dvc.commit("two")
    with pytest.raises(HookRefused, match="refused the merge to pics@main: no secrets"):
        workspace.transfer.import_dvc(dvc.folder, actor=workspace.actor)
    assert workspace.data.head(found(workspace, "pics")) == head
    assert asked == [("before-merge", "main", "one", ["a"]), ("before-merge", "main", "two", ["secret"])]


def test_a_contract_that_is_set_during_the_import_counts(
    workspace: Workspace, dvc: Dvc, monkeypatch: pytest.MonkeyPatch
) -> None:
    dvc.add_folder("pics", {"notes.txt": b"n" * 99})
    dvc.commit("one")
    original = DvcImport.admit

    def late(importing: DvcImport, *args: Any, **how: Any) -> None:
        original(importing, *args, **how)
        monkeypatch.setattr(DvcImport, "admit", original)
        spec = {"files": {"allowed": ["*.jpg"]}}
        workspace.data.set_contract(found(workspace, "pics"), spec, actor=workspace.actor)

    monkeypatch.setattr(DvcImport, "admit", late)
    with pytest.raises(MoveBreaksContract):
        workspace.transfer.import_dvc(dvc.folder, actor=workspace.actor)
    assert workspace.data.head(found(workspace, "pics")) is None


def test_a_branch_that_moves_during_the_import_is_left_alone(
    workspace: Workspace, dvc: Dvc, monkeypatch: pytest.MonkeyPatch
) -> None:
    dvc.add_folder("pics", {"a": b"a" * 99})
    dvc.commit("one")
    original = DvcImport.admit
    mine: list[str] = []

    def late(importing: DvcImport, *args: Any, **how: Any) -> None:
        original(importing, *args, **how)
        monkeypatch.setattr(DvcImport, "admit", original)
        put = workspace.data.change(found(workspace, "pics"), [Put("mine", "mine")], actor=workspace.actor)
        mine.append(put.id)

    monkeypatch.setattr(DvcImport, "admit", late)
    (done,) = workspace.transfer.import_dvc(dvc.folder, actor=workspace.actor).repositories
    assert (done.commits, done.kept) == (1, ("main",))
    assert workspace.data.head(found(workspace, "pics")).id == mine[0]


@pytest.mark.parametrize(
    ("dvc_file", "why"),
    [
        ("outs: [{md5: ../../../etc/passwd, path: x}]", "is not an MD5"),
        ("outs: [{md5: 0123456789abcdef0123456789abcdef, path: ../../x}]", "is refused"),
        ("outs: [{md5: 0123456789abcdef0123456789abcdef, path: /etc/x}]", "outside"),
        ("outs: [{etag: 1, path: s3://bucket/x}]", "outside"),
        ("outs: [{path: x, checksum: 12}]", "has no MD5"),
        ("<<<<<<< HEAD\nouts: [", "cannot be read"),
        ("[1, 2]", "no mapping"),
        ("outs: !!python/object/apply:os.system ['echo']", "has no path"),
    ],
)
def test_hostile_and_broken_files_are_left_out_and_said(
    workspace: Workspace, dvc: Dvc, dvc_file: str, why: str
) -> None:
    dvc.add_file("good", b"good" * 30)
    (dvc.folder / "bad.dvc").write_text(dvc_file)
    dvc.commit("both")
    done = workspace.transfer.import_dvc(dvc.folder, actor=workspace.actor)
    assert [r.name for r in done.repositories] == ["good"]
    (left,) = done.left
    assert left.path == "bad.dvc"
    assert why in left.why


def test_paths_that_leave_a_folder_are_refused(workspace: Workspace, dvc: Dvc) -> None:
    dvc.add_folder("images", {"../../x": b"x" * 99})
    dvc.commit("hostile")
    with pytest.raises(Invalid, match="is refused"):
        workspace.transfer.import_dvc(dvc.folder, actor=workspace.actor)


def test_what_is_no_dvc_repository_is_told(workspace: Workspace, tmp_path: Path, dvc: Dvc) -> None:
    with pytest.raises(SourceFailed, match="it has no folder"):
        workspace.transfer.import_dvc(tmp_path, actor=workspace.actor)
    with pytest.raises(SourceFailed, match="git"):
        workspace.transfer.import_dvc(dvc.folder, actor=workspace.actor)  # no commit yet
    dvc.commit("nothing tracked")
    with pytest.raises(Invalid, match="No output"):
        workspace.transfer.import_dvc(dvc.folder, actor=workspace.actor)


def test_an_import_that_is_killed_goes_on(
    tmp_path: Path, dvc: Dvc, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, in_a_child: Callable[..., int]
) -> None:
    monkeypatch.setattr(sending, "PACK_TARGET", 60_000)
    for number in range(3):
        dvc.add_folder("images", {f"{n}": bytes([n]) * 9000 for n in range(number * 3 + 3)})
        dvc.commit(f"{number}")
    (tmp_path / "kept").mkdir()
    init(tmp_path / "kept", clock=clock, environment={}).close()

    def work(faults: Any) -> None:
        with connect(tmp_path / "ws", clock=clock, faults=faults, environment={}) as ws:
            ws.transfer.import_dvc(dvc.folder, "images", actor=ws.actor)

    def fresh() -> None:
        shutil.rmtree(tmp_path / "ws", ignore_errors=True)
        shutil.copytree(tmp_path / "kept", tmp_path / "ws")

    points = CountPoints()
    fresh()
    work(points)
    seen = points.seen
    for number in sorted({len(seen) - seen[::-1].index(point) for point in seen}):
        fresh()
        assert in_a_child(lambda number=number: work(CrashAt("", number))) == 137, seen[number - 1]
        work(None)
        with connect(tmp_path / "ws", clock=clock, environment={}) as ws:
            assert [c.message for c in ws.data.log(found(ws, "images"))] == ["2", "1", "0"]
            assert len(contents(ws, "images")) == 9
            assert ws.verify(data=True) == []


@pytest.mark.parametrize("prunes", [1, 2])
def test_a_prune_between_two_batches_leaves_no_gap(
    both: Workspace, dvc: Dvc, monkeypatch: pytest.MonkeyPatch, prunes: int
) -> None:
    """Nothing leads to the commits of an import until it ends, so a prune takes them; the import lands them again."""
    for number in range(7):
        dvc.add_folder("images", {f"{n}": bytes([n]) * 99 for n in range(number + 1)})
        dvc.commit(f"{number}")
    monkeypatch.setattr(importing, "_LANDED_AT_ONCE", 2)
    original = DvcImport._land_waiting
    pruned: list[int] = []

    def landing(*arguments: Any) -> None:
        original(*arguments)
        if len(pruned) < prunes:
            pruned.append(len(both.data.prune(found(both, "images"), actor=both.actor)))

    monkeypatch.setattr(DvcImport, "_land_waiting", landing)
    (done,) = both.transfer.import_dvc(dvc.folder, "images", actor=both.actor).repositories
    assert pruned == [2] * prunes
    images = found(both, "images")
    assert [c.message for c in both.data.log(images)] == [f"{n}" for n in range(6, -1, -1)]
    assert done.branches == {"main": both.data.head(images).id}
    for number in range(7):
        assert len(contents(both, "images", f"main~{6 - number}")) == number + 1
    assert both.verify(data=True) == []
    both.data.prune(images, actor=both.actor)  # takes what landed on a gap, and nothing else
    assert len(both.data.log(images)) == 7
    assert both.transfer.import_dvc(dvc.folder, "images", actor=both.actor).repositories[0].commits == 0


def test_a_prune_that_is_at_work_when_the_import_ends_leaves_no_gap(
    both: Workspace, dvc: Dvc, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looked around after the first batch, and removes what it found when the last one has landed."""
    for number in range(4):
        dvc.add_folder("images", {"a": b"%d" % number * 99})
        dvc.commit(f"{number}")
    monkeypatch.setattr(importing, "_LANDED_AT_ONCE", 2)
    looked, ending = threading.Event(), threading.Event()
    original, same, remove = DvcImport._land_waiting, DvcImport._same_contract, rewriting.retire
    pruning: list[Future[list[CommitId]]] = []

    def retire(*arguments: Any) -> None:
        looked.set()
        ending.wait(0.5)  # where there is one writer at a time, the import cannot come to its end
        remove(*arguments)

    def end(*arguments: Any) -> None:
        ending.set()
        same(*arguments)

    with ThreadPoolExecutor(1) as pool:

        def landing(*arguments: Any) -> None:
            original(*arguments)
            if not pruning:
                pruning.append(pool.submit(both.data.prune, found(both, "images"), actor=both.actor))
                assert looked.wait(20)

        monkeypatch.setattr(rewriting, "retire", retire)
        monkeypatch.setattr(DvcImport, "_land_waiting", landing)
        monkeypatch.setattr(DvcImport, "_same_contract", end)
        both.transfer.import_dvc(dvc.folder, "images", actor=both.actor)
        assert len(pruning[0].result(20)) == 2
    assert [c.message for c in both.data.log(found(both, "images"))] == ["3", "2", "1", "0"]


def test_an_import_that_is_pruned_all_the_time_moves_nothing(
    workspace: Workspace, dvc: Dvc, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        dvc.add_folder("images", {"a": b"%d" % number})
        dvc.commit(f"{number}")
    monkeypatch.setattr(importing, "_LANDED_AT_ONCE", 2)
    original = DvcImport._land_waiting

    def landing(*arguments: Any) -> None:
        original(*arguments)
        workspace.data.prune(found(workspace, "images"), actor=workspace.actor)

    monkeypatch.setattr(DvcImport, "_land_waiting", landing)
    with pytest.raises(CommitInUse, match="pruned again and again"):
        workspace.transfer.import_dvc(dvc.folder, "images", actor=workspace.actor)
    assert workspace.data.head(found(workspace, "images")) is None


def test_the_command(
    tmp_path: Path, dvc: Dvc, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dvc.add_folder("images", {"a": b"a" * 99})
    dvc.commit("one")
    (tmp_path / "ws").mkdir()
    init(tmp_path / "ws").close()
    monkeypatch.chdir(tmp_path / "ws")
    assert cli(["data", "import", "dvc", str(dvc.folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["repositories"][0]["name"] == "images"
    assert cli(["data", "import", "dvc", str(dvc.folder)]) == 0
    assert "images" in capsys.readouterr().out


@pytest.mark.skipif(shutil.which("dvc") is None, reason="the real DVC is not installed")
def test_a_repository_that_the_real_dvc_made(workspace: Workspace, tmp_path: Path) -> None:
    folder = tmp_path / "real"
    folder.mkdir()

    def call(*command: str) -> None:
        subprocess.run(command, cwd=folder, env={**os.environ, **GIT_IDENTITY}, check=True, capture_output=True)

    call("git", "init", "-q", "-b", "main")
    call("dvc", "init", "-q")
    (folder / "images").mkdir()
    (folder / "images" / "a.bin").write_bytes(big(5))
    (folder / "table.csv").write_bytes(b"a,b\r\n1,2\r\n")
    call("dvc", "add", "-q", "images", "table.csv")
    call("git", "add", "-A")
    call("git", "commit", "-qm", "one")
    (folder / "images" / "b.bin").write_bytes(big(7))
    call("dvc", "add", "-q", "images")
    command = f"{sys.executable} -c \"open('out.txt', 'w').write('made')\""
    call("dvc", "stage", "add", "-q", "-n", "make", "-o", "out.txt", command)
    call("dvc", "repro", "-q")
    call("git", "add", "-A")
    call("git", "commit", "-qm", "two")
    workspace.transfer.import_dvc(folder, "real", actor=workspace.actor, single=True)
    assert contents(workspace, "real") == {
        "images/a.bin": big(5),
        "images/b.bin": big(7),
        "table.csv": b"a,b\r\n1,2\r\n",
        "out.txt": b"made",
    }
    assert set(contents(workspace, "real", "main~1")) == {"images/a.bin", "table.csv"}


def test_the_extra_that_is_missing_is_named(workspace: Workspace, dvc: Dvc, monkeypatch: pytest.MonkeyPatch) -> None:
    dvc.add_file("a", b"a" * 99)
    dvc.commit("one")
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(MissingExtra) as missing:
        workspace.transfer.import_dvc(dvc.folder, actor=workspace.actor)
    assert 'pip install "noria[dvc]"' in missing.value.hint
