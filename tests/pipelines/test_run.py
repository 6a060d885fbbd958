from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import polars as pl
import psutil
import pytest

from noria.assets.records import Direction, RunState
from noria.base.actor import Actor
from noria.base.errors import Invalid
from noria.data.records import RepositoryKind
from noria.pipelines.errors import AssetUnknown, Infeasible, PipelineFailed
from noria.pipelines.records import PlannedStep

ME = Actor(name="user:test")

STEPS = {
    "steps.py": """\
import tempfile
from pathlib import Path

import polars as pl

import noria as nr
from helpers import scale

orders = nr.source("orders", files="orders.csv", key="id")


@nr.dataset
def clean(orders: pl.LazyFrame) -> pl.LazyFrame:
    print("cleaning")
    return orders.filter(pl.col("n") > 0)


@nr.dataset
def total(clean: pl.DataFrame, *, factor: int = 2):
    nr.log(rows=len(clean), step=1, note="hello")
    return {"sum": scale(clean["n"].sum()) * factor}


@nr.report
def page(total):
    return f"# {total['sum']}"


@nr.dataset
def files(clean):
    out = Path(tempfile.mkdtemp())
    (out / "a.txt").write_text(str(len(clean)))
    return out


@nr.check(clean)
def not_empty(clean):
    assert len(clean) > 0
""",
    "helpers.py": "def scale(x):\n    return x * 10\n",
    "orders.csv": "id,n\n1,5\n2,-1\n3,7\n",
}


def actions(steps: list[PlannedStep]) -> dict[str, str]:
    return {s.asset: s.action for s in steps}


