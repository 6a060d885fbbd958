"""Searches of runs, compared with the same search in plain Python."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.entities import ViewType
from mlflow_wire import AJAX, Wire, fresh
from search_model import (
    COMPARE,
    DATASET,
    METRICS,
    PARAMS,
    STATUS,
    TAGS,
    Clause,
    Order,
    Row,
    direction,
    fill,
    like,
    make,
    ordered,
    written,
)  # fmt: skip

from mlflow import MlflowClient

DATABASES = ("sqlite", "postgres")
NAN = math.nan


class World:
    """Runs in three experiments, and a connection."""

    def __init__(self, wire: Wire, experiments: list[str], rows: list[Row]) -> None:
        self.wire, self.experiments, self.rows = wire, experiments, rows

    def __repr__(self) -> str:
        return f"World of {len(self.rows)} runs"

    def search(self, text: str = "", **more: Any) -> list[str]:
        body = {"experiment_ids": self.experiments, "filter": text, "max_results": 1000, **more}
        return [r["info"]["run_id"] for r in self.wire.post("runs/search", **body).get("runs", [])]

    def wanted(self, holds: Callable[[Row], bool] = lambda _: True, orders: tuple[Order, ...] = ()) -> list[str]:
        return [r.run_id for r in ordered((r for r in self.rows if not r.deleted and holds(r)), orders)]


@pytest.fixture(scope="module")
def world(server: str) -> Iterator[World]:
    wire = Wire(server)
    yield World(wire, *fill(wire))
    wire.close()


def metric(row: Row, key: str, compare: Callable[[float], bool]) -> bool:
    return key in row.metrics and compare(row.metrics[key])


def has(values: dict[str, str], key: str, compare: Callable[[str], bool]) -> bool:
    return key in values and compare(values[key])


START = 1_700_000_000_000
FILTERS: dict[str, Callable[[Row], bool]] = {
    "": lambda r: True,
    # numbers
    "metrics.loss > 0": lambda r: metric(r, "loss", lambda v: v > 0),
    "metrics.loss >= 0.25": lambda r: metric(r, "loss", lambda v: v >= 0.25),
    "metrics.loss < 0.25": lambda r: metric(r, "loss", lambda v: v < 0.25),
    "metrics.loss <= -1.5": lambda r: metric(r, "loss", lambda v: v <= -1.5),
    "metric.loss = 0.25": lambda r: metric(r, "loss", lambda v: v == 0.25),
    "metrics.loss=0": lambda r: metric(r, "loss", lambda v: v == 0),
    "metrics.loss = 2": lambda r: metric(r, "loss", lambda v: v == 2),
    "metrics.loss != 0.25": lambda r: metric(r, "loss", lambda v: v != 0.25),
    "metrics.loss != 0": lambda r: metric(r, "loss", lambda v: v != 0),
    "metrics.loss > -1e10": lambda r: metric(r, "loss", lambda v: v > -1e10),
    "metrics.loss > 1E299": lambda r: metric(r, "loss", lambda v: v > 1e299),
    "metrics.loss > 1e-3": lambda r: metric(r, "loss", lambda v: v > 1e-3),
    "metrics.loss < .3": lambda r: metric(r, "loss", lambda v: v < 0.3),
    "metrics.loss < 2.": lambda r: metric(r, "loss", lambda v: v < 2),
    "metrics.loss < 99999999999999999999999": lambda r: metric(r, "loss", lambda v: v < 1e23),
    "metrics.loss > 0 AND metrics.loss < 1": lambda r: metric(r, "loss", lambda v: 0 < v < 1),
    "metrics.loss > 0 AND metrics.acc > 0.5": lambda r: (
        metric(r, "loss", lambda v: v > 0) and metric(r, "acc", lambda v: v > 0.5)
    ),
    "metrics.`val/f1: x` > 0": lambda r: metric(r, "val/f1: x", lambda v: v > 0),
    'metrics."val/f1: x" <= 3': lambda r: metric(r, "val/f1: x", lambda v: v <= 3),
    "metrics.never > 0": lambda r: False,
    "metrics.acc = 99": lambda r: False,  # earlier points do not count
    # params
    "params.depth = '3'": lambda r: has(r.params, "depth", lambda v: v == "3"),
    'param.depth = "3"': lambda r: has(r.params, "depth", lambda v: v == "3"),
    "parameter.depth != '3'": lambda r: has(r.params, "depth", lambda v: v != "3"),
    "parameters.depth = ''": lambda r: has(r.params, "depth", lambda v: v == ""),
    "params.depth != ''": lambda r: has(r.params, "depth", lambda v: v != ""),
    "params.depth LIKE '3%'": lambda r: has(r.params, "depth", lambda v: v.startswith("3")),
    "params.depth LIKE '%'": lambda r: "depth" in r.params,
    "params.depth LIKE '_'": lambda r: has(r.params, "depth", lambda v: len(v) == 1),
    "params.depth LIKE '__%'": lambda r: has(r.params, "depth", lambda v: len(v) >= 2),
    "params.optimizer = 'adam'": lambda r: has(r.params, "optimizer", lambda v: v == "adam"),
    "params.optimizer like 'a%'": lambda r: has(r.params, "optimizer", lambda v: v.startswith("a")),
    "params.optimizer ILIKE 'A%'": lambda r: has(r.params, "optimizer", lambda v: v.lower().startswith("a")),
    "params.optimizer ilike '%D%'": lambda r: has(r.params, "optimizer", lambda v: "d" in v.lower()),
    "params.optimizer LIKE 'sgd_x'": lambda r: has(r.params, "optimizer", lambda v: v == "sgd_x"),
    'params.optimizer = "it\'s 100%"': lambda r: has(r.params, "optimizer", lambda v: v == "it's 100%"),
    'params.optimizer LIKE "it\'s%"': lambda r: has(r.params, "optimizer", lambda v: v.startswith("it's")),
    "params.optimizer = 'a\\b'": lambda r: has(r.params, "optimizer", lambda v: v == "a\\b"),
    "params.`a b` = 'x'": lambda r: has(r.params, "a b", lambda v: v == "x"),
    "params.\"a b\" ILIKE 'x'": lambda r: has(r.params, "a b", lambda v: v in ("x", "X")),
    "params.`a b` = 'line\nbreak'": lambda r: has(r.params, "a b", lambda v: v == "line\nbreak"),
    "params.`a b` LIKE 'line%'": lambda r: has(r.params, "a b", lambda v: v.startswith("line")),
    "params.depth IS NULL": lambda r: "depth" not in r.params,
    "params.depth is not null": lambda r: "depth" in r.params,
    "params.never IS NULL": lambda r: True,
    "params.never != 'x'": lambda r: False,
    # tags
    "tags.team = 'red'": lambda r: has(r.tags, "team", lambda v: v == "red"),
    "tag.team != 'red'": lambda r: has(r.tags, "team", lambda v: v != "red"),
    "tags.team = ''": lambda r: has(r.tags, "team", lambda v: v == ""),
    "tags.team LIKE 'r%'": lambda r: has(r.tags, "team", lambda v: v.startswith("r")),
    "tags.team ILIKE 'R%'": lambda r: has(r.tags, "team", lambda v: v.lower().startswith("r")),
    "tags.team IS NULL": lambda r: "team" not in r.tags,
    "tags.team IS NOT NULL AND tags.team != 'blue'": lambda r: has(r.tags, "team", lambda v: v != "blue"),
    "tags.`note/one` = 'say \"hi\"'": lambda r: has(r.tags, "note/one", lambda v: v == 'say "hi"'),
    "tags.`note/one` LIKE '%0%'": lambda r: has(r.tags, "note/one", lambda v: "0" in v),
    "tags.`note/one` LIKE 'ü%'": lambda r: has(r.tags, "note/one", lambda v: v.startswith("ü")),
    "tags.`note/one` = 'é'": lambda r: has(r.tags, "note/one", lambda v: v == "é"),
    "tags.mlflow.runName = 'first'": lambda r: r.run_name == "first",
    "tags.`mlflow.runName` != 'first'": lambda r: r.run_name != "first",
    # attributes
    "status = 'FINISHED'": lambda r: r.status == "FINISHED",
    "attribute.status = 'finished'": lambda r: False,
    "attributes.status != 'FINISHED'": lambda r: r.status != "FINISHED",
    "attr.status LIKE 'F%'": lambda r: r.status.startswith("F"),
    "run.status ILIKE '%ed'": lambda r: r.status.lower().endswith("ed"),
    "status = 'SCHEDULED'": lambda r: r.status == "SCHEDULED",
    "status = 'nothing'": lambda r: False,
    "run_name = 'first'": lambda r: r.run_name == "first",
    "attributes.run_name ILIKE 'FIRST'": lambda r: r.run_name.lower() == "first",
    "attributes.`Run name` = 'second run'": lambda r: r.run_name == "second run",
    "attributes.\"run name\" LIKE 'run-%'": lambda r: r.run_name.startswith("run-"),
    "`Run Name` != 'first'": lambda r: r.run_name != "first",
    "user_id = 'ann'": lambda r: r.user_id == "ann",
    "attributes.user_id ILIKE 'b%'": lambda r: r.user_id in ("Bob", "ben"),
    f"start_time = {START}": lambda r: r.start_time == START,
    f"attributes.start_time > {START}": lambda r: r.start_time > START,
    f"created >= {START + 5}": lambda r: r.start_time >= START + 5,
    f"attribute.Created != {START}": lambda r: r.start_time != START,
    f"start_time < {START + 5} AND start_time >= {START}": lambda r: START <= r.start_time < START + 5,
    f"start_time > {START}.5": lambda r: r.start_time > START,
    "end_time > 0": lambda r: r.end_time is not None,
    f"attributes.end_time <= {START + 100_000}": lambda r: r.end_time is not None and r.end_time <= START + 100_000,
    f"end_time != {START + 100_000}": lambda r: r.end_time is not None and r.end_time != START + 100_000,
    # data
    "dataset.name = 'flights'": lambda r: any(d[0] == "flights" for d in r.datasets),
    "datasets.name != 'flights'": lambda r: any(d[0] != "flights" for d in r.datasets),
    "dataset.name ILIKE 'FLIGHT_'": lambda r: any(d[0].lower() == "flights" for d in r.datasets),
    "dataset.name LIKE 'f%'": lambda r: any(d[0].startswith("f") for d in r.datasets),
    "dataset.digest = 'w1'": lambda r: any(d[1] == "w1" for d in r.datasets),
    "dataset.digest IN ('d1', 'd2')": lambda r: any(d[1] in ("d1", "d2") for d in r.datasets),
    "dataset.name NOT IN ('flights')": lambda r: any(d[0] != "flights" for d in r.datasets),
    "dataset.context = 'train'": lambda r: any(d[2] == "train" for d in r.datasets),
    "dataset.context != 'train'": lambda r: any(d[2] not in (None, "train") for d in r.datasets),
    "dataset.context IN ('eval', 'x')": lambda r: any(d[2] == "eval" for d in r.datasets),
    "dataset.name = 'flights' AND dataset.digest = 'd2'": lambda r: ("flights", "d2", "train") in r.datasets,
    "dataset.name = 'flights' AND dataset.name = 'weather'": lambda r: ("flights", "d2", "train") in r.datasets,
    # together
    "metrics.loss > 0 and params.optimizer = 'adam' And tags.team = 'red' AND status != 'FAILED'": lambda r: (
        metric(r, "loss", lambda v: v > 0)
        and r.params.get("optimizer") == "adam"
        and r.tags.get("team") == "red"
        and r.status != "FAILED"
    ),
    "metrics.loss > 0 params.optimizer = 'adam'": lambda r: (
        metric(r, "loss", lambda v: v > 0) and r.params.get("optimizer") == "adam"
    ),
    "  \n metrics.loss\t>\n0   AND   params.optimizer   =   'sgd' ": lambda r: (
        metric(r, "loss", lambda v: v > 0) and r.params.get("optimizer") == "sgd"
    ),
    "params.optimizer = 'adam AND tags.team'": lambda r: False,
}


@pytest.mark.parametrize("text", FILTERS)
def test_a_filter_finds_what_the_model_finds(world: World, text: str) -> None:
    assert world.search(text) == world.wanted(FILTERS[text])


def test_the_filters_are_many_and_most_find_some_but_not_all(world: World) -> None:
    sizes = [len(world.wanted(holds)) for holds in FILTERS.values()]
    assert len(sizes) >= 90
    assert sum(0 < size < len(world.wanted()) for size in sizes) >= 75


def test_run_ids_in_lists(world: World) -> None:
    some = world.wanted()[:5:2]
    text = ", ".join(f"'{run}'" for run in some)
    assert world.search(f"run_id IN ({text})") == some
    assert world.search(f"attributes.run_id NOT IN ({text})") == world.wanted(lambda r: r.run_id not in some)
    assert world.search(f"run_id = '{some[0]}'") == some[:1]
    assert world.search(f"run_id != '{some[0]}'") == world.wanted(lambda r: r.run_id != some[0])
    assert world.search(f"run_id LIKE '{some[0][:20]}%'") == some[:1]
    assert world.search("run_id IN ('nothing')") == []
    row = next(r for r in world.rows if r.run_id == some[0])
    assert world.search(f"artifact_uri = '{row.artifact_uri}'") == some[:1]
    assert world.search(f"artifact_uri != '{row.artifact_uri}'") == world.wanted(lambda r: r.run_id != some[0])


def test_the_place_of_artifacts_is_compared_as_a_whole(client: MlflowClient) -> None:
    for place in (None, "s3://bucket/deep"):
        experiment = client.create_experiment(fresh(), artifact_location=place)
        runs = sorted(client.create_run(experiment).info.run_id for _ in range(3))
        first = client.get_run(runs[0]).info.artifact_uri
        for text, wanted in (
            (f"artifact_uri = '{first}'", runs[:1]),
            (f"artifact_uri != '{first}'", runs[1:]),
            (f"artifact_uri = 's3://nowhere/{runs[0]}/artifacts'", []),
            (f"artifact_uri != 's3://nowhere/{runs[0]}/artifacts'", runs),
            (f"artifact_uri LIKE '%/{runs[1]}/art%'", runs[1:2]),
            (f"artifact_uri ILIKE '{first[:8].upper()}%' AND run_name != ''", runs),
            ("artifact_uri LIKE 'nowhere%'", []),
        ):
            assert sorted(r.info.run_id for r in client.search_runs([experiment], text)) == wanted, text
        found = client.search_runs([experiment], order_by=["artifact_uri DESC"], max_results=2)
        rest = client.search_runs([experiment], order_by=["artifact_uri DESC"], page_token=found.token)
        assert [r.info.run_id for r in (*found, *rest)] == runs[::-1]


def test_the_default_experiment_is_number_0_in_places(wire: Wire) -> None:
    run = wire.run("0")
    for text in (f"artifact_uri = 'mlflow-artifacts:/0/{run}/artifacts'", f"artifact_uri LIKE '%:/0/{run}%'"):
        found = wire.post("runs/search", experiment_ids=["0"], filter=text)["runs"]
        assert [one["info"]["run_id"] for one in found] == [run]


def test_only_the_experiments_that_are_asked_for(world: World) -> None:
    for experiment in world.experiments:
        assert world.search(experiment_ids=[experiment]) == world.wanted(lambda r, one=experiment: r.experiment == one)
    both = world.experiments[:2]
    assert world.search(experiment_ids=both) == world.wanted(lambda r: r.experiment in both)
    assert world.search(experiment_ids=both + both) == world.wanted(lambda r: r.experiment in both)
    assert world.search(experiment_ids=[]) == []
    assert world.search(experiment_ids=["99999999"]) == []


def test_deleted_runs_by_view_type(world: World) -> None:
    gone = [r.run_id for r in ordered(r for r in world.rows if r.deleted)]
    assert gone
    assert world.search(run_view_type="ACTIVE_ONLY") == world.wanted()
    assert world.search(run_view_type="DELETED_ONLY") == gone
    assert world.search(run_view_type="ALL") == [r.run_id for r in ordered(world.rows)]
    found = [r.run_id for r in ordered(r for r in world.rows if metric(r, "loss", lambda v: v >= 0))]
    assert world.search("metrics.loss >= 0", run_view_type="ALL") == found
    assert world.search(run_view_type=3) == world.search(run_view_type="ALL")


# ---- order

KEYS = [
    *(("metric", key) for key in METRICS),
    *(("param", key) for key in PARAMS),
    *(("tag", key) for key in TAGS),
    *(("attribute", key) for key in ("start_time", "end_time", "status", "run_id", "run_name", "user_id", "Created")),
]  # fmt: skip


@pytest.mark.parametrize("ascending", [True, False])
@pytest.mark.parametrize(("kind", "key"), KEYS)
def test_order_by_each_kind_of_key(world: World, kind: str, key: str, ascending: bool) -> None:
    order = Order(kind, key, ascending)
    for number in range(2):
        text = direction(order, lambda ways, n=number: ways[min(n, len(ways) - 1)])
        assert world.search(order_by=[text]) == world.wanted(orders=(order,))


def test_order_by_several_keys(world: World) -> None:
    orders = (Order("tag", "team", False), Order("metric", "acc"), Order("attribute", "user_id", False))
    texts = ["tags.team DESC", "metric.acc asc", "attribute.user_id DESC"]
    assert world.search(order_by=texts) == world.wanted(orders=orders)
    assert world.search("metrics.acc > 0.5", order_by=texts) == world.wanted(
        lambda r: metric(r, "acc", lambda v: v > 0.5), orders
    )
    orders = (Order("metric", "never"), Order("attribute", "start_time"))
    assert world.search(order_by=["metrics.never", "start_time"]) == world.wanted(orders=orders)


def test_what_is_no_number_or_missing_comes_last_both_ways(world: World) -> None:
    for ascending in (True, False):
        found = world.search(order_by=["metrics.loss" if ascending else "metrics.loss DESC"])
        rows = {r.run_id: r for r in world.rows}
        kinds = [2 if "loss" not in rows[run].metrics else int(math.isnan(rows[run].metrics["loss"])) for run in found]
        assert kinds == sorted(kinds)
        assert set(kinds) == {0, 1, 2}


# ---- pages


def pages(world: World, size: int, **query: Any) -> list[list[str]]:
    found, token = [], None
    while True:
        body = {"experiment_ids": world.experiments, "max_results": size, "page_token": token, **query}
        answer = world.wire.post("runs/search", **{k: v for k, v in body.items() if v is not None})
        found.append([r["info"]["run_id"] for r in answer.get("runs", [])])
        token = answer.get("next_page_token")
        if not token:
            return found
        assert len(found) < 100


@pytest.mark.parametrize(
    ("order", "texts"),
    [
        ((), []),
        ((Order("metric", "loss"),), ["metrics.loss"]),
        ((Order("metric", "loss", False), Order("tag", "team")), ["metrics.loss DESC", "tags.team"]),
        ((Order("param", "a b", False),), ["params.`a b` DESC"]),
        ((Order("attribute", "end_time", False),), ["end_time DESC"]),
        ((Order("attribute", "start_time"),), ["start_time ASC"]),
    ],
)
def test_pages_of_every_size_hold_each_run_once(world: World, order: tuple[Order, ...], texts: list[str]) -> None:
    text = "metrics.acc >= 0.5"
    wanted = world.wanted(lambda r: metric(r, "acc", lambda v: v >= 0.5), order)
    count = len(wanted)
    assert count > 15
    for size in [1, 2, 3, 5, 7, 10, count - 1, count, count + 1]:
        found = pages(world, size, filter=text, order_by=texts)
        assert [run for page in found for run in page] == wanted
        assert len(found) == -(-count // size)
        assert all(len(page) == size for page in found[:-1])


def test_every_page_size_of_all_runs(world: World) -> None:
    wanted = world.wanted(orders=(Order("metric", "acc", False),))
    for size in range(1, len(wanted) + 2):
        first = pages(world, size, order_by=["metrics.acc DESC"]) if size > 3 else [wanted]
        assert [run for page in first for run in page] == wanted


def test_the_client_goes_through_pages(world: World, server: str) -> None:
    client = MlflowClient(server)
    found: list[str] = []
    token = None
    while True:
        page = client.search_runs(
            world.experiments, "metrics.loss > -5", ViewType.ALL, max_results=4, order_by=["run_id"], page_token=token
        )
        found += [r.info.run_id for r in page]
        token = page.token
        if not token:
            break
    assert found == sorted(r.run_id for r in world.rows if metric(r, "loss", lambda v: v > -5))


# ---- what is found


def test_a_found_run_is_whole(world: World) -> None:
    answer = world.wire.post(AJAX + "runs/search", experiment_ids=world.experiments, max_results=1000)
    assert "next_page_token" not in answer
    by_id = {r["info"]["run_id"]: r for r in answer["runs"]}
    for row in world.rows:
        if row.deleted:
            assert row.run_id not in by_id
            continue
        found = by_id[row.run_id]
        info = found["info"]
        assert (info["run_name"], info["status"], info["user_id"]) == (row.run_name, row.status, row.user_id)
        assert (info["start_time"], info.get("end_time")) == (row.start_time, row.end_time)
        assert (info["experiment_id"], info["lifecycle_stage"]) == (row.experiment, "active")
        data = found["data"]
        assert {p["key"]: p["value"] for p in data.get("params", [])} == row.params
        assert {t["key"]: t["value"] for t in data.get("tags", [])} == row.tags
        metrics = {m["key"]: float(m["value"]) for m in data.get("metrics", [])}
        assert set(metrics) == set(row.metrics)
        for key, value in row.metrics.items():
            assert metrics[key] == value or (math.isnan(value) and math.isnan(metrics[key]))
        assert all(m["step"] == 1 for m in data.get("metrics", []))
        inputs = found.get("inputs", {}).get("dataset_inputs", [])
        assert sorted(i["dataset"]["name"] for i in inputs) == sorted(d[0] for d in row.datasets)
        assert world.wire.get("runs/get", run_id=row.run_id)["run"]["info"] == info


def test_a_frame_of_all_runs(world: World, fluent: Any) -> None:
    frame = fluent.search_runs(world.experiments, order_by=["run_id"])
    rows = sorted((r for r in world.rows if not r.deleted), key=lambda r: r.run_id)
    assert list(frame["run_id"]) == [r.run_id for r in rows]
    assert list(frame["params.optimizer"]) == [r.params["optimizer"] for r in rows]
    for value, row in zip(frame["metrics.loss"], rows, strict=True):
        wanted = row.metrics.get("loss", NAN)
        assert value == wanted or (math.isnan(value) and math.isnan(wanted))
    names = [fluent.get_experiment(e).name for e in world.experiments]
    assert len(fluent.search_runs(experiment_names=names)) == len(rows)


def test_a_change_is_found_at_once(world: World) -> None:
    row = next(r for r in world.rows if not r.deleted and r.experiment == world.experiments[0])
    made = replace(row, metrics={"fresh": 1.0}, params={"p": "1"}, tags={}, datasets=[])
    make(world.wire, made)
    try:
        assert world.search("metrics.fresh = 1") == [made.run_id]
        world.wire.post("runs/log-metric", run_id=made.run_id, key="fresh", value=2, timestamp=2, step=2)
        world.wire.post("runs/set-tag", run_id=made.run_id, key="new", value="x")
        assert world.search("metrics.fresh = 1") == []
        assert world.search("metrics.fresh = 2 AND tags.new = 'x'") == [made.run_id]
        world.wire.post("runs/delete-tag", run_id=made.run_id, key="new")
        assert world.search("tags.new IS NOT NULL") == []
        world.wire.post("runs/update", run_id=made.run_id, run_name="renamed")
        assert world.search("run_name = 'renamed'") == [made.run_id]
        assert world.search("tags.mlflow.runName = 'renamed'") == [made.run_id]
    finally:
        world.wire.post("runs/delete", run_id=made.run_id)
        made.deleted = True
        made.tags = {"mlflow.runName": "renamed"}
        made.run_name, made.metrics = "renamed", {"fresh": 2.0}
        world.rows.append(made)


# ---- what hypothesis thinks of

NUMBERS = st.sampled_from([0.0, 0.25, -1.5, 2.0, 1e300, 0.5, 1.0, 99.0, -3.0, 3, 0, 7]) | st.floats(-10, 10).map(
    lambda v: round(v, 3) + 0.0
)
WORDS = sorted({v for some in (PARAMS, TAGS) for values in some.values() for v in values if v is not None})
PATTERNS = ["%", "_", "a%", "%d%", "s_d%", "%\n%", "3%", "RED", "%0%", ""]


def clauses() -> st.SearchStrategy[Clause]:
    texts = st.sampled_from(WORDS)
    patterns = st.sampled_from(PATTERNS) | texts
    keyed = st.sampled_from([*(("param", k) for k in PARAMS), *(("tag", k) for k in TAGS), ("tag", "mlflow.runName")])
    named = st.sampled_from([("attribute", k) for k in ("status", "run_name", "user_id", "Run name")])
    data = st.sampled_from([("dataset", k) for k in DATASET])
    names = st.sampled_from(["flights", "Flights", "weather", "d1", "d2", "w1", "train", "eval"])
    values = st.sampled_from([*STATUS, "first", "First", "second run", "ann", "Bob"])
    times = st.sampled_from([START, START + 5, START + 77, START + 100_000, 0])
    numeric = st.sampled_from(["=", "!=", ">", ">=", "<", "<="])
    equal, alike = st.sampled_from(["=", "!="]), st.sampled_from(["LIKE", "ILIKE"])

    def some(keys: Any, ops: Any, given: Any) -> st.SearchStrategy[Clause]:
        return st.builds(lambda key, op, value: Clause(*key, op, value), keys, ops, given)

    return st.one_of(
        some(st.sampled_from([("metric", k) for k in METRICS]), numeric, NUMBERS),
        some(keyed, equal, texts),
        some(keyed, alike, patterns),
        some(keyed, st.sampled_from(["IS NULL", "IS NOT NULL"]), st.none()),
        some(named, equal, values),
        some(named, alike, values | st.sampled_from(PATTERNS)),
        some(st.sampled_from([("attribute", k) for k in ("start_time", "end_time", "created")]), numeric, times),
        some(data, equal, names),
        some(data, alike, names | st.sampled_from(PATTERNS)),
        some(data, st.sampled_from(["IN", "NOT IN"]), st.lists(names, min_size=1, max_size=3)),
    )


def orders() -> st.SearchStrategy[list[Order]]:
    one = st.builds(lambda key, up: Order(*key, up), st.sampled_from(KEYS[:-1]), st.booleans())
    return st.lists(one, max_size=3, unique_by=lambda o: (o.kind, o.key))


@given(asked=st.lists(clauses(), min_size=1, max_size=4), by=orders(), data=st.data())
def test_any_filter_and_order_finds_what_the_model_finds(
    world: World, asked: list[Clause], by: list[Order], data: st.DataObject
) -> None:
    def draw(ways: Any) -> Any:
        return data.draw(st.sampled_from(list(ways)))

    text = " AND ".join(written(clause, draw) for clause in asked)
    order_by = [direction(order, draw) for order in by]
    wanted = world.wanted(lambda row: all(clause.holds(row) for clause in asked), tuple(by))
    assert world.search(text, order_by=order_by) == wanted


@given(by=orders(), size=st.integers(1, 60), word=st.sampled_from(["", "status != 'FAILED'", "metrics.loss > 0"]))
def test_any_page_size_and_order_goes_through_all(world: World, by: list[Order], size: int, word: str) -> None:
    holds = FILTERS.get(word, lambda r: r.status != "FAILED")
    order_by = [direction(order, lambda ways: ways[0]) for order in by]
    found = pages(world, max(size, 4), filter=word, order_by=order_by)
    assert [run for page in found for run in page] == world.wanted(holds, tuple(by))


def test_the_model_itself() -> None:
    assert like("it's 100%", "it's 100\\%") is False
    assert like("abc", "a_c")
    assert not like("abc", "A%")
    assert like("abc", "A%", any_case=True)
    assert like("a\nb", "a%")
    assert not like("ab", "a")
    assert set(COMPARE) >= {"LIKE", "NOT IN"}
