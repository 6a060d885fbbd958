from __future__ import annotations

import importlib
import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Column, Integer, MetaData, Table, select, text

import noria
from noria.db import Database, metadata
from noria.db.dialects import file_system_of
from noria.db.engine import HEAD_REVISION
from noria.db.errors import DatabaseUnavailable, NetworkFileSystem, WorkspaceTooNew, WorkspaceTooOld
from noria.db.migrate import head, upgrade


def all_tables() -> None:
    for path in Path(noria.__file__).parent.glob("*/tables.py"):
        importlib.import_module(f"noria.{path.parent.name}.tables")


def test_migrations_make_exactly_the_tables_of_the_code(empty_db: Database) -> None:
    all_tables()
    assert upgrade(empty_db) == (0, HEAD_REVISION)
    assert int(head()) == HEAD_REVISION
    with empty_db.read() as conn:
        context = MigrationContext.configure(conn, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
        assert empty_db.dialect.revision(conn) == HEAD_REVISION


def test_a_failed_transaction_leaves_nothing(empty_db: Database) -> None:
    table = Table("t", MetaData(), Column("n", Integer, primary_key=True))
    with empty_db.write() as tx:
        table.create(tx.conn)
    ran: list[str] = []
    with pytest.raises(ZeroDivisionError), empty_db.write() as tx:
        tx.insert(table, {"n": 1})
        tx.after_commit(lambda: ran.append("x"))
        raise ZeroDivisionError
    with empty_db.read() as conn:
        assert conn.execute(select(table)).all() == []
    assert ran == []


def test_an_inner_verb_joins_the_outer_transaction(empty_db: Database) -> None:
    table = Table("t", MetaData(), Column("n", Integer, primary_key=True))
    ran: list[int] = []
    with empty_db.write() as outer:
        table.create(outer.conn)
        with empty_db.write(outer) as inner:
            inner.insert(table, {"n": 1})
            inner.after_commit(lambda: ran.append(1))
        assert ran == []
    assert ran == [1]
    with empty_db.read() as conn:
        assert len(conn.execute(select(table)).all()) == 1


def test_upsert_and_insert_new(empty_db: Database) -> None:
    table = Table("t", MetaData(), Column("n", Integer, primary_key=True), Column("v", Integer))
    with empty_db.write() as tx:
        table.create(tx.conn)
        assert tx.insert_new(table, {"n": 1, "v": 1})
        assert not tx.insert_new(table, {"n": 1, "v": 2})
        tx.upsert(table, {"n": 1, "v": 3}, key=["n"])
        tx.upsert_many(table, [{"n": 1, "v": 4}, {"n": 2, "v": 5}], key=["n"])
    with empty_db.read() as conn:
        assert conn.execute(select(table).order_by(table.c.n)).all() == [(1, 4), (2, 5)]


def test_writers_of_many_threads_lose_nothing(empty_db: Database) -> None:
    table = Table("t", MetaData(), Column("n", Integer, primary_key=True), Column("v", Integer))
    with empty_db.write() as tx:
        table.create(tx.conn)
        tx.insert(table, {"n": 1, "v": 0})

    def add() -> None:
        for _ in range(25):
            with empty_db.write() as tx:
                tx.lock("counter")
                now = tx.execute(select(table.c.v)).scalar_one()
                tx.execute(table.update().values(v=now + 1))

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with empty_db.read() as conn:
        assert conn.execute(select(table.c.v)).scalar_one() == 100


def test_a_newer_or_older_schema_is_refused_with_the_command(tmp_path: Path, clock) -> None:
    db = Database(f"sqlite:///{tmp_path / 'm.db'}", clock)
    with pytest.raises(WorkspaceTooOld) as old:
        db.check_revision()
    assert old.value.hint.startswith("noria admin migrate")
    with db.write() as tx:
        tx.execute(text(f"PRAGMA user_version = {HEAD_REVISION + 1}"))
    with pytest.raises(WorkspaceTooNew) as new:
        db.check_revision()
    assert "upgrade" in new.value.hint
    db.close()


def test_a_file_that_is_no_database_is_reported_in_words(tmp_path: Path, clock) -> None:
    (tmp_path / "m.db").write_bytes(b"this is not a database at all" * 100)
    db = Database(f"sqlite:///{tmp_path / 'm.db'}", clock)
    with pytest.raises(DatabaseUnavailable, match="cannot be used"):
        db.revision()
    db.close()


def test_a_network_file_system_is_recognised_and_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/root / ext4 rw 0 0\nserver:/x {tmp_path} nfs4 rw 0 0\n")
    assert file_system_of(tmp_path / "deep", mounts) == "nfs4"
    assert file_system_of(Path("/elsewhere"), mounts) == "ext4"
    monkeypatch.setattr("noria.db.dialects.file_system_of", lambda _: "nfs4")
    with pytest.raises(NetworkFileSystem, match="nfs4"):
        Database(f"sqlite:///{tmp_path / 'm.db'}", None)  # type: ignore[arg-type]


def test_backup_is_a_whole_database(tmp_path: Path, clock) -> None:
    db = Database(f"sqlite:///{tmp_path / 'm.db'}", clock)
    upgrade(db)
    assert db.backup(tmp_path / "copy.db") == str(tmp_path / "copy.db")
    copy = Database(f"sqlite:///{tmp_path / 'copy.db'}", clock)
    copy.check_revision()
    copy.close()
    db.close()
