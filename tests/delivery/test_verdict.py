"""The shipped verdict in many simulated releases: how often it is wrong, and how often it decides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.delivery import verdict
from noria.delivery.service.releases import _blocks
from noria.delivery.verdict import judge, too_many

MARGIN, ALPHA, DAYS, ROWS, RUNS = 0.005, 0.05, 28, 40, 1000
NOISE = 0.25
"""A row's own noise is uniform between minus and plus this."""

Effects = Callable[[np.random.Generator, int], Any]
EVEN: dict[str, Effects] = {
    "no effect of days": lambda rng, n: np.zeros(n),
    "small effects": lambda rng, n: rng.normal(0, 0.005, n),
    "effects of ten margins": lambda rng, n: rng.normal(0, 0.05, n),
    "heavy tails": lambda rng, n: np.clip(rng.standard_t(3, n) * 0.02 / np.sqrt(3), -0.9, 0.9),
    "few wild days": lambda rng, n: rng.choice([0.0, 0.1, -0.1], n, p=[0.9, 0.05, 0.05]),
    "skewed to bad days": lambda rng, n: np.minimum(rng.exponential(1, n) - 1, 11) * 0.05,
    "skewed to good days": lambda rng, n: np.maximum(1 - rng.exponential(1, n), -11) * 0.05,
}
"""Effects whose days are seldom cut: the plain mean is tested."""
SKEWED: dict[str, Effects] = {
    "exponential, bad": lambda rng, n: np.minimum(rng.exponential(1, n) - 1, 11) * 0.08,
    "exponential, good": lambda rng, n: np.maximum(1 - rng.exponential(1, n), -11) * 0.08,
    "log-normal, bad": lambda rng, n: np.minimum(np.exp(rng.normal(0, 1, n)) - np.exp(0.5), 20) * 0.04,
    "one terrible day in ten": lambda rng, n: np.where(rng.random(n) < 0.1, 0.3, 0.0),
    "one wonderful day in ten": lambda rng, n: np.where(rng.random(n) < 0.1, -0.3, 0.0),
}
"""Effects that are often cut, on one side only: the promise is about the mean of the cut days."""


def paired(rng: np.random.Generator, differences: Any, noise: Any) -> pl.DataFrame:
    """Rows as monitoring gives them to a release: truth, the champion's and the candidate's chance.

    The row losses of a day share its difference; run after run of them lies in one frame, days apart.
    """
    runs, days, rows = noise.shape
    champion = rng.uniform(1.2, 1.6, noise.shape)
    candidate = champion + differences[:, :, None] + noise
    truth = rng.random(noise.shape) < 0.3
    day = (np.arange(runs)[:, None] * 64 + np.arange(days))[:, :, None] + np.zeros(rows, int)
    chances = [np.where(truth, np.exp(-losses), 1 - np.exp(-losses)).ravel() for losses in (champion, candidate)]
    at = pl.Series("at", day.ravel() * 86_400_000).cast(pl.Datetime("ms", "UTC"))
    return pl.DataFrame({"at": at, "truth": truth.ravel().astype(float), "first": chances[0], "second": chances[1]})


def kinds(mean: float, effects: Effects, runs: int = RUNS, against: str = "") -> Counter[str]:
    """The verdicts of many releases, by the shipped way from rows to days to verdict.

    ``against`` is the hypothesis that has to hold exactly, for cut days: each day's plain mean is then moved to where
    the mean of the cut day is ``mean``, given the days before it.
    """
    rng = np.random.default_rng(18)
    noise = rng.uniform(-NOISE, NOISE, (runs, DAYS, ROWS))
    own = effects(rng, runs * DAYS).reshape(runs, DAYS)
    if against:
        places = _places(effects, mean, against)
        differences = np.array([_moved(one + n.mean(axis=1), places) for one, n in zip(own, noise, strict=True)])
        differences -= noise.mean(axis=2)
    else:
        differences = mean + own
    found = _blocks(paired(rng, differences, noise), "binary")
    assert len(found) == runs * DAYS
    wanted = (differences + noise.mean(axis=2)).ravel()
    assert np.allclose([b[2] for b in found], wanted, atol=1e-6)  # the losses were what they should be
    releases = [found[n * DAYS : (n + 1) * DAYS] for n in range(runs)]
    assert {b[1] for b in found} == {float(ROWS)}
    return Counter(judge(release, margin=MARGIN, alpha=ALPHA).kind for release in releases)


