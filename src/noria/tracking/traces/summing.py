"""Sums over many values, group by group: counts, means, extremes and percentiles."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from typing import Final

from noria.tracking.traces.errors import TraceInvalid

MOST_GROUPS: Final = 100_000
Key = tuple[int | str, ...]


class Groups:
    """Values by group. Only percentiles keep values: 8 bytes for each.

    Args:
        kept: whether percentiles will be asked for.
    """

    def __init__(self, *, kept: bool) -> None:
        self._kept = kept
        self._groups: dict[Key, _Group] = {}

    def add(self, key: Key, value: float) -> None:
        """One more value.

        Raises:
            TraceInvalid: there are too many groups.
        """
        found = self._groups.get(key)
        if found is None:
            if len(self._groups) >= MOST_GROUPS:
                raise TraceInvalid(f"There are more than {MOST_GROUPS} groups.", hint="Ask for longer times.")
            found = self._groups[key] = _Group()
        found.add(value, self._kept)

    def open(self, key: Key) -> None:
        """A group that is there without any value."""
        self._groups.setdefault(key, _Group())

    def sorted(self) -> Iterator[tuple[Key, _Group]]:
        """The groups in the order of their keys."""
        for key in sorted(self._groups):
            yield key, self._groups[key]


class _Group:
    __slots__ = ("count", "least", "most", "total", "values")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.least, self.most = math.inf, -math.inf
        self.values: array[float] = array("d")

    def add(self, value: float, kept: bool) -> None:
        self.count += 1
        self.total += value
        self.least, self.most = min(self.least, value), max(self.most, value)
        if kept:
            self.values.append(value)

    def percentiles(self, shares: Sequence[float]) -> list[float]:
        """Values below which these shares of all lie, from 0 to 1; between two values, a part of the way."""
        ordered = sorted(self.values)
        made: list[float] = []
        for share in shares:
            at = share * (len(ordered) - 1)
            low = math.floor(at)
            high = min(low + 1, len(ordered) - 1)
            made.append(ordered[low] + (ordered[high] - ordered[low]) * (at - low))
        return made
