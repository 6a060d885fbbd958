"""What a search compares of a span that no row says: its whole content, and its attributes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from noria.base.search import Clause
from noria.tracking.traces.records import Span

Fits = Callable[[Span], bool]


def content(span: Span) -> str:
    """A span as JSON, with everything that a person would look for in it."""
    made: dict[str, Any] = {"name": span.name, "type": span.type, "status": span.status, "message": span.message}
    made["attributes"] = span.attributes
    made["events"] = [{"name": event.name, "attributes": event.attributes} for event in span.events]
    return json.dumps(made, ensure_ascii=False, default=_other)


def plain(value: Any) -> str:
    """A value as the text that a filter compares: a text is itself, everything else its JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=_other)


def _other(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def fitting(clauses: Sequence[Clause]) -> Fits:
    """Whether one span fits all of the clauses."""
    checks = [_check(clause) for clause in clauses]
    return lambda span: all(check(span) for check in checks)


def _check(clause: Clause) -> Fits:
    test = _test(clause)
    if clause.kind == "span_attribute":
        return lambda span: clause.key in span.attributes and test(plain(span.attributes[clause.key]))
    if clause.key == "content":
        return lambda span: test(content(span))

    def own(span: Span) -> bool:
        value: str | None = getattr(span, clause.key)
        return value is not None and test(value.upper() if clause.key == "status" else value)

    return own


def _test(clause: Clause) -> Callable[[str], bool]:
    value = clause.value
    if isinstance(value, tuple):
        return (lambda text: text in value) if clause.op == "in" else (lambda text: text not in value)
    if clause.op in ("like", "ilike"):
        return like(str(value), any_case=clause.op == "ilike")
    return (lambda text: text == value) if clause.op == "=" else (lambda text: text != value)


def like(pattern: str, *, any_case: bool = False) -> Callable[[str], bool]:
    """LIKE of a database: ``%`` is any text, ``_`` any character. Reads a text once for each part of the pattern."""
    parts = [_find(part) for part in (pattern.lower() if any_case else pattern).split("%")]

    def test(text: str) -> bool:
        text = text.lower() if any_case else text
        if len(parts) == 1:
            return len(text) == parts[0][1] and parts[0][0](text, 0) == 0
        first, last = parts[0], parts[-1]
        if first[0](text, 0, True) != 0:
            return False
        at, end = first[1], len(text) - last[1]
        for find, length in parts[1:-1]:
            found = find(text, at)
            if found < 0 or found + length > end:
                return False
            at = found + length
        return at <= end and last[0](text, end, True) == end

    return test


def _find(part: str) -> tuple[Callable[..., int], int]:
    """Where a part without ``%`` is in a text, from a place on (or at it); and its length, which is always the same."""
    if "_" not in part:
        return (
            lambda text, at, here=False: (
                at if here and text.startswith(part, at) else -1 if here else text.find(part, at)
            )
        ), len(part)
    shape = re.compile("".join("." if char == "_" else re.escape(char) for char in part), re.DOTALL)

    def find(text: str, at: int, here: bool = False) -> int:
        found = shape.match(text, at) if here else shape.search(text, at)
        return -1 if found is None else found.start()

    return find, len(part)
