"""A request as the server hands it to the gateway: every part of it, the caller's address too, is the test's to say."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Answer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def call(
    app: Any,
    method: str,
    target: str,
    body: Any = None,
    *,
    host: str | None = "127.0.0.1:5000",
    client: str | None = "127.0.0.1",
    headers: dict[str, str] | None = None,
    more: Sequence[tuple[str, str]] = (),
    parts: Callable[[], bytes] | None = None,
) -> Answer:
    """One request.

    Args:
        target: the path as it is sent, with its query.
        body: bytes, or a value for JSON.
        more: headers that may be there twice.
        parts: makes one more part of a body without end.
    """
    raw, _, query = target.partition("?")
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    given = {**({} if host is None else {"host": host}), "content-type": "application/json", **(headers or {})}
    scope = {
        "type": "http",
        "method": method,
        "path": _unquoted(raw),
        "raw_path": raw.encode("latin-1"),
        "query_string": query.encode("latin-1"),
        "headers": [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in (*given.items(), *more)],
        "client": None if client is None else (client, 40_000),
        "server": ("127.0.0.1", 5000),
        "scheme": "http",
        "http_version": "1.1",
        "root_path": "",
    }
    answer = Answer()

    async def receive() -> dict[str, Any]:
        if parts is not None:
            return {"type": "http.request", "body": parts(), "more_body": True}
        return {"type": "http.request", "body": content, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {k.decode().lower(): v.decode() for k, v in message["headers"]}
        else:
            answer.body += message.get("body", b"")

    asyncio.run(app(scope, receive, send))
    return answer


def _unquoted(raw: str) -> str:
    from urllib.parse import unquote

    return unquote(raw)
