"""Who is scored: from an endpoint or a model to the version that serves, and to its exact ancestors."""

from __future__ import annotations

from noria.assets import Assets, Lineage
from noria.assets.records import Direction, Version
from noria.base.ids import ProjectId, RunId, VersionId
from noria.registry import Registry
from noria.registry.records import CHAMPION, ModelVersion
from noria.scorecard.errors import SubjectUnclear
from noria.scorecard.records import Subject
from noria.serving.records import Deployment
from noria.serving.service import Serving
from noria.tracking import Tracking

_READ = (Direction.IN, Direction.CODE)
_REVISIONS = 10_000


class Subjects:
    """Finds subjects; reads only."""

    def __init__(
        self,
        project_id: ProjectId,
        assets: Assets,
        lineage: Lineage,
        serving: Serving,
        registry: Registry,
        tracking: Tracking,
    ) -> None:
        self._project_id = project_id
        self._assets = assets
        self._lineage = lineage
        self._serving = serving
        self._registry = registry
        self._tracking = tracking

    def find(self, text: str | None) -> Subject:
        """The subject of this name: an endpoint, ``model``, ``model/3`` or ``model@champion``; of none, the only one.

        Raises:
            SubjectUnclear: no name was given and there are several.
            ModelNotFound: there is neither an endpoint nor a model of this name.
        """
        if text is None:
            text = self._only()
        if text is None:
            return Subject()
        if any(e.name == text for e in self._serving.endpoints()):
            return self._of_endpoint(text)
        return self._of_model(text)

    def pinned(self, endpoint: str | None, model: str | None) -> Subject:
        """The subject of a stored score, looked up in the graph again."""
        if model is None:
            return Subject(endpoint=endpoint)
        return self._with_ancestors(self._registry.resolve(self._project_id, model), endpoint)

    def _only(self) -> str | None:
        answering = [e.name for e in self._serving.endpoints() if self._champion(e.name) is not None]
        names = answering or [m.name for m in self._registry.models(self._project_id)]
        if len(names) > 1:
            raise SubjectUnclear(names)
        return names[0] if names else None

    def _champion(self, endpoint: str) -> Deployment | None:
        found = self._serving.status(endpoint).routing.champion
        return None if found is None else self._serving.deployment(found)

    def _of_endpoint(self, name: str) -> Subject:
        deployment = self._champion(name)
        if deployment is None:
            return Subject(endpoint=name)
        model = self._registry.resolve(self._project_id, deployment.model)
        return self._with_ancestors(model, name, deployment.version_id)

    def _stood(self, endpoint: str, model: str) -> tuple[tuple[int, int | None], ...]:
        """The spans of wall time in which a version stood behind an endpoint; oldest first."""
        mine = {d.id for d in self._serving.status(endpoint).deployments if d.model == model}
        spans: list[tuple[int, int | None]] = []
        since: int | None = None
        for routing in reversed(self._serving.history(endpoint, _REVISIONS)):
            here = any(arm.deployment in mine for arm in routing.arms)
            if here and since is None:
                since = routing.at
            elif not here and since is not None:
                spans.append((since, routing.at))
                since = None
        return (*spans, (since, None)) if since is not None else tuple(spans)

    def _of_model(self, text: str) -> Subject:
        plain = text.removeprefix("models:/")
        name = plain.partition("@")[0].partition("/")[0]
        endpoints = self._serving.endpoints_of(name)
        if plain == name:
            serving = [e.name for e in endpoints if self._champion(e.name) is not None]
            if serving:
                return self._of_endpoint(serving[0])
            number = self._registry.alias(self._project_id, name, CHAMPION)
            text = name if number is None else f"{name}/{number}"
        model = self._registry.resolve(self._project_id, text)
        for endpoint in endpoints:
            champion = self._champion(endpoint.name)
            if champion is not None and champion.model == model.name:
                return self._with_ancestors(model, endpoint.name, champion.version_id)
        return self._with_ancestors(model, None)

    # ---- ancestors

    def _with_ancestors(self, model: ModelVersion, endpoint: str | None, served: VersionId | None = None) -> Subject:
        """``served``: the version that is deployed, where another run made it of the model's own: an adoption."""
        found = self._ancestors(model.run_id) if model.run_id is not None else {}
        if served is not None and served != model.version_id:
            found[served] = self._assets.version(served)
            for run in self._lineage.makers(served):
                found |= self._ancestors(run.id)
        if model.version_id is not None:
            found[model.version_id] = self._assets.version(model.version_id)
        params = self._tracking.data(model.run_id).params if model.run_id is not None else {}
        return Subject(
            endpoint=endpoint,
            model=model.name,
            registered=model.model,
            version_id=model.version_id,
            versions=frozenset(found),
            assets=frozenset(v.asset for v in found.values()),
            params=tuple(sorted(params.items())),
            stood=self._stood(endpoint, model.name) if endpoint is not None else (),
        )

    def _ancestors(self, run_id: RunId) -> dict[VersionId, Version]:
        """Every version that a run, and the runs before it, were made from.

        Content that several runs made is followed to those that had made it when it was read: a run that makes the
        same content later does not become an ancestor.
        """
        found: dict[VersionId, Version] = {}
        seen: set[RunId] = set()
        open_runs = [run_id]
        while open_runs:
            current = open_runs.pop()
            if current in seen:
                continue
            seen.add(current)
            read_at = self._assets.run(current).started_at
            ids = [e.version_id for e in self._assets.edges(current) if e.direction in _READ]
            found.update(self._assets.versions_by_ids([v for v in ids if v not in found]))
            for version_id in ids:
                open_runs += [r.id for r in self._lineage.makers(version_id) if r.started_at <= read_at]
        return found
