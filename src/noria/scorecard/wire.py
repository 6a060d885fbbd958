"""Wire shapes of the score: what HTTP sends and what ``--json`` prints."""

from __future__ import annotations

import msgspec

from noria.assets.records import Evidence
from noria.base.times import to_text
from noria.scorecard.records import Mark, Score


class EvidenceRef(msgspec.Struct):
    id: int
    test: str
    subject: str
    passed: bool
    automatic: bool
    event_time: str


class TestOut(msgspec.Struct):
    id: str
    section: str
    title: str
    points: float
    evidence: list[EvidenceRef]
    missing: list[str]
    note: str


class ScoreOut(msgspec.Struct):
    endpoint: str | None
    model: str | None
    event_time: str
    score: float
    band: str
    sections: dict[str, float]
    tests: list[TestOut]


class ScoreQuery(msgspec.Struct):
    """``model``: an endpoint, a model, ``model/3`` or ``model@champion``."""

    model: str | None = None


def score_out(score: Score) -> ScoreOut:
    return ScoreOut(
        endpoint=score.subject.endpoint,
        model=score.subject.model,
        event_time=to_text(score.at),
        score=score.value,
        band=score.band,
        sections={section.value: points for section, points in score.sections.items()},
        tests=[test_out(t) for t in score.tests],
    )


def test_out(test: Mark) -> TestOut:
    return TestOut(
        id=test.id,
        section=test.section.value,
        title=test.title,
        points=test.points,
        evidence=[evidence_ref(e) for e in test.evidence],
        missing=list(test.missing),
        note=test.note,
    )


def evidence_ref(e: Evidence) -> EvidenceRef:
    return EvidenceRef(
        id=e.id,
        test=e.test,
        subject=e.subject,
        passed=e.passed,
        automatic=e.automatic,
        event_time=to_text(e.event_ms),
    )
