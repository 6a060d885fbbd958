"""One line of the table, and how a figure is taken: ours and the peer in turns, the median of several rounds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Compare = Literal["ours", "difference", "ratio"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One figure.

    Attributes:
        name: what was measured, in a few words.
        unit: of both medians.
        ours: the median of our rounds.
        peer: the median of the peer's rounds; None without a peer.
        peer_name: what the peer is.
        goal: what the ``compare``d number shall not exceed; None for a figure without a goal.
        compare: the number the goal is about: ours, ours minus the peer's, or ours over the peer's.
        more_is_better: for rates, where the ratio shall be at least the goal.
    """

    name: str
    unit: str
    ours: float
    peer: float | None = None
    peer_name: str = ""
    goal: float | None = None
    compare: Compare = "ours"
    more_is_better: bool = False

    @property
    def ratio(self) -> float | None:
        """Ours over the peer's."""
        return self.ours / self.peer if self.peer else None

    @property
    def compared(self) -> float:
        """The number that the goal speaks of."""
        if self.compare == "difference":
            return self.ours - (self.peer or 0.0)
        if self.compare == "ratio":
            return self.ratio or 0.0
        return self.ours

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None without one."""
        if self.goal is None:
            return None
        return self.compared >= self.goal if self.more_is_better else self.compared <= self.goal


def seconds(work: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_turns(rounds: int, *works: Callable[[], float]) -> list[float]:
    """Calls each work once a round, in turns, so that a busy moment hits all alike; the median of what each returned.

    One more round comes first, and does not count.
    """
    found: list[list[float]] = [[] for _ in works]
    for number in range(rounds + 1):
        for work, values in zip(works, found, strict=True):
            value = work()
            if number:
                values.append(value)
    return [statistics.median(values) for values in found]
