"""Tables from the command line: columns, differences, one row, compaction, and what is said of mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from noria.cli.main import run


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    """A project with the table ``t``: two rows, then one of them changed."""
    monkeypatch.chdir(tmp_path)
    pl.DataFrame({"k": [1, 2], "v": ["a", "b"]}).write_csv("one.csv")
    pl.DataFrame({"k": [2, 3], "v": ["B", "c"]}).write_csv("two.csv")
    for line in (["init"], ["data", "create", "t", "--key", "k"], ["data", "append", "t", "one.csv"]):
        assert run(line) == 0
    assert run(["data", "append", "t", "two.csv"]) == 0
    capsys.readouterr()
    return tmp_path


def noria(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    code = run(list(args))
    out, err = capsys.readouterr()
    return code, out, err


def answer(capsys: pytest.CaptureFixture[str], *args: str) -> Any:
    code, out, err = noria(capsys, *args, "--json")
    assert code == 0, err
    return json.loads(out)


def test_columns_from_the_command_line(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = noria(
        capsys, "data", "alter", "t", "--add", "n:int16=7", "--rename", "k=id", "--drop", "v", "-m", "other columns"
    )
    assert code == 0, out
    assert answer(capsys, "data", "read", "t") == [{"id": 1, "n": 7}, {"id": 2, "n": 7}, {"id": 3, "n": 7}]
    assert answer(capsys, "data", "read", "t", "--ref", "main~1")[0] == {"k": 1, "v": "a"}
    code, out, _ = noria(capsys, "data", "diff", "t", "main~2")
    assert code == 0
    for line in ("column n (int16) added", "column v (str) removed", "column k renamed to id", "1 added", "0 changed"):
        assert line in out
    noria(capsys, "data", "alter", "t", "--widen", "n:int64")
    assert answer(capsys, "data", "diff", "t", "main~1")["schema"]["retyped"] == [
        {"column": "n", "before": "int16", "after": "int64"}
    ]
    (table / "wide.csv").write_text("id,n,m\n4,1,x\n")
    code, _, err = noria(capsys, "data", "append", "t", "wide.csv")
    assert code != 0
    assert "unknown m" in err
    assert noria(capsys, "data", "append", "t", "wide.csv", "--evolve")[0] == 0
    assert answer(capsys, "data", "read", "t")[-1] == {"id": 4, "n": 1, "m": "x"}


def test_an_overwrite_counts_what_it_took_away(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (table / "one.csv").write_text("k,v\n7,x\n")
    code, out, _ = noria(capsys, "data", "append", "t", "one.csv", "--mode", "overwrite")
    assert (code, "1 added, 3 deleted, 1 row." in out) == (0, True)
    assert "+1 -3" in noria(capsys, "data", "log", "t")[1]


def test_mistakes_of_the_beginning_are_said(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (table / "bad.txt").write_text("x")
    assert noria(capsys, "data", "commit", "new", "bad.txt")[0] != 0
    (table / "folder").mkdir()
    (table / "folder" / "a\nb").write_text("x")
    code, _, err = noria(capsys, "data", "commit", "new", "folder")
    assert (code != 0, "Traceback" in err) == (True, False)
    assert [one["name"] for one in answer(capsys, "data", "list")] == ["t"], "nothing empty is left behind"
    (table / "t.toml").write_text('[columns.k]\ntype = "int64"\n[columns.v]\ntype = "str"\nmatches = "a(b["\n')
    err = noria(capsys, "data", "contract", "set", "t", "t.toml")[2]
    assert "matches of 'v' is not a pattern: unclosed character class." in " ".join(err.split())
    assert "noria data branch t" in noria(capsys, "data", "log", "t", "--ref", "zzz")[2]
    assert "--force-with-lease" in noria(capsys, "data", "push", "t", "--force")[2]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--add", "n"], "'n' is not a column"),
        (["--rename", "k"], "'k' is not OLD=NEW"),
        (["--drop", "k"], "'k' is the key"),
        (["--widen", "v:int64"], "'v' is str; it cannot become int64"),
        ([], "nothing to change"),
        (["--key", "q"], "key column 'q'"),
    ],
)
def test_mistakes_are_said(table: Path, capsys: pytest.CaptureFixture[str], args: list[str], message: str) -> None:
    code, _, err = noria(capsys, "data", "alter", "t", *args)
    assert code not in (0, 1)
    assert message in err
    assert "Traceback" not in err


def test_a_difference_shows_cells(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "data", "diff", "t", "main~1")
    assert (found["added"], found["removed"], found["changed"]) == (1, 0, 1)
    assert found["changes"] == [{"key": {"k": 2}, "columns": {"v": ["b", "B"]}}]
    assert found["samples"]["added"] == [{"k": 3, "v": "c"}]
    code, out, _ = noria(capsys, "data", "diff", "t", "main~1")
    assert code == 0
    assert "1 changed" in out


def test_one_row(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "data", "history", "t", "k=2")
    assert [(e["kind"], e["before"], e["after"]) for e in found["events"]] == [
        ("changed", {"k": 2, "v": "b"}, {"k": 2, "v": "B"}),
        ("added", None, {"k": 2, "v": "b"}),
    ]
    assert found["commits"] == [found["events"][0]["commit"]]
    code, out, _ = noria(capsys, "data", "history", "t", "k=2")
    assert code == 0
    assert "As it is now it stands in 1 commit, " in out
    code, _, err = noria(capsys, "data", "history", "t", "k=99")
    assert code == 4
    assert "never held a row" in err
    assert "not COLUMN=VALUE" in noria(capsys, "data", "history", "t", "99")[2]
    trail = answer(capsys, "trace", "t", "k=1")
    assert trail["backward"]["kind"] == "row"
    assert trail["backward"]["facts"]["versions"] == 2
    assert trail["backward"]["children"][0]["kind"] == "commit"


def test_compaction(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = answer(capsys, "data", "read", "t")
    done = answer(capsys, "data", "compact", "t")
    assert (done["files_before"], done["files_after"]) == (2, 1)
    assert sorted(map(str, answer(capsys, "data", "read", "t"))) == sorted(map(str, before))
    assert "1 files" in noria(capsys, "data", "compact", "t")[1]
