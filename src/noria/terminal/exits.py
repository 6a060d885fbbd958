"""The one table from kinds of errors to exit codes (design, promise 8)."""

from __future__ import annotations

from typing import Final

from noria.base import errors as e

DONE, FAILED, WRONG_USE, REFUSED, NOT_FOUND, CONFLICT, UNREACHABLE, DENIED, BUG, INTERRUPTED = (
    0, 1, 2, 3, 4, 5, 6, 7, 70, 130,
)  # fmt: skip

_TABLE: Final[list[tuple[type[e.NoriaError], int]]] = [
    (e.NotFound, NOT_FOUND),
    (e.Conflict, CONFLICT),
    (e.Refused, REFUSED),
    (e.Failed, FAILED),
    (e.Invalid, WRONG_USE),
    (e.Denied, DENIED),
    (e.Unavailable, UNREACHABLE),
    (e.Bug, BUG),
]


def code_of(error: e.NoriaError) -> int:
    return next((code for kind, code in _TABLE if isinstance(error, kind)), BUG)
