"""The shell on a small project: what a person types, what it answers, and how it says no."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import pytest

from noria.base.times import DAY
from noria.cli.main import run
from noria.pipelines.cli import read_value
from noria.workspace import connect

STEPS = """\
from pathlib import Path

import polars as pl

import noria as nr

orders = nr.source("orders", files="orders.csv", key="id")


@nr.dataset
def clean(orders: pl.LazyFrame) -> pl.LazyFrame:
    print("cleaning [/b] now")
    return orders.filter(pl.col("n") > 0)


@nr.dataset
def total(clean: pl.DataFrame, *, factor: int = 2, label: str = "x", share: float = 0.5):
    nr.log(rows=len(clean), step=1)
    nr.log(rows=len(clean) + 1, step=2)
    nr.log(odd=float("nan"))
    return {"sum": int(clean["n"].sum()) * factor, "label": label, "share": share}


@nr.report
def page(total):
    return f"# {total['sum']}"
"""
FILES = {"steps.py": STEPS, "orders.csv": "id,n\n1,5\n2,-1\n3,7\n"}


class Answer:
    """What a command left behind."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out, parse_constant=_refuse)

    @property
    def error(self) -> dict[str, Any]:
        """The error form; nothing else may be on the stream."""
        return json.loads(self.err.strip().splitlines()[-1])["error"]


def _refuse(text: str) -> Any:
    raise AssertionError(f"{text} is not JSON")


@pytest.fixture
def noria(capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*args: str) -> Answer:
        capsys.readouterr()
        code = run(list(args))
        out, err = capsys.readouterr()
        return Answer(code, out, err)

    return call


