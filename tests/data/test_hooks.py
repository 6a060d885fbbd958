"""Hooks of the user's own: asked before a commit lands, told after it; in place, and from the applied project."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import noria as nr
from noria.assets.records import Event
from noria.base.actor import Actor
from noria.base.errors import Invalid
from noria.cli.main import run
from noria.data.errors import HookRefused
from noria.data.hooks import HookChange
from noria.data.http import routes
from noria.data.records import Repository, RepositoryKind
from noria.workspace import Workspace, connect

sys.path.insert(0, str(Path(__file__).parents[1] / "http"))
from rooms_client import client


def table(ws: Workspace, actor: Actor, name: str = "flights") -> Repository:
    return ws.data.create(ws.project.id, name, RepositoryKind.TABLE, actor=actor, key=("id",))


def rows(*found: tuple[int, int]) -> pl.DataFrame:
    return pl.DataFrame(found, schema={"id": pl.Int64, "n": pl.Int64}, orient="row")


def events(ws: Workspace, kind: str) -> list[Event]:
    return [e for e in ws.assets.list_events(ws.project.id, limit=1000) if e.type == kind]


# ---- added by hand


def test_a_hook_sees_the_rows_and_may_refuse_them(both: Workspace, actor: Actor) -> None:
    repository = table(both, actor)
    seen: list[HookChange] = []

    def positive(change: HookChange) -> None:
        seen.append(change)
        assert change.rows is not None
        if (change.rows["n"] < 0).any():
            nr.refuse(f"{(change.rows['n'] < 0).sum()} rows are negative")

    both.data.hooks.add("before-commit", positive, on="flights", branch="main")
    both.data.append(repository, rows((1, 1), (2, 2)), actor=actor, message="first", meta={"by": "test"})
    (change,) = seen
    assert (change.repository, change.kind, change.branch, change.author) == ("flights", "table", "main", actor.name)
    assert (change.message, change.meta, change.commit) == ("first", {"by": "test"}, None)
    assert (change.stats["added"], change.paths) == (2, [])
    assert change.rows is not None
    assert change.rows.columns == ["id", "n"]
    both.data.append(repository, rows((1, 5)), actor=actor)
    assert seen[1].old_rows is not None
    assert seen[1].old_rows.rows() == [(1, 1)]
    with pytest.raises(HookRefused, match="'positive' refused the commit to flights@main: 1 rows are negative") as no:
        both.data.append(repository, rows((3, -1), (4, 4)), actor=actor)
    assert no.value.details["event"] == "before-commit"
    assert both.data.read(repository).sort("id").rows() == [(1, 5), (2, 2)]
    assert len(both.data.log(repository)) == 2
    both.data.create_branch(repository, "work", actor=actor)
    both.data.append(repository, rows((9, -9)), actor=actor, branch="work")  # it asks of main only
    both.data.hooks.remove(positive)
    both.data.append(repository, rows((3, -1)), actor=actor)


def test_one_refusal_keeps_several_tables_from_landing(workspace: Workspace, actor: Actor) -> None:
    one, two = table(workspace, actor, "one"), table(workspace, actor, "two")

    def broken(change: HookChange) -> None:
        raise KeyError("no such thing")

    workspace.data.hooks.add("before-commit", broken, on=["two"])
    with pytest.raises(HookRefused, match="KeyError: 'no such thing'") as no:
        workspace.data.append_many(
            workspace.project.id, {"one": (one, rows((1, 1))), "two": (two, rows((1, 1)))}, actor=actor
        )
    assert "test_hooks.py" in no.value.hint
    assert workspace.data.head(one) is None
    with pytest.raises(Invalid, match="before-comit"):
        workspace.data.hooks.add("before-comit", broken)
    with pytest.raises(Invalid, match="on a repository"):
        workspace.data.hooks.add("before-commit", broken, on=[])


def test_a_hook_reads_the_files_of_a_change(workspace: Workspace, actor: Actor, tmp_path: Path) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    (folder / "a.txt").write_text("a")
    (folder / "big.bin").write_bytes(b"x" * 100_000)
    (folder / "link").symlink_to("a.txt")
    made = workspace.files.create(workspace.project.id, "f", RepositoryKind.FILES, actor=actor)
    seen: list[Any] = []

    def look(change: HookChange) -> None:
        seen.append([(p.path, p.kind, p.size_after) for p in change.paths])
        for one in change.paths:
            if one.kind != "removed" and one.path.endswith(".txt"):
                with change.open(one.path) as file:
                    if b"bad" in file.read():
                        nr.refuse(f"{one.path} is bad")
        with pytest.raises(Invalid, match="no file"):
            change.open("nothing")

    workspace.files.hooks.add("before-commit", look, on="f")
    workspace.files.commit(made, folder, actor=actor)
    assert seen == [[("a.txt", "added", 1), ("big.bin", "added", 100_000), ("link", "added", 0)]]
    (folder / "a.txt").unlink()
    (folder / "b.txt").write_text("this is bad")
    with pytest.raises(HookRefused, match=r"b\.txt is bad"):
        workspace.files.commit(made, folder, actor=actor)
    assert seen[1] == [("a.txt", "removed", 0), ("b.txt", "added", 11)]
    assert len(workspace.files.log(made)) == 1
    (folder / "b.txt").write_text("this is good")
    workspace.files.commit(made, folder, actor=actor)
    assert len(workspace.files.log(made)) == 2


def test_a_hook_that_fails_after_the_commit_changes_nothing_and_is_kept(workspace: Workspace, actor: Actor) -> None:
    repository = table(workspace, actor)
    told: list[HookChange] = []

    def tell(change: HookChange) -> None:
        told.append(change)
        assert workspace.data.head(repository) is not None, "the commit can be seen"
        raise RuntimeError("the mail server is down")

    workspace.data.hooks.add("after-commit", tell)
    done = workspace.data.append(repository, rows((1, 1)), actor=actor)
    assert [c.commit for c in told] == [done.id]
    assert told[0].rows is None
    (failed,) = events(workspace, "hook.failed")
    assert failed.payload["commit"] == done.id
    assert failed.payload["error"] == "RuntimeError: the mail server is down"


# ---- of the applied project

HOOKS = """\
from pathlib import Path

