"""What a features function gets for a table that is not its spine: a handle that knows which column means what."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

import polars as pl  # noqa: TC002 - the type of a field of a dataclass

from noria.base import canonical
from noria.features import kernels
from noria.features.found import Found, InBulk
from noria.features.kernels import Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """How a features function looks into one table: what the online store has to keep for it.

    Attributes:
        kind: asof or history.
        on: (column of the spine, column of the table).
        columns: the columns that are read.
        span_us: how far back: the window, or the tolerance; None where the last row counts however old.
    """

    table: str
    kind: str
    on: tuple[tuple[str, str], ...]
    columns: tuple[str, ...]
    span_us: int | None

    @property
    def id(self) -> str:
        """Names what is kept; two functions with the same need share it. The spine's own names do not matter."""
        return _id(self)

    def as_value(self) -> dict[str, Any]:
        return {
            "table": self.table,
            "kind": self.kind,
            "on": [list(pair) for pair in self.on],
            "columns": list(self.columns),
            "span_us": self.span_us,
        }

    @classmethod
    def of(cls, value: dict[str, Any]) -> Use:
        return cls(
            table=value["table"],
            kind=value["kind"],
            on=tuple((a, b) for a, b in value["on"]),
            columns=tuple(value["columns"]),
            span_us=value["span_us"],
        )


@lru_cache(maxsize=4096)
def _id(use: Use) -> str:
    value = [use.table, use.kind, [b for _, b in use.on], sorted(use.columns), use.span_us]
    return canonical.digest(value).hex[:24]


class Seen(Protocol):
    """A table as a features function sees it."""

    name: str
    time: str | None
    known: str | None

    def find(self, use: Use, spine: pl.DataFrame, at: Ints) -> Found:
        """The rows that a use may need for the keys of a spine at its moments."""
        ...


@dataclass(slots=True, kw_only=True)
class WholeTable:
    """A table in bulk. Used directly, like a LazyFrame, it is the whole table, and the use is remembered as raw.

    Attributes:
        time: None for a table without times: its rows are always visible.
        uses: what was looked up, in the order of the first time.
        raw: it was used in another way than through ``nr.asof`` and ``nr.history``.
    """

    name: str
    frame: pl.DataFrame
    time: str | None
    known: str | None
    uses: dict[str, Use] = field(default_factory=dict[str, Use])
    raw: bool = False

    def find(self, use: Use, spine: pl.DataFrame, at: Ints) -> Found:
        self.uses.setdefault(use.id, use)
        known = self.known if self.known in self.frame.columns else None  # a unit test's frame may have none
        between = None if self.time is None else kernels.reach(at, use.span_us)
        return InBulk(kernels.index(spine, self.frame, use.on, self.time, known, between), self.frame)

    def visible(self) -> pl.DataFrame:
        """The frame without noria's hidden columns."""
        return self.frame.select([c for c in self.frame.columns if not c.startswith("__")])

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self.raw = True
        return getattr(self.visible().lazy(), name)
