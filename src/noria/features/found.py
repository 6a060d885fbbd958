"""What a look-up into a table finds: which rows answer which question, and their values.

In bulk it comes from the whole table, for single requests from the slices of the online store. The kernels and the
aggregates above do not know which; the registration check proves that they agree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa

from noria.features.kernels import Index, Ints


class Found(Protocol):
    """Rows of a table whose key occurs in the spine, sorted by (key, event time, known-since)."""

    @property
    def index(self) -> Index:
        """Where they are; places below count in its order."""
        ...

    def column(self, name: str) -> pl.Series:
        """All values of a column, in sorted order."""
        ...

    def taken(self, name: str, places: Ints) -> pl.Series:
        """The values of a column at these positions; missing where a position is -1."""
        ...


@dataclass(frozen=True, slots=True)
class InBulk:
    """From a whole table: the index says which of its rows."""

    index: Index
    frame: pl.DataFrame

    def column(self, name: str) -> pl.Series:
        series = self.frame.get_column(name)
        return series[self.index.order] if len(self.index.order) else series.clear()

    def taken(self, name: str, places: Ints) -> pl.Series:
        series = self.frame.get_column(name)
        if not len(series):
            return series.clear(len(places))
        found = places >= 0
        rows = self.index.order[np.where(found, places, 0)] if len(self.index.order) else np.zeros(len(places), int)
        return series.gather(pl.Series(pa.array(rows, mask=~found)))


class Online:
    """From slices, which are sorted already. Values stay as they lie there until somebody asks for them."""

    def __init__(
        self,
        index: Index,
        parts: Sequence[Sequence[msgspec.Raw | list[Any]]],
        names: Sequence[str],
        make: Callable[..., pl.Series],
    ) -> None:
        self.index = index
        self._parts = parts
        self._names = names
        self._make = make
        self._plain: dict[str, list[Any]] = {}

    def column(self, name: str) -> pl.Series:
        return self._make(name, self._values(name))

    def taken(self, name: str, places: Ints) -> pl.Series:
        values = self._values(name)
        return self._make(name, [values[place] if place >= 0 else None for place in places.tolist()])

    def _values(self, name: str) -> list[Any]:
        found = self._plain.get(name)
        if found is None:
            number = self._names.index(name)
            found = self._plain[name] = list(chain.from_iterable(_decoded(part[number]) for part in self._parts))
        return found


def _decoded(column: msgspec.Raw | list[Any]) -> list[Any]:
    return msgspec.msgpack.decode(column) if isinstance(column, msgspec.Raw) else column


def with_missing(name: str, values: np.ndarray[Any, Any], present: np.ndarray[Any, Any]) -> pl.Series:
    """An array as a series, missing where ``present`` is False."""
    if present.all():
        return pl.Series(name, values)
    return pl.Series(name, pa.array(values, mask=~present))
