"""The end of a pack: condemned, doomed, its file deleted, its row kept for a while, forgotten.

Only a doomed pack's file is ever deleted, and no doomed pack comes back; so each step may be done by several processes
at once, and again after a crash.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sqlalchemy import Row, delete, select, update

from noria.assets import tables as t
from noria.assets.sessions import break_expired, raise_epoch
from noria.base.faults import Faults
from noria.base.times import DAY
from noria.db import Database, Tx
from noria.store import ObjectStore

_KEEP_ROW: Final = 2 * DAY
"""A process that saw the pack's file before it was deleted has told its cache by then."""


def due(tx: Tx) -> tuple[list[Row[tuple[str, int, bool]]], int]:
    """(condemned packs that no writer can need any more, how many have to wait). Breaks sessions that ran out."""
    oldest = break_expired(tx)
    c = t.packs.c
    condemned = select(c.id, c.condemned_epoch, c.merged).where(c.condemned_epoch.is_not(None), c.doomed_at.is_(None))
    rows = tx.execute(condemned).all()
    ready = [row for row in rows if oldest is None or row.condemned_epoch <= oldest]
    return list(ready), len(rows) - len(ready)


def condemn(tx: Tx, packs: Iterable[str], *, merged: bool) -> int:
    """Begins an epoch in which these packs do not count any more; returns its number."""
    epoch, c = raise_epoch(tx), t.packs.c
    for some in _groups(packs):
        live = (c.id.in_(some), c.condemned_epoch.is_(None))
        tx.execute(update(t.packs).where(*live).values(condemned_epoch=epoch, merged=merged))
    return epoch


def reprieve(tx: Tx, packs: Iterable[str]) -> None:
    """Lets condemned packs count again."""
    c = t.packs.c
    for some in _groups(packs):
        where = (c.id.in_(some), c.doomed_at.is_(None))
        tx.execute(update(t.packs).where(*where).values(condemned_epoch=None, merged=False))


def doom(tx: Tx, packs: Iterable[str]) -> None:
    c = t.packs.c
    for some in _groups(packs):
        where = (c.id.in_(some), c.condemned_epoch.is_not(None), c.doomed_at.is_(None))
        tx.execute(update(t.packs).where(*where).values(doomed_at=tx.now_ms))


def delete_doomed(db: Database, store: ObjectStore, faults: Faults, point: str) -> tuple[int, int]:
    """Deletes the files of doomed packs; returns how many, and their bytes. Forgets those deleted long ago."""
    c = t.packs.c
    with db.read() as conn:
        waiting = select(c.id, c.size).where(c.doomed_at.is_not(None), c.removed_at.is_(None))
        found = conn.execute(waiting).all()
    for row in found:
        faults.at(f"{point}.delete")
        store.drop_pack(row.id)
    if found:
        faults.at(f"{point}.forget")
        with db.write() as tx:
            for some in _groups(row.id for row in found):
                tx.execute(update(t.packs).where(c.id.in_(some)).values(removed_at=tx.now_ms))
            tx.execute(delete(t.packs).where(c.removed_at < tx.now_ms - _KEEP_ROW))
    return len(found), sum(row.size for row in found)


def forget_retired(tx: Tx) -> None:
    """Drops what no living writer can have seen."""
    oldest, c = break_expired(tx), t.retired.c
    tx.execute(delete(t.retired) if oldest is None else delete(t.retired).where(c.epoch < oldest))


def _groups(packs: Iterable[str]) -> Iterable[list[str]]:
    found = list(packs)
    return (found[start : start + 500] for start in range(0, len(found), 500))
