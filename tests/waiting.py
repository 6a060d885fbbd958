"""Waiting for what another process or thread does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def until(what: Callable[[], Any], text: str, seconds: float = 90) -> Any:
    """What ``what`` gives as soon as that is something; ``text`` says what was waited for."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = what()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"{text}: not in {seconds:g} s")
