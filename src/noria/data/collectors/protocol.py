"""What a source is, to the collector."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import polars as pl  # noqa: TC002 - the type of a field of a dataclass

if TYPE_CHECKING:
    from noria.data.contract import Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """What the rows of a table are, as far as those who read lines need it."""

    types: Mapping[str, pl.DataType]
    key: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Misfits:
    """Lines of a piece that do not fit the table.

    Attributes:
        lines: how many the piece has; ``count`` of them do not fit.
        rows: they, with each value as text; what is no row at all stands in the column ``__line``.
        report: rule, column, number, and lines as examples.
    """

    lines: int
    count: int
    rows: pl.DataFrame
    report: list[Finding]


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
        misfits: lines of it that do not fit the table, and are not in ``frame``.
    """

    source: str
    mark: dict[str, Any]
    frame: pl.DataFrame | None
    meta: dict[str, Any] = field(default_factory=dict[str, Any])
    whole: bool = False
    others: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    note: str | None = None
    misfits: Misfits | None = None

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


Known: TypeAlias = Callable[[], "Columns | None"]
"""Gives the columns of the table as it stands; None where it has none yet, so that there is nothing to compare."""


class Source(Protocol):
    def pieces(self, marks: Marks) -> Iterator[Piece]:
        """The parts that are new, given the marks of what was collected before. Raises ``SourceFailed``."""
        ...
