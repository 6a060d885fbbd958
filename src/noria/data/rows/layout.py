"""How a table lies on disk: an object of kind TABLE. Pinned by ``tests/golden/table.bin``.

"NTBL" version u8, then MessagePack of ``Layout``. Version 1 ended with the fragments, and a fragment with its times:
the columns of its files were always those of the table.
"""

from __future__ import annotations

from typing import Final

import blake3
import msgspec
import msgspec.structs

from noria.base import canonical
from noria.base.digest import Digest
from noria.data.rows.schema import Column, TableSchema
from noria.store import Kind, ObjectStore
from noria.store.errors import FormatTooNew, ObjectCorrupt

_MAGIC: Final = b"NTBL\x02"


class Fragment(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """One Parquet file of rows.

    Attributes:
        id: of the FRAGMENT object, 32 bytes.
        rows: in the file, deleted ones included.
        size: bytes of the file.
        level: how often its rows were merged; sixteen neighbours of one level become one of the next.
        deleted: id of the BLOB with the Roaring bitmap of deleted row numbers, or empty.
        deleted_rows: how many the bitmap holds.
        first_seq, last_seq: smallest and largest commit generation among its rows.
        first_time, last_time: smallest and largest event time (microseconds), or None.
        shape: the columns of the file: 0 those of the table, n those of ``Layout.shapes[n - 1]``.
    """

    id: bytes
    rows: int
    size: int
    level: int
    deleted: bytes
    deleted_rows: int
    first_seq: int
    last_seq: int
    first_time: int | None
    last_time: int | None
    shape: int = 0

    @property
    def live(self) -> int:
        return self.rows - self.deleted_rows


class Layout(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """A whole table.

    Attributes:
        columns: (name, type) of each.
        rows: live rows.
        sum: of the row hashes modulo 2^256, 32 bytes little-endian.
        ids: of each column; it keeps its id when it is renamed or widened, and no other column ever gets it.
        defaults: column id -> the value, as text, of rows in files that lack the column; without one they hold null.
        shapes: of files that were written before the columns changed: (column id, name, type) of each of theirs.
    """

    columns: list[tuple[str, str]]
    key: list[str]
    time: str | None
    known: str | None
    rows: int
    sum: bytes
    fragments: list[Fragment]
    ids: list[int] = []
    defaults: dict[int, str] = {}
    shapes: list[list[tuple[int, str, str]]] = []

    @property
    def column_ids(self) -> list[int]:
        return self.ids or [column_id(name, 0) for name, _ in self.columns]

    @property
    def schema(self) -> TableSchema:
        return TableSchema(
            columns=tuple(Column(name=n, type=t) for n, t in self.columns),
            key=tuple(self.key),
            time=self.time,
            known=self.known,
        )

    @property
    def digest(self) -> Digest:
        """The content digest: two layouts with the same rows have the same one."""
        return content_digest(self.schema, self.rows, int.from_bytes(self.sum, "little"))

    @property
    def size(self) -> int:
        """Bytes of all fragments."""
        return sum(f.size for f in self.fragments)


def content_digest(schema: TableSchema, rows: int, total: int) -> Digest:
    return canonical.digest(
        {"table": 1, "schema": schema.as_value(), "rows": rows, "sum": total.to_bytes(32, "little")}
    )


def column_id(name: str, seq: int) -> int:
    """The id of a column that came with commit generation ``seq``; 0 for tables of version 1."""
    return int.from_bytes(blake3.blake3(f"{seq}:{name}".encode()).digest(8), "little") >> 1


def make_layout(
    schema: TableSchema,
    rows: int,
    total: int,
    fragments: list[Fragment],
    *,
    like: Layout | None = None,
    seq: int = 0,
) -> Layout:
    """A layout.

    Args:
        like: a layout with the same columns, whose files the fragments may be.
        seq: without ``like``, the commit generation in which the columns came.
    """
    columns = [(c.name, c.type) for c in schema.columns]
    if like is None:
        ids, defaults, shapes = [column_id(name, seq) for name, _ in columns], {}, []
    else:
        ids, defaults, shapes = like.column_ids, like.defaults, like.shapes
    fragments, shapes = _used(fragments, shapes)
    return Layout(
        columns=columns,
        key=list(schema.key),
        time=schema.time,
        known=schema.known,
        rows=rows,
        sum=total.to_bytes(32, "little"),
        fragments=fragments,
        ids=ids,
        defaults=defaults,
        shapes=shapes,
    )


def keep_ids(base: Layout, layout: Layout) -> Layout:
    """A table that was written anew: its columns are those of the same name that were there before."""
    known = dict(zip((name for name, _ in base.columns), base.column_ids, strict=True))
    ids = [known.get(name, fresh) for (name, _), fresh in zip(layout.columns, layout.column_ids, strict=True)]
    return msgspec.structs.replace(layout, ids=ids)


def _used(
    fragments: list[Fragment], shapes: list[list[tuple[int, str, str]]]
) -> tuple[list[Fragment], list[list[tuple[int, str, str]]]]:
    """Shapes that no fragment has any more are left out."""
    used = sorted({f.shape for f in fragments} - {0})
    if len(used) == len(shapes):
        return fragments, shapes
    number = {old: new for new, old in enumerate(used, 1)} | {0: 0}
    moved = [msgspec.structs.replace(f, shape=number[f.shape]) if f.shape else f for f in fragments]
    return moved, [shapes[old - 1] for old in used]


def encode_layout(layout: Layout) -> bytes:
    return _MAGIC + msgspec.msgpack.encode(layout)


_decoder = msgspec.msgpack.Decoder(Layout)


def load_layout(store: ObjectStore, oid: Digest) -> Layout:
    return decode_layout(oid.short, store.get(oid, Kind.TABLE))


def decode_layout(name: str, raw: bytes) -> Layout:
    """A layout from its bytes, of this version or an older one."""
    if raw[:4] != _MAGIC[:4]:
        raise ObjectCorrupt(name, "-", 0, "it does not begin like a table")
    if raw[4] > _MAGIC[4]:
        raise FormatTooNew(f"The table {name}", raw[4], _MAGIC[4])
    return _decoder.decode(raw[5:])
