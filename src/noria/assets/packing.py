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

from sqlalchemy import select

from noria.assets import condemned
from noria.assets import tables as t
from noria.assets.sessions import StoreSessions
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

    def __init__(self, db: Database, sessions: StoreSessions, faults: Faults) -> None:
        self._db = db
        self._sessions = sessions
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
                condemned.condemn(tx, old, merged=True)
                self._faults.at("packing.condemn")
        return len(old), len(made), sum(m.size for m in made)

    def _remove(self) -> tuple[int, int]:
        """(files of condemned packs that were removed, those that have to wait)."""
        self._sessions.renew()  # unless this process writes just now
        with self._db.write() as tx:
            ready, waiting = condemned.due(tx)
            merged = [row.id for row in ready if row.merged]
            condemned.doom(tx, merged)
        removed, _ = condemned.delete_doomed(self._db, self._sessions.store, self._faults, "packing")
        return removed, waiting
