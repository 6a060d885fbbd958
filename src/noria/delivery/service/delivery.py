"""The room's verbs."""

from __future__ import annotations

from typing import Any

from noria.base.actor import Actor
from noria.base.once import Once
from noria.base.times import DAY, parse_time
from noria.delivery.errors import NothingBefore
from noria.delivery.records import SYSTEM, Candidate
from noria.delivery.service.base import EVALUATOR
from noria.delivery.service.releases import Releases
from noria.pipelines.records import Definition
from noria.registry.records import CHAMPION
from noria.serving import link
from noria.serving.records import Deployment, Endpoint

STALE_DAYS = 120
"""A model whose training data ended this long ago raises an alert."""


class Delivery(Releases):
    """One per workspace."""

    def apply(self, *, actor: Actor) -> list[Definition]:
        """Writes down the project's definitions, and makes its endpoints; nothing is trained or released by it."""
        made = self._s.pipelines.apply(actor=actor)
        for found in made:
            if found.kind == "endpoint":
                policy = {key: found.spec.get(key) for key in ("p99_ms", "release", "follow")}
                self._s.serving.ensure(found.name, found.spec["model"], policy, actor=actor)
        return made

    # ---- event time has moved on

    def process(self, endpoint_name: str) -> None:
        """What has to be done for an endpoint when a day of event time is over: look, check, fire.

        May be repeated: a crash in the middle does the rest the next time.
        """
        endpoint = self._s.serving.get(endpoint_name)
        self._s.monitoring.process(endpoint_name)
        self.look(endpoint_name)
        now = self._now()
        self._s.monitoring.check_inputs(endpoint, (now - 1) // DAY * DAY)
        self._age(endpoint, now)
        definitions = self._s.pipelines.definitions()
        if endpoint.model in definitions:
            self.fire(endpoint.model)

    def _age(self, endpoint: Endpoint, now: int) -> None:
        """How old the serving model's data are."""
        champion = self._s.monitoring.champion(endpoint)
        if champion is None:
            return
        package, _ = self._s.monitoring.package(champion)
        end = package.window.get("end")
        if end is None:
            return
        age = (now - parse_time(end)) / DAY
        with self._s.changes.begin("delivery.age", self._project_id, SYSTEM) as change:
            change.note(endpoint.name, age_days=round(age, 2))
            details = {"age_days": round(age, 2), "limit_days": STALE_DAYS, "model": champion.model}
            self._s.evidence.record(
                change,
                "staleness",
                endpoint.name,
                passed=age <= STALE_DAYS,
                evaluator=EVALUATOR,
                version_id=champion.version_id,
                details=details,
            )
            text = f"{champion.model} learned from data that ended {age:.0f} days ago."
            self._s.monitoring.raise_or_close(change, age > STALE_DAYS, endpoint.name, "age", champion.model, text)

    # ---- back

    def previous(self, endpoint: Endpoint) -> Deployment:
        """The champion before this one, still loaded.

        Raises:
            NothingBefore: there was none, or it was retired.
        """
        found = self.way_back(endpoint)
        if found is None:
            raise NothingBefore(
                f"{endpoint.name!r} has no earlier champion that is still loaded.",
                hint=f"noria deploy {endpoint.model}/N --endpoint {endpoint.name}",
            )
        return found

    def rollback(
        self, endpoint_name: str, *, actor: Actor, drill: bool = False, once: Once | None = None
    ) -> tuple[str, str]:
        """Gives all traffic back to the champion before, in one transaction; returns (from, to)."""
        earlier = self._s.changes.answered("delivery.rollback", self._project_id, once)
        if earlier is not None:  # "the champion before" is the bad one by now
            return earlier["before"], earlier["after"]
        endpoint = self._s.serving.get(endpoint_name)
        self._no_release(endpoint)
        back = self.previous(endpoint)
        now = self._s.monitoring.champion(endpoint)
        assert now is not None
        with self._s.changes.begin("delivery.rollback", self._project_id, actor, once=once) as change:
            if change.earlier is not None:
                return change.earlier["before"], change.earlier["after"]
            change.answer({"before": now.model, "after": back.model})
            number = int(back.model.rpartition("/")[2])
            self._s.registry.move_alias(self._project_id, endpoint.model, CHAMPION, number, actor=actor, tx=change.tx)
            words = "rollback drill" if drill else "rollback"
            self._route_champion(change, endpoint, back.id, f"{words}: {back.model}")
            change.note(endpoint.name, before=now.model, after=back.model, drill=drill)
            change.event("champion.changed", endpoint.name, {"model": back.model, "before": now.model, "drill": drill})
        return now.model, back.model

    def rollback_now(
        self, endpoint_name: str, *, actor: Actor, drill: bool = False, once: Once | None = None
    ) -> dict[str, Any]:
        """Rolls back, waits until every worker answers with the version before, and keeps how long that took."""
        started = self._s.clock.now_ms()
        before, after = self.rollback(endpoint_name, actor=actor, drill=drill, once=once)
        info = self._s.jobs.lease_info(link.LEASE)
        if info is not None:
            link.call(info["socket"], "sync", 60)
        took = self._s.clock.now_ms() - started
        details = {"endpoint": endpoint_name, "before": before, "after": after, "ms": took, "drill": drill}
        waited = None if once is None else once.part("waited")
        with self._s.changes.begin("delivery.rolled_back", self._project_id, actor, once=waited) as change:
            if change.earlier is not None:
                return change.earlier
            change.answer(details)
            change.note(endpoint_name, **details)
            change.event("endpoint.rolled_back", endpoint_name, details)
            self._s.evidence.record(
                change, "rollback", endpoint_name, passed=info is not None, evaluator=EVALUATOR, details=details
            )
        return details

    def champions(self) -> dict[str, str]:
        """Endpoint -> the model version that is its champion."""
        made: dict[str, str] = {}
        for endpoint in self._s.serving.endpoints():
            found = self._s.monitoring.champion(endpoint)
            if found is not None:
                made[endpoint.name] = found.model
        return made

    def promotions(self) -> list[Candidate]:
        """Candidates that became champion in place of another one."""
        return [
            c
            for c in self.candidates()
            if c.state == "promoted" and c.verdict.get("kind") not in ("first", "no_endpoint")
        ]
