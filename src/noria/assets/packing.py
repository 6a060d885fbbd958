"""Small packs are merged into larger ones (decision 9).

Each commit writes a pack of its own. ``merge`` copies all records of small packs into one, makes it durable, and in one
transaction names it and condemns the old ones. Every object of a condemned pack lies in a live one from then on, so it
does not matter what a writer asked for before. The files of condemned packs go at a later call, when no session is left
that began before they were condemned. A reader that has not heard of it finds the file gone, looks for new packs, and
finds the object there; what it has mapped stays as long as it is used.

It may be done by several processes at once and be interrupted anywhere: until the transaction the new pack is garbage,
after it the old files are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import delete, func, select, update

from noria.assets import tables as t
from noria.assets.sessions import StoreSessions
from noria.base.clock import Clock
from noria.base.faults import Faults
from noria.db import Database
from noria.store.objects import PACK_TARGET

SMALL: Final = 1 << 20
"""Packs below this are merged; in bytes."""
ENOUGH: Final = 32
"""Fewer small packs than this are left alone by the daily job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """What was done: numbers of packs, and bytes.

    Attributes:
        merged: small packs whose content was copied. made: the packs that hold it now.
        removed: files of packs merged earlier that are gone now.
        waiting: of those, files that stay for now: a writer that began before may still be at work.
    """

    merged: int
    made: int
    size: int
    removed: int
    waiting: int


class Packing:
    """One per workspace."""

    def __init__(self, db: Database, sessions: StoreSessions, clock: Clock, faults: Faults) -> None:
        self._db = db
        self._sessions = sessions
        self._clock = clock
        self._faults = faults

    def run(self, *, enough: int = ENOUGH) -> Packed:
        """Removes what was merged earlier, then merges small packs where there are ``enough`` of them."""
        removed, waiting = self._remove()
        merged, made, size = self._merge(enough)
        return Packed(merged=merged, made=made, size=size, removed=removed, waiting=waiting + merged)

    def _merge(self, enough: int) -> tuple[int, int, int]:
        """(packs merged, packs made, their size)."""
        c = t.packs.c
        small = select(c.id, c.size).where(c.size < SMALL, c.condemned_epoch.is_(None)).order_by(c.created_at, c.id)
        with self._db.read() as conn:
            found = [(row.id, row.size) for row in conn.execute(small)]
        chosen, total = list[str](), 0
        for pack, size in found:
            if total + size <= PACK_TARGET:  # the rest is for the next time
                chosen.append(pack)
                total += size
        if len(chosen) < max(2, enough):
            return 0, 0, 0
        with self._sessions.writer() as writer:
            taken = [pack for pack in chosen if writer.copy(pack)]
            made = writer.flush()
            old = [pack for pack in taken if pack not in {m.id for m in made}]
            self._faults.at("packing.name")
            with self._db.write() as tx:
                self._sessions.seal(tx, made)
                epoch = (tx.execute(select(t.workspace.c.gc_epoch)).scalar_one_or_none() or 0) + 1
                tx.execute(update(t.workspace).values(gc_epoch=epoch))
                for start in range(0, len(old), 500):
                    live = (c.id.in_(old[start : start + 500]), c.condemned_epoch.is_(None))
                    tx.execute(update(t.packs).where(*live).values(condemned_epoch=epoch))
                self._faults.at("packing.condemn")
        return len(old), len(made), sum(m.size for m in made)

    def _remove(self) -> tuple[int, int]:
        """(files of condemned packs that were removed, those that have to wait)."""
        with self._sessions.writer():
            pass  # this process begins a session of the present epoch, unless it is writing just now
        c, s = t.packs.c, t.store_sessions.c
        with self._db.read() as conn:
            condemned = conn.execute(select(c.id, c.condemned_epoch).where(c.condemned_epoch.is_not(None))).all()
            alive = select(func.min(s.epoch)).where(s.lease_until > self._clock.now_ms())
            oldest = conn.execute(alive).scalar_one_or_none()
        gone = [row.id for row in condemned if oldest is None or oldest >= row.condemned_epoch]
        for pack in gone:
            self._faults.at("packing.delete")
            self._sessions.store.drop_pack(pack)
        if gone:
            self._faults.at("packing.forget")
            with self._db.write() as tx:
                for start in range(0, len(gone), 500):
                    tx.execute(delete(t.packs).where(c.id.in_(gone[start : start + 500])))
        return len(gone), len(condemned) - len(gone)
