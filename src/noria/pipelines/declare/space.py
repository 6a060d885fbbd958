"""``nr.space``: what a sweep searches."""

from __future__ import annotations

from typing import Any

from noria.base.errors import Invalid
from noria.pipelines.declare.policies import Space


def floats(low: float, high: float) -> Space:
    """A number between ``low`` and ``high``."""
    return Space(kind="floats", low=_ordered(low, high), high=high)


def log(low: float, high: float) -> Space:
    """A positive number, searched by its order of magnitude."""
    if low <= 0:
        raise Invalid(f"space.log from {low}: a logarithm needs positive bounds.", hint="space.floats(low, high)")
    return Space(kind="log", low=_ordered(low, high), high=high)


def ints(low: int, high: int) -> Space:
    """A whole number, both ends included."""
    return Space(kind="ints", low=_ordered(low, high), high=high)


def choice(*choices: Any) -> Space:
    """One of several values."""
    if not choices:
        raise Invalid("space.choice needs at least one value.")
    return Space(kind="choice", choices=choices)


def _ordered(low: float, high: float) -> float:
    if not low < high:
        raise Invalid(f"A space from {low} to {high} is empty.")
    return low
