"""Routes that look at runs.

Planning, running and sweeping are not among them: they import the project's code, and user code never runs in a
server. The shell does them, and so do the jobs of the loop, in processes of their own.
"""

from __future__ import annotations

from noria.assets import Assets
from noria.assets.records import Run
from noria.base.ids import ProjectId
from noria.http import Call, Route
from noria.tracking import Tracking
from noria.tracking.records import Owner, OwnerKind
from noria.tracking.service.comparing import MOST_CURVES
from noria.tracking.wire import runs as w


class RunRoutes:
    """Handlers; each is one verb."""

    def __init__(self, tracking: Tracking, assets: Assets, project_id: ProjectId) -> None:
        self._tracking = tracking
        self._assets = assets
        self._project_id = project_id

    def _run(self, call: Call) -> Run:
        return w.find_run(self._assets, self._project_id, call.path["id"])

    def runs(self, call: Call) -> w.RunPage:
        query: w.RunsQuery = call.query
        parent = None if query.parent is None else w.find_run(self._assets, self._project_id, query.parent).id
        page = self._tracking.list_runs(
            self._project_id,
            query.filter or "",
            experiments=w.split(query.experiment),
            under=query.under,
            kinds=w.split(query.kind),
            states=w.states_of(query.state),
            name=query.name,
            parent=parent,
            order_by=w.split(query.order),
            columns=None if query.columns is None else w.split(query.columns),
            deleted=query.deleted,
            limit=query.limit,
            after=query.after,
        )
        chosen = query.columns is not None
        return w.RunPage([w.summary_out(one, chosen=chosen) for one in page.items], page.next)

    def show(self, call: Call) -> w.RunDetail:
        return w.detail_out(self._assets, self._tracking, self._run(call))

    def artifacts(self, call: Call) -> w.ArtifactPage:
        query: w.ArtifactsQuery = call.query
        return w.artifacts_out(
            self._tracking.all_artifacts(Owner(OwnerKind.RUN, self._run(call).id), limit=query.limit, after=query.after)
        )

    def compare(self, call: Call) -> w.Compared:
        query: w.CompareQuery = call.query
        found = w.find_runs(self._assets, self._project_id, w.split(query.runs))
        page = self._tracking.compare(
            [run.id for run in found],
            everything=query.all,
            lower=w.split(query.lower),
            higher=w.split(query.higher),
            limit=query.limit,
            after=query.after,
        )
        return w.compared_out(found, page)

    def points(self, call: Call) -> w.PointPage:
        query: w.PointsQuery = call.query
        run = self._run(call)
        key = w.find_metric(self._tracking, run.id, call.path["key"])
        if query.points is not None:
            (curve,) = self._tracking.curves([run.id], key, points=query.points, start=query.start, end=query.end)
            return w.PointPage([w.point_out(p) for p in curve.points], total=curve.total)
        page = self._tracking.history(run.id, key, limit=query.limit, after=query.after)
        return w.PointPage([w.point_out(p) for p in page.items], page.next)

    def curves(self, call: Call) -> w.Curves:
        query: w.CurvesQuery = call.query
        found = w.find_runs(self._assets, self._project_id, w.split(query.runs), MOST_CURVES)
        made = self._tracking.curves(
            [run.id for run in found], query.key, points=query.points, start=query.start, end=query.end
        )
        return w.Curves([w.curve_out(curve) for curve in made])


def routes(tracking: Tracking, assets: Assets, project_id: ProjectId) -> list[Route]:
    r = RunRoutes(tracking, assets, project_id)
    one = "/v1/runs/{id}"
    return [
        Route(
            method="GET",
            path="/v1/runs",
            handler=r.runs,
            permission="runs.read",
            summary="List runs, newest first, or search them.",
            query=w.RunsQuery,
            answer=w.RunPage,
            cli="noria runs list",
        ),
        Route(
            method="GET",
            path="/v1/compare/runs",
            handler=r.compare,
            permission="runs.read",
            summary="Compare parameters, metrics and tags of several runs: what differs.",
            query=w.CompareQuery,
            answer=w.Compared,
            cli="noria runs compare RUN...",
        ),
        Route(
            method="GET",
            path="/v1/curves",
            handler=r.curves,
            permission="runs.read",
            summary="Read a metric of several runs for a plot; extremes survive.",
            query=w.CurvesQuery,
            answer=w.Curves,
            cli="noria runs metrics RUN... --key KEY",
        ),
        Route(
            method="GET",
            path=one,
            handler=r.show,
            permission="runs.read",
            summary="Show a run: what it said, what it read and made, its children.",
            answer=w.RunDetail,
            cli="noria runs show RUN",
        ),
        Route(
            method="GET",
            path=one + "/artifacts",
            handler=r.artifacts,
            permission="runs.read",
            summary="List the files of a run.",
            query=w.ArtifactsQuery,
            answer=w.ArtifactPage,
            cli="noria runs show RUN",
        ),
        Route(
            method="GET",
            path=one + "/metrics/{key:path}",
            handler=r.points,
            permission="runs.read",
            summary="Read the history of a metric, or with points its curve.",
            query=w.PointsQuery,
            answer=w.PointPage,
            cli="noria runs metrics RUN KEY",
        ),
    ]
