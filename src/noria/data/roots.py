"""The objects that the rows of this room name; garbage collection keeps them, and all that they need."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sqlalchemy import Connection, select

from noria.base.digest import Digest
from noria.data import tables as t
from noria.data.records import RepositoryKind
from noria.store import Kind

_LAYOUTS: Final = {RepositoryKind.FILES.value: Kind.NODE, RepositoryKind.TABLE.value: Kind.TABLE}


def layout_kind_of(kind: RepositoryKind) -> Kind:
    """The kind of the objects that hold commits of a repository."""
    return _LAYOUTS[kind.value]


def data_roots(conn: Connection) -> Iterator[tuple[Kind, bytes]]:
    """Open commits first, since they become commits; then refused batches; then commits."""
    kind = t.repositories.c.kind
    drafts = select(kind, t.drafts.c.layout).join(t.repositories, t.repositories.c.id == t.drafts.c.repository_id)
    for of, layout in conn.execute(drafts.where(t.drafts.c.state == "open", t.drafts.c.layout.is_not(None))):
        yield _LAYOUTS[of], Digest.parse(layout).raw
    for (name,) in conn.execute(select(t.quarantine.c.object).where(t.quarantine.c.state != "accepted")):
        yield Kind.FRAGMENT, bytes.fromhex(name)
    for commit_id, of, layout in conn.execute(
        select(t.commits.c.id, kind, t.commits.c.layout).join(
            t.repositories, t.repositories.c.id == t.commits.c.repository_id
        )
    ):
        yield Kind.COMMIT, bytes.fromhex(commit_id)
        yield _LAYOUTS[of], Digest.parse(layout).raw
