"""The replica of the online store that endpoint workers read: a file with feature rows and commit ids, nothing else.

The rows themselves are written in the transaction of the commit, in the metadata database. Workers must not open
that (decision 12), so each machine keeps a replica. It is brought up to date before a commit is acknowledged; a
process that dies in between leaves it behind, and the next one that opens it catches up.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from noria.base.ids import ProjectId
from noria.db import Database
from noria.features import queries

_SCHEMA = """
CREATE TABLE IF NOT EXISTS rows (
    online_use INTEGER NOT NULL, key BLOB NOT NULL, value BLOB, PRIMARY KEY (online_use, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS uses (
    id INTEGER PRIMARY KEY, use_id TEXT NOT NULL, repository INTEGER NOT NULL, commit_id TEXT
);
CREATE TABLE IF NOT EXISTS state (seq INTEGER NOT NULL);
"""


Slice = tuple[int, bytes, bytes | None]
"""Number of the use, key, slice."""
OnlineUse = tuple[int, str, int, str | None]
"""Number, id, repository, and the commit up to which its slices go."""


class Replica:
    """The writing side of one project: one per process; processes take turns by SQLite's lock."""

    def __init__(self, path: Path, db: Database, project_id: ProjectId) -> None:
        self._path = path
        self._db = db
        self._project_id = project_id
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def catch_up(self) -> int:
        """Takes over what was committed since; returns the number of changed rows."""
        with self._writing() as own:
            seq = _seq(own)
            with self._db.read() as conn:
                rows, uses = queries.changes(conn, self._project_id, seq)
            newest = max([seq, *(row[3] for row in rows), *(use[4] for use in uses)])
            _put(own, [row[:3] for row in rows], [use[:4] for use in uses], newest)
            return len(rows)

    def take(self, seq: int, rows: Sequence[Slice], uses: Sequence[OnlineUse]) -> None:
        """Takes over one change that was just committed, if it is the next one here; else everything since."""
        with self._writing() as own:
            here = _seq(own)
            if here == seq - 1:
                _put(own, rows, uses, seq)
        if here < seq - 1:
            self.catch_up()

    def forget(self, uses: Sequence[int]) -> None:
        """Removes all slices of uses that are no more."""
        with self._writing() as own:
            own.executemany("DELETE FROM rows WHERE online_use = ?", [(use,) for use in uses])
            own.executemany("DELETE FROM uses WHERE id = ?", [(use,) for use in uses])

    def vacuum(self) -> None:
        """Leaves nothing of what was overwritten in the file."""
        with self._lock:
            own = self._open()
            own.execute("VACUUM")
            own.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    @contextmanager
    def _writing(self) -> Generator[sqlite3.Connection]:
        with self._lock:
            own = self._open()
            own.execute("BEGIN IMMEDIATE")
            try:
                yield own
                own.execute("COMMIT")
            except BaseException:
                own.execute("ROLLBACK")
                raise

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            made = sqlite3.connect(self._path, timeout=10.0, check_same_thread=False, isolation_level=None)
            made.execute("PRAGMA journal_mode=WAL")
            made.execute("PRAGMA synchronous=OFF")  # it can be made again from the database
            made.executescript(_SCHEMA)
            self._connection = made
        return self._connection

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None


def _seq(own: sqlite3.Connection) -> int:
    """The number of the last change that a replica holds."""
    (seq,) = own.execute("SELECT max(seq) FROM state").fetchone()
    return seq or 0


def _put(own: sqlite3.Connection, rows: Sequence[Slice], uses: Sequence[OnlineUse], seq: int) -> None:
    own.executemany("INSERT OR REPLACE INTO rows VALUES (?, ?, ?)", rows)
    own.executemany("INSERT OR REPLACE INTO uses VALUES (?, ?, ?, ?)", uses)
    own.execute("DELETE FROM state")
    own.execute("INSERT INTO state VALUES (?)", (seq,))


class Reader:
    """The reading side, for endpoint workers. Not thread-safe."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10.0, isolation_level=None)
        self._uses: dict[str, int] = {}

    @contextmanager
    def snapshot(self) -> Generator[ReaderSnapshot]:
        """A consistent view: all rows and commit ids of one moment."""
        self._db.execute("BEGIN")
        try:
            yield ReaderSnapshot(self._db, self._uses)
        finally:
            self._db.execute("COMMIT")

    def close(self) -> None:
        self._db.close()


class ReaderSnapshot:
    def __init__(self, db: sqlite3.Connection, uses: dict[str, int]) -> None:
        self._db = db
        self._uses = uses

    def get(self, use_id: str, keys: Sequence[bytes]) -> list[bytes | None]:
        number = self._number(use_id)
        execute = self._db.execute
        found: list[bytes | None] = []
        for key in keys:
            row = execute("SELECT value FROM rows WHERE online_use = ? AND key = ?", (number, key)).fetchone()
            found.append(None if row is None else row[0])
        return found

    def commits(self, use_ids: Sequence[str]) -> list[str]:
        """The commit ids of the tables behind these uses, sorted; what a captured prediction names."""
        found: set[str] = set()
        for use_id in use_ids:
            row = self._db.execute("SELECT commit_id FROM uses WHERE id = ?", (self._number(use_id),)).fetchone()
            if row is not None and row[0] is not None:
                found.add(row[0])
        return sorted(found)

    def _number(self, use_id: str) -> int:
        number = self._uses.get(use_id)
        if number is None:
            row = self._db.execute("SELECT id FROM uses WHERE use_id = ?", (use_id,)).fetchone()
            if row is None:
                return -1
            number = self._uses[use_id] = int(row[0])
        return number
