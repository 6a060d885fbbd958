"""The one table from kinds of errors to HTTP statuses, and the one form of an error."""

from __future__ import annotations

import logging
import secrets
from typing import Any, Final

import msgspec

from noria.base import errors as e
from noria.http.access import BEARER, TokenNeeded

log = logging.getLogger("noria.http")

STATUSES: Final[list[tuple[type[e.NoriaError], int]]] = [
    (e.DiskFull, 507),
    (e.NotFound, 404),
    (e.Conflict, 409),
    (e.Refused, 422),
    (e.Failed, 422),
    (e.Invalid, 400),
    (TokenNeeded, 401),
    (e.Denied, 403),
    (e.Unavailable, 503),
    (e.Bug, 500),
]


class RequestTooLarge(e.Invalid):
    """The body is larger than this route takes."""

    code = "request_too_large"


class MethodWrong(e.Invalid):
    """The path exists, but not with this method."""

    code = "method_not_allowed"


class ErrorBody(msgspec.Struct):
    """What went wrong, and what to do."""

    code: str
    message: str
    hint: str
    details: dict[str, Any]


class ErrorAnswer(msgspec.Struct):
    error: ErrorBody


def status_of(error: e.NoriaError) -> int:
    if isinstance(error, RequestTooLarge):
        return 413
    if isinstance(error, MethodWrong):
        return 405
    return next((status for kind, status in STATUSES if isinstance(error, kind)), 500)


def headers_of(status: int) -> dict[str, str]:
    """The headers that go with the status of an error."""
    if status == 401:
        return {"www-authenticate": BEARER}
    return {"retry-after": "1"} if status == 503 else {}


def from_exception(error: Exception) -> e.NoriaError:
    """Our own errors as they are; input that does not decode as ``Invalid``; anything else as a bug with a number."""
    if isinstance(error, e.NoriaError):
        return error
    if isinstance(error, msgspec.ValidationError):
        return e.Invalid(f"The request does not fit: {error}.", hint="GET /openapi.json describes every request.")
    if isinstance(error, msgspec.DecodeError | UnicodeDecodeError | RecursionError):
        return e.Invalid(f"The request is not valid JSON: {error!s:.200}.", hint="Send one JSON object in UTF-8.")
    if isinstance(error, OverflowError):
        return e.Invalid(f"A number in the request is too large: {error!s:.200}.")
    number = secrets.token_hex(4)
    log.error("bug %s", number, exc_info=error)
    return e.Bug(
        f"Something inside noria failed (number {number}).",
        hint="The server's log has the trace under this number.",
        details={"number": number},
    )
