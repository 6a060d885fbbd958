"""PostgreSQL. A message to its server costs more than what most statements do, so few are sent beside them."""

from __future__ import annotations

import functools
import hashlib
import select
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import create_engine, event, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DataError, InvalidatePoolError

from noria.base.errors import DiskFull, MissingExtra, NoriaError
from noria.db.dialects import Conflicts, rows_sql
from noria.db.errors import DatabaseBusy, DatabaseUnavailable, ReadTooLong, ValueUnfit

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from sqlalchemy import Connection, Engine
    from sqlalchemy.exc import DBAPIError

    from noria.db.dialects import Columns

_FEW: Final = 8
"""Rows that are written as values; more are an array for each column."""


class PostgresDialect(Conflicts):
    single_writer = False
    insert = staticmethod(postgresql.insert)

    def __init__(self, url: str) -> None:
        self.url = url.replace("postgresql://", "postgresql+psycopg://", 1)
        self._limited = False

    def engine(self) -> Engine:
        try:
            import psycopg  # noqa: F401 - an optional package, reported by name
        except ImportError:
            raise MissingExtra("psycopg", "postgres", "A PostgreSQL workspace") from None
        # A read is its statements: the driver begins and ends no transaction around them, which this level of isolation
        # would gain nothing from. Writers begin theirs themselves.
        engine = create_engine(self.url, pool_size=8, max_overflow=16, connect_args={"autocommit": True})
        event.listen(engine, "checkout", _check)
        return engine

    def limit_reads(self, engine: Engine, seconds: float) -> None:
        # New connections begin with the limit, and what may take longer lifts it: a limited read, the one that is
        # made thousands of times a second, sends nothing more than itself.
        def prepare(connection: Any, _record: Any) -> None:
            connection.execute(f"SET statement_timeout = {max(1, round(seconds * 1000))}")

        event.listen(engine, "connect", prepare)
        self._limited = True
        engine.dispose()

    def begin_read(self, conn: Connection, seconds: float | None = None, still: bool = False) -> None:
        lifted = self._limited and seconds is None
        if still or lifted:
            level = " ISOLATION LEVEL REPEATABLE READ" if still else ""
            more = "; SET LOCAL statement_timeout = 0" if lifted else ""
            conn.exec_driver_sql(f"BEGIN{level}{more}")

    def begin_write(self, conn: Connection, *, durable: bool, locks: Sequence[str] = ()) -> None:
        commands = ["BEGIN", "SET LOCAL lock_timeout = '10s'"]
        if not durable:
            commands.append("SET LOCAL synchronous_commit = off")
        if self._limited:
            commands.append("SET LOCAL statement_timeout = 0")
        commands += [f"SELECT pg_advisory_xact_lock({_number(name)})" for name in locks]
        conn.exec_driver_sql("; ".join(commands))

    def write_rows(
        self,
        conn: Connection,
        table: Any,
        columns: tuple[str, ...],
        rows: Sequence[tuple[Any, ...]],
        key: tuple[str, ...],
    ) -> None:
        if len(rows) <= _FEW:  # an array costs the driver more than some values
            conn.exec_driver_sql(self._few_sql(table, columns, key, len(rows)), tuple(v for row in rows for v in row))
            return
        # One statement with an array for each column: a row costs no message of its own.
        sql, plain = self._rows_sql(table, columns, key)
        arrays = zip(*rows, strict=True)
        conn.exec_driver_sql(sql, tuple(_array(a) if p else list(a) for a, p in zip(arrays, plain, strict=True)))

    @functools.cache  # noqa: B019
    def _few_sql(self, table: Any, columns: Columns, key: Columns, rows: int) -> str:
        row = f"({', '.join(['%s'] * len(columns))})"
        return rows_sql(table, columns, f"VALUES {', '.join([row] * rows)}", key)

    @functools.cache  # noqa: B019
    def _rows_sql(self, table: Any, columns: Columns, key: Columns) -> tuple[str, list[bool]]:
        """The statement, and of each column whether it holds numbers or flags."""
        kinds = [table.c[name].type.compile(dialect=postgresql.dialect()) for name in columns]
        arrays = ", ".join(f"%s::{kind}[]" for kind in kinds)
        plain = [kind in ("BIGINT", "INTEGER", "FLOAT(53)", "BOOLEAN") for kind in kinds]
        return rows_sql(table, columns, f"SELECT * FROM unnest({arrays})", key), plain  # noqa: S608

    def control(self, conn: Connection, command: str) -> None:
        conn.exec_driver_sql(command)

    def lock(self, conn: Connection, name: str) -> None:
        conn.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (_number(name),))

    def revision(self, conn: Connection) -> int:
        if conn.execute(text("SELECT to_regclass('alembic_version')")).scalar_one() is None:
            return 0
        found = conn.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
        return int(found) if found else 0

    def set_revision(self, conn: Connection, revision: int) -> None:
        return  # alembic_version is the record

    def skip_locked(self) -> dict[str, Any] | None:
        return {"skip_locked": True}

    def backup(self, engine: Engine, target: Path) -> str | None:
        return None

    def vacuum(self, engine: Engine) -> None:
        with engine.connect() as conn:
            if self._limited:
                conn.execute(text("SET statement_timeout = 0"))
                conn.detach()  # it is closed afterwards, not used again
            for table in ("quarantine", "online_rows"):
                conn.execute(text(f"VACUUM (FULL) {table}"))

    def translate(self, error: DBAPIError) -> NoriaError | None:
        state = getattr(error.orig, "sqlstate", None) or ""
        if state == "57014":
            return ReadTooLong()
        if state == "55P03":
            return DatabaseBusy("A row was locked by another process for more than 10 seconds.", hint="Try again.")
        if state in ("40P01", "40001"):
            return DatabaseBusy("Two writers waited for each other; this one gave way.", hint="Try again.")
        if state == "53100":
            return DiskFull("the PostgreSQL server's disk")
        if state.startswith("53"):
            return DatabaseBusy("The PostgreSQL server has no memory or no connection left.", hint="Try again.")
        if isinstance(error, DataError):  # before the next line: psycopg itself refuses NUL, without a state
            return ValueUnfit(str(error.orig).strip().partition("\n")[0])
        if error.connection_invalidated or state.startswith(("08", "57P")) or not state:
            return DatabaseUnavailable(
                "The PostgreSQL server cannot be reached.", hint="Check that it runs and that the URL is right."
            )
        return None


def _array(values: Iterable[Any]) -> str:
    """Numbers or flags as an array in PostgreSQL's own writing: ten times as fast as the driver's lists."""
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"


def _number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)


def _check(connection: Any, _record: Any, _proxy: Any) -> None:
    """Leaves connections whose server has gone: it says so before it ends, and nothing else comes unasked for.

    Raises:
        InvalidatePoolError: the pool then makes new ones.
    """
    if not connection.closed:
        waiting = select.poll()
        waiting.register(connection.fileno(), select.POLLIN)
        if not waiting.poll(0):
            return
        from psycopg import OperationalError

        with suppress(OperationalError):
            connection.execute("")
            return
    raise InvalidatePoolError
