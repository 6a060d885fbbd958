"""The verbs of training: sweep, and what is known of a trained model."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria.assets import Assets, Changes, EvidenceLog
from noria.assets.records import Direction, RunState, Version
from noria.base import canonical
from noria.base.actor import Actor
from noria.base.ids import ProjectId, RunId, VersionId
from noria.db import Database
from noria.pipelines.errors import PipelineFailed
from noria.pipelines.graph import Graph, Node
from noria.pipelines.records import StepResult
from noria.pipelines.service import Pipelines
from noria.pipelines.service.driver import Work
from noria.registry import Registry
from noria.registry.records import ModelVersion
from noria.tracking import Tracking
from noria.training import package
from noria.training import sweep as sweeps
from noria.training.errors import PackageForeign, TrainingInvalid
from noria.training.evaluation import Evaluation
from noria.training.kinds import EVALUATOR, record_facts
from noria.training.metrics import DEFAULTS, METRICS
from noria.training.package import Package
from noria.training.records import Sweep, Trial

if TYPE_CHECKING:
    import polars as pl

    from noria.training.adoption import Adoption

WIDTH = 4
"""Trials of one round. Fixed: the number of processes must not change what is tried."""


class Training:
    """One per workspace."""

    def __init__(
        self,
        db: Database,
        project_id: ProjectId,
        assets: Assets,
        changes: Changes,
        evidence: EvidenceLog,
        tracking: Tracking,
        registry: Registry,
        pipelines: Pipelines,
        adoption: Adoption,
    ) -> None:
        self._db = db
        self._project_id = project_id
        self._assets = assets
        self._changes = changes
        self._evidence = evidence
        self._tracking = tracking
        self._registry = registry
        self._pipelines = pipelines
        self.adoption = adoption

    # ---- sweeps

    def sweep(
        self,
        model: Any,
        *,
        actor: Actor,
        trials: int | None = None,
        executor: Any = None,
        trigger: str | None = None,
        advance: Callable[..., None] | None = None,
    ) -> Sweep:
        """Searches a model's hyperparameters, in rounds, several at once; registers the best as a new version.

        Trials are judged on the validation rows; the test rows stay for the gates. A trial that ran before with the
        same code, data and values is taken from the cache, so an interrupted sweep goes on where it stopped.

        Raises:
            TrainingInvalid: the model declares nothing to search.
            PipelineFailed: every trial failed.
        """
        graph = self._pipelines.graph([model])
        name = graph.name_of(model)
        node = graph.node(name)
        if node.kind != "model" or not node.options["search"]:
            raise TrainingInvalid(
                f"{name!r} declares nothing to search.", hint="@nr.model(..., search={'C': nr.space.log(0.01, 10)})"
            )
        wanted = trials or node.options["trials"]
        inputs = [e.asset for e in node.edges]
        before = self._pipelines.run(inputs, actor=actor, executor=executor, trigger=trigger)
        run_id, code, made = self._begin(graph, node, wanted, actor, trigger, executor)
        done: list[Trial] = []
        try:
            self._rounds(graph, node, wanted, actor, trigger, run_id, code, made, done, advance)
            best = self._best(node, done, run_id)
            # From the same rows as the trials: what came in since then is for the next time.
            final = self._pipelines.run(
                [name], best.params, actor=actor, executor=executor, trigger=trigger, collect=False
            )
        except BaseException as error:
            self._end(run_id, RunState.FAILED, {"code": "sweep_failed", "message": str(error)})
            raise
        finally:
            if not hasattr(executor, "submit"):
                made.close()
        return replace(self._finish(node, run_id, done, best, final.steps[name], actor), warnings=before.warnings)

    def _begin(
        self, graph: Graph, node: Node, trials: int, actor: Actor, trigger: str | None, executor: Any
    ) -> tuple[RunId, Any, Any]:
        made, _ = self._pipelines.open_executor(executor, graph, [node.name])
        code = self._pipelines.code_links(files=made.caps.files)
        with self._changes.begin("training.sweep", self._project_id, actor) as change:
            run = self._assets.start_run(
                change.tx, self._project_id, kind="sweep", name=node.name, actor=actor, trigger=trigger
            )
            for slot, version_id in code.links.items():
                self._assets.link(change.tx, run.id, version_id, Direction.CODE, slot)
            change.note(node.name, run=run.id, trials=trials)
        return run.id, code, made

    def _rounds(
        self,
        graph: Graph,
        node: Node,
        wanted: int,
        actor: Actor,
        trigger: str | None,
        run_id: RunId,
        code: Any,
        executor: Any,
        done: list[Trial],
        advance: Callable[..., None] | None,
    ) -> None:
        space = {name: s.spec() for name, s in node.options["search"].items()}
        better = METRICS[self.primary(node)].better if self.primary(node) in METRICS else 1
        versions = [str(self._pipelines.current(e.asset).digest) for e in node.edges]
        seed = canonical.digest([node.name, space, versions]).hex
        order = self._pipelines.order_without_checks(graph, [node.name])
        while len(done) < wanted:
            width = min(WIDTH, wanted - len(done))
            asked = sweeps.ask(space, [(t.params, t.value) for t in done], width, better=better, seed=seed)
            works = [
                Work(
                    graph=graph,
                    order=order,
                    params={node.name: graph.params(node.name, params)},
                    forced=set(),
                    actor=actor,
                    trigger=trigger,
                    parent=run_id,
                    code=code,
                    executor=executor,
                    advance=None,
                    trial=True,
                )
                for params in asked
            ]
            self._pipelines.drive(*works)
            for params, work in zip(asked, works, strict=True):
                done.append(self._trial(node, len(done), params, work.results[node.name]))
                if advance is not None:
                    advance(1, text=f"{node.name}: trial {len(done)} of {wanted}", total=wanted)

    def _trial(self, node: Node, number: int, params: dict[str, Any], result: StepResult) -> Trial:
        value = None
        if result.run_id is not None and result.action in ("made", "reused"):
            point = self._tracking.data(result.run_id).metrics.get(f"valid.{self.primary(node)}")
            value = None if point is None or point.value != point.value else point.value
        return Trial(
            number=number,
            params=params,
            value=value,
            run_id=result.run_id,
            version_id=result.outputs.get(""),
            cached=result.action == "reused",
            error=None if result.error is None else result.error["message"],
        )

    def _best(self, node: Node, done: list[Trial], run_id: RunId) -> Trial:
        good = [t for t in done if t.value is not None]
        if not good:
            errors = [(f"{node.name} trial {t.number}", {"message": t.error or "no value"}) for t in done]
            raise PipelineFailed(run_id, errors)
        better = METRICS[self.primary(node)].better if self.primary(node) in METRICS else 1
        return max(good, key=lambda t: (better * (t.value or 0.0), -t.number))

    def _finish(
        self, node: Node, run_id: RunId, done: list[Trial], best: Trial, made: StepResult, actor: Actor
    ) -> Sweep:
        version = self._registry.register(
            self._project_id, node.name, actor=actor, version_id=made.outputs[""], run_id=made.run_id
        )
        facts_of_best = self.facts(self._registry.resolve(self._project_id, version.name))
        distinct = {name: len({repr(t.params[name]) for t in done}) for name in node.options["search"]}
        facts = {"trials": len(done), "failed": sum(t.value is None for t in done), "distinct": distinct}
        with self._changes.begin("training.swept", self._project_id, actor) as change:
            self._assets.link(change.tx, run_id, made.outputs[""], Direction.OUT, "")
            self._assets.end_run(change.tx, run_id, RunState.DONE, cost={"trials": len(done)})
            known = self._evidence.list(self._project_id, tests=["numeric"], subject=version.name)
            if not known and made.run_id is not None:  # a trial's findings are not kept when it lands
                record_facts(self._evidence, change, version.name, made.outputs[""], made.run_id, facts_of_best)
            self._evidence.record(
                change,
                "search",
                version.name,
                passed=len(done) >= 2 and all(count > 1 for count in distinct.values()),
                evaluator=EVALUATOR,
                version_id=made.outputs[""],
                run_id=run_id,
                details={**facts, "best": best.params, "value": best.value, "metric": self.primary(node)},
            )
            change.note(version.name, run=run_id)
            change.event("sweep.done", node.name, {"run": run_id, "model": version.name})
        better = METRICS[self.primary(node)].better if self.primary(node) in METRICS else 1
        return Sweep(
            run_id=run_id,
            model=node.name,
            metric=self.primary(node),
            better=better,
            trials=done,
            best=best,
            model_version=version.name,
            facts=facts,
        )

    def _end(self, run_id: RunId, state: RunState, error: dict[str, Any]) -> None:
        with self._db.write() as tx:
            self._assets.end_run(tx, run_id, state, error=error)

    def primary(self, node: Node) -> str:
        """The name of a model's primary metric."""
        chosen = node.options["metrics"]
        if not chosen:
            return DEFAULTS["binary"][0]
        return chosen[0] if isinstance(chosen[0], str) else chosen[0].__name__

    # ---- trained models

    def package(self, version: Version) -> Package:
        """What a model version says of itself; the model itself is not loaded here."""
        return package.read(self._pipelines.values.materialise(version))

    def package_in(self, folder: Path) -> Package:
        """The same of a package that lies in a folder."""
        return package.read(folder)

    def package_of(self, model: ModelVersion) -> Package:
        return self.package(self.version_of(model))

    def version_of(self, model: ModelVersion) -> Version:
        """The asset version that holds the package that is served for a model version.

        Raises:
            PackageForeign: a client of MLflow logged it, and nobody has adopted it.
        """
        if model.version_id is None:
            raise TrainingInvalid(
                f"{model.name} names a model that noria did not store.", hint="Train it here: noria run"
            )
        return self.adoption.served(model, self._assets.version(model.version_id))

    def ensure_adopted(self, model: ModelVersion, *, actor: Actor) -> Version:
        """``version_of``; what a client of MLflow logged is adopted, with the settings of the version before.

        Raises:
            AdoptionInvalid, SignatureUnfit, ComputeFailed: it cannot be.
        """
        try:
            return self.version_of(model)
        except PackageForeign:
            return self.adoption.adopt(model, actor=actor)

    def version_at(self, version_id: VersionId) -> Version:
        """An asset version by its number."""
        return self._assets.version(version_id)

    def reference(self, version: Version) -> dict[str, Any]:
        return package.reference(self._pipelines.values.materialise(version))

    def score(
        self,
        model: Version,
        features: Version,
        *,
        at_from: int | None = None,
        keys: Sequence[Sequence[Any]] | None = None,
    ) -> pl.DataFrame:
        """Scores the rows of a features table with a model, in bulk, in a process of its own.

        Args:
            at_from: only rows with a later moment (event time, milliseconds).
            keys: only rows with one of these keys, as plain values.

        Returns:
            the key, ``_at`` and ``score``.
        """
        inputs = {"model": model, "features": features}
        name = f"score-{model.digest.hex[:12]}"
        spec = {"at_from": at_from, "keys": None if keys is None else [list(key) for key in keys]}
        (made,) = self._pipelines.compute(name, "noria.training.run:run_score", inputs, spec)
        return made.value

    def evaluation(self, model: ModelVersion) -> Evaluation:
        """The test rows of a model version with their scores.

        Raises:
            TrainingInvalid: it was never judged.
        """
        folder = self._judged(model)
        if folder is None:
            raise TrainingInvalid(f"{model.name} was never judged.", hint=f"noria adopt {model.name} --on TABLE")
        return Evaluation.read(folder)

    def judged_alike(self, model: ModelVersion, other: ModelVersion, *, actor: Actor) -> pl.DataFrame | None:
        """The rows that judged an adopted version, with the scores that another one gives them as ``other``.

        None where the two cannot be judged alike: noria trained one of them, or no table judged it.
        """
        version = self.version_of(model)
        settings, table = self.adoption.asked(version), self.adoption.table_of(version)
        if settings is None or table is None or other.version_id is None:
            return None
        if not self.adoption.is_foreign(self._assets.version(other.version_id)):
            return None
        kept = self.adoption.find(other)
        before = None if kept is None else self.adoption.asked(kept)
        if before is not None:  # asked in its own way, on the rows of the other
            settings = replace(settings, proba=before.proba)
        made = self.adoption.adopt(other, actor=actor, settings=settings, table=table)
        folder = self._evaluated(self.adoption.run_of(made))
        assert folder is not None
        return self.evaluation(model).frame.with_columns(Evaluation.read(folder).frame["score"].alias("other"))

    def logged_metrics(self, model: ModelVersion) -> dict[str, float]:
        """What the run that made a model version says of it."""
        if model.run_id is None:
            return {}
        return {name: point.value for name, point in self._tracking.data(model.run_id).metrics.items()}

    def facts(self, model: ModelVersion) -> dict[str, Any]:
        """What was found when a model version was judged: metrics with intervals, baselines, slices."""
        folder = self._judged(model)
        return {} if folder is None else json.loads((folder / "facts.json").read_text(encoding="utf-8"))

    def _judged(self, model: ModelVersion) -> Path | None:
        """What the run that made a model version, or that adopted it, found out about it."""
        run_id = self.adoption.run_of(self.version_of(model)) if model.version_id is not None else None
        return self._evaluated(run_id or model.run_id)

    def _evaluated(self, run_id: RunId | None) -> Path | None:
        for edge in [] if run_id is None else self._assets.edges(run_id):
            if edge.direction == Direction.OUT and edge.slot == "evaluation":
                return self._pipelines.values.materialise(self._assets.version(edge.version_id))
        return None
