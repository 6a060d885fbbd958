from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.base.actor import Actor
from noria.base.errors import Invalid, NoriaError
from noria.base.pages import token
from noria.base.search import MAX_CLAUSES, SearchInvalid, parse, parse_order
from noria.tracking.errors import ExperimentExists, ExperimentNotFound, KeyInvalid, ParamChanged
from noria.tracking.grammar import RUNS
from noria.tracking.records import Point
from noria.workspace import Workspace


def new_run(ws: Workspace, actor: Actor, name: str = "r", experiment: str = "Default"):
    with ws.db.write() as tx:
        run = ws.assets.start_run(tx, ws.project.id, kind="mlflow", name=name, actor=actor, leased=False)
        ws.tracking.track(tx, ws.project.id, run.id, experiment=experiment, user="alice")
    return run.id


def test_histories_keep_nan_infinities_int64_and_repeats_once(both: Workspace, actor: Actor) -> None:
    run = new_run(both, actor)
    far = 2**63 - 1
    points = [
        Point(key="loss", value=1.0, at=5, step=1),
        Point(key="loss", value=math.nan, at=5, step=2),
        Point(key="loss", value=math.inf, at=far, step=-far - 1),
        Point(key="loss", value=1.0, at=5, step=1),
    ]
    both.tracking.log(run, points=points)
    both.tracking.log(run, points=points[:2])
    found = both.tracking.history(run, "loss").items
    assert len(found) == 3
    assert [p.step for p in found] == [1, 2, -far - 1]
    assert math.isnan(found[1].value)
    assert found[2].value == math.inf
    assert math.isnan(both.tracking.data(run).metrics["loss"].value)


def test_the_latest_point_is_by_step_then_time_then_value(both: Workspace, actor: Actor) -> None:
    run = new_run(both, actor)
    for value, at, step in [(1.0, 10, 5), (2.0, 99, 4), (3.0, 10, 5), (2.5, 10, 5), (0.5, 11, 5)]:
        both.tracking.log(run, points=[Point(key="m", value=value, at=at, step=step)])
    assert both.tracking.data(run).metrics["m"].value == 0.5


def test_a_batch_is_all_or_nothing(both: Workspace, actor: Actor) -> None:
    run = new_run(both, actor)
    both.tracking.log(run, params={"a": "1"})
    with pytest.raises(ParamChanged, match="'1' and cannot become '2'"):
        both.tracking.log(run, params={"b": "1", "a": "2"}, points=[Point(key="m", value=1, at=0)], tags={"t": "x"})
    data = both.tracking.data(run)
    assert (data.params, data.metrics, data.tags) == ({"a": "1"}, {}, {})


def test_params_may_come_late_and_again_with_the_same_value(both: Workspace, actor: Actor) -> None:
    from noria.assets.records import RunState

    run = new_run(both, actor)
    with both.db.write() as tx:
        both.assets.end_run(tx, run, RunState.DONE, fence=None)
    both.tracking.log(run, params={"a": "1"})
    both.tracking.log(run, params={"a": "1"}, tags={"note": "x"})
    both.tracking.log(run, tags={"note": "y"})
    assert both.tracking.data(run).params == {"a": "1"}
    assert both.tracking.data(run).tags == {"note": "y"}
    both.tracking.delete_tag(run, "note")
    assert both.tracking.data(run).tags == {}


@pytest.mark.parametrize("key", ["", "a//b", "../x", "/a", "x" * 251, "a\nb", "a;b"])
def test_names_that_could_become_paths_are_refused(both: Workspace, actor: Actor, key: str) -> None:
    run = new_run(both, actor)
    with pytest.raises(KeyInvalid):
        both.tracking.log(run, params={key: "1"})
    with pytest.raises(KeyInvalid):
        both.tracking.log(run, points=[Point(key="m", value=1, at=0, step=2**63)])


