"""The gateway's own table from kinds of errors to MLflow's error codes and HTTP statuses."""

from __future__ import annotations

from typing import Final

import msgspec

from noria.base import errors as e
from noria.db.errors import ReadTooLong
from noria.http.access import TokenNeeded
from noria.http.errors import RequestTooLarge, from_exception
from noria.registry.errors import AliasMoved, ModelExists, ModelUsed
from noria.tracking.errors import ExperimentExists, QuotaReached


class Required(e.Invalid):
    """A request lacks a field."""

    code = "field_missing"

    def __init__(self, field: str) -> None:
        super().__init__(f"Missing value for required parameter '{field}'.")


class NoEndpoint(e.NotFound):
    """MLflow has no such path, or noria does not serve it."""

    code = "endpoint_not_found"


class NotImplementedHere(e.Invalid):
    """A feature of MLflow that is not served."""

    code = "not_implemented"


class MethodWrong(e.Invalid):
    """The path exists, but not with this method; ``allow`` names those that are."""

    code = "method_not_allowed"
    allow: str = ""


class Exists(e.Conflict):
    """The name is taken, in MLflow's words."""

    code = "resource_exists"


CODES: Final[list[tuple[type[e.NoriaError], str, int]]] = [
    (QuotaReached, "RESOURCE_EXHAUSTED", 422),  # not 429 or 503: clients repeat those for minutes
    (NoEndpoint, "ENDPOINT_NOT_FOUND", 404),
    (NotImplementedHere, "NOT_IMPLEMENTED", 501),
    (MethodWrong, "BAD_REQUEST", 405),
    (RequestTooLarge, "BAD_REQUEST", 413),
    (ReadTooLong, "RESOURCE_EXHAUSTED", 422),
    (Exists, "RESOURCE_ALREADY_EXISTS", 400),
    (ExperimentExists, "RESOURCE_ALREADY_EXISTS", 400),
    (ModelExists, "RESOURCE_ALREADY_EXISTS", 400),
    (AliasMoved, "RESOURCE_CONFLICT", 409),
    (ModelUsed, "RESOURCE_CONFLICT", 409),
    (e.NotFound, "RESOURCE_DOES_NOT_EXIST", 404),
    (e.Conflict, "INVALID_PARAMETER_VALUE", 400),
    (e.Invalid, "INVALID_PARAMETER_VALUE", 400),
    (TokenNeeded, "UNAUTHENTICATED", 401),
    (e.Denied, "PERMISSION_DENIED", 403),
    (e.DiskFull, "RESOURCE_EXHAUSTED", 507),
    (e.Unavailable, "TEMPORARILY_UNAVAILABLE", 503),
    (e.Failed, "INVALID_PARAMETER_VALUE", 400),
]
"""The first line that fits counts; a bug is INTERNAL_ERROR, 500."""


class Fault(msgspec.Struct):
    """MLflow's form of an error."""

    error_code: str
    message: str


def fault_of(error: Exception) -> tuple[int, Fault]:
    if isinstance(error, msgspec.ValidationError):
        return 400, Fault("INVALID_PARAMETER_VALUE", f"The request does not fit: {error}.")
    found = from_exception(error)
    fitting = ((code, status) for kind, code, status in CODES if isinstance(found, kind))
    code, status = next(fitting, ("INTERNAL_ERROR", 500))
    message = f"{found.message} {found.hint}".strip()
    return status, Fault(code, message)
