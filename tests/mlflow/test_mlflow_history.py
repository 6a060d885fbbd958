"""Histories of metrics: one run with pages, several runs at once, and samples of an interval of steps."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import Any

import pytest
from mlflow_wire import AJAX, Wire, number, point

from mlflow import MlflowClient

BULK = AJAX + "metrics/get-history-bulk"
SAMPLED = AJAX + "metrics/get-history-bulk-interval"


def log(wire: Wire, run: str, points: list[tuple[float, int, int]], key: str = "m") -> None:
    for start in range(0, len(points), 1000):
        metrics = [
            {"key": key, "value": "NaN" if math.isnan(value) else value, "timestamp": at, "step": step}
            for value, at, step in points[start : start + 1000]
        ]
        wire.post("runs/log-batch", run_id=run, metrics=metrics)


def test_points_come_by_time_then_step_then_value(wire: Wire, client: MlflowClient, experiment: str) -> None:
    run = wire.run(experiment)
    points = [(3.0, 5, 1), (1.0, 5, 1), (2.0, 5, 0), (9.0, 4, 7), (0.0, 6, -1)]
    log(wire, run, points)
    log(wire, run, [(1.0, 1, 1)], key="other")
    want = sorted(points, key=lambda p: (p[1], p[2], p[0]))
    assert wire.history(run, "m") == want
    assert [(m.value, m.timestamp, m.step) for m in client.get_metric_history(run, "m")] == want
    assert {m.key for m in client.get_metric_history(run, "m")} == {"m"}
    assert wire.get("metrics/get-history", run_id=run, metric_key="never") == {}


def test_a_history_without_a_size_is_whole(wire: Wire, experiment: str) -> None:
    run = wire.run(experiment)
    log(wire, run, [(i / 2, i, i) for i in range(1500)])
    found = wire.get("metrics/get-history", run_id=run, metric_key="m")
    assert [point(m) for m in found["metrics"]] == [(i / 2, i, i) for i in range(1500)]
    assert "next_page_token" not in found


@pytest.mark.parametrize("size", [1, 2, 3, 6, 7, 8, 100])
def test_pages_hold_each_point_once(wire: Wire, experiment: str, size: int) -> None:
    run = wire.run(experiment)
    points = [(float(i % 3), i // 2, i) for i in range(7)]
    log(wire, run, points)
    found: list[Any] = []
    query: dict[str, Any] = {"run_id": run, "metric_key": "m", "max_results": size}
    for _ in range(20):
        page = wire.get("metrics/get-history", **query)
        found += [point(m) for m in page["metrics"]]
        if "next_page_token" not in page:
            break
        assert len(page["metrics"]) == size
        query["page_token"] = page["next_page_token"]
    assert found == sorted(points, key=lambda p: (p[1], p[2], p[0]))


def test_pages_go_on_where_they_were_while_points_come(wire: Wire, experiment: str) -> None:
    run = wire.run(experiment)
    log(wire, run, [(float(i), i, i) for i in range(10)])
    first = wire.get("metrics/get-history", run_id=run, metric_key="m", max_results=5)
    log(wire, run, [(float(i), i, i) for i in range(10, 15)])
    token = first["next_page_token"]
    rest = wire.get("metrics/get-history", run_id=run, metric_key="m", max_results=50, page_token=token)
    assert [point(m)[2] for m in first["metrics"] + rest["metrics"]] == list(range(15))


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({}, ["run_id"]),
        ({"run_id": "RUN"}, ["metric_key"]),
        ({"run_id": "RUN", "metric_key": ""}, ["metric_key"]),
        ({"run_id": "RUN", "metric_key": "m", "max_results": 0}, ["max_results", "0"]),
        ({"run_id": "RUN", "metric_key": "m", "max_results": -1}, ["max_results", "-1"]),
        ({"run_id": "RUN", "metric_key": "m", "page_token": "broken"}, ["token"]),
        ({"run_id": "RUN", "metric_key": "m", "max_results": 5, "page_token": "e30="}, ["token"]),
    ],
)
def test_wrong_questions_for_a_history(wire: Wire, experiment: str, query: dict[str, Any], words: list[str]) -> None:
    run = wire.run(experiment)
    given = {k: run if v == "RUN" else v for k, v in query.items()}
    status, code, message = wire.refused("metrics/get-history", None, "GET", given)
    assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
    for word in words:
        assert word in message


@pytest.mark.ours  # MLflow's own server answers an empty history
def test_a_run_that_is_not_there_has_no_history(wire: Wire) -> None:
    status, code, message = wire.refused("metrics/get-history", None, "GET", {"run_id": "0" * 32, "metric_key": "m"})
    assert (status, code) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert "0" * 32 in message


# ---- several runs at once


def bulk(wire: Wire, runs: list[str], **more: Any) -> list[tuple[str, float, int, int]]:
    found = wire.get(BULK, run_id=runs, metric_key="m", **more)["metrics"]
    return [(m["run_id"], number(m["value"]), m["timestamp"], m["step"]) for m in found]


def test_histories_of_several_runs_in_one_answer(wire: Wire, experiment: str) -> None:
    runs = sorted(wire.run(experiment) for _ in range(3))
    points = {run: [(float(i), 10 - i, i) for i in range(4 + n)] for n, run in enumerate(runs)}
    for run, made in points.items():
        log(wire, run, made)
    want = [(run, *p) for run in runs for p in sorted(points[run], key=lambda p: (p[1], p[2], p[0]))]
    assert bulk(wire, runs[::-1]) == want
    assert bulk(wire, runs, max_results=6) == want[:6]
    assert bulk(wire, runs, max_results=100_000) == want
    assert bulk(wire, [runs[0], "0" * 32]) == want[:4]
    assert bulk(wire, [runs[1]]) == want[4:9]
    found = wire.get(BULK, run_id=runs[0], metric_key="m", max_results=1)["metrics"]
    assert found == [{"key": "m", "value": 3.0, "timestamp": 7, "step": 3, "run_id": runs[0]}]


def test_wrong_questions_for_several_histories(wire: Wire, experiment: str) -> None:
    run = wire.run(experiment)
    for query, word in (
        ({"metric_key": "m"}, "run_id"),
        ({"run_id": run}, "metric_key"),
        ({"run_id": [run] * 101, "metric_key": "m"}, "100"),
    ):
        status, code, message = wire.refused(BULK, None, "GET", query)
        assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
        assert word in message


# ---- samples


def sampled(wire: Wire, runs: list[str], path: str = SAMPLED, **more: Any) -> list[tuple[str, float, int, int]]:
    found = wire.get(path, run_ids=runs, metric_key="m", **more).get("metrics", [])
    return [(m["run_id"], *point(m)) for m in found]


def test_a_short_history_is_sampled_whole(wire: Wire, experiment: str) -> None:
    run, other = sorted(wire.run(experiment) for _ in range(2))
    points = [(float(i), 100 - i, i) for i in range(10)]
    log(wire, run, points)
    log(wire, other, points[:3])
    log(wire, other, [(math.nan, 1, 9)])
    assert sampled(wire, [run]) == [(run, *p) for p in points]
    assert sampled(wire, [run], "metrics/get-history-bulk-interval") == [(run, *p) for p in points]
    both = sampled(wire, [other, run])
    assert Counter(p[0] for p in both) == {run: 10, other: 4}
    assert math.isnan([p for p in both if p[0] == other][-1][1])


@pytest.mark.parametrize("size", [1, 2, 3, 10, 50, 333, 1000, 2500])
def test_a_sample_is_no_longer_than_asked_and_keeps_the_ends(wire: Wire, experiment: str, size: int) -> None:
    run = wire.run(experiment)
    points = [(float(i % 17), i, i) for i in range(1000)]
    log(wire, run, points)
    found = [p[1:] for p in sampled(wire, [run], max_results=size)]
    assert set(found) <= set(points)
    assert found == sorted(found, key=lambda p: p[2])
    assert found[-1] == points[-1]
    if size == 1:
        assert len(found) == 1
        return
    assert found[0] == points[0]
    assert min(size, 1000) <= len(found) <= size + 1  # MLflow's own server may add the last point
    gaps = [b[2] - a[2] for a, b in itertools.pairwise(found)]
    if 10 <= size < 1000:
        assert max(gaps) <= 3 * 1000 / size  # it goes evenly through the whole


def test_a_sample_of_some_steps(wire: Wire, experiment: str) -> None:
    run = wire.run(experiment)
    points = [(float(i), i, i) for i in range(-50, 50)]
    log(wire, run, [(v, at + 50, step) for v, at, step in points])
    steps = [p[3] for p in sampled(wire, [run], start_step=-10, end_step=10)]
    assert steps == list(range(-10, 11))
    steps = [p[3] for p in sampled(wire, [run], start_step=-10, end_step=10, max_results=5)]
    assert steps[0] == -10
    assert steps[-1] == 10
    assert len(steps) in (5, 6)
    assert [p[3] for p in sampled(wire, [run], start_step=3, end_step=3)] == [3]
    assert sampled(wire, [run], start_step=1000, end_step=2000) == []


def test_many_points_of_one_step_do_not_swell_a_sample(wire: Wire, experiment: str) -> None:
    run = wire.run(experiment)
    log(wire, run, [(float(i), i, 0) for i in range(3000)])
    assert len(sampled(wire, [run], max_results=100)) <= 101


@pytest.mark.ours  # every bucket of MLflow's own server keeps its first point only
def test_a_sample_keeps_the_extremes(wire: Wire, experiment: str) -> None:
    run = wire.run(experiment)
    points = [(1000.0 if i == 1234 else -1000.0 if i == 2345 else float(i % 7), i, i) for i in range(4000)]
    log(wire, run, points)
    values = [p[1] for p in sampled(wire, [run], max_results=100)]
    assert max(values) == 1000.0
    assert min(values) == -1000.0


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"run_ids": []}, ["run_ids"]),
        ({"run_ids": ["RUN"], "metric_key": None}, ["metric_key"]),
        ({"run_ids": ["RUN"] * 101}, ["100", "101"]),
        ({"start_step": 1}, ["step"]),
        ({"end_step": 1}, ["step"]),
        ({"start_step": 2, "end_step": 1}, ["start_step", "2", "1"]),
        ({"max_results": 0}, ["max_results", "2500"]),
        ({"max_results": -5}, ["max_results", "2500"]),
        ({"max_results": 2501}, ["max_results", "2500"]),
    ],
)
def test_wrong_questions_for_a_sample(wire: Wire, experiment: str, query: dict[str, Any], words: list[str]) -> None:
    run = wire.run(experiment)
    given = {"run_ids": ["RUN"], "metric_key": "m", **query}
    given["run_ids"] = [run for _ in given["run_ids"]]
    status, code, message = wire.refused(SAMPLED, None, "GET", {k: v for k, v in given.items() if v is not None})
    assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
    for word in words:
        assert word in message
