"""The shipped verdict in many simulated releases: how often it is wrong, and how often it decides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.delivery import verdict
from noria.delivery.verdict import judge, too_many

MARGIN, ALPHA, DAYS, ROWS = 0.005, 0.05, 28, 150
RUNS = 1000
SURE = ALPHA + 2 * (ALPHA * (1 - ALPHA) / RUNS) ** 0.5
"""Two standard errors above alpha."""

Effects = Callable[[np.random.Generator, int], Any]
EFFECTS: dict[str, Effects] = {
    "no effect of days": lambda rng, n: np.zeros(n),
    "small effects": lambda rng, n: rng.normal(0, 0.005, n),
    "effects of ten margins": lambda rng, n: rng.normal(0, 0.05, n),
    "heavy tails": lambda rng, n: rng.standard_t(3, n) * 0.02 / np.sqrt(3),
    "few wild days": lambda rng, n: rng.choice([0.0, 0.1, -0.1], n, p=[0.9, 0.05, 0.05]),
}


def blocks(rng: np.random.Generator, mean: float, effects: Effects, days: int = DAYS) -> list[list[float]]:
    """Days of paired rows: a row's difference is the mean, its day's own effect, and its own noise."""
    rows = rng.poisson(ROWS, days) + 1
    noise = rng.normal(0, 0.3, days) / np.sqrt(rows)  # the mean of that many rows
    found = mean + effects(rng, days) + noise
    return [[float(86_400_000 * n), float(c), float(d)] for n, (c, d) in enumerate(zip(rows, found, strict=True))]


def kinds(mean: float, effects: Effects, runs: int = RUNS) -> Counter[str]:
    rng = np.random.default_rng(18)
    return Counter(judge(blocks(rng, mean, effects), margin=MARGIN, alpha=ALPHA).kind for _ in range(runs))


@pytest.mark.parametrize("name", EFFECTS)
def test_a_candidate_worse_by_the_margin_is_called_better_in_less_than_alpha_of_a_thousand_releases(name: str) -> None:
    assert kinds(MARGIN, EFFECTS[name])["better"] / RUNS <= SURE


@pytest.mark.parametrize("name", EFFECTS)
def test_a_candidate_as_good_as_the_champion_is_called_worse_in_less_than_alpha_of_a_thousand_releases(
    name: str,
) -> None:
    assert kinds(0.0, EFFECTS[name])["worse"] / RUNS <= SURE


@pytest.mark.parametrize("name", ["no effect of days", "small effects", "heavy tails"])
def test_clear_cases_are_decided_and_rightly(name: str) -> None:
    assert kinds(-0.04, EFFECTS[name], 300)["better"] > 240
    assert kinds(0.04, EFFECTS[name], 300)["worse"] > 240


def test_rows_of_one_day_count_as_one_day_however_many_they_are() -> None:
    few = [[0.0, 10.0, -0.01], [1.0, 10.0, -0.02]]
    many = [[d, 1000 * n, m] for d, n, m in few]
    one, other = judge(few, margin=MARGIN, alpha=ALPHA), judge(many, margin=MARGIN, alpha=ALPHA)
    assert (one.promote, one.roll_back, one.kind) == (other.promote, other.roll_back, other.kind)
    assert other.rows == 1000 * one.rows


@given(st.lists(st.floats(-1, 1), max_size=40), st.data())
def test_it_does_not_matter_how_often_one_looks(means: list[float], data: st.DataObject) -> None:
    days = [[float(n), 50.0, m] for n, m in enumerate(means)]
    cut = data.draw(st.integers(0, len(days)))
    early, late = judge(days[:cut], margin=MARGIN, alpha=ALPHA), judge(days, margin=MARGIN, alpha=ALPHA)
    if early.kind != "open":
        assert late.kind == early.kind  # what fell holds
    every = next((k for n in range(len(days) + 1) if (k := judge(days[:n], margin=MARGIN, alpha=ALPHA).kind) != "open"),
                 "open")  # fmt: skip
    assert every == late.kind
    assert late.promote >= 0
    assert late.roll_back >= 0


@given(st.lists(st.floats(allow_nan=False, width=32), min_size=1, max_size=30))
def test_no_block_however_wild_makes_wealth_negative_or_infinite(means: list[float]) -> None:
    found = judge([[float(n), 1.0, m] for n, m in enumerate(means)], margin=MARGIN, alpha=ALPHA)
    assert 0 < found.promote < float("inf")
    assert 0 < found.roll_back < float("inf")


def test_nothing_says_nothing_and_one_wild_day_alone_decides_nothing() -> None:
    nothing = judge([], margin=MARGIN, alpha=ALPHA)
    assert (nothing.kind, nothing.promote, nothing.roll_back, nothing.mean) == ("open", 1.0, 1.0, 0.0)
    for mean in (-5.0, 5.0):
        assert judge([[0.0, 1.0, mean]], margin=MARGIN, alpha=ALPHA).kind == "open"
    assert verdict.clip_of([], MARGIN) > MARGIN  # otherwise a bet could lose more than its stake


@pytest.mark.parametrize(("limit", "factor"), [(0.002, 1.0), (0.05, 1.0), (0.05, 0.3), (0.5, 1.0), (0.97, 1.0)])
def test_a_rate_up_to_its_limit_rarely_raises_an_alarm_at_any_look(limit: float, factor: float) -> None:
    """Looked at after each hundred requests."""
    rng = np.random.default_rng(3)
    alarms = 0
    for _ in range(RUNS):
        counts = np.cumsum(rng.binomial(100, limit * factor, 40))
        looks = (too_many(int(c), 100 * (n + 1), limit) for n, c in enumerate(counts))
        alarms += any(found >= 1 / ALPHA for found in looks)
    assert alarms / RUNS <= SURE


def test_a_rate_far_above_its_limit_is_seen_and_nothing_is_no_evidence() -> None:
    assert too_many(0, 0, 0.002) == 1.0
    assert too_many(0, 5000, 0.002) < 0.1
    assert too_many(30, 1000, 0.002) > 1000
    assert too_many(1000, 1000, 0.5) > 1000
    assert too_many(1000, 1000, 0.97) > 1000
    assert too_many(1000, 1000, 1.5) == 1.0  # where everything fails, nothing is more than that
    assert too_many(600_000, 1_000_000, 0.002) < float("inf")
