"""One message to one allowed address: resolved once, no redirect followed, no proxy asked, cut off in time."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Mapping
from typing import Final

from noria.webhooks.records import Outcome
from noria.webhooks.targets import Target

SECONDS: Final = 10.0
"""For all of a message: finding the host, sending, and the answer."""

_SHOWN: Final = 4_096
"""Bytes of an answer that are kept."""

_AGAIN: Final = frozenset([408, 425, 429])


class Post:
    """A message on its way. ``abort`` ends it from another thread."""

    def __init__(self, target: Target, seconds: float = SECONDS) -> None:
        self._target = target
        self._seconds = seconds
        self._socket: socket.socket | None = None
        self._aborted = threading.Event()

    def send(self, body: bytes, headers: Mapping[str, str]) -> Outcome:
        """Sends it; says what came of it and raises nothing."""
        timer = threading.Timer(self._seconds, self.abort)
        timer.daemon = True
        timer.start()
        try:
            return self._answer(body, headers)
        except (OSError, http.client.HTTPException, ValueError) as error:
            why = f"no answer within {self._seconds:g} seconds" if self._aborted.is_set() else _words(error)
            return Outcome(error=f"{self._target.place}: {why}", again=True)
        finally:
            timer.cancel()

    def abort(self) -> None:
        self._aborted.set()
        held = self._socket
        if held is not None:
            with contextlib.suppress(OSError):
                held.shutdown(socket.SHUT_RDWR)

    def _answer(self, body: bytes, headers: Mapping[str, str]) -> Outcome:
        place = self._target.place
        with contextlib.closing(http.client.HTTPConnection(place.host, place.port)) as connection:
            connection.sock = self._connected()
            # It has a socket, so it never looks the host up by itself.
            connection.request("POST", self._target.path, body, {**headers, "Connection": "close"})
            answer = connection.getresponse()
            text = answer.read(_SHOWN).decode("utf-8", "replace")
        if self._aborted.is_set():
            raise TimeoutError
        if answer.status < 300:
            return Outcome(status=answer.status, body=text)
        if answer.status < 400:
            return Outcome(
                status=answer.status, body=text, error=f"{place} answered {answer.status}: no redirect is followed"
            )
        again = answer.status >= 500 or answer.status in _AGAIN
        return Outcome(status=answer.status, body=text, error=f"{place} answered {answer.status}", again=again)

    def _connected(self) -> socket.socket:
        place = self._target.place
        last: OSError | None = None
        for family, kind, protocol, _, address in socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM):
            made = socket.socket(family, kind, protocol)
            made.settimeout(self._seconds)
            self._socket = made
            try:
                if self._aborted.is_set():
                    raise TimeoutError
                made.connect(address)
                if place.scheme == "https":
                    made = ssl.create_default_context().wrap_socket(made, server_hostname=place.host)
                    self._socket = made
                return made
            except OSError as error:
                made.close()
                last = error
                if self._aborted.is_set():
                    break
        raise last or OSError("the host has no address")


def _words(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return text if isinstance(error, OSError) else f"no answer in HTTP ({text})"
