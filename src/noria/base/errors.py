"""The error tree: six kinds, each leaf with a stable code and the next thing to type.

    NoriaError
    ├── NotFound      the thing named does not exist            HTTP 404, exit 4
    ├── Conflict      somebody else was first, or it exists     HTTP 409, exit 5
    ├── Invalid       what was asked for makes no sense         HTTP 400, exit 2
    │   └── Refused   understood, but a rule or a gate says no  HTTP 422, exit 3
    ├── Denied        the caller may not                        HTTP 403 or 401, exit 7
    ├── Unavailable   a part is missing, full, busy or damaged  HTTP 503, exit 6
    ├── Failed        the user's own code or data failed        HTTP 422, exit 1
    └── Bug           our fault                                 HTTP 500, exit 70

HTTP statuses live in one table in ``noria.http.errors``, exit codes in one in ``noria.cli.exits``.
"""

from __future__ import annotations

from typing import Any, ClassVar


class NoriaError(Exception):
    """Base of all errors that are shown to people.

    Args:
        message: what happened, with the value.
        hint: what to type or change next; may be empty only where nothing can be done.
        details: JSON-able facts for programs.
    """

    code: ClassVar[str] = "error"

    def __init__(self, message: str, *, hint: str = "", details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details: dict[str, Any] = details or {}

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.hint, self.details)

    def as_dict(self) -> dict[str, Any]:
        """The one form of an error in HTTP answers and in ``--json``."""
        return {"error": {"code": self.code, "message": self.message, "hint": self.hint, "details": self.details}}


def _rebuild(cls: type[NoriaError], message: str, hint: str, details: dict[str, Any]) -> NoriaError:
    """Pickle support that does not depend on a leaf's own constructor."""
    error = cls.__new__(cls)
    NoriaError.__init__(error, message, hint=hint, details=details)
    return error


class NotFound(NoriaError):
    """The thing named does not exist."""

    code = "not_found"


class Conflict(NoriaError):
    """Somebody else was first, or the name is taken."""

    code = "conflict"


class Invalid(NoriaError):
    """What was asked for makes no sense."""

    code = "invalid"


class Refused(Invalid):
    """Understood, but a contract, a gate or a policy says no."""

    code = "refused"


class Denied(NoriaError):
    """The caller may not do this."""

    code = "denied"


class Unavailable(NoriaError):
    """Something that is needed is missing, full, busy or damaged."""

    code = "unavailable"


class Failed(NoriaError):
    """The user's own code or data failed; the platform did what it should."""

    code = "failed"


class Bug(NoriaError):
    """A mistake of ours."""

    code = "bug"


class MissingExtra(Unavailable):
    """An optional package is not installed."""

    code = "missing_extra"

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed.",
            hint=f'pip install "noria[{extra}]"',
            details={"package": package, "extra": extra},
        )


class DiskFull(Unavailable):
    """The disk has no room left; nothing was changed."""

    code = "disk_full"

    def __init__(self, path: str) -> None:
        super().__init__(
            f"The disk is full: {path} could not be written. Nothing was changed.",
            hint="Free some space and repeat the command; it goes on where it stopped.",
            details={"path": path},
        )