@pytest.fixture(params=["inline", "process"])
def executor(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_project_runs_is_cached_and_says_why_it_runs_again(project, tmp_path, monkeypatch, executor: str) -> None:
    monkeypatch.chdir(tmp_path)
    ws = project(STEPS, executor)
    assert actions(ws.pipelines.plan()) == {
        "orders": "run", "clean": "run", "total": "run", "page": "run", "files": "run", "not_empty": "run",
    }  # fmt: skip
    done = ws.pipelines.run(actor=ME)
    assert {s.action for s in done.steps.values()} == {"source", "made"}
    assert ws.pipelines.value("total") == {"sum": 240}
    assert ws.pipelines.value("page") == "# 240"
    assert ws.pipelines.value("clean")["n"].to_list() == [5, 7]
    assert (ws.pipelines.value("files") / "a.txt").read_text() == "2"
    again = ws.pipelines.run(actor=ME)
    assert {s.action for s in again.steps.values()} == {"source", "reused"}
    assert {r.name for r in ws.assets.list_runs(ws.project.id, parent_id=again.run_id).items} == set()
    ws = project({"helpers.py": "def scale(x):\n    return x * 100\n"})
    plan = {s.asset: s for s in ws.pipelines.plan()}
    assert {n: s.action for n, s in plan.items() if s.action == "run"} == {"total": "run", "page": "run"}
    assert [w.text for w in plan["total"].why] == ["helpers.scale changed (helpers.py:1)"]
    assert [(w.level, w.text) for w in plan["page"].why] == [("UPSTREAM", "input total will change")]
    assert plan["total"].expected_ms is not None
    ws.pipelines.run(actor=ME)
    assert ws.pipelines.value("total") == {"sum": 2400}


def test_equal_outputs_cut_off_what_is_downstream(project, executor: str) -> None:
    ws = project(STEPS, executor)
    ws.pipelines.run(["page"], actor=ME)
    text = STEPS["steps.py"].replace('pl.col("n") > 0', 'pl.col("n") >= 1')
    ws = project({"steps.py": text})
    done = ws.pipelines.run(["page"], actor=ME)
    assert {n: s.action for n, s in done.steps.items()} == {
        "orders": "source", "clean": "made", "total": "reused", "page": "reused",
    }  # fmt: skip


def test_lineage_params_metrics_logs_and_cost_are_recorded(project, executor: str) -> None:
    ws = project(STEPS, executor)
    done = ws.pipelines.run(["total"], {"factor": 3}, actor=ME)
    step = done.steps["total"]
    run = ws.assets.run(step.run_id)
    assert run.state == RunState.DONE
    assert run.parent_id == done.run_id
    assert run.cost["wall_ms"] >= 0
    assert run.cost["memory"] > 1 << 20
    data = ws.tracking.data(step.run_id)
    assert data.params == {"factor": "3", "note": "hello"}
    assert data.metrics["rows"].value == 2.0
    assert data.metrics["rows"].step == 1
    up = ws.lineage.upstream([step.outputs[""]])
    assert {v.asset for v in up.versions.values()} == {"total", "clean", "orders", "code", "environment"}
    if executor == "process":
        assert "cleaning" in ws.pipelines.log_path(done.steps["clean"].run_id).read_text()


def test_the_same_work_in_another_workspace_has_the_same_identity_and_content(project, tmp_path_factory) -> None:
    import noria.workspace as w

    ws = project(STEPS, "inline")
    first = ws.pipelines.run(["total"], actor=ME)
    other = tmp_path_factory.mktemp("other")
    for name, text in STEPS.items():
        (other / name).write_text(text)
    (other / "noria.toml").write_text('name = "shop"\nmodules = ["steps"]\nexecutor = "process"\n')
    script = (
        "import noria.workspace as w, sys, json; from noria.base.actor import Actor; ws = w.init(sys.argv[1])\n"
        "d = ws.pipelines.run(['total'], actor=Actor(name='x')); r = ws.assets.run(d.steps['total'].run_id)\n"
        "print(json.dumps([str(r.identity), str(ws.assets.version(d.steps['total'].outputs['']).digest)]))"
    )
    found = subprocess.run([sys.executable, "-c", script, str(other)], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    run = ws.assets.run(first.steps["total"].run_id)
    assert json.loads(found.stdout) == [
        str(run.identity),
        str(ws.assets.version(first.steps["total"].outputs[""]).digest),
    ]
    assert w


FAILING = {
    "steps.py": """\
import os, sys, time
from pathlib import Path
import polars as pl
import noria as nr


@nr.dataset
def fine():
    return 1


@nr.dataset
def wrong(fine):
    rows = [1, 2]
    return rows[fine + 5]


@nr.dataset
def after(wrong):
    return wrong


@nr.dataset
def strange():
    return object()


@nr.dataset(retries=3)
def flaky():
    count = Path(os.environ["HOME"]) / "count"
    seen = len(count.read_text()) if count.exists() else 0
    count.write_text("x" * (seen + 1))
    if seen < 2:
        raise RuntimeError("not yet")
    return seen


@nr.dataset(timeout="1s")
def slow():
    time.sleep(60)


@nr.dataset(memory="400MiB")
def hungry():
    data = [bytearray(50_000_000) for _ in range(12)]
    time.sleep(5)
    return len(data)


@nr.dataset
def dies():
    os.kill(os.getpid(), 9)


@nr.dataset(cpu=4096)
def huge():
    return 1


@nr.check(fine)
def holds(fine):
    assert fine == 2
""",
}


def test_a_failing_step_names_its_line_and_blocks_what_needs_it(project, executor: str) -> None:
    ws = project(FAILING, executor)
    with pytest.raises(PipelineFailed, match=r"wrong failed \(and 1 more\): IndexError") as error:
        ws.pipelines.run(["after", "strange"], actor=ME)
    assert "steps.py:15: return rows[fine + 5]" in error.value.hint
    done = ws.pipelines.run(["after", "strange"], actor=ME, check=False)
    found = {n: s.action for n, s in done.steps.items() if n != "holds"}
    assert found == {"fine": "reused", "wrong": "failed", "after": "blocked", "strange": "failed"}
    assert "cannot be stored" in done.steps["strange"].error["message"]
    assert ws.assets.run(done.run_id).state == RunState.FAILED
    assert ws.assets.run(done.steps["wrong"].run_id).error["code"] == "step_failed"


def test_a_check_that_does_not_hold_says_what(project, executor: str) -> None:
    ws = project(FAILING, executor)
    done = ws.pipelines.run(["fine"], actor=ME, check=False)
    assert "assert fine == 2" in done.steps["holds"].error["message"]
    events = ws.assets.list_events(ws.project.id, types=["check.failed"])
    assert [e.payload["about"] for e in events] == ["fine"]


def test_retries(project, tmp_path, monkeypatch, executor: str) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    ws = project(FAILING, executor)
    done = ws.pipelines.run(["flaky"], actor=ME)
    assert ws.pipelines.value("flaky") == 2
    assert ws.assets.run(done.steps["flaky"].run_id).cost["attempts"] == 3


@pytest.mark.parametrize(
    ("asset", "code", "message"),
    [
        ("slow", "step_timeout", "longer than 1 s"),
        ("hungry", "memory_exceeded", "400 MiB are allowed"),
        ("dies", "step_lost", "SIGKILL"),
    ],
)
def test_limits_and_deaths_end_a_step_and_leave_no_process(project, asset: str, code: str, message: str) -> None:
    ws = project(FAILING, "process")
    started = time.monotonic()
    done = ws.pipelines.run([asset], actor=ME, check=False)
    assert time.monotonic() - started < 30
    error = done.steps[asset].error
    assert (error["code"], message in error["message"]) == (code, True)
    children = subprocess.run(
        ["ps", "--ppid", str(os.getpid()), "-o", "args"], capture_output=True, text=True, check=False
    )
    assert "noria.worker" not in children.stdout


def test_what_no_machine_here_has_is_refused_at_once(project) -> None:
    ws = project(FAILING, "process")
    with pytest.raises(Infeasible, match="4096 cpus"):
        ws.pipelines.run(["huge"], actor=ME)


COMMANDS = {
    "steps.py": """\
import noria as nr
orders = nr.source("orders", files="orders.csv", key="id")
counted = nr.command("python scripts/count.py {orders} {out}", name="counted", out="csv")
copied = nr.command("cp {counted} {out}/here.parquet", name="copied")
broken = nr.command("python -c 'import sys; sys.exit(\\"no luck\\")' {out}", name="broken")
missing = nr.command("no-such-program {out}", name="missing")
""",
    "scripts/count.py": "import sys, polars as pl\nf = pl.read_parquet(sys.argv[1])\npl.DataFrame({'rows': [len(f)]}).write_csv(sys.argv[2])\n",
    "orders.csv": STEPS["orders.csv"],
}


def test_steps_in_any_language(project, executor: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    ws = project(COMMANDS, executor)
    done = ws.pipelines.run(actor=ME, check=False)
    assert ws.pipelines.value("counted")["rows"].to_list() == [3]
    assert pl.read_parquet(ws.pipelines.value("copied") / "here.parquet")["rows"].to_list() == [3]
    assert done.steps["broken"].error["message"] == "python ended with code 1: no luck"
    assert "no program 'no-such-program'" in done.steps["missing"].error["message"]


def test_a_source_without_rows_says_how_to_give_it_some(project) -> None:
    ws = project(
        {
            "steps.py": "import noria as nr\nposted = nr.source('posted', key='id')\n\n\n@nr.dataset\ndef x(posted):\n    return posted\n"
        }
    )
    with pytest.raises(PipelineFailed, match="has no rows yet") as error:
        ws.pipelines.run(actor=ME)
    assert error.value.hint == "noria data append posted FILE"


def test_pinned_inputs_and_new_data(project) -> None:
    files = {
        "steps.py": "import noria as nr\nraw = nr.source('raw', key='id')\n\n\n@nr.dataset(inputs={'df': raw.at('main~1')})\ndef old(df):\n    return len(df)\n\n\n@nr.dataset\ndef new(raw):\n    return len(raw)\n"
    }
    ws = project(files)
    repo = ws.data.create(ws.project.id, "raw", RepositoryKind.TABLE, actor=ME, key=("id",))
    for n in range(2):
        ws.data.append(repo, pl.DataFrame({"id": [n]}), actor=ME)
    ws.pipelines.run(actor=ME)
    assert (ws.pipelines.value("old"), ws.pipelines.value("new")) == (1, 2)
    ws.data.append(repo, pl.DataFrame({"id": [9]}), actor=ME)
    plan = {s.asset: s for s in ws.pipelines.plan()}
    assert plan["new"].why[0].text == "input raw has new content"
    assert plan["old"].action == "run"


def test_forced_steps_run_and_give_the_same_version(project, executor: str) -> None:
    ws = project(STEPS, executor)
    first = ws.pipelines.run(["total"], actor=ME)
    second = ws.pipelines.run(["total"], actor=ME, force=True)
    assert second.steps["total"].action == "made"
    assert second.steps["clean"].action == "reused"
    assert second.steps["total"].outputs == first.steps["total"].outputs
    assert [w.level for w in second.steps["total"].why] == ["POLICY"]


def test_a_missing_output_runs_again(project) -> None:
    ws = project(STEPS, "inline")
    ws.pipelines.run(["clean"], actor=ME)
    version = ws.pipelines.current("clean")
    for pack, _ in ws.store.index.find(version.layout.raw):
        ws.store.drop_pack(pack)
    plan = {s.asset: s for s in ws.pipelines.plan(["clean"])}
    assert plan["clean"].why[0].text == "its output is missing from the store"
    ws.pipelines.run(["clean"], actor=ME)
    assert len(ws.pipelines.value("clean")) == 2


def test_an_edited_ignored_parameter_changes_nothing(project) -> None:
    text = "import noria as nr\n\n\n@nr.dataset(ignore=('jobs',))\ndef x(*, jobs=1, C=1):\n    return C\n"
    ws = project({"steps.py": text})
    ws.pipelines.run(actor=ME)
    assert ws.pipelines.run(["x"], {"jobs": 4}, actor=ME).steps["x"].action == "reused"
    assert ws.pipelines.run(["x"], {"C": 2}, actor=ME).steps["x"].action == "made"


LONG = """\
import time
from pathlib import Path

import noria as nr


@nr.dataset
def first():
    return 1


@nr.dataset
def second(first):
    while Path("HOLD/second").exists():
        time.sleep(0.02)
    return first + 1


@nr.dataset
def third(second):
    while Path("HOLD/third").exists():
        time.sleep(0.02)
    return second + 1
"""
"""A step waits as long as a file of its name lies in the folder HOLD."""

DRIVE = """
import sys, noria.workspace as w
from noria.base.actor import Actor
ws = w.connect(sys.argv[1])
print(ws.pipelines.run(actor=Actor(name="user:x")).run_id, flush=True)
"""


@pytest.mark.parametrize(("done", "held"), [("first", "second"), ("second", "third")])
def test_killed_in_the_middle_it_goes_on_and_nothing_stays_running(project, tmp_path, done: str, held: str) -> None:
    hold = tmp_path / "hold"
    hold.mkdir()
    (hold / held).touch()
    ws = project({"steps.py": LONG.replace("HOLD", str(hold))}, "process")
    process = subprocess.Popen([sys.executable, "-c", DRIVE, str(ws.home.parent)], start_new_session=True)
    try:
        workers = until(lambda: made(ws, done) and descendants(process.pid))
    finally:
        process.kill()
        process.wait()
    _, alive = psutil.wait_procs(workers, timeout=20)
    for worker in alive:
        worker.kill()
    assert alive == []  # no worker outlives its driver
    before = {n for n, s in [(s.asset, s.action) for s in ws.pipelines.plan()] if s == "reuse"}
    assert done in before
    with ws.db.write() as tx:  # as if the lease had run out
        from noria.assets import tables as t

        tx.execute(t.runs.update().where(t.runs.c.state == "running").values(lease_until=0))
    (hold / held).unlink()
    done_again = ws.pipelines.run(actor=ME)
    assert {n for n, s in done_again.steps.items() if s.action == "reused"} >= before
    assert ws.pipelines.value("third") == 3
    states = [r.state for r in ws.assets.list_runs(ws.project.id, limit=100).items]
    assert RunState.RUNNING not in states


@pytest.mark.parametrize("point", ["task.write", "task.written:2", "value.rename", "code.write", "code.rename"])
def test_a_crash_of_a_worker_or_a_driver_leaves_nothing_half_made(project, tmp_path, point: str) -> None:
    ws = project({**STEPS, "orders.csv": "id,n\n1,5\n2,-1\n3,7\n"}, "process")
    done = subprocess.run(
        [sys.executable, "-c", DRIVE, str(ws.home.parent)],
        env={**os.environ, "NORIA_FAULT": point},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    if point.startswith("task."):
        assert "ended with code 137" in done.stderr  # the driver says what became of the worker
    else:
        assert done.returncode == 137
    with ws.db.write() as tx:  # as if the lease had run out
        from noria.assets import tables as t

        tx.execute(t.runs.update().where(t.runs.c.state == "running").values(lease_until=0))
    ws.pipelines.run(actor=ME)
    assert ws.pipelines.value("total") is not None
    assert ws.verify(data=True) == []
    assert RunState.RUNNING not in [r.state for r in ws.assets.list_runs(ws.project.id, limit=100).items]


def made(ws, asset: str) -> bool:
    """Whether another process has made this step's output."""
    return any(s.asset == asset and s.action == "reuse" for s in ws.pipelines.plan())


def descendants(pid: int) -> list[psutil.Process]:
    """The task workers of a driver: each is a process of its own, recorded with its time of birth."""
    found = psutil.Process(pid).children(recursive=True)
    return [child for child in found if "noria.worker" in child.cmdline()]


def until(what, most: float = 60.0):
    end = time.monotonic() + most
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.02)
    raise AssertionError("it did not come to that")


def test_two_snapshots_of_one_module_live_side_by_side(tmp_path) -> None:
    from noria.pipelines.views import CodeView

    for name, number in (("a", 1), ("b", 2)):
        place = tmp_path / name
        (place / "pkg").mkdir(parents=True)
        (place / "flights.py").write_text(
            "from pkg.deep import N\nimport pkg.deep\nfrom . import x if False else None\n"
            if False
            else "from pkg.deep import N\nimport pkg.deep, math\n\n\ndef f():\n    import pkg.late\n    from pkg import late\n    return N, pkg.deep.N, pkg.late.L, late.L, math.pi > 3\n"
        )
        (place / "pkg" / "__init__.py").write_text("from .deep import N as M\n")
        (place / "pkg" / "deep.py").write_text(f"N = {number}\n")
        (place / "pkg" / "late.py").write_text(f"L = {number * 10}\n")
    a, b = CodeView(tmp_path / "a"), CodeView(tmp_path / "b")
    assert a.get("flights:f")() == (1, 1, 10, 10, True)
    assert b.get("flights:f")() == (2, 2, 20, 20, True)
    assert a.get("pkg:M") == 1
    assert "flights" not in sys.modules
    from noria.pipelines.errors import CodeBroken

    with pytest.raises(CodeBroken, match="cannot be loaded"):
        a.get("flights:nope")


def test_the_task_format_never_changes(golden) -> None:
    from noria.pipelines.task import InputSpec, TaskSpec, encode

    spec = TaskSpec(
        attempt="0123.1", asset="clean", kind="dataset", runner="noria.pipelines.runners:run_dataset", entry="steps:clean",
        code="/code", inputs=[InputSpec(slot="orders", asset="orders", kind="table", digest="blake3:00", layout="blake3:11", path="/in", meta={"key": ["id"]})],
        params={"C": 1.0}, spec={"key": ["id"]}, out="/out", cpu=2, memory=100, timeout=1000,
    )  # fmt: skip
    golden("task.json", encode(spec))


def test_parameters_without_a_target_are_refused(project) -> None:
    ws = project(STEPS, "inline")
    for verb in (lambda: ws.pipelines.run((), {"factor": 3}, actor=ME), lambda: ws.pipelines.plan((), {"factor": 3})):
        with pytest.raises(Invalid, match="no asset is named") as error:
            verb()
        assert error.value.hint == "run([\"ASSET\"], {'factor': 3})"
    assert ws.assets.list_runs(ws.project.id).items == []


def test_any_step_of_a_run_is_forced_by_name(project) -> None:
    ws = project(STEPS, "inline")
    ws.pipelines.run(actor=ME)
    done = ws.pipelines.run(["page"], actor=ME, force={"clean"})
    assert {n: s.action for n, s in done.steps.items()} == {
        "orders": "source", "clean": "made", "total": "reused", "page": "reused",
    }  # fmt: skip
    assert {s.asset for s in ws.pipelines.plan(["page"], force=["clean", "page"]) if s.action == "run"} >= {"clean"}
    assert ws.pipelines.run(["page"], actor=ME, force=[]).steps["page"].action == "reused"
    assert ws.pipelines.run(["total"], actor=ME, force="total").steps["total"].action == "made"
    with pytest.raises(AssetUnknown, match="claen"):
        ws.pipelines.run(["page"], actor=ME, force=["claen"])
    with pytest.raises(Invalid, match="does not need it") as error:
        ws.pipelines.run(["page"], actor=ME, force=["files"])
    assert error.value.hint == "Name it as a target too: noria run page files"


def test_an_error_of_polars_comes_without_its_plan(project, executor: str) -> None:
    text = STEPS["steps.py"].replace('pl.col("n") > 0', 'pl.col("m") > 0')
    ws = project({**STEPS, "steps.py": text}, executor)
    error = ws.pipelines.run(["clean"], actor=ME, check=False).steps["clean"].error
    assert error["message"].startswith("ColumnNotFoundError: ")
    assert "\n\n" not in error["message"]
    assert "plan" not in error["message"]
    assert error["message"].partition(": ")[2] in error["details"]["trace"]
    assert "plan" in error["details"]["trace"].lower()


def test_the_text_of_other_errors_is_kept_whole_and_long_traces_lose_their_middle() -> None:
    from noria.pipelines.execute import from_user
    from noria.pipelines.task import TaskSpec

    spec = TaskSpec(attempt="1", asset="a", kind="dataset", runner="")
    made = from_user(ValueError("first\n\nsecond " + "x" * 20_000 + " end"), spec)
    assert made.message.startswith("ValueError: first\n\nsecond")
    trace = made.details["trace"]
    assert len(trace) < 9_000
    assert trace.startswith("ValueError: first")
    assert trace.rstrip().endswith("x end")


WIDE = """\
import noria as nr


@nr.dataset
def root():
    return 1
"""


def test_the_work_for_a_step_does_not_grow_with_their_number(project, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = "".join(f"\n@nr.dataset\ndef s{n}(root):\n    return root + {n}\n" for n in range(40))
    last = ", ".join(f"s{n}" for n in range(40))
    ws = project({"steps.py": f"{WIDE}{steps}\n@nr.dataset\ndef last({last}):\n    return s39\n"})
    asked: list[str] = []
    manifest = ws.pipelines.manifest

    def counted(graph, node, *args):
        asked.append(node.name)
        return manifest(graph, node, *args)

    monkeypatch.setattr(ws.pipelines, "manifest", counted)
    done = ws.pipelines.run(actor=ME)
    assert {s.action for s in done.steps.values()} == {"made"}
    assert sorted(asked) == sorted(done.steps)
    assert next(iter(done.steps)) == "root"
    assert list(done.steps)[-1] == "last"
    asked.clear()
    assert {s.action for s in ws.pipelines.run(actor=ME).steps.values()} == {"reused"}
    assert len(asked) == 42


def test_what_is_reused_is_linked_and_current_before_the_next_step_starts(project) -> None:
    text = """\
import noria as nr


@nr.dataset
def a(*, n=1):
    return n


@nr.dataset
def b(a):
    return a


@nr.dataset
def c(b):
    import os
    if os.environ.get("C_FAILS"):
        raise RuntimeError("no")
    return b
"""
    ws = project({"steps.py": text})
    for n in (1, 2):
        ws.pipelines.run(["a"], {"n": n}, actor=ME)
    assert ws.pipelines.value("a") == 2
    done = ws.pipelines.run(["c"], actor=ME)
    assert {n: s.action for n, s in done.steps.items()} == {"a": "reused", "b": "made", "c": "made"}
    assert ws.pipelines.value("a") == 1
    edges = [(e.direction, e.slot) for e in ws.assets.edges(done.run_id) if e.direction == Direction.REUSED]
    assert edges == [(Direction.REUSED, "a")]
    again = ws.pipelines.run(["c"], actor=ME)
    edges = [e.slot for e in ws.assets.edges(again.run_id) if e.direction == Direction.REUSED]
    assert edges == ["a", "b", "c"]


def test_a_step_with_several_broken_inputs_is_blocked_once(project) -> None:
    text = """\
import noria as nr


@nr.dataset
def a():
    raise RuntimeError("a")


@nr.dataset
def b():
    raise RuntimeError("b")


@nr.dataset
def fine():
    return 1


@nr.dataset
def after(a, b, fine):
    return 1


@nr.dataset
def later(after):
    return 1
"""
    ws = project({"steps.py": text})
    seen: list[str] = []

    def advance(done: float = 1, text: str | None = None, total: float | None = None) -> None:
        if text is not None:
            seen.append(text)

    done = ws.pipelines.run(actor=ME, check=False, advance=advance)
    assert {n: s.action for n, s in done.steps.items()} == {
        "a": "failed", "b": "failed", "fine": "made", "after": "blocked", "later": "blocked",
    }  # fmt: skip
    assert sorted(seen) == ["a", "after", "b", "fine", "later"]
