from __future__ import annotations

from noria.base.errors import Invalid, Refused, Unavailable


class DatabaseUnavailable(Unavailable):
    """The metadata database cannot be reached or written."""

    code = "database_unavailable"


class DatabaseBusy(Unavailable):
    """Another process held the write lock for too long."""

    code = "database_busy"


class ReadTooLong(Refused):
    """A question took the database longer than the server allows, and was cut off.

    Not ``Unavailable``: asked again as it is, it would be cut off again, and clients repeat what is unavailable.
    """

    code = "read_too_long"

    def __init__(self) -> None:
        super().__init__(
            "The question took the database longer than this server allows, and was cut off.",
            hint="Ask for less: fewer experiments, a narrower filter, a smaller page; or: noria up --read-timeout N",
        )


class ValueUnfit(Invalid):
    """A value that no column can hold: a number out of range, a text with a NUL character."""

    code = "value_unfit"

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"The database cannot hold a value that was given: {reason:.200}.",
            hint="Look for a number that is far too large, or for a NUL character in a text.",
        )


class WorkspaceTooNew(Unavailable):
    """The workspace was written by a newer version of noria."""

    code = "workspace_too_new"

    def __init__(self, found: int, known: int) -> None:
        super().__init__(
            f"This workspace has schema revision {found}; this noria knows revisions up to {known}.",
            hint='pip install --upgrade "noria"',
            details={"found": found, "known": known},
        )


class WorkspaceTooOld(Unavailable):
    """The workspace has to be migrated before it is used."""

    code = "workspace_too_old"

    def __init__(self, found: int, known: int) -> None:
        super().__init__(
            f"This workspace has schema revision {found}; this noria needs {known}.",
            hint="noria admin migrate   (a backup is written first)",
            details={"found": found, "known": known},
        )


class NetworkFileSystem(Invalid):
    """SQLite is not safe on network file systems."""

    code = "network_file_system"

    def __init__(self, path: str, kind: str) -> None:
        super().__init__(
            f"{path} lies on a network file system ({kind}); SQLite's locks do not hold there and data could be lost.",
            hint="Use a local folder, or a PostgreSQL workspace: noria init --db postgresql://host/name",
            details={"path": path, "file_system": kind},
        )
