"""Group commit on both databases: one refusal among many is undone alone, and says so to its caller only."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, select

from noria.db import Database, Tx
from noria.db.group import GroupWriter

ROWS = Table("r", MetaData(), Column("n", Integer, primary_key=True))


@pytest.fixture
def writer(empty_db: Database) -> Iterator[GroupWriter]:
    with empty_db.write() as tx:
        ROWS.create(tx.conn)
    made = GroupWriter(empty_db)
    yield made
    made.close()


def rows(db: Database) -> list[int]:
    with db.read() as conn:
        return sorted(conn.execute(select(ROWS.c.n)).scalars())


def insert(n: int) -> Callable[[Tx], int]:
    def work(tx: Tx) -> int:
        tx.insert(ROWS, {"n": n})
        if n < 0:
            raise ZeroDivisionError
        return n

    return work


def many(tx: Tx, items: list[int]) -> list[Exception | None]:
    for n in items:
        insert(n)(tx)
    return [ValueError() if n == 100 else None for n in items]


def in_one_group(db: Database, writer: GroupWriter, hand_in: Callable[[], list[Future[Any]]]) -> list[Any]:
    """Results, or the classes of errors, of what is handed in while another transaction holds the group up."""
    with db.write() as tx:
        tx.lock("held")
        first = writer.submit(lambda _: None, lock="held")
        waiting = hand_in()
    first.result()
    return [type(f.exception()) if f.exception() else f.result() for f in waiting]


@pytest.mark.parametrize("bad", [-1, 1])
def test_what_raises_is_undone_alone(empty_db: Database, writer: GroupWriter, bad: int) -> None:
    """-1 raises by itself; the second 1 is refused by the database, which ends a transaction of PostgreSQL."""
    found = in_one_group(empty_db, writer, lambda: [writer.submit(insert(n)) for n in (1, 2, bad, 3)])
    assert found[:2] + found[3:] == [1, 2, 3]
    assert isinstance(found[2], type)
    assert rows(empty_db) == [1, 2, 3]


def test_items_of_one_kind_are_written_in_one_call_or_each_alone(empty_db: Database, writer: GroupWriter) -> None:
    found = in_one_group(empty_db, writer, lambda: [writer.submit_item(many, n) for n in (1, 100, 2)])
    assert found == [None, ValueError, None]
    found = in_one_group(
        empty_db, writer, lambda: [writer.submit(insert(7)), *(writer.submit_item(many, n) for n in (3, -4, 5))]
    )
    assert found == [7, None, ZeroDivisionError, None]
    assert rows(empty_db) == [1, 2, 3, 5, 7, 100]


def test_one_that_raises_hears_it_and_the_next_is_written(empty_db: Database, writer: GroupWriter) -> None:
    with pytest.raises(ZeroDivisionError):
        writer.submit(insert(-1)).result()
    with pytest.raises(ZeroDivisionError):
        writer.submit_item(many, -1).result()
    assert writer.submit(insert(1), lock="a").result() == 1
    assert rows(empty_db) == [1]


def test_what_a_caller_gave_up_is_not_written_and_the_writer_goes_on(empty_db: Database, writer: GroupWriter) -> None:
    """A server that ends cancels what its clients wait for."""
    entered, go_on = threading.Event(), threading.Event()

    def slow(tx: Tx) -> None:
        entered.set()
        go_on.wait(10)

    first = writer.submit(slow)
    assert entered.wait(10)
    begun, given_up = first.cancel(), writer.submit(insert(1))
    assert given_up.cancel()
    go_on.set()
    assert (begun, first.result(10)) == (False, None)  # what is begun cannot be given up
    assert writer.submit(insert(2)).result(10) == 2
    assert rows(empty_db) == [2]
