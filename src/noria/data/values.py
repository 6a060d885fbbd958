"""Values of rows as JSON and error messages show them."""

from __future__ import annotations

from typing import Any


def plain(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
