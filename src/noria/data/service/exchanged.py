"""A table whose head moved to a commit that was made elsewhere, as listeners of rows are told of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from noria.base.digest import Digest
from noria.data.rows import Layout, RowsChange, TableReader, load_layout
from noria.store import ObjectStore

if TYPE_CHECKING:
    import polars as pl


class _Exchanged:
    """Like a ``RowsChange`` that replaced the whole table; rows are read when they are asked for."""

    def __init__(self, store: ObjectStore, before: Digest | None, after: Digest) -> None:
        self._reader = TableReader(store)
        self.layout_id = after
        self.layout: Layout = load_layout(store, after)
        self.replaced: Layout | None = None if before is None else load_layout(store, before)
        self.added = self.layout.rows
        self.updated = self.deleted = self.unchanged = 0
        self.nothing = False

    @property
    def new_rows(self) -> pl.DataFrame:
        return self._reader.read(self.layout, hidden=True)

    @property
    def old_rows(self) -> pl.DataFrame:
        if self.replaced is None:
            return self._reader.read(self.layout, hidden=True).clear()
        return self._reader.read(self.replaced, hidden=True)


def exchanged(store: ObjectStore, before: Digest | None, after: Digest) -> RowsChange:
    return cast("RowsChange", _Exchanged(store, before, after))
