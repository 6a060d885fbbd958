from __future__ import annotations

import importlib
import sqlite3
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Column, Integer, MetaData, Table, Text, select, text

import noria
from noria.base.errors import DiskFull
from noria.db import Database, metadata, migrate
from noria.db.dialects import file_system_of
from noria.db.engine import HEAD_REVISION
from noria.db.errors import DatabaseUnavailable, NetworkFileSystem, ValueUnfit, WorkspaceTooNew, WorkspaceTooOld
from noria.db.migrate import head, upgrade
from noria.testing import ManualClock


def all_tables() -> None:
    for path in Path(noria.__file__).parent.glob("*/tables.py"):
        importlib.import_module(f"noria.{path.parent.name}.tables")
    importlib.import_module("noria.tracking.traces.tables")


def test_migrations_make_exactly_the_tables_of_the_code(empty_db: Database) -> None:
    all_tables()
    assert upgrade(empty_db) == (0, HEAD_REVISION)
    assert int(head()) == HEAD_REVISION
    with empty_db.read() as conn:
        context = MigrationContext.configure(conn, opts={"compare_type": True})
        only_there = () if conn.dialect.name == "postgresql" else ("ix_latest_metrics_key_id_run_no",)
        found = compare_metadata(context, metadata)
        assert [d for d in found if not (d[0] == "add_index" and d[1].name in only_there)] == []
        assert len(found) == len(only_there)
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


def test_a_full_disk_is_said_and_nothing_is_changed(tmp_path: Path, clock) -> None:
    db = Database(f"sqlite:///{tmp_path / 'm.db'}", clock)
    table = Table("t", MetaData(), Column("n", Integer, primary_key=True), Column("v", Text))
    with db.write() as tx:
        table.create(tx.conn)
        pages = tx.execute(text("PRAGMA page_count")).scalar_one()
        tx.execute(text(f"PRAGMA max_page_count = {pages + 2}"))
    with pytest.raises(DiskFull, match="disk is full") as error, db.write() as tx:
        tx.insert(table, {"n": 1, "v": "small"})
        tx.insert(table, {"n": 2, "v": "x" * 100_000})
    assert error.value.hint.startswith("Free some space")
    with db.write() as tx:
        assert tx.execute(select(table)).all() == []
        tx.execute(text("PRAGMA max_page_count = 100000"))
        tx.insert(table, {"n": 2, "v": "x" * 100_000})
    db.close()


def test_a_backup_onto_a_full_disk_is_said(tmp_path: Path, clock, monkeypatch: pytest.MonkeyPatch) -> None:
    db = Database(f"sqlite:///{tmp_path / 'm.db'}", clock)

    class Full:
        def __init__(self) -> None:
            self.info = {"noria_until": [0.0]}

        def cursor(self) -> Full:
            return self

        def execute(self, *_: object) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        def close(self) -> None:
            return

    monkeypatch.setattr(db.engine, "raw_connection", Full)
    with pytest.raises(DiskFull):
        db.backup(tmp_path / "copy.db")
    db.close()


def test_a_value_that_no_column_holds_is_the_callers_mistake(empty_db: Database) -> None:
    table = Table("t", MetaData(), Column("n", Integer, primary_key=True), Column("v", Text))
    with empty_db.write() as tx:
        table.create(tx.conn)
    if empty_db.url.startswith("sqlite"):
        with empty_db.write() as tx:
            tx.insert(table, {"n": 1, "v": "x"})
        with pytest.raises(ValueUnfit, match="too complex"), empty_db.read() as conn:
            conn.execute(select(table).where(table.c.v.like("x" * 70_000))).all()
        return
    with pytest.raises(ValueUnfit, match="NUL"), empty_db.write() as tx:
        tx.insert(table, {"n": 1, "v": "a\0b"})
    with pytest.raises(ValueUnfit, match="NUL"), empty_db.read() as conn:
        conn.execute(select(table).where(table.c.v == "a\0b")).all()
    with pytest.raises(ValueUnfit, match="out of range"), empty_db.write() as tx:
        tx.insert(table, {"n": 1 << 40, "v": "x"})