def test_many_writers_on_one_run_lose_nothing(both: Workspace, actor: Actor) -> None:
    run = new_run(both, actor)

    def write(writer: int) -> None:
        for step in range(20):
            both.tracking.log(run, points=[Point(key=f"m{writer}", value=step, at=step, step=step)])

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {k: p.value for k, p in both.tracking.data(run).metrics.items()} == {f"m{n}": 19.0 for n in range(4)}
    assert len(both.tracking.history(run, "m0").items) == 20


def test_histories_are_paged(both: Workspace, actor: Actor) -> None:
    run = new_run(both, actor)
    both.tracking.log(run, points=[Point(key="m", value=n, at=n, step=n) for n in range(25)])
    values, after = [], None
    while True:
        page = both.tracking.history(run, "m", limit=10, after=after)
        values += [p.value for p in page.items]
        after = page.next
        if after is None:
            break
    assert values == list(range(25))


def test_experiments(both: Workspace, actor: Actor) -> None:
    made = both.tracking.create_experiment(both.project.id, "team/flights", actor=actor, tags={"a": "b"})
    assert both.tracking.experiment(both.project.id, "team/flights") == made
    assert made.tags == {"a": "b"}
    with pytest.raises(ExperimentExists):
        both.tracking.create_experiment(both.project.id, "team/flights", actor=actor)
    with pytest.raises(ExperimentNotFound) as error:
        both.tracking.experiment(both.project.id, "team/flight")
    assert "team/flights" in error.value.hint


@pytest.fixture
def three(both: Workspace, actor: Actor, clock) -> Workspace:
    for number, (loss, depth, team) in enumerate([(0.5, "3", "Blue"), (math.nan, "4", "red"), (0.2, "3", "green")]):
        clock.tick(1000)
        run = new_run(both, actor, f"run{number}", "Default" if number else "other")
        both.tracking.log(
            run, params={"depth": depth}, tags={"team": team}, points=[Point(key="loss", value=loss, at=0)]
        )
    return both


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ["run2", "run1", "run0"]),
        ("metrics.loss < 0.4", ["run2"]),
        ("metrics.loss >= -1e9", ["run2", "run0"]),
        ("params.depth = '3'", ["run2", "run0"]),
        ('params.depth = "3" and metrics.loss > 0.3', ["run0"]),
        ("params.depth != '3'", ["run1"]),
        ("params.nope != '3'", []),
        ("tags.team like 'B%'", ["run0"]),
        ("tags.team like 'b%'", []),
        ("tags.team ilike 'b%' AND state = 'running'", ["run0"]),
        ("name = 'run1'", ["run1"]),
        ("attributes.start_time > 1356998401500", ["run2", "run1"]),
        ("start_time < 99999999999999999999 and start_time != 1.5", ["run2", "run1", "run0"]),
        ("start_time > -1e300 end_time > 0", []),
        ("user = 'alice' and user_id != 'bob'", ["run2", "run1", "run0"]),
        ('tags.`team` = "green"', ["run2"]),
        ("tags.team = 'x'' or 1=1'", []),
        ("tags.team = 'x' or 1=1", None),
        ("tags.team is null and params.depth is not null", []),
        ("tags.nope is null params.depth != '3'", ["run1"]),
        ("name in ('run0', \"run2\", 'x')", ["run2", "run0"]),
        ("metrics.loss != 0.5", ["run2", "run1"]),
        ("datasets.name = 'x'", []),
        ("artifact_uri like '%'", []),
        (r"params.depth like '3\'", []),
        (r"name not in ('run1') name like 'run_'", ["run2", "run0"]),
    ],
)
def test_search(three: Workspace, text: str, names: list[str] | None) -> None:
    if names is None:
        with pytest.raises(SearchInvalid):
            three.tracking.search(three.project.id, text)
        return
    found = three.tracking.search(three.project.id, text).items
    assert [three.assets.run(r).name for r in found] == names


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        ("like 'C:\\Data\\'", True),
        ("like 'c:\\data\\'", False),
        ("like '%:\\D%'", True),
        ("like 'C:_Data_'", True),
        ("like 'C:\\\\%'", False),
        ("ilike 'c:\\_ATA\\'", True),
        ('ilike "%:\\d%"', True),
        ("ilike 'c:data%'", False),
    ],
)
def test_patterns_take_a_backslash_as_it_is(both: Workspace, actor: Actor, pattern: str, fits: bool) -> None:
    both.tracking.log(new_run(both, actor), tags={"path": "C:\\Data\\"})
    both.tracking.log(new_run(both, actor, "other"), tags={"path": "\u00c4"})
    assert len(both.tracking.search(both.project.id, f"tags.path {pattern}").items) == fits
    assert len(both.tracking.search(both.project.id, "tags.path ilike '\u00c4%'").items) == 1


