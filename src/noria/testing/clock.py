from __future__ import annotations

from noria.base.times import parse_time


class ManualClock:
    """A clock that moves only when it is told to."""

    def __init__(self, start: str = "2013-01-01T00:00:00Z") -> None:
        self._now = parse_time(start)
        self._monotonic = 0.0

    def now_ms(self) -> int:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def sleep(self, seconds: float) -> None:
        self.tick(round(seconds * 1000))

    def tick(self, ms: int) -> None:
        self._now += ms
        self._monotonic += ms / 1000
