"""Keeps the leases of this process while it waits for something that takes minutes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

log = logging.getLogger("noria.assets")

SECONDS: Final = 5.0


@contextmanager
def beating(beat: Callable[[], None], seconds: float = SECONDS) -> Generator[None]:
    """Calls ``beat`` every few seconds in a thread, as long as the block runs."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(seconds):
            try:
                beat()
            except Exception:  # a database that is busy for a moment: the lease outlasts several beats
                log.exception("a lease could not be renewed")

    thread = threading.Thread(target=run, name="beating", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
