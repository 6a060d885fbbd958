"""Routes of the graph and of what happens in it: assets, events, jobs, logs.

Plan, run and sweep are not among them: they import the project's code, and user code never runs in a server. What a
server knows of the project is what was applied last.

The routes of jobs stand here because that room lies below ``noria.http``.
"""

from __future__ import annotations

from noria.assets import Assets
from noria.assets.errors import AssetNotFound
from noria.base.ids import JobId, ProjectId
from noria.base.names import nearest
from noria.http import Call, Route
from noria.jobs import Jobs
from noria.jobs.errors import JobNotFound
from noria.pipelines import wire as w
from noria.pipelines.hooks import KIND as HOOK
from noria.pipelines.service import Pipelines
from noria.tracking.wire.runs import find_run


class GraphRoutes:
    """Handlers of the room; each is one verb."""

    def __init__(self, pipelines: Pipelines, assets: Assets, jobs: Jobs, project_id: ProjectId) -> None:
        self._pipelines = pipelines
        self._assets = assets
        self._jobs = jobs
        self._project_id = project_id

    # ---- assets

    def assets(self, call: Call) -> w.AssetPage:
        found = {a.name: a for a in self._assets.list_assets(self._project_id)}
        definitions = {n: d for n, d in self._pipelines.definitions().items() if d.kind != HOOK}
        versions = self._assets.versions_by_ids([a.current_id for a in found.values() if a.current_id is not None])
        made: list[w.AssetOut] = []
        for name in sorted(found.keys() | definitions.keys()):
            asset = found.get(name)
            current = None if asset is None or asset.current_id is None else versions.get(asset.current_id)
            made.append(w.asset_out(name, asset, current, definitions.get(name)))
        wanted = call.query.kind
        return w.AssetPage([a for a in made if wanted is None or a.kind == wanted])

    def asset(self, call: Call) -> w.AssetDetail:
        name = call.path["name"]
        definition = self._pipelines.definitions().get(name)
        asset = self._assets.find(self._project_id, name)
        if asset is None and definition is None:
            raise self._missing(name)
        current = None if asset is None or asset.current_id is None else self._assets.version(asset.current_id)
        return w.AssetDetail(
            asset=w.asset_out(name, asset, current, definition),
            entry="" if definition is None else definition.entry,
            spec={} if definition is None else definition.spec,
            code="" if definition is None else definition.code,
        )

    def versions(self, call: Call) -> w.VersionPage:
        query: w.VersionsQuery = call.query
        name = call.path["name"]
        asset = self._assets.find(self._project_id, name)
        if asset is None:
            if name in self._pipelines.definitions():
                return w.VersionPage([])
            raise self._missing(name)
        page = self._assets.list_versions(asset.id, limit=query.limit, after=query.after)
        return w.VersionPage([w.version_out(v) for v in page.items], page.next)

    def _missing(self, name: str) -> AssetNotFound:
        known = [*(a.name for a in self._assets.list_assets(self._project_id)), *self._pipelines.definitions()]
        return AssetNotFound(f"There is no asset {name!r:.80}.", hint=nearest(name, known) or "GET /v1/assets")

    # ---- events, jobs, logs

    def events(self, call: Call) -> w.EventPage:
        query: w.EventsQuery = call.query
        found = self._assets.list_events(
            self._project_id,
            types=query.types.split(",") if query.types else None,
            subject=query.subject,
            after=query.after,
            limit=query.limit,
        )
        return w.EventPage([w.event_out(e) for e in found], found[-1].id if found else query.after)

    def jobs(self, call: Call) -> w.JobPage:
        query: w.JobsQuery = call.query
        found = self._jobs.list(
            self._project_id,
            kinds=query.kind.split(",") if query.kind else None,
            states=None if query.state is None else [query.state],
            limit=query.limit,
        )
        return w.JobPage([w.job_out(j) for j in found])

    def job(self, call: Call) -> w.JobOut:
        text = call.path["id"]
        if not (text.isascii() and text.isdecimal() and len(text) <= 18):
            raise JobNotFound(f"There is no job {text!r:.60}.", hint="GET /v1/jobs")
        found = self._jobs.get(JobId(int(text)))
        if found.project_id != self._project_id:
            raise JobNotFound(f"There is no job {text}.", hint="GET /v1/jobs")
        return w.job_out(found)

    def logs(self, call: Call) -> w.LogOut:
        run = find_run(self._assets, self._project_id, call.path["id"])
        path = self._pipelines.log_path(run.id)
        lines: list[str] = []
        if path.is_file():
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-call.query.tail :]
        return w.LogOut(run.id, run.name, lines)


def routes(pipelines: Pipelines, assets: Assets, jobs: Jobs, project_id: ProjectId) -> list[Route]:
    r = GraphRoutes(pipelines, assets, jobs, project_id)
    return [
        Route(
            method="GET",
            path="/v1/assets",
            handler=r.assets,
            permission="assets.read",
            summary="List the assets of the graph.",
            query=w.AssetsQuery,
            answer=w.AssetPage,
        ),
        Route(
            method="GET",
            path="/v1/assets/{name}",
            handler=r.asset,
            permission="assets.read",
            summary="Show an asset and what the project says of it.",
            answer=w.AssetDetail,
        ),
        Route(
            method="GET",
            path="/v1/assets/{name}/versions",
            handler=r.versions,
            permission="assets.read",
            summary="List the versions of an asset, newest first.",
            query=w.VersionsQuery,
            answer=w.VersionPage,
        ),
        Route(
            method="GET",
            path="/v1/events",
            handler=r.events,
            permission="events.read",
            summary="List what happened, oldest first, after an event.",
            query=w.EventsQuery,
            answer=w.EventPage,
            cli="noria admin events",
        ),
        Route(
            method="GET",
            path="/v1/jobs",
            handler=r.jobs,
            permission="jobs.read",
            summary="List background work, newest first.",
            query=w.JobsQuery,
            answer=w.JobPage,
            cli="noria jobs list",
        ),
        Route(
            method="GET",
            path="/v1/jobs/{id}",
            handler=r.job,
            permission="jobs.read",
            summary="Show a job.",
            answer=w.JobOut,
            cli="noria jobs show ID",
        ),
        Route(
            method="GET",
            path="/v1/runs/{id}/logs",
            handler=r.logs,
            permission="runs.read",
            summary="Read the end of what a run printed.",
            query=w.LogsQuery,
            answer=w.LogOut,
            cli="noria runs logs RUN",
        ),
    ]
