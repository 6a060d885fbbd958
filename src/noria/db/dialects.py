"""What the two databases do differently, and SQLite. No other folder asks for the name of a dialect."""

from __future__ import annotations

import functools
import math
import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import create_engine, event, text
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DataError, OperationalError
from sqlalchemy.pool import QueuePool

from noria.base.errors import DiskFull, NoriaError
from noria.db.errors import DatabaseBusy, DatabaseUnavailable, NetworkFileSystem, ReadTooLong, ValueUnfit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, Engine, Executable
    from sqlalchemy.exc import DBAPIError

Columns = tuple[str, ...]
Rows = "Sequence[tuple[Any, ...]]"

_UNTIL = "noria_until"
"""In the ``info`` of a connection to SQLite: a list with the moment at which what it reads is cut off."""
_NETWORK_KINDS = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "afs", "ceph", "glusterfs", "lustre"}


class Dialect(Protocol):
    single_writer: bool
    """True where the database takes one writer at a time, so that writers of one process queue up in order."""

    def engine(self) -> Engine: ...
    def limit_reads(self, engine: Engine, seconds: float) -> None:
        """Prepares connections for reads that are cut off after ``seconds``."""
        ...

    def begin_read(self, conn: Connection, seconds: float | None = None, still: bool = False) -> None:
        """Begins to read; with ``seconds``, those of ``limit_reads``, for no longer than that.

        Args:
            still: all statements see the same moment.
        """
        ...

    def begin_write(self, conn: Connection, *, durable: bool, locks: Sequence[str] = ()) -> None:
        """Begins a transaction and takes ``locks``, in this order."""
        ...

    def insert_new(self, table: Any) -> Executable: ...
    def insert_new_key(self, table: Any) -> Executable:
        """Like ``insert_new``, and returns the key ``id`` of the row that was made."""
        ...

    def upsert(self, table: Any, columns: tuple[str, ...], key: tuple[str, ...]) -> Executable: ...
    def write_rows(
        self,
        conn: Connection,
        table: Any,
        columns: tuple[str, ...],
        rows: Sequence[tuple[Any, ...]],
        key: tuple[str, ...],
    ) -> None:
        """Inserts many rows past SQLAlchemy's types; with ``key``, a row of the same key is replaced."""
        ...

    def control(self, conn: Connection, command: str) -> None:
        """Sends a command about the transaction: a savepoint."""
        ...

    def lock(self, conn: Connection, name: str) -> None: ...
    def revision(self, conn: Connection) -> int:
        """The schema's revision, 0 for an empty database."""
        ...

    def set_revision(self, conn: Connection, revision: int) -> None: ...
    def skip_locked(self) -> dict[str, Any] | None:
        """Arguments of ``select.with_for_update`` for claims, or None where writers are serial anyway."""
        ...

    def backup(self, engine: Engine, target: Path) -> str | None:
        """Writes a consistent copy and returns its path; None where the database's own tool has to do it."""
        ...

    def vacuum(self, engine: Engine) -> None:
        """Rewrites the files, so that what was deleted or overwritten is gone from them."""
        ...

    def translate(self, error: DBAPIError) -> NoriaError | None: ...


class Conflicts:
    """Inserts that meet a row that is there: both databases say it alike, each through its own ``insert``."""

    insert: Any

    @functools.cache  # noqa: B019 - one dialect lives as long as its database
    def insert_new(self, table: Any) -> Executable:
        return self.insert(table).on_conflict_do_nothing().inline()

    @functools.cache  # noqa: B019
    def insert_new_key(self, table: Any) -> Executable:
        return self.insert(table).on_conflict_do_nothing().returning(table.c.id)

    @functools.cache  # noqa: B019
    def upsert(self, table: Any, columns: tuple[str, ...], key: tuple[str, ...]) -> Executable:
        statement = self.insert(table)
        changed = {name: statement.excluded[name] for name in columns if name not in key}
        return statement.on_conflict_do_update(index_elements=list(key), set_=changed)


