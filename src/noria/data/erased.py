"""What readers are told of that was erased from all history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from sqlalchemy import Connection, select

from noria.base import canonical
from noria.data import tables as t
from noria.data.errors import WasErased
from noria.data.records import Repository


def fits(path: str, pattern: str) -> bool:
    """Whether a path fits a glob (``*`` crosses folders), or lies in the folder that is named."""
    return fnmatchcase(path, pattern) or path.startswith(pattern.rstrip("/") + "/")


def digest_of(rows: str | None, key: Mapping[str, Any]) -> str:
    """Stands for a condition or a key in the record of an erasure, which must not hold values."""
    return str(canonical.digest({"rows": rows, "key": {name: str(value) for name, value in key.items()}}))


def refuse_path(conn: Connection, repository: Repository, path: str) -> None:
    """Says so where a path that is not there was erased.

    Raises:
        WasErased: with the number of the erasure, and its reason.
    """
    for row in _erasures(conn, repository):
        if "path" in row.what and fits(path, row.what["path"]):
            raise WasErased(f"{path!r:.200}", repository.name, row.id, row.reason)


def refuse_key(conn: Connection, repository: Repository, key: Mapping[str, Any]) -> None:
    """Says so where a row that is not there was erased by its key.

    Raises:
        WasErased: with the number of the erasure, and its reason.
    """
    wanted = digest_of(None, key)
    for row in _erasures(conn, repository):
        if row.what.get("digest") == wanted:
            raise WasErased(f"The row {dict(key)}", repository.name, row.id, row.reason)


def _erasures(conn: Connection, repository: Repository) -> Sequence[Any]:
    c = t.erasures.c
    found = select(c.id, c.what, c.reason).where(c.project_id == repository.project_id, c.repository == repository.name)
    return conn.execute(found.order_by(c.id.desc())).all()
