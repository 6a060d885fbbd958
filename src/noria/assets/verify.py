"""Does every row have its bytes? Structure first; every byte on demand. Reports, never repairs (promise 3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from sqlalchemy import select

from noria.assets import queries
from noria.assets import tables as t
from noria.assets.records import Content, Version
from noria.base.digest import Digest
from noria.base.errors import NoriaError
from noria.base.ids import VersionId
from noria.db import Database
from noria.store import Kind, ObjectStore
from noria.store.objects import pack_name

Walker = Callable[[Version], Iterator[tuple[Kind, bytes]]]
"""Every object that a version needs; kinds of content register theirs in ``workspace.py``."""


def verify(
    db: Database,
    store: ObjectStore,
    walkers: Mapping[Content, Walker],
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
    seen: set[tuple[Kind, bytes]] = set()
    for version_id in ids:
        with db.read() as conn:
            version = queries.version(conn, version_id)
        if version is not None:
            faults += _check_version(store, version, walkers[version.content], seen)
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


def _check_version(
    store: ObjectStore, version: Version, walker: Walker, seen: set[tuple[Kind, bytes]]
) -> Iterator[str]:
    name = f"{version.asset} {version.digest.short}"
    try:
        for kind, raw in walker(version):
            if (kind, raw) in seen:
                continue
            seen.add((kind, raw))
            here = store.has(Digest(raw)) or (store.refresh() and store.has(Digest(raw)))
            if not here and not store.promised(Digest(raw), kind):
                yield f"{name} needs the {kind.name.lower()} {raw.hex()[:16]}, which no pack holds whole"
    except NoriaError as error:
        yield f"{name}: {error.message}"