Places = Callable[[float], float]


def _places(effects: Effects, mean: float, against: str) -> Places:
    """Clip -> where a day has to lie so that, cut, its mean is ``mean``."""
    rng = np.random.default_rng(5)
    sample = effects(rng, 20_000) + rng.uniform(-NOISE, NOISE, (20_000, ROWS)).mean(axis=1)
    clips = np.geomspace(0.005, 2, 60)
    found = []
    for clip in clips:
        lost = (1 - verdict.LEAST) / max(verdict.SHARES)
        low, high = (-clip, MARGIN + lost * (clip + MARGIN)) if against == "better" else (-lost * clip, clip)
        under, over = -3.0, 3.0
        for _ in range(30):
            middle = (under + over) / 2
            under, over = (middle, over) if np.clip(sample + middle, low, high).mean() < mean else (under, middle)
        found.append(over)
    return lambda clip: float(np.interp(clip, clips, found))


def _moved(days: Any, places: Places) -> list[float]:
    before: list[float] = []
    made: list[float] = []
    for day in days.tolist():
        clip = verdict.clip_of(before, MARGIN)
        made.append(day + places(clip))
        before.append(max(-clip, min(clip, made[-1])))
    return made


@pytest.mark.parametrize("name", EVEN)
def test_a_candidate_worse_by_the_margin_is_called_better_in_less_than_alpha_of_a_thousand_releases(name: str) -> None:
    assert kinds(MARGIN, EVEN[name])["better"] / RUNS < ALPHA


@pytest.mark.parametrize("name", EVEN)
def test_a_candidate_as_good_as_the_champion_is_called_worse_in_less_than_alpha_of_a_thousand_releases(
    name: str,
) -> None:
    assert kinds(0.0, EVEN[name])["worse"] / RUNS < ALPHA


@pytest.mark.parametrize("name", SKEWED)
@pytest.mark.parametrize(("against", "mean"), [("better", MARGIN), ("worse", 0.0)])
def test_however_skewed_days_are_the_hypothesis_of_cut_days_falls_wrongly_in_less_than_alpha_of_a_thousand_releases(
    name: str, against: str, mean: float
) -> None:
    assert kinds(mean, SKEWED[name], against=against)[against] / RUNS < ALPHA


def test_a_day_that_speaks_against_a_bet_is_not_cut() -> None:
    """Otherwise a candidate that is good on most days and terrible on a few would be called better."""
    usual = [[float(n), 50.0, -0.02] for n in range(6)]
    some, more = ([*usual, [6.0, 50.0, bad]] for bad in (0.07, 0.14))
    one, other = (judge(days, margin=MARGIN, alpha=ALPHA) for days in (some, more))
    assert verdict.clip_of([-0.02] * 6, MARGIN) < 0.07
    assert other.promote < 0.8 * one.promote
    assert other.roll_back == one.roll_back  # what speaks for a bet is cut


@pytest.mark.parametrize("name", ["no effect of days", "small effects", "heavy tails"])
def test_clear_cases_are_decided_and_rightly(name: str) -> None:
    assert kinds(-0.04, EVEN[name], 300)["better"] > 240
    assert kinds(0.04, EVEN[name], 300)["worse"] > 240


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
    assert alarms / RUNS < ALPHA


def test_a_rate_far_above_its_limit_is_seen_and_nothing_is_no_evidence() -> None:
    assert too_many(0, 0, 0.002) == 1.0
    assert too_many(0, 5000, 0.002) < 0.1
    assert too_many(30, 1000, 0.002) > 1000
    assert too_many(1000, 1000, 0.5) > 1000
    assert too_many(1000, 1000, 0.97) > 1000
    assert too_many(1000, 1000, 1.5) == 1.0  # where everything fails, nothing is more than that
    assert too_many(600_000, 1_000_000, 0.002) < float("inf")
