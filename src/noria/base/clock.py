"""The two clocks (decision 5). Both are passed in; nothing else asks the system for the time.

``Clock`` is wall and monotonic time: leases, time-outs, latency, audit. ``EventClock`` is the time of the world that
the data speaks of: windows, schedules, triggers, truth. In production both agree; a replay drives the second one.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    def now_ms(self) -> int:
        """Wall time, milliseconds since 1970 UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back."""
        ...

    def sleep(self, seconds: float) -> None: ...


class EventClock(Protocol):
    def event_ms(self) -> int:
        """Event time: the watermark up to which the world is known, milliseconds since 1970 UTC."""
        ...


class SystemClock:
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
