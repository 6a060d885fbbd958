"""SIGTERM and Ctrl-C end the script in order, with everything that it started."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from contextlib import contextmanager

_BOTH = (signal.SIGTERM, signal.SIGINT)


def _ended(number: int, _: object) -> None:
    for late in _BOTH:
        signal.signal(late, signal.SIG_IGN)  # what comes while it ends is too late
    raise SystemExit(128 + number)


def obey() -> None:
    """From now on both raise SystemExit, once, wherever the script is."""
    for number in _BOTH:
        signal.signal(number, _ended)


@contextmanager
def deferred() -> Generator[None]:
    """Puts both off until a process that is being started is known to whoever ends it."""
    came: list[int] = []
    before = {number: signal.signal(number, lambda found, _: came.append(found)) for number in _BOTH}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            os.kill(os.getpid(), came[0])
