"""Curves of metrics of any length: the same points as if all of them were looked at, without looking at all of them."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.base.actor import Actor
from noria.base.ids import RunId
from noria.tracking import sampling
from noria.tracking.blocks import Mark
from noria.workspace import Workspace

VALUES = [0.0, 1.0, math.nan, math.inf, -math.inf, -0.5, 1e300, 3.0, 4.0]


def named(found: list[Mark]) -> list[tuple[int, int, str]]:
    """Comparable, NaN too."""
    return [(at, step, float(value).hex()) for at, step, value in found]


def in_full(points: list[Mark], limit: int, start: int | None, end: int | None) -> list[Mark]:
    """What a curve shows, from all points at once."""
    inside = [p for p in points if (start is None or p[1] >= start) and (end is None or p[1] <= end)]
    inside.sort(key=lambda p: (p[1], p[0], math.inf if p[2] != p[2] else p[2], p[2] != p[2]))
    total = len(inside)
    if total <= limit:
        return inside
    if limit < 4:
        chosen = set(np.linspace(0, total - 1, limit).astype(int).tolist()) if limit > 1 else {total - 1}
        return [inside[n] for n in sorted(chosen)]
    value = np.array([p[2] for p in inside])
    low, high = np.where(np.isnan(value), np.inf, value), np.where(np.isnan(value), -np.inf, value)
    borders = np.linspace(0, total, (limit - 2) // 2 + 1).astype(int)
    picked = {0, total - 1}
    for first, stop in itertools.pairwise(borders):
        if stop > first:
            picked |= {first + int(low[first:stop].argmin()), first + int(high[first:stop].argmax())}
    chosen_ = np.array(sorted(picked))
    spare = limit - len(chosen_)
    if spare:
        between = np.setdiff1d(np.linspace(0, total - 1, limit).astype(int), chosen_)
        chosen_ = np.union1d(chosen_, between[np.linspace(0, len(between) - 1, spare).astype(int)])
    return [inside[n] for n in chosen_.tolist()]


def begun(ws: Workspace) -> RunId:
    with ws.db.write() as tx:
        return ws.tracking.create_run(tx, ws.project.id, 0, name="r", actor=Actor(name="u")).id


def sampled(ws: Workspace, run: RunId, limit: int, start: int | None = None, end: int | None = None) -> list[Mark]:
    found = ws.tracking.sample(run, "m", limit=limit, start=start, end=end)
    return [(p.at, p.step, p.value) for p in found]


BATCH = st.tuples(
    st.sampled_from([1, 5, 64, 70, 200, 700]),  # points
    st.integers(-20, 400),  # the first step
    st.sampled_from([1, 1, 1, 0, -1, 3]),  # from step to step
    st.sampled_from([0, 1]),  # whether times go on
    st.sampled_from([1, 2, 9]),  # how many kinds of values
)


@settings(max_examples=50)
@given(
    batches=st.lists(BATCH, min_size=1, max_size=9),
    rising=st.booleans(),
    limit=st.sampled_from([1, 2, 3, 4, 5, 17, 64, 300]),
    cut=st.tuples(st.none() | st.integers(0, 500), st.none() | st.integers(0, 900)),
    seed=st.integers(0, 99),
)
def test_a_curve_shows_what_all_points_say(
    workspace: Workspace, batches: list[tuple[int, ...]], rising: bool, limit: int, cut: Any, seed: int
) -> None:
    run = begun(workspace)
    draw = random.Random(seed)
    points: dict[Any, Mark] = {}
    begin = 0
    for count, first, stride, times, kinds in batches:
        if rising:
            first, stride = begin, abs(stride)
        marks = [(n * times + begin, first + n * stride, draw.choice(VALUES[:kinds])) for n in range(count)]
        begin += count
        workspace.tracking.log(run, marks={"m": marks})
        for at, step, value in marks:
            points[at, step, 0.0 if value != value else value, value != value] = (at, step, value)
    found = sampled(workspace, run, limit, *cut)
    assert named(found) == named(in_full(list(points.values()), limit, *cut))


def test_blocks_that_show_nothing_are_not_opened(both: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    run = begun(both)
    points = [(n, n, math.sin(n) * n) for n in range(100_000)]
    for first in range(0, len(points), 1_000):
        both.tracking.log(run, marks={"m": points[first : first + 1_000]})
    opened: list[int] = []
    decode = sampling.decode
    monkeypatch.setattr(sampling, "decode", lambda data: (opened.append(1), decode(data))[1])
    found = sampled(both, run, 12)
    assert named(found) == named(in_full(points, 12, None, None))
    assert len(opened) <= 5 * 4 + 2
    opened.clear()
    assert sampled(both, run, 1) == points[-1:]
    assert len(opened) == 1
    found = sampled(both, run, 12, 40_500, 60_499)
    assert named(found) == named(in_full(points, 12, 40_500, 60_499))


@pytest.mark.parametrize("kind", ["epochs", "no steps", "shuffled", "far apart"])
def test_of_many_points_without_an_order_the_extremes_are_shown(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(sampling, "_CROWD", 2_000)
    monkeypatch.setattr(sampling, "_SAMPLE", 700)
    draw = random.Random(5)
    numbers = list(range(20_000))
    if kind != "epochs":
        draw.shuffle(numbers)
    place = {
        "epochs": lambda n: (n, n % 50),
        "no steps": lambda n: (n, 0),
        "shuffled": lambda n: (7, n),
        "far apart": lambda n: (draw.choice([-(2**63), 2**63 - 1]), draw.choice([-(2**63), n, 2**63 - 1])),
    }[kind]
    points = list({place(n): (*place(n), draw.gauss(0, 1)) for n in numbers}.values())
    spikes = draw.sample(range(len(points)), 4)
    for n, value in zip(spikes, (math.nan, 50.0, -60.0, 40.0), strict=True):
        points[n] = (points[n][0], points[n][1], value)
    run = begun(workspace)
    for first in range(0, len(points), 1_000):
        workspace.tracking.log(run, marks={"m": points[first : first + 1_000]})
    found = sampled(workspace, run, 100)
    assert set(named(found)) <= set(named(points))
    order = sorted(points, key=lambda p: (p[1], p[0], math.inf if p[2] != p[2] else p[2]))
    assert [(p[1], p[0]) for p in found] == sorted((p[1], p[0]) for p in found)
    assert len(found) == 100
    assert named([found[0], found[-1]]) == named([order[0], order[-1]])
    values = {p[2] for p in found}
    assert {50.0, -60.0} <= values
    if kind != "far apart":  # the shares are about equal, and what stands out in each is shown
        rank = {(p[0], p[1]): n for n, p in enumerate(order)}
        ranks = [rank[p[0], p[1]] for p in found]
        assert max(b - a for a, b in itertools.pairwise(ranks)) < 3 * len(order) / 49
        assert 40.0 in values
        assert sum(abs(p[2]) > 2 for p in found) > 60
