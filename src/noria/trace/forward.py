"""What was made from a thing: along edges to models and endpoints, and along captured commit ids to predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from noria.assets import Assets, Lineage
from noria.assets.records import Direction, Edge, Version
from noria.base.ids import ProjectId, RunId, VersionId
from noria.base.times import to_text
from noria.data.records import Commit
from noria.db import Database
from noria.registry import Registry
from noria.registry.records import ModelVersion
from noria.serving.records import Deployment
from noria.serving.service import Serving
from noria.trace import queries
from noria.trace.predictions import Counted, Predictions
from noria.trace.records import Node

_READ = (Direction.IN, Direction.ABOUT)
_MOST = 20
"""Versions of one asset that are listed; the rest is counted."""


class Forward:
    """Builds the nodes of one trail."""

    def __init__(
        self,
        db: Database,
        project_id: ProjectId,
        assets: Assets,
        lineage: Lineage,
        registry: Registry,
        serving: Serving,
        predictions: Predictions,
    ) -> None:
        self._db = db
        self._project_id = project_id
        self._assets = assets
        self._lineage = lineage
        self._registry = registry
        self._serving = serving
        self._predictions = predictions
        self._kinds = {a.id: a.kind.value for a in assets.list_assets(project_id)}
        self._counts: dict[str, list[Counted]] = {}
        self._told: set[VersionId] = set()

    def commit(self, found: Commit) -> tuple[Node, ...]:
        """Versions made from the commit, or from later ones that build on it; predictions that read either."""
        with self._db.read() as conn:
            later = queries.later_commits(conn, found)
            readers = queries.readers(conn, found)
        inside = set(later.values())
        exact = set(readers.get(found.version_id, []))
        runs = {run for version_id, runs in readers.items() if version_id in inside for run in runs}
        made = self._made(runs, direct=exact)
        return (*made, *self._read_by(found.id, frozenset(later)))

    def row(self, held: Sequence[Commit]) -> tuple[Node, ...]:
        """What was made from the versions that hold a row; predictions that read one of them."""
        versions = {commit.version_id for commit in held}
        runs: set[RunId] = set()
        for version_id in versions:
            runs |= self._readers(version_id, 0)
        self._told |= versions
        return (*self._made(runs, direct=runs), *self._read_by(held[0].id, frozenset(c.id for c in held)))

    def version(self, found: Version) -> tuple[Node, ...]:
        """What was made from exactly this version."""
        self._told.add(found.id)
        models = [self.model(m) for m in self._registry.versions_with([found.id])]
        runs = self._readers(found.id, 0)
        return (*models, *self._made(runs, direct=runs))

    def run(self, run_id: RunId) -> tuple[Node, ...]:
        """What a run made, and what was made of that."""
        return self._made({run_id}, direct={run_id})

    def model(self, found: ModelVersion) -> Node:
        """A model version with its deployments."""
        facts = {"registered": to_text(found.created_at)}
        return Node(kind="model", name=found.name, id=found.run_id or "", facts=facts, children=self.deployments(found))

    def deployments(self, found: ModelVersion) -> tuple[Node, ...]:
        if found.version_id is None:
            return ()
        deployed = self._serving.deployments_of_versions([found.version_id])
        return tuple(self._deployment(d) for d in deployed if d.model == found.name)

    def endpoint(self, name: str) -> tuple[Node, ...]:
        return tuple(self._deployment(d) for d in self._serving.status(name).deployments)

    # ---- parts

    def _made(self, runs: set[RunId], *, direct: set[RunId]) -> tuple[Node, ...]:
        """The outputs of runs; ``direct``: those that read the very version, not a later one."""
        edges = [e for run in sorted(runs) for e in self._assets.edges(run) if e.direction == Direction.OUT]
        versions = self._assets.versions_by_ids([e.version_id for e in edges])
        by_asset: dict[str, list[Edge]] = {}
        for edge in edges:
            if edge.version_id not in self._told:
                self._told.add(edge.version_id)
                by_asset.setdefault(versions[edge.version_id].asset, []).append(edge)
        return tuple(node for group in by_asset.values() for node in self._of_asset(group, versions, direct))

    def _of_asset(self, edges: list[Edge], versions: dict[VersionId, Version], direct: set[RunId]) -> list[Node]:
        """The versions of one asset, newest first; models that were never registered are counted only."""
        known = {m.version_id for m in self._registry.versions_with([e.version_id for e in edges])}
        first = versions[edges[0].version_id]
        kind = self._kinds.get(first.asset_id, "version")
        shown = [e for e in edges if kind != "model" or e.version_id in known]
        shown.sort(key=lambda e: -e.version_id)
        made = [self._version(e, versions[e.version_id], kind, e.run_id in direct) for e in shown[:_MOST]]
        rest = len(edges) - len(made)
        if rest:
            text = "not registered" if kind == "model" and len(shown) <= _MOST else "more"
            made.append(Node(kind=kind, name=first.asset, facts={text: rest}))
        return made

    def _version(self, edge: Edge, found: Version, kind: str, direct: bool) -> Node:
        made_at = self._assets.run(edge.run_id).started_at
        known = self._registry.versions_with([found.id])
        models = tuple(self.model(m) for m in known if m.created_at >= made_at)
        runs = self._readers(found.id, made_at)
        facts: dict[str, Any] = {"run": edge.run_id}
        if found.rows is not None:
            facts["rows"] = found.rows
        if not direct:
            facts["through"] = "a later commit"
        children = (*models, *self._made(runs, direct=runs))
        return Node(kind=kind, name=found.asset, id=found.digest.short, facts=facts, children=children)

    def _readers(self, version_id: VersionId, since: int) -> set[RunId]:
        """The runs that read a version; those only that began after ``since``.

        Content may be made a second time: what had read it by then did not come from the second maker.
        """
        graph = self._lineage.downstream([version_id], limit=1)
        readers = {e.run_id for e in graph.edges if e.version_id == version_id and e.direction in _READ}
        return {r for r in readers if graph.runs[r].started_at >= since}

    def _deployment(self, found: Deployment) -> Node:
        counts = self._of_endpoint(found.endpoint)
        facts = {
            "deployment": found.id,
            "state": found.state.value,
            "role": self._role(found),
            "predictions": sum(c.count for c in counts if c.deployment == found.id),
        }
        plain = {k: v for k, v in facts.items() if v != ""}
        return Node(kind="endpoint", name=found.endpoint, id=found.model, facts=plain)

    def _role(self, found: Deployment) -> str:
        arms = self._serving.status(found.endpoint).routing.arms
        return next((arm.role for arm in arms if arm.deployment == found.id), "")

    def _of_endpoint(self, name: str) -> list[Counted]:
        if name not in self._counts:
            self._counts[name] = self._predictions.counts(name)
        return self._counts[name]

    def _read_by(self, commit: str, later: frozenset[str]) -> list[Node]:
        """Predictions whose captured commits name this one, or a later one that builds on it."""
        made: list[Node] = []
        for endpoint in self._serving.endpoints():
            counts = self._of_endpoint(endpoint.name)
            exact = sum(c.count for c in counts if commit in c.commits)
            all_ = sum(c.count for c in counts if c.commits & later)
            if all_:
                facts = {"read_this_commit": exact, "read_a_later_one": all_ - exact}
                made.append(Node(kind="predictions", name=endpoint.name, facts=facts))
        return made