def test_a_relaxed_transaction_is_there_like_any_other_and_the_next_is_durable_again(empty_db: Database) -> None:
    table = Table("t", MetaData(), Column("n", Integer, primary_key=True))
    levels = {"sqlite": ("PRAGMA synchronous", 1, 2), "postgresql": ("SHOW synchronous_commit", "off", "on")}
    show, relaxed, durable = levels[empty_db.engine.dialect.name]
    with empty_db.write() as tx:
        table.create(tx.conn)
        assert tx.execute(text(show)).scalar_one() == durable
    with empty_db.write(durable=False) as tx:
        tx.insert(table, {"n": 1})
        assert tx.execute(text(show)).scalar_one() == relaxed
    with empty_db.write() as tx:
        assert tx.execute(text(show)).scalar_one() == durable
        assert tx.execute(select(table.c.n)).scalars().all() == [1]


def test_keys_of_new_rows(empty_db: Database) -> None:
    table = Table("t", MetaData(), Column("id", Integer, primary_key=True), Column("v", Text, unique=True))
    with empty_db.write() as tx:
        table.create(tx.conn)
        first, again = (tx.insert_new_key(table, {"v": "a"}) for _ in range(2))
        tx.insert_new_many(table, [{"v": "a"}, {"v": "b"}])
        tx.insert_new_many(table, [])
    assert again is None
    with empty_db.read() as conn:
        rows = dict(conn.execute(select(table.c.v, table.c.id)).all())
    assert set(rows) == {"a", "b"}
    assert rows["a"] == first


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


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_the_quick_tables_of_the_tests_are_those_of_the_migrations(
    request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock, kind: str
) -> None:
    def dump(db: Database) -> dict[str, list[str]]:
        with db.read() as conn:
            if kind == "sqlite":
                rows = conn.execute(text("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"))
                return {"all": [str(tuple(row)) for row in rows], "version": [str(db.dialect.revision(conn))]}
            indexes = conn.execute(text("SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1"))
            columns = conn.execute(
                text(
                    "SELECT table_name, column_name, ordinal_position, data_type, is_nullable, column_default"
                    " FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2"
                )
            )
            limits = conn.execute(
                text(
                    "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
                    " WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2"
                )
            )
            found = {"indexes": indexes, "columns": columns, "limits": limits}
            return {what: [str(tuple(row)) for row in rows] for what, rows in found.items()} | {
                "version": [str(db.dialect.revision(conn))]
            }

    def filled(name: str, fill: Callable[[Database], tuple[int, int]]) -> dict[str, list[str]]:
        url = request.getfixturevalue(name) if kind == "postgres" else f"sqlite:///{tmp_path / uuid.uuid4().hex}"
        db = Database(url, clock)
        assert (db.revision(), fill(db)) == (0, (0, HEAD_REVISION))
        found = dump(db)
        db.close()
        return found

    real = filled("bare_postgres_url", upgrade)  # bound when this module was imported: Alembic's own
    assert migrate.upgrade is not upgrade
    if kind == "sqlite":
        filled("", migrate.upgrade)  # the first of a session is Alembic's too
    assert filled("postgres_url", migrate.upgrade) == real
    assert len(str(real)) > 10_000


@pytest.mark.postgres
def test_connections_whose_server_ended_them_are_replaced(bare_postgres_url: str, clock: ManualClock) -> None:
    db, other = Database(bare_postgres_url, clock), Database(bare_postgres_url, clock)
    try:
        with db.read() as one, db.read() as two, other.write() as tx:
            pids = [conn.execute(text("SELECT pg_backend_pid()")).scalar_one() for conn in (one, two)]
            one.commit(), two.commit()
            for pid in pids:
                assert tx.conn.execute(text(f"SELECT pg_terminate_backend({pid}, 5000)")).scalar_one()
        for _ in range(3):
            with db.read() as one, db.write() as tx:
                assert one.execute(text("SELECT 7")).scalar_one() == 7
                assert tx.conn.execute(text("SELECT pg_backend_pid()")).scalar_one() not in pids
    finally:
        db.close()
        other.close()