def test_search_orders_pages_and_narrows(three: Workspace) -> None:
    def names(**how):
        return [three.assets.run(r).name for r in three.tracking.search(three.project.id, **how).items]

    assert names(order_by="metrics.loss asc") == ["run2", "run0", "run1"]
    assert names(order_by="metrics.loss desc") == ["run0", "run2", "run1"]
    assert names(order_by="start_time") == ["run0", "run1", "run2"]
    assert names(order_by="tags.`team` ASC") == ["run0", "run2", "run1"]
    assert names(order_by="params.depth") == ["run2", "run0", "run1"]
    assert names(order_by="user desc") == names(order_by="artifact_uri") == ["run2", "run1", "run0"]
    assert names(experiment="other") == ["run0"]
    page = three.tracking.search(three.project.id, limit=2)
    rest = three.tracking.search(three.project.id, limit=2, after=page.next)
    assert len(page.items) + len(rest.items) == 3


@pytest.mark.parametrize(
    "text",
    ["metrics.loss", "metrics.loss <", "metrics.loss < 'a'", "params.x = 3", "params.x < 'a'", "sate = 'done'",
     "a = 'b' or c = 'd'", "(a = 'b')", "tags.x = 'a", "; drop table runs",
     "name = 'x' and " * 60 + "name = 'y'", "x" * 20_000],
)  # fmt: skip
def test_wrong_filters_are_explained(text: str) -> None:
    with pytest.raises(SearchInvalid):
        parse(text, RUNS)


@given(st.text(max_size=60))
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    try:
        clauses = parse(text, RUNS)
    except NoriaError:
        return
    assert len(clauses) <= MAX_CLAUSES


def test_a_deleted_run_is_hidden_and_comes_back(both: Workspace, actor: Actor) -> None:
    run = new_run(both, actor)
    both.tracking.delete_run(run, actor=actor)
    assert both.tracking.search(both.project.id).items == []
    both.tracking.delete_run(run, actor=actor, restore=True)
    assert both.tracking.search(both.project.id).items == [run]


@pytest.mark.parametrize("mark", [-1, ["x", "y"], "x", 10**30, True])
def test_a_page_token_of_another_list_is_refused(both: Workspace, actor: Actor, mark) -> None:
    run = new_run(both, actor)
    with pytest.raises(Invalid, match="page token"):
        both.tracking.search(both.project.id, after=token(mark))
    with pytest.raises(Invalid, match="page token"):
        both.tracking.history(run, "m", after=token(mark))


def test_a_run_begins_with_its_parameters_or_not_at_all(both: Workspace, actor: Actor) -> None:
    with both.db.write() as tx:
        run = both.assets.start_run(tx, both.project.id, kind="step", name="s", actor=actor)
        how = {"experiment": "e", "user": "alice"}
        for bad in ({"": "1"}, {"a": "x" * 6_001}):
            with pytest.raises(KeyInvalid):
                both.tracking.begin(tx, both.project.id, run.id, params=bad, **how)
        both.tracking.begin(tx, both.project.id, run.id, params={"a": "1", "b": "x"}, **how)
    assert both.tracking.data(run.id).params == {"a": "1", "b": "x"}
    assert both.tracking.search(both.project.id, experiment="e").items == [run.id]


