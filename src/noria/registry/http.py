"""Routes of registered models."""

from __future__ import annotations

from typing import Any

import msgspec

from noria.base.ids import ProjectId
from noria.http import Call, Route
from noria.registry import Registry
from noria.registry import wire as w


class ModelRoutes:
    """Handlers of the room; each is one verb."""

    def __init__(self, registry: Registry, project_id: ProjectId) -> None:
        self._registry = registry
        self._project_id = project_id

    def models(self, _: Call) -> w.ModelPage:
        return w.ModelPage([w.model_out(m) for m in self._registry.models(self._project_id)])

    def show(self, call: Call) -> w.ModelDetail:
        model = self._registry.get(self._project_id, call.path["name"])
        versions = self._registry.versions(self._project_id, model.name)
        return w.ModelDetail(w.model_out(model), [w.version_out(v, model) for v in versions])

    def move_alias(self, call: Call) -> w.AliasOut:
        body: w.AliasBody = call.body
        name, alias = call.path["name"], call.path["alias"]
        given: dict[str, Any] = {} if body.expected is msgspec.UNSET else {"expected": body.expected}
        before = self._registry.move_alias(
            self._project_id, name, alias, body.version, actor=call.actor, once=call.once, **given
        )
        return w.AliasOut(name, alias, before, body.version)


def routes(registry: Registry, project_id: ProjectId) -> list[Route]:
    r = ModelRoutes(registry, project_id)
    one = "/v1/models/{name}"
    return [
        Route(
            method="GET",
            path="/v1/models",
            handler=r.models,
            permission="models.read",
            summary="List registered models.",
            answer=w.ModelPage,
            cli="noria models list",
        ),
        Route(
            method="GET",
            path=one,
            handler=r.show,
            permission="models.read",
            summary="Show a model: its versions and aliases.",
            answer=w.ModelDetail,
            cli="noria models show NAME",
        ),
        Route(
            method="PUT",
            path=one + "/aliases/{alias}",
            handler=r.move_alias,
            permission="models.write",
            summary="Point an alias at a version, or remove it.",
            body=w.AliasBody,
            answer=w.AliasOut,
            cli="noria models alias NAME ALIAS VERSION",
        ),
    ]
