"""Where the row of one key is, over many layouts that share their files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec.structs
import polars as pl

from noria.base.errors import Invalid
from noria.base.names import nearest
from noria.data.rows.columns import match_columns
from noria.data.rows.keys import KeyIndex
from noria.data.rows.layout import Fragment, Layout
from noria.data.rows.read import TableReader, default_value, sources
from noria.data.rows.schema import SEQ, polars_type
from noria.data.rows.write import equal_rows

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRow:
    """A row as a layout has it; ``frame`` has one row, with the hidden columns."""

    layout: Layout
    frame: pl.DataFrame

    @property
    def seq(self) -> int:
        return int(self.frame[SEQ][0])

    @property
    def values(self) -> dict[str, Any]:
        return self.frame.select(self.layout.schema.names).row(0, named=True)

    def same(self, other: FoundRow) -> bool:
        """Whether both hold the same values; columns that only one of them has do not count."""
        columns = match_columns(other.layout, self.layout)
        names = list(columns.source)
        return bool(equal_rows(columns.fit(other.frame).select(names), self.frame.select(names))[0])


class RowFinder:
    """Finds one key in layouts of one table. The key columns of each file are read once, however many layouts have it.

    Args:
        layout: the one whose column names ``key`` uses.
        key: column -> value, or its text.

    Raises:
        Invalid: the columns are not the key of the table, or a value does not fit its type.
    """

    def __init__(self, reader: TableReader, keys: KeyIndex, layout: Layout, key: Mapping[str, Any]) -> None:
        self._reader = reader
        self._keys = keys
        self._rows: dict[tuple[bytes, str], np.ndarray[Any, np.dtype[np.int64]]] = {}
        self._frames: dict[tuple[bytes, int, str], pl.DataFrame] = {}
        wanted = layout.key
        if not wanted:
            raise Invalid(
                "The table has no key, so that its rows have no name to ask by.",
                hint="noria data alter NAME --key COLUMN   gives it one.",
            )
        for name in key:
            if name not in wanted:
                raise Invalid(
                    f"{name!r} is not part of the key.", hint=nearest(name, wanted) or f"The key: {', '.join(wanted)}."
                )
        missing = [name for name in wanted if name not in key]
        if missing:
            raise Invalid(f"The key lacks {', '.join(missing)}.", hint=f"The key: {', '.join(wanted)}.")
        types, ids = dict(layout.columns), dict(zip((n for n, _ in layout.columns), layout.column_ids, strict=True))
        self._values = {ids[name]: _value(name, key[name], types[name]) for name in wanted}

    def find(self, layout: Layout) -> FoundRow | None:
        """The live row with the key; None where there is none."""
        names = dict(zip(layout.column_ids, layout.columns, strict=True))
        if any(number not in names for number in self._values):
            return None
        columns: list[pl.Series] = []
        for number, value in self._values.items():
            name, kind = names[number]
            fitted = value.cast(polars_type(kind), strict=False)
            if fitted.null_count():
                return None  # a value that the narrower type of an earlier version could not hold
            columns.append(fitted.alias(name))
        asked = pl.DataFrame(columns)
        keyed = msgspec.structs.replace(layout, key=asked.columns)
        form = repr((layout.columns, layout.defaults))
        for fragment in reversed(layout.fragments):
            rows = self._rows_of(keyed, fragment, asked)
            if len(rows) and fragment.deleted:
                rows = rows[self._reader.keep(fragment)[rows]]
            if len(rows):
                return FoundRow(layout=layout, frame=self._row(layout, fragment, int(rows[-1]), form))
        return None

    def _rows_of(self, layout: Layout, fragment: Fragment, asked: pl.DataFrame) -> np.ndarray[Any, np.dtype[np.int64]]:
        name = (fragment.id, repr([(sources(layout, fragment, [c]), asked.schema[c]) for c in asked.columns]))
        found = self._rows.get(name)
        if found is None:
            found = self._rows[name] = self._keys.rows_of(layout, fragment, asked)
        return found

    def _row(self, layout: Layout, fragment: Fragment, row: int, form: str) -> pl.DataFrame:
        name = (fragment.id, row, form)
        found = self._frames.get(name)
        if found is None:
            found = self._frames[name] = self._reader.whole(layout, fragment)[[row]]
        return found


def _value(name: str, value: Any, kind: str) -> pl.Series:
    try:
        if isinstance(value, str):
            made = default_value(value, kind)
        else:
            made = pl.Series("", [value]).cast(polars_type(kind), strict=True)
    except (pl.exceptions.PolarsError, KeyError, TypeError, Invalid):
        raise Invalid(f"{value!r} is no value of {name!r}, which is {kind}.") from None
    if made.null_count():
        raise Invalid(f"{name!r} is part of the key, and never missing.")
    return made
