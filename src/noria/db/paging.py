"""Pages of a search: each begins behind the last row of the one before, whatever the order is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, false, or_

from noria.base.errors import Invalid
from noria.base.pages import position, token

_INT64: Final = 1 << 63


class PageWrong(Invalid):
    """A page token was not made by this search."""

    code = "page_invalid"


@dataclass(frozen=True, slots=True)
class Part:
    """One part of an order: an expression and its direction. ``whole``: it has a value in every row."""

    value: ColumnElement[Any]
    descending: bool = False
    whole: bool = True


def behind(parts: Sequence[Part], values: Sequence[Any]) -> ColumnElement[bool]:
    """Rows that come after the one with these values."""
    cases: list[ColumnElement[bool]] = []
    same: list[ColumnElement[bool]] = []
    for part, value in zip(parts, values, strict=True):
        if value is not None:
            later = part.value < value if part.descending else part.value > value
            cases.append(and_(*same, later))
        same.append(part.value == value if part.whole else part.value.is_not_distinct_from(value))
    if not cases:
        return false()
    first, value = parts[0], values[0]
    if not first.whole or value is None:
        return or_(*cases)
    # Says nothing new, but an index can begin there; it cannot with what is tied by OR.
    return and_(first.value <= value if first.descending else first.value >= value, or_(*cases))


def ordered(parts: Sequence[Part]) -> list[ColumnElement[Any]]:
    return [part.value.desc() if part.descending else part.value.asc() for part in parts]


def marked(after: str | None, parts: Sequence[Part]) -> list[Any] | None:
    """The values in a page token, of the types that the order has.

    Raises:
        PageWrong: they do not fit this order.
    """
    found = position(after)
    if found is None:
        return None
    if not isinstance(found, list) or len(found) != len(parts):
        raise PageWrong(
            f"{after!r:.60} is no page token of this search.", hint="Send the one that came with the last page."
        )
    return [_back(value, part.value.type.python_type) for value, part in zip(found, parts, strict=True)]


def mark(values: Sequence[Any]) -> str:
    return token([["x", value.hex()] if isinstance(value, float) else value for value in values])


def _back(value: Any, kind: type) -> Any:
    """A value of a token, if it is one that such a column can hold."""
    if value is None:
        return None
    if kind is float and isinstance(value, list) and len(value) == 2 and isinstance(value[1], str):
        try:
            return float.fromhex(value[1])
        except (ValueError, OverflowError):
            value = None
    elif kind is int:
        fits = type(value) is int and -_INT64 <= value < _INT64
        value = value if fits else None
    elif kind is str:
        value = value if isinstance(value, str) and _plain(value) else None
    else:
        value = None
    if value is not None:
        return value
    raise PageWrong("The page token does not belong to this search.", hint="Send the one that came with the last page.")


def _plain(text: str) -> bool:
    """Whether a database takes it: no NUL, no half of a surrogate pair."""
    return "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)
