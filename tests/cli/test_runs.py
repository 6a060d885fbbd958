"""``noria runs`` as typed: JSON for programs, and text that fits a terminal."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from noria.assets.records import RunState
from noria.base.actor import Actor
from noria.cli.main import run
from noria.terminal import Shell
from noria.terminal.grid import Column, grid
from noria.tracking.records import Dataset, DatasetInput, Point
from noria.workspace import connect, init

ME = Actor(name="user:test")


@dataclass
class Answer:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Typed = Callable[..., Answer]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two experiments of three runs."""
    folder = tmp_path_factory.mktemp("runs")
    init(folder).close()
    with connect(folder) as ws:
        for name in ("vision/cats", "text"):
            made = ws.tracking.create_experiment(ws.project.id, name, actor=ME)
            for n in range(3):
                with ws.db.write() as tx:
                    one = ws.tracking.create_run(
                        tx, ws.project.id, made.id, name=f"{name[-4:]}-{n}", actor=ME, user="alice", tags={"team": "a"}
                    )
                points = [Point(key="val/loss", value=float(s % 7 + n), at=1_000 * s, step=s) for s in range(300)]
                ws.tracking.log(one.id, params={"lr": str(10.0**-n), "same": "x"}, points=points)
                data = Dataset(name="train", digest="d1", source_type="local", source="{}")
                ws.tracking.log_inputs(one.id, [DatasetInput(dataset=data, tags={"mlflow.data.context": "training"})])
                ws.tracking.update_run(one.id, state=RunState.DONE, ended_at=one.started_at + 90_000)
    return folder


