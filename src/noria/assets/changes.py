"""Every writing verb runs inside a ``Change``: one transaction that also holds its audit row, its events and the
answer to its idempotency key (decisions 10, 11, 15; promise 4).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, select

from noria.assets import queries
from noria.assets import tables as t
from noria.assets.errors import KeyReused
from noria.assets.eventclock import ProjectClock
from noria.base import canonical
from noria.base.actor import Actor
from noria.base.faults import Faults, NoFaults
from noria.base.ids import EventId, ProjectId
from noria.base.once import Once
from noria.db import Database, Tx

Subscriptions = Mapping[str, tuple[str, ...]]
"""Which subscribers hear of which type of event. Put together in ``workspace``."""

Listens = Callable[[Connection, ProjectId, str], bool]
"""Whether a subscriber wants events of a type now. Asked in the transaction of the event."""


class Change:
    """An open change.

    Attributes:
        verb: what it does, for instance ``data.commit``.
        tx: the transaction; pass it to every verb that is part of this change.
        earlier: the stored answer of a request that was made before with the same key, else None. Return it then.
    """

    def __init__(
        self,
        verb: str,
        tx: Tx,
        project_id: ProjectId,
        actor: Actor,
        event_ms: int,
        subscriptions: Subscriptions,
        listens: Mapping[str, Listens],
    ) -> None:
        self.verb = verb
        self.tx = tx
        self.project_id = project_id
        self.actor = actor
        self.event_ms = event_ms
        self.earlier: Any = None
        self._subscriptions = subscriptions
        self._listens = listens
        self._subject = ""
        self._detail: dict[str, Any] = {}
        self._answer: Any = {}

    def note(self, subject: str, **detail: Any) -> None:
        """What the audit row says: about what, and with which values."""
        self._subject = subject
        self._detail.update(detail)

    def answer(self, value: Any) -> None:
        """The JSON value that a repeated request gets."""
        self._answer = value

    def event(self, kind: str, subject: str, payload: dict[str, Any] | None = None) -> EventId:
        """Appends an event and one delivery for each subscriber that listens."""
        event_id = self.tx.insert(
            t.events,
            {
                "project_id": self.project_id,
                "type": kind,
                "subject": subject,
                "payload": payload or {},
                "event_ms": self.event_ms,
                "created_at": self.tx.now_ms,
            },
        )
        for subscriber in self._subscriptions.get(kind, ()):
            listens = self._listens.get(subscriber)
            if listens is not None and not listens(self.tx.conn, self.project_id, kind):
                continue
            row = {"event_id": event_id, "subscriber": subscriber, "state": "waiting"}
            self.tx.insert(t.deliveries, {**row, "attempts": 0, "due_at": self.tx.now_ms, "token": 0})
        return EventId(event_id)

    @property
    def audit_subject(self) -> str:
        return self._subject

    @property
    def audit_detail(self) -> dict[str, Any]:
        return self._detail

    @property
    def stored_answer(self) -> Any:
        return self._answer


class Changes:
    """Opens changes. One per workspace."""

    def __init__(
        self, db: Database, clock: ProjectClock, subscriptions: Subscriptions, faults: Faults | None = None
    ) -> None:
        self._db = db
        self._clock = clock
        self._subscriptions = subscriptions
        self.listens: dict[str, Listens] = {}
        """Subscribers that do not always listen; the others hear of everything that they subscribed to."""
        self._faults = faults or NoFaults()

    @contextmanager
    def begin(
        self,
        verb: str,
        project_id: ProjectId,
        actor: Actor,
        *,
        once: Once | None = None,
        tx: Tx | None = None,
    ) -> Generator[Change]:
        """Opens a change; joins ``tx`` if the caller has one.

        Args:
            verb: for the audit log, for instance ``data.commit``.
            once: the caller's key and what was asked for under it; a second request with the key gets the first one's
                answer, and a key that comes back with another request is refused.

        Raises:
            KeyReused: the key was used for another request.
        """
        with self._db.write(tx) as open_tx:
            event_ms = self._clock.event_ms_in(open_tx, project_id)
            change = Change(verb, open_tx, project_id, actor, event_ms, self._subscriptions, self.listens)
            asked = "" if once is None else _asked(verb, once.request)
            if once is not None:
                change.earlier = self._earlier(open_tx, project_id, once.key, asked)
            yield change
            if change.earlier is not None:
                return
            self._faults.at(f"change.{verb}")
            _append_audit(open_tx, project_id, actor.name, verb, change.audit_subject, change.audit_detail)
            if once is not None:
                row = {"project_id": project_id, "key": once.key, "verb": verb, "request": asked}
                open_tx.insert(t.idempotency, {**row, "answer": change.stored_answer, "created_at": open_tx.now_ms})

    def answered(self, verb: str, project_id: ProjectId, once: Once | None) -> Any:
        """The stored answer of a request that was made before, else None.

        For verbs that look around before they open their change: a repeated request must not be judged by what the
        first one has changed.

        Raises:
            KeyReused: the key was used for another request.
        """
        if once is None:
            return None
        with self._db.read() as conn:
            return _stored(conn, project_id, once.key, _asked(verb, once.request))

    def _earlier(self, tx: Tx, project_id: ProjectId, key: str, asked: str) -> Any:
        tx.lock(f"key:{project_id}:{key}")
        return _stored(tx.conn, project_id, key, asked)


def _asked(verb: str, request: Any) -> str:
    return str(canonical.digest([verb, request]))


def _stored(conn: Connection, project_id: ProjectId, key: str, asked: str) -> Any:
    where = (t.idempotency.c.project_id == project_id, t.idempotency.c.key == key)
    row = conn.execute(select(t.idempotency).where(*where)).one_or_none()
    if row is None:
        return None
    if row.request != asked:
        raise KeyReused(
            f"The idempotency key {key!r} was used for another request ({row.verb}).",
            hint="Use a new key for a new request.",
        )
    return row.answer


def _append_audit(tx: Tx, project_id: ProjectId, actor: str, verb: str, subject: str, detail: dict[str, Any]) -> None:
    tx.lock(f"audit:{project_id}")
    prev = queries.last_audit_hash(tx.conn, project_id)
    row = {"at": tx.now_ms, "actor": actor, "verb": verb, "subject": subject, "detail": detail, "prev": prev}
    tx.insert(t.audit, {**row, "project_id": project_id, "hash": audit_hash(row)})


def audit_hash(row: Mapping[str, Any]) -> str:
    """The hash of an audit entry: BLAKE3 of its canonical form with the hash of the entry before it."""
    fields = {name: row[name] for name in ("at", "actor", "verb", "subject", "detail", "prev")}
    return canonical.digest(fields).hex
