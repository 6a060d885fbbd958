"""Row changes to a table: only what changed is stored."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from noria.base.digest import Digest
from noria.base.errors import Invalid
from noria.data.rows.edit import Edit
from noria.data.rows.encoding import MODULUS, hash_rows, sum_rows
from noria.data.rows.keys import KeyIndex
from noria.data.rows.layout import Layout, encode_layout, keep_ids, make_layout
from noria.data.rows.read import TableReader
from noria.data.rows.schema import KNOWN, SEQ, TableSchema, conform
from noria.data.values import plain
from noria.store import Kind, Writer

_BIG = 65_536


class KeyRepeated(Invalid):
    """Two rows of one batch have the same key."""

    code = "key_repeated"


class KeyMissing(Invalid):
    """A row has no key."""

    code = "key_missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsChange:
    """What a write did.

    Attributes:
        layout, layout_id: the new layout and its object.
        altered: whether the columns or the key changed, too.
        replaced: the layout of the whole table that was overwritten; None for a change of some rows.
        added, updated, deleted, unchanged: rows.
        folded: bytes of the files into which older ones were folded.
        new_rows: the added and updated rows, with hidden columns.
        old_rows: the rows that were updated or deleted, as they were, with hidden columns.
    """

    layout: Layout
    layout_id: Digest
    new_rows: pl.DataFrame
    old_rows: pl.DataFrame
    replaced: Layout | None = None
    altered: bool = False
    folded: int = 0
    added: int = 0
    updated: int = 0
    deleted: int = 0
    unchanged: int = 0

    @property
    def nothing(self) -> bool:
        return not (self.added or self.updated or self.deleted or self.altered)


class TableWriter:
    """Writes tables of one store. Thread-safe; each call works on a writer of its own."""

    def __init__(self, reader: TableReader) -> None:
        self.reader = reader
        self.keys = KeyIndex(reader)

    def replace(
        self,
        writer: Writer,
        schema: TableSchema,
        rows: pl.DataFrame,
        *,
        seq: int,
        known_us: int,
        base: Layout | None = None,
    ) -> RowsChange:
        """A table that consists of exactly these rows; ``base``: what it was before."""
        frame = _prepared(schema, rows, seq, known_us)
        check_keys(schema, frame)
        edit = Edit(self.reader, writer, schema, None)
        edit.add(frame, level=0 if len(frame) < _BIG else 3)
        layout = make_layout(schema, len(frame), _total(schema, frame, 0), edit.fragments, seq=seq)
        if base is not None:
            layout = keep_ids(base, layout)
        return RowsChange(
            layout=layout,
            layout_id=writer.put(Kind.TABLE, encode_layout(layout)),
            new_rows=frame,
            old_rows=frame.clear(),
            replaced=base,
            added=len(frame),
            deleted=0 if base is None or frame.is_empty() else base.rows,  # no rows at all change nothing
        )

    def append(
        self, writer: Writer, base: Layout, rows: pl.DataFrame, *, seq: int, known_us: int, keep: bool = False
    ) -> RowsChange:
        """The table with rows added. A row whose key is there replaces the old one; equal rows change nothing.

        With ``keep``, the old row stays and the new one is dropped.
        """
        schema = base.schema
        frame = _prepared(schema, rows, seq, known_us)
        check_keys(schema, frame)
        edit = Edit(self.reader, writer, schema, base)
        total, old, unchanged = int.from_bytes(base.sum, "little"), frame.clear(), 0
        if schema.key:
            frame, old, unchanged = self._settle(edit, base, frame, keep=keep)
            total -= _total(schema, old, 0)
        total += _total(schema, frame, base.rows)
        if len(frame):
            edit.add(frame)
        edit.fold()
        layout = make_layout(schema, base.rows + len(frame) - len(old), total % MODULUS, edit.fragments, like=base)
        return RowsChange(
            layout=layout,
            layout_id=writer.put(Kind.TABLE, encode_layout(layout)),
            new_rows=frame,
            old_rows=old,
            added=len(frame) - len(old),
            updated=len(old),
            unchanged=unchanged,
            folded=edit.folded,
        )

    def rows_with_keys(self, layout: Layout, keys: pl.DataFrame) -> pl.DataFrame:
        """The live rows with these keys, hidden columns included; found by the index, not by reading the table."""
        asked = _keys_of(layout.schema, keys)
        found = [matches.drop("__row", "__new") for _, matches in self.keys.find(layout, asked)]
        return pl.concat([_nothing(layout.schema), *found])

    def delete(self, writer: Writer, base: Layout, keys: pl.DataFrame) -> RowsChange:
        """The table without the rows of these keys; keys that are not there change nothing."""
        schema = base.schema
        if not schema.key:
            raise Invalid("Rows of a table without a key cannot be deleted by key.", hint="Overwrite the table.")
        asked = _keys_of(schema, keys)
        edit = Edit(self.reader, writer, schema, base)
        none = _nothing(schema)
        old = pl.concat([none, *(edit.mark(number, matches) for number, matches in self.keys.find(base, asked))])
        total = (int.from_bytes(base.sum, "little") - _total(schema, old, 0)) % MODULUS
        edit.fold()
        layout = make_layout(schema, base.rows - len(old), total, edit.fragments, like=base)
        return RowsChange(
            layout=layout,
            layout_id=writer.put(Kind.TABLE, encode_layout(layout)),
            new_rows=none,
            old_rows=old,
            deleted=len(old),
            folded=edit.folded,
        )

    def apply(
        self, writer: Writer, base: Layout, rows: pl.DataFrame, gone: pl.DataFrame, *, seq: int, known_us: int
    ) -> RowsChange:
        """The table with the changes of another one taken over, in one step.

        Args:
            rows: new rows. With a key they replace the old ones; without one they go to the end.
            gone: rows to remove: by their key, or without one each an equal row.
        """
        schema = base.schema
        frame = _prepared(schema, rows, seq, known_us)
        edit = Edit(self.reader, writer, schema, base)
        if schema.key:
            check_keys(schema, frame)
            asked = _keys_of(schema, gone).join(frame, on=base.key, how="anti")
            gone_rows = [edit.mark(number, matches) for number, matches in self.keys.find(base, asked)]
            deleted = pl.concat([_nothing(schema), *gone_rows])
            frame, replaced, unchanged = self._settle(edit, base, frame, keep=False)
            old = pl.concat([deleted, replaced])
            total = int.from_bytes(base.sum, "little") - _total(schema, old, 0) + _total(schema, frame, 0)
        else:
            deleted = old = self._take_out(edit, base, gone)
            unchanged = 0
            # Row numbers are part of the hashes: what stood behind a removed row counts anew.
            start = total_of(schema, edit.rows()) if len(old) else int.from_bytes(base.sum, "little")
            total = start + _total(schema, frame, base.rows - len(old))
        if len(frame):
            edit.add(frame)
        edit.fold()
        layout = make_layout(schema, base.rows + len(frame) - len(old), total % MODULUS, edit.fragments, like=base)
        return RowsChange(
            layout=layout,
            layout_id=writer.put(Kind.TABLE, encode_layout(layout)),
            new_rows=frame,
            old_rows=old,
            added=len(frame) - (len(old) - len(deleted)),
            updated=len(old) - len(deleted),
            deleted=len(deleted),
            unchanged=unchanged,
            folded=edit.folded,
        )

    def compact(self, writer: Writer, base: Layout) -> tuple[Layout, Digest]:
        """The same table in as few files as there can be; itself where it is so already."""
        edit = Edit(self.reader, writer, base.schema, base)
        edit.fold_all()
        # What is not read again needs no ids of columns, defaults or shapes but those of the table.
        layout = make_layout(base.schema, base.rows, int.from_bytes(base.sum, "little"), edit.fragments, like=base)
        return layout, writer.put(Kind.TABLE, encode_layout(layout))

    def _take_out(self, edit: Edit, base: Layout, gone: pl.DataFrame) -> pl.DataFrame:
        """Marks for each row of ``gone`` one equal row as deleted, where there is one. Reads the whole table."""
        names = base.schema.names
        found = [_nothing(base.schema)]
        wanted: dict[bytes, int] = {}
        for token in row_tokens(gone.select(names)):
            wanted[token] = wanted.get(token, 0) + 1
        for number, fragment in enumerate(base.fragments):
            if not wanted:
                break
            dead = self.reader.deleted(fragment)
            rows = self.reader.whole(base, fragment)
            picked: list[int] = []
            for row, token in enumerate(row_tokens(rows.select(names))):
                if token in wanted and row not in dead:
                    picked.append(row)
                    wanted[token] -= 1
                    if not wanted[token]:
                        del wanted[token]
            if picked:
                place = pl.Series("__row", picked, dtype=pl.Int64)
                found.append(edit.mark(number, rows[picked].with_columns(place, __new=place)))
        return pl.concat(found)

    def _settle(
        self, edit: Edit, base: Layout, frame: pl.DataFrame, *, keep: bool
    ) -> tuple[pl.DataFrame, pl.DataFrame, int]:
        """(rows that are really new, the rows that they replace, number of rows that are there already)."""
        visible = base.schema.names
        mine = frame.select(visible)
        fresh = np.ones(len(frame), bool)
        gone = [frame.clear()]
        for number, matches in self.keys.find(base, frame):
            places = matches["__new"].to_numpy()
            if keep:
                fresh[places] = False
                continue
            same = equal_rows(matches.select(visible), mine[places]).to_numpy()
            fresh[places[same]] = False
            changed = matches.filter(pl.Series(~same))
            if len(changed):
                gone.append(edit.mark(number, changed))
        count = int(fresh.sum())
        if count < len(frame):
            frame = frame.filter(pl.Series(fresh))
        return frame, pl.concat(gone), len(fresh) - count


def _keys_of(schema: TableSchema, keys: pl.DataFrame) -> pl.DataFrame:
    """The key columns of a frame, in the table's types, each key once."""
    types = schema.polars()
    return keys.select([pl.col(name).cast(types[name]) for name in schema.key]).unique(maintain_order=True)


