"""What the rows of every room name, and what that needs: a room that stores ids of objects stands here."""

from __future__ import annotations

from collections.abc import Iterable

from noria.assets.reach import Reach
from noria.assets.roots import version_roots
from noria.base.digest import Digest
from noria.data.roots import data_roots
from noria.db import Database
from noria.serving.roots import serving_roots
from noria.store import Kind, ObjectStore, files, tree
from noria.tracking.roots import tracking_roots


def reach(db: Database, store: ObjectStore) -> Reach:
    return Reach(
        db,
        store,
        providers=[data_roots, tracking_roots, serving_roots, version_roots],
        children={Kind.NODE: tree.children, Kind.RANGE: tree.contents, Kind.RECIPE: _recipe, Kind.TABLE: _table},
    )


def _table(store: ObjectStore, oid: Digest) -> Iterable[tuple[Kind, bytes]]:
    from noria.data.rows import load_layout
    from noria.data.rows.read import objects_of

    return (found for found in objects_of(oid, load_layout(store, oid)) if found[0] != Kind.TABLE)


def _recipe(store: ObjectStore, oid: Digest) -> Iterable[tuple[Kind, bytes]]:
    here = store.has(oid) or (store.refresh() and store.has(oid))
    if not here and store.promised(oid, Kind.RECIPE):
        return ()  # of a partial clone: it lies at a remote, with its chunks
    return files.chunks(store, oid)
