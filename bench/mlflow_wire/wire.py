"""A keep-alive HTTP/1.1 client of few instructions, and a driver of many of its connections.

The client runs in one process of its own, apart from both servers: one connection waits in ``recv``; several hang on
one ``epoll``, since threads would wait for each other's interpreter lock and processes would cost the two cores a
switch for every answer. ``limit`` measures what this client can do at most, and the script prints it: a rate near it
says nothing of a server.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import statistics
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn
from urllib.parse import urlencode

import msgspec

from bench.mlflow_wire.signals import deferred

API = "/api/2.0/mlflow"
Answer = bytes
Conversation = Generator[bytes, Answer, None]
"""Yields whole requests, is sent the body of each answer; ends when it has nothing more to say."""

_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Calls:
    """What was answered.

    Attributes:
        count: the answers, all of them 200.
        elapsed: seconds from the first request to the last answer; over one connection only those in which the client
            waited for the server, since making a request of 1,000 points takes as long as some answers.
        times: seconds of each exchange.
    """

    count: int
    elapsed: float
    times: list[float]

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.count / self.elapsed

    @property
    def median(self) -> float:
        """Milliseconds."""
        return 1e3 * statistics.median(self.times)


def get(path: str, **query: object) -> bytes:
    """A whole GET request; a list in the query is said once for each item."""
    asked = f"{path}?{urlencode(query, doseq=True)}" if query else path
    return f"GET {asked} HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: */*\r\n\r\n".encode()


def post(path: str, body: bytes | dict[str, Any]) -> bytes:
    """A whole POST request."""
    sent = body if isinstance(body, bytes) else msgspec.json.encode(body)
    head = (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: */*\r\n"
        f"content-type: application/json\r\ncontent-length: {len(sent)}\r\n\r\n"
    )
    return head.encode() + sent


@dataclass(slots=True)
class Connection:
    """One keep-alive connection, one exchange at a time."""

    port: int
    timeout: float = 600.0
    socket: socket.socket = field(init=False)
    _got: bytearray = field(default_factory=bytearray)
    _from: int = 0
    _until: int | None = None
    _status: int = 0

    def __post_init__(self) -> None:
        self.socket = socket.create_connection(("127.0.0.1", self.port), timeout=self.timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, request: bytes) -> None:
        """Begins an exchange."""
        self._got = bytearray()
        self._until = None
        self.socket.sendall(request)

    def receive(self) -> bool:
        """Takes what has come; whether the answer is whole.

        Raises:
            ConnectionError: the server closed the connection in the middle.
        """
        data = self.socket.recv(1 << 18)
        if not data:
            raise ConnectionError(f"closed in the middle of an answer, after {bytes(self._got[:300])!r}")
        self._got += data
        if self._until is None and not self._head():
            return False
        if self._until == -1:
            return self._got.endswith(b"0\r\n\r\n")
        return len(self._got) >= (self._until or 0)

    def _head(self) -> bool:
        cut = self._got.find(_END)
        if cut < 0:
            return False
        head = bytes(self._got[:cut]).lower()
        self._status = int(head[9:12])
        self._from = cut + len(_END)
        _, found, rest = head.partition(b"content-length:")
        if found:
            self._until = self._from + int(rest.split(b"\r", 1)[0])
        else:
            self._until = -1 if b"transfer-encoding: chunked" in head else self._from
        return True

    def answer(self) -> Answer:
        """The body of the whole answer.

        Raises:
            RuntimeError: it was not 200; a benchmark of errors says nothing.
        """
        body = bytes(self._got[self._from :])
        if self._until == -1:
            body = _joined(body)
        if self._status != 200:
            raise RuntimeError(f"port {self.port} answered {self._status}: {body[:600].decode(errors='replace')}")
        return body

    def exchange(self, request: bytes) -> Answer:
        """Sends and waits."""
        self.send(request)
        while not self.receive():
            pass
        return self.answer()

    def json(self, request: bytes) -> Any:
        """Sends and waits; the answer, read."""
        return msgspec.json.decode(self.exchange(request))

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _joined(body: bytes) -> bytes:
    """Chunks as one."""
    parts: list[bytes] = []
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size.split(b";")[0], 16)
        parts.append(rest[:length])
        body = rest[length + 2 :] if length else b""
    return b"".join(parts)


def drive(port: int, conversations: Sequence[Conversation], seconds: float | None = None) -> Calls:
    """Holds all conversations at once, each on a connection of its own, to their end or for so many seconds.

    An exchange that was begun in time is finished and counts.

    Raises:
        RuntimeError: an answer was not 200.
    """
    connections = [Connection(port) for _ in conversations]
    try:
        for connection in connections:
            connection.exchange(get("/health"))
        if len(connections) == 1:
            return _one(connections[0], conversations[0], seconds)
        return _several(connections, conversations, seconds)
    finally:
        for connection in connections:
            connection.close()


def _one(connection: Connection, conversation: Conversation, seconds: float | None) -> Calls:
    clock = time.perf_counter
    times: list[float] = []
    until = clock() + seconds if seconds is not None else float("inf")
    request = next(conversation, None)
    while request is not None:
        sent = clock()
        answer = connection.exchange(request)
        now = clock()
        times.append(now - sent)
        if now >= until:
            break
        request = _say(conversation, answer)
    return Calls(len(times), sum(times), times)


def _several(connections: Sequence[Connection], conversations: Sequence[Conversation], seconds: float | None) -> Calls:
    clock = time.perf_counter
    times: list[float] = []
    sent: dict[int, float] = {}
    pairs = {c.socket.fileno(): (c, words) for c, words in zip(connections, conversations, strict=True)}
    with select.epoll() as waiting:
        began = now = clock()
        until = began + seconds if seconds is not None else float("inf")
        for number, (connection, conversation) in pairs.items():
            request = next(conversation, None)
            if request is not None:
                waiting.register(number, select.EPOLLIN)
                sent[number] = clock()
                connection.send(request)
        while sent:
            for number, _ in waiting.poll():
                connection, conversation = pairs[number]
                if not connection.receive():
                    continue
                answer = connection.answer()
                now = clock()
                times.append(now - sent.pop(number))
                request = _say(conversation, answer) if now < until else None
                if request is not None:
                    sent[number] = clock()
                    connection.send(request)
    return Calls(len(times), now - began, times)


def _say(conversation: Conversation, answer: Answer) -> bytes | None:
    try:
        return conversation.send(answer)
    except StopIteration:
        return None


def repeat(request: bytes) -> Conversation:
    """The same request for ever."""
    while True:
        yield request


def limit(connections: int, seconds: float = 0.5) -> float:
    """Calls a second of this client against a process that answers two bytes without reading what it is asked."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=64)
    with deferred():
        child = os.fork()
        if child == 0:
            _echo(listening)
    try:
        request = post(f"{API}/runs/log-metric", b"x" * 120)
        return drive(listening.getsockname()[1], [repeat(request) for _ in range(connections)], seconds).rate
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        listening.close()


def _echo(listening: socket.socket) -> NoReturn:
    """The child: it lives until it is killed, or until nobody can speak to it any more."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    try:
        _answer(listening)
    finally:
        os._exit(1)


def _answer(listening: socket.socket) -> None:
    reply = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
    open_ones: dict[int, socket.socket] = {}
    with select.epoll() as waiting:
        waiting.register(listening.fileno(), select.EPOLLIN)
        while True:
            for number, _ in waiting.poll():
                if number == listening.fileno():
                    made, _ = listening.accept()
                    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    open_ones[made.fileno()] = made
                    waiting.register(made.fileno(), select.EPOLLIN)
                elif open_ones[number].recv(4096):
                    open_ones[number].sendall(reply)
                else:
                    waiting.unregister(number)
                    open_ones.pop(number).close()
