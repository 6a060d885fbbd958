"""The objects that the rows of this room name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sqlalchemy import Connection, select

from noria.assets import tables as t
from noria.assets.records import Content
from noria.base.digest import Digest
from noria.store import Kind

_KINDS: Final = {Content.TABLE: Kind.TABLE, Content.TREE: Kind.NODE, Content.MODEL: Kind.NODE, Content.JSON: Kind.BLOB}


def layout_kind(content: Content) -> Kind:
    """The kind of the object that holds a version of this content."""
    return _KINDS[content]


def version_roots(conn: Connection) -> Iterator[tuple[Kind, bytes]]:
    """Every version that is not gone."""
    c = t.versions.c
    for content, layout in conn.execute(select(c.content, c.layout).where(c.gone_at.is_(None))):
        yield _KINDS[Content(content)], Digest.parse(layout).raw


def retired_roots(conn: Connection) -> Iterator[tuple[Kind, bytes]]:
    """What rows named until lately, while a writer may still be carrying it over."""
    for kind, name in conn.execute(select(t.retired.c.kind, t.retired.c.object)):
        yield Kind(kind), bytes.fromhex(name)
