"""Histories of many points, in any order, with repeats and retries, are what a set of points in Python says."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow_wire import AJAX, Wire, number, point

TIMES = int(os.environ.get("NORIA_TEST_FUZZ", "1"))
"""How many times as much is tried."""
DATABASES = ("sqlite", "postgres")
VALUES = [0.0, 1.0, -1.0, 0.5, 1e300, -1e-300, math.nan, 7.0]
Point = tuple[float, int, int]


@pytest.fixture(scope="module")
def place(server: str) -> Iterator[tuple[Wire, str]]:
    wire = Wire(server)
    yield wire, wire.experiment()
    wire.close()


def name(one: Point) -> tuple[float, bool, int, int]:
    """What makes a point the same as another: NaN is one value."""
    value, at, step = one
    return (0.0, True, at, step) if math.isnan(value) else (value, False, at, step)


def in_order(points: list[Point]) -> list[tuple[float, bool, int, int]]:
    """By time, step and value; NaN stands where 0 does."""
    return sorted({name(p) for p in points}, key=lambda n: (n[2], n[3], n[0], n[1]))


@st.composite
def batches(draw: st.DrawFn) -> list[list[Point]]:
    """Few or many points; rising, falling or mixed; some of them again."""
    made: list[list[Point]] = []
    for _ in range(draw(st.integers(1, 6))):
        if made and draw(st.integers(0, 4)) == 0:
            made.append(made[draw(st.integers(0, len(made) - 1))])  # a retry
            continue
        count = draw(st.sampled_from([1, 1, 2, 7, 60, 130, 300, 700, 1000]))
        start, stride = draw(st.integers(-5, 1500)), draw(st.sampled_from([1, 1, 1, -1, 0, 3]))
        random_ = random.Random(draw(st.integers(0, 99)))
        few = draw(st.booleans())
        points = [
            (
                random_.choice(VALUES) if few else round(random_.gauss(0, 1), 3),
                abs(start + n * stride),
                start + n * stride,
            )
            for n in range(count)
        ]
        if draw(st.booleans()):
            random_.shuffle(points)
        made.append(points)
    return made


@settings(max_examples=15 * TIMES)
@given(given_=batches(), size=st.sampled_from([1000, 333, 97, 2500]))
def test_a_history_is_the_set_of_its_points(place: tuple[Wire, str], given_: list[list[Point]], size: int) -> None:
    wire, experiment = place
    run = wire.run(experiment)
    for points in given_:
        metrics = [
            {"key": "m", "value": "NaN" if math.isnan(v) else v, "timestamp": at, "step": step}
            for v, at, step in points
        ]
        if len(metrics) == 1:
            wire.post("runs/log-metric", run_id=run, **metrics[0])
        else:
            wire.post("runs/log-batch", run_id=run, metrics=metrics)
    every = [one for points in given_ for one in points]
    want = in_order(every)

    found: list[Point] = []
    query: dict[str, Any] = {"run_id": run, "metric_key": "m", "max_results": size}
    while True:
        page = wire.get("metrics/get-history", **query)
        found += [point(m) for m in page["metrics"]]
        if "next_page_token" not in page:
            break
        assert len(page["metrics"]) == size
        query["page_token"] = page["next_page_token"]
    assert [name(p) for p in found] == want
    whole = wire.get("metrics/get-history", run_id=run, metric_key="m")["metrics"]
    assert [name(point(m)) for m in whole] == want
    bulk = wire.get(AJAX + "metrics/get-history-bulk", run_id=run, metric_key="m")["metrics"]
    assert [name((number(m["value"]), m["timestamp"], m["step"])) for m in bulk] == want

    (latest,) = wire.get("runs/get", run_id=run)["run"]["data"]["metrics"]
    last = max((step, at) for _, at, step in every)
    at_last = [v for v, at, step in every if (step, at) == last]
    assert (latest.get("step", 0), latest["timestamp"]) == last
    if not any(math.isnan(v) for v in at_last):
        assert number(latest["value"]) == max(at_last)

    steps = sorted(step for *_, step in want)
    low, high = steps[len(steps) // 4], steps[-len(steps) // 4]
    query = {"run_ids": run, "metric_key": "m", "start_step": low, "end_step": high, "max_results": 100}
    sample = [name(point(m)) for m in wire.get(AJAX + "metrics/get-history-bulk-interval", **query)["metrics"]]
    inside = [n for n in want if low <= n[3] <= high]
    assert set(sample) <= set(inside)
    assert min(100, len(inside)) <= len(sample) <= 101
    assert [n[3] for n in sample] == sorted(n[3] for n in sample)
