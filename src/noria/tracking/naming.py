"""Which rows of the whole database name a run or an experiment: asked of the database itself, so that no room is
forgotten."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

from sqlalchemy import Connection, column, inspect, select, table

_PART: Final = 500


def foreign_keys(conn: Connection, target: str) -> list[tuple[str, str]]:
    """(table, column) of every foreign key of one column that leads to a table."""
    return sorted(
        (name, key["constrained_columns"][0])
        for (_, name), keys in inspect(conn).get_multi_foreign_keys().items()
        for key in keys
        if name is not None and key["referred_table"] == target and len(key["constrained_columns"]) == 1
    )


def named(conn: Connection, by: Sequence[tuple[str, str]], values: Collection[Any]) -> set[Any]:
    """Those of ``values`` that a row of these columns holds."""
    left = set(values)
    found: set[Any] = set()
    for name, at in by:
        one: Any = column(at)
        ids = list(left - found)
        for start in range(0, len(ids), _PART):
            rows = select(one).select_from(table(name, one)).where(one.in_(ids[start : start + _PART])).distinct()
            found.update(conn.execute(rows).scalars())
    return found
