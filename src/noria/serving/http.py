"""Routes of endpoints, on the control port. Predictions are answered on the inference port (``serving/app.py``)."""

from __future__ import annotations

from noria.base.errors import Conflict
from noria.base.ids import ProjectId
from noria.http import Call, Route
from noria.registry import Registry
from noria.registry.wire import find_version
from noria.serving import Serving
from noria.serving import wire as w


class EndpointRoutes:
    """Handlers of the room; each is one verb."""

    def __init__(self, serving: Serving, registry: Registry, project_id: ProjectId) -> None:
        self._serving = serving
        self._registry = registry
        self._project_id = project_id

    def endpoints(self, _: Call) -> w.EndpointPage:
        return w.EndpointPage([w.summary_out(self._serving.status(e.name)) for e in self._serving.endpoints()])

    def show(self, call: Call) -> w.EndpointDetail:
        name = call.path["name"]
        return w.detail_out(self._serving.status(name), self._serving.history(name))

    def deploy(self, call: Call) -> w.DeploymentOut:
        body: w.DeployBody = call.body
        endpoint = self._serving.get(call.path["name"])
        version = find_version(self._registry, self._project_id, body.model)
        if version.model != endpoint.model:
            raise Conflict(
                f"The endpoint {endpoint.name!r} serves {endpoint.model!r}, not {version.model!r}.",
                hint="Make another endpoint for it.",
                details={"endpoint": endpoint.name, "serves": endpoint.model, "model": version.model},
            )
        return w.deployment_out(self._serving.deploy(endpoint, version, actor=call.actor))


def routes(serving: Serving, registry: Registry, project_id: ProjectId) -> list[Route]:
    r = EndpointRoutes(serving, registry, project_id)
    one = "/v1/endpoints/{name}"
    return [
        Route(
            method="GET",
            path="/v1/endpoints",
            handler=r.endpoints,
            permission="endpoints.read",
            summary="List endpoints and who answers them.",
            answer=w.EndpointPage,
            cli="noria endpoints list",
        ),
        Route(
            method="GET",
            path=one,
            handler=r.show,
            permission="endpoints.read",
            summary="Show an endpoint: contract, routing, deployments.",
            answer=w.EndpointDetail,
            cli="noria endpoints show NAME",
        ),
        Route(
            method="POST",
            path=one + "/deployments",
            handler=r.deploy,
            permission="endpoints.write",
            summary="Put a model version behind an endpoint, without traffic; repeated, it is the same deployment.",
            body=w.DeployBody,
            answer=w.DeploymentOut,
            status=201,
            cli="noria deploy MODEL --endpoint NAME",
        ),
    ]
