"""What takes the database too long is cut off, and nothing else is; both databases."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import text

from noria.db import Database
from noria.db.errors import ReadTooLong

ENDLESS = text("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n")
LONG = text("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000) SELECT count(*) FROM n")
"""Takes many times the limit of these tests."""


@pytest.fixture
def limited(empty_db: Database) -> Database:
    with empty_db.read() as conn:  # a connection of before the limit
        conn.execute(text("SELECT 1"))
    empty_db.limit_reads(0.005)
    return empty_db


def test_a_read_without_end_is_cut_off_and_the_connection_goes_on(limited: Database) -> None:
    with limited.limited():
        for _ in range(30):  # more often than there are connections
            with pytest.raises(ReadTooLong) as cut, limited.read() as conn:
                conn.execute(ENDLESS).all()
            assert "--read-timeout" in cut.value.hint
        with limited.read() as conn:
            assert conn.execute(text("SELECT 7")).scalar_one() == 7


def test_what_is_cut_off_while_its_rows_are_read_says_the_same(limited: Database) -> None:
    endless = text("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n WHERE i < 0")
    with limited.limited(), pytest.raises(ReadTooLong), limited.read() as conn:
        conn.execute(endless).first()


def test_other_reads_and_writes_take_as_long_as_they_need(limited: Database) -> None:
    with limited.limited(), pytest.raises(ReadTooLong), limited.read() as conn:
        conn.execute(LONG)
    for _ in range(3):  # on the connection that was cut off, too
        with limited.read() as conn:
            assert conn.execute(LONG).scalar_one() == 200_000
    with limited.limited(), limited.write() as tx:
        assert tx.conn.execute(LONG).scalar_one() == 200_000
        with limited.read(tx) as conn:
            assert conn.execute(LONG).scalar_one() == 200_000


def test_the_limit_is_of_one_thread_and_ends_with_its_block(limited: Database) -> None:
    found: list[int] = []

    def other() -> None:
        with limited.read() as conn:
            found.append(conn.execute(LONG).scalar_one())

    with limited.limited():
        with limited.limited():
            pass
        with pytest.raises(ReadTooLong), limited.read() as conn:
            conn.execute(LONG)
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    other()
    assert found == [200_000, 200_000]


def test_without_a_limit_nothing_is_cut_off(empty_db: Database) -> None:
    with empty_db.limited(), empty_db.read() as conn:
        assert conn.execute(LONG).scalar_one() == 200_000


def test_a_copy_takes_as_long_as_it_needs(limited: Database, tmp_path_factory: pytest.TempPathFactory) -> None:
    with limited.write() as tx:
        tx.conn.execute(text("CREATE TABLE filled AS " + LONG.text.replace("count(*)", "i")))
    with limited.limited(), limited.read() as conn:
        conn.execute(text("SELECT 1"))
    made = limited.backup(tmp_path_factory.mktemp("copy") / "meta.db")
    assert (made is not None) == limited.url.startswith("sqlite")
    if made is not None:
        limited.vacuum()
