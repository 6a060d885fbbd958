"""The thread beside a driver: keeps the leases of its runs alive, and opens the door when somebody knocks."""

from __future__ import annotations

import logging
import os
import selectors
import threading
import time
from collections.abc import Callable
from typing import Final

from noria.pipelines.doors import StepDoor

_HEARTBEAT: Final = 8.0
_END: Final = b"e"
_WATCH: Final = b"w"
_log = logging.getLogger(__name__)


class Keeper:
    """A context, for as long as a driver drives. Its thread sleeps: one thread serves steps that need none.

    Args:
        beat: is called every few seconds.
    """

    def __init__(self, beat: Callable[[], None], door: StepDoor) -> None:
        self._beat = beat
        self._door = door
        self._reading, self._writing = os.pipe()
        self._watching = False
        self._thread = threading.Thread(target=self._run, name="run-leases", daemon=True)

    def __enter__(self) -> Keeper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.write(self._writing, _END)
        self._thread.join()
        os.close(self._reading)
        os.close(self._writing)

    def watch(self) -> None:
        """From now on somebody may come to the door."""
        if not self._watching:
            self._watching = True
            os.write(self._writing, _WATCH)

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._reading, selectors.EVENT_READ)
            due = time.monotonic() + _HEARTBEAT
            while True:
                for key, _ in selector.select(max(0.0, due - time.monotonic())):
                    if key.fd != self._reading:
                        selector.unregister(key.fileobj)
                        self._open()
                    elif _END in os.read(self._reading, 64):
                        return
                    elif (listener := self._door.listener()) is not None:
                        selector.register(listener, selectors.EVENT_READ)
                if time.monotonic() >= due:
                    self._beat()
                    due = time.monotonic() + _HEARTBEAT

    def _open(self) -> None:
        try:
            self._door.serve()
        except Exception:  # noqa: BLE001 - leases have to be kept, whatever is wrong with the door
            _log.exception("Steps cannot be reached by their clients")
