"""What the verbs of the room share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from noria.assets import Assets, Change, Changes, EvidenceLog, ProjectClock
from noria.base.clock import Clock
from noria.base.ids import ProjectId
from noria.db import Database, Tx
from noria.delivery import queries
from noria.delivery.errors import CandidateNotFound, NotApplied
from noria.delivery.records import JOB, OPEN, Candidate, CandidateState
from noria.jobs import Jobs
from noria.monitoring.service import Monitoring
from noria.pipelines.records import Definition
from noria.pipelines.service import Pipelines
from noria.registry import Registry
from noria.serving.records import Endpoint
from noria.serving.service import Serving
from noria.training.service import Training

EVALUATOR: Final = "noria.delivery.service:1"


@dataclass(slots=True, kw_only=True)
class Services:
    """What the room stands on."""

    db: Database
    project_id: ProjectId
    project: str
    url: str
    clock: Clock
    event_clock: ProjectClock
    assets: Assets
    changes: Changes
    evidence: EvidenceLog
    jobs: Jobs
    registry: Registry
    pipelines: Pipelines
    training: Training
    serving: Serving
    monitoring: Monitoring
    environment: Mapping[str, str]


class DeliveryBase:
    def __init__(self, services: Services) -> None:
        self._s = services
        self._db = services.db
        self._project_id = services.project_id

    def candidate(self, candidate_id: int, tx: Tx | None = None) -> Candidate:
        with self._db.read(tx) as conn:
            found = queries.candidate(conn, candidate_id)
        if found is None:
            raise CandidateNotFound(f"There is no candidate {candidate_id}.", hint="noria candidates")
        return found

    def candidates(self, *, model: str | None = None, only_open: bool = False, limit: int = 1000) -> list[Candidate]:
        """Oldest first."""
        with self._db.read() as conn:
            return queries.candidates(conn, self._project_id, model=model, only_open=only_open, limit=limit)

    def definition(self, model: str) -> Definition:
        """What was applied for a model.

        Raises:
            NotApplied: nothing was.
        """
        found = self._s.pipelines.definitions().get(model)
        if found is None or found.kind != "model":
            raise NotApplied(f"No model {model!r} was applied here.", hint="noria apply")
        return found

    def _now(self) -> int:
        return self._s.event_clock.event_ms(self._project_id)

    def _endpoint_of(self, model: str) -> Endpoint | None:
        found = self._s.serving.endpoints_of(model)
        return found[0] if found else None

    def _open(self, tx: Tx, model: str) -> Candidate | None:
        """The candidate of a model that is on its way: there is one at most (single flight)."""
        found = queries.candidates(tx.conn, self._project_id, model=model, only_open=True, limit=1)
        return found[0] if found else None

    def _begin(
        self,
        change: Change,
        model: str,
        *,
        trigger: str,
        reason: dict[str, Any],
        params: dict[str, Any],
        number: int | None = None,
        drill: bool = False,
        forced: bool = False,
    ) -> Candidate:
        """A new candidate, and the job that brings it on."""
        endpoint = self._endpoint_of(model)
        state = CandidateState.TRAINING if number is None else CandidateState.GATING
        values = {
            "model": model,
            "endpoint": "" if endpoint is None else endpoint.name,
            "trigger": trigger,
            "reason": reason,
            "params": params,
            "state": state.value,
            "number": number,
            "drill": drill,
            "forced": forced,
            "opened": change.event_ms,
        }
        made = queries.add_candidate(change.tx, self._project_id, values)
        payload = {"candidate": made}
        self._s.jobs.add(change.tx, self._project_id, JOB, payload, unique=f"{JOB}:{model}", max_attempts=10)
        change.note(model, trigger=trigger, candidate=made, **reason)
        change.event("candidate.opened", model, {"candidate": made, "trigger": trigger})
        found = queries.candidate(change.tx.conn, made)
        assert found is not None
        return found

    def _end(
        self, change: Change, candidate: Candidate, to: CandidateState, values: dict[str, Any] | None = None
    ) -> bool:
        """Moves a candidate; one that is at its end gets the event time."""
        full = dict(values or {})
        if to not in OPEN:
            full["ended"] = change.event_ms
        if not queries.move_candidate(change.tx, candidate.id, to, full):
            return False
        change.event(f"candidate.{to.value}", candidate.model, {"candidate": candidate.id, "number": candidate.number})
        return True
