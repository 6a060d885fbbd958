"""The verbs of the trace: follow a thing back and forth; compute predictions again and record that they are equal."""

from __future__ import annotations

import random
import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from noria.assets import Assets, Changes, EvidenceLog, Lineage
from noria.assets.records import Asset
from noria.base.actor import SYSTEM, Actor
from noria.base.errors import NoriaError, NotFound
from noria.base.ids import CommitId, ProjectId, RunId, VersionId
from noria.base.names import nearest
from noria.data import Data
from noria.data.records import MAIN, RepositoryKind
from noria.db import Database
from noria.pipelines.executors import SideWorker
from noria.registry import Registry
from noria.registry.records import ModelVersion
from noria.serving.ingest import Ingest
from noria.serving.service import Serving
from noria.trace import queries
from noria.trace.backward import Backward
from noria.trace.errors import ThingNotFound, ThingUnclear
from noria.trace.forward import Forward
from noria.trace.predictions import Predictions
from noria.trace.records import Captured, Node, Replay, Trail
from noria.trace.replay import Replayer
from noria.trace.run import EVALUATOR
from noria.tracking import Tracking
from noria.training.service import Training

ROWS = 3
_FEWEST_DIGITS = 4
_MOST_IDS = 100


class Trace:
    """One per workspace."""

    def __init__(
        self,
        db: Database,
        project_id: ProjectId,
        assets: Assets,
        lineage: Lineage,
        changes: Changes,
        evidence: EvidenceLog,
        data: Data,
        registry: Registry,
        tracking: Tracking,
        serving: Serving,
        training: Training,
        worker: SideWorker,
        ingest: Ingest,
    ) -> None:
        self._db = db
        self._project_id = project_id
        self._assets = assets
        self._lineage = lineage
        self._changes = changes
        self._evidence = evidence
        self._data = data
        self._registry = registry
        self._tracking = tracking
        self._serving = serving
        self._ingest = ingest
        self.predictions = Predictions(project_id, data)
        self._replayer = Replayer(assets, data, serving, training, worker)

    # ---- following

    def trace(self, thing: str, *, rows: int = ROWS) -> Trail:
        """Where a thing comes from, down to rows, and what it touched.

        Args:
            thing: ``prediction:ID`` or ``ENDPOINT/ID``; a run; ``model/3`` or ``model@champion``; an asset; a digest;
                a commit. Of ids the beginning is enough.
            rows: of a prediction: how many rows of each look-up are shown, newest first. 0 computes nothing again and
                names the commits only.

        Raises:
            ThingNotFound: nothing has this name or id.
            ThingUnclear: several ids begin like this.
        """
        thing = thing.strip()
        if thing.startswith("prediction:"):
            return self._prediction(thing, thing.removeprefix("prediction:"), rows)
        if "/" in thing or "@" in thing:
            return self._named(thing, rows)
        asset = self._assets.find(self._project_id, thing)
        if asset is not None:
            return self._asset(thing, asset)
        if thing in self._endpoints():
            forward = self._forward().endpoint(thing)
            return Trail(thing=thing, backward=self._backward().endpoint(thing), forward=forward)
        if thing in {m.name for m in self._registry.models(self._project_id)}:
            return self._model(thing, self._registry.resolve(self._project_id, thing))
        return self._by_id(thing, rows)

    def row(self, name: str, key: Mapping[str, Any], *, ref: str = MAIN) -> Trail:
        """Where one row of a table comes from, and what was made of the versions that hold it as ``ref`` does.

        Args:
            key: column -> value (or its text), for every column of the key.

        Raises:
            RowNotFound: ``ref`` has no such row.
        """
        repository = self._data.get(self._project_id, name, RepositoryKind.TABLE)
        held = self._data.versions_with_row(repository, key, ref)
        first = held[0]
        said = "  ".join(f"{column}={value}" for column, value in key.items())
        facts = {"arrived": first.id[:12], "versions": len({commit.version_id for commit in held})}
        back = Node(
            kind="row", name=f"{name} {said}", facts=facts, children=(self._backward().commit(repository, first),)
        )
        return Trail(thing=f"{name} {said}", backward=back, forward=self._forward().row(held))

    def _named(self, thing: str, rows: int) -> Trail:
        name, slash, rest = thing.removeprefix("models:/").partition("/")
        if slash and any(e.name == name for e in self._serving.endpoints()):
            found = self._find_prediction(name, rest)
            if found:
                return self._of_prediction(thing, found, rows)
        try:
            return self._model(thing, self._registry.resolve(self._project_id, thing))
        except NotFound as error:
            known = [*(m.name for m in self._registry.models(self._project_id)), *self._endpoints()]
            hint = error.hint or nearest(name, known)
            raise ThingNotFound(f"{thing!r} is neither a captured prediction nor a model version.", hint=hint) from None

    def _by_id(self, thing: str, rows: int) -> Trail:
        digits = thing.removeprefix("blake3:")
        found: list[tuple[str, Trail]] = []
        if len(digits) >= _FEWEST_DIGITS and all(c in "0123456789abcdef" for c in digits):
            names = self._ids(digits)
            if len(names) > 1:
                raise ThingUnclear(thing, names)
            found = [(name, self._of_id(thing, name)) for name in names]
        if found:
            return found[0][1]
        return self._prediction(thing, thing, rows)

    def _ids(self, digits: str) -> list[str]:
        """What begins with these digits: ``run …``, ``commit …``, ``version …``."""
        with self._db.read() as conn:
            found = [f"run {r}" for r in queries.runs_like(conn, self._project_id, digits)]
            found += [f"commit {c}" for c in queries.commits_like(conn, self._project_id, digits)]
        found += [f"version {v.id} of {v.asset}" for v in self._assets.versions_like(self._project_id, digits)]
        return found

    def _of_id(self, thing: str, name: str) -> Trail:
        kind, id_ = name.split(" ")[:2]
        if kind == "run":
            run = self._assets.run(RunId(id_))
            return Trail(thing=thing, backward=self._backward().run(run), forward=self._forward().run(run.id))
        if kind == "commit":
            return self._commit(thing, CommitId(id_))
        version = self._assets.version(VersionId(int(id_)))
        return Trail(thing=thing, backward=self._backward().version(version), forward=self._forward().version(version))

    def _asset(self, thing: str, asset: Asset) -> Trail:
        """An asset as it stands: the head of a repository, else the current version."""
        repository = self._data.find(self._project_id, asset.name)
        head = None if repository is None else self._data.head(repository)
        if head is not None:
            return self._commit(thing, head.id)
        if asset.current_id is None:
            return Trail(thing=thing, backward=Node(kind=asset.kind.value, name=asset.name, facts={"versions": 0}))
        version = self._assets.version(asset.current_id)
        return Trail(thing=thing, backward=self._backward().version(version), forward=self._forward().version(version))

    def _commit(self, thing: str, commit_id: CommitId) -> Trail:
        repository, commit = self._data.commit_by_id(commit_id)
        back = self._backward().commit(repository, commit)
        return Trail(thing=thing, backward=back, forward=self._forward().commit(commit))

    def _model(self, thing: str, model: ModelVersion) -> Trail:
        return Trail(thing=thing, backward=self._backward().model(model), forward=self._forward().deployments(model))

    def _prediction(self, thing: str, text: str, rows: int) -> Trail:
        endpoint, slash, rest = text.partition("/")
        if slash and endpoint in self._endpoints():
            found = self._find_prediction(endpoint, rest)
        else:
            found = []
            for name in self._endpoints():
                found = found or self._find_prediction(name, text)
        if not found:
            known = (a.name for a in self._assets.list_assets(self._project_id))
            raise ThingNotFound(
                f"Nothing that can be traced is called {thing!r}.",
                hint=nearest(thing, known) or "A prediction, run, model/3, asset, digest or commit.",
            )
        return self._of_prediction(thing, found, rows)

    def _find_prediction(self, endpoint: str, prediction_id: str) -> list[Captured]:
        """What was captured of a prediction; one that was answered today is taken into its table first."""
        found = self.predictions.find(endpoint, prediction_id)
        if not found and self._ingest.take(actor=SYSTEM):
            found = self.predictions.find(endpoint, prediction_id)
        return found

    def _of_prediction(self, thing: str, found: list[Captured], rows: int) -> Trail:
        replay: Replay | None = None
        unable = ""
        if rows > 0 and not found[0].error:
            try:
                (replay,) = self._replayer.replay(found[:1], rows=rows)
            except NoriaError as error:  # the trail holds without it, and says so
                unable = f"not possible: {error.message}"
        return Trail(thing=thing, backward=self._backward().prediction(found, replay, unable))

    def _endpoints(self) -> list[str]:
        return [e.name for e in self._serving.endpoints()]

    def _backward(self) -> Backward:
        return Backward(
            self._db,
            self._project_id,
            self._assets,
            self._lineage,
            self._data,
            self._registry,
            self._tracking,
            self._serving,
        )

    def _forward(self) -> Forward:
        return Forward(
            self._db,
            self._project_id,
            self._assets,
            self._lineage,
            self._registry,
            self._serving,
            self.predictions,
        )

    # ---- computing again

    def recompute(self, endpoint: str, prediction_id: str, *, actor: Actor) -> tuple[dict[str, Any], dict[str, Any]]:
        """(captured features, features computed again from the rows at the captured commits); recorded as evidence.

        Raises:
            ThingNotFound: there is no such prediction.
            ReplayFailed: it could not be computed.
        """
        found = self.predictions.find(endpoint, prediction_id)[:1]
        if not found:
            raise ThingNotFound(f"{endpoint!r} has no prediction {prediction_id!r}.", hint="Ids come with the answers.")
        (replay,) = self._replayer.replay(found)
        self._record([replay], actor, drawn=False)
        return replay.captured, replay.recomputed

    def prove(
        self, endpoint: str, *, count: int = 1, actor: Actor, chance: random.Random | None = None
    ) -> list[Replay]:
        """Draws answered predictions at random, computes them again, and records the outcome as evidence ``trace``.

        The answers of the version that serves are drawn from; those of the others only where it has given none yet.
        Each time a fault is planted into every feature of one of them, and it is recorded whether it was found.

        Raises:
            EndpointNotFound: there is no such endpoint.
            NoPredictions: the endpoint has none.
        """
        drawn = self.predictions.draw(
            endpoint,
            count,
            chance or random.Random(secrets.randbits(64)),  # noqa: S311
            of=self._serving_now(endpoint),
        )
        replays = self._replayer.replay(drawn)
        self._record(replays, actor, drawn=True)
        self._plant(replays[0], actor)
        return replays

    def _serving_now(self, endpoint: str) -> frozenset[int]:
        """The deployments of the version that the routing in force calls champion."""
        status = self._serving.status(endpoint)
        champion = status.routing.champion
        if champion is None:
            return frozenset()
        model = self._serving.deployment(champion).model
        return frozenset(d.id for d in status.deployments if d.model == model)

    def _record(self, replays: list[Replay], actor: Actor, *, drawn: bool) -> None:
        """One record for each deployment."""
        by_deployment: dict[int, list[Replay]] = {}
        for replay in replays:
            by_deployment.setdefault(replay.prediction.deployment, []).append(replay)
        with self._changes.begin("trace.recompute", self._project_id, actor) as change:
            for number, group in by_deployment.items():
                deployment = self._serving.deployment(number)
                wrong = {r.prediction.id: r.different for r in group if not r.equal}
                self._evidence.record(
                    change,
                    "trace",
                    deployment.model,
                    passed=not wrong,
                    evaluator=EVALUATOR,
                    version_id=deployment.version_id,
                    details={
                        "endpoint": deployment.endpoint,
                        "rows": len(group),
                        "equal": len(group) - len(wrong),
                        "random": drawn,
                        "predictions": [r.prediction.id for r in group[:_MOST_IDS]],
                        "different": dict(list(wrong.items())[:_MOST_IDS]),
                    },
                )
            change.note(replays[0].prediction.endpoint, predictions=len(replays))

    def _plant(self, replay: Replay, actor: Actor) -> None:
        """Changes one captured feature after the other and records whether each change is seen (rule R4)."""
        names = list(replay.recomputed)
        true = replace(replay, captured=replay.recomputed)
        changed = [replace(true, captured={**true.captured, name: {"planted": True}}) for name in names]
        found = [c.different == [name] for name, c in zip(names, changed, strict=True)]
        deployment = self._serving.deployment(replay.prediction.deployment)
        with self._changes.begin("trace.plant", self._project_id, actor) as change:
            self._evidence.record(
                change,
                "trace",
                deployment.model,
                passed=all(found),
                evaluator=EVALUATOR,
                version_id=deployment.version_id,
                details={"mutation": True, "planted": len(found), "found": sum(found), "rows": 1},
            )
            change.note(replay.prediction.endpoint, planted=len(found))