@pytest.fixture
def noria(shared: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Typed:
    monkeypatch.chdir(shared)
    monkeypatch.setenv("NORIA_ACTOR", "test")

    def typed(*words: str) -> Answer:
        capfd.readouterr()
        code = run(["runs", *words])
        return Answer(code, *capfd.readouterr())

    return typed


def named(noria: Typed, name: str) -> str:
    (one,) = noria("list", "--name", name, "--json").json
    return one["run"]["id"]


def test_a_list_shows_chosen_columns_and_is_read_page_by_page(noria: Typed) -> None:
    words = ["list", "--experiment", "text", "--order", "params.lr desc", "--columns", "metrics.val/loss,params.lr"]
    first = noria(*words, "--limit", "2", "--page", "--json").json
    rest = noria(*words, "--limit", "2", "--page", "--json", "--after", first["next"]).json
    found = [(one["run"]["name"], one["params"], one["metrics"]) for one in (*first["items"], *rest["items"])]
    assert found == [
        ("text-0", {"lr": "1.0"}, {"val/loss": 5.0}),
        ("text-2", {"lr": "0.01"}, {"val/loss": 7.0}),
        ("text-1", {"lr": "0.1"}, {"val/loss": 6.0}),
    ][:1] + sorted(found[1:], key=lambda one: -float(one[1]["lr"]))
    assert rest["next"] is None
    text = noria(*words).out
    assert "val/loss" in text
    assert "metrics.val/loss" not in text
    assert {one["experiment"] for one in noria("list", "--under", "vision", "--json").json} == {"vision/cats"}
    assert noria("list", "--state", "running", "--json").json == []
    assert len(noria("list", "--kind", "mlflow", "--state", "done", "--json").json) == 6


def test_a_run_is_shown_with_everything_it_said(noria: Typed) -> None:
    one = named(noria, "cats-1")
    noria("note", one, "the good one")
    shown = noria("show", one, "--json").json
    assert (shown["experiment"], shown["user"], shown["note"]) == ("vision/cats", "alice", "the good one")
    assert [(d["name"], d["context"]) for d in shown["datasets"]] == [("train", "training")]
    assert shown["artifacts"] == {"items": [], "next": None}
    text = noria("show", one).out
    for word in ("cats-1", "vision/cats", "the good one", "val/loss", "training", "took 1m30s", "team"):
        assert word in text, word


def test_a_comparison_stands_side_by_side_or_line_by_line(noria: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [named(noria, f"cats-{n}") for n in range(3)]
    found = noria("compare", *ids, "--json").json
    assert found["params"] == {"lr": ["1.0", "0.1", "0.01"]}
    assert found["best"] == {"val/loss": [0]}
    beside = noria("compare", *ids).out
    assert "5*" in beside
    chosen = noria(
        "compare", "--experiment", "text", "--experiment", "vision/cats", "--order", "attributes.name", "--json"
    )
    assert [one["name"] for one in chosen.json["runs"]] == [f"{n}-{k}" for n in ("cats", "text") for k in range(3)]
    assert noria("compare", ids[0], ids[0]).out == "They say the same.\n"
    for words, code in (
        ([], 2),
        ([ids[0], "--experiment", "text"], 2),
        (["--filter", 'params.lr = "7"'], 2),
        (["0"], 4),
    ):
        assert noria("compare", *words).code == code
    below = noria("compare", "--all", *ids, *[named(noria, f"text-{n}") for n in range(3)], "--json")
    assert below.json["params"]["same"] == ["x"] * 6


def test_curves_are_drawn_and_their_points_are_given(noria: Typed) -> None:
    ids = [named(noria, f"cats-{n}") for n in range(2)]
    one = noria("metrics", ids[0], "val/loss", "--points", "20", "--json").json
    assert one["total"] == 300
    assert len(one["points"]) <= 20
    assert {p["value"] for p in one["points"]} >= {0.0, 6.0}
    two = noria("metrics", *ids, "--key", "val/loss", "--from", "10", "--to", "20", "--json").json
    assert [c["run"] for c in two["curves"]] == ids
    assert [p["step"] for p in two["curves"][0]["points"]] == list(range(10, 21))
    for words in ([ids[0]], [ids[0], "val/loss"], [ids[0], "val/loss", "--time"], [*ids, "--key", "val/loss", "--log"]):
        text = noria("metrics", *words)
        assert text.code == 0, text.err
        assert "val/loss" in text.out
    assert max(noria("metrics", ids[0], "val/loss").out) > "⠀"
    page = noria("metrics", ids[0], "val/loss", "--history", "--limit", "2", "--json").json
    rest = noria("metrics", ids[0], "val/loss", "--after", page["next"], "--limit", "2", "--json").json
    assert [p["step"] for p in (*page["points"], *rest["points"])] == [0, 1, 2, 3]
    assert noria("metrics", *ids, "x").code == 4
    assert noria("metrics", ids[0], "val/los", "--json").code == 4
    assert noria("metrics", *ids, named(noria, "text-0")).code == 2


def test_experiments_are_made_renamed_listed_as_a_tree_deleted_and_restored(noria: Typed) -> None:
    assert noria("experiments", "create", "a/b/c", "--tag", "team=x", "--note", "first line\nsecond").code == 0
    (one,) = noria("experiments", "--under", "a", "--json").json["items"]
    assert (one["folder"], one["tags"], one["note"]) == ("a/b", {"team": "x"}, "first line\nsecond")
    tree = noria("experiments", "--tree").out
    assert "a/" in tree
    assert "cats  3 runs" in tree
    assert noria("experiments", "rename", "a/b/c", "z/c", "--json").json["name"] == "z/c"
    assert noria("experiments", "rename", "text", "z/c").code == 5
    assert noria("experiments", "delete", "z/c", "--json").json["deleted"] is True
    assert [e["name"] for e in noria("experiments", "list", "--deleted", "--json").json["items"]] == ["z/c"]
    assert noria("experiments", "delete", "z/c").code == 5
    assert noria("experiments", "restore", "z/c", "--json").json["deleted"] is False
    found = noria("experiments", "--filter", 'tags.team = "x"', "--limit", "1", "--json").json
    assert [e["name"] for e in found["items"]] == ["z/c"]
    assert noria("experiments", "rename", "nothing", "x").code == 4
    assert noria("experiments", "remane", "a", "b").code == 2
    assert "first line" in noria("experiments").out


def test_tags_and_notes_are_set_shown_and_taken_away(noria: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    one = named(noria, "text-0")
    assert noria("tag", one, "a=1", "b=x=y", "-team", "--json").json["tags"] == {"a": "1", "b": "x=y"}
    assert noria("tag", one, "-a", "-b", "team=a", "--json").json["tags"] == {"team": "a"}
    assert noria("tag", one, "-nothing").code == 4
    assert noria("tag", one, "word").code == 2
    assert noria("tag", one, "--remove", "nothing").code == 4
    assert noria("tag").code == 2
    assert noria("tag", "--experiment", "text", "k=v", "--json").json["tags"] == {"k": "v"}
    monkeypatch.setattr("sys.stdin", io.StringIO("from a pipe\n"))
    assert noria("note", one, "-", "--json").json == {"note": "from a pipe"}
    assert noria("note", one).out == "from a pipe\n"
    assert noria("note", one, "", "--json").json == {"note": None}
    assert noria("note", one, "", "--json").json == {"note": None}
    assert noria("note", "--experiment", "text", "about text", "--json").json == {"note": "about text"}
    assert noria("note", "--experiment", "text").out == "about text\n"
    assert noria("note", one, "two", "texts").code == 2


def test_runs_move_and_go_into_the_bin_and_back(noria: Typed) -> None:
    one, two = named(noria, "text-1"), named(noria, "text-2")
    assert noria("move", one, two, "z/moved").code == 0
    assert {r["run"]["id"] for r in noria("list", "--experiment", "z/moved", "--json").json} == {one, two}
    assert noria("delete", one, two, "--json").json == {"runs": [one, two]}
    assert {r["run"]["id"] for r in noria("list", "--deleted", "--json").json} == {one, two}
    assert "deleted" in noria("list", "--deleted").out
    assert "noria runs restore" in noria("show", one).out
    assert noria("restore", one, two, "--json").json == {"runs": [one, two]}
    assert noria("move", one, two, "text").code == 0


def test_the_bin_is_emptied_for_good(noria: Typed) -> None:
    made = noria("experiments", "create", "gone", "--json").json
    with connect(Path.cwd()) as ws, ws.db.write() as tx:
        one = ws.tracking.create_run(tx, ws.project.id, made["id"], name="gone-1", actor=ME).id
    assert noria("purge", one).code == 5
    noria("delete", one)
    dry = noria("purge", "--json").json
    assert (dry["dry_run"], dry["runs"]) == (True, 1)
    text = noria("purge").out
    assert "would be deleted" in text
    assert "--yes" in text
    assert noria("purge", "--older-than", "1d", "--json").json["runs"] == 0
    done = noria("purge", one, "--yes", "--json").json
    assert (done["dry_run"], done["runs"]) == (False, 1)
    assert noria("show", one).code == 4
    assert "nothing to delete" in noria("purge").out
    left = named(noria, "text-0")
    noria("delete", left)
    assert noria("purge", one, "--yes", "--json").json["runs"] == 0  # it is gone, and nothing else is meant
    assert noria("restore", left).code == 0
    assert noria("purge", one[:20], "--yes").code == 4
    assert noria("purge", "--now", "--yes").code == 2
    assert noria("purge", "--older-than", "soon").code == 2
    assert noria("purge", "--experiment", "gone", "--now", "--yes", "--json").json["experiments"] == 1
    assert noria("experiments", "delete", "gone").code == 4


def test_runs_are_written_to_files_of_three_forms(noria: Typed, tmp_path: Path) -> None:
    import polars as pl

    made = {}
    for end, read in (("csv", pl.read_csv), ("jsonl", pl.read_ndjson), ("parquet", pl.read_parquet)):
        target = tmp_path / f"runs.{end}"
        answer = noria("export", str(target), "--experiment", "vision/cats", "--json").json
        assert answer == {"file": str(target), "rows": 3}
        made[end] = read(target).sort("name")
        assert [path.name for path in tmp_path.glob("*.part*")] == []
    for table in made.values():
        assert table["name"].to_list() == ["cats-0", "cats-1", "cats-2"]
        assert table["metrics.val/loss"].to_list() == [5.0, 6.0, 7.0]
        assert [float(one) for one in table["params.lr"]] == [1.0, 0.1, 0.01]
    assert made["parquet"].schema["metrics.val/loss"] == pl.Float64
    assert made["parquet"].schema["params.lr"] == pl.String
    few = tmp_path / "few.csv"
    noria("export", str(few), "--filter", 'params.lr = "0.1"', "--columns", "params.lr")
    assert pl.read_csv(few).columns[-1] == "params.lr"
    assert set(pl.read_csv(few)["params.lr"]) == {0.1}
    lines = noria("export", "-", "--form", "jsonl", "--experiment", "text").out.splitlines()
    assert len(lines) == 3
    assert json.loads(lines[0])["experiment"] == "text"


def test_every_point_is_written(noria: Typed, tmp_path: Path) -> None:
    import polars as pl

    target = tmp_path / "points.parquet"
    noria("export", str(target), "--experiment", "vision/cats", "--history")
    table = pl.read_parquet(target)
    assert table.height == 900
    assert table.columns == ["run_id", "key", "step", "at", "value"]
    assert table.filter(pl.col("step") == 5).sort("value")["value"].to_list() == [5.0, 6.0, 7.0]
    none = tmp_path / "none.csv"
    assert noria("export", str(none), "--history", "--key", "nothing", "--json").json["rows"] == 0
    assert none.read_text() == "run_id,key,step,at,value\n"
    for words, code in (
        (["x.txt"], 2),
        (["-", "--form", "parquet"], 2),
        (["-"], 2),
        (["a.csv", "--key", "k"], 2),
        ([str(tmp_path / "no" / "a.csv")], 2),
        (["a.csv", "--experiment", "nothing"], 4),
    ):
        assert noria("export", *words).code == code, words


# ---- tables that fit


class Narrow(Shell):
    def __init__(self, width: int) -> None:
        self.written = io.StringIO()
        super().__init__(lambda *_, **__: None, out=self.written)
        self._width = width

    @property
    def console(self) -> Any:
        from rich.console import Console

        return Console(file=self.written, width=self._width, highlight=False)


@pytest.mark.parametrize("width", [20, 30, 45, 80, 200])
def test_a_table_fits_and_never_cuts_what_is_copied(width: int) -> None:
    shell = Narrow(width)
    columns = [
        Column(title="run", cells=["0123456789", "abcdefghij"]),
        Column(title="name", cells=["a long name of a run", "[b]x[/b]"], least=6),
        Column(title="value", cells=[1.25, 22.5], right=True, drop=1),
        Column(title="words", cells=["many words that say little", None], least=10, drop=2),
    ]
    left_out = grid(shell, columns)
    lines = shell.written.getvalue().splitlines()
    assert len(lines) == 3
    assert all(len(line) <= width for line in lines)
    assert lines[1].startswith("0123456789")
    assert ("words" in left_out) == (width < 35)
    if width == 200:
        assert lines[2] == "abcdefghij  [b]x[/b]               22.5"
    if "value" not in left_out:
        assert lines[1].index("1.25") + 4 == lines[2].index("22.5") + 4
