"""One shape of a page for every list: items and a token for the next page."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

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


def token(position: int | str | list[int | str]) -> str:
    """An opaque token that says after which key the next page begins."""
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode().rstrip("=")


def position(text: str | None) -> int | str | list[int | str] | None:
    if text is None:
        return None
    try:
        value = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (binascii.Error, ValueError):
        value = None
    if not isinstance(value, int | str | list):
        raise Invalid(f"{text!r:.60} is not a page token.", hint="Pass the value of `next` from the page before.")
    return cast("int | str | list[int | str]", value)
