"""An open write transaction: the only way to change the metadata database."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Connection, CursorResult, Executable

    from noria.db.dialects import Dialect

# An insert reports how many rows it made only where it is asked to.
_COUNTED = {"preserve_rowcount": True}


@functools.cache
def _insert(table: Any) -> Executable:
    return table.insert()


@dataclass(slots=True)
class Tx:
    """One write transaction, opened by the outermost verb and passed down (decision 10).

    Attributes:
        conn: the connection that holds the transaction.
        now_ms: one wall time for all rows of the transaction.
    """

    conn: Connection
    dialect: Dialect
    now_ms: int
    _after: list[Callable[[], None]] = field(default_factory=list)

    def execute(self, statement: Executable, parameters: Any = None) -> CursorResult[Any]:
        return self.conn.execute(statement, parameters)

    def insert(self, table: Any, values: Mapping[str, Any]) -> int:
        """Inserts one row and returns its generated key, or 0 where the key was given."""
        result = self.conn.execute(_insert(table), dict(values))
        key = result.inserted_primary_key
        return key[0] if key and isinstance(key[0], int) else 0

    def insert_new(self, table: Any, values: Mapping[str, Any]) -> bool:
        """Inserts the row unless a unique constraint already holds one; says whether it was inserted."""
        statement = self.dialect.insert_new(table)
        return self.conn.execute(statement, dict(values), execution_options=_COUNTED).rowcount == 1

    def insert_new_key(self, table: Any, values: Mapping[str, Any]) -> int | None:
        """Like ``insert_new``; the generated key ``id`` of the row, or None where there was one already."""
        return self.conn.execute(self.dialect.insert_new_key(table), dict(values)).scalar_one_or_none()

    def insert_new_many(self, table: Any, rows: list[dict[str, Any]]) -> None:
        """Inserts the rows that no unique constraint holds already."""
        if rows:
            self.conn.execute(self.dialect.insert_new(table), rows)

    def upsert(self, table: Any, values: Mapping[str, Any], *, key: list[str]) -> None:
        """Inserts the row, or replaces the other columns of the row with the same key."""
        self.conn.execute(self.dialect.upsert(table, tuple(values), tuple(key)), dict(values))

    def upsert_many(self, table: Any, rows: list[dict[str, Any]], *, key: list[str]) -> None:
        if rows:
            self.conn.execute(self.dialect.upsert(table, tuple(rows[0]), tuple(key)), rows)

    def write_rows(
        self, table: Any, columns: Sequence[str], rows: Sequence[tuple[Any, ...]], *, key: Sequence[str] = ()
    ) -> None:
        """Inserts many rows of plain numbers and texts in one go; with ``key``, a row of the same key is replaced.

        For what is written by the thousand: values go to the driver as they are, past SQLAlchemy's types.
        """
        if rows:
            self.dialect.write_rows(self.conn, table, tuple(columns), rows, tuple(key))

    @contextmanager
    def savepoint(self) -> Generator[None]:
        """What is done inside is undone alone when it raises; calls for after the commit are forgotten then."""
        waiting = len(self._after)
        self.dialect.control(self.conn, "SAVEPOINT part")
        try:
            yield
        except BaseException:
            self.dialect.control(self.conn, "ROLLBACK TO SAVEPOINT part")
            self.dialect.control(self.conn, "RELEASE SAVEPOINT part")
            del self._after[waiting:]
            raise
        self.dialect.control(self.conn, "RELEASE SAVEPOINT part")

    def lock(self, name: str) -> None:
        """Serialises with every other transaction that takes the same name, until this one ends."""
        self.dialect.lock(self.conn, name)

    def after_commit(self, call: Callable[[], None]) -> None:
        """Runs ``call`` once when the transaction is durable, however often it was asked for; not if it rolls back."""
        if call not in self._after:
            self._after.append(call)

    def committed(self) -> None:
        for call in self._after:
            call()
