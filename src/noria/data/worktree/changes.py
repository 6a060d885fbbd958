"""How a folder differs from a tree: rows by path, None for a path that is gone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from noria.base.digest import Digest
from noria.store import ObjectStore, Writer, tree
from noria.store.errors import ObjectCorrupt, ObjectMissing
from noria.store.tree import Row

Changes = dict[bytes, Row | None]


def changes_of(before: Mapping[bytes, Row], rows: list[Row], gone: Iterable[bytes]) -> Changes:
    """What of ``rows`` and ``gone`` differs from how it was. Metadata that users gave a path stay with it."""
    changes: Changes = {}
    for row in rows:
        old = before.get(row[0])
        if old is not None and old[6]:
            row[6] = old[6]
        if old != row:
            changes[row[0]] = row
    for key in gone:
        if key in before and key not in changes:
            changes[key] = None
    return changes


def changed(store: ObjectStore, writer: Writer, base: Digest | None, changes: Changes) -> Digest:
    if base is not None:
        return tree.apply_rows(store, writer, base, changes)
    return tree.build_rows(writer, [row for _, row in sorted(changes.items()) if row is not None])


def pairs(changes: Changes, before: Mapping[bytes, Row]) -> list[tree.Change]:
    found: list[tree.Change] = []
    for key in sorted(changes):
        old, new = before.get(key), changes[key]
        if old != new:
            ends = (None if row is None else tree.entry_of(row) for row in (old, new))
            found.append(tree.Change(text(key), *ends))
    return found


def metas(store: ObjectStore, head: Digest | None) -> dict[bytes, Any]:
    try:
        return {} if head is None else {row[0]: row[6] for row in tree.walk_rows(store, head) if row[6]}
    except (ObjectMissing, ObjectCorrupt):
        return {}  # this commit is about to mend it


def keep_meta(rows: list[Row], metas: dict[bytes, Any]) -> None:
    for row in rows if metas else ():
        row[6] = metas.get(row[0], row[6])


def text(key: bytes) -> str:
    return key.decode("utf-8", "surrogateescape")
