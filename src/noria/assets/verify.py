"""Does every row have its bytes? Structure first; every byte on demand. Reports, never repairs (promise 3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sqlalchemy import select

from noria.assets import queries
from noria.assets import tables as t
from noria.assets.reach import Reach
from noria.assets.records import Version
from noria.assets.roots import layout_kind
from noria.base.digest import Digest
from noria.base.errors import NoriaError
from noria.base.ids import VersionId
from noria.db import Database
from noria.store import ObjectStore
from noria.store.objects import pack_name


def verify(
    db: Database,
    store: ObjectStore,
    reach: Reach,
    *,
    data: bool = False,
    advance: Callable[..., None] | None = None,
) -> list[str]:
    """Returns what does not hold, in words."""
    step = advance or _silent
    with db.read() as conn:
        live = select(t.packs.c.id, t.packs.c.size).where(t.packs.c.condemned_epoch.is_(None))
        packs = [(row.id, row.size) for row in conn.execute(live)]
        ids = [
            VersionId(found) for (found,) in conn.execute(select(t.versions.c.id).where(t.versions.c.gone_at.is_(None)))
        ]
    faults = [fault for pack, size in packs for fault in _check_pack(store, pack, size, data, step)]
    seen = set[bytes]()
    for version_id in ids:
        with db.read() as conn:
            version = queries.version(conn, version_id)
        if version is not None:
            faults += _check_version(store, version, reach, seen)
        step()
    return faults


def _silent(done: float = 1) -> None:
    return


def _check_pack(store: ObjectStore, pack: str, size: int, data: bool, step: Callable[..., None]) -> Iterator[str]:
    step()
    try:
        found = store.source.size(pack_name(pack))
        if found != size:
            yield f"pack {pack} has {found} bytes instead of {size}"
            return
        if data:
            yield from (error.message for error in store.check_pack(pack))
        else:
            for _ in store.pack_entries(pack):
                pass
    except NoriaError as error:
        yield error.message


def _check_version(store: ObjectStore, version: Version, reach: Reach, seen: set[bytes]) -> Iterator[str]:
    name = f"{version.asset} {version.digest.short}"
    try:
        for kind, raw in reach.walk((layout_kind(version.content), version.layout.raw), seen):
            here = store.has(Digest(raw)) or (store.refresh() and store.has(Digest(raw)))
            if not here and not store.promised(Digest(raw), kind):
                yield f"{name} needs the {kind.name.lower()} {raw.hex()[:16]}, which no pack holds whole"
    except NoriaError as error:
        yield f"{name}: {error.message}"
