"""What would run, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any

from noria.assets.records import Version
from noria.pipelines import queries
from noria.pipelines.graph import Graph, Node
from noria.pipelines.identity import compare
from noria.pipelines.records import PlannedStep, Why
from noria.pipelines.service.base import PipelineBase, Resolved


class Planner(PipelineBase):
    def plan(
        self, targets: Iterable[Any] = (), params: Mapping[str, Any] | None = None, *, force: bool = False
    ) -> list[PlannedStep]:
        """What a run of these targets would do, inputs first. Nothing is run, nothing is written.

        Args:
            targets: functions, sources or names; all assets where there are none.
            params: hyperparameters of the targets.
            force: as if nothing of the targets were cached.
        """
        wanted = list(targets)
        graph = self.graph(wanted)
        names = self.targets(graph, wanted)
        given = {name: graph.params(name, dict(params or {})) for name in names if wanted}
        resolved: dict[str, Resolved] = {}
        steps: list[PlannedStep] = []
        for name in self.order(graph, names):
            forced = force and name in names
            step = self._plan_step(graph, graph.node(name), given.get(name), resolved, forced)
            steps.append(step)
        return steps

    def order(self, graph: Graph, names: list[str]) -> list[str]:
        """The targets with all that they need, and the checks about the targets, inputs first."""
        return graph.upstream([*names, *graph.checks_of(names)])

    def order_without_checks(self, graph: Graph, names: list[str]) -> list[str]:
        return graph.upstream(names)

    def _plan_step(
        self,
        graph: Graph,
        node: Node,
        params: dict[str, Any] | None,
        resolved: dict[str, Resolved],
        forced: bool,
    ) -> PlannedStep:
        if node.kind == "source":
            return self._plan_source(node, resolved)
        waiting = [e.asset for e in node.edges if resolved[e.asset].changing]
        expected = self.expected(node)
        if waiting:
            resolved[node.name] = Resolved({}, changing=True)
            why = tuple(Why(level="UPSTREAM", text=f"input {name} will change") for name in waiting)
            return PlannedStep(asset=node.name, kind=node.kind, action="run", why=why, expected_ms=expected)
        inputs = self.inputs(node, resolved)
        manifest = self.manifest(graph, node, node.params if params is None else params, inputs)
        with self._db.read() as conn:
            cached = queries.cached(conn, self._s.project_id, manifest.key)
        outputs = None if forced else self.usable(cached)
        if outputs is not None:
            resolved[node.name] = Resolved(outputs)
            version = outputs[""].id if "" in outputs else None
            return PlannedStep(
                asset=node.name,
                kind=node.kind,
                action="reuse",
                key=manifest.key,
                version_id=version,
                notes=manifest.notes,
            )
        resolved[node.name] = Resolved({}, changing=True)
        return PlannedStep(
            asset=node.name,
            kind=node.kind,
            action="run",
            why=self.reasons(node, manifest, cached is not None, forced),
            expected_ms=expected,
            key=manifest.key,
            notes=manifest.notes,
        )

    def _plan_source(self, node: Node, resolved: dict[str, Resolved]) -> PlannedStep:
        version = self.source_version(node.thing, None)
        resolved[node.name] = Resolved({} if version is None else {"": version}, changing=version is None)
        if version is None:
            posted = not (node.thing.files or node.thing.sql or node.thing.url)
            text = "no rows were posted yet" if posted else "it was never collected"
            why = (Why(level="NEW", text=text),)
            return PlannedStep(asset=node.name, kind="source", action="empty" if posted else "run", why=why)
        return PlannedStep(asset=node.name, kind="source", action="source", version_id=version.id)

    def inputs(self, node: Node, resolved: Mapping[str, Resolved]) -> dict[str, Version]:
        """Slot -> version for every edge; further outputs of an input come as ``slot.output``."""
        made: dict[str, Version] = {}
        for edge in node.edges:
            outputs = resolved[edge.asset].outputs
            if edge.pinned is not None:
                made[edge.slot] = self.pinned(edge.asset, edge.pinned)
                continue
            for slot, version in outputs.items():
                made[edge.slot if slot == "" else f"{edge.slot}.{slot}"] = version
        return made

    def pinned(self, asset: str, ref: str) -> Version:
        """A version of an asset by a branch, commit or the beginning of its digest."""
        repository = self._s.data.find(self._s.project_id, asset)
        if repository is not None:
            return self._s.assets.version(self._s.data.resolve(repository, ref).version_id)
        found = [v for v in self._s.assets.versions_like(self._s.project_id, ref) if v.asset == asset]
        if len(found) != 1:
            from noria.assets.errors import VersionNotFound

            raise VersionNotFound(f"{asset!r} has {'no' if not found else 'several'} version {ref!r}.")
        return found[0]

    def reasons(self, node: Node, manifest: Any, cached: bool, forced: bool) -> tuple[Why, ...]:
        """Why a step runs: the differences from its last successful run."""
        if forced:
            return (Why(level="POLICY", text="it is forced"),)
        if cached:
            return (Why(level="POLICY", text="its output is missing from the store"),)
        asset = self._s.assets.find(self._s.project_id, node.name)
        before = None
        if asset is not None:
            with self._db.read() as conn:
                before = queries.last(conn, asset.id)
        found = compare(None if before is None else before.manifest, manifest)
        return tuple(Why(level=r.level, text=r.text) for r in found)

    def expected(self, node: Node) -> int | None:
        """Expected wall time in milliseconds: the median of the last five successful runs."""
        asset = self._s.assets.find(self._s.project_id, node.name)
        if asset is None:
            return None
        with self._db.read() as conn:
            found = queries.durations(conn, asset.id)
        return round(median(found)) if found else None
