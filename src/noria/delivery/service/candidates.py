"""From a trigger to a release: train in a process of its own, judge, deploy."""

from __future__ import annotations

from typing import Any

import polars as pl

from noria.assets.records import Direction
from noria.base.actor import Actor
from noria.base.digest import Digest
from noria.base.errors import Conflict, Failed, Invalid, NoriaError, NotFound
from noria.base.once import Once
from noria.base.times import parse_time
from noria.delivery import gates
from noria.delivery import tables as t
from noria.delivery.errors import TrainingFailed
from noria.delivery.records import OPEN, PERSONS, SYSTEM, Candidate, CandidateState, GateResult, Phase
from noria.delivery.service.base import EVALUATOR
from noria.delivery.service.follow import Following
from noria.delivery.trainer import train
from noria.jobs.records import Job
from noria.jobs.work import JobControl
from noria.registry.records import CHALLENGER, CHAMPION, ModelVersion
from noria.serving.records import Deployment
from noria.training.evaluation import TRUTH, Evaluation


class Candidates(Following):
    def release(
        self,
        model: ModelVersion | str,
        *,
        actor: Actor,
        drill: bool = False,
        force: bool = False,
        once: Once | None = None,
    ) -> Candidate:
        """Puts a trained version through its gates and, where they say yes, on its way to all traffic.

        Args:
            model: a version, or its name as a person writes it.
            drill: marked as an exercise, in every record. force: released whatever the gates say; kept in evidence.

        Raises:
            Conflict: another candidate of the model is on its way.
        """
        earlier = self._s.changes.answered("delivery.release", self._project_id, once)
        if earlier is not None:
            return self.candidate(earlier["candidate"])
        if isinstance(model, str):
            model = self._s.registry.resolve(self._project_id, model)
        with self._s.changes.begin("delivery.release", self._project_id, actor, once=once) as change:
            if change.earlier is not None:
                return self.candidate(change.earlier["candidate"], change.tx)
            found = self._open(change.tx, model.model)
            if found is not None:
                if found.number == model.number:
                    change.note(model.name, candidate=found.id)
                    change.answer({"candidate": found.id})
                    return found
                raise Conflict(
                    f"{found.name} is on its way already ({found.state.value}).",
                    hint=f"noria candidates {model.model}",
                )
            made = self._begin(
                change,
                model.model,
                trigger="drill" if drill else "manual",
                reason={"actor": actor.name},
                params={},
                number=model.number,
                drill=drill,
                forced=force,
            )
            change.answer({"candidate": made.id})
            return made

    def bring_on(self, job: Job, control: JobControl) -> dict[str, Any]:
        """The handler of the job: trains, judges, begins the release. Each part is done once, whatever crashes."""
        candidate = self.candidate(int(job.payload["candidate"]))
        try:
            if candidate.state == CandidateState.TRAINING:
                candidate = self._train(candidate, control)
            if candidate.state == CandidateState.GATING:
                candidate = self._judge(candidate)
        except Exception as error:
            if job.attempts >= job.max_attempts or isinstance(error, Invalid | Failed | NotFound):
                self._fail(self.candidate(candidate.id), error)  # a candidate must not stay open for ever
            raise
        return {"candidate": candidate.id, "state": candidate.state.value}

    def _fail(self, candidate: Candidate, error: Exception) -> None:
        if candidate.state not in OPEN:
            return
        value = (error if isinstance(error, NoriaError) else Failed(f"{type(error).__name__}: {error}")).as_dict()
        with self._s.changes.begin("delivery.failed", self._project_id, SYSTEM) as change:
            self._end(change, candidate, CandidateState.FAILED, {"error": value["error"]})
            change.note(candidate.model, candidate=candidate.id)
            message = value["error"]["message"]
            self._s.monitoring.raise_or_close(change, True, candidate.endpoint, "training", candidate.model, message)

    # ---- training

    def _train(self, candidate: Candidate, control: JobControl) -> Candidate:
        try:
            made = self._in_child(candidate, control)
        except TrainingFailed as error:
            self._fail(candidate, error)
            return self.candidate(candidate.id)
        with self._s.changes.begin("delivery.trained", self._project_id, SYSTEM) as change:
            change.note(candidate.model, candidate=candidate.id, number=made["number"])
            self._s.monitoring.raise_or_close(change, False, candidate.endpoint, "training", candidate.model, "")
            champion = self._champion_number(candidate)
            if made["number"] == champion:
                text = "nothing new: the training gave the champion again"
                refused = GateResult(kind="new", passed=False, text=text).as_value()
                values: dict[str, Any] = {"number": made["number"], "gates": [refused]}
                self._end(change, candidate, CandidateState.REFUSED, values)
            else:
                values = {"number": made["number"], "gates": _check_gates(made["checks"])}
                self._end(change, candidate, CandidateState.GATING, values)
        return self.candidate(candidate.id)

    def _in_child(self, candidate: Candidate, control: JobControl) -> dict[str, Any]:
        """Trains from the applied code snapshot, in a process of its own: a server imports no user code."""
        definition = self.definition(candidate.model)
        if not definition.code:
            raise TrainingFailed(
                f"{candidate.model} was applied without a code snapshot.", hint="Apply it from a project folder."
            )
        asset = self._s.assets.asset(self._project_id, "code")
        version = self._s.assets.find_version(asset.id, Digest.parse(definition.code))
        assert version is not None
        asked = {
            "url": self._s.url,
            "project": self._s.project,
            "root": str(self._s.pipelines.code_folder(version.layout)),
            "model": candidate.model,
            "params": candidate.params,
            "trigger": candidate.trigger,
            "automatic": candidate.trigger not in PERSONS,
        }
        return train(asked, self._s.environment, control.lost.is_set)

    def _champion_number(self, candidate: Candidate) -> int | None:
        champion = self._champion_of(candidate)
        return None if champion is None else int(champion.model.rpartition("/")[2])

    def _champion_of(self, candidate: Candidate) -> Deployment | None:
        if not candidate.endpoint:
            return None
        return self._s.monitoring.champion(self._s.serving.get(candidate.endpoint))

    # ---- gates

    def _judge(self, candidate: Candidate) -> Candidate:
        """Puts a candidate through its gates, keeps what they saw, and deploys it where they say yes."""
        assert candidate.number is not None
        model = self._s.registry.version(self._project_id, candidate.model, candidate.number)
        champion = self._champion_of(candidate)
        name = None if champion is None else champion.model
        if model.name == name:  # whoever asked for it: there is nothing to compare it with
            return self._refuse(candidate, f"nothing new: {name} is the champion")
        found = self._gated(model, champion)
        results = [*candidate.gates, *(g.as_value() for g in found)]
        passed = all(g["passed"] for g in results)
        endpoint = self._s.serving.get(candidate.endpoint) if candidate.endpoint else None
        if endpoint is not None and (passed or candidate.forced):
            self._s.serving.prepare(model)
        with self._s.changes.begin("delivery.gated", self._project_id, SYSTEM) as change:
            change.note(model.name, candidate=candidate.id, passed=passed)
            run = self._s.assets.record_run(
                change.tx, self._project_id, kind="gate", name=model.name, actor=change.actor
            )
            version = self._s.training.version_of(model)
            self._s.assets.link(change.tx, run, version.id, Direction.ABOUT, "candidate")
            if champion is not None:
                self._s.assets.link(change.tx, run, champion.version_id, Direction.ABOUT, "champion")
            self._s.evidence.record(
                change,
                "gate",
                model.name,
                passed=passed,
                evaluator=EVALUATOR,
                version_id=version.id,
                run_id=run,
                details={"gates": results, "forced": candidate.forced, "drill": candidate.drill, "champion": name},
            )
            goes = passed or candidate.forced
            if not goes:
                self._end(change, candidate, CandidateState.REFUSED, {"gates": results})
            else:
                self._end(change, candidate, CandidateState.RELEASING, {"gates": results})
                self._s.registry.move_alias(
                    self._project_id, model.model, CHALLENGER, model.number, actor=SYSTEM, tx=change.tx
                )
                if endpoint is not None:
                    deployment = self._s.serving.deploy(endpoint, model, actor=SYSTEM, tx=change.tx)
                    self._open_rollout(change, candidate, endpoint.id, deployment, champion, endpoint.policy)
                else:  # there is no traffic to try it on, and nothing that would end its release later
                    self._s.registry.move_alias(
                        self._project_id, model.model, CHAMPION, model.number, actor=SYSTEM, tx=change.tx
                    )
                    verdict = {"kind": "no_endpoint", "text": "nothing serves this model"}
                    self._end(change, candidate, CandidateState.PROMOTED, {"verdict": verdict})
        return self.candidate(candidate.id)

    def _gated(self, model: ModelVersion, champion: Deployment | None) -> list[GateResult]:
        """What the gates say; those of a client's model are the ones that it was adopted with."""
        name = None if champion is None else champion.model
        version = self._s.training.ensure_adopted(model, actor=SYSTEM)
        adoption = self._s.training.adoption
        asked = adoption.asked(version)
        wanted = asked.gates if asked is not None else self.definition(model.model).spec["options"]["gates"]
        if asked is not None and adoption.table_of(version) is None:
            return gates.judge_unseen(wanted, self._s.training.logged_metrics(model), name)
        evaluation = self._s.training.evaluation(model)
        shared = None
        if champion is not None and any(g["kind"] == "beats_champion" for g in wanted):
            shared = self._shared_rows(model, champion, evaluation)
        return gates.judge(wanted, evaluation, shared, name)

    def _refuse(self, candidate: Candidate, text: str) -> Candidate:
        refused = GateResult(kind="new", passed=False, text=text).as_value()
        with self._s.changes.begin("delivery.gated", self._project_id, SYSTEM) as change:
            change.note(candidate.name, candidate=candidate.id, passed=False)
            self._end(change, candidate, CandidateState.REFUSED, {"gates": [*candidate.gates, refused]})
        return self.candidate(candidate.id)

    def _open_rollout(
        self, change: Any, candidate: Candidate, endpoint_id: int, deployment: Deployment, champion: Any, policy: Any
    ) -> None:
        row = {
            "endpoint_id": endpoint_id,
            "candidate_id": candidate.id,
            "deployment_id": deployment.id,
            "champion_id": None if champion is None else champion.id,
            "phase": Phase.LOADING.value,
            "step": 0,
            "policy": policy.get("release", {}),
            "blocks": [],
            "started": change.event_ms,
            "step_from": change.event_ms,
            "looked": change.event_ms,
        }
        change.tx.insert(t.rollouts, row)

    def _shared_rows(self, model: ModelVersion, champion: Deployment, evaluation: Evaluation) -> pl.DataFrame | None:
        """Test rows of the candidate that lie after the champion's training too, with the champion's score.

        Where both use the same features, the champion scores the candidate's own rows; otherwise what it served
        counts, on the rows that it did serve.
        """
        package = self._s.training.package_of(model)
        known, _ = self._s.monitoring.package(champion)
        if package.adopted is not None:
            other = self._s.registry.resolve(self._project_id, champion.model)
            alike = self._s.training.judged_alike(model, other, actor=SYSTEM)
            if alike is not None:
                return alike.rename({"other": gates.CHAMPION})
        since = _unseen_from(known.window)
        frame = evaluation.frame
        if "_at" in frame.columns and since is not None:
            frame = frame.filter(pl.col("_at").dt.epoch("ms") > since)
        key = list(package.features.spine.key)
        if known.features.as_value() == package.features.as_value():
            assert model.run_id is not None
            edges = self._s.assets.edges(model.run_id)
            versions = [self._s.assets.version(e.version_id) for e in edges if e.direction == Direction.IN]
            features = next(v for v in versions if v.asset == package.features.name)
            other = self._s.training.score(self._s.assets.version(champion.version_id), features, at_from=since)
            return frame.join(other.select(*key, champion="score"), on=key, how="inner", maintain_order="left")
        served = self._s.monitoring.joined(champion.endpoint)
        served = served.filter(pl.col("deployment") == champion.id).select("entity", champion="score")
        entities = self._s.monitoring.entities(frame.select(key))
        joined = frame.with_columns(pl.Series("entity", entities, dtype=pl.String))
        return joined.join(served, on="entity", how="inner", maintain_order="left").filter(pl.col(TRUTH).is_not_null())


def _unseen_from(window: dict[str, Any]) -> int | None:
    """The moment from which on a model has seen no row: where its test rows begin."""
    found = window.get("test_from")
    return None if found is None else parse_time(found)


def _check_gates(checks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        GateResult(
            kind="check", passed=c["passed"], text=c["name"] + (f": {c['message']}" if c["message"] else "")
        ).as_value()
        for c in checks
    ]
