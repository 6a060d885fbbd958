"""Each kind of gate, on test rows that were made for it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from noria.delivery import gates
from noria.delivery.records import GateResult
from noria.training.errors import MetricUnknown, TrainingInvalid
from noria.training.evaluation import Evaluation
from noria.training.metrics import METRICS

DAYS, PER_DAY = 20, 30
AT = [datetime(2013, 1, 1, tzinfo=UTC) + timedelta(days=n // PER_DAY, minutes=n) for n in range(DAYS * PER_DAY)]


def evaluation(*, lift: float = 0.2, linear: float = 0.05, primary: str = "log_loss", **columns: Any) -> Evaluation:
    """Rows on which a higher ``lift`` is a better model."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, len(AT)).astype(float)
    frame = pl.DataFrame(
        {
            "id": [f"r{n}" for n in range(len(AT))],
            "_at": AT,
            "shop": [("a", "b", "c")[n % 3] for n in range(len(AT))],
            "truth": y,
            "score": scores(y, lift),
            "constant": np.full(len(AT), 0.5),
            "linear": scores(y, linear),
        }
    ).with_columns(**{name: pl.Series(values) for name, values in columns.items()})
    y, p = frame["truth"].to_numpy(), frame["score"].to_numpy()
    found = {name: {"value": METRICS[name].score(y, p)} for name in ("log_loss", "roc_auc")}
    if primary not in METRICS:
        found = {primary: {"value": 1.0}, **found}
    return Evaluation(frame, {"primary": primary, "metrics": found, "task": "binary"})


def scores(y: Any, lift: float, seed: int = 1) -> Any:
    noise = np.random.default_rng(seed).normal(0, 0.05, len(y))
    return np.clip(0.5 + np.where(y > 0.5, lift, -lift) + noise, 0.01, 0.99)


def gate(kind: str, **more: Any) -> dict[str, Any]:
    return {
        "kind": kind,
        "metric": None,
        "by": None,
        "least": None,
        "most": None,
        "confidence": 0.9,
        "min_rows": 100,
    } | more


def judged(
    found: Evaluation, *wanted: dict[str, Any], champion: Any = None, name: str | None = None
) -> list[GateResult]:
    return gates.judge(wanted, found, champion, name)


def one(found: list[GateResult], kind: str) -> GateResult:
    (result,) = [g for g in found if g.kind == kind]
    return result


def against(found: Evaluation, lift: float, rows: int | None = None) -> pl.DataFrame:
    """The rows that both saw, with the champion's score."""
    frame = found.frame.with_columns(champion=pl.Series(scores(found.frame["truth"].to_numpy(), lift, 2)))
    return frame if rows is None else frame.head(rows)


# ---- baselines


def test_the_baselines_are_judged_even_where_no_gate_names_them() -> None:
    found = judged(evaluation())
    assert [(g.kind, g.passed, g.details["baseline"]) for g in found] == [
        ("beats_baseline", True, "constant"),
        ("beats_baseline", True, "linear"),
    ]
    assert found[0].details["metric"] == "log_loss"
    assert found[0].details["gain"] > 0.2
    assert found[0].details["days"] == DAYS


def test_a_model_that_is_not_surely_better_than_a_baseline_is_refused() -> None:
    constant, linear = judged(evaluation(lift=0.1, linear=0.3))
    assert (constant.passed, linear.passed) == (True, False)
    assert linear.details["gain"] < 0
    same = evaluation().frame["score"].to_numpy()
    _, linear = judged(_with(evaluation(), linear=same))
    assert not linear.passed  # equal is not better


def _with(found: Evaluation, **columns: Any) -> Evaluation:
    frame = found.frame.with_columns(**{n: pl.Series(v) for n, v in columns.items()})
    return Evaluation(frame, {"primary": found.primary, "metrics": found.metrics, "task": "binary"})


def test_another_metric_and_confidence_may_be_asked_for() -> None:
    found = judged(evaluation(), gate("beats_baseline", metric="roc_auc", confidence=0.5))
    assert [g.details["metric"] for g in found] == ["roc_auc", "roc_auc"]
    assert len(found) == 2


def test_a_gate_on_a_metric_of_the_models_own_judges_by_the_usual_one() -> None:
    found = judged(evaluation(primary="my_profit"))
    assert [(g.passed, g.details["metric"]) for g in found] == [(True, "log_loss")] * 2
    assert one(judged(evaluation(primary="my_profit"), gate("metric", metric="my_profit", least=0.5)), "metric").passed


# ---- champion


def test_the_first_model_has_no_champion_to_beat() -> None:
    assert one(judged(evaluation(), gate("beats_champion")), "beats_champion").passed


@pytest.mark.parametrize(("lift", "passed"), [(0.1, True), (0.2, False), (0.35, False)])
def test_a_candidate_has_to_be_surely_better_than_the_champion_on_the_same_rows(lift: float, passed: bool) -> None:
    found = evaluation(lift=0.2)
    result = one(judged(found, gate("beats_champion"), champion=against(found, lift), name="tree/1"), "beats_champion")
    assert result.passed is passed
    assert result.details["champion"] == "tree/1"
    assert result.details["n"] == len(AT)
    by = result.details["champion_value"] - result.details["candidate_value"]
    assert by == pytest.approx(result.details["gain"])


