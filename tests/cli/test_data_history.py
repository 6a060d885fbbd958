"""The commands of history, as a person types them."""

from __future__ import annotations

import json
import os
import pty
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from noria.cli.main import run

Noria = Callable[..., Any]


@pytest.fixture
def noria(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Noria:
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, code: int = 0) -> Any:
        assert run([*arguments, "--json"]) == code
        out, err = capsys.readouterr()
        return json.loads(out if code == 0 else err)

    call("init")
    return call


def test_a_day_of_branches(noria: Noria, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"a" * 100)
    (tmp_path / "other.txt").write_text("other")
    noria("data", "commit", "photos", "photos", "-m", "first")
    noria("data", "tag", "photos", "v1")
    noria("data", "branch", "photos", "trial")
    noria("data", "put", "photos", "b.jpg", "photos/a.jpg", "--branch", "trial", "--meta", "camera=left")
    noria("data", "cp", "photos", "b.jpg", "c.jpg", "--branch", "trial")
    noria("data", "mv", "photos", "c.jpg", "d/c.jpg", "--branch", "trial", "-m", "moved")
    noria("data", "merge", "photos", "trial")
    assert [c["message"] for c in noria("data", "log", "photos")] == ["moved", "", "", "first"]
    touched = noria("data", "log", "photos", "--path", "d/*")
    assert [(t["commit"]["message"], t["changes"][0]["kind"]) for t in touched] == [("moved", "added")]
    assert noria("data", "show", "photos", "main")["changes"][0]["path"] == "c.jpg"
    assert noria("data", "show", "photos")["tags"].keys() == {"v1"}
    log = {c["message"]: (c["branches"], c["tags"]) for c in noria("data", "log", "photos")}
    assert log == {"moved": (["main", "trial"], []), "": ([], []), "first": ([], ["v1"])}
    assert touched[0]["commit"]["branches"] == ["main", "trial"]
    noria("data", "rm", "photos", "*.jpg")
    noria("data", "cp", "photos", "a.jpg", "a.jpg", "--ref", "v1")
    assert noria("data", "mv", "photos", "a.jpg", "d/c.jpg", code=0)
    noria("data", "cp", "photos", "d/c.jpg", "a.jpg")
    noria("data", "put", "photos", "d/c.jpg", "other.txt")
    assert noria("data", "mv", "photos", "a.jpg", "d/c.jpg", code=5)["error"]["code"] == "path_exists"
    assert noria("data", "cp", "photos", "a.jpg", "d/c.jpg", code=5)["error"]["code"] == "path_exists"
    noria("data", "cp", "photos", "a.jpg", "d/c.jpg", "--force")
    noria("data", "squash", "photos", "v1", "-m", "one")
    assert [c["message"] for c in noria("data", "log", "photos")] == ["one", "first"]
    moves = noria("data", "moves", "photos", "--limit", "2")
    assert [m["verb"] for m in moves] == ["squash", "change"]
    assert noria("data", "moves", "photos", "--branch", "trial")[-1]["verb"] == "branch"
    noria("data", "revert", "photos", "main")
    noria("data", "cherry-pick", "photos", "trial~1")
    noria("data", "reset", "photos", "v1")
    assert noria("data", "status", "photos", "photos")["changes"] == []
    assert noria("data", "branch", "photos", "trial", "--delete")["branch"] == "trial"
    assert [b["name"] for b in noria("data", "branch", "photos")] == ["main"]
    assert len(noria("data", "prune", "photos")["commits"]) > 0
    assert noria("data", "merge", "photos", "trial", code=4)["error"]["code"] == "branch_not_found"


def test_an_open_commit(noria: Noria, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("1")
    (tmp_path / "rows.csv").write_text("k,v\n1,a\n")
    noria("data", "create", "f", "--files")
    draft = noria("data", "start", "f", "-m", "day")["id"]
    noria("data", "put", "f", "x", "x", "--draft", draft[:8])
    noria("data", "put", "f", "x", "x", "--append", "--draft", draft)
    assert noria("data", "drafts", "f")[0]["number"] == 2
    assert noria("data", "finish", "f", draft[:8])["message"] == "day"
    assert noria("data", "abandon", "f", draft, code=5)["error"]["code"] == "draft_closed"
    noria("data", "create", "t", "--key", "k")
    rows = noria("data", "start", "t")["id"]
    noria("data", "append", "t", "rows.csv", "--draft", rows)
    assert noria("data", "finish", "t", rows)["stats"]["rows"] == 1


def test_commands_of_files_start_without_polars(noria: Noria, tmp_path: Path) -> None:
    import subprocess
    import sys

    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "a").write_text("1")
    program = (
        "import sys\nfrom noria.cli.main import run\n"
        "for line in (['commit', 'r', 'f'], ['status', 'r', 'f'], ['log', 'r'], ['put', 'r', 'b', 'f/a'],\n"
        "             ['branch', 'r', 'x'], ['merge', 'r', 'x'], ['merge', 'r', 'x', '--dry-run'], ['checkout', 'r', 'g']):\n"
        "    assert run(['data', *line]) == 0, line\n"
        "print(sorted({'polars', 'pyarrow', 'alembic', 'numpy', 'pathspec'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_names_that_collide_elsewhere_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f").mkdir()
    for name in ("Readme", "README"):
        (tmp_path / "f" / name).write_text(name)
    assert run(["init"]) == 0
    assert run(["data", "commit", "r", "f"]) == 0
    assert "differ only by case" in capsys.readouterr().err


