"""Column types that mean the same on both databases."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import BigInteger, Float, Integer, Text
from sqlalchemy.types import TypeDecorator

# SQLite numbers rows by itself only for a column of the exact type INTEGER.
BigId = BigInteger().with_variant(Integer, "sqlite")
Ms = BigInteger
"""Milliseconds since 1970 UTC."""
Real = Float(53)
Str = Text
"""Text without a length: limits are checked where the value is taken in, with a message."""


class Json(TypeDecorator[Any]):
    """A JSON value kept as text; read only as a whole, so both databases treat it alike."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: object) -> str | None:
        return None if value is None else msgspec.json.encode(value).decode()

    def process_result_value(self, value: str | None, dialect: object) -> Any:
        return None if value is None else msgspec.json.decode(value)
