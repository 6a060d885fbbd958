"""An alias that an endpoint follows: whoever moves it asks for a release, through the gates (decision 8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from noria.assets import Change
from noria.assets.records import Event
from noria.base.ids import EventId
from noria.delivery import queries
from noria.delivery.records import SYSTEM
from noria.delivery.service.triggers import Triggers

if TYPE_CHECKING:
    from sqlalchemy import Connection


class Following(Triggers):
    def follow(self, event: Event) -> None:
        """Starts a release where an alias was moved to a version that does not serve.

        Delivery itself moves alias and traffic in one transaction, so its own moves find that version serving and
        start nothing. A move that comes while another candidate is on its way waits for the end of that one. Each
        move starts one release at most, however often its event is delivered; one that is refused is not repeated.
        """
        endpoint = self._endpoint_of(event.subject)
        alias = None if endpoint is None else endpoint.policy.get("follow")
        if alias is None or (event.type == "alias.moved" and event.payload["alias"] != alias):
            return
        move = event.id
        if event.type != "alias.moved":
            with self._db.read() as conn:
                move = EventId(self._mark(conn, event.subject, f"{alias}:waits"))
        with self._db.read() as conn:
            if move <= self._mark(conn, event.subject, alias):
                return
        with self._s.changes.begin("delivery.follow", self._project_id, SYSTEM) as change:
            if move > self._mark(change.tx.conn, event.subject, alias):
                self._follow(change, event.subject, alias, move)

    def _follow(self, change: Change, model: str, alias: str, move: EventId) -> None:
        number = self._s.registry.alias(self._project_id, model, alias, change.tx)
        endpoint = self._endpoint_of(model)
        champion = None if endpoint is None else self._s.monitoring.champion(endpoint)
        change.note(model, alias=alias, number=number)
        if number is not None and (champion is None or champion.model != f"{model}/{number}"):
            found = self._open(change.tx, model)
            if found is None:
                reason = {"alias": alias, "event": move}
                self._begin(change, model, trigger="follow", reason=reason, params={}, number=number)
            elif found.number != number:
                self._set(change, model, f"{alias}:waits", move)
                return
        self._set(change, model, alias, move)

    def _mark(self, conn: Connection, model: str, name: str) -> int:
        return queries.trigger_mark(conn, self._project_id, model, f"follow:{name}") or 0

    def _set(self, change: Change, model: str, name: str, move: EventId) -> None:
        queries.set_trigger_mark(change.tx, self._project_id, model, f"follow:{name}", move)