class SqliteDialect(Conflicts):
    single_writer = True
    insert = staticmethod(sqlite.insert)

    def __init__(self, path: Path) -> None:
        self.path = path

    def engine(self) -> Engine:
        refuse_network_file_system(self.path.parent)
        engine = create_engine(
            f"sqlite:///{self.path}",
            poolclass=QueuePool,
            pool_size=8,
            max_overflow=16,
            connect_args={"timeout": 10.0, "check_same_thread": False},
        )
        event.listen(engine, "connect", _prepare_sqlite)
        return engine

    def limit_reads(self, engine: Engine, seconds: float) -> None:
        return  # every connection looks at the clock, see _prepare_sqlite

    def begin_read(self, conn: Connection, seconds: float | None = None, still: bool = False) -> None:
        conn.info[_UNTIL][0] = math.inf if seconds is None else time.monotonic() + seconds
        _send_sqlite(conn, "BEGIN")

    def begin_write(self, conn: Connection, *, durable: bool, locks: Sequence[str] = ()) -> None:
        conn.info[_UNTIL][0] = math.inf
        # FULL forces the whole log to the disk, with what relaxed transactions wrote before it.
        level = "FULL" if durable else "NORMAL"
        if conn.info.get("noria_synchronous", "FULL") != level:
            _send_sqlite(conn, f"PRAGMA synchronous={level}")
            conn.info["noria_synchronous"] = level
        # A transaction that reads first and writes later would fail with "locked"; writers say so at once.
        _send_sqlite(conn, "BEGIN IMMEDIATE")

    def write_rows(
        self,
        conn: Connection,
        table: Any,
        columns: tuple[str, ...],
        rows: Sequence[tuple[Any, ...]],
        key: tuple[str, ...],
    ) -> None:
        conn.exec_driver_sql(self._rows_sql(table, columns, key), list(rows))

    @functools.cache  # noqa: B019
    def _rows_sql(self, table: Any, columns: Columns, key: Columns) -> str:
        return rows_sql(table, columns, f"VALUES ({', '.join('?' * len(columns))})", key)

    def control(self, conn: Connection, command: str) -> None:
        _send_sqlite(conn, command)

    def lock(self, conn: Connection, name: str) -> None:
        return  # a write transaction is alone from BEGIN IMMEDIATE on

    def revision(self, conn: Connection) -> int:
        return int(conn.execute(text("PRAGMA user_version")).scalar_one())

    def set_revision(self, conn: Connection, revision: int) -> None:
        conn.execute(text(f"PRAGMA user_version = {int(revision)}"))

    def skip_locked(self) -> dict[str, Any] | None:
        return None

    def backup(self, engine: Engine, target: Path) -> str | None:
        raw = engine.raw_connection()  # VACUUM runs outside of any transaction
        raw.info[_UNTIL][0] = math.inf
        try:
            raw.cursor().execute("VACUUM INTO ?", (str(target),))
        except sqlite3.DatabaseError as error:
            translated = self._translated(str(error))
            if translated is None:
                raise
            raise translated from error
        finally:
            raw.close()
        return str(target)

    def vacuum(self, engine: Engine) -> None:
        raw = engine.raw_connection()  # outside of any transaction
        raw.info[_UNTIL][0] = math.inf
        try:
            cursor = raw.cursor()
            cursor.execute("VACUUM")
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.DatabaseError as error:
            translated = self._translated(str(error))
            if translated is None:
                raise
            raise translated from error
        finally:
            raw.close()

    def translate(self, error: DBAPIError) -> NoriaError | None:
        return self._translated(str(error.orig), unfit=isinstance(error, DataError))

    def _translated(self, message: str, *, unfit: bool = False) -> NoriaError | None:
        if "disk is full" in message or "disk I/O error" in message:
            return DiskFull(str(self.path))
        if "locked" in message or "busy" in message:
            return DatabaseBusy(
                f"{self.path} was locked by another process for more than 10 seconds.",
                hint="Repeat the command; if it stays so, look for a long-running noria process.",
            )
        if message == "interrupted":
            return ReadTooLong()
        if "readonly" in message or "unable to open" in message or "not a database" in message:
            return DatabaseUnavailable(
                f"{self.path} cannot be used: {message}.", hint="Check the file's permissions, or run: noria doctor"
            )
        return ValueUnfit(message) if unfit or "pattern too complex" in message else None


def rows_sql(table: Any, columns: tuple[str, ...], values: str, key: tuple[str, ...]) -> str:
    """The text of an insert of many rows; every name in it comes from our own tables."""
    names = ", ".join(f'"{name}"' for name in columns)
    sql = f"INSERT INTO {table.name} ({names}) {values}"
    if key:
        changed = ", ".join(f'"{name}" = excluded."{name}"' for name in columns if name not in key)
        sql += f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changed}"
    return sql


def _prepare_sqlite(connection: Any, record: Any) -> None:
    until = record.info[_UNTIL] = [math.inf]
    now = time.monotonic
    # Asked a few thousand times a second while a statement runs, and not at all by a short one.
    connection.set_progress_handler(lambda: now() > until[0], 5_000)
    connection.isolation_level = None  # the transaction is ours to begin, see _send_sqlite
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",  # an acknowledged write survives a power cut too
        "foreign_keys=ON",
        "busy_timeout=10000",
        "cache_size=-16384",
        "temp_store=MEMORY",
        "case_sensitive_like=ON",  # as PostgreSQL's LIKE is
    ):
        connection.execute(f"PRAGMA {pragma}")


def _send_sqlite(conn: Connection, command: str) -> None:
    """Past SQLAlchemy, which is much slower than SQLite here, and which leaves beginning a transaction to us."""
    driver: Any = conn.connection.driver_connection
    try:
        driver.execute(command)
    except sqlite3.OperationalError as error:
        raise OperationalError(command, None, error) from error


def refuse_network_file_system(folder: Path) -> None:
    kind = file_system_of(folder)
    if kind in _NETWORK_KINDS:
        raise NetworkFileSystem(str(folder), kind)


def file_system_of(folder: Path, mounts: Path = Path("/proc/mounts")) -> str:
    """The kind of file system that holds ``folder``, or an empty string where the system does not tell."""
    if not mounts.exists():
        return ""
    place, best, kind = str(folder.resolve()), "", ""
    for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines():
        fields = line.split()
        if len(fields) < 3:
            continue
        point = fields[1].replace("\\040", " ")
        inside = place == point or place.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, fields[2]
    return kind