@pytest.fixture
def shop(project: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    project(FILES)
    return project


def test_plan_says_what_would_run_and_why_then_what_is_cached(shop: Any, noria: Any) -> None:
    plan = noria("plan", "--json").json
    assert {s["asset"]: s["action"] for s in plan["steps"]} == dict.fromkeys(
        ["orders", "clean", "total", "page"], "run"
    )
    assert noria("run").code == 0
    after = noria("plan", "page", "--json").json
    assert [s["action"] for s in after["steps"]] == ["source", "reuse", "reuse", "reuse"]
    shop({"steps.py": STEPS.replace("> 0", "> 1")})
    changed = {s["asset"]: s for s in noria("plan", "--json").json["steps"]}
    assert changed["clean"]["why"][0]["level"] == "CODE"
    assert changed["clean"]["expected_ms"] >= 0
    assert changed["total"]["why"] == [{"level": "UPSTREAM", "text": "input clean will change"}]
    text = noria("plan").out
    assert "input clean will change" in text
    assert "3 of 4 would run" in text
    assert "Everything is up to date" not in text


def test_run_makes_what_is_out_of_date_and_answers_one_object(shop: Any, noria: Any) -> None:
    done = noria("run", "page", "--json")
    assert done.code == 0
    value = done.json
    assert set(value) == {"run", "state", "steps"}
    assert {s["asset"]: s["action"] for s in value["steps"]} == {
        "orders": "source", "clean": "made", "total": "made", "page": "made",
    }  # fmt: skip
    words = {"asset", "kind", "action", "run", "outputs", "error", "why", "wall_ms", "warnings"}
    assert set(value["steps"][0]) == words
    assert "cleaning" in done.err, "what a step prints does not get into the JSON"
    again = noria("run", "--json").json
    assert {s["action"] for s in again["steps"]} == {"source", "reused"}
    shown = noria("run")
    assert "3 cached" in shown.out
    assert again["run"] not in shown.out


def test_parameters_take_the_type_of_their_default(shop: Any, noria: Any, tmp_path: Path) -> None:
    assert noria("run", "total", "factor=3", "label=7", "share=1").code == 0
    with connect(tmp_path) as ws:
        assert ws.pipelines.value("total") == {"sum": 36, "label": "7", "share": 1.0}
    planned = {
        s["asset"]: s["action"]
        for s in noria("plan", "total", "factor=3", "label=7", "share=1.0", "--json").json["steps"]
    }
    assert planned["total"] == "reuse"
    assert [read_value(t, None) for t in ("1", "1e3", "true", "True", "null", "None", "[1, 2]", "{'a': 1}", "abc", "")] == [
        1, 1000.0, True, True, None, None, [1, 2], {"a": 1}, "abc", "",
    ]  # fmt: skip


def test_force_makes_named_assets_anew(shop: Any, noria: Any) -> None:
    first = {s["asset"]: s for s in noria("run", "--json").json["steps"]}
    forced = {s["asset"]: s for s in noria("run", "page", "--force", "clean", "--json").json["steps"]}
    assert {n: s["action"] for n, s in forced.items()} == {
        "orders": "source", "clean": "made", "total": "reused", "page": "reused",
    }  # fmt: skip
    assert forced["clean"]["why"] == [{"level": "POLICY", "text": "it is forced"}]
    assert forced["clean"]["outputs"] == first["clean"]["outputs"]
    one = {s["asset"]: s["action"] for s in noria("run", "total", "--force", "total", "--json").json["steps"]}
    assert one == {"orders": "source", "clean": "reused", "total": "made"}
    assert noria("run", "--force", "claen").code == 4
    outside = noria("run", "clean", "--force", "page", "--json")
    assert (outside.code, outside.error["hint"]) == (2, "Name it as a target too: noria run clean page")


def test_a_forced_run_is_one_run(shop: Any, noria: Any, tmp_path: Path) -> None:
    first = noria("run", "--json").json["run"]
    forced = noria("run", "total", "factor=3", "--force", "clean", "--json").json
    assert {s["asset"]: s["action"] for s in forced["steps"]} == {"orders": "source", "clean": "made", "total": "made"}
    with connect(tmp_path) as ws:
        assert [r.id for r in ws.assets.list_runs(ws.project.id, kinds=["pipeline"]).items] == [forced["run"], first]
        children = ws.assets.list_runs(ws.project.id, parent_id=forced["run"]).items
        assert {r.name for r in children} == {"clean", "total"}


def test_the_trigger_and_the_executor_are_recorded_and_used(shop: Any, noria: Any) -> None:
    done = noria("run", "clean", "--trigger", "the nightly job", "--executor", "process", "--json")
    assert done.code == 0
    shown = noria("runs", "show", done.json["run"], "--json").json
    assert shown["run"]["trigger"] == "the nightly job"
    assert [c["name"] for c in shown["children"]] == ["clean"]
    logs = noria("runs", "logs", done.json["run"], "--json").json["logs"]
    assert [log["lines"] for log in logs] == [["cleaning [/b] now"]]
    text = noria("runs", "logs", shown["children"][0]["id"])
    assert text.out.strip() == "cleaning [/b] now"


WRONG = {
    "an unknown asset": (["run", "totl"], 4, "asset_unknown", "totl", "'total'"),
    "an unknown asset to plan": (["plan", "pge"], 4, "asset_unknown", "pge", "'page'"),
    "an unknown parameter": (["run", "total", "facto=3"], 2, "parameter_unknown", "facto", "'factor'"),
    "a parameter without an asset": (["run", "factor=3"], 2, "invalid", "factor", "noria run ASSET factor=3"),
    "a parameter that the asset does not have": (["run", "page", "factor=3"], 2, "parameter_unknown", "page", "none"),
    "an unknown option": (["run", "--exekutor", "inline"], 2, "invalid", "--exekutor", "Usage"),
    "an unknown executor": (["run", "--executor", "cloud"], 2, "invalid", "cloud", ""),
    "an unknown model": (["sweep", "totl"], 4, "asset_unknown", "totl", "'total'"),
    "a sweep of no model": (["sweep", "total"], 2, "training_invalid", "nothing to search", "search="),
    "an unknown run": (["runs", "show", "ffff"], 4, "run_not_found", "ffff", "noria runs list"),
    "a run that cannot be one": (["runs", "show", "%"], 4, "run_not_found", "%", "noria runs list"),
    "a broken filter": (["runs", "list", "--filter", "metrics.x <"], 2, "filter_invalid", "metrics.x <", ""),
    "a filter of nothing": (["runs", "list", "--filter", "stat = 'done'"], 2, "filter_invalid", "stat", "'state'"),
    "an unknown experiment": (["runs", "list", "--experiment", "totl"], 4, "experiment_not_found", "totl", "'total'"),
    "a page of nothing": (["runs", "list", "--limit", "0"], 2, "invalid", "0 items", "1000"),
    "an unknown registered model": (["models", "show", "nope"], 4, "model_not_found", "nope", "noria models list"),
    "an unknown version": (["models", "show", "nope@v3"], 4, "model_not_found", "nope", ""),
    "a deployment of nothing": (["deploy", "nope@champion", "--endpoint", "e"], 4, "model_not_found", "nope", ""),
    "a deployment to nowhere": (["deploy", "nope"], 2, "invalid", "--endpoint", ""),
    "an unknown endpoint": (["endpoints", "show", "nope"], 4, "endpoint_not_found", "nope", "noria endpoints list"),
    "an unknown job": (["jobs", "show", "7"], 4, "job_not_found", "7", ""),
    "a job that cannot be one": (["jobs", "show", "seven"], 2, "invalid", "seven", ""),
    "a prediction where nothing serves": (["predict", "e", "-"], 6, "nothing_serves", "No endpoints", "noria up"),
    "a prediction of no file": (["predict", "e", "nope.csv"], 2, "invalid", "nope.csv", ""),
    "a command that is none": (["rnus", "list"], 2, "invalid", "rnus", "run"),
    "a sub-command that is none": (["runs", "lst"], 2, "invalid", "lst", "list"),
}  # fmt: skip


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that ran once, for commands that change nothing."""
    root = tmp_path_factory.mktemp("ran")
    for name, text in FILES.items():
        (root / name).write_text(text)
    (root / "noria.toml").write_text('name = "shop"\nmodules = ["steps"]\nexecutor = "inline"\n')
    for args in (["init"], ["run", "total", "--json"]):
        subprocess.run([sys.executable, "-m", "noria", *args], cwd=root, check=True, capture_output=True)
    return root


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_said_once_with_its_exit_code(what: str, ran: Path, noria: Any, monkeypatch) -> None:
    args, code, kind, message, hint = WRONG[what]
    monkeypatch.chdir(ran)
    monkeypatch.delitem(sys.modules, "steps", raising=False)
    found = noria(*args, "--json")
    assert (found.code, found.out) == (code, "")
    assert found.error["code"] == kind
    assert set(found.error) == {"code", "message", "hint", "details"}
    assert message in found.error["message"]
    assert hint in found.error["hint"] + found.error["message"]
    text = noria(*args)
    assert text.code == code
    assert text.err.count("Error:") == 1
    assert "Traceback" not in text.err
    sys.modules.pop("steps", None)
    if str(ran) in sys.path:
        sys.path.remove(str(ran))


BROKEN = {
    "a cycle": (
        "import noria as nr\n@nr.dataset\ndef a(c): ...\n@nr.dataset\ndef b(a): ...\n@nr.dataset\ndef c(b): ...\n",
        2, "graph_invalid", "cycle: a -> c -> b -> a", "must not need",
    ),
    "two assets of one name": (
        "import noria as nr\n@nr.dataset\ndef a(): ...\n@nr.dataset(name='a')\ndef b(): ...\n",
        2, "graph_invalid", "'a'", "",
    ),
    "a parameter that is no asset": (
        "import noria as nr\no = nr.source('orders', key='id')\n@nr.dataset\ndef a(ordres): ...\n",
        2, "graph_invalid", "'ordres'", "'orders'",
    ),
    "a module that is not there": (None, 1, "code_broken", "steps", "noria.toml"),
    "a module that does not compile": ("import noria as nr\ndef a(:\n", 1, "code_broken", "SyntaxError", "steps.py:2"),
    "a module that fails": ("import noria as nr\nx = 1 / 0\n", 1, "code_broken", "ZeroDivisionError", "steps.py:2"),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
@pytest.mark.parametrize("verb", ["plan", "run"])
def test_a_broken_project_is_explained(
    what: str, verb: str, project: Any, tmp_path: Path, noria: Any, monkeypatch
) -> None:
    text, code, kind, message, hint = BROKEN[what]
    monkeypatch.chdir(tmp_path)
    project({"steps.py": text or ""})
    if text is None:
        (tmp_path / "steps.py").unlink()
    found = noria(verb, "--json")
    assert (found.code, found.out, found.error["code"]) == (code, "", kind)
    assert message in found.error["message"]
    assert hint in found.error["hint"]


def test_a_missing_column_fails_the_step_with_one_clear_message(
    project: Any, tmp_path: Path, noria: Any, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    project({**FILES, "steps.py": STEPS.replace('pl.col("n") > 0', 'pl.col("m") > 0')})
    found = noria("run", "--json")
    assert found.code == 1
    steps = {s["asset"]: s for s in found.json["steps"]}
    assert {n: s["action"] for n, s in steps.items()} == {
        "orders": "source", "clean": "failed", "total": "blocked", "page": "blocked",
    }  # fmt: skip
    assert "m" in steps["clean"]["error"]["message"]
    assert found.json["state"] == "failed"
    assert found.error["code"] == "pipeline_failed"
    assert "clean failed" in found.error["message"]
    assert "\n\n" not in found.error["message"]
    text = noria("run")
    assert text.code == 1
    assert "FAILED" in text.out
    assert text.err.count("clean failed") == 1
    shown = noria("runs", "list", "--state", "failed", "--kind", "step", "--json").json
    assert [one["run"]["name"] for one in shown] == ["clean", "clean"]
    assert noria("runs", "show", shown[0]["run"]["id"]).code == 0


def test_a_project_without_assets_is_told_what_to_write(project: Any, tmp_path: Path, noria: Any, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    project({})
    found = noria("run", "--json")
    assert (found.code, found.error["hint"]) == (2, 'List its modules in noria.toml: modules = ["flights"]')
    assert noria("plan").out.strip().endswith('modules = ["flights"].')


def test_runs_are_listed_searched_compared_and_their_metrics_shown(shop: Any, noria: Any) -> None:
    for factor in (1, 2):
        assert noria("run", "total", f"factor={factor}").code == 0
    found = noria("runs", "list", "--kind", "step", "--name", "total", "--json").json
    assert [one["params"]["factor"] for one in found] == ["2", "1"]
    assert found[0]["metrics"] == {"odd": "NaN", "rows": 3}
    ids = [one["run"]["id"] for one in found]
    searched = noria("runs", "list", "--filter", 'params.factor = "1" and metrics.rows > 2', "--json").json
    assert [one["run"]["id"] for one in searched] == ids[1:]
    ordered = noria("runs", "list", "--experiment", "total", "--order", "params.factor asc", "--json").json
    assert [one["run"]["id"] for one in ordered] == ids[::-1]
    compared = noria("runs", "compare", *ids, "--json").json
    assert compared["params"] == {"factor": ["2", "1"]}
    assert compared["metrics"] == {}
    assert set(noria("runs", "compare", *ids, "--all", "--json").json["metrics"]) == {"odd", "rows"}
    latest = noria("runs", "metrics", ids[0], "--json").json
    assert latest["rows"]["value"] == 3
    history = noria("runs", "metrics", ids[0], "rows", "--json").json
    assert [(p["step"], p["value"]) for p in history["points"]] == [(1, 2.0), (2, 3.0)]
    wrong = noria("runs", "metrics", ids[0], "rwos", "--json")
    assert (wrong.code, wrong.error["code"], wrong.error["hint"]) == (4, "metric_not_found", "Did you mean 'rows'?")
    shown = noria("runs", "show", ids[0][:31], "--json")
    assert shown.code in (0, 4)  # both began in the same millisecond, or they did not
    for args in (
        ["list"],
        ["show", ids[0]],
        ["compare", *ids],
        ["metrics", ids[0]],
        ["metrics", ids[0], "rows"],
        ["logs", ids[0]],
    ):
        text = noria("runs", *args)
        assert text.code == 0, text.err
        assert text.out
    assert noria("run", "--json").code == 0
    found = noria("runs", "list", "--experiment", "clean", "--json").json
    assert {(one["run"]["kind"], one["run"]["name"]) for one in found} == {("step", "clean")}  # it has no parameters
    both = noria("runs", "list", "--filter", 'params.factor = "1"', "--kind", "step", "--state", "done", "--json").json
    assert [one["run"]["id"] for one in both] == ids[1:]


def test_jobs_are_listed_and_shown(shop: Any, noria: Any, tmp_path: Path) -> None:
    with connect(tmp_path) as ws, ws.db.write() as tx:
        job = ws.jobs.add(tx, ws.project.id, "ingest", {"file": "[/x]"}, unique="one")
        ws.jobs.add(tx, ws.project.id, "sweep", {}, delay_ms=DAY)
    assert job is not None
    assert [j["kind"] for j in noria("jobs", "list", "--json").json] == ["sweep", "ingest"]
    assert [j["id"] for j in noria("jobs", "list", "--kind", "ingest", "--state", "waiting", "--json").json] == [job.id]
    assert noria("jobs", "show", str(job.id), "--json").json["payload"] == {"file": "[/x]"}
    assert "ingest" in noria("jobs", "list").out
    other = noria("jobs", "show", str(job.id), "--project", "elsewhere", "--json")
    assert (other.code, other.error["code"]) == (4, "job_not_found")


def test_events_are_read_on_from_a_number(shop: Any, noria: Any) -> None:
    assert noria("run", "clean").code == 0
    newest = [e["id"] for e in noria("admin", "events", "--json").json]
    assert newest == sorted(newest, reverse=True)
    assert len(newest) >= 2
    first = noria("admin", "events", "--limit", "1", "--json").json
    assert first[0]["id"] == newest[0]
    rest = [e["id"] for e in noria("admin", "events", "--after", str(newest[-1]), "--json").json]
    assert rest == sorted(newest[:-1])
    assert {e["type"] for e in noria("admin", "events", "--type", first[0]["type"], "--json").json} == {
        first[0]["type"]
    }


def test_an_interrupted_run_says_so_and_leaves_nothing_running(project: Any, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    project(
        {"steps.py": "import time\nimport noria as nr\n@nr.dataset\ndef slow():\n    time.sleep(60)\n    return {}\n"},
        "process",
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "noria", "run"], cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with connect(tmp_path) as ws:
        for _ in range(400):
            if [r for r in ws.assets.list_runs(ws.project.id).items if r.kind == "step"]:
                break
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert process.returncode == 130, err
        assert "Interrupted." in err
        assert "Traceback" not in err
        assert {r.state.value for r in ws.assets.list_runs(ws.project.id).items} == {"cancelled"}


def test_help_of_every_command_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    from noria.cli.main import COMMANDS, noria

    for name in COMMANDS:
        command = noria.get_command(click.Context(noria), name)
        parts = command.list_commands(click.Context(command)) if isinstance(command, click.Group) else []
        for asked in ([name], *([name, part] for part in parts)):
            assert run([*asked, "--help"]) == 0
            assert "--json" in capsys.readouterr().out or parts


def test_the_list_of_data_commands_says_what_each_says_of_itself() -> None:
    from noria.data.cli import data

    for name, (_, text) in data.lazy.items():
        command = data.get_command(click.Context(data), name)
        assert command.name == name
        assert (command.help or "").splitlines()[0] == text
    assert sorted(name for names in data.sections.values() for name in names) == sorted(data.lazy)
