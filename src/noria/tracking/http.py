"""Routes of runs.

Planning, running and sweeping are not among them: they import the project's code, and user code never runs in a
server. The shell does them, and so do the jobs of the loop, in processes of their own.
"""

from __future__ import annotations

from noria.assets import Assets
from noria.assets.records import Run
from noria.base.errors import Invalid
from noria.base.ids import ProjectId
from noria.http import Call, Route
from noria.tracking import Tracking
from noria.tracking import wire as w

_MOST_COMPARED = 100


class RunRoutes:
    """Handlers of the room; each is one verb."""

    def __init__(self, tracking: Tracking, assets: Assets, project_id: ProjectId) -> None:
        self._tracking = tracking
        self._assets = assets
        self._project_id = project_id

    def _run(self, call: Call) -> Run:
        return w.find_run(self._assets, self._project_id, call.path["id"])

    def runs(self, call: Call) -> w.RunPage:
        query: w.RunsQuery = call.query
        searched = query.filter or query.experiment or query.order
        found, following = self._search(query) if searched else self._list(query)
        data = self._tracking.data_of([r.id for r in found])
        return w.RunPage([w.summary_out(r, data[r.id]) for r in found], following)

    def _list(self, query: w.RunsQuery) -> tuple[list[Run], str | None]:
        page = self._assets.list_runs(
            self._project_id,
            kinds=query.kind.split(",") if query.kind else None,
            name=query.name,
            parent_id=None if query.parent is None else w.find_run(self._assets, self._project_id, query.parent).id,
            states=None if query.state is None else [query.state],
            limit=query.limit,
            after=query.after,
        )
        return page.items, page.next

    def _search(self, query: w.RunsQuery) -> tuple[list[Run], str | None]:
        if query.kind or query.name or query.state or query.parent:
            raise Invalid(
                "filter, experiment and order are not combined with kind, name, state or parent.",
                hint='Put it into the filter: filter=kind = "step" and metrics.log_loss < 0.5',
            )
        page = self._tracking.search(
            self._project_id,
            query.filter or "",
            experiment=query.experiment,
            order_by=query.order,
            limit=query.limit,
            after=query.after,
        )
        runs = self._assets.runs_by_ids(page.items)
        return [runs[i] for i in page.items], page.next

    def show(self, call: Call) -> w.RunDetail:
        run = self._run(call)
        return w.detail_out(self._assets, run, self._tracking.data(run.id))

    def compare(self, call: Call) -> w.Compared:
        query: w.CompareQuery = call.query
        found = [w.find_run(self._assets, self._project_id, text) for text in query.runs.split(",")[:_MOST_COMPARED]]
        return w.compared_out(found, self._tracking.data_of([r.id for r in found]), everything=query.all)

    def points(self, call: Call) -> w.PointPage:
        query: w.PointsQuery = call.query
        run = self._run(call)
        key = w.find_metric(self._tracking, run.id, call.path["key"])
        page = self._tracking.history(run.id, key, limit=query.limit, after=query.after)
        return w.PointPage([w.point_out(p) for p in page.items], page.next)


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
            summary="Compare parameters and metrics of several runs: what differs.",
            query=w.CompareQuery,
            answer=w.Compared,
            cli="noria runs compare RUN...",
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
            path=one + "/metrics/{key:path}",
            handler=r.points,
            permission="runs.read",
            summary="Read the history of a metric.",
            query=w.PointsQuery,
            answer=w.PointPage,
            cli="noria runs metrics RUN KEY",
        ),
    ]
