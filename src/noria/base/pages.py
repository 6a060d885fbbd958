"""One shape of a page for every list: items and a token for the next page."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from noria.base.errors import Invalid

T = TypeVar("T")
MAX_PAGE = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    items: list[T]
    next: str | None = None


def check_limit(limit: int) -> int:
    if not 1 <= limit <= MAX_PAGE:
        raise Invalid(f"A page of {limit} items is refused.", hint=f"Ask for 1 to {MAX_PAGE} items.")
    return limit


def token(position: int | str | list[Any]) -> str:
    """An opaque token that says after which key the next page begins."""
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode().rstrip("=")


_MOST = 1 << 62
_HINT = "Pass the value of `next` from the page before."


def number_position(text: str | None) -> int | None:
    """The position in a list whose pages are marked by a number that counts up.

    Raises:
        Invalid: this list never gave out such a token.
    """
    value = position(text)
    if value is None or (type(value) is int and 0 <= value < _MOST):
        return value
    raise Invalid(f"{text!r:.60} is not a page token of this list.", hint=_HINT)


def pair_position(text: str | None) -> tuple[int, str] | None:
    """The position in a list whose pages are marked by a time and an id.

    Raises:
        Invalid: this list never gave out such a token.
    """
    value = position(text)
    if value is None:
        return None
    if isinstance(value, list) and len(value) == 2:
        at, last = value
        if type(at) is int and 0 <= at < _MOST and isinstance(last, str) and "\0" not in last:
            return at, last
    raise Invalid(f"{text!r:.60} is not a page token of this list.", hint=_HINT)


def position(text: str | None) -> int | str | list[int | str] | None:
    if text is None:
        return None
    try:
        value = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        value = None
    if not isinstance(value, int | str | list):
        raise Invalid(f"{text!r:.60} is not a page token.", hint=_HINT)
    return cast("int | str | list[int | str]", value)
