"""Names of metrics, parameters and tags: which are allowed, and as numbers."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from posixpath import normpath
from typing import Final

from sqlalchemy import Connection, select

from noria.db import Tx
from noria.tracking import tables as t
from noria.tracking.errors import KeyInvalid

_PART = 500
"""Names in one statement; databases bound the number of parameters."""
_MOST = 200_000
"""Names that a process remembers."""
_KEY: Final = re.compile(r"[\w\-. :/]{1,250}")


class Keys:
    """Remembers what it has seen: a name keeps its number for good."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def knows(self, name: str) -> bool:
        return name in self._known

    def ids(self, tx: Tx, names: Collection[str]) -> dict[str, int]:
        """Name -> number, made for those that are new."""
        known = self._known
        found = {name: known[name] for name in names if name in known}
        if len(found) < len(names):
            missing = [name for name in names if name not in found]
            stored = _ids(tx.conn, missing)
            fresh = sorted(set(missing) - set(stored))
            if fresh:
                tx.insert_new_many(t.keys, [{"name": name} for name in fresh])
                stored |= _ids(tx.conn, fresh)
            found |= stored
            tx.after_commit(lambda: self._remember(stored))
        return found

    def find(self, conn: Connection, names: Iterable[str]) -> dict[str, int]:
        """Name -> number, for those that some run has used."""
        asked = set(names)
        known = self._known
        found = {name: known[name] for name in asked if name in known}
        missing = [name for name in asked if name not in found]
        return found | _ids(conn, missing) if missing else found

    def _remember(self, found: dict[str, int]) -> None:
        if len(self._known) + len(found) > _MOST:
            self._known = {}
        self._known.update(found)


def _ids(conn: Connection, names: list[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for start in range(0, len(names), _PART):
        part = names[start : start + _PART]
        rows = conn.execute(select(t.keys.c.name, t.keys.c.id).where(t.keys.c.name.in_(part)))
        found.update((name, number) for name, number in rows)
    return found


def check_key(key: str, what: str = "a metric, parameter or tag") -> None:
    bad = not _KEY.fullmatch(key)
    if not bad and ("/" in key or key[0] == "."):  # it may become a file's name, and must not mean another file
        bad = normpath(key) != key or key == "." or key.startswith(("..", "/"))
    if bad:
        raise KeyInvalid(
            f"{key!r:.300} cannot name {what}.",
            hint="Up to 250 letters, digits, _ - . : / and spaces; no . or .. or nothing between two /, and no / at an"
            " end.",
        )
