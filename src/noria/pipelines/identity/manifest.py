"""The manifest of a step, and the reasons why two of them differ."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from noria.base import canonical
from noria.base.digest import Digest

FORMAT: Final = 1

_WORDS: Final = {
    "code": "CODE", "value": "VALUE", "closure": "VALUE", "default": "VALUE", "opaque": "VALUE", "param": "PARAM",
    "input": "INPUT", "lib": "LIBRARY", "env": "ENV", "spec": "CODE", "declared": "CODE", "format": "ENV",
}  # fmt: skip


@dataclass(frozen=True)
class Manifest:
    """Named parts of a step.

    Attributes:
        parts: name -> digest or value, in words where it is short. Names begin with their kind and a colon:
            ``code:flights.trip``, ``value:flights.K``, ``param:C``, ``input:weather``, ``lib:polars``, ``env:python``.
        notes: what was found and is not part of the identity, for people.
    """

    parts: dict[str, str]
    notes: tuple[str, ...] = ()
    places: dict[str, str] = field(default_factory=dict)
    """Where a code part stands (``flights.py:12``), for people; not part of the identity."""

    @cached_property
    def key(self) -> Digest:
        return canonical.digest({"format": FORMAT, "parts": self.parts})

    def with_parts(self, **more: str) -> Manifest:
        return Manifest({**self.parts, **more}, self.notes, self.places)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a step runs. ``level`` is CODE, VALUE, PARAM, INPUT, LIBRARY, ENV, POLICY, UPSTREAM or NEW."""

    level: str
    text: str


def compare(before: Manifest | None, after: Manifest) -> list[Reason]:
    """What changed between the last successful run and now; empty where nothing did."""
    if before is None:
        return [Reason("NEW", "it never ran")]
    reasons: list[Reason] = []
    for name in sorted(before.parts.keys() | after.parts.keys()):
        old, new = before.parts.get(name), after.parts.get(name)
        if old != new:
            reasons.append(Reason(_WORDS.get(name.partition(":")[0], "CODE"), _text(name, old, new, after)))
    return reasons


def _text(name: str, old: str | None, new: str | None, after: Manifest) -> str:
    kind, _, rest = name.partition(":")
    place = f" ({after.places[name]})" if name in after.places else ""
    shown = rest if kind in ("code", "value", "closure", "lib") else f"{kind} {rest}"
    if old is None:
        return f"{shown} is new{place}"
    if new is None:
        return f"{shown} is no longer used"
    if kind == "input":
        return f"input {rest} has new content"
    if max(len(old), len(new)) <= 40 and not old.startswith(("blake3:", "{")):
        return f"{shown} {old} -> {new}{place}"
    return f"{shown} changed{place}"
