"""How a table lies on disk: an object of kind TABLE. Pinned by ``tests/golden/table.bin``.

"NTBL" version u8, then MessagePack of ``Layout``
"""

from __future__ import annotations

from typing import Final

import msgspec

from noria.base import canonical
from noria.base.digest import Digest
from noria.data.rows.schema import Column, TableSchema
from noria.store import Kind, ObjectStore
from noria.store.errors import FormatTooNew, ObjectCorrupt

_MAGIC: Final = b"NTBL\x01"


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

    @property
    def live(self) -> int:
        return self.rows - self.deleted_rows


class Layout(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """A whole table.

    Attributes:
        columns: (name, type) of each.
        rows: live rows.
        sum: of the row hashes modulo 2^256, 32 bytes little-endian.
    """

    columns: list[tuple[str, str]]
    key: list[str]
    time: str | None
    known: str | None
    rows: int
    sum: bytes
    fragments: list[Fragment]

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


def make_layout(schema: TableSchema, rows: int, total: int, fragments: list[Fragment]) -> Layout:
    return Layout(
        columns=[(c.name, c.type) for c in schema.columns],
        key=list(schema.key),
        time=schema.time,
        known=schema.known,
        rows=rows,
        sum=total.to_bytes(32, "little"),
        fragments=fragments,
    )


def encode_layout(layout: Layout) -> bytes:
    return _MAGIC + msgspec.msgpack.encode(layout)


_decoder = msgspec.msgpack.Decoder(Layout)


def load_layout(store: ObjectStore, oid: Digest) -> Layout:
    raw = store.get(oid, Kind.TABLE)
    if raw[:4] != _MAGIC[:4]:
        raise ObjectCorrupt(oid.short, "-", 0, "it does not begin like a table")
    if raw[4] > _MAGIC[4]:
        raise FormatTooNew(f"The table {oid.short}", raw[4], _MAGIC[4])
    return _decoder.decode(raw[5:])
