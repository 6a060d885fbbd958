"""The objects that artifacts name."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, select

from noria.store import Kind
from noria.tracking import tables as t


def tracking_roots(conn: Connection) -> Iterator[tuple[Kind, bytes]]:
    kind, content = t.artifacts.c.content_kind, t.artifacts.c.content
    for number, name in conn.execute(select(kind, content).where(kind > 0)):
        yield Kind(number), bytes.fromhex(name)
