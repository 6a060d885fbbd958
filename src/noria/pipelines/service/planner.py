"""What would run, and why."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from statistics import median
from typing import Any

from noria.assets.records import Version
from noria.base.errors import Invalid, NoriaError
from noria.base.ids import RunId
from noria.pipelines import queries
from noria.pipelines.declare.assets import Source
from noria.pipelines.graph import Graph, Node
from noria.pipelines.identity import Manifest, compare
from noria.pipelines.records import PlannedStep, Why
from noria.pipelines.service.base import PipelineBase, Resolved


class Planner(PipelineBase):
    def plan(
        self,
        targets: Iterable[Any] = (),
        params: Mapping[str, Any] | None = None,
        *,
        force: bool | Collection[Any] = False,
    ) -> list[PlannedStep]:
        """What a run of these targets would do, inputs first. Nothing is run, nothing is written.

        Args:
            targets: functions, sources or names; all assets where there are none.
            params: hyperparameters of the targets.
            force: as if nothing of the targets were cached, or nothing of these steps.
        """
        graph, names, given = self.asked(targets, params)
        order = self.order(graph, names)
        forced = self.forced(graph, names, order, force)
        resolved: dict[str, Resolved] = {}
        return [self._plan_step(graph, graph.node(name), given.get(name), resolved, name in forced) for name in order]

    def asked(
        self, targets: Iterable[Any], params: Mapping[str, Any] | None
    ) -> tuple[Graph, list[str], dict[str, dict[str, Any]]]:
        """(the graph, the names of the targets, the hyperparameters of those that get some).

        Raises:
            Invalid: there are hyperparameters and no target to have them.
        """
        wanted = list(targets)
        if params and not wanted:
            name = next(iter(params))
            raise Invalid(
                f"{name}= sets a hyperparameter, and no asset is named.",
                hint=f'run(["ASSET"], {{{name!r}: {params[name]!r:.40}}})',
                details={"params": list(params)},
            )
        graph = self.graph(wanted)
        names = self.targets(graph, wanted)
        return graph, names, {name: graph.params(name, dict(params)) for name in names} if params else {}

    def forced(self, graph: Graph, names: list[str], order: list[str], force: bool | Collection[Any]) -> set[str]:
        """The steps that run whether or not they are cached: the targets, or those that are named.

        Raises:
            AssetUnknown: the project has no such asset.
            Invalid: it has, and it is no part of this run.
        """
        if isinstance(force, bool):
            return set(names) if force else set()
        wanted = {graph.name_of(thing) for thing in ([force] if isinstance(force, str) else force)}
        outside = sorted(wanted.difference(order))
        if outside:
            raise Invalid(
                f"{outside[0]!r} is forced, and {', '.join(names)} does not need it.",
                hint=f"Name it as a target too: noria run {' '.join([*names, *outside])}",
                details={"forced": outside},
            )
        return wanted

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
        outputs, why, _ = self.lookup(node, manifest, forced=forced)
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
            why=why,
            expected_ms=expected,
            key=manifest.key,
            notes=manifest.notes,
        )

    def _plan_source(self, node: Node, resolved: dict[str, Resolved]) -> PlannedStep:
        source: Source = node.thing
        version = self.source_version(source, None)
        if version is None:
            text = "it was never collected" if source.collected else "no rows were posted yet"
            resolved[node.name] = Resolved({}, changing=True)
            action = "run" if source.collected else "empty"
            return PlannedStep(asset=node.name, kind="source", action=action, why=(Why(level="NEW", text=text),))
        try:
            why = tuple(Why(level="INPUT", text=text) for text in self._pending(source))
        except NoriaError as error:  # the run will say so too, or leave it: --no-collect
            why = (Why(level="INPUT", text=f"it cannot be read here: {error.message}"),)
            resolved[node.name] = Resolved({"": version})
            return PlannedStep(asset=node.name, kind="source", action="source", why=why, version_id=version.id)
        # What lies behind a network may hold something new or not: only the run asks.
        known = bool(why) and source.files is not None
        resolved[node.name] = Resolved({} if known else {"": version}, changing=known)
        action = "run" if known else "source"
        return PlannedStep(asset=node.name, kind="source", action=action, why=why, version_id=version.id)

    def _pending(self, source: Source) -> list[str]:
        """What a run would collect of a source that has rows, in words."""
        if not source.collected:
            return []
        repository = self._s.data.get(self._s.project_id, source.name)
        if source.folder:
            return self._s.collector.folders.pending(repository, source.files or "")
        if source.files is None:
            return [f"its {'query' if source.sql else 'address'} is asked when it runs"]
        return self._s.collector.pending_files(repository, source.files)

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

    def lookup(
        self, node: Node, manifest: Manifest, *, forced: bool
    ) -> tuple[dict[str, Version] | None, tuple[Why, ...], RunId | None]:
        """(the outputs if they need not be made, else None; why they have to be; the run that made them)."""
        if forced:
            return None, (Why(level="POLICY", text="it is forced"),), None
        with self._db.read() as conn:
            cached = queries.cached(conn, self._s.project_id, manifest.key)
            if cached is not None:
                outputs = self.usable(cached, conn)
                if outputs is not None:
                    return outputs, (), cached.run_id
                return None, (Why(level="POLICY", text="its output is missing from the store"),), None
            before = queries.last(conn, self._s.project_id, node.name)
        found = compare(None if before is None else before.manifest, manifest)
        return None, tuple(Why(level=r.level, text=r.text) for r in found), None

    def expected(self, node: Node) -> int | None:
        """Expected wall time in milliseconds: the median of the last five successful runs."""
        with self._db.read() as conn:
            found = queries.durations(conn, self._s.project_id, node.name)
        return round(median(found)) if found else None
