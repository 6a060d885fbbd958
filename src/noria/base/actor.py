"""Who asks. Settled at a door (library, CLI, HTTP) and passed down to every writing verb."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """A person or a part of the system.

    Attributes:
        name: ``user:alice``, ``trigger:12``, ``system:delivery``.
        automatic: True where no person asked (the scorecard counts only such runs as automated).
    """

    name: str
    automatic: bool = False


SYSTEM = Actor(name="system", automatic=True)
