"""Which pack holds which object. A cache: it is rebuilt from the packs' own indexes whenever it is lost."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from noria.base.errors import DiskFull
from noria.store.packs import INDEX, Located
from noria.store.records import Kind

_SCHEMA = """
CREATE TABLE IF NOT EXISTS packs (num INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS objects (
    id BLOB NOT NULL, pack INTEGER NOT NULL, offset INTEGER NOT NULL, stored INTEGER NOT NULL, raw INTEGER NOT NULL,
    kind INTEGER NOT NULL, flags INTEGER NOT NULL, PRIMARY KEY (id, pack)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS damaged (id BLOB NOT NULL, pack INTEGER NOT NULL, PRIMARY KEY (id, pack)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS losses (
    one INTEGER PRIMARY KEY CHECK (one = 1), name TEXT NOT NULL, number INTEGER NOT NULL
);
INSERT OR IGNORE INTO losses VALUES (1, hex(randomblob(8)), 0);
CREATE TRIGGER IF NOT EXISTS pack_lost AFTER DELETE ON packs BEGIN UPDATE losses SET number = number + 1; END;
CREATE TRIGGER IF NOT EXISTS found_damaged AFTER INSERT ON damaged BEGIN UPDATE losses SET number = number + 1; END;
"""


_AT_ONCE = 250


_FROM = """
FROM objects AS o JOIN packs ON num = o.pack
WHERE NOT EXISTS (SELECT 1 FROM damaged AS d WHERE d.id = o.id AND d.pack = o.pack)
"""
"""Where objects lie, without copies that were found damaged."""
_WHOLE = f"SELECT o.id, name {_FROM}"
_PLACES = f"SELECT o.id, name, offset, stored, raw, kind, flags {_FROM}"


class PackIndex:
    """Thread-safe; shared between processes through the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._db = self._open()

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return self._connect()
        except sqlite3.DatabaseError:
            # Damaged: throw it away, the packs know everything that it knew.
            for suffix in ("", "-wal", "-shm"):
                Path(f"{self.path}{suffix}").unlink(missing_ok=True)
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=10.0, check_same_thread=False, isolation_level=None)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=OFF")  # a cache needs no durability
        db.executescript(_SCHEMA)
        return db

    def find(self, oid: bytes) -> list[tuple[str, Located]]:
        """Every place where the object lies: (pack, where)."""
        query = "SELECT name, offset, stored, raw, kind, flags FROM objects JOIN packs ON num = pack WHERE id = ?"
        with self._lock:
            rows = self._db.execute(query, (oid,)).fetchall()
        return [
            (pack, Located(oid, offset, stored, raw, Kind(kind), flags))
            for pack, offset, stored, raw, kind, flags in rows
        ]

    def find_many(self, oids: Sequence[bytes]) -> dict[bytes, tuple[str, Located]]:
        """A place for each object that lies somewhere, not counting copies that were found damaged."""
        places: dict[bytes, tuple[str, Located]] = {}
        for start in range(0, len(oids), _AT_ONCE):
            some = oids[start : start + _AT_ONCE]
            query = f"{_PLACES} AND o.id IN ({','.join('?' * len(some))})"
            with self._lock:
                rows = self._db.execute(query, some).fetchall()
            for oid, pack, offset, stored, raw, kind, flags in rows:
                places[oid] = (pack, Located(oid, offset, stored, raw, Kind(kind), flags))
        return places

    def missing(self, oids: Sequence[bytes], ignoring: frozenset[str] = frozenset()) -> set[bytes]:
        """Which of the objects lie in no pack, or only in those of ``ignoring``; asks for hundreds in one query.

        A copy that was found damaged does not count, so that the same bytes, put again, are stored again.
        """
        missing = set(oids)
        for start in range(0, len(oids), _AT_ONCE):
            some = oids[start : start + _AT_ONCE]
            marks = ",".join("?" * len(some))
            query = f"{_WHOLE} AND o.id IN ({marks})"
            with self._lock:
                rows = self._db.execute(query, some).fetchall()
            missing.difference_update(oid for oid, pack in rows if pack not in ignoring)
        return missing

    def damaged(self) -> set[tuple[bytes, int]]:
        """Copies that were found damaged: (object, number of the pack). Hardly ever any."""
        with self._lock:
            return set(self._db.execute("SELECT id, pack FROM damaged").fetchall())

    def mark(self, oid: bytes, pack: str, *, damaged: bool) -> None:
        """Notes that the copy of an object in a pack was found damaged, or whole again."""
        where = "WHERE id = ? AND pack IN (SELECT num FROM packs WHERE name = ?)"
        with self._lock:
            if damaged:
                self._db.execute(f"INSERT OR IGNORE INTO damaged SELECT id, pack FROM objects {where}", (oid, pack))  # noqa: S608 - a fixed text
            else:
                self._db.execute(f"DELETE FROM damaged {where}", (oid, pack))  # noqa: S608 - a fixed text

    @property
    def empty(self) -> bool:
        """Whether no pack is known."""
        with self._lock:
            return self._db.execute("SELECT 1 FROM packs LIMIT 1").fetchone() is None

    @property
    def losses(self) -> str:
        """Changes whenever a pack went away or a copy was found damaged, and with a new index."""
        with self._lock:
            name, number = self._db.execute("SELECT name, number FROM losses").fetchone()
        return f"{name}-{number}"

    def packs(self) -> set[str]:
        with self._lock:
            return {name for (name,) in self._db.execute("SELECT name FROM packs")}

    def add(self, pack: str, located: Iterable[Located]) -> None:
        """Learns what a pack holds."""
        self._add(pack, ((r.id, r.offset, r.stored, r.raw, int(r.kind), r.flags, 0) for r in located))

    def add_rows(self, pack: str, index: bytes) -> None:
        """Like ``add``, from the bytes of the pack's own index."""
        self._add(pack, INDEX.iter_unpack(index))

    def _add(self, pack: str, rows: Iterable[tuple[Any, ...]]) -> None:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.execute("INSERT OR IGNORE INTO packs (name) VALUES (?)", (pack,))
                (num,) = self._db.execute("SELECT num FROM packs WHERE name = ?", (pack,)).fetchone()
                self._db.execute("DELETE FROM damaged WHERE pack = ?", (num,))  # written anew, from the same bytes
                values = f"(?1, {int(num)}, ?2, ?3, ?4, ?5, ?6 | ?7)"
                self._db.executemany(f"INSERT OR IGNORE INTO objects VALUES {values}", rows)  # noqa: S608 - a number
                self._db.execute("COMMIT")
            except BaseException as error:
                if self._db.in_transaction:  # a full disk ends it by itself
                    self._db.execute("ROLLBACK")
                if isinstance(error, sqlite3.OperationalError) and "disk is full" in str(error):
                    raise DiskFull(str(self.path)) from error
                raise

    def remove(self, pack: str) -> None:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            for table in ("objects", "damaged"):
                query = f"DELETE FROM {table} WHERE pack IN (SELECT num FROM packs WHERE name = ?)"  # noqa: S608 - fixed
                self._db.execute(query, (pack,))
            self._db.execute("DELETE FROM packs WHERE name = ?", (pack,))
            self._db.execute("COMMIT")

    def count(self) -> int:
        with self._lock:
            return int(self._db.execute("SELECT count(*) FROM objects").fetchone()[0])

    def close(self) -> None:
        with self._lock:
            self._db.close()
