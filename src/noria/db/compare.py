"""A clause of a search as a condition on a column; the same on both databases."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, func

from noria.base.search import Clause


def compare(column: Any, clause: Clause) -> ColumnElement[bool]:
    """Whether a column fits the clause's value.

    Says nothing of ``is_null`` and ``is_not_null``: they ask whether there is a row, which the query knows.
    """
    value = clause.value
    if isinstance(value, tuple):
        return column.in_(value) if clause.op == "in" else column.not_in(value)
    if clause.op in ("like", "ilike"):
        return _like(column, str(value), clause.op == "ilike")
    return {
        "=": column == value,
        "!=": column != value,
        "<": column < value,
        "<=": column <= value,
        ">": column > value,
        ">=": column >= value,
    }[clause.op]


def _like(column: Any, pattern: str, any_case: bool) -> ColumnElement[bool]:
    # PostgreSQL takes a backslash as an escape and refuses one at the end, SQLite takes it as it is.
    escape = "\\" if "\\" in pattern else None
    pattern = pattern.replace("\\", "\\\\")
    if any_case:
        # The database lowers both sides: SQLite and Python lower different letters.
        return func.lower(column).like(func.lower(pattern), escape=escape)
    return column.like(pattern, escape=escape)
