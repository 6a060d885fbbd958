"""The verbs of webhooks. What is sent, and how, is in ``sending``."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final, Protocol

from sqlalchemy import delete, update

from noria.assets import Changes, Deliveries
from noria.assets.records import Event
from noria.base.actor import Actor
from noria.base.ids import ProjectId
from noria.base.pages import Page, check_limit, number_position, token
from noria.db import Database
from noria.webhooks import queries
from noria.webhooks import tables as t
from noria.webhooks.errors import WebhookInvalid, WebhookNotFound
from noria.webhooks.records import Outcome, Webhook
from noria.webhooks.targets import target

SUBSCRIBER: Final = "webhooks.share"
"""Hears of an event first, and hands it to the webhooks that want it."""

_EACH: Final = "webhook:"
_MOST: Final = 100
_TEXT: Final = {"name": 63, "description": 4_096, "secret": 1_024}


class Tester(Protocol):
    """Sends an example; a ``Sender`` is one."""

    def test(self, webhook: Webhook, event: str) -> Future[Outcome]: ...


class Webhooks:
    """One per workspace.

    Attributes:
        sender: of this process, None where no server runs in it: nothing is sent then.
    """

    def __init__(self, db: Database, changes: Changes, deliveries: Deliveries) -> None:
        self._db = db
        self._changes = changes
        self._deliveries = deliveries
        self.sender: Tester | None = None

    # ---- what people change

    def create(
        self,
        project_id: ProjectId,
        *,
        name: str,
        url: str,
        events: tuple[str, ...],
        kinds: tuple[str, ...],
        actor: Actor,
        description: str = "",
        secret: str | None = None,
        active: bool = True,
    ) -> Webhook:
        """A new webhook.

        Raises:
            WebhookInvalid: a value is not allowed, or there are a hundred already.
        """
        values = _checked(name=name, url=url, events=events, kinds=kinds, description=description, secret=secret)
        id = str(uuid.uuid4())
        with self._changes.begin("webhooks.create", project_id, actor) as change:
            tx = change.tx
            tx.lock(f"webhooks:{project_id}")
            if queries.count(tx.conn, project_id) >= _MOST:
                raise WebhookInvalid(f"There are {_MOST} webhooks already.", hint="Delete one that nobody needs.")
            row = {**values, "id": id, "project_id": project_id, "active": active, "last_error": ""}
            tx.insert(t.webhooks, {**row, "created_at": tx.now_ms, "updated_at": tx.now_ms, "sent": 0, "failed": 0})
            change.note(id, name=name, to=str(target(url).place), events=list(events))
        return self.get(project_id, id)

    def get(self, project_id: ProjectId, id: str) -> Webhook:
        with self._db.read() as conn:
            found = queries.webhook(conn, project_id, id)
        if found is None:
            raise WebhookNotFound(id)
        return found

    def list(self, project_id: ProjectId, *, limit: int = 100, after: str | None = None) -> Page[Webhook]:
        """Newest first."""
        check_limit(limit)
        with self._db.read() as conn:
            found = queries.newest(conn, project_id, limit + 1, number_position(after))
        return Page(items=found[:limit], next=token(found[limit - 1].no) if len(found) > limit else None)

    def update(self, project_id: ProjectId, id: str, *, actor: Actor, **values: Any) -> Webhook:
        """Changes what is given of name, url, events with kinds, description, secret, active.

        Raises:
            WebhookNotFound: there is no such webhook.
            WebhookInvalid: a value is not allowed.
        """
        changed = _checked(**values)
        with self._changes.begin("webhooks.update", project_id, actor) as change:
            if queries.webhook(change.tx.conn, project_id, id) is None:
                raise WebhookNotFound(id)
            statement = update(t.webhooks).where(t.webhooks.c.id == id)
            change.tx.execute(statement.values(**changed, updated_at=change.tx.now_ms))
            change.note(id, changed=sorted(changed))
        return self.get(project_id, id)

    def delete(self, project_id: ProjectId, id: str, *, actor: Actor) -> None:
        """Removes it; what waits for it is not sent any more."""
        with self._changes.begin("webhooks.delete", project_id, actor) as change:
            found = queries.webhook(change.tx.conn, project_id, id)
            if found is None:
                raise WebhookNotFound(id)
            change.tx.execute(delete(t.webhooks).where(t.webhooks.c.id == id))
            self._deliveries.forget(change.tx, _EACH + id)
            change.note(id, name=found.name)

    # ---- events

    def share(self, event: Event) -> None:
        """Hands an event on to each webhook that hears of its type; each has its own deliveries, tries and order."""
        with self._db.read() as conn:
            if not queries.hearing(conn, event.project_id, event.type):
                return
        with self._db.write() as tx:  # looked up again: one that is deleted meanwhile gets nothing
            found = queries.hearing(tx.conn, event.project_id, event.type)
            self._deliveries.hand_on(tx, event, [_EACH + id for id in found])

    def handlers(self, project_id: ProjectId, send: Callable[[str, Event], None]) -> dict[str, Callable[[Event], None]]:
        """For ``Deliveries.run_due``: each webhook's subscriber, with what sends an event to it."""
        with self._db.read() as conn:
            found = queries.ids(conn, project_id)
        return {_EACH + id: lambda event, id=id: send(id, event) for id in found}

    def keep(self, project_id: ProjectId, id: str, outcome: Outcome) -> None:
        """Writes down what came of a message."""
        c = t.webhooks.c
        counts = {"sent": c.sent + 1} if outcome.arrived else {"failed": c.failed + 1}
        values = {**counts, "last_status": outcome.status, "last_error": outcome.error[:500]}
        with self._db.write() as tx:
            where = (c.id == id, c.project_id == project_id)
            tx.execute(update(t.webhooks).where(*where).values(**values, last_at=tx.now_ms))

    def test(self, project_id: ProjectId, id: str, event: str | None = None) -> Future[Outcome]:
        """Sends an example of an event (the first that it hears of) now; the future says what came of it.

        Raises:
            WebhookNotFound: there is no such webhook.
        """
        found = self.get(project_id, id)
        if self.sender is not None:
            return self.sender.test(found, event or found.events[0])
        done: Future[Outcome] = Future()
        place = target(found.url).place
        done.set_result(Outcome(error=f"Webhooks are sent by a server only: noria up --webhook-host {place}"))
        return done


def _checked(**values: Any) -> dict[str, Any]:
    """The values as the table has them."""
    for field, most in _TEXT.items():
        text = values.get(field)
        if text is not None and len(text) > most:
            raise WebhookInvalid(f"The {field} of a webhook has {len(text)} characters; {most} are allowed.")
    if values.get("url") is not None:
        target(values["url"])
    for field in ("events", "kinds"):
        if field in values:
            if not values[field]:
                raise WebhookInvalid("A webhook has to hear of at least one event.")
            values[field] = sorted(set(values[field])) if field == "kinds" else list(dict.fromkeys(values[field]))
    return values
