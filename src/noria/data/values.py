"""Values of rows as JSON and error messages show them."""

from __future__ import annotations

from typing import Any


def plain(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def shown_place(url: str) -> str:
    """A folder, or a database's URL without user, password and query."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}" if separator else url
