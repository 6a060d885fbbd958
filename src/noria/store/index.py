"""Which pack holds which object. A cache: it is rebuilt from the packs' own indexes whenever it is lost."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from noria.base.errors import DiskFull
from noria.store.errors import IndexBusy
from noria.store.packs import ID_SIZE, INDEX, PLACE, Located, located

_VERSION = 2
_SCHEMA = (
    "CREATE TABLE packs (num INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE)",
    # ``place`` is what a pack's index says of an object, as it stands there.
    """CREATE TABLE objects (id BLOB NOT NULL, pack INTEGER NOT NULL, place BLOB NOT NULL, PRIMARY KEY (id, pack))
    WITHOUT ROWID""",
    "CREATE TABLE damaged (id BLOB NOT NULL, pack INTEGER NOT NULL, PRIMARY KEY (id, pack)) WITHOUT ROWID",
    "CREATE TABLE losses (one INTEGER PRIMARY KEY CHECK (one = 1), name TEXT NOT NULL, number INTEGER NOT NULL)",
    "INSERT INTO losses VALUES (1, hex(randomblob(8)), 0)",
    "CREATE TRIGGER pack_lost AFTER DELETE ON packs BEGIN UPDATE losses SET number = number + 1; END",
    "CREATE TRIGGER found_damaged AFTER INSERT ON damaged BEGIN UPDATE losses SET number = number + 1; END",
)
_TABLES = ("objects", "packs", "damaged", "losses")
_AT_ONCE = 250
# One statement for a whole pack: SQLite takes the rows apart, and the interpreter is free meanwhile.
_ADD = f"""
INSERT OR IGNORE INTO objects
WITH RECURSIVE row(at) AS (SELECT 0 UNION ALL SELECT at + {INDEX.size} FROM row LIMIT :count)
SELECT substr(:rows, at + 1, {ID_SIZE}), :pack, substr(:rows, at + {ID_SIZE + 1}, {PLACE.size}) FROM row
"""  # noqa: S608 - numbers

_FROM = """
FROM objects AS o JOIN packs ON num = o.pack
WHERE NOT EXISTS (SELECT 1 FROM damaged AS d WHERE d.id = o.id AND d.pack = o.pack)
"""
"""Where objects lie, without copies that were found damaged."""
_WHOLE = f"SELECT o.id, name {_FROM}"
_PLACES = f"SELECT o.id, name, place {_FROM}"


_Found = TypeVar("_Found")


class PackIndex:
    """Thread-safe; shared between processes through the file.

    Attributes:
        renewed: called when a file that was damaged had to be thrown away, so that the packs tell again what they hold.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.renewed: Callable[[], object] | None = None
        self._lock = threading.RLock()
        self._inode = 0
        self._fresh = self._renewing = False
        self._db = self._open()

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return self._connect()
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):  # others may be using it
                raise IndexBusy(str(self.path), str(error)) from error
            self._discard()
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=10.0, check_same_thread=False, isolation_level=None)
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=OFF")  # a cache needs no durability
            self._prepare(db)
            self._inode = self.path.stat().st_ino
        except BaseException:
            db.close()
            raise
        return db

    def _prepare(self, db: sqlite3.Connection) -> None:
        """Makes the tables; those of an older noria give way, and the packs tell again what they hold."""
        if db.execute("PRAGMA user_version").fetchone() == (_VERSION,):
            return
        db.execute("BEGIN IMMEDIATE")
        if db.execute("PRAGMA user_version").fetchone() != (_VERSION,):  # nobody else was faster
            self._fresh = bool(db.execute("SELECT 1 FROM sqlite_master").fetchone())
            for table in _TABLES:
                db.execute(f"DROP TABLE IF EXISTS {table}")
            for statement in _SCHEMA:
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {_VERSION}")
        db.execute("COMMIT")

    def _discard(self) -> None:
        """Throws the file away: the packs know everything that it knew."""
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)
        self._fresh = True

    def _ask(self, work: Callable[[sqlite3.Connection], _Found]) -> _Found:
        """Runs queries. Where the file turns out to be damaged, they run once more on a new one."""
        with self._lock:
            if self._fresh and self.renewed is not None:  # it was thrown away on opening
                self._fresh = False
                self.renewed()
            try:
                return work(self._db)
            except sqlite3.DatabaseError as error:
                if not _is_damage(error) or self._renewing:  # a disk that spoils a new file, too
                    raise
            self._renewing = True
            try:
                self._renew()
            finally:
                self._renewing = False
            return work(self._db)

    def _renew(self) -> None:
        self._db.close()
        try:
            others = self.path.stat().st_ino != self._inode
        except FileNotFoundError:
            others = False
        if not others:  # otherwise somebody else did it already
            self._discard()
        self._fresh = False
        self._db = self._open()
        self._fresh = False
        if self.renewed is not None:
            self.renewed()

    def find(self, oid: bytes) -> list[tuple[str, Located]]:
        """Every place where the object lies: (pack, where)."""
        query = "SELECT name, place FROM objects JOIN packs ON num = pack WHERE id = ?"
        return [(pack, located(oid, place)) for pack, place in self._rows(query, (oid,))]

    def find_many(self, oids: Sequence[bytes]) -> dict[bytes, tuple[str, Located]]:
        """A place for each object that lies somewhere, not counting copies that were found damaged."""
        places: dict[bytes, tuple[str, Located]] = {}
        for start in range(0, len(oids), _AT_ONCE):
            some = oids[start : start + _AT_ONCE]
            query = f"{_PLACES} AND o.id IN ({','.join('?' * len(some))})"
            rows = self._rows(query, some)
            for oid, pack, place in rows:
                places[oid] = (pack, located(oid, place))
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
            rows = self._rows(query, some)
            missing.difference_update(oid for oid, pack in rows if pack not in ignoring)
        return missing

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        return self._ask(lambda db: db.execute(query, values).fetchall())

    def damaged(self) -> set[tuple[bytes, int]]:
        """Copies that were found damaged: (object, number of the pack). Hardly ever any."""
        return set(self._rows("SELECT id, pack FROM damaged"))

    def mark(self, oid: bytes, pack: str, *, damaged: bool) -> None:
        """Notes that the copy of an object in a pack was found damaged, or whole again."""
        where = "WHERE id = ? AND pack IN (SELECT num FROM packs WHERE name = ?)"
        if damaged:
            self._rows(f"INSERT OR IGNORE INTO damaged SELECT id, pack FROM objects {where}", (oid, pack))  # noqa: S608 - a fixed text
        else:
            self._rows(f"DELETE FROM damaged {where}", (oid, pack))  # noqa: S608 - a fixed text

    @property
    def empty(self) -> bool:
        """Whether no pack is known."""
        return not self._rows("SELECT 1 FROM packs LIMIT 1")

    @property
    def losses(self) -> str:
        """Changes whenever a pack went away or a copy was found damaged, and with a new index."""
        ((name, number),) = self._rows("SELECT name, number FROM losses")
        return f"{name}-{number}"

    def packs(self) -> set[str]:
        return {name for (name,) in self._rows("SELECT name FROM packs")}

    def add(self, pack: str, rows: bytes) -> None:
        """Learns what a pack holds, from the bytes of the pack's own index."""

        def work(db: sqlite3.Connection) -> None:
            db.execute("INSERT OR IGNORE INTO packs (name) VALUES (?)", (pack,))
            (num,) = db.execute("SELECT num FROM packs WHERE name = ?", (pack,)).fetchone()
            db.execute("DELETE FROM damaged WHERE pack = ?", (num,))  # written anew, from the same bytes
            db.execute(_ADD, {"rows": rows, "pack": num, "count": len(rows) // INDEX.size})

        self._change(work)

    def remove(self, pack: str) -> None:
        def work(db: sqlite3.Connection) -> None:
            for table in ("objects", "damaged"):
                query = f"DELETE FROM {table} WHERE pack IN (SELECT num FROM packs WHERE name = ?)"  # noqa: S608 - fixed
                db.execute(query, (pack,))
            db.execute("DELETE FROM packs WHERE name = ?", (pack,))

        self._change(work)

    def _change(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """All of it or nothing."""

        def whole(db: sqlite3.Connection) -> None:
            db.execute("BEGIN IMMEDIATE")
            try:
                work(db)
                db.execute("COMMIT")
            except BaseException as error:
                if db.in_transaction:  # a full disk ends it by itself
                    with contextlib.suppress(sqlite3.DatabaseError):  # a damaged file cannot even do that
                        db.execute("ROLLBACK")
                if isinstance(error, sqlite3.OperationalError) and "disk is full" in str(error):
                    raise DiskFull(str(self.path)) from error
                raise

        self._ask(whole)

    def count(self) -> int:
        return int(self._rows("SELECT count(*) FROM objects")[0][0])

    def close(self) -> None:
        with self._lock:
            self._db.close()


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether the file is not what SQLite wrote; not when it is locked, full or out of reach."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
