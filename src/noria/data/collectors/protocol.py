"""What a source is, to the collector."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
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
        note: what a person should hear of it, for instance that a file was rewritten.
    """

    source: str
    mark: dict[str, Any]
    frame: pl.DataFrame | None
    meta: dict[str, Any] = field(default_factory=dict[str, Any])
    whole: bool = False
    others: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    note: str | None = None

    @property
    def marks(self) -> dict[str, dict[str, Any]]:
        return {**self.others, self.source: self.mark}


class Marks(dict[str, dict[str, Any]]):
    """What was seen of each part of a source.

    Attributes:
        refused: parts that a contract refused as they were seen.
        never_landed: those of them of which nothing was taken before.
    """

    def __init__(
        self,
        marks: Mapping[str, dict[str, Any]],
        refused: Iterable[str] = (),
        never_landed: Iterable[str] = (),
    ) -> None:
        super().__init__(marks)
        self.refused = frozenset(refused)
        self.never_landed = frozenset(never_landed)


class Source(Protocol):
    def pieces(self, marks: Marks) -> Iterator[Piece]:
        """The parts that are new, given the marks of what was collected before. Raises ``SourceFailed``."""
        ...
