from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given
from hypothesis import strategies as st

from noria.training import metrics as m
from noria.training.errors import MetricUnknown

scores = st.lists(
    st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.25, 0.25, 0.5, 0.9, 1.0])), min_size=2, max_size=40
)


@given(scores)
def test_metrics_equal_scikit_learn(rows) -> None:
    y, p = np.array([float(a) for a, _ in rows]), np.array([b for _, b in rows])
    both = 0 < y.sum() < len(y)
    if both:
        assert m.metric("roc_auc").score(y, p) == pytest.approx(sk.roc_auc_score(y, p))
        assert m.metric("log_loss").score(y, p) == pytest.approx(
            sk.log_loss(y, np.clip(p, 1e-15, 1 - 1e-15), labels=[0, 1]), rel=1e-6
        )
        assert m.metric("average_precision").score(y, p) == pytest.approx(sk.average_precision_score(y, p))
    assert m.metric("brier").score(y, p) == pytest.approx(np.mean((y - p) ** 2))
    assert m.metric("accuracy").score(y, p) == pytest.approx(sk.accuracy_score(y, p >= 0.5))


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=2, max_size=30))
def test_regression_metrics_equal_scikit_learn(rows) -> None:
    y, p = np.array([a for a, _ in rows]), np.array([b for _, b in rows])
    assert m.metric("rmse").score(y, p) == pytest.approx(sk.root_mean_squared_error(y, p))
    assert m.metric("mae").score(y, p) == pytest.approx(sk.mean_absolute_error(y, p))
    if y.std() > 1e-3:
        assert m.metric("r2").score(y, p) == pytest.approx(sk.r2_score(y, p))


def test_what_is_not_defined_is_nan_and_not_an_error() -> None:
    ones = np.ones(3)
    assert np.isnan(m.metric("roc_auc").score(ones, ones))
    assert np.isnan(m.metric("log_loss").score(np.zeros(0), np.zeros(0)))
    with pytest.raises(MetricUnknown) as error:
        m.metric("roc_auk")
    assert "roc_auc" in error.value.hint


def day_correlated(rng: np.random.Generator, days: int, per_day: int, gain: float):
    """Two scores of the same rows, whose difference moves with the day."""
    day = np.repeat(np.arange(days), per_day)
    truth = rng.random(len(day)) < 0.3
    noise = rng.normal(0, 0.03, days)[day]
    y = truth.astype(float)
    first = np.clip(0.3 + (y - 0.3) * (0.2 + gain) + noise, 0.01, 0.99)
    second = np.clip(0.3 + (y - 0.3) * 0.2 - noise, 0.01, 0.99)
    return y, first, second, day


def test_intervals_cover_the_truth_though_days_are_alike() -> None:
    rng = np.random.default_rng(0)
    found = m.METRICS["brier"]
    inside = 0
    for _ in range(60):
        day = np.repeat(np.arange(30), 40)
        rate = np.clip(0.3 + rng.normal(0, 0.1, 30), 0, 1)[day]
        y = (rng.random(len(day)) < rate).astype(float)
        made = m.interval(found, y, np.full(len(y), 0.3), day)
        # E(y - 0.3)^2 where the chance of a day varies around 0.3
        inside += made.low <= 0.21 <= made.high
    assert inside >= 48


def test_a_comparison_sees_a_gain_and_does_not_see_one_where_there_is_none() -> None:
    rng = np.random.default_rng(1)
    better = m.compare(m.METRICS["log_loss"], *day_correlated(rng, 14, 300, 0.3))
    assert better.gain > 0
    assert better.chance > 0.99
    wrong = 0
    for _ in range(40):
        none = m.compare(m.METRICS["log_loss"], *day_correlated(rng, 14, 100, 0.0), rounds=300)
        wrong += none.chance > 0.95
    assert wrong <= 6
    auc = m.compare(m.METRICS["roc_auc"], *day_correlated(rng, 14, 300, 0.3), rounds=50)
    assert auc.n == 4200
    assert auc.days == 14
    nothing = m.compare(m.METRICS["log_loss"], np.zeros(0), np.zeros(0), np.zeros(0), np.zeros(0))
    assert (nothing.n, nothing.chance) == (0, 0.0)
