"""The fragments of one table while it is being changed, before anything is durable."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import polars as pl
from msgspec.structs import replace
from pyroaring import BitMap

from noria.data.rows.layout import Fragment, Layout
from noria.data.rows.read import TableReader, flags
from noria.data.rows.schema import SEQ, TableSchema
from noria.store import Kind, Writer

_FAN: Final = 16
_FRAGMENT_ROWS: Final = 1 << 20
_MOST_DELETED: Final = 0.2
_FEW: Final = 64
_WHOLE: Final = 3


class Edit:
    """Adds rows, marks rows as deleted, keeps the list of fragments short. Used once, by one thread.

    Attributes:
        folded: bytes of the files that ``fold`` wrote, for rows that were stored before.
    """

    def __init__(self, reader: TableReader, writer: Writer, schema: TableSchema, base: Layout | None) -> None:
        self._reader = reader
        self._writer = writer
        self._schema = schema
        self._base = base
        self._frames: dict[bytes, pl.DataFrame] = {}
        self._dead: dict[bytes, BitMap] = {}
        self.folded = 0
        self.fragments = [] if base is None else list(base.fragments)

    def add(self, frame: pl.DataFrame, *, level: int = 0) -> None:
        self.fragments += self._write(frame, level)

    def mark(self, number: int, matches: pl.DataFrame) -> pl.DataFrame:
        """Marks rows (column ``__row``) of a fragment as deleted; returns them as they were."""
        fragment = self.fragments[number]
        dead = self._deleted(fragment) | BitMap(matches["__row"].to_numpy().astype(np.uint32))
        dead.run_optimize()
        oid = self._writer.put(Kind.BLOB, dead.serialize()).raw
        self._dead[oid] = dead
        self.fragments[number] = replace(fragment, deleted=oid, deleted_rows=len(dead))
        return matches.drop("__row", "__new")

    def rows(self) -> Iterator[pl.DataFrame]:
        """The live rows, fragment by fragment, hidden columns included."""
        return (self._live(fragment) for fragment in self.fragments)

    def fold(self) -> None:
        """Sixteen neighbours of one level at the end become one fragment of the next level.

        So each row is rewritten once per level, and the list grows with the logarithm of the number of commits.
        A fragment of which more than a fifth is deleted is rewritten too. Nothing is changed in place.
        """
        self.fragments = [f for f in self.fragments if f.live]
        for number, fragment in enumerate(self.fragments):
            if fragment.deleted_rows > max(_FEW, _MOST_DELETED * fragment.rows):
                (self.fragments[number],) = self._folded(self._live(fragment), fragment.level)
        while self._fold_once():
            continue

    def fold_all(self) -> None:
        """Files of full size without deleted rows. Those that are so already stay; memory is that of two of them."""
        made: list[Fragment] = []
        rest: list[pl.DataFrame] = []
        waiting = 0

        def write(*, all_of_it: bool) -> None:
            nonlocal rest, waiting
            if waiting >= _FRAGMENT_ROWS or (all_of_it and waiting):
                whole = pl.concat(rest)
                count = waiting if all_of_it else waiting - waiting % _FRAGMENT_ROWS
                made.extend(self._write(whole[:count], _WHOLE))
                rest, waiting = [whole[count:]], waiting - count

        for fragment in self.fragments:
            if fragment.rows == _FRAGMENT_ROWS and not fragment.deleted and not fragment.shape and not waiting:
                made.append(fragment)
                continue
            frame = self._live(fragment)
            rest.append(frame)
            waiting += len(frame)
            write(all_of_it=False)
        write(all_of_it=True)
        self.fragments = made

    def _fold_once(self) -> bool:
        level = self.fragments[-1].level if self.fragments else 0
        run = 0
        while run < len(self.fragments) and self.fragments[-1 - run].level == level:
            run += 1
        last = self.fragments[len(self.fragments) - run :]
        whole = -(-sum(f.live for f in last) // _FRAGMENT_ROWS)
        if run < _FAN or whole > run // 4:  # files that are nearly full stay as they are
            return False
        self.fragments[-run:] = self._folded(pl.concat([self._live(f) for f in last]), level + 1)
        return True

    def _folded(self, frame: pl.DataFrame, level: int) -> list[Fragment]:
        made = self._write(frame, level)
        self.folded += sum(fragment.size for fragment in made)
        return made

    def _write(self, frame: pl.DataFrame, level: int) -> list[Fragment]:
        return [self._write_one(part, level) for part in frame.iter_slices(_FRAGMENT_ROWS)]

    def _write_one(self, frame: pl.DataFrame, level: int) -> Fragment:
        out = io.BytesIO()
        frame.write_parquet(out, compression="zstd", compression_level=3, row_group_size=len(frame), statistics=False)
        raw = out.getvalue()
        oid = self._writer.put(Kind.FRAGMENT, raw).raw
        self._frames[oid] = frame
        self._reader.remember(oid, frame)
        first, last = time_range(frame, self._schema.time)
        return Fragment(
            id=oid,
            rows=len(frame),
            size=len(raw),
            level=level,
            deleted=b"",
            deleted_rows=0,
            first_seq=_int(frame[SEQ].min()),
            last_seq=_int(frame[SEQ].max()),
            first_time=first,
            last_time=last,
        )

    def _live(self, fragment: Fragment) -> pl.DataFrame:
        frame = self._frames.get(fragment.id)
        if frame is None:
            assert self._base is not None
            frame = self._reader.whole(self._base, fragment)
        dead = self._deleted(fragment)
        return frame.filter(pl.Series(flags(len(frame), dead))) if dead else frame

    def _deleted(self, fragment: Fragment) -> BitMap:
        found = self._dead.get(fragment.deleted)
        return found if found is not None else self._reader.deleted(fragment)


def time_range(frame: pl.DataFrame, column: str | None) -> tuple[int | None, int | None]:
    """Smallest and largest value of a time column, in microseconds."""
    if column is None or not len(frame):
        return None, None
    dtype = frame.schema[column]
    if not isinstance(dtype, pl.Datetime):
        dtype = pl.Datetime("us")
    times = frame[column].cast(pl.Datetime("us", dtype.time_zone)).cast(pl.Int64)
    first, last = times.min(), times.max()
    return (None, None) if first is None else (_int(first), _int(last))


def _int(value: Any) -> int:
    return int(value)
