"""Three-way merge of tables, row by row: what ``theirs`` changed since ``base`` is applied to ``ours``."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import polars as pl

from noria.base.digest import Digest
from noria.data.rows.columns import Columns, match_columns
from noria.data.rows.diff import RowsDiff, diff_layouts, pairs, pairs_of_bags, rest
from noria.data.rows.layout import Layout, encode_layout, make_layout
from noria.data.rows.merge_columns import SchemasContradict, merge_columns
from noria.data.rows.read import TableReader, empty_rows
from noria.data.rows.write import RowsChange, TableWriter, check_keys, equal_rows
from noria.data.values import plain
from noria.store import Kind, Writer

Strategy = Literal["conflict", "ours", "theirs"]
_SHOWN: Final = 20
_GONE: Final = "__gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedRows:
    """What a merge makes of ``ours``.

    Attributes:
        layout, layout_id: the merged table; with conflicts under the strategy ``conflict`` it is ``ours``.
        change: what the merge does to ``ours``.
        conflicts: at most 20 of the keys that both sides changed, each with ``key`` and the rows ``ours`` and
            ``theirs`` (None: deleted there).
        conflict_count: all of them. Under the strategies ``ours`` and ``theirs`` they are settled.
    """

    layout: Layout
    layout_id: Digest
    change: RowsChange
    conflicts: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    conflict_count: int = 0


def merge_layouts(
    table_writer: TableWriter,
    store_writer: Writer,
    base: Layout | None,
    ours: Layout,
    theirs: Layout,
    *,
    strategy: Strategy,
    seq: int,
    known_us: int,
) -> MergedRows:
    """Merges two tables. Rows that come from ``theirs`` arrive with ``seq`` and are known since ``known_us``.

    With a key: a row that both sides changed, and not alike, is a conflict; so is one that was deleted on one side and
    changed on the other. Without a key: rows added on either side are kept, rows removed on either side are removed.

    Args:
        base: what both come from; None: an empty table.
        strategy: what becomes of conflicts: ``conflict`` leaves ``ours`` as it is, the others take one side.

    Raises:
        SchemasContradict: both changed a column, and not alike; whatever the strategy.
        KeyRepeated, KeyMissing: ``ours`` has another key, which does not name each row that ``theirs`` brings.
    """
    reader = table_writer.reader
    start = base if base is not None else make_layout(ours.schema, 0, 0, [], like=ours)
    merged, from_theirs = merge_columns(reader, base, ours, theirs, seq=seq)
    names = merged.schema.names
    mine, other = diff_layouts(reader, start, ours), diff_layouts(reader, start, theirs)
    shown: list[dict[str, Any]] = []
    count = 0
    if merged.key:
        left, right = _side(mine, match_columns(ours, merged)), _side(other, from_theirs)
        if not from_theirs.same_key:
            _check_new_key(reader, theirs, from_theirs, right)
        at_left, at_right = pairs(left, right, merged.key)
        same = equal_rows(left[at_left].select(*names, _GONE), right[at_right].select(*names, _GONE)).to_numpy()
        clash_left, clash_right = at_left[~same], at_right[~same]
        count = len(clash_left)
        shown = _shown(left[clash_left[:_SHOWN]], right[clash_right[:_SHOWN]], merged.key)
        settled = at_right if strategy == "ours" else at_right[same]
        todo = right[rest(len(right), settled)]
        rows, gone = todo.filter(~pl.col(_GONE)), todo.filter(pl.col(_GONE))
    else:
        rows = _fitted(from_theirs, other.added)
        theirs_gone, ours_gone = from_theirs.fit(_back(other)), match_columns(ours, merged).fit(_back(mine))
        gone = _less(theirs_gone.select(names), ours_gone.select(names))
    if count and strategy == "conflict":
        change = _as_it_is(store_writer, ours)
    elif len(rows) or len(gone):
        rows, gone = rows.select(names), gone.select(names)
        change = table_writer.apply(store_writer, merged, rows, gone, seq=seq, known_us=known_us)
        change = replace(change, altered=merged is not ours)
    else:
        change = _as_it_is(store_writer, merged, altered=merged is not ours)
    return MergedRows(
        layout=change.layout, layout_id=change.layout_id, change=change, conflicts=shown, conflict_count=count
    )


def _as_it_is(store_writer: Writer, layout: Layout, *, altered: bool = False) -> RowsChange:
    none, oid = empty_rows(layout), store_writer.put(Kind.TABLE, encode_layout(layout))
    return RowsChange(layout=layout, layout_id=oid, new_rows=none, old_rows=none, altered=altered)


def _back(diff: RowsDiff) -> pl.DataFrame:
    """The rows that one side removed, with the columns that it has."""
    return diff.columns.fit(diff.removed)


def _fitted(columns: Columns, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows that the merged table may get: each value stays what it is."""
    try:
        return columns.fit(rows, exact=True)
    except pl.exceptions.PolarsError as error:
        raise SchemasContradict(f"a value does not fit, {str(error).splitlines()[0]:.200}") from None


def _check_new_key(reader: TableReader, theirs: Layout, columns: Columns, touched: pl.DataFrame) -> None:
    """Under a key that ``theirs`` does not have, a row that it brings must not take the place of another one."""
    key = columns.after.key
    rows = touched.filter(~pl.col(_GONE))
    check_keys(columns.after.schema, rows)
    whole = _fitted(columns, reader.read(theirs, hidden=True)).select(columns.after.schema.names)
    check_keys(columns.after.schema, whole.join(rows.select(key), on=key, how="semi"))


def _side(diff: RowsDiff, columns: Columns) -> pl.DataFrame:
    """The rows that one side touched, with the merged columns; those that it removed only with their key."""
    key, names = columns.after.key, columns.after.schema.names
    here = _fitted(columns, pl.concat([diff.added, diff.after])).select(*names, pl.lit(value=False).alias(_GONE))
    gone = columns.fit(_back(diff)).select(*key, pl.lit(value=True).alias(_GONE))
    return pl.concat([here, gone.join(here, on=key, how="anti")], how="diagonal")


def _shown(ours: pl.DataFrame, theirs: pl.DataFrame, key: list[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for left, right in zip(ours.to_dicts(), theirs.to_dicts(), strict=True):
        sides = [None if side.pop(_GONE) else {k: plain(v) for k, v in side.items()} for side in (left, right)]
        found.append({"key": {name: plain(left[name]) for name in key}, "ours": sides[0], "theirs": sides[1]})
    return found


def _less(rows: pl.DataFrame, fewer: pl.DataFrame) -> pl.DataFrame:
    """The bag of rows without those of another bag."""
    taken, _ = pairs_of_bags(rows, fewer)
    return rows[rest(len(rows), taken)]
