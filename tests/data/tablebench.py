"""Tables of one store, for tests of their format: no workspace, no database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from noria.data.rows import Layout, TableReader, TableWriter, merge_layouts
from noria.data.rows.alter import Alterations, alter
from noria.data.rows.schema import infer
from noria.store import ObjectStore
from noria.testing import MemoryBytes

Rows = dict[int, str | None]
KEYED = infer(pl.DataFrame({"k": [1], "v": ["x"]}), key=["k"])
BAG = infer(pl.DataFrame({"k": [1], "v": ["x"]}))


class Bench:
    """A store with a writer; each verb flushes."""

    def __init__(self, folder: Path) -> None:
        self.store = ObjectStore(MemoryBytes(), folder)
        self.writer = TableWriter(TableReader(self.store))
        self.reader = self.writer.reader
        self.seq = 0

    def fresh(self, rows: pl.DataFrame, schema: Any = KEYED) -> Layout:
        self.seq += 1
        with self.store.writer() as w:
            done = self.writer.replace(w, schema, rows, seq=self.seq, known_us=0)
            w.flush()
        return done.layout

    def append(self, base: Layout, rows: pl.DataFrame) -> Layout:
        self.seq += 1
        with self.store.writer() as w:
            done = self.writer.append(w, base, rows, seq=self.seq, known_us=0)
            w.flush()
        return done.layout

    def delete(self, base: Layout, *keys: int) -> Layout:
        with self.store.writer() as w:
            done = self.writer.delete(w, base, pl.DataFrame({"k": keys}, schema={"k": pl.Int64}))
            w.flush()
        return done.layout

    def alter(self, base: Layout, **changes: Any) -> Layout:
        self.seq += 1
        with self.store.writer() as w:
            done = alter(self.reader, w, base, Alterations(**changes), seq=self.seq)
            w.flush()
        return done.layout

    def merge(self, base: Layout | None, ours: Layout, theirs: Layout, strategy: Any = "conflict") -> Any:
        self.seq += 1
        with self.store.writer() as w:
            done = merge_layouts(self.writer, w, base, ours, theirs, strategy=strategy, seq=self.seq, known_us=0)
            w.flush()
        return done

    def to(self, base: Layout, after: Rows) -> Layout:
        """The layout that holds ``after``, reached by one delete and one append."""
        before = self.rows(base)
        here = self.delete(base, *(k for k in before if k not in after))
        return self.append(here, rows_of({k: v for k, v in after.items() if k not in before or before[k] != v}))

    def rows(self, layout: Layout) -> Rows:
        found = self.reader.read(layout)
        return dict(zip(found["k"], found["v"], strict=True))


def rows_of(values: Rows) -> pl.DataFrame:
    return pl.DataFrame({"k": list(values), "v": list(values.values())}, schema={"k": pl.Int64, "v": pl.String})