@pytest.mark.parametrize("rows", [0, 99])
def test_too_few_rows_that_both_did_not_see_are_no_proof(rows: int) -> None:
    found = evaluation()
    champion = against(found, 0.0, rows) if rows else None
    result = one(judged(found, gate("beats_champion"), champion=champion, name="tree/1"), "beats_champion")
    assert not result.passed
    assert f"only {rows} rows" in result.text
    assert "100 are needed" in result.text


def test_rows_of_one_class_decide_no_auc() -> None:
    found = evaluation()
    champion = against(found, 0.0).filter(pl.col("truth") == 1)
    result = one(
        judged(found, gate("beats_champion", metric="roc_auc"), champion=champion, name="tree/1"), "beats_champion"
    )
    assert not result.passed


# ---- slices


def test_every_slice_has_to_keep_the_bound() -> None:
    good = one(judged(evaluation(), gate("slices", by="shop", metric="roc_auc", least=0.9)), "slices")
    assert good.passed
    assert set(good.details["values"]) == {"a", "b", "c"}
    rng = np.random.default_rng(0)
    mixed = evaluation().frame.with_columns(
        score=pl.when(pl.col("shop") == "b").then(pl.Series(rng.random(len(AT)))).otherwise(pl.col("score"))
    )
    found = Evaluation(mixed, {"primary": "log_loss", "metrics": {"roc_auc": {"value": 0.8}}, "task": "binary"})
    bad = one(judged(found, gate("slices", by="shop", metric="roc_auc", least=0.9)), "slices")
    assert not bad.passed
    assert "shop=b" in bad.text
    assert "shop=a" not in bad.text


def test_for_a_loss_the_bound_is_the_most_that_a_slice_may_have() -> None:
    assert one(judged(evaluation(), gate("slices", by="shop", metric="log_loss", least=0.5)), "slices").passed
    assert not one(judged(evaluation(), gate("slices", by="shop", metric="log_loss", least=0.2)), "slices").passed


def test_a_metric_that_the_model_was_not_judged_by_can_be_asked_of_slices() -> None:
    assert one(judged(evaluation(), gate("slices", by="shop", metric="brier", least=0.24)), "slices").passed


def test_a_slice_without_a_value_is_refused_and_small_slices_do_not_count() -> None:
    """One class only: AUC is not a number there."""
    found = evaluation()
    y = np.where(found.frame["shop"].to_numpy() == "c", 1.0, found.frame["truth"].to_numpy())
    result = one(judged(_with(found, truth=y), gate("slices", by="shop", metric="roc_auc", least=0.1)), "slices")
    assert not result.passed
    assert "roc_auc nan on shop=c" in result.text
    few = _with(found, shop=["rare"] * 99 + ["often"] * (len(AT) - 99))
    assert set(
        one(judged(few, gate("slices", by="shop", metric="roc_auc", least=0.9)), "slices").details["values"]
    ) == {"often"}
    none = one(judged(found, gate("slices", by="shop", metric="roc_auc", least=0.1, min_rows=10_000)), "slices")
    assert (none.passed, none.text) == (False, "no value of shop has 10000 rows")


def test_an_unknown_column_or_metric_is_said_with_what_there_is() -> None:
    with pytest.raises(TrainingInvalid, match="'shopp'") as caught:
        judged(evaluation(), gate("slices", by="shopp", metric="roc_auc", least=0.9))
    assert "shop" in caught.value.hint
    with pytest.raises(MetricUnknown, match="roc_auk"):
        judged(evaluation(), gate("slices", by="shop", metric="roc_auk", least=0.9))
    with pytest.raises(TrainingInvalid, match="brier"):
        judged(evaluation(), gate("metric", metric="brier", least=0.9))


# ---- bounds


@pytest.mark.parametrize(
    ("least", "most", "passed"),
    [(0.9, None, True), (0.9, 1.0, True), (1.1, None, False), (None, 0.5, False), (None, 1.0, True)],
)
def test_a_metric_has_to_lie_within_its_bounds(least: float | None, most: float | None, passed: bool) -> None:
    result = one(judged(evaluation(), gate("metric", metric="roc_auc", least=least, most=most)), "metric")
    assert result.passed is passed
    assert result.details["value"] == pytest.approx(evaluation()["roc_auc"])


def test_no_number_is_within_no_bounds() -> None:
    found = Evaluation(
        evaluation().frame, {"primary": "log_loss", "metrics": {"roc_auc": {"value": float("nan")}}, "task": "binary"}
    )
    for bounds in ({"least": 0.0}, {"most": 1.0}):
        assert not one(judged(found, gate("metric", metric="roc_auc", **bounds)), "metric").passed


def test_gates_answer_in_the_order_in_which_they_were_declared() -> None:
    wanted = [gate("metric", metric="roc_auc", least=0.5), gate("beats_champion"), gate("beats_baseline")]
    assert [g.kind for g in judged(evaluation(), *wanted)] == [
        "metric", "beats_champion", "beats_baseline", "beats_baseline"
    ]  # fmt: skip
