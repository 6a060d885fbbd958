"""The one canonical encoding of values that are hashed: JSON with one way to write each value.

Keys sorted by code point, no white space, UTF-8, integers of any size, floats by Python's shortest round-trip form
with ``1.0`` kept apart from ``1``; NaN and the infinities as ``{"$float": "nan"}``; bytes as ``{"$bytes": "<hex>"}``.
Pinned by ``tests/golden/canonical.json``.
"""

from __future__ import annotations

import json
import math
from typing import Any, TypeAlias

from noria.base.digest import Digest
from noria.base.errors import Invalid

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"


def encode(value: Any) -> bytes:
    """Canonical bytes of a value of None, bool, int, float, str, bytes, list, tuple or dict with string keys."""
    parts: list[str] = []
    _write(value, parts.append, 0)
    return "".join(parts).encode()


def digest(value: Any) -> Digest:
    return Digest.of(encode(value))


def _write(value: Any, out: Any, depth: int) -> None:
    if depth > 100:
        raise Invalid("A value is nested more than 100 levels deep.")
    if value is None or value is True or value is False:
        out("null" if value is None else "true" if value else "false")
    elif isinstance(value, str):
        out(_text(value))
    elif isinstance(value, int):
        out(int.__repr__(value))
    elif isinstance(value, float):
        out(_float(value))
    elif isinstance(value, bytes):
        out('{"$bytes":"' + value.hex() + '"}')
    elif isinstance(value, list | tuple):
        _sequence(value, out, depth)
    elif isinstance(value, dict):
        _mapping(value, out, depth)
    else:
        raise Invalid(
            f"A value of type {type(value).__name__} has no canonical form: {value!r:.80}",
            hint="Use None, bool, int, float, str, bytes, lists and dictionaries with string keys.",
        )


def _text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Invalid(f"The text {value!r:.80} holds a lone surrogate and has no UTF-8 form.") from None
    return json.dumps(value, ensure_ascii=False)


def _float(value: float) -> str:
    if math.isfinite(value):
        return float.__repr__(value)
    return '{"$float":"' + ("nan" if math.isnan(value) else "inf" if value > 0 else "-inf") + '"}'


def _sequence(value: Any, out: Any, depth: int) -> None:
    out("[")
    for position, item in enumerate(value):
        if position:
            out(",")
        _write(item, out, depth + 1)
    out("]")


def _mapping(value: Any, out: Any, depth: int) -> None:
    out("{")
    for key in value:
        if not isinstance(key, str):
            raise Invalid(f"The key {key!r} is a {type(key).__name__}; keys of hashed values are strings.")
    for position, key in enumerate(sorted(value)):
        if position:
            out(",")
        out(_text(key))
        out(":")
        _write(value[key], out, depth + 1)
    out("}")