def _nothing(schema: TableSchema) -> pl.DataFrame:
    """No rows, with the hidden columns."""
    return _prepared(schema, pl.DataFrame(schema=schema.polars()), 0, 0)


def _prepared(schema: TableSchema, rows: pl.DataFrame, seq: int, known_us: int) -> pl.DataFrame:
    """The rows in the schema's form, with the hidden columns."""
    made, size = conform(rows, schema), len(rows)
    hidden = [pl.Series(SEQ, np.full(size, seq, np.int64))]
    if schema.hides_known:
        known = pl.Series(KNOWN, np.full(size, known_us, np.int64))
        hidden.insert(0, known.cast(pl.Datetime("us", "UTC")))
    return made.hstack(hidden)


def check_keys(schema: TableSchema, frame: pl.DataFrame) -> None:
    """Every row has a key, and no two the same."""
    if not schema.key or not len(frame):
        return
    key = list(schema.key)
    nulls = sum(frame.get_column(name).null_count() for name in key)
    different = frame.get_column(key[0]) if len(key) == 1 else frame.select(pl.struct(key)).to_series()
    if not nulls and different.n_unique() == len(frame):
        return
    empty = frame.filter(pl.any_horizontal(pl.col(key).is_null()))
    if len(empty):
        raise KeyMissing(
            f"{len(empty)} of {len(frame)} rows have no {', '.join(key)}.",
            hint="Every row of a table with a key needs one.",
            details={"rows": examples(empty)},
        )
    repeated = frame.filter(pl.struct(key).is_duplicated())
    if len(repeated):
        raise KeyRepeated(
            f"{len(repeated)} rows share their {', '.join(key)} with another row of the same batch.",
            hint="Send each key once.",
            details={"rows": examples(repeated)},
        )


