"""``nr.gate``: what a candidate has to show on its test rows before it may be released."""

from __future__ import annotations

from noria.base.errors import Invalid
from noria.pipelines.declare.policies import Gate, check_share


def beats_champion(*, metric: str | None = None, confidence: float = 0.9, min_rows: int = 100) -> Gate:
    """Better than the champion on the same rows, with this confidence (paired, whole days resampled).

    Passes where there is no champion yet. ``metric`` defaults to the model's first.
    """
    share = check_share(confidence, "confidence")
    return Gate(kind="beats_champion", metric=metric, confidence=share, min_rows=min_rows)


def beats_baseline(*, metric: str | None = None, confidence: float = 0.9) -> Gate:
    """Better than the best baseline (constant, linear) on the same rows. Part of every model's gates."""
    return Gate(kind="beats_baseline", metric=metric, confidence=check_share(confidence, "confidence"))


def slices(by: str, *, min_rows: int = 100, **least: float) -> Gate:
    """On every value of a column with at least ``min_rows`` rows, each metric is at least this good."""
    if len(least) != 1:
        raise Invalid("gate.slices takes one metric.", hint='gate.slices("carrier", roc_auc=0.60)')
    ((metric, value),) = least.items()
    return Gate(kind="slices", by=by, metric=metric, least=value, min_rows=min_rows)


def metric(name: str, *, least: float | None = None, most: float | None = None) -> Gate:
    """A metric within fixed bounds."""
    if least is None and most is None:
        raise Invalid("gate.metric needs a bound.", hint='gate.metric("roc_auc", least=0.7)')
    return Gate(kind="metric", metric=name, least=least, most=most)
