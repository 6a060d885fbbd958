"""A keep-alive HTTP client that does next to nothing, so that on few cores it is the server that is measured."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any
from urllib.parse import urlsplit

import uvloop

_END = b"\r\n\r\n"
_LENGTH = b"content-length: "
_CHUNKED = b"transfer-encoding: chunked"
_LAST_CHUNK = b"\r\n0\r\n\r\n"


def posts(url: str, bodies: Sequence[dict[str, Any]]) -> list[bytes]:
    """Whole requests, ready to be sent."""
    parts = urlsplit(url)
    made: list[bytes] = []
    for value in bodies:
        body = json.dumps(value).encode()
        head = (
            f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        made.append(head.encode() + body)
    return made


@dataclass(slots=True)
class Load:
    """What is sent until when, and how many answers came."""

    requests: Sequence[bytes]
    until: float
    answers: int = 0


class _Connection(asyncio.Protocol):
    """Sends a request, waits for its answer, sends the next."""

    def __init__(self, load: Load, start: int) -> None:
        self._load = load
        self._next = cycle([*load.requests[start:], *load.requests[:start]])
        self._buffer = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(next(self._next))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(_END)
        if not found:
            return
        lower = head.lower()
        if not head.startswith(b"HTTP/1.1 200"):
            self._fail(RuntimeError((head + body).decode(errors="replace")))
            return
        if _CHUNKED in lower:
            whole = body.endswith(_LAST_CHUNK)
        else:
            whole = len(body) >= int(lower.split(_LENGTH, 1)[1].split(b"\r", 1)[0])
        if not whole:
            return
        self._buffer = b""
        self._load.answers += 1
        if time.perf_counter() < self._load.until:
            self._transport.write(next(self._next))
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self._fail(exc) if exc else self.done.set_result(None)

    def _fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)
        self._transport.close()


async def _drive(host: str, port: int, load: Load, connections: int) -> None:
    loop = asyncio.get_running_loop()
    step = len(load.requests) // connections
    made = [
        await loop.create_connection(lambda n=n: _Connection(load, n * step), host, port) for n in range(connections)
    ]
    await asyncio.gather(*(connection.done for _, connection in made))


def drive(url: str, requests: Sequence[bytes], connections: int, seconds: float) -> tuple[int, float]:
    """Sends requests for so long over so many connections; (answers, seconds that it took).

    Raises:
        RuntimeError: an answer was not 200; a benchmark of errors says nothing.
    """
    parts = urlsplit(url)
    start = time.perf_counter()
    load = Load(requests, start + seconds)
    uvloop.run(_drive(str(parts.hostname), int(parts.port or 80), load, connections))
    return load.answers, time.perf_counter() - start
