"""The rows in which two layouts differ. Its cost follows the change: what both share is not read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from noria.base.digest import Digest
from noria.data.rows.columns import Columns, SchemaDiff, match_columns
from noria.data.rows.layout import Fragment, Layout
from noria.data.rows.read import TableReader, empty_rows, numbers
from noria.data.rows.write import RowsChange, equal_rows, row_tokens

if TYPE_CHECKING:
    from pyroaring import BitMap

Numbers = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsDiff:
    """What became of the rows between two layouts. Frames have the hidden columns.

    Rows of a table with a key are told apart by it. Rows of a table without one are a bag: the same rows in another
    order are no difference, and nothing counts as changed.

    Attributes:
        added: rows that only ``after`` has.
        removed: rows that only ``before`` has, with its columns.
        before, after: changed rows, as they were and as they are; row by row the same key.
    """

    columns: Columns
    schema: SchemaDiff
    added: pl.DataFrame
    removed: pl.DataFrame
    before: pl.DataFrame
    after: pl.DataFrame

    @property
    def nothing(self) -> bool:
        return self.schema.nothing and not (len(self.added) or len(self.removed) or len(self.after))


def diff_layouts(reader: TableReader, before: Layout, after: Layout) -> RowsDiff:
    """What differs. Reads only fragments that one of the two lacks, or has with other deletions."""
    columns = match_columns(before, after)
    gone, came = _unshared(reader, before, after)
    schema = columns.diff()
    fitted = columns.fit(gone)
    names = after.schema.names
    if columns.same_key:
        old, new = pairs(fitted, came, after.key)
        differs = ~equal_rows(fitted[old].select(names), came[new].select(names)).to_numpy()
        old_changed, new_changed = old[differs], new[differs]
    else:
        old, new = pairs_of_bags(fitted.select(names), came.select(names))
        old_changed = new_changed = np.zeros(0, np.int64)
    return RowsDiff(
        columns=columns,
        schema=schema,
        added=came[rest(len(came), new)],
        removed=gone[rest(len(gone), old)],
        before=gone[old_changed],
        after=came[new_changed],
    )


def change_between(reader: TableReader, before: Layout | None, after: Layout, after_id: Digest) -> RowsChange:
    """What a branch that moves from ``before`` to ``after`` does to its readers; ``None``: it was empty.

    Old rows come with the columns of ``after``.
    """
    if before is None:
        rows = reader.read(after, hidden=True)
        return RowsChange(layout=after, layout_id=after_id, new_rows=rows, old_rows=rows.clear(), added=len(rows))
    found = diff_layouts(reader, before, after)
    fit = found.columns.fit
    return RowsChange(
        layout=after,
        layout_id=after_id,
        new_rows=pl.concat([found.added, found.after]),
        old_rows=pl.concat([fit(found.removed), fit(found.before)]),
        added=len(found.added),
        updated=len(found.after),
        deleted=len(found.removed),
    )


def _unshared(reader: TableReader, before: Layout, after: Layout) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(live rows of ``before`` that are not live in the same fragment of ``after``, and the other way round)."""
    theirs: dict[bytes, list[Fragment]] = {}
    for fragment in after.fragments:
        theirs.setdefault(fragment.id, []).append(fragment)
    gone, came = [empty_rows(before)], [empty_rows(after)]
    for old in before.fragments:
        twins = theirs.get(old.id)
        if not twins:
            gone.append(reader.live(before, old))
            continue
        new = twins.pop(0)
        if old.deleted != new.deleted:
            was, now = reader.deleted(old), reader.deleted(new)
            gone.append(_picked(reader, before, old, now - was))
            came.append(_picked(reader, after, new, was - now))
    left = {id(fragment) for twins in theirs.values() for fragment in twins}
    came += [reader.live(after, fragment) for fragment in after.fragments if id(fragment) in left]
    return pl.concat(gone), pl.concat(came)


def _picked(reader: TableReader, layout: Layout, fragment: Fragment, rows: BitMap) -> pl.DataFrame:
    if not rows:
        return empty_rows(layout)
    return reader.whole(layout, fragment)[numbers(rows)]


def pairs(old: pl.DataFrame, new: pl.DataFrame, key: list[str]) -> tuple[Numbers, Numbers]:
    """(number in ``old``, number in ``new``) of the rows with equal keys, in the order of ``new``."""
    left = new.select(key).with_row_index("__new")
    both = left.join(old.select(key).with_row_index("__old"), on=key, how="inner").sort("__new")
    return both["__old"].to_numpy().astype(np.int64), both["__new"].to_numpy().astype(np.int64)


def pairs_of_bags(old: pl.DataFrame, new: pl.DataFrame) -> tuple[Numbers, Numbers]:
    """The same for equal rows, each used once."""
    return pairs(_numbered(old), _numbered(new), ["token", "nth"])


def _numbered(frame: pl.DataFrame) -> pl.DataFrame:
    """For each row its hash, and how many equal rows came before it."""
    tokens = pl.Series("token", row_tokens(frame), dtype=pl.Binary)
    return pl.DataFrame([tokens]).with_columns(nth=pl.int_range(pl.len()).over("token"))


def rest(count: int, taken: Numbers) -> Numbers:
    """The numbers below ``count`` that are not taken."""
    keep = np.ones(count, bool)
    keep[taken] = False
    return np.nonzero(keep)[0]
