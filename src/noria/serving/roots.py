"""The objects that deployments name: the model's package, and the code that made it."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, select

from noria.base.digest import Digest
from noria.serving import tables as t
from noria.store import Kind


def serving_roots(conn: Connection) -> Iterator[tuple[Kind, bytes]]:
    for row in conn.execute(select(t.deployments.c.package, t.deployments.c.code)):
        yield Kind.NODE, Digest.parse(row.package).raw
        yield Kind.NODE, Digest.parse(row.code).raw
