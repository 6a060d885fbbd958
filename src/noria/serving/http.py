"""Routes of endpoints, on the control port. Predictions are answered on the inference port (``serving/app.py``)."""

from __future__ import annotations

from noria.http import Call, Route
from noria.serving import wire as w
from noria.serving.service import Serving


class EndpointRoutes:
    """Handlers of the room; each is one verb."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    def endpoints(self, _: Call) -> w.EndpointPage:
        return w.EndpointPage([w.summary_out(self._serving.status(e.name)) for e in self._serving.endpoints()])

    def show(self, call: Call) -> w.EndpointDetail:
        name = call.path["name"]
        return w.detail_out(self._serving.status(name), self._serving.history(name))

    def deploy(self, call: Call) -> w.DeploymentOut:
        name, body = call.path["name"], call.body
        return w.deployment_out(self._serving.deploy_named(name, body.model, actor=call.actor, once=call.once))


def routes(serving: Serving) -> list[Route]:
    r = EndpointRoutes(serving)
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