def row_tokens(frame: pl.DataFrame) -> list[bytes]:
    """The hash of each row."""
    hashes = hash_rows(frame).tobytes()
    return [hashes[at : at + 32] for at in range(0, len(hashes), 32)]


def total_of(schema: TableSchema, parts: Iterable[pl.DataFrame]) -> int:
    """The sum of the row hashes of a table whose rows come part by part."""
    total, first = 0, 0
    for part in parts:
        total += _total(schema, part, first)
        first += len(part)
    return total % MODULUS


def _total(schema: TableSchema, frame: pl.DataFrame, first: int) -> int:
    if not len(frame):
        return 0
    content = frame[[name for name in frame.columns if name != SEQ]]  # drop() would build a query
    return sum_rows(content, None if schema.key else first)


def equal_rows(left: pl.DataFrame, right: pl.DataFrame) -> pl.Series:
    """Row by row, whether two frames of the same columns hold the same values."""
    equal = [left[name].eq_missing(right[name]) for name in left.columns]
    return pl.DataFrame(equal).select(pl.all_horizontal(pl.all())).to_series()


def examples(frame: pl.DataFrame, count: int = 3) -> list[dict[str, Any]]:
    """The first rows as plain values, for error messages."""
    shown = frame.select([name for name in frame.columns if not name.startswith("__")]).head(count)
    return [{k: plain(v) for k, v in row.items()} for row in shown.to_dicts()]
