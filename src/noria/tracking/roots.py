"""The objects that artifacts name, and the parts of those that are still uploaded."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, select

from noria.store import Kind
from noria.tracking import tables as t


def tracking_roots(conn: Connection) -> Iterator[tuple[Kind, bytes]]:
    """Parts first, since they become artifacts."""
    for table in (t.upload_parts, t.artifacts):
        kind, content = table.c.content_kind, table.c.content
        for number, name in conn.execute(select(kind, content).where(kind > 0)):
            yield Kind(number), bytes.fromhex(name)
