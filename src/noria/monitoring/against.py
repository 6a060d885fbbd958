"""What another model version would have answered to the same requests: the year without the loop, for instance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from noria.monitoring.records import Compared
from noria.training.metrics import METRICS

SPANS: Mapping[str, str] = {"month": "1mo", "week": "1w", "day": "1d"}


def cut(by: str) -> pl.Expr:
    """Where the stretch of event time begins that a row belongs to; ``all`` is one stretch."""
    return pl.col("at").dt.truncate(SPANS[by]) if by in SPANS else pl.col("at").min()


def against(
    answered: pl.DataFrame, other: pl.DataFrame, constant: float | None, by: str, metrics: Sequence[str]
) -> list[Compared]:
    """Answers, another version's scores of the same rows, and a constant, each judged by the truth.

    Args:
        answered: ``entity``, ``at``, ``score``, ``truth`` (null while it is not known), of what was answered.
        other: ``entity``, ``other``.
        constant: the share, or the mean, that a model without features would answer; None where it is not known.
        by: ``month``, ``week``, ``day`` or ``all``.
    """
    frame = answered.join(other, on="entity", how="left", maintain_order="left").with_columns(__start=cut(by))
    made: list[Compared] = []
    for (start,), part in frame.sort("__start", maintain_order=True).group_by("__start", maintain_order=True):
        known = part.filter(pl.col("truth").is_not_null() & pl.col("other").is_not_null())
        y = known["truth"].to_numpy()
        sides = {"answered": known["score"].to_numpy(), "against": known["other"].to_numpy()}
        if constant is not None:
            sides["constant"] = y * 0 + constant
        made.append(
            Compared(
                start=int(start.timestamp() * 1000),  # type: ignore[attr-defined]
                n=part["id"].n_unique(),
                labelled=len(known),
                positives=float(y.mean()) if len(y) else 0.0,
                metrics={side: _judged(y, p, metrics) for side, p in sides.items()} if len(y) else {},
            )
        )
    return made


def _judged(y: Any, p: Any, metrics: Sequence[str]) -> dict[str, float]:
    return {name: METRICS[name].score(y, p) for name in metrics if name in METRICS}
