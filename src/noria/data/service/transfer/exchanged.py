"""A table whose head moved to a commit that was made elsewhere, as listeners of rows are told of it."""

from __future__ import annotations

from functools import cached_property
from typing import Any, cast

from noria.base.digest import Digest
from noria.data.rows import RowsChange, TableReader, change_between, load_layout
from noria.store import ObjectStore


class _Later:
    """A ``RowsChange`` that is made when somebody looks at it: mostly nobody follows the table."""

    def __init__(self, store: ObjectStore, before: Digest | None, after: Digest) -> None:
        self._store = store
        self._before = before
        self._after = after

    @cached_property
    def _made(self) -> RowsChange:
        before = None if self._before is None else load_layout(self._store, self._before)
        return change_between(TableReader(self._store), before, load_layout(self._store, self._after), self._after)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._made, name)


def exchanged(store: ObjectStore, before: Digest | None, after: Digest) -> RowsChange:
    return cast("RowsChange", _Later(store, before, after))
