"""A route is declared once; the router, the access check, OpenAPI and the tests that walk all routes read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from noria.base.actor import Actor
from noria.base.once import Once

MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request, decoded and with its caller known.

    Attributes:
        path: values of the ``{names}`` in the route's path.
        query: an instance of the route's ``query`` type, or None.
        body: an instance of the route's ``body`` type, or None.
        key: the ``Idempotency-Key`` header.
    """

    actor: Actor
    path: dict[str, str]
    query: Any
    body: Any
    key: str | None

    @property
    def once(self) -> Once | None:
        """The key with what this request asks for; every writing route hands it on to its verb."""
        if self.key is None:
            return None
        asked = {"path": self.path, "query": self.query, "body": self.body}
        return Once(self.key, msgspec.to_builtins(asked))


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One operation of the control API.

    Attributes:
        method, path: where; ``{name}`` takes one path part, ``{name:path}`` the rest.
        handler: the verb; runs in a worker thread and returns an ``answer``. A coroutine function runs in the event
            loop: for one that waits long.
        permission: what the caller needs, for instance ``data.write``; a route without one cannot be built.
        summary: one line, starts with a verb.
        body, query: msgspec types, validated before the handler runs; unknown fields of a body are refused.
        answer: a msgspec type, sent as JSON; or ``Content``: bytes, a part of them on request.
        cli: the command that does the same.
        lines: the field of the body that a request of JSON lines (``application/x-ndjson``) fills.
    """

    method: str
    path: str
    handler: Callable[[Call], Any]
    permission: str
    summary: str
    answer: Any
    body: Any = None
    query: Any = None
    status: int = 200
    cli: str = ""
    max_body: int = MIB
    lines: str | None = None

    @property
    def operation_id(self) -> str:
        words = [part.strip("{}").replace(":path", "") for part in self.path.strip("/").split("/")]
        return "_".join([self.method.lower(), *words]).replace("-", "_").replace(".", "_")
