from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

from noria.assets.records import Evidence
from noria.base.ids import VersionId


class Section(enum.StrEnum):
    DATA = "data"
    MODEL = "model"
    INFRASTRUCTURE = "infrastructure"
    MONITORING = "monitoring"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is scored: the model version that serves, with its exact ancestors.

    Attributes:
        endpoint: where it serves; None where it serves nowhere.
        model: ``name/number``; None where there is no model at all.
        registered: the name alone.
        version_id: its package.
        versions: its package and every version that its run, and the runs before, were made from.
        assets: the names of these versions' assets, its sources among them.
        params: its hyperparameters as text, as its run recorded them.
        stood: the spans of wall time (milliseconds) in which it stood behind the endpoint, in whatever role; the
            last one may be open.
    """

    endpoint: str | None = None
    model: str | None = None
    registered: str | None = None
    version_id: VersionId | None = None
    versions: frozenset[VersionId] = frozenset()
    assets: frozenset[str] = frozenset()
    params: tuple[tuple[str, str], ...] = ()
    stood: tuple[tuple[int, int | None], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One of the 28 tests.

    Attributes:
        points: 0, 0.5 or 1.
        evidence: the records that the points hang on, oldest first.
        missing: what the next half point needs; empty at one point.
        note: what a reader should know of the evidence, for instance that nobody but its author has seen it.
    """

    id: str
    section: Section
    title: str
    points: float
    evidence: tuple[Evidence, ...] = ()
    missing: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The ML Test Score of one model version at one moment.

    Attributes:
        at: event time (milliseconds) at which it was computed.
        upto: number of the last evidence record there was.
    """

    subject: Subject
    at: int
    upto: int
    tests: tuple[Mark, ...]

    @property
    def sections(self) -> dict[Section, float]:
        return {s: sum(t.points for t in self.tests if t.section == s) for s in Section}

    @property
    def value(self) -> float:
        """The minimum of the four sections: a system is as good as what was forgotten."""
        return min(self.sections.values())

    @property
    def band(self) -> str:
        return band(self.value)

    def as_value(self) -> dict[str, Any]:
        """What is stored: enough to compute it again."""
        return {
            "format": 1,
            "endpoint": self.subject.endpoint,
            "model": self.subject.model,
            "at": self.at,
            "upto": self.upto,
            "score": self.value,
            "band": self.band,
            "sections": {s.value: points for s, points in self.sections.items()},
            "tests": [
                {
                    "id": t.id,
                    "points": t.points,
                    "evidence": [e.id for e in t.evidence],
                    "missing": list(t.missing),
                    "note": t.note,
                }
                for t in self.tests
            ],
        }


_BANDS = (
    (0, "a research project rather than a system for production"),
    (1, "not without tests, but serious holes are likely"),
    (2, "a first step towards production; more has to follow"),
    (3, "reasonably tested; more of it could run by itself"),
    (5, "strong automatic tests and monitoring, fit for critical use"),
)


def band(score: float) -> str:
    """What a score means, in words (Breck et al. 2017)."""
    return next((text for most, text in _BANDS if score <= most), "exceptional automatic tests and monitoring")
