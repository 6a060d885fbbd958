"""From declared routes to an ASGI application."""

from __future__ import annotations

from collections.abc import Iterable
from inspect import iscoroutinefunction
from typing import Any, cast

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.routing import Route as StarletteRoute

from noria.base.errors import Invalid, NoriaError, NotFound
from noria.http.access import Access
from noria.http.content import Content, respond
from noria.http.errors import MethodWrong, RequestTooLarge, from_exception, headers_of, status_of
from noria.http.routes import Call, Route

_LINES = ("application/x-ndjson", "application/jsonl", "application/x-jsonlines")
_decode_lines = msgspec.json.Decoder().decode_lines
_SECURE = {"x-content-type-options": "nosniff", "cache-control": "no-store", "x-frame-options": "DENY"}


def json_response(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, _SECURE, "application/json")


def error_response(error: NoriaError) -> Response:
    status = status_of(error)
    answer = json_response(error.as_dict(), status)
    answer.headers.update(headers_of(status))
    return answer


def build(routes: Iterable[Route], access: Access, extra: Iterable[BaseRoute] = ()) -> Starlette:
    """An application that serves the routes; every error leaves it in the one form."""
    made: list[BaseRoute] = [
        StarletteRoute(route.path, _endpoint(route, access), methods=[route.method], name=route.operation_id)
        for route in routes
    ]
    app = Starlette(
        routes=[*made, *extra],
        exception_handlers={HTTPException: _http_error, Exception: _any_error},
    )
    app.router.redirect_slashes = False  # it would answer before the caller is checked
    return app


def _endpoint(route: Route, access: Access) -> Any:
    if not route.permission:
        raise AssertionError(f"{route.method} {route.path} declares no permission")

    async def serve(request: Request) -> Response:
        try:
            call = await _call(route, request, access)
            if iscoroutinefunction(route.handler):  # it waits long and works little
                answer = await route.handler(call)
            else:
                answer = await run_in_threadpool(route.handler, call)
            if isinstance(answer, Content):
                return await run_in_threadpool(respond, answer, request, _SECURE)
        except ClientDisconnect:
            return Response(status_code=499)
        except Exception as error:  # noqa: BLE001 - the border: every error becomes an answer
            return error_response(from_exception(error))
        return json_response(answer, route.status)

    return serve


async def _call(route: Route, request: Request, access: Access) -> Call:
    actor = access.caller(dict(request.headers), request.scope)
    query = None
    refuse_nul([request.path_params, dict(request.query_params)])
    if route.query is not None:
        query = msgspec.convert(dict(request.query_params), route.query, strict=False)
    body = None
    if route.body is not None:
        if request.headers.get("content-encoding", "identity") != "identity":
            raise Invalid("A compressed request body is not taken.", hint="Send the JSON as it is.")
        raw = await read_body(request, route.max_body)
        lines = route.lines is not None and request.headers.get("content-type", "").partition(";")[0] in _LINES
        if lines:
            body = msgspec.convert({route.lines: _decode_lines(raw)}, route.body)
        else:
            raw = raw or b"{}"
            body = msgspec.json.decode(raw, type=route.body)
        if b"\\u0000" in raw:  # the only way to write NUL in JSON; the text may also be an escaped backslash
            refuse_nul(_decode_lines(raw) if lines else msgspec.json.decode(raw))
    key = request.headers.get("idempotency-key")
    if key is not None and (not 0 < len(key) <= 200 or "\0" in key):
        raise Invalid("An Idempotency-Key has 1 to 200 characters, and NUL is none of them.")
    return Call(actor=actor, path=dict(request.path_params), query=query, body=body, key=key)


def refuse_nul(value: Any) -> None:
    """No text may hold NUL: PostgreSQL cannot store it, and a name with it is a mistake or an attack."""
    if isinstance(value, str):
        if "\0" in value:
            raise Invalid(f"The text {value!r:.60} holds a NUL character.", hint="Send the text without it.")
    elif isinstance(value, list):
        for item in cast("list[Any]", value):
            refuse_nul(item)
    elif isinstance(value, dict):
        for name, item in cast("dict[str, Any]", value).items():
            refuse_nul(name)
            refuse_nul(item)


async def read_body(request: Request, limit: int) -> bytes:
    """The body, counted while it arrives: the header is not trusted."""
    parts: list[bytes] = []
    total = 0
    async for part in request.stream():
        total += len(part)
        if total > limit:
            raise RequestTooLarge(f"The body is larger than {limit} bytes.", hint="Send it in several requests.")
        parts.append(part)
    return b"".join(parts)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    what = f"{request.method} {request.url.path}"
    if error.status_code == 404:
        return error_response(NotFound(f"There is no {what}.", hint="GET /openapi.json lists what there is."))
    if error.status_code == 405:
        return error_response(MethodWrong(f"{what} is not possible.", hint="GET /openapi.json lists the methods."))
    return json_response(Invalid(str(error.detail)).as_dict(), error.status_code)


async def _any_error(request: Request, error: Exception) -> Response:
    return error_response(from_exception(error))
