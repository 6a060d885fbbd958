"""The door for MLflow's clients: plain ASGI, since some of its calls are made thousands of times a second.

It serves `/api/...` and the same under `/ajax-api/...`, and a few paths beside them. Everything else on the port
belongs to noria's own API, which is asked through ``inner``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, unquote

import msgspec
from starlette.responses import Response

from noria.base.errors import Invalid
from noria.gateways.mlflow.errors import MethodWrong, NoEndpoint, fault_of
from noria.gateways.mlflow.routes import Asked, Route, Table
from noria.http.access import CHALLENGE, Access
from noria.http.app import refuse_nul
from noria.http.errors import RequestTooLarge

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_OURS: Final = ("/api/", "/ajax-api/")
_JSON: Final = [
    (b"content-type", b"application/json"),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"x-frame-options", b"DENY"),
]
_KIND: Final = "application/json"
_MOST_FIELDS: Final = 20_000
"""Of a query: the client asks for the metrics of many runs at once."""
_PIECE: Final = 200
"""Items of a list that are encoded at once; a run may be some ten thousand bytes."""
_encode: Final = msgspec.json.Encoder().encode


def encoded(answer: Any) -> bytes:
    """An answer as JSON; None is an empty object.

    Long lists are encoded in pieces, since no other thread runs while the encoder is at one.
    """
    if answer is None:
        return b"{}"
    if not (isinstance(answer, dict) and any(isinstance(one, list) and len(one) > _PIECE for one in answer.values())):
        return _encode(answer)
    parts: list[bytes] = []
    for key, value in answer.items():
        parts += [b"," if parts else b"{", _encode(key), b":"]
        if isinstance(value, list) and value:
            for start in range(0, len(value), _PIECE):
                parts += [b"," if start else b"[", _encode(value[start : start + _PIECE])[1:-1]]
            parts.append(b"]")
        else:
            parts.append(_encode(value))
    return b"".join([*parts, b"}"])


Rules = Callable[[Route, Asked], Callable[[Any], None] | None]
"""What a caller with few rights may do: looks at a request, may change it, or raises; what it returns hears the answer.
"""


class Instead(Exception):
    """Raised by rules: this is the answer, and the route's handler is not asked."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer


class Gone(Exception):
    """The caller hung up."""


class Gateway:
    """ASGI application: MLflow's paths here, all others to ``inner``.

    Args:
        within: what a handler in a thread runs inside of; it limits how long it may read.
    """

    def __init__(
        self,
        routes: Iterable[Route],
        access: Access,
        inner: ASGIApp | None = None,
        *,
        threads: int = 8,
        rules: Rules | None = None,
        within: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self._rules = rules
        self._table = Table(list(routes))
        self._access = access
        self._inner = inner
        self._within = within
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="mlflow")
        self._waits = {route.handler: iscoroutinefunction(route.handler) for route in self._table.routes}

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if self._inner is not None:
                await self._inner(scope, receive, send)
            return
        path: str = scope["path"]
        name = _name(path, scope)
        found = self._table.find(name)
        if found is None and self._inner is not None and not path.startswith(_OURS):
            await self._inner(scope, receive, send)
            return
        status, headers = 200, _JSON
        try:
            answer = await self._answer(scope, receive, path, found)
            if isinstance(answer, Response):  # it sends itself
                await answer(scope, receive, send)
                return
            body = answer if isinstance(answer, bytes) else encoded(answer)
        except Gone:
            return
        except Exception as error:  # noqa: BLE001 - the border: every error becomes an answer
            status, fault = fault_of(error)
            body = _encode(fault)
            headers = [*_JSON, *_more(status, error)]
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [*headers, (b"content-length", b"%d" % len(body))],
            }
        )
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _answer(
        self, scope: Scope, receive: Receive, path: str, found: tuple[dict[str, Route], dict[str, str]] | None
    ) -> Any:
        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        if len(headers) != len(scope["headers"]):
            _refuse_twice(scope)
        actor = self._access.caller(headers, scope)
        method: str = scope["method"]
        if found is None:
            raise NoEndpoint(f"There is no {method} {path!r:.200} here.", hint="See docs/how-to/mlflow.md.")
        methods, values = found
        route = methods.get(method) or (methods.get("GET") if method == "HEAD" else None)
        if route is None:
            wrong = MethodWrong(f"{method} {path!r:.200} is not possible; it takes {', '.join(methods)}.")
            wrong.allow = ", ".join(methods)
            raise wrong
        values = {key: _decoded(value) for key, value in values.items()}
        text = scope["query_string"]
        query = _query(text) if text else {}
        asked = Asked(actor, scope, receive, headers, values, query)
        if not route.raw:
            asked.message = await self._message(route, headers, query, receive)
        if self._rules is None:
            return await self._handled(route, asked, heard=False)
        loop = asyncio.get_running_loop()
        try:
            after = await loop.run_in_executor(self._threads, self._rules, route, asked)
        except Instead as settled:
            return settled.answer
        answer = await self._handled(route, asked, heard=after is not None)
        if after is not None:
            await loop.run_in_executor(self._threads, after, answer)
        return answer

    async def _handled(self, route: Route, asked: Asked, *, heard: bool) -> Any:
        """A handler's answer; with ``heard`` always as it is, otherwise it may be JSON already."""
        if self._waits[route.handler]:
            return await route.handler(asked)
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._run, route.handler, asked, heard)

    def _run(self, handler: Callable[[Asked], Any], asked: Asked, heard: bool) -> Any:
        with self._within():
            answer = handler(asked)
        # Large answers come from threads. The event loop, which all wait for, is not to encode them.
        return answer if heard or isinstance(answer, Response) else encoded(answer)

    async def _message(
        self, route: Route, headers: dict[str, str], query: dict[str, list[str]], receive: Receive
    ) -> Any:
        body = await read(receive, route.most)
        if route.message is None:
            return None
        if body:
            kind = headers.get("content-type", _KIND)
            if kind != _KIND and kind.partition(";")[0].strip().lower() != _KIND:
                # A page of another site may send other types without asking first.
                raise Invalid(f"The body is {kind!r:.100}.", hint=f"Send it as {_KIND}.")
            if headers.get("content-encoding", "identity") != "identity":
                raise Invalid("A compressed request body is not taken.", hint="Send the JSON as it is.")
            message = route.decode(body)
            if b"\\u0000" in body:  # the only way to write NUL in JSON; the text may also be an escaped backslash
                refuse_nul(msgspec.json.decode(body))
            return message
        for values in query.values():
            refuse_nul(values)
        return route.from_query(query)