import noria as nr

flights = nr.source("flights", key="id")
PLACE = Path({place!r})


@nr.hook("before-commit", on=flights)
def positive(change):
    if (change.rows["n"] < 0).any():
        nr.refuse("negative rows by " + change.author)


@nr.hook("before-commit", on="photo*", reads="*.txt")
def no_secrets(change):
    for one in change.paths:
        if one.path.endswith(".txt") and one.kind != "removed":
            if "secret" in change.open(one.path).read().decode():
                raise ValueError(one.path + " holds a secret")


@nr.hook("after-commit", on="flights")
def tell(change):
    with (PLACE / "told.txt").open("a") as file:
        file.write(change.commit + " " + change.message + "\\n")
    if (PLACE / "down").exists():
        raise OSError("down")
"""


@pytest.fixture
def applied(project: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "place"
    place.mkdir()
    ws = project({"own_hooks.py": HOOKS.format(place=str(place)), ".gitignore": "place\n"})
    ws.pipelines.apply(actor=ws.actor)
    return ws


def test_the_hooks_of_the_project_are_asked_whoever_commits(
    applied: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ws = applied
    flights = ws.data.get(ws.project.id, "flights")
    assert [(h.name, h.event) for h in ws.data.hooks.applied(ws.project.id)] == [
        ("no_secrets", "before-commit"),
        ("positive", "before-commit"),
        ("tell", "after-commit"),
    ]
    with pytest.raises(HookRefused, match=f"'positive' refused .* negative rows by {ws.actor.name}"):
        ws.data.append(flights, rows((1, -1)), actor=ws.actor)
    http = client(routes(ws.data, ws.project.id))
    first = {"rows": [{"id": 1, "n": 1}], "message": "over http"}
    assert http.send("POST", "/v1/data/flights/rows", first).status == 200
    refused = http.send("POST", "/v1/data/flights/rows", {"rows": [{"id": 2, "n": -1}]})
    assert (refused.status, refused.error["code"]) == (422, "hook_refused")
    assert [h["name"] for h in http.get("/v1/hooks").json["items"]] == ["no_secrets", "positive", "tell"]
    folder = tmp_path / "place" / "photos"
    folder.mkdir()
    (folder / "1.jpg").write_bytes(b"secret, but no text")
    (folder / "1.txt").write_text("a secret")
    photos = ws.files.create(ws.project.id, "photos", RepositoryKind.FILES, actor=ws.actor)
    with pytest.raises(HookRefused, match=r"ValueError: 1\.txt holds a secret") as no:
        ws.files.commit(photos, folder, actor=ws.actor)
    assert "own_hooks.py" in no.value.hint
    ws.files.create(ws.project.id, "other", RepositoryKind.FILES, actor=ws.actor)
    ws.files.commit(ws.files.get(ws.project.id, "other"), folder, actor=ws.actor)
    (folder / "1.txt").write_text("nothing")
    ws.files.commit(photos, folder, actor=ws.actor)
    assert all("hook" not in a for a in ws.pipelines.graph().nodes)
    # A command asks them too, without importing the project, and tells those behind the commit at its end.
    ws.close()
    (tmp_path / "bad.csv").write_text("id,n\n7,-7\n")
    (tmp_path / "good.csv").write_text("id,n\n7,7\n")
    assert run(["data", "append", "flights", "bad.csv"]) == 3
    assert "negative rows" in capsys.readouterr().err
    assert run(["data", "append", "flights", "good.csv", "-m", "by command"]) == 0
    told = [line.split(" ", 1)[1] for line in (tmp_path / "place" / "told.txt").read_text().splitlines()]
    assert told == ["over http", "by command"]
    capsys.readouterr()
    assert run(["data", "hooks", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 3


def test_a_told_hook_that_fails_is_called_again_for_the_same_commit(applied: Workspace, tmp_path: Path) -> None:
    ws, place = applied, tmp_path / "place"
    flights = ws.data.get(ws.project.id, "flights")
    (place / "down").touch()
    done = ws.data.append(flights, rows((1, 1)), actor=ws.actor)
    assert ws.deliver() == 1
    assert ws.deliveries.waiting() == 1, "it is due again later"
    (event,) = events(ws, "hooks.due")
    (place / "down").unlink()
    ws.hooks.deliver(event)
    told = (place / "told.txt").read_text().split()
    assert told == [done.id, done.id], "at least once, with the same commit"


def test_a_project_without_the_hook_any_more_asks_it_no_more(applied: Workspace, tmp_path: Path, project: Any) -> None:
    ws = project({"own_hooks.py": "import noria as nr\n\nflights = nr.source('flights', key='id')\n"})
    ws.pipelines.apply(actor=ws.actor)
    ws.data.append(ws.data.get(ws.project.id, "flights"), rows((1, -1)), actor=ws.actor)
    assert ws.data.hooks.applied(ws.project.id) == []


def test_hooks_that_cannot_be_are_refused_where_they_are_written(project: Any) -> None:
    with pytest.raises(Invalid, match="no moment"):
        nr.hook("after-comit", on="flights")
    with pytest.raises(Invalid, match="on a repository"):
        nr.hook("after-commit", on=7)

    @nr.hook("before-commit", on="flights")
    def plain(change: Any) -> str:
        return change

    assert plain("x") == "x", "it is still the plain function"
    twice = "import noria as nr\n@nr.hook('after-commit', on='a', name='x')\ndef f(c): ...\n"
    twice += "@nr.hook('after-commit', on='a', name='x')\ndef g(c): ...\n"
    with pytest.raises(Invalid, match="Two hooks are named 'x'"):
        project({"twice.py": twice}).pipelines.graph()


def test_files_are_committed_with_hooks_in_reach_and_still_without_polars(tmp_path: Path) -> None:
    import subprocess

    program = (
        "import sys; from pathlib import Path; import noria as nr\n"
        "from noria.data.records import RepositoryKind\n"
        "ws = nr.init('.'); Path('f').mkdir(); Path('f/a').write_text('a')\n"
        "r = ws.files.create(ws.project.id, 'f', RepositoryKind.FILES, actor=ws.actor)\n"
        "ws.files.hooks.add('before-commit', lambda change: print([p.path for p in change.paths]))\n"
        "ws.files.commit(r, Path('f'), actor=ws.actor)\n"
        "assert not {'polars', 'pyarrow'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "['a']\n"), done.stderr


def test_merges_are_asked_apart_from_commits(workspace: Workspace, actor: Actor) -> None:
    repository = table(workspace, actor)
    asked: list[tuple[str, str, Any]] = []

    def look(change: HookChange) -> None:
        ids = [] if change.rows is None else sorted(change.rows["id"].to_list())
        asked.append((change.event, change.branch, ids))
        if change.event == "before-merge" and 3 in ids:
            nr.refuse("row 3 stays out")

    for event in ("before-commit", "before-merge", "after-commit", "after-merge"):
        workspace.data.hooks.add(event, look)
    workspace.data.append(repository, rows((1, 1)), actor=actor)
    workspace.data.create_branch(repository, "work", actor=actor)
    workspace.data.append(repository, rows((2, 2)), actor=actor, branch="work")
    assert asked == [
        ("before-commit", "main", [1]),
        ("after-commit", "main", []),
        ("before-commit", "work", [2]),
        ("after-commit", "work", []),
    ]
    asked.clear()
    workspace.data.merge(repository, "work", actor=actor)  # main had nothing of its own: it moves
    assert asked == [("before-merge", "main", [2]), ("after-merge", "main", [])]
    workspace.data.append(repository, rows((3, 3)), actor=actor, branch="work")
    workspace.data.append(repository, rows((4, 4)), actor=actor)
    asked.clear()
    with pytest.raises(HookRefused, match="refused the merge to flights@main: row 3 stays out"):
        workspace.data.merge(repository, "work", actor=actor)
    assert workspace.data.read(repository)["id"].sort().to_list() == [1, 2, 4]
    workspace.data.hooks.remove(look)
    workspace.data.merge(repository, "work", actor=actor)
    assert workspace.data.read(repository)["id"].sort().to_list() == [1, 2, 3, 4]


def test_a_reset_is_asked_as_a_merge(workspace: Workspace, actor: Actor) -> None:
    repository, data = table(workspace, actor), workspace.data
    first = data.append(repository, rows((1, 1)), actor=actor)
    data.create_branch(repository, "work", actor=actor)
    theirs = data.append(repository, rows((2, 2)), actor=actor, branch="work")
    asked: list[tuple[str, str, Any, Any]] = []

    def no(change: HookChange) -> None:
        ids = None if change.rows is None else change.rows["id"].to_list()
        asked.append((change.event, change.branch, ids, change.meta))
        nr.refuse("main stays")

    data.hooks.add("before-merge", no, branch="main")
    with pytest.raises(HookRefused, match="main stays"):
        data.reset(repository, "work", actor=actor)
    assert asked == [("before-merge", "main", [2], {"reset": theirs.id})]
    assert data.head(repository) == first
    data.reset(repository, first.id, branch="work", actor=actor)
    assert data.head(repository, "work") == first
    assert len(asked) == 1


def test_change_sets_and_folders_that_merge_by_themselves_are_commits(
    workspace: Workspace, actor: Actor, tmp_path: Path
) -> None:
    made = workspace.files.create(workspace.project.id, "f", RepositoryKind.FILES, actor=actor)
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    (here / "a").write_text("a")
    workspace.files.commit(made, here, actor=actor)
    workspace.files.checkout(made, there)
    events: list[tuple[str, list[str]]] = []
    for event in ("before-commit", "before-merge"):
        workspace.files.hooks.add(event, lambda change: events.append((change.event, [p.path for p in change.paths])))
    (there / "b").write_text("b")
    workspace.files.commit(made, there, actor=actor)
    (here / "c").write_text("c")
    workspace.files.commit(made, here, actor=actor)  # from before b was there
    assert events == [("before-commit", ["b"]), ("before-commit", ["c"])]


def test_a_push_is_asked_by_the_hooks_of_who_receives_it(tmp_path: Path, actor: Actor) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    with nr.init(tmp_path / "here") as here, nr.init(tmp_path / "there") as there:
        repository = table(here, actor)
        here.data.append(repository, rows((1, 1)), actor=actor)
    place = "import noria as nr\n@nr.hook('before-merge', on='flights')\ndef no_fives(change):\n"
    place += "    if change.rows['n'].is_in([5]).any():\n        nr.refuse('no fives')\n"
    (tmp_path / "there" / "hooked.py").write_text(place)
    (tmp_path / "there" / "noria.toml").write_text('name = "there"\nmodules = ["hooked"]\n')
    with connect(tmp_path / "here") as here, connect(tmp_path / "there") as there:
        repository = here.data.get(here.project.id, "flights")
        here.transfer.add_remote(repository, "there", str(tmp_path / "there"), actor=actor)
        here.transfer.push(repository, "there", actor=actor)
        there.pipelines.apply(actor=actor)
        here.data.append(repository, rows((2, 2)), actor=actor)
        here.transfer.push(repository, "there", actor=actor)
        here.data.append(repository, rows((5, 5)), actor=actor)
        with pytest.raises(HookRefused, match="'no_fives' refused the merge to flights@main: no fives"):
            here.transfer.push(repository, "there", actor=actor)
        assert there.read("flights")["id"].sort().to_list() == [1, 2]


def test_a_first_push_and_a_clone_are_asked_by_who_receives_them(tmp_path: Path, actor: Actor) -> None:
    asked: list[tuple[str, str, list[int]]] = []

    def no_fives(change: HookChange) -> None:
        assert change.rows is not None
        asked.append((change.repository, change.branch, change.rows["n"].to_list()))
        if 5 in change.rows["n"]:
            nr.refuse("no fives")

    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        nr.init(tmp_path / name).close()
    with connect(tmp_path / "here") as here, connect(tmp_path / "there") as there:
        for name, n in (("good", 1), ("bad", 5)):
            made = there.data.create(there.project.id, name, RepositoryKind.TABLE, actor=actor, key=("id",))
            there.data.append(made, rows((n, n)), actor=actor)
        here.data.hooks.add("before-merge", no_fives)
        here.transfer.clone(str(tmp_path / "there"), "good", actor=actor)
        with pytest.raises(HookRefused, match="refused the merge to bad@main: no fives"):
            here.transfer.clone(str(tmp_path / "there"), "bad", actor=actor)
        assert here.data.find(here.project.id, "bad") is None
        assert asked == [("good", "main", [1]), ("bad", "main", [5])]
    (tmp_path / "there" / "closed.py").write_text(
        "import noria as nr\n@nr.hook('before-merge', on='*')\ndef no(change):\n    nr.refuse('nothing comes here')\n"
    )
    (tmp_path / "there" / "noria.toml").write_text('name = "there"\nmodules = ["closed"]\n')
    with connect(tmp_path / "here") as here, connect(tmp_path / "there") as there:
        there.pipelines.apply(actor=actor)
        flights = table(here, actor)
        here.data.append(flights, rows((1, 1)), actor=actor)
        here.transfer.add_remote(flights, "there", str(tmp_path / "there"), actor=actor)
        with pytest.raises(HookRefused, match="nothing comes here"):
            here.transfer.push(flights, "there", actor=actor)
        assert there.data.find(there.project.id, "flights") is None


def test_a_squash_is_asked_as_a_commit_and_a_drop_as_a_merge(both: Workspace, actor: Actor) -> None:
    repository, data = table(both, actor), both.data
    first = data.append(repository, rows((1, 1)), actor=actor)
    data.append(repository, rows((2, 2)), actor=actor)
    head = data.append(repository, rows((3, 3)), actor=actor)
    asked: list[tuple[str, Any, Any]] = []
    answer = ["no"]

    def ask(change: HookChange) -> None:
        assert change.rows is not None
        assert change.old_rows is not None
        gone = change.old_rows["id"].sort().to_list()
        asked.append((change.event, change.rows["id"].sort().to_list(), gone))
        if answer:
            nr.refuse(answer.pop())

    for event in ("before-commit", "before-merge", "after-commit", "after-merge"):
        data.hooks.add(event, ask if event.startswith("before") else lambda change: asked.append((change.event, 0, 0)))
    with pytest.raises(HookRefused, match="refused the commit"):
        data.squash(repository, first.id, actor=actor)
    assert data.head(repository) == head
    made = data.squash(repository, first.id, actor=actor)
    assert asked == [("before-commit", [2, 3], []), ("before-commit", [2, 3], []), ("after-commit", 0, 0)]
    asked.clear()
    answer.append("main stays")
    with pytest.raises(HookRefused, match="refused the merge to flights@main: main stays"):
        data.drop(repository, actor=actor)
    assert data.head(repository) == made
    assert data.drop(repository, actor=actor) == first
    assert asked == [("before-merge", [], [2, 3]), ("before-merge", [], [2, 3]), ("after-merge", 0, 0)]
