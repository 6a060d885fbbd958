"""Crash points (decision 22): every write, fsync, rename and change of state announces itself here first.

In production the hook does nothing. Crash tests pass ``CrashAt``, which ends the process the way ``kill -9`` does. The
setting ``NORIA_FAULT`` is read by ``workspace``; worker processes are told it by whoever starts them.
"""

from __future__ import annotations

import os
import threading
from typing import Final, Protocol

SETTING: Final = "NORIA_FAULT"
"""The name of the setting: ``POINT`` or ``POINT:N``."""


class Faults(Protocol):
    def at(self, point: str) -> None:
        """Announces that ``point`` (for instance ``store.pack.fsync``) is about to happen."""
        ...


class NoFaults:
    def at(self, point: str) -> None:
        return


class CrashAt:
    """Ends the process, without any clean-up, the n-th time that a point with this prefix is reached."""

    def __init__(self, prefix: str, nth: int = 1) -> None:
        self._prefix = prefix
        self._left = nth
        self._lock = threading.Lock()

    @classmethod
    def parse(cls, text: str) -> CrashAt:
        prefix, _, nth = text.rpartition(":")
        return cls(prefix, int(nth)) if prefix and nth.isdigit() else cls(text)

    def at(self, point: str) -> None:
        if not point.startswith(self._prefix):
            return
        with self._lock:
            self._left -= 1
            if self._left == 0:
                os._exit(137)


def of(setting: str | None) -> Faults:
    """The hook that a setting asks for; none without one."""
    return CrashAt.parse(setting) if setting else NoFaults()


class CountPoints:
    """Counts the points that a run reaches, so that a crash test can visit each of them."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def at(self, point: str) -> None:
        self.seen.append(point)
