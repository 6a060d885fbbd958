"""What starts a training without a person."""

from __future__ import annotations

from typing import Any

from noria.base.once import Once
from noria.base.times import parse_duration
from noria.delivery import queries
from noria.delivery.records import PERSONS, SYSTEM, Candidate
from noria.delivery.service.base import EVALUATOR, DeliveryBase
from noria.jobs.cron import next_after, parse_schedule
from noria.pipelines.records import Definition
from noria.serving.records import Endpoint
from noria.training.metrics import METRICS

_LEAST_ROWS = 200


class Triggers(DeliveryBase):
    def fire(self, model: str) -> Candidate | None:
        """Starts a training if a trigger is due, none is on its way, and the budget allows it."""
        definition = self.definition(model)
        now = self._now()
        due = self._due(definition, now)
        if not due:
            return None
        with self._s.changes.begin("delivery.trigger", self._project_id, SYSTEM) as change:
            tx = change.tx
            if self._open(tx, model) is not None:
                change.note(model, due=[d["kind"] for d in due], held="a candidate is on its way")
                return None
            refused = self._over_budget(tx.conn, definition, now)
            if refused:
                change.note(model, due=[d["kind"] for d in due], held=refused)
                return None
            first = due[0]
            for item in due:
                if item["kind"] == "every":
                    queries.set_trigger_mark(tx, self._project_id, model, f"every:{item['schedule']}", now)
            queries.set_trigger_mark(tx, self._project_id, model, "rows", self._labelled(model))
            reason = {"due": due}
            return self._begin(change, model, trigger=first["kind"], reason=reason, params=self._params(model))

    def train(
        self, model: str, *, actor: Any, params: dict[str, Any] | None = None, once: Once | None = None
    ) -> Candidate:
        """Starts a training because a person wants it."""
        self.definition(model)
        with self._s.changes.begin("delivery.train", self._project_id, actor, once=once) as change:
            if change.earlier is not None:
                return self.candidate(change.earlier["candidate"], change.tx)
            found = self._open(change.tx, model)
            if found is not None:
                change.note(model, candidate=found.id)
                change.answer({"candidate": found.id})
                return found
            given = params if params is not None else self._params(model)
            queries.set_trigger_mark(change.tx, self._project_id, model, "rows", self._labelled(model))
            made = self._begin(change, model, trigger="manual", reason={"actor": actor.name}, params=given)
            change.answer({"candidate": made.id})
            return made

    def _params(self, model: str) -> dict[str, Any]:
        """A retraining takes over the champion's hyperparameters."""
        endpoint = self._endpoint_of(model)
        champion = None if endpoint is None else self._s.monitoring.champion(endpoint)
        return {} if champion is None else dict(self._s.monitoring.package(champion)[0].params)

    # ---- what is due

    def _due(self, definition: Definition, now: int) -> list[dict[str, Any]]:
        """The triggers that are due, in the order in which they were declared, each with its numbers."""
        endpoint = self._endpoint_of(definition.name)
        made: list[dict[str, Any]] = []
        for when in definition.spec["options"]["retrain"]:
            found: dict[str, Any] | None
            if when["kind"] == "every":
                found = self._every(definition, when, now)
            elif endpoint is None:
                found = None
            elif when["kind"] == "drift":
                found = self._drift(endpoint, when, now)
            elif when["kind"] == "worse":
                found = self._worse(endpoint, when, now)
            else:
                found = self._new_rows(definition.name, when)
            if found is not None:
                made.append({"kind": when["kind"], **found})
        return made

    def _every(self, definition: Definition, when: dict[str, Any], now: int) -> dict[str, Any] | None:
        name = f"every:{when['schedule']}"
        with self._db.read() as conn:
            last = queries.trigger_mark(conn, self._project_id, definition.name, name)
        if last is None:  # the schedule begins when it is first seen
            with self._db.write() as tx:
                queries.set_trigger_mark(tx, self._project_id, definition.name, name, now)
            return None
        expression, zone = parse_schedule(when["schedule"])
        due = next_after(expression, zone, last)
        return {"schedule": when["schedule"], "at": due} if due <= now else None

    def _drift(self, endpoint: Endpoint, when: dict[str, Any], now: int) -> dict[str, Any] | None:
        champion = self._s.monitoring.champion(endpoint)
        if champion is None:
            return None
        score, features = self._s.monitoring.drift(endpoint.name, champion, now - parse_duration(when["window"]), now)
        wrong = score.n >= _LEAST_ROWS and score.psi >= when["value"]
        numbers = {
            "psi": round(score.psi, 6),
            "limit": when["value"],
            "rows": score.n,
            "window": when["window"],
            "features": {d.name: round(d.psi, 4) for d in features[:3]},
        }
        with self._s.changes.begin("monitor.drift", self._project_id, SYSTEM) as change:
            change.note(endpoint.name, psi=numbers["psi"], rows=score.n)
            text = f"The scores of {champion.model} have moved: PSI {score.psi:.3f} in {when['window']}."
            self._s.monitoring.raise_or_close(change, wrong, endpoint.name, "drift", champion.model, text, numbers)
        return numbers if wrong else None

    def _worse(self, endpoint: Endpoint, when: dict[str, Any], now: int) -> dict[str, Any] | None:
        champion = self._s.monitoring.champion(endpoint)
        if champion is None:
            return None
        package, _ = self._s.monitoring.package(champion)
        until = now - package.after_ms
        found = self._s.monitoring.accuracy(
            endpoint.name,
            since=until - parse_duration(when["window"]),
            until=until,
            deployment=champion.id,
            metrics=[package.primary],
        )
        if not found or package.primary not in found[0].metrics or found[0].labelled < _LEAST_ROWS:
            return None
        value, at_gate = found[0].metrics[package.primary], package.metrics[package.primary]
        better = METRICS[package.primary].better
        worse_by = (value["value"] - at_gate) / abs(at_gate) * -better if at_gate else 0.0
        sure = value["high"] < at_gate if better > 0 else value["low"] > at_gate
        wrong = worse_by >= when["value"] and sure
        numbers = {
            "metric": package.primary,
            "value": round(value["value"], 6),
            "low": round(value["low"], 6),
            "high": round(value["high"], 6),
            "at_gate": round(at_gate, 6),
            "worse_by": round(worse_by, 6),
            "limit": when["value"],
            "rows": found[0].labelled,
            "coverage": round(found[0].coverage, 6),
            "window": when["window"],
        }
        with self._s.changes.begin("monitor.accuracy", self._project_id, SYSTEM) as change:
            change.note(endpoint.name, worse_by=numbers["worse_by"])
            details = {**numbers, "estimate": numbers["value"], "model": champion.model}
            self._s.evidence.record(
                change,
                "quality",
                endpoint.name,
                passed=not wrong,
                evaluator=EVALUATOR,
                version_id=champion.version_id,
                details=details,
            )
            text = f"{champion.model}: {package.primary} {value['value']:.4f}, {worse_by:.0%} worse than at its gate."
            self._s.monitoring.raise_or_close(change, wrong, endpoint.name, "accuracy", champion.model, text, numbers)
        return numbers if wrong else None

    def _new_rows(self, model: str, when: dict[str, Any]) -> dict[str, Any] | None:
        count = self._labelled(model)
        with self._db.read() as conn:
            before = queries.trigger_mark(conn, self._project_id, model, "rows")
        if before is None:
            with self._db.write() as tx:
                queries.set_trigger_mark(tx, self._project_id, model, "rows", count)
            return None
        new = count - before
        return {"rows": new, "limit": int(when["value"])} if new >= when["value"] else None

    def _labelled(self, model: str) -> int:
        endpoint = self._endpoint_of(model)
        return 0 if endpoint is None else len(self._s.monitoring.truth(endpoint.name))

    # ---- budget

    def _over_budget(self, conn: Any, definition: Definition, now: int) -> str:
        """Why no training may start now; empty where one may."""
        budget = definition.spec["options"]["budget"]
        known = queries.candidates(conn, self._project_id, model=definition.name)
        past = [c for c in known if c.trigger not in PERSONS]
        if not past:
            return ""
        pause = past[-1].opened + parse_duration(budget["pause"])
        if now < pause:
            return f"the last one was less than {budget['pause']} ago"
        recent = [c for c in past if c.opened > now - parse_duration(budget["per"])]
        if len(recent) >= budget["runs"]:
            return f"{len(recent)} trainings in {budget['per']}, {budget['runs']} are allowed"
        return ""
