"""Routes of traces. Applications send them by OpenTelemetry's protocol, ``POST /v1/traces``; here they are read."""

from __future__ import annotations

from noria.base.ids import ProjectId
from noria.http import Call, Route
from noria.tracking import Tracking
from noria.tracking.traces.errors import TraceNotFound
from noria.tracking.wire import traces as w


class TraceRoutes:
    """Handlers; each is one verb."""

    def __init__(self, tracking: Tracking, project_id: ProjectId) -> None:
        self._tracking = tracking
        self._project_id = project_id

    def _experiment(self, call: Call) -> int:
        return self._tracking.named_experiment(self._project_id, call.path["id"]).id

    def traces(self, call: Call) -> w.TracePage:
        query: w.TracesQuery = call.query
        page = self._tracking.traces.search(
            self._project_id,
            [self._experiment(call)],
            query.filter or "",
            order_by=query.order,
            limit=query.limit,
            after=query.after,
        )
        return w.TracePage([w.trace_out(one) for one in page.items], page.next)

    def trace(self, call: Call) -> w.TraceDetail:
        found = self._tracking.traces.resolve(self._project_id, call.path["trace"])
        if found.experiment_id != self._experiment(call):
            raise TraceNotFound(call.path["trace"], hint=f"It is in the experiment {found.experiment_id}.")
        spans = self._tracking.traces.spans(self._project_id, [found.trace_id])
        return w.detail_out(found, spans.get(found.trace_id, ()))


def routes(tracking: Tracking, project_id: ProjectId) -> list[Route]:
    r = TraceRoutes(tracking, project_id)
    return [
        Route(
            method="GET",
            path="/v1/experiments/{id}/traces",
            handler=r.traces,
            permission="runs.read",
            summary="List traces of an experiment, newest first, or search them.",
            query=w.TracesQuery,
            answer=w.TracePage,
            cli="noria runs traces",
        ),
        Route(
            method="GET",
            path="/v1/experiments/{id}/traces/{trace}",
            handler=r.trace,
            permission="runs.read",
            summary="Show a trace with its spans.",
            answer=w.TraceDetail,
            cli="noria runs trace TRACE",
        ),
    ]