def test_conflicts_are_decided_path_by_path(noria: Noria, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def write(branch: str, *paths: str) -> None:
        (tmp_path / "x").write_text(branch)
        for path in paths:
            noria("data", "put", "f", path, "x", "--branch", branch)

    noria("data", "create", "f", "--files")
    write("main", "a", "cat/1", "cat/2")
    noria("data", "branch", "f", "trial")
    write("trial", "a", "cat/1", "cat/2", "new")
    assert noria("data", "merge", "f", "trial", "--dry-run")["how"] == "fast-forward"
    (tmp_path / "x").write_text("again")
    for path in ("a", "cat/1", "cat/2"):
        noria("data", "put", "f", path, "x")
    error = noria("data", "merge", "f", "trial", "--theirs", "cat", code=5)["error"]
    assert error["details"]["conflicts"] == ["a"]
    assert "--ours PATH" in error["hint"]
    error = noria("data", "merge", "f", "trial", "--ours", "nomatch", "--theirs", "cat", code=5)["error"]
    assert error["hint"].startswith("No conflict fits 'nomatch'.")
    assert run(["data", "merge", "f", "trial", "--dry-run", "--theirs", "cat"]) == 5
    seen = capsys.readouterr().out
    assert ("is refused as it stands: 1 conflict." in seen, "nothing new" in seen) == (True, False)
    assert noria("data", "merge", "f", "trial", "--ours", "a", "--theirs", "a", code=2)["error"]["message"]
    how = ("--theirs", "cat", "--ours", "cat/2", "--ours", "a")
    seen = noria("data", "merge", "f", "trial", "--dry-run", *how)
    assert [c["path"] for c in seen["changes"]] == ["cat/1", "new"]
    head = noria("data", "log", "f")[0]["id"]
    assert seen["head"] == head
    assert noria("data", "merge", "f", "trial", *how)["parents"] == [head, seen["source"]]
    noria("data", "put", "f", "cat/1", "x")
    noria("data", "revert", "f", "trial", "--ours", "*")
    noria("data", "cherry-pick", "f", "trial", "--ours", "*")
    (tmp_path / "t.csv").write_text("k\n1\n")
    noria("data", "commit", "t", "t.csv")
    assert "is a table" in noria("data", "merge", "t", "main", "--ours", "k", code=2)["error"]["message"]


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Makes the standard input a terminal, on which a person types."""
    person, terminal = pty.openpty()
    with os.fdopen(terminal) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield lambda text: os.write(person, f"{text}\n".encode()) and None
    os.close(person)


def test_what_cannot_be_undone_is_asked_for(
    noria: Noria, tmp_path: Path, answer: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x").write_text("1")
    noria("data", "create", "f", "--files")
    for name in ("a", "b", "c", "d", "e"):
        noria("data", "put", "f", name, "x", "-m", f"put {name}")
    answer("no")
    assert run(["data", "drop", "f"]) == 3
    asked = capsys.readouterr().err
    assert "(put e)" in asked
    assert "for good.\nGo on? [y/N]" in asked
    assert "Nothing was done" in asked
    answer("")
    assert run(["data", "drop", "f"]) == 3
    answer("y")
    assert run(["data", "drop", "f"]) == 0
    capsys.readouterr()
    assert [c["message"] for c in noria("data", "log", "f")] == ["put d", "put c", "put b", "put a"]
    answer("yes")
    assert run(["data", "delete", "f"]) == 3
    assert "Type f to go on" in capsys.readouterr().err
    answer("f")
    assert run(["data", "delete", "f"]) == 0
    capsys.readouterr()
    assert noria("data", "list") == []


def test_without_a_terminal_only_yes_takes_away(noria: Noria, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("1")
    noria("data", "create", "f", "--files")
    for name in ("a", "b", "c"):
        noria("data", "put", "f", name, "x")
    error = noria("data", "drop", "f", "--count", "2", code=3)["error"]
    assert (error["code"], error["hint"]) == ("not_confirmed", "noria data drop f --count 2 --yes")
    error = noria("data", "delete", "f", "--force", code=3)["error"]
    assert (error["code"], error["hint"]) == ("not_confirmed", "noria data delete f --force --yes")
    assert len(noria("data", "log", "f")) == 3
    noria("data", "drop", "f", "--count", "2", "--yes")
    assert len(noria("data", "log", "f")) == 1
    noria("data", "delete", "f", "--yes")


def test_the_log_names_branches_and_tags(noria: Noria, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x").write_text("1")
    noria("data", "create", "f", "--files")
    noria("data", "put", "f", "a", "x", "-m", "first")
    noria("data", "tag", "f", "v1")
    noria("data", "put", "f", "b", "x", "-m", "second")
    noria("data", "branch", "f", "trial")
    for more in ([], ["--path", "*"]):
        assert run(["data", "log", "f", *more]) == 0
        second, first = capsys.readouterr().out.splitlines()[1:]
        assert "  main, trial  second" in second
        assert "  tag v1       first" in first


def test_a_table_is_shown_with_its_form(noria: Noria, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.csv").write_text("station,day,rain\n1,2013-01-01T00:00:00Z,0.5\n2,2013-01-01T00:00:00Z,0\n")
    noria("data", "create", "t", "--key", "station", "--key", "day", "--time", "day")
    assert noria("data", "show", "t")["rows"] is None
    noria("data", "commit", "t", "t.csv")
    (tmp_path / "c.json").write_text(json.dumps(noria("data", "contract", "infer", "t")))
    noria("data", "contract", "set", "t", "c.json")
    assert noria("data", "show", "t")["rows"] == 2
    assert run(["data", "show", "t"]) == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines[:7] == [
        "repository   t",
        "kind         table",
        "key          station, day",
        "time         day",
        "known since  the commit",
        "rows         2",
        "contract     1",
    ]
    assert lines[-3].split() == ["station", "int64"]


def test_a_folder_stays_on_the_branch_that_it_was_checked_out_at(
    noria: Noria, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "1").write_text("1")
    noria("data", "commit", "photos", "photos")
    noria("data", "tag", "photos", "v1")
    noria("data", "branch", "photos", "trial")
    assert run(["data", "checkout", "photos", "work", "--ref", "trial"]) == 0
    assert f"1 path written or removed in {tmp_path / 'work'}." in " ".join(capsys.readouterr().out.split())
    assert run(["data", "checkout", "photos", "work", "--only", "nomatch*"]) == 0
    assert "fits 'nomatch*'" in " ".join(capsys.readouterr().err.split())
    monkeypatch.chdir(tmp_path / "work")
    Path("2").write_text("2")
    assert noria("data", "status")["branch"] == "trial"
    assert run(["data", "status"]) == 0
    assert capsys.readouterr().out.startswith(f"photos@trial in {tmp_path / 'work'}:")
    second = noria("data", "commit", "-m", "two")["id"]
    assert noria("data", "log", "photos", "--ref", "trial")[0]["id"] == second
    assert [one["id"] for one in noria("data", "log", "photos")] != [second]
    for cache in (tmp_path / ".noria" / "cache" / "stat").iterdir():
        cache.unlink()  # a lost cache costs time only
    assert noria("data", "status", "photos", ".")["branch"] == "trial"
    noria("data", "commit", "photos", ".", "--branch", "main", "--snapshot")
    assert noria("data", "status")["branch"] == "main"
    noria("data", "checkout", "--ref", "trial")
    noria("data", "checkout")
    assert (noria("data", "status")["branch"], Path("2").exists()) == ("trial", True)
    noria("data", "checkout", "--ref", "v1")
    assert noria("data", "status")["branch"] == "main", "a tag is no branch to commit to"


def test_a_command_inside_of_a_checkout_needs_no_names(
    noria: Noria, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    (photos / "cat").mkdir(parents=True)
    (photos / "cat" / "1").write_text("1")
    error = noria("data", "status", code=4)["error"]
    assert "lies in no checkout" in error["message"]
    noria("data", "commit", "photos", "photos")
    assert noria("data", "status", code=4)["error"]["code"] == "not_found", "the folder above is none"
    monkeypatch.chdir(photos / "cat")
    Path("2").write_text("2")
    seen = noria("data", "status")
    assert (seen["repository"], seen["folder"], [c["path"] for c in seen["changes"]]) == (
        "photos",
        str(photos),
        ["cat/2"],
    )
    assert run(["data", "status"]) == 0
    assert capsys.readouterr().out.startswith(f"photos@main in {photos}:")
    assert noria("data", "commit", "-m", "two")["stats"]["added"] == 1
    assert noria("data", "status", "photos")["changes"] == []
    assert noria("data", "checkout", "--ref", "main~1")["folder"] == str(photos)
    assert not Path("2").exists()
    monkeypatch.chdir(tmp_path)
    noria("data", "checkout", "photos", "elsewhere")
    noria("data", "create", "other", "--files")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert noria("data", "status")["changes"] == []
    assert noria("data", "status", "other", code=4)["error"]["message"].endswith(
        "lies in no checkout of other that this workspace knows."
    )
    noria("data", "commit", "other", ".")
    assert "checkout of" in noria("data", "status", code=2)["error"]["message"]
    assert noria("data", "status", "other")["repository"] == "other"
