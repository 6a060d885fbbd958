"""The tables of MLflow's database in a file of SQLite, opened for reading only and never migrated.

Tables and columns came to MLflow over the years, so each is asked for only where it is; what a database lacks, its
server did not know.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from noria.gateways.mlflow.moving.errors import SourceFailed, SourceInvalid, SourceMissing
from noria.tracking.blocks import Mark

PAGE: Final = 200
"""Rows of runs or models that are read at once."""
_NEEDED: Final = ("experiments", "runs", "metrics", "params", "tags")


class Sheets:
    """Every statement is read to its end at once: a server that writes to the file meanwhile never waits for long."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise SourceMissing(f"There is no file {path}.", hint="noria import mlflow sqlite:///path/to/mlflow.db")
        self.name = f"sqlite:///{path.resolve()}"
        uri = f"file:{quote(str(path.resolve()))}?mode=ro"
        self._conn = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=30)
        try:
            self._look(path)
        except sqlite3.DatabaseError as error:
            self._conn.close()
            raise SourceInvalid(f"{path} is no database of SQLite: {error}.", hint="Name MLflow's mlflow.db.") from None
        except BaseException:
            self._conn.close()
            raise

    def _look(self, path: Path) -> None:
        tables = [name for (name,) in self._conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        self._columns = {
            name: {row[1] for row in self._conn.execute(f"PRAGMA table_info({quoted(name)})")} for name in tables
        }
        missing = [name for name in _NEEDED if name not in self._columns]
        if missing:
            raise SourceInvalid(
                f"{path} is not MLflow's database: it has no table {missing[0]!r}.",
                hint="Name the file that mlflow server has as --backend-store-uri.",
            )
        wanted = {"runs": ("run_uuid", "experiment_id", "status"), "metrics": ("run_uuid", "key", "value", "timestamp")}
        for table, columns in wanted.items():
            for column in columns:
                if column not in self._columns[table]:
                    raise SourceInvalid(
                        f"{path}: the table {table!r} has no column {column!r}: this is no version of MLflow that"
                        " can be read.",
                        hint="mlflow db upgrade sqlite:///PATH   on a copy of it, and import that.",
                    )

    def close(self) -> None:
        self._conn.close()

    def _rows(self, table: str, columns: dict[str, Any], rest: str = "", given: Sequence[Any] = ()) -> list[Any]:
        """Rows of a table as tuples; for a column that is not there, what ``columns`` says instead. No table: none.

        Raises:
            SourceFailed: somebody keeps the file locked, or it is damaged.
        """
        there = self._columns.get(table)
        if there is None:
            return []
        chosen = ", ".join(quoted(c) if c in there or c == "rowid" else _literal(to) for c, to in columns.items())
        return self._read(f"SELECT {chosen} FROM {quoted(table)} {rest}", given)

    def _read(self, statement: str, given: Sequence[Any] = ()) -> list[Any]:
        try:
            return self._conn.execute(statement, given).fetchall()
        except sqlite3.DatabaseError as error:
            raise SourceFailed(
                f"{self.name} cannot be read: {error}.", hint="Repeat the command: it goes on where it was."
            ) from None


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(value: Any) -> str:
    if value is None:
        return "NULL"
    return f"'{value}'" if isinstance(value, str) else str(value)


def marks_of(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))


def mark_of(at: int | None, step: int | None, value: float | None, is_nan: Any) -> Mark:
    return at or 0, step or 0, float("nan") if is_nan else float(value or 0.0)
