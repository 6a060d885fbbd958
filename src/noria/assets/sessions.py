"""Writers register before they ask whether the store has something; garbage collection works by epochs (decision 9).

A writer's session holds the epoch in which it began. The collector raises the epoch and condemns packs; sessions that
begin later treat what a condemned pack holds as absent. A condemned pack goes only when no session of an older epoch
is left. So a commit can never name an object that the collector is about to remove.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable
from contextlib import contextmanager

from sqlalchemy import bindparam, delete, select, update

from noria.assets import tables as t
from noria.assets.errors import SessionBroken
from noria.base.clock import Clock
from noria.base.ids import IdMaker, SessionId
from noria.base.times import MINUTE
from noria.db import Database, Tx
from noria.store import ObjectStore, PackInfo, Writer

SESSION_LEASE = 10 * MINUTE

_EPOCH = select(t.workspace.c.gc_epoch)
_EXTEND = (
    update(t.store_sessions).where(t.store_sessions.c.id == bindparam("session")).values(lease_until=bindparam("until"))
)


class StoreSessions:
    """The one way to write objects: a session for this process, renewed when nobody writes."""

    def __init__(self, db: Database, store: ObjectStore, clock: Clock, owner: str) -> None:
        self._db = db
        self.store = store
        self._clock = clock
        self._owner = owner
        self._ids = IdMaker()
        self._lock = threading.Lock()
        self._session: SessionId | None = None
        self._epoch = -1
        self._until = 0
        self._condemned: frozenset[str] = frozenset()
        self._open = 0

    @contextmanager
    def writer(self) -> Generator[Writer]:
        """A writer under a live session; several may be open at once."""
        with self._lock:
            self._ensure()
            self._open += 1
            condemned = self._condemned
        try:
            with self.store.writer(ignoring=condemned) as writer:
                yield writer
        finally:
            with self._lock:
                self._open -= 1

    def seal(self, tx: Tx, packs: Iterable[PackInfo]) -> None:
        """Names new packs in the transaction that needs them.

        Raises:
            SessionBroken: the collector had given this process up; the transaction must not commit.
        """
        if tx.execute(_EXTEND, {"session": self._session, "until": tx.now_ms + SESSION_LEASE}).rowcount != 1:
            self._session = None
            raise SessionBroken
        for pack in packs:
            row = {"id": pack.id, "size": pack.size, "count": pack.count, "created_at": tx.now_ms}
            tx.insert_new(t.packs, row)

    def _ensure(self) -> None:
        with self._db.read() as conn:
            epoch = conn.execute(_EPOCH).scalar_one_or_none() or 0
        now = self._clock.now_ms()
        fresh = self._session is not None and now < self._until
        if fresh and (epoch == self._epoch or self._open > 0):
            return
        with self._db.write() as tx:
            if self._session is not None and self._open == 0:
                tx.execute(delete(t.store_sessions).where(t.store_sessions.c.id == self._session))
                self._session = None
            if self._session is None:
                epoch = tx.execute(_EPOCH).scalar_one_or_none() or 0
                self._session = SessionId(self._ids.next(tx.now_ms))
                row = {"id": self._session, "epoch": epoch, "owner": self._owner, "started_at": tx.now_ms}
                tx.insert(t.store_sessions, {**row, "lease_until": tx.now_ms + SESSION_LEASE})
                self._epoch = epoch
                named = select(t.packs.c.id).where(t.packs.c.condemned_epoch.is_not(None))
                self._condemned = frozenset(found for (found,) in tx.execute(named))
            else:
                tx.execute(_EXTEND, {"session": self._session, "until": tx.now_ms + SESSION_LEASE})
        self._until = now + SESSION_LEASE // 2

    def close(self) -> None:
        with self._lock:
            if self._session is None:
                return
            with self._db.write() as tx:
                tx.execute(delete(t.store_sessions).where(t.store_sessions.c.id == self._session))
            self._session = None
