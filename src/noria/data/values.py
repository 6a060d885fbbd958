"""Values of rows as JSON and error messages show them, and keys of rows as they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from noria.base.errors import Invalid


def plain(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def shown_place(url: str) -> str:
    """A folder, or a database's URL without user, password and query."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}" if separator else url


def key_of(parts: Sequence[str]) -> dict[str, str]:
    """COLUMN=VALUE of a command line."""
    found: dict[str, str] = {}
    for part in parts:
        column, equals, value = part.partition("=")
        if not equals or not column:
            raise Invalid(f"{part!r} is not COLUMN=VALUE.", hint="For instance id=7")
        found[column] = value
    return found


def parse_key(text: str) -> dict[str, Any]:
    """The key of a row from a JSON object."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError:
        raise Invalid(f"{text!r} is not a key.", hint='A JSON object: {"id": 7}') from None
