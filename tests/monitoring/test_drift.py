"""Distances between counts, against plain numpy on the raw values."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.monitoring import drift
from noria.training import reference
from noria.training.reference import SCORE, count, freeze

numbers = st.lists(st.one_of(st.floats(-100, 100), st.just(float("nan")), st.just(float("inf"))), max_size=60)
texts = st.lists(st.sampled_from(["a", "b", "c", "new", None]), max_size=60)
counts = st.lists(st.integers(0, 1000), min_size=2, max_size=30)


def column(values: Any) -> dict[str, Any]:
    """The reference of numbers."""
    return freeze(values, pl.DataFrame({"x": pl.Series(values, dtype=pl.Float64)}))["columns"][SCORE]


def words(values: list[str | None]) -> dict[str, Any]:
    return freeze(np.zeros(len(values)), pl.DataFrame({"x": pl.Series(values, dtype=pl.String)}))["columns"]["x"]


def plain_psi(p: Any, q: Any) -> float:
    p, q = np.maximum(np.asarray(p) / max(1, sum(p)), 1e-4), np.maximum(np.asarray(q) / max(1, sum(q)), 1e-4)
    return float(np.sum((q - p) * np.log(q / p)))


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=80), numbers, numbers)
def test_counts_of_two_parts_add_up_to_the_counts_of_the_whole(
    known: list[float], one: list[float], other: list[float]
) -> None:
    made = column(np.array(known))
    parts = [count(made, pl.Series(v, dtype=pl.Float64)) for v in (one, other)]
    whole = count(made, pl.Series(one + other, dtype=pl.Float64))
    assert (parts[0] + parts[1]).tolist() == whole.tolist()
    assert whole.sum() == len(one) + len(other)
    groups = [drift.group_counts(made, pl.Series(v, dtype=pl.Float64)) for v in (one, other)]
    assert (groups[0] + groups[1]).tolist() == drift.grouped(whole, drift.groups_of(made)).tolist()


@given(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=60), texts, texts)
def test_counts_of_texts_add_up_too(known: list[str | None], one: list[str | None], other: list[str | None]) -> None:
    made = words(known)
    parts = [drift.group_counts(made, pl.Series(v, dtype=pl.String)) for v in (one, other)]
    whole = drift.group_counts(made, pl.Series(one + other, dtype=pl.String))
    assert (parts[0] + parts[1]).tolist() == whole.tolist()
    assert whole[-1] == (one + other).count(None)
    assert whole[-2] == sum(v is not None and v not in known for v in one + other)


@given(counts, st.data())
def test_psi_is_never_negative_and_zero_for_equal_shares(reference: list[int], data: st.DataObject) -> None:
    current = data.draw(st.lists(st.integers(0, 1000), min_size=len(reference), max_size=len(reference)))
    assert drift.psi(reference, current) >= 0
    assert drift.psi(reference, reference) == 0
    assert drift.psi(reference, [3 * c for c in reference]) == pytest.approx(0, abs=1e-12)
    if sum(reference) and sum(current):
        assert drift.psi(reference, current) == pytest.approx(plain_psi(reference, current))
        assert drift.psi(reference, current) == pytest.approx(drift.psi(current, reference))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=100), st.lists(st.floats(0, 1), min_size=1, max_size=100))
def test_ks_is_the_largest_distance_of_the_raw_distributions_at_the_edges(a: list[float], b: list[float]) -> None:
    made = column(np.array(a))
    found = drift.score_drift(made, count(made, pl.Series(b)))
    edges = np.array(made["edges"])
    raw = max((abs((np.array(a) <= e).mean() - (np.array(b) <= e).mean()) for e in edges), default=0.0)
    assert found.ks == pytest.approx(raw)
    assert found.ks is not None
    assert 0 <= found.ks <= 1
    assert drift.score_drift(made, count(made, pl.Series(a))).ks == 0


def test_on_many_values_tenths_and_edges_say_what_the_raw_values_say() -> None:
    rng = np.random.default_rng(1)
    before, after = rng.normal(0, 1, 20_000), rng.normal(0.5, 1.3, 5_000)
    made = column(before)
    found = drift.score_drift(made, count(made, pl.Series(after)))
    cuts = np.quantile(before, np.linspace(0, 1, 11)[1:-1])
    shares = [np.bincount(np.searchsorted(cuts, v), minlength=10) for v in (before, after)]
    assert found.psi == pytest.approx(plain_psi(*shares), rel=0.02)
    both = np.sort(np.concatenate([before, after]))
    steps = np.abs(
        np.searchsorted(np.sort(before), both, "right") / len(before)
        - np.searchsorted(np.sort(after), both, "right") / len(after)
    )
    assert found.ks == pytest.approx(steps.max(), abs=0.002)
    assert (found.n, found.missing) == (5_000, 0)


def test_tenths_of_a_reference_hold_about_a_tenth_each() -> None:
    made = column(np.random.default_rng(0).gamma(2, 1, 10_000))
    groups = drift.grouped(made["counts"], drift.groups_of(made))
    assert len(groups) == drift.TENTHS + 2
    assert all(900 <= c <= 1100 for c in groups[:10])
    assert groups[10:].tolist() == [0, 0]


def test_what_is_missing_and_what_is_unknown_has_its_share() -> None:
    made = words(["a"] * 50 + ["b"] * 49 + ["rare"] * 1 + [None] * 25)
    assert drift.missing_share(made) == 0.2
    found = drift.column_drift("shop", made, drift.group_counts(made, pl.Series(["a", None, "zz", "zz"])))
    assert (found.name, found.n, found.missing, found.outside) == ("shop", 4, 0.25, 0.5)
    numbers = column(np.array([1.0, 2.0, 3.0, float("nan")]))
    assert drift.missing_share(numbers) == 0.25
    values = pl.Series([1.0, None, float("inf"), 2.0])
    found = drift.column_drift("n", numbers, drift.group_counts(numbers, values))
    assert (found.n, found.missing, found.outside) == (4, 0.25, 0.0)


def test_a_feature_of_one_value_and_an_empty_window_are_no_drift() -> None:
    made = column(np.zeros(50))
    assert drift.score_drift(made, count(made, pl.Series([0.0] * 5))).psi == 0
    nothing = drift.score_drift(made, count(made, pl.Series([], dtype=pl.Float64)))
    assert (nothing.n, nothing.ks, nothing.missing) == (0, 0.0, 0.0)
    assert reference.EDGES == 1024


def test_nothing_drifts_from_a_reference_without_rows() -> None:
    """A model that nobody has judged has no distribution to move away from."""
    made = freeze(np.zeros(0), pl.DataFrame())["columns"][SCORE]
    assert drift.score_drift(made, count(made, pl.Series([0.1, 0.9, 5.0]))).psi == 0
