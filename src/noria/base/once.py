from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Once:
    """What makes a verb safe to repeat (promise 4): a key of the caller, and what was asked for under it.

    Attributes:
        key: chosen by the caller, 1 to 200 characters.
        request: a JSON value; a key that comes back with another one is refused.
    """

    key: str
    request: Any

    def part(self, name: str) -> Once:
        """For a further transaction of the same verb."""
        return Once(f"{self.key}:{name}", self.request)
