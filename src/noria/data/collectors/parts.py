"""A source of several parts, each a table file: files of a folder, objects of a bucket."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any

import polars as pl

from noria.data.collectors.protocol import Marks, Misfits, Piece
from noria.data.errors import SourceFailed


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One file or object, as a list tells it.

    Attributes:
        source: the name under which its mark is kept.
        quick: what tells without reading it that it is as it was.
    """

    name: str
    source: str
    quick: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A part whose content was looked at.

    Attributes:
        mark: its new mark.
        same: its content is as it was: it was only touched.
        grown: only what was added since is read.
        note: what a person should hear.
        handle: the source's own.
    """

    part: Part
    mark: dict[str, Any]
    same: bool
    grown: bool = False
    note: str | None = None
    handle: Any = None


class PartsSource(ABC):
    """Parts in the order of their names; a part is collected again when it changed.

    Args:
        shown: the pattern, for messages.
        keyed: whether rows have a key. Without one a part that changed brings all parts again, as one whole piece;
            one that only grew brings its new rows.
    """

    def __init__(self, shown: str, *, keyed: bool) -> None:
        self._shown = shown
        self._keyed = keyed

    @abstractmethod
    def _parts(self) -> list[Part]:
        """All parts, in the order of their names."""

    def _looked_at(self, parts: list[Part]) -> list[Part]:
        """Those of the parts that are looked at now; the others wait. A whole piece takes all, all the same."""
        return parts

    def _begin(self, parts: list[Part]) -> None:
        """Hears which parts are going to be opened."""
        return

    @abstractmethod
    def _unchanged(self, part: Part, before: dict[str, Any]) -> bool:
        """Whether the part is surely as its mark says, without reading it."""

    @abstractmethod
    def _open(self, part: Part, before: dict[str, Any]) -> AbstractContextManager[Opened]:
        """Looks at the content."""

    @abstractmethod
    def _read(self, opened: Opened, *, whole: bool) -> tuple[pl.DataFrame, Misfits | None]:
        """Its rows, and the lines that do not fit the table; of one that grew, those that were added.

        Args:
            whole: they take the place of all rows, and their columns the place of the table's: all fit.
        """

    @abstractmethod
    def _meta(self, opened: Opened) -> dict[str, Any]:
        """Lineage, for people."""

    def pieces(self, marks: Marks) -> Iterator[Piece]:
        found = self._looked_at(self._parts())
        parts = [p for p in found if not self._unchanged(p, marks.get(p.source, {}))]
        self._begin(parts)
        if not self._keyed:
            for part in parts:
                before = marks.get(part.source)
                if before is None or part.source in marks.never_landed:
                    continue
                with self._open(part, before) as opened:
                    if not opened.same and not opened.grown:
                        yield self._whole(opened, marks)
                        return
        for part in parts:
            before = marks.get(part.source, {})
            with self._open(part, before) as opened:
                if opened.same and (opened.mark == before or part.source in marks.refused):
                    continue
                yield self._piece(opened)

    def _piece(self, opened: Opened, *, whole: bool = False) -> Piece:
        frame, misfits = (None, None) if opened.same else self._read(opened, whole=whole)
        return Piece(
            source=opened.part.source,
            mark=opened.mark,
            frame=frame,
            meta=self._meta(opened),
            note=opened.note,
            misfits=misfits,
        )

    def _whole(self, changed: Opened, marks: Marks) -> Piece:
        """All parts, to take the place of all rows."""
        with ExitStack() as stack:
            all_parts = [stack.enter_context(self._open(part, {})) for part in self._parts()]
            pieces = {opened.part.source: self._piece(opened, whole=True) for opened in all_parts}
        kind = changed.part.source.partition(":")[0] + ":"
        gone = sorted(source for source in marks if source not in pieces)
        if gone:  # also what another source brought: its rows would go
            raise SourceFailed(
                f"{changed.part.name} changed, and {gone[0].removeprefix(kind)}, which was collected before, is not "
                f"among {self._shown}. Rows without a key are made anew from all files.",
                hint='Put it back, or give the source a key: key="COLUMN".',
                details={"gone": gone, "changed": changed.part.name},
            )
        frames = [p.frame for p in pieces.values() if p.frame is not None]
        try:
            frame = pl.concat(frames, how="vertical_relaxed")
        except pl.exceptions.PolarsError as error:
            raise SourceFailed(
                f"The files of {self._shown} do not make one table: {str(error).splitlines()[0]:.300}",
                hint="Without a key all files are read together: give them the same columns, in the same order.",
            ) from None
        first = pieces.pop(changed.part.source)
        meta = {**first.meta, "whole": len(frames)}
        others = {p.source: p.mark for p in pieces.values()}
        note = changed.note or f"{changed.part.name} changed"
        return Piece(
            source=first.source,
            mark=first.mark,
            frame=frame,
            meta=meta,
            whole=True,
            others=others,
            note=f"{note}: all files were read anew, since rows have no key",
        )
