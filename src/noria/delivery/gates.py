"""What a candidate has to show on its test rows, judged by numbers that are kept."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from noria.delivery.records import GateResult
from noria.training import metrics as m
from noria.training.evaluation import SCORE, TRUTH, Evaluation, days_of, slices
from noria.training.metrics import DEFAULTS, METRICS, Metric

CHAMPION = "champion"


def judge(
    gates: Sequence[dict[str, Any]],
    evaluation: Evaluation,
    champion: pl.DataFrame | None,
    champion_name: str | None,
) -> list[GateResult]:
    """Every gate's answer; ``beats_baseline`` is always among them.

    Args:
        champion: test rows that both models were not trained on, with the column ``champion`` for its score; None
            where there is no champion.
    """
    wanted = list(gates)
    if not any(g["kind"] == "beats_baseline" for g in wanted):
        wanted.insert(0, {"kind": "beats_baseline", "metric": None, "confidence": 0.9})
    made: list[GateResult] = []
    for gate in wanted:
        if gate["kind"] == "beats_baseline":
            made += _baselines(gate, evaluation)
        elif gate["kind"] == "beats_champion":
            made.append(_champion(gate, evaluation, champion, champion_name))
        elif gate["kind"] == "slices":
            made.append(_slices(gate, evaluation))
        else:
            made.append(_metric(gate, evaluation))
    return made


def judge_unseen(
    gates: Sequence[dict[str, Any]], logged: Mapping[str, float], champion: str | None
) -> list[GateResult]:
    """The gates of a model that no rows of ours have judged: what its client logged is all that there is.

    Args:
        logged: metrics of the run that made it.
    """
    made = [GateResult(kind="loads", passed=True, text="it loads and answers; no rows have judged it")]
    for gate in gates:
        name = gate["metric"] or ""
        if gate["kind"] == "beats_champion" and champion is None:
            made.append(GateResult(kind=gate["kind"], passed=True, text="there is no champion yet"))
        elif gate["kind"] == "metric" and name in logged:
            made.append(_bounded(gate, logged[name], f"{name} as logged"))
        else:
            what = f"its run logged no {name}" if gate["kind"] == "metric" else "it takes rows to say"
            text = f"{what}: noria adopt MODEL --on TABLE --target COLUMN"
            made.append(GateResult(kind=gate["kind"], passed=False, text=text))
    return made


def _baselines(gate: dict[str, Any], evaluation: Evaluation) -> list[GateResult]:
    metric = _chosen(gate, evaluation)
    y, p, days = _arrays(evaluation.frame)
    found: list[GateResult] = []
    for name in ("constant", "linear"):
        if name in evaluation.frame.columns:
            result = m.compare(metric, y, p, evaluation.frame[name].to_numpy(), days)
            found.append(
                GateResult(
                    kind="beats_baseline",
                    passed=result.chance >= gate["confidence"],
                    text=_words(metric.name, name, result, gate["confidence"]),
                    details={"baseline": name, "metric": metric.name, **result.as_value()},
                )
            )
    return found


def _champion(
    gate: dict[str, Any], evaluation: Evaluation, champion: pl.DataFrame | None, name: str | None
) -> GateResult:
    if name is None:
        return GateResult(kind="beats_champion", passed=True, text="there is no champion yet")
    rows = 0 if champion is None else len(champion)
    if champion is None or rows < gate["min_rows"]:
        return GateResult(
            kind="beats_champion",
            passed=False,
            text=f"only {rows} rows that both models did not see; {gate['min_rows']} are needed",
            details={"champion": name, "n": rows},
        )
    metric = _chosen(gate, evaluation)
    y, p, days = _arrays(champion)
    other = champion[CHAMPION].to_numpy()
    result = m.compare(metric, y, p, other, days)
    return GateResult(
        kind="beats_champion",
        passed=result.chance >= gate["confidence"],
        text=_words(metric.name, name, result, gate["confidence"]),
        details={
            "champion": name,
            "metric": metric.name,
            "candidate_value": metric.score(y, p),
            "champion_value": metric.score(y, other),
            **result.as_value(),
        },
    )


def _words(metric: str, other: str, result: m.Comparison, needed: float) -> str:
    word = "better" if result.gain >= 0 else "worse"
    sure = f"better with {result.chance:.0%}"
    if result.chance < needed:
        sure += f", {needed:.0%} are needed"
    return f"{metric} {word} than {other} by {abs(result.gain):.4f} ({sure})"


def _slices(gate: dict[str, Any], evaluation: Evaluation) -> GateResult:
    metric = _chosen(gate, evaluation)
    evaluation.by(gate["by"])  # says which columns there are, where this is none
    found = slices(evaluation.frame, gate["by"], [metric], gate["min_rows"])
    values = {str(row[gate["by"]]): float(row[metric.name]) for row in found.to_dicts()}
    bad = {k: v for k, v in values.items() if math.isnan(v) or metric.better * v < metric.better * float(gate["least"])}
    if not values:
        text = f"no value of {gate['by']} has {gate['min_rows']} rows"
    elif bad:
        text = ", ".join(f"{metric.name} {v:.3f} on {gate['by']}={k}" for k, v in sorted(bad.items()))
    else:
        worst = min(values, key=lambda k: metric.better * values[k])
        text = f"{metric.name} at least {values[worst]:.3f} on every {gate['by']} ({worst})"
    details = {"by": gate["by"], "metric": metric.name, "least": gate["least"], "values": values}
    return GateResult(kind="slices", passed=bool(values) and not bad, text=text, details=details)


def _metric(gate: dict[str, Any], evaluation: Evaluation) -> GateResult:
    return _bounded(gate, evaluation[gate["metric"]], gate["metric"])


def _bounded(gate: dict[str, Any], value: float, name: str) -> GateResult:
    least, most = gate["least"], gate["most"]
    passed = not math.isnan(value) and (least is None or value >= least) and (most is None or value <= most)
    bounds = " and ".join(
        [f"at least {least}" for _ in [0] if least is not None] + [f"at most {most}" for _ in [0] if most is not None]
    )
    return GateResult(
        kind="metric",
        passed=passed,
        text=f"{name} {value:.4f}, has to be {bounds}",
        details={"metric": gate["metric"], "value": value, "least": least, "most": most},
    )


def _chosen(gate: dict[str, Any], evaluation: Evaluation) -> Metric:
    """The metric of a gate: that which it names, else the model's first.

    A model's own function is known to the project's code only, and a server does not import that: instead of it, the
    usual metric of the task counts.
    """
    if gate["metric"]:
        return m.metric(gate["metric"])
    return METRICS.get(evaluation.primary) or METRICS[DEFAULTS[evaluation.task][0]]


def _arrays(frame: pl.DataFrame) -> tuple[Any, Any, Any]:
    return frame[TRUTH].cast(pl.Float64).to_numpy(), frame[SCORE].to_numpy(), days_of(frame)
