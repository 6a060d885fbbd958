"""``nr.when``: what starts a training without a person."""

from __future__ import annotations

from noria.base.errors import Invalid
from noria.pipelines.declare.policies import Budget, When, check_duration


def every(schedule: str) -> When:
    """At fixed times: ``"month"``, ``"day at 18:00 America/New_York"`` or a cron expression."""
    return When(kind="every", schedule=schedule)


def new_rows(count: int) -> When:
    """When this many new rows with truth have come since the last training."""
    if count < 1:
        raise Invalid(f"when.new_rows({count}): at least one row.")
    return When(kind="new_rows", value=count)


def drift(psi: float = 0.2, *, window: str = "7d") -> When:
    """When the distribution of the scores has moved by this much from the champion's own reference."""
    return When(kind="drift", value=psi, window=check_duration(window))


def worse(*, by: float, window: str = "14d") -> When:
    """When the primary metric on late truth is worse than at the gate by this share, beyond its interval."""
    if by <= 0:
        raise Invalid(f"when.worse(by={by}): a share above 0.")
    return When(kind="worse", value=by, window=check_duration(window))


def budget(*, runs: int = 10, per: str = "30d", pause: str = "1d") -> Budget:
    """At most ``runs`` trainings in ``per``, and a ``pause`` after each; one at a time always."""
    return Budget(runs=runs, per=check_duration(per), pause=check_duration(pause))
