"""The database of a workspace: reads in short transactions, writes one after another."""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError

from noria.base.faults import NoFaults
from noria.db.dialects import SqliteDialect
from noria.db.errors import WorkspaceTooNew, WorkspaceTooOld
from noria.db.tx import Tx

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from noria.base.clock import Clock
    from noria.base.faults import Faults
    from noria.db.dialects import Dialect

HEAD_REVISION = 3
"""The newest revision in ``migrations/versions``; held equal to Alembic's head by a test."""


class Database:
    """One per process and workspace. Thread-safe; must not cross a fork (decision 12)."""

    def __init__(self, url: str, clock: Clock, faults: Faults | None = None) -> None:
        self.url = url
        self.dialect = _dialect(url)
        self.engine = self.dialect.engine()
        self._clock = clock
        self._faults = faults or NoFaults()
        self._queue = threading.Lock()
        self._seconds: float | None = None
        self._thread = threading.local()

    def limit_reads(self, seconds: float) -> None:
        """Says how long a read inside ``limited()`` may take. A server calls it once, before it serves."""
        self._seconds = seconds
        self.dialect.limit_reads(self.engine, seconds)

    @contextmanager
    def limited(self) -> Generator[None]:
        """Reads of this thread are cut off with ``ReadTooLong`` when they take longer than ``limit_reads`` said.

        For what strangers ask: the loop, checks and collections read as long as they need. Writes are never cut off.
        """
        before = getattr(self._thread, "limited", False)
        self._thread.limited = True
        try:
            yield
        finally:
            self._thread.limited = before

    @contextmanager
    def read(self, tx: Tx | None = None, *, still: bool = False) -> Generator[Connection]:
        """A connection for reading; inside an open transaction, the transaction's own.

        Args:
            still: all statements see the same moment. SQLite does so anyway; PostgreSQL has to be told, and without it
                each statement sees what was committed when it began.

        Raises:
            ReadTooLong: inside ``limited()``, it took too long.
        """
        if tx is not None:
            yield tx.conn
            return
        try:
            with self.engine.connect() as conn:
                self.dialect.begin_read(conn, self._seconds if getattr(self._thread, "limited", False) else None, still)
                yield conn
        except DBAPIError as error:
            self._raise(error)

    @contextmanager
    def write(self, tx: Tx | None = None, *, durable: bool = True, locks: Sequence[str] = ()) -> Generator[Tx]:
        """A write transaction; joins the one given, so that the outermost verb commits (decision 10).

        Args:
            durable: False where nothing is promised yet: a power cut may take the transaction back until the next
                durable one has ended. The end of the process takes nothing back, and the order stays.
            locks: names that it locks first, in this order (see ``Tx.lock``).
        """
        if tx is not None:
            for name in locks:
                tx.lock(name)
            yield tx
            return
        held = self.dialect.single_writer
        made: Tx | None = None
        if held:
            self._queue.acquire()
        try:
            with self.engine.connect() as conn, conn.begin():
                self.dialect.begin_write(conn, durable=durable, locks=locks)
                made = Tx(conn=conn, dialect=self.dialect, now_ms=self._clock.now_ms())
                yield made
                self._faults.at("db.commit")
            self._faults.at("db.committed")
        except DBAPIError as error:
            self._raise(error)
        finally:
            if held:
                self._queue.release()
        assert made is not None
        made.committed()

    def revision(self) -> int:
        with self.read() as conn:
            return self.dialect.revision(conn)

    def check_revision(self) -> None:
        found = self.revision()
        if found > HEAD_REVISION:
            raise WorkspaceTooNew(found, HEAD_REVISION)
        if found < HEAD_REVISION:
            raise WorkspaceTooOld(found, HEAD_REVISION)

    def backup(self, target: Path) -> str | None:
        return self.dialect.backup(self.engine, target)

    def vacuum(self) -> None:
        """Leaves nothing of deleted and overwritten rows in the files of the database; may take a while."""
        try:
            self.dialect.vacuum(self.engine)
        except DBAPIError as error:
            self._raise(error)

    def close(self) -> None:
        self.engine.dispose()

    def _raise(self, error: DBAPIError) -> None:
        translated = self.dialect.translate(error)
        if translated is not None:
            raise translated from error
        raise error


def _dialect(url: str) -> Dialect:
    if url.startswith(("postgresql:", "postgresql+psycopg:")):
        from noria.db.postgres import PostgresDialect

        return PostgresDialect(url)
    return SqliteDialect(Path(url.removeprefix("sqlite:///")))
