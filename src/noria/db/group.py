"""Group commit: what many callers write at the same time is made durable by one commit.

Each caller hands in a function of an open transaction. One thread takes all that wait, runs them one after the other
inside one transaction, and commits once. A function that raises is undone alone, and so it must not matter that a
function was called before in a transaction that was undone. Nobody gets an answer before the commit is on the disk, so
what was acknowledged is there after a crash.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from noria.base.errors import Unavailable

if TYPE_CHECKING:
    from noria.db.engine import Database
    from noria.db.tx import Tx

T = TypeVar("T")

_MOST: Final = 256
"""Writes in one transaction: it should not hold up writers of other processes for long."""


class WriterClosed(Unavailable):
    """The process ends; nothing more is written."""

    code = "writer_closed"


Together = Callable[["Tx", list[Any]], "list[Exception | None]"]
"""Writes many things of one kind; says of each what went wrong with it alone."""


@dataclass(slots=True)
class _Write:
    """``work`` for one, or an ``item`` that ``together`` writes with others of its kind."""

    work: Callable[[Tx], Any] | None
    lock: str | None
    together: Together | None = None
    item: Any = None
    done: Future[Any] = field(default_factory=Future[Any])


class GroupWriter:
    """One per database and process. Thread-safe; its thread starts with the first write."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._waiting: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._closed = False

    def submit(self, work: Callable[[Tx], T], *, lock: str | None = None) -> Future[T]:
        """Runs ``work`` in a transaction with others; the future ends when that is durable, or with what it raised.

        Args:
            lock: a name that the transaction locks first (see ``Tx.lock``). The locks of a group are taken in one
                order, so two processes never wait for each other; ``work`` must take no other lock by itself.
        """
        return self._put(_Write(work, lock))

    def submit_item(self, together: Together, item: Any, *, lock: str | None = None) -> Future[None]:
        """Writes ``item`` in one call of ``together`` with all others of its kind that wait; else like ``submit``."""
        return self._put(_Write(None, lock, together, item))

    def _put(self, write: _Write) -> Future[Any]:
        if self._thread is None:
            self._start()
        if self._closed:
            raise WriterClosed("The server is about to end.", hint="Try again in a moment.")
        self._waiting.put(write)
        return write.done

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="group-writer", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Ends after everything that waits was written."""
        self._closed = True
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join()

    def _run(self) -> None:
        ending = False
        while not ending:
            first = self._waiting.get()
            writes: list[_Write] = []
            ending = first is None
            if first is not None:
                writes.append(first)
            while len(writes) < _MOST:
                try:
                    more = self._waiting.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    ending = True
                else:
                    writes.append(more)
            # What a caller has given up is not written, and what is begun cannot be given up any more: else this
            # thread would end on telling it, and everybody behind it would wait for ever.
            writes = [write for write in writes if write.done.set_running_or_notify_cancel()]
            if writes:
                self._write(writes)

    def _write(self, writes: list[_Write]) -> None:
        try:
            try:
                outcomes = self._together(writes, _at_once)
            except _Refused as refused:
                if len(writes) == 1:
                    writes[0].done.set_exception(refused.error)
                    return
                # Nothing of it was written. Once more, each behind a savepoint, which costs two statements.
                outcomes = self._together(writes, _apart)
        except BaseException as error:  # noqa: BLE001 - the commit failed: nothing was written, everybody hears it
            for write in writes:
                write.done.set_exception(error)
            return
        for write, result, error in outcomes:
            if error is None:
                write.done.set_result(result)
            else:
                write.done.set_exception(error)

    def _together(self, writes: list[_Write], how: Callable[[Tx, list[_Write]], list[_Outcome]]) -> list[_Outcome]:
        with self._db.write(locks=sorted({w.lock for w in writes if w.lock is not None})) as tx:
            return how(tx, writes)


class _Refused(Exception):
    """One of many raised ``error``."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


def _at_once(tx: Tx, writes: list[_Write]) -> list[_Outcome]:
    """All of them as if nothing could go wrong.

    Raises:
        _Refused: something did, and the transaction is of no use any more.
    """
    outcomes: list[_Outcome] = []
    try:
        for kind, those in _kinds(writes):
            outcomes += [(w, None, e) for w, e in zip(those, kind(tx, [w.item for w in those]), strict=True)]
        outcomes += [(w, w.work(tx), None) for w in writes if w.work is not None]
    except Exception as error:
        raise _Refused(error) from error
    return outcomes


def _apart(tx: Tx, writes: list[_Write]) -> list[_Outcome]:
    """Each so that what it raises undoes it alone."""
    outcomes: list[_Outcome] = []
    for kind, those in _kinds(writes):
        outcomes += [_one(tx, w, lambda tx, item=w.item, kind=kind: _alone(tx, kind, item)) for w in those]
    return outcomes + [_one(tx, w, w.work) for w in writes if w.work is not None]


def _kinds(writes: list[_Write]) -> list[tuple[Together, list[_Write]]]:
    kinds = dict.fromkeys(w.together for w in writes if w.together is not None)
    return [(kind, [w for w in writes if w.together == kind]) for kind in kinds]


def _one(tx: Tx, write: _Write, work: Callable[[Tx], Any]) -> _Outcome:
    try:
        with tx.savepoint():
            return write, work(tx), None
    except Exception as error:  # noqa: BLE001 - it goes to the caller who handed it in
        return write, None, error


def _alone(tx: Tx, together: Together, item: Any) -> None:
    (error,) = together(tx, [item])
    if error is not None:
        raise error


_Outcome = tuple[_Write, Any, "BaseException | None"]
