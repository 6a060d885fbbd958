"""Routes of monitoring."""

from __future__ import annotations

import polars as pl

from noria.base.errors import Invalid
from noria.base.ids import ProjectId
from noria.http import Call, Route
from noria.monitoring import wire as w
from noria.monitoring.against import SPANS
from noria.monitoring.service import Monitoring
from noria.registry import Registry
from noria.serving.service import Serving

_SPANS = ("all", *SPANS)


class MonitoringRoutes:
    """Handlers of the room; each is one verb."""

    def __init__(self, monitoring: Monitoring, serving: Serving, registry: Registry, project_id: ProjectId) -> None:
        self._monitoring = monitoring
        self._serving = serving
        self._registry = registry
        self._project_id = project_id

    def windows(self, call: Call) -> w.WindowPage:
        query: w.SpanQuery = call.query
        since, until = w.span(query.since, query.until)
        found = self._monitoring.windows(call.path["name"], deployment=query.deployment, since=since, until=until)
        return w.WindowPage([w.window_out(x) for x in found])

    def truth(self, call: Call) -> w.TruthOut:
        body: w.TruthBody = call.body
        ids, truths = [row.id for row in body.rows], [float(row.truth) for row in body.rows]
        told = self._monitoring.tell_truth(
            call.path["name"], pl.DataFrame({"id": ids, "truth": truths}), actor=call.actor
        )
        return w.TruthOut(endpoint=call.path["name"], told=told)

    def accuracy(self, call: Call) -> w.AccuracyPage:
        query: w.AccuracyQuery = call.query
        if query.by not in _SPANS:
            raise Invalid(f"by={query.by!r} is not a span.", hint=", ".join(_SPANS))
        self._serving.get(call.path["name"])
        since, until = w.span(query.since, query.until)
        found = self._monitoring.accuracy(
            call.path["name"], since=since, until=until, by=query.by, deployment=query.deployment
        )
        return w.AccuracyPage([w.accuracy_out(x) for x in found])

    def compare(self, call: Call) -> w.AgainstPage:
        query: w.AgainstQuery = call.query
        if query.by not in _SPANS:
            raise Invalid(f"by={query.by!r} is not a span.", hint=", ".join(_SPANS))
        self._serving.get(call.path["name"])
        since, until = w.span(query.since, query.until)
        model = self._registry.resolve(self._project_id, query.against)
        found = self._monitoring.compare(call.path["name"], model, by=query.by, since=since, until=until)
        return w.AgainstPage([w.against_out(x) for x in found])

    def drift(self, call: Call) -> w.DriftReport:
        query: w.SpanQuery = call.query
        since, until = w.span(query.since, query.until)
        return w.drift_report(self._monitoring.report(call.path["name"], query.deployment, since, until))

    def alerts(self, call: Call) -> w.AlertPage:
        query: w.AlertQuery = call.query
        found = self._monitoring.alerts(only_open=query.open, limit=max(1, min(query.limit, 1000)))
        return w.AlertPage([w.alert_out(a) for a in found])


def routes(monitoring: Monitoring, serving: Serving, registry: Registry, project_id: ProjectId) -> list[Route]:
    r = MonitoringRoutes(monitoring, serving, registry, project_id)
    one = "/v1/monitor/{name}"
    return [
        Route(
            method="GET",
            path=one + "/windows",
            handler=r.windows,
            permission="monitor.read",
            summary="List the windows of an endpoint.",
            query=w.SpanQuery,
            answer=w.WindowPage,
            cli="noria monitor show NAME",
        ),
        Route(
            method="POST",
            path=one + "/truth",
            handler=r.truth,
            permission="monitor.write",
            summary="Say what turned out to be so of predictions that were answered.",
            body=w.TruthBody,
            answer=w.TruthOut,
            cli="noria monitor truth NAME FILE",
        ),
        Route(
            method="GET",
            path=one + "/accuracy",
            handler=r.accuracy,
            permission="monitor.read",
            summary="Show what turned out to be so of what was answered.",
            query=w.AccuracyQuery,
            answer=w.AccuracyPage,
            cli="noria monitor accuracy NAME",
        ),
        Route(
            method="GET",
            path=one + "/compare",
            handler=r.compare,
            permission="monitor.read",
            summary="Show what another model version would have answered to the same requests.",
            query=w.AgainstQuery,
            answer=w.AgainstPage,
            cli="noria monitor compare NAME MODEL",
        ),
        Route(
            method="GET",
            path=one + "/drift",
            handler=r.drift,
            permission="monitor.read",
            summary="Show how far scores and features have moved.",
            query=w.SpanQuery,
            answer=w.DriftReport,
            cli="noria monitor drift NAME",
        ),
        Route(
            method="GET",
            path="/v1/alerts",
            handler=r.alerts,
            permission="monitor.read",
            summary="List alerts, newest first.",
            query=w.AlertQuery,
            answer=w.AlertPage,
            cli="noria monitor alerts",
        ),
    ]
