"""What the verbs of the room share."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec

from noria.assets import Changes, EvidenceLog, ProjectClock
from noria.base.actor import Actor
from noria.base.ids import ProjectId
from noria.data import Data
from noria.db import Database
from noria.monitoring.labeller import Labeller
from noria.pipelines.service import Pipelines
from noria.serving.ingest import Ingest
from noria.serving.records import Deployment, Endpoint
from noria.serving.service import Serving
from noria.training.package import Package
from noria.training.service import Training

EVALUATOR: Final = "noria.monitoring.service:1"
SYSTEM: Final = Actor(name="system:monitoring", automatic=True)
COLUMNS: Final = ["id", "deployment", "model", "role", "answered", "at", "entity", "score", "error"]


class MonitoringBase:
    def __init__(
        self,
        db: Database,
        project_id: ProjectId,
        changes: Changes,
        evidence: EvidenceLog,
        event_clock: ProjectClock,
        data: Data,
        serving: Serving,
        training: Training,
        pipelines: Pipelines,
        ingest: Ingest,
        labeller: Labeller,
    ) -> None:
        self._db = db
        self._project_id = project_id
        self._changes = changes
        self._evidence = evidence
        self._event_clock = event_clock
        self._data = data
        self._serving = serving
        self._training = training
        self._pipelines = pipelines
        self.ingest = ingest
        self._labeller = labeller
        self._packages: dict[int, tuple[Package, dict[str, Any]]] = {}

    def package(self, deployment: Deployment) -> tuple[Package, dict[str, Any]]:
        """(package, reference) of what a deployment serves; read and verified once."""
        found = self._packages.get(deployment.id)
        if found is None:
            folder, _ = self._serving.folders(deployment)
            found = self._packages[deployment.id] = (self._training.package_in(folder), _reference(folder))
        return found

    def champion(self, endpoint: Endpoint) -> Deployment | None:
        """The deployment that the routing in force calls champion."""
        routing = self._serving.status(endpoint.name).routing
        return None if routing.champion is None else self._serving.deployment(routing.champion)


def _reference(folder: Path) -> dict[str, Any]:
    return msgspec.json.decode((folder / "reference.json").read_bytes())