def _refuse_twice(scope: Scope) -> None:
    """Of two Hosts or two tokens, what stands before this server may have looked at the other one."""
    names = [name for name, _ in scope["headers"]]
    for name in (b"host", b"authorization", b"content-length", b"content-encoding", b"content-type"):
        if names.count(name) > 1:
            raise Invalid(f"The header {name.decode()!r} is there twice.", hint="Send it once.")


def _more(status: int, error: Exception) -> list[tuple[bytes, bytes]]:
    """The headers that go with a status."""
    if status == 503:
        return [(b"retry-after", b"1")]
    if status == 401:
        return [(b"www-authenticate", CHALLENGE.encode())]
    if isinstance(error, MethodWrong):
        return [(b"allow", error.allow.encode())]
    return []


def _name(path: str, scope: Scope) -> str:
    """The name of a path in the table, still as it was sent: placeholders are decoded one by one."""
    raw = scope.get("raw_path")
    if raw and b"%" in raw:
        path = raw.decode("latin-1").partition("?")[0]
    for prefix in _OURS:
        if path.startswith(prefix):
            return path[len(prefix) :]
    return path


def _decoded(value: str) -> str:
    if "%" not in value:
        text = value
    else:
        text = unquote(value)  # bytes that are no text become U+FFFD: so MLflow's client names `per%cent` everywhere
    refuse_nul(text)
    return text


def _query(text: bytes) -> dict[str, list[str]]:
    made: dict[str, list[str]] = {}
    if text.count(b"&") >= _MOST_FIELDS:
        raise Invalid(f"The query has more than {_MOST_FIELDS} fields.", hint="Ask in several requests.")
    for key, value in parse_qsl(text.decode("latin-1"), keep_blank_values=True):
        made.setdefault(key, []).append(value)
    return made


async def read(receive: Receive, most: int) -> bytes:
    """The body, counted while it arrives: the header is not trusted."""
    message = await receive()
    body: bytes = message.get("body", b"")
    if message["type"] == "http.disconnect":
        raise Gone
    if not message.get("more_body") and len(body) <= most:
        return body
    parts, total = [body], len(body)
    while message.get("more_body"):
        if total > most:
            break
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        part = message.get("body", b"")
        parts.append(part)
        total += len(part)
    if total > most:
        raise RequestTooLarge(f"The body is larger than {most} bytes.", hint="Send it in several requests.")
    return b"".join(parts)
