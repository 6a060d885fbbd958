"""Routes of training: adopting what a client of MLflow logged."""

from __future__ import annotations

from noria.base.ids import ProjectId
from noria.base.times import parse_duration
from noria.http import Call, Route
from noria.registry import Registry
from noria.registry.wire import find_version
from noria.training import wire as w
from noria.training.adopting import gates_of
from noria.training.service import Training


class TrainingRoutes:
    """Handlers of the room; each is one verb."""

    def __init__(self, training: Training, registry: Registry, project_id: ProjectId) -> None:
        self._training = training
        self._registry = registry
        self._project_id = project_id

    def adopt(self, call: Call) -> w.AdoptedOut:
        body: w.AdoptBody = call.body
        version = find_version(self._registry, self._project_id, body.model)
        settings = self._training.adoption.settings(
            version.model,
            on=body.on,
            target=body.target,
            key=None if body.key is None else tuple(body.key),
            task=body.task,
            proba=body.proba,
            after_ms=None if body.after is None else parse_duration(body.after),
            gates=None if body.gates is None else gates_of(body.gates),
        )
        made = self._training.adoption.adopt(version, actor=call.actor, settings=settings)
        return w.adopted_out(version.name, made)


def routes(training: Training, registry: Registry, project_id: ProjectId) -> list[Route]:
    r = TrainingRoutes(training, registry, project_id)
    return [
        Route(
            method="POST",
            path="/v1/adoptions",
            handler=r.adopt,
            permission="models.write",
            summary="Make a model that a client of MLflow logged one that is judged, served and monitored.",
            body=w.AdoptBody,
            answer=w.AdoptedOut,
            cli="noria adopt MODEL",
        ),
    ]