LOGS = """
import sys
from noria.tracking.grammar import RUNS
from noria.tracking.records import Point
from noria.workspace import connect

with connect(sys.argv[1]) as ws:
    for n in range(1_000_000):
        points = [Point(key=key, value=n / 7, at=n, step=n) for key in ("loss", "auc")]
        ws.tracking.log(sys.argv[2], points=points, params={f"p{n}": str(n)})
        print(n, flush=True)  # acknowledged
"""


def logging(ws: Workspace, run: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", LOGS, str(ws.home.parent), run],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def kept_whole(ws: Workspace, run: str, acknowledged: list[int]) -> int:
    """Each acknowledged point is there once, and what was not acknowledged is there whole or not at all."""
    loss, auc = ([p for page in pages(ws, run, key) for p in page] for key in ("loss", "auc"))
    assert [p.step for p in loss] == [p.step for p in auc] == list(range(len(loss)))
    assert [p.value for p in loss] == [n / 7 for n in range(len(loss))]
    assert len(acknowledged) <= len(loss) <= len(acknowledged) + 1
    data = ws.tracking.data(run)
    assert data.params == {f"p{n}": str(n) for n in range(len(loss))}
    assert data.metrics["loss"].step == len(loss) - 1
    return len(loss)


def pages(ws: Workspace, run: str, key: str):
    after = None
    while True:
        found = ws.tracking.history(run, key, limit=100, after=after)
        yield found.items
        after = found.next
        if after is None:
            return


def test_acknowledged_metrics_survive_kill_9(workspace: Workspace, actor: Actor) -> None:
    run = new_run(workspace, actor)
    with logging(workspace, run) as process:
        assert process.stdout is not None
        acknowledged = [int(process.stdout.readline()) for _ in range(120)]
        process.kill()
        acknowledged += [int(line) for line in process.stdout]  # said before it died
    assert process.returncode == -signal.SIGKILL
    before = kept_whole(workspace, run, acknowledged)
    assert before >= 120
    workspace.tracking.log(run, points=[Point(key="loss", value=0.0, at=0, step=before)])  # and it goes on
    assert workspace.tracking.data(run).metrics["loss"].step == before


@pytest.mark.parametrize("point", ["db.commit:7", "db.committed:7"])
def test_a_crash_at_the_commit_loses_no_acknowledged_metric(workspace: Workspace, actor: Actor, point: str) -> None:
    run = new_run(workspace, actor)
    with logging(workspace, run, NORIA_FAULT=point) as process:
        assert process.stdout is not None
        acknowledged = [int(line) for line in process.stdout]
    assert process.returncode == 137
    kept_whole(workspace, run, acknowledged)


def test_a_search_by_more_names_than_are_joined(both: Workspace, actor: Actor, clock) -> None:
    runs = []
    for number in range(3):
        clock.tick(1000)
        runs.append(new_run(both, actor, f"run{number}"))
        points = [Point(key=f"m{n}", value=n + number, at=0) for n in range(30)]
        both.tracking.log(runs[-1], points=points, params={f"p{n}": str(number) for n in range(30)})
    text = " and ".join([*(f"metrics.m{n} >= {n + 1}" for n in range(25)), *(f"params.p{n} != '0'" for n in range(25))])
    order = [parse_order(f"params.p{n}", RUNS) for n in range(5, 30)]
    found: list[str] = []
    after = None
    while True:
        page = both.tracking.find(both.project.id, clauses=parse(text, RUNS), order=order, limit=1, after=after)
        found += page.items
        after = page.next
        if after is None:
            break
    assert found == runs[1:]
    assert both.tracking.count(both.project.id, text) == 2
