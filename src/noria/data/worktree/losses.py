"""What a store may not have any more, though a folder was committed to it."""

from __future__ import annotations

from typing import Final

from noria.base.digest import Digest
from noria.store import ObjectStore, Writer, files, tree
from noria.store.errors import ObjectCorrupt, ObjectMissing
from noria.store.records import Kind
from noria.store.tree import Row

_ASK: Final = 10_000


def is_whole(store: ObjectStore, writer: Writer, root: Digest) -> bool:
    """Whether all nodes and ranges of a tree are there to stay."""
    try:
        return not writer.missing(tree.structure(store, root))
    except (ObjectMissing, ObjectCorrupt):
        return False


def lost(store: ObjectStore, writer: Writer, rows: list[Row]) -> list[Row]:
    """The rows of files of which the store lacks something.

    A recipe that is there says nothing of its chunks: a collection may have taken them, and kept the pack that holds
    the recipe for the sake of something else.
    """
    missing = writer.missing([row[5] for row in rows])
    lost = [row for row in rows if row[5] in missing]
    asked: list[tuple[Row, list[bytes]]] = []
    count = 0
    for row in rows:
        if row[4] != Kind.RECIPE or row[5] in missing:
            continue
        try:
            below = [oid for _, oid, _ in files.recipe_objects(store, Digest(row[5]))]
        except (ObjectMissing, ObjectCorrupt):
            lost.append(row)
            continue
        asked.append((row, below))
        count += len(below)
        if count >= _ASK:
            lost += _without(writer, asked)
            asked, count = [], 0
    return lost + _without(writer, asked)


def _without(writer: Writer, asked: list[tuple[Row, list[bytes]]]) -> list[Row]:
    missing = writer.missing(list({oid for _, below in asked for oid in below}))
    return [row for row, below in asked if not missing.isdisjoint(below)] if missing else []
