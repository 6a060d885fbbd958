"""What a source is, to the collector."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import polars as pl  # noqa: TC002 - the type of a field of a dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A part of a source that is committed as one.

    Attributes:
        source: a stable name of the part, for instance ``file:schedule/2013-04.parquet``.
        mark: what tells whether it is new: a digest, a watermark. Stored in the transaction of the commit.
        frame: the rows; None where they are as they were, and the mark alone is new.
        meta: lineage, for people: path, digest, query, URL.
        whole: it takes the place of all rows, since those of a part that changed cannot be found without a key.
        others: marks of the further parts that a whole piece holds.
    """

    source: str
    mark: dict[str, Any]
    frame: pl.DataFrame | None
    meta: dict[str, Any] = field(default_factory=dict[str, Any])
    whole: bool = False
    others: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])

    @property
    def marks(self) -> dict[str, dict[str, Any]]:
        return {**self.others, self.source: self.mark}


class Source(Protocol):
    def pieces(self, marks: dict[str, dict[str, Any]]) -> Iterator[Piece]:
        """The parts that are new, given the marks of what was collected before. Raises ``SourceFailed``."""
        ...
