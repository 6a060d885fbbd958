"""The verbs of the scorecard: compute the score from records, keep it as a version, compute a kept one again."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from noria.assets import Assets, Changes, EvidenceLog, Lineage, ProjectClock, StoreSessions
from noria.assets.records import AssetKind, Content, Direction, Version
from noria.assets.versions import layout_of
from noria.base import canonical
from noria.base.actor import Actor
from noria.base.ids import ProjectId
from noria.registry import Registry
from noria.scorecard.catalogue import NAMES, TESTS
from noria.scorecard.records import Score, Subject
from noria.scorecard.rules import evaluate
from noria.scorecard.subjects import Subjects
from noria.serving.service import Serving
from noria.store import Kind
from noria.tracking import Tracking

ASSET = "scorecard"
_MOST_RECORDS = 1_000_000


class Scorecard:
    """One per workspace."""

    def __init__(
        self,
        project_id: ProjectId,
        assets: Assets,
        lineage: Lineage,
        evidence: EvidenceLog,
        changes: Changes,
        sessions: StoreSessions,
        serving: Serving,
        registry: Registry,
        tracking: Tracking,
        event_clock: ProjectClock,
    ) -> None:
        self._project_id = project_id
        self._assets = assets
        self._evidence = evidence
        self._changes = changes
        self._sessions = sessions
        self._event_clock = event_clock
        self._subjects = Subjects(project_id, assets, lineage, serving, registry, tracking)

    def score(self, endpoint_or_model: str | None = None) -> Score:
        """The ML Test Score of the version that serves now.

        Args:
            endpoint_or_model: an endpoint, a model, ``model/3`` or ``model@champion``; may be left out where there is
                only one.

        Raises:
            SubjectUnclear: no name was given and there are several.
            ModelNotFound: nothing has this name.
        """
        subject = self._subjects.find(endpoint_or_model)
        return self._score(subject, self._event_clock.event_ms(self._project_id), None)

    def _score(self, subject: Subject, at: int, upto: int | None) -> Score:
        records = self._evidence.list(self._project_id, tests=NAMES, limit=_MOST_RECORDS)
        if upto is not None:
            records = [e for e in records if e.id <= upto]
        return Score(
            subject=subject,
            at=at,
            upto=(records[-1].id if records else 0) if upto is None else upto,
            tests=tuple(evaluate(test, records, subject, at) for test in TESTS),
        )

    # ---- kept scores

    def keep(self, endpoint_or_model: str | None = None, *, actor: Actor) -> tuple[Score, Version]:
        """Computes the score and keeps it as a version of the asset ``scorecard``, about the version it speaks of."""
        score = self.score(endpoint_or_model)
        value = score.as_value()
        raw = msgspec.json.encode(value)
        with self._sessions.writer() as writer:
            blob = writer.put(Kind.BLOB, raw)
            packs = writer.flush()
            with self._changes.begin("scorecard.keep", self._project_id, actor) as change:
                tx = change.tx
                self._sessions.seal(tx, packs)
                asset = self._assets.define(tx, self._project_id, ASSET, AssetKind.REPORT)
                meta = {"model": score.subject.model, "score": score.value, "at": score.at}
                version = self._assets.add_version(
                    tx,
                    asset.id,
                    digest=canonical.digest(value),
                    content=Content.JSON,
                    layout=blob,
                    size=len(raw),
                    meta=meta,
                )
                name = f"scorecard of {score.subject.model or 'nothing'}"
                run = self._assets.record_run(tx, self._project_id, kind="check", name=name, actor=actor)
                if score.subject.version_id is not None:
                    self._assets.link(tx, run, score.subject.version_id, Direction.ABOUT, "model")
                self._assets.link(tx, run, version.id, Direction.OUT, "")
                self._assets.set_current(tx, asset.id, version.id)
                change.note(score.subject.model or "", score=score.value)
                change.event("scorecard.kept", score.subject.model or "", {"score": score.value, "run": run})
        return score, version

    def kept(self, version: Version) -> dict[str, Any]:
        """A kept score as it was written."""
        return json.loads(self._sessions.store.get(layout_of(version), Kind.BLOB))

    def again(self, version: Version) -> Score:
        """Computes a kept score again, from the records that there were then and from the graph (rule R8)."""
        value = self.kept(version)
        subject = self._subjects.pinned(value["endpoint"], value["model"])
        return self._score(subject, value["at"], value["upto"])
