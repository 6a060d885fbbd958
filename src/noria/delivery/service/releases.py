"""Releases: a persisted state machine from loading over shadow and canary to champion, or back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import polars as pl

from noria.assets import Change
from noria.base.once import Once
from noria.base.times import DAY, parse_duration
from noria.delivery import queries, verdict
from noria.delivery.errors import ReleaseOpen
from noria.delivery.records import PERSONS, SYSTEM, Candidate, CandidateState, Phase, Rollout
from noria.delivery.service.base import EVALUATOR
from noria.delivery.service.candidates import Candidates
from noria.delivery.verdict import Verdict
from noria.monitoring.windows import losses
from noria.registry.records import CHAMPION
from noria.serving.records import Arm, Deployment, DeploymentState, Endpoint

ERROR_RATE: Final = 0.002
"""Errors of a canary above this rate count against it."""
SLOW_RATE: Final = 0.05
"""Answers above the promised latency: more than this share counts against it."""
_SURE: Final = 1000.0
"""Errors and slow answers need this much evidence: a false alarm in a thousand releases."""


class Releases(Candidates):
    def open_rollouts(self, endpoint: str | None = None) -> list[Rollout]:
        found = None if endpoint is None else self._s.serving.get(endpoint).id
        with self._db.read() as conn:
            return queries.open_rollouts(conn, found)

    def rollout_of(self, candidate_id: int) -> Rollout | None:
        """The release of a candidate, if it came to one."""
        with self._db.read() as conn:
            return queries.rollout_of(conn, candidate_id)

    def loading(self) -> bool:
        """Whether a release waits for its deployment to be loaded."""
        return any(r.phase == Phase.LOADING for r in self.open_rollouts())

    # ---- loading

    def begin_loaded(self) -> int:
        """Brings on the releases whose deployment is loaded everywhere (or cannot be); returns how many."""
        moved = 0
        for found in self.open_rollouts():
            if found.phase != Phase.LOADING:
                continue
            deployment = self._s.serving.deployment(found.deployment)
            if deployment.state == DeploymentState.FAILED:
                self._throw_out(found, "could not be loaded: " + deployment.error, None)
                moved += 1
            elif deployment.state == DeploymentState.READY:
                self._first_step(found, deployment)
                moved += 1
        return moved

    def _first_step(self, found: Rollout, deployment: Deployment) -> None:
        policy = found.policy
        if found.champion is None:
            self._promote(found, deployment, {"kind": "first", "text": "the endpoint had no champion"})
        elif policy["shadow"]:
            self._to(found, Phase.SHADOW, 0)
        elif len(policy["steps"]) == 1:
            self._promote(found, deployment, {"kind": "at_once", "text": "released at once, as declared"})
        else:
            self._to(found, Phase.CANARY, 0)

    def _to(self, found: Rollout, phase: Phase, step: int) -> None:
        """The next phase or step: routing and record in one transaction."""
        endpoint = self._endpoint(found)
        candidate = self.candidate(found.candidate_id)
        assert found.champion is not None
        share = 0.0 if phase == Phase.SHADOW else float(found.policy["steps"][step])
        role = "shadow" if phase == Phase.SHADOW else "canary"
        arms = [
            Arm(deployment=found.champion, role="champion", weight=1 - share),
            Arm(deployment=found.deployment, role=role, weight=share),
        ]
        with self._s.changes.begin("delivery.step", self._project_id, SYSTEM) as change:
            values = {"phase": phase.value, "step": step, "step_from": change.event_ms}
            if not queries.set_rollout(change.tx, found, values):
                return
            reason = f"{candidate.name}: {role}" + (f" {share:.0%}" if share else "")
            self._s.serving.route(change, endpoint, arms, salt=_salt(found), paired=True, reason=reason)
            change.note(endpoint.name, candidate=candidate.id, phase=phase.value, share=share)

    # ---- looking

    def look(self, endpoint_name: str) -> None:
        """Looks at the release of an endpoint: takes the blocks that are complete, decides, moves on."""
        for found in self.open_rollouts(endpoint_name):
            if found.phase == Phase.LOADING or found.champion is None:
                continue
            now = self._now()
            if now < found.looked:
                continue  # the same moment again is a look that a crash cut short
            fresh = self._with_blocks(found, now)
            self._decide(fresh, now)

    def _with_blocks(self, found: Rollout, now: int) -> Rollout:
        """Adds the days that are complete: over, and their truth had its time. Blocks once written never change."""
        assert found.champion is not None
        champion = self._s.serving.deployment(found.champion)
        package, _ = self._s.monitoring.package(champion)
        first = (found.started + DAY - 1) // DAY * DAY if found.started % DAY else found.started
        if found.blocks:
            first = int(found.blocks[-1][0]) + DAY
        until = (now - package.after_ms) // DAY * DAY
        blocks = list(found.blocks)
        if until > first:
            endpoint = self._endpoint(found)
            frame = self._s.monitoring.paired(endpoint.name, found.champion, found.deployment, first, until)
            blocks += _blocks(frame, package.task)
        with self._db.write() as tx:
            queries.set_rollout(tx, found, {"blocks": blocks, "looked": now})
        return replace(found, blocks=blocks, looked=now)

    def _decide(self, found: Rollout, now: int) -> None:
        policy = found.policy
        says = verdict.judge(found.blocks, margin=policy["margin"], alpha=policy["alpha"])
        deployment = self._s.serving.deployment(found.deployment)
        traffic = self._traffic(found)
        numbers = {**says.as_value(), **traffic}
        broken = _broken(traffic)
        if broken:
            self._throw_out(found, broken, {**numbers, "kind": "broken"})
        elif says.kind == "worse":
            self._throw_out(found, _words(says), numbers)
        elif traffic["requests"] >= policy["hold"] and self._last_step(found) and says.kind == "better":
            self._promote(found, deployment, {**numbers, "text": _words(says)})
        elif now - found.started >= parse_duration(policy["longest"]):
            self._give_up(found, {**numbers, "text": f"no verdict in {policy['longest']}: the champion stays"})
        elif traffic["requests"] >= policy["hold"] and not self._last_step(found) and _may_grow(found, says):
            step = 0 if found.phase == Phase.SHADOW else found.step + 1
            self._to(found, Phase.CANARY, step)

    @staticmethod
    def _last_step(found: Rollout) -> bool:
        """Whether there is no further share of traffic before all of it."""
        below = [s for s in found.policy["steps"] if s < 1]
        return not below or (found.phase == Phase.CANARY and found.step >= len(below) - 1)

    def _traffic(self, found: Rollout) -> dict[str, Any]:
        """What the candidate has scored: ``requests`` in the whole days of this step, the others in all."""
        endpoint = self._endpoint(found)
        windows = self._s.monitoring.windows(
            endpoint.name, deployment=found.deployment, since=found.started // DAY * DAY
        )
        # A step begins at the end of a day; days that had begun before it do not count for it.
        mine = [w for w in windows if w.start >= (found.step_from + DAY - 1) // DAY * DAY]
        before = self._s.monitoring.windows(endpoint.name, deployment=found.champion, since=found.started // DAY * DAY)
        tried = sum(w.n + w.errors for w in before)
        return {
            "requests": sum(w.n for w in mine),
            "champion_errors": sum(w.errors for w in before) / tried if tried else 0.0,
            "champion_slow": sum(w.slow for w in before) / max(1, sum(w.answered for w in before)),
            "scored": sum(w.n for w in windows),
            "answered": sum(w.answered for w in windows),
            "errors": sum(w.errors for w in windows),
            "slow": sum(w.slow for w in windows),
        }

    # ---- ends

    def _throw_out(self, found: Rollout, why: str, numbers: dict[str, Any] | None) -> None:
        values = {"kind": "failed", **(numbers or {}), "text": why}
        self._stop(found, CandidateState.THROWN_OUT, values)

    def _give_up(self, found: Rollout, numbers: dict[str, Any]) -> None:
        self._stop(found, CandidateState.INCONCLUSIVE, numbers)

    def _stop(
        self,
        found: Rollout,
        to: CandidateState,
        numbers: dict[str, Any],
        actor: Any = SYSTEM,
        once: Once | None = None,
    ) -> None:
        """Back to the champion alone, in one transaction."""
        endpoint = self._endpoint(found)
        candidate = self.candidate(found.candidate_id)
        back = self.way_back(endpoint)
        with self._s.changes.begin("delivery.stop", self._project_id, actor, once=once) as change:
            if change.earlier is not None:
                return
            change.answer({"candidate": candidate.id})
            if not queries.set_rollout(change.tx, found, {"phase": Phase.DONE.value}):
                return
            self._end(change, candidate, to, {"verdict": numbers})
            if found.champion is not None and found.phase != Phase.LOADING:
                self._route_champion(change, endpoint, found.champion, f"{candidate.name}: {to.value}")
            self._retire(change, endpoint, {found.champion, None if back is None else back.id})
            if found.champion is not None and found.phase != Phase.LOADING:
                self._keep_evidence(change, candidate, found, numbers, passed=False)
            if to == CandidateState.THROWN_OUT:
                text = f"{candidate.name} was thrown out: {numbers.get('text', '')}"
                self._s.monitoring.raise_or_close(change, True, endpoint.name, "release", endpoint.name, text, numbers)
            change.note(endpoint.name, candidate=candidate.id, to=to.value)

    def _promote(self, found: Rollout, deployment: Deployment, numbers: dict[str, Any]) -> None:
        """The candidate becomes champion: registry, routing, records and events in one transaction (decision 8)."""
        endpoint = self._endpoint(found)
        candidate = self.candidate(found.candidate_id)
        assert candidate.number is not None
        with self._s.changes.begin("delivery.promote", self._project_id, SYSTEM) as change:
            if not queries.set_rollout(change.tx, found, {"phase": Phase.DONE.value}):
                return
            self._end(change, candidate, CandidateState.PROMOTED, {"verdict": numbers})
            self._s.registry.move_alias(
                self._project_id, candidate.model, CHAMPION, candidate.number, actor=SYSTEM, tx=change.tx
            )
            self._route_champion(change, endpoint, deployment.id, f"{candidate.name}: champion")
            self._retire(change, endpoint, {deployment.id, found.champion})
            if found.champion is not None:
                self._keep_evidence(change, candidate, found, numbers, passed=True)
            if candidate.trigger not in PERSONS:
                self._keep_pipeline(change, candidate, deployment)
            self._s.monitoring.raise_or_close(change, False, endpoint.name, "release", endpoint.name, "")
            before = None if found.champion is None else self._s.serving.deployment(found.champion).model
            change.note(endpoint.name, champion=candidate.name, before=before)
            change.event("champion.changed", endpoint.name, {"model": candidate.name, "before": before})

    def way_back(self, endpoint: Endpoint) -> Deployment | None:
        """The champion before the one of now, if it is still loaded."""
        routing = self._s.serving.status(endpoint.name).routing
        for earlier in self._s.serving.history(endpoint.name, limit=10_000):
            if earlier.champion is not None and earlier.champion != routing.champion:
                found = self._s.serving.deployment(earlier.champion)
                return found if found.state == DeploymentState.READY else None
        return None

    def _route_champion(self, change: Change, endpoint: Endpoint, deployment: int, reason: str) -> None:
        arms = [Arm(deployment=deployment, role="champion", weight=1.0)]
        self._s.serving.route(change, endpoint, arms, salt="", paired=False, reason=reason)

    def _retire(self, change: Change, endpoint: Endpoint, keep: set[int | None]) -> None:
        """Deployments that neither serve nor are the way back are unloaded."""
        self._s.serving.retire(change, endpoint, {k for k in keep if k is not None})

    def _keep_evidence(
        self, change: Change, candidate: Candidate, found: Rollout, numbers: dict[str, Any], *, passed: bool
    ) -> None:
        deployment = self._s.serving.deployment(found.deployment)
        details = {
            **numbers,
            "requests": numbers.get("scored", 0),
            "drill": candidate.drill,
            "steps": found.policy["steps"],
        }
        self._s.evidence.record(
            change,
            "canary",
            candidate.name,
            passed=passed,
            evaluator=EVALUATOR,
            version_id=deployment.version_id,
            details=details,
        )
        assert found.champion is not None
        speed = self._speed(found)
        if speed:
            self._s.evidence.record(
                change,
                "speed",
                candidate.name,
                passed=speed["p99_ms"] <= max(2 * speed["p99_ms_before"], speed["p99_ms_before"] + 20),
                evaluator=EVALUATOR,
                version_id=deployment.version_id,
                details=speed,
            )

    def _keep_pipeline(self, change: Change, candidate: Candidate, deployment: Deployment) -> None:
        """A whole turn of the loop without a person: trigger, training, gates, canary, champion."""
        details = {
            "trigger": candidate.trigger,
            "stages": ["trigger", "training", "gates", "shadow", "canary", "champion"],
            "model": candidate.name,
        }
        self._s.evidence.record(
            change,
            "pipeline",
            candidate.name,
            passed=True,
            evaluator=EVALUATOR,
            version_id=deployment.version_id,
            details=details,
        )

    def _speed(self, found: Rollout) -> dict[str, Any]:
        """Latency of both versions on the same days of this release."""
        assert found.champion is not None
        endpoint, since = self._endpoint(found), found.started // DAY * DAY
        sides = [
            [w for w in self._s.monitoring.windows(endpoint.name, deployment=d, since=since) if w.answered]
            for d in (found.deployment, found.champion)
        ]
        if not all(sides):
            return {}
        mine, before = ({q: max(w.latency[q] for w in side) for q in ("p50", "p99")} for side in sides)
        return {
            "p50_ms": mine["p50"],
            "p99_ms": mine["p99"],
            "p50_ms_before": before["p50"],
            "p99_ms_before": before["p99"],
            "days": len(sides[0]),
        }

    def cancel(self, endpoint_name: str, *, actor: Any, once: Once | None = None) -> Candidate | None:
        """Stops the release of an endpoint; the champion has all traffic again."""
        earlier = self._s.changes.answered("delivery.stop", self._project_id, once)
        if earlier is not None:
            return None if earlier["candidate"] is None else self.candidate(earlier["candidate"])
        for found in self.open_rollouts(endpoint_name):
            words = {"kind": "cancelled", "text": f"by {actor.name}"}
            self._stop(found, CandidateState.CANCELLED, words, actor, once)
            return self.candidate(found.candidate_id)
        if once is not None:  # a release that begins before the request is repeated is not the one that was meant
            with self._s.changes.begin("delivery.stop", self._project_id, actor, once=once) as change:
                change.note(endpoint_name)
                change.answer({"candidate": None})
        return None

    def _endpoint(self, found: Rollout) -> Endpoint:
        return next(e for e in self._s.serving.endpoints() if e.id == found.endpoint_id)

    def _no_release(self, endpoint: Endpoint) -> None:
        if self.open_rollouts(endpoint.name):
            raise ReleaseOpen(f"A release of {endpoint.name!r} is on its way.", hint=f"noria cancel {endpoint.name}")


def _salt(found: Rollout) -> str:
    return f"rollout:{found.id}"


def _blocks(frame: pl.DataFrame, task: str) -> list[list[float]]:
    """[day, rows, mean difference of clipped losses] of each day with truth, in order."""
    known = frame.filter(pl.col("truth").is_not_null())
    if not len(known):
        return []
    most = verdict.LOSS_CLIP if task == "binary" else float("inf")  # a squared error has the target's own unit
    first = losses(known["truth"].to_numpy(), known["first"].to_numpy(), task).clip(0, most)
    second = losses(known["truth"].to_numpy(), known["second"].to_numpy(), task).clip(0, most)
    days = known.select(day=pl.col("at").dt.truncate("1d").dt.epoch("ms"), difference=pl.Series(second - first))
    grouped = days.group_by("day", maintain_order=True).agg(pl.len().alias("n"), pl.col("difference").mean())
    return [[float(d), float(n), float(m)] for d, n, m in grouped.sort("day").iter_rows()]


def _may_grow(found: Rollout, says: Verdict) -> bool:
    """The first share of traffic is given for requests without errors; a larger one only where truth leans that way."""
    return found.phase == Phase.SHADOW or (says.days > 0 and says.promote > 1 > says.roll_back)


def _broken(traffic: dict[str, Any]) -> str:
    tried = traffic["scored"] + traffic["errors"]
    limit = max(ERROR_RATE, 1.5 * traffic["champion_errors"])  # what breaks both is not the candidate's fault
    if verdict.too_many(traffic["errors"], tried, limit) >= _SURE:
        return f"{traffic['errors']} errors in {tried} requests"
    limit = max(SLOW_RATE, 1.5 * traffic["champion_slow"])
    if verdict.too_many(traffic["slow"], traffic["answered"], limit) >= _SURE:
        return f"{traffic['slow']} of {traffic['answered']} answers above the promised latency"
    return ""


def _words(says: Verdict) -> str:
    worse = "worse" if says.mean > 0 else "better"
    return f"{worse} by {abs(says.mean):.4f} on {says.rows} paired rows of {says.days} days"
