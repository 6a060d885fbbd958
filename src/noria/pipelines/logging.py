"""``nr.log``: metrics and parameters from inside a step; does nothing outside of one."""

from __future__ import annotations

import contextvars
import math
import time
from collections.abc import Callable
from typing import Any

from noria.base.errors import Invalid
from noria.pipelines.task import PointSpec

Sink = Callable[[list[PointSpec], dict[str, str]], None]
_sink: contextvars.ContextVar[Sink | None] = contextvars.ContextVar("noria_log", default=None)


def log(*, step: int = 0, **values: float | int | str | bool) -> None:
    """Logs numbers as metric points at ``step`` and texts as parameters of the step's own run.

    Outside of a step it does nothing, so the same function runs in a unit test.
    """
    sink = _sink.get()
    if sink is None:
        return
    now = time.time_ns() // 1_000_000
    points: list[PointSpec] = []
    params: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, str | bool):
            params[key] = str(value)
        else:
            points.append(PointSpec(key=key, value=plain(value), at=now, step=step))
    sink(points, params)


def plain(value: Any) -> float | str:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise Invalid(f"nr.log takes numbers and texts, not a {type(value).__name__}.") from None
    return number if math.isfinite(number) else str(number)


class logging_to:  # noqa: N801 - reads as a phrase: with logging_to(sink)
    """Within it, ``nr.log`` goes to ``sink``."""

    def __init__(self, sink: Sink | None) -> None:
        self._given = sink

    def __enter__(self) -> None:
        self._token = _sink.set(self._given)

    def __exit__(self, *_: object) -> None:
        _sink.reset(self._token)
