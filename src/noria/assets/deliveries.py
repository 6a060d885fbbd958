"""Events reach their subscribers: at least once, in order for each subscriber, after a crash too (decision 11)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sqlalchemy import func, select, update

from noria.assets import queries
from noria.assets import tables as t
from noria.assets.records import Event
from noria.base.clock import Clock
from noria.base.errors import NoriaError
from noria.base.ids import ProjectId
from noria.base.times import MINUTE, SECOND
from noria.db import Database, Tx

Handler = Callable[[Event], None]
"""Called with an event; must be idempotent by ``event.id``. Raises to be called again later."""

_LEASE = 5 * MINUTE
_ATTEMPTS = 8


class Deliveries:
    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    def waiting(self) -> int:
        """How many deliveries are neither done nor given up."""
        with self._db.read() as conn:
            where = t.deliveries.c.state.in_(("waiting", "leased"))
            return int(conn.execute(select(func.count()).select_from(t.deliveries).where(where)).scalar_one())

    def run_due(self, handlers: Mapping[str, Handler], limit: int = 100, *, project_id: ProjectId | None = None) -> int:
        """Delivers what is due (of one project), oldest event first; returns how many were tried."""
        tried = 0
        while tried < limit:
            claimed = self._claim(list(handlers), project_id)
            if claimed is None:
                break
            event, subscriber, token, attempts = claimed
            tried += 1
            try:
                handlers[subscriber](event)
            except NoriaError as error:
                self._again(event, subscriber, token, attempts, str(error))
            except Exception as error:  # noqa: BLE001 - one broken handler must not stop the others
                self._again(event, subscriber, token, attempts, f"{type(error).__name__}: {error}")
            else:
                self._finish(event, subscriber, token, "done", None)
        return tried

    def hand_on(self, tx: Tx, event: Event, subscribers: Sequence[str]) -> None:
        """One more delivery of an event for each of these subscribers; who has it already gets no second one."""
        for subscriber in subscribers:
            row = {"event_id": event.id, "subscriber": subscriber, "state": "waiting"}
            tx.insert_new(t.deliveries, {**row, "attempts": 0, "due_at": tx.now_ms, "token": 0, "error": None})

    def forget(self, tx: Tx, subscriber: str) -> None:
        """Gives up what waits for a subscriber that is no more."""
        c = t.deliveries.c
        where = (c.subscriber == subscriber, c.state.in_(("waiting", "leased")))
        tx.execute(update(t.deliveries).where(*where).values(state="done", token=c.token + 1))

    def _claim(self, subscribers: list[str], project_id: ProjectId | None = None) -> tuple[Event, str, int, int] | None:
        now, c = self._clock.now_ms(), t.deliveries.c
        mine = c.subscriber.in_(subscribers)
        if project_id is not None:
            mine &= c.event_id.in_(select(t.events.c.id).where(t.events.c.project_id == project_id))
        due = c.state.in_(("waiting", "leased")) & (c.due_at <= now) & mine
        with self._db.read() as conn:
            if conn.execute(select(c.event_id).where(due).limit(1)).one_or_none() is None:
                return None
        with self._db.write() as tx:
            # A later event waits for an earlier one of the same subscriber that failed and is not due yet.
            first = (
                select(c.subscriber, func.min(c.event_id).label("event_id"))
                .where(c.state.in_(("waiting", "leased")), mine)
                .group_by(c.subscriber)
                .subquery()
            )
            found = tx.execute(
                select(t.deliveries)
                .join(first, (first.c.subscriber == c.subscriber) & (first.c.event_id == c.event_id))
                .where(due)
                .order_by(c.event_id, c.subscriber)
                .limit(1)
            ).one_or_none()
            if found is None:
                return None
            same = (
                c.event_id == found.event_id,
                c.subscriber == found.subscriber,
                c.token == found.token,
            )
            token = found.token + 1
            values = {"state": "leased", "token": token, "due_at": now + _LEASE, "attempts": found.attempts + 1}
            if tx.execute(update(t.deliveries).where(*same).values(**values)).rowcount != 1:
                return None
            row = tx.execute(select(t.events).where(t.events.c.id == found.event_id)).one()
        return queries.event_of(row), found.subscriber, token, found.attempts + 1

    def _finish(self, event: Event, subscriber: str, token: int, state: str, error: str | None) -> None:
        with self._db.write() as tx:
            c = t.deliveries.c
            same = (c.event_id == event.id, c.subscriber == subscriber, c.token == token)
            tx.execute(update(t.deliveries).where(*same).values(state=state, error=error))

    def _again(self, event: Event, subscriber: str, token: int, attempts: int, error: str) -> None:
        if attempts >= _ATTEMPTS:
            self._finish(event, subscriber, token, "dead", error[:2000])
            return
        due = self._clock.now_ms() + min(10 * MINUTE, SECOND * 2**attempts)
        with self._db.write() as tx:
            c = t.deliveries.c
            same = (c.event_id == event.id, c.subscriber == subscriber, c.token == token)
            tx.execute(update(t.deliveries).where(*same).values(state="waiting", due_at=due, error=error[:2000]))

    def dead(self) -> list[tuple[Event, str, str]]:
        """Deliveries that were given up: (event, subscriber, error)."""
        with self._db.read() as conn:
            rows = conn.execute(
                select(t.events, t.deliveries.c.subscriber, t.deliveries.c.error)
                .join(t.deliveries, t.deliveries.c.event_id == t.events.c.id)
                .where(t.deliveries.c.state == "dead")
                .order_by(t.events.c.id)
            ).all()
        return [(queries.event_of(row), row.subscriber, row.error or "") for row in rows]
