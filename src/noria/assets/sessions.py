"""Writers register before they ask whether the store has something; garbage collection works by epochs (decision 9).

A writer's session holds the epoch in which it began. The collector raises the epoch and condemns packs; sessions that
begin later treat what a condemned pack holds as absent. A condemned pack goes only when no session of an older epoch
is left. So a commit can never name an object that the collector is about to remove.

The rule for whoever writes: open the writer first, then read what is to be carried over from an older tree or table
without being put again. What was named when a session began is kept while the session lives, even if nothing names it
any more (``retire``).
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from sqlalchemy import bindparam, delete, func, select, update

from noria.assets import tables as t
from noria.assets.errors import SessionBroken
from noria.base.clock import Clock
from noria.base.digest import Digest
from noria.base.errors import NoriaError
from noria.base.ids import IdMaker, SessionId
from noria.base.times import MINUTE, SECOND
from noria.db import Database, Tx
from noria.store import Kind, ObjectStore, PackInfo, Writer

SESSION_LEASE: Final = 10 * MINUTE
_IDLE: Final = 20 * SECOND
"""A session that nobody writes with for this long is ended, so that the collector does not wait for it."""
EPOCHS: Final = "store.epoch"
"""The lock of transactions that read the epoch to act on it, or raise it."""

_EPOCH = select(t.workspace.c.gc_epoch)
_EXTEND = (
    update(t.store_sessions).where(t.store_sessions.c.id == bindparam("session")).values(lease_until=bindparam("until"))
)


@dataclass(slots=True)
class _Session:
    id: SessionId
    epoch: int
    ignoring: frozenset[str]
    until: int
    """Up to this moment it is used without asking the database."""
    open: int = 0
    """Writers at work with it."""
    broken: bool = False


class _OfThread(threading.local):
    def __init__(self) -> None:
        self.open: list[_Session] = []


class StoreSessions:
    """The one way to write objects: sessions of this process, a new one when the epoch was raised."""

    def __init__(self, db: Database, store: ObjectStore, clock: Clock, owner: str) -> None:
        self._db = db
        self.store = store
        self._clock = clock
        self._owner = owner
        self._ids = IdMaker()
        self._lock = threading.RLock()
        self._current: _Session | None = None
        self._open: dict[SessionId, _Session] = {}
        self._mine = _OfThread()
        self._keeper: threading.Thread | None = None
        self._closed = threading.Event()

    @contextmanager
    def writer(self, *, ignoring: Iterable[str] = ()) -> Generator[Writer]:
        """A writer under a live session; several may be open at once.

        Args:
            ignoring: packs that it does not count on, besides those that no writer does.
        """
        with self._lock:
            session = self._ensure()
            session.open += 1
            self._open[session.id] = session
            self._keep()
        mine = self._mine.open  # of this thread, whichever one ends it
        mine.append(session)
        try:
            with self.store.writer(ignoring=session.ignoring.union(ignoring)) as writer:
                yield writer
        finally:
            mine.remove(session)
            with self._lock:
                session.open -= 1
                if session.open == 0:
                    self._open.pop(session.id, None)
                    if session is not self._current:
                        self._end(session)

    def seal(self, tx: Tx, packs: Iterable[PackInfo]) -> None:
        """Names new packs in the transaction that needs them.

        Raises:
            SessionBroken: the collector had given this process up; the transaction must not commit.
        """
        # Without the lock: whoever holds it may be waiting for the database, which this transaction holds.
        held = list({s.id: s for s in self._mine.open}.values()) or list(self._open.values())
        if not held and self._current is not None:
            held = [self._current]
        if not held:
            raise SessionBroken
        for session in held:
            extended = {"session": session.id, "until": tx.now_ms + SESSION_LEASE}
            if session.broken or tx.execute(_EXTEND, extended).rowcount != 1:
                session.broken = True
                raise SessionBroken
        youngest = max(session.epoch for session in held)
        for pack in packs:
            row = {"id": pack.id, "size": pack.size, "count": pack.count, "created_at": tx.now_ms}
            if not tx.insert_new(t.packs, row):
                self._take_back(tx, pack.id, youngest)

    def _take_back(self, tx: Tx, pack: str, youngest: int) -> None:
        """Names a pack that has a row already: the collector found its file before its writer named it."""
        found = tx.execute(select(t.packs).where(t.packs.c.id == pack)).one()
        if found.condemned_epoch is None:
            return
        if found.doomed_at is not None or youngest >= found.condemned_epoch:
            raise SessionBroken  # the very bytes of a pack that is on its way out: the next try makes another name
        tx.execute(update(t.packs).where(t.packs.c.id == pack).values(condemned_epoch=None, merged=False))

    def renew(self) -> None:
        """Ends the session of this process where nobody writes with it; the next writer begins a new one."""
        with self._lock:
            if self._current is not None and self._current.open == 0:
                self._end(self._current)
                self._current = None

    def _ensure(self) -> _Session:
        with self._db.read() as conn:
            epoch = conn.execute(_EPOCH).scalar_one_or_none() or 0
        now, current = self._clock.now_ms(), self._current
        if current is not None and current.epoch == epoch and not current.broken and now < current.until:
            return current
        with self._db.write() as tx:
            if current is not None and current.open == 0:
                tx.execute(delete(t.store_sessions).where(t.store_sessions.c.id == current.id))
            self._current = current = self._begin(tx)
        current.until = now + SESSION_LEASE // 2
        return current

    def _begin(self, tx: Tx) -> _Session:
        tx.lock(EPOCHS)
        epoch = tx.execute(_EPOCH).scalar_one_or_none() or 0
        session = SessionId(self._ids.next(tx.now_ms))
        row = {"id": session, "epoch": epoch, "owner": self._owner, "started_at": tx.now_ms}
        tx.insert(t.store_sessions, {**row, "lease_until": tx.now_ms + SESSION_LEASE})
        live, others = set[str](), set[str]()
        for row in tx.execute(select(t.packs.c.id, t.packs.c.condemned_epoch)):
            (live if row.condemned_epoch is None else others).add(row.id)
        # What no row names may be gone already, or belong to a writer that died: a cache may still list it.
        return _Session(session, epoch, frozenset(others | (self.store.index.packs() - live)), 0)

    def _end(self, session: _Session) -> None:
        try:
            with self._db.write() as tx:
                tx.execute(delete(t.store_sessions).where(t.store_sessions.c.id == session.id))
        except NoriaError:
            return  # its lease ends it

    # ---- life

    def _keep(self) -> None:
        """Starts what renews leases during long writes, and ends idle sessions."""
        if self._keeper is None or not self._keeper.is_alive():
            keeper = threading.Thread(
                target=_keep_alive, args=(weakref.ref(self), self._closed), name="store-session", daemon=True
            )
            self._keeper = keeper
            keeper.start()

    def tend(self) -> bool:
        """Renews the leases of sessions that write, ends the one that is idle; False when there is none left."""
        with self._lock:
            open_sessions = list(self._open.values())
            if not open_sessions:
                self.renew()
                self._keeper = None
                return False
        try:
            with self._db.write() as tx:
                for session in open_sessions:
                    tx.execute(_EXTEND, {"session": session.id, "until": tx.now_ms + SESSION_LEASE})
        except NoriaError:
            return True
        return True

    def close(self) -> None:
        self._closed.set()
        with self._lock:
            if self._current is not None:
                with self._db.write() as tx:
                    tx.execute(delete(t.store_sessions).where(t.store_sessions.c.id == self._current.id))
            self._current = None


def _keep_alive(sessions: weakref.ref[StoreSessions], closed: threading.Event) -> None:
    while not closed.wait(_IDLE / SECOND):
        found = sessions()
        if found is None or not found.tend():
            return
        del found


def break_expired(tx: Tx) -> int | None:
    """Breaks the sessions whose lease ran out: they cannot commit any more. Returns the oldest epoch of the others."""
    tx.lock(EPOCHS)
    c = t.store_sessions.c
    tx.execute(delete(t.store_sessions).where(c.lease_until <= tx.now_ms))
    return tx.execute(select(func.min(c.epoch))).scalar_one_or_none()


def raise_epoch(tx: Tx) -> int:
    """Begins the next epoch; returns its number."""
    tx.lock(EPOCHS)
    epoch = (tx.execute(_EPOCH).scalar_one_or_none() or 0) + 1
    tx.execute(update(t.workspace).values(gc_epoch=epoch))
    return epoch


def retire(tx: Tx, objects: Iterable[tuple[Kind, Digest]]) -> None:
    """Says that rows of this transaction no longer name these trees and tables.

    A writer that began before may be carrying parts of them into a new one; they are kept until it has ended.
    """
    rows = [{"kind": int(kind), "object": oid.hex} for kind, oid in dict.fromkeys(objects)]
    if rows:
        epoch = raise_epoch(tx) - 1
        tx.execute(t.retired.insert(), [{**row, "epoch": epoch} for row in rows])
