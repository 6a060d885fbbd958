"""``nr.release``: how a model version that passed its gates takes over the traffic."""

from __future__ import annotations

from collections.abc import Sequence

from noria.base.errors import Invalid
from noria.pipelines.declare.policies import Release, check_duration, check_share


def canary(
    steps: Sequence[float] = (0.05, 0.25, 1.0),
    *,
    shadow: bool = True,
    alpha: float = 0.05,
    margin: float = 0.005,
    hold: int = 500,
    longest: str = "28d",
) -> Release:
    """In growing steps, watched; thrown out by itself when it is worse. See ``Release`` for the arguments."""
    if not steps or list(steps) != sorted(steps) or steps[0] <= 0 or steps[-1] != 1.0:
        raise Invalid(f"The steps {list(steps)} do not grow to 1.0.", hint="release.canary([0.05, 0.25, 1.0])")
    return Release(
        steps=tuple(float(s) for s in steps),
        shadow=shadow,
        alpha=check_share(alpha, "alpha"),
        margin=margin,
        hold=hold,
        longest=check_duration(longest),
    )


def at_once() -> Release:
    """All traffic at once, after the gates: for endpoints without traffic to judge by."""
    return Release(steps=(1.0,), shadow=False, hold=0)
