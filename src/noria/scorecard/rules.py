"""The rules against gaming (reference monitoring.md, section 2, R1 to R8), as one pure function over evidence records.

R1 no record, no point. R2 a record counts for 30 days of event time, and only for the version that serves or its exact
ancestors. R3 the second half point needs two passes in a row that no person asked for, the newest on this version.
R4 a check that was never seen red, and has no planted fault that it found, is capped at a half. R5 a failed check gives
nothing, an empty one is no evidence. R6 what only its author saw is marked. R7 every point names its records, and what
is missing. R8 the same records give the same score.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from noria.assets.records import Evidence
from noria.base.times import DAY
from noria.scorecard.records import Mark, Section, Subject

FRESH_DAYS: Final = 30
PERIODIC_DAYS: Final = 7
"""What runs by itself every day or so and was not seen for this long is switched off."""

_NAMED: Final = ("model", "before", "after", "from", "to")

Judge = Callable[[Evidence], str]
"""Empty, or what is wrong with a record."""


def _fine(_: Evidence) -> str:
    return ""


def _any(_: Evidence, __: Subject) -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """One kind of evidence record that a test rests on.

    Attributes:
        test: the records' test.
        ask: what gives the half point, where there is no record.
        where: which records of that test are meant.
        sound: why a record is no evidence at all (R5).
        full: why a record is worth no more than a half.
        periodic: it has to come again and again, not once for each version.
        refuses: red means that something was kept out: the check did its work, and the version is not blamed.
    """

    test: str
    ask: str
    where: Callable[[Evidence, Subject], bool] = _any
    sound: Judge = _fine
    full: Judge = _fine
    periodic: bool = False
    refuses: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Test:
    """One of the 28. A half point for any of its needs, one point for all of them, run by themselves and proven."""

    id: str
    section: Section
    title: str
    needs: tuple[Need, ...]


@dataclass(frozen=True, slots=True)
class _Found:
    """How one need is met: 0, 0.5 or 1; -1 where the newest record is red."""

    points: float
    evidence: tuple[Evidence, ...] = ()
    missing: tuple[str, ...] = ()
    note: str = ""


def evaluate(test: Test, records: Sequence[Evidence], subject: Subject, now: int) -> Mark:
    """The points of a test.

    Args:
        records: the project's evidence, oldest first.
        now: event time.
    """
    found = [_meet(need, records, subject, now) for need in test.needs]
    if any(f.points < 0 for f in found):
        points = 0.0
        found = [f for f in found if f.points < 0]
    elif all(f.points >= 1 for f in found):
        points = 1.0
    else:
        points = 0.5 if any(f.points >= 0.5 for f in found) else 0.0
    evidence = {e.id: e for f in found for e in f.evidence}
    missing = dict.fromkeys(text for f in found for text in f.missing)
    return Mark(
        id=test.id,
        section=test.section,
        title=test.title,
        points=points,
        evidence=tuple(evidence[number] for number in sorted(evidence)),
        missing=() if points == 1 else tuple(missing),
        note="; ".join(dict.fromkeys(f.note for f in found if f.note)),
    )


def _meet(need: Need, records: Sequence[Evidence], subject: Subject, now: int) -> _Found:
    every = [e for e in records if e.test == need.test and not is_proof(e) and need.where(e, subject)]
    mine = [e for e in every if belongs(e, subject)]
    if need.refuses:
        mine = [e for e in mine if e.passed or _forced(e)]
    fresh = [e for e in mine if now - e.event_ms <= FRESH_DAYS * DAY]
    sound = [e for e in fresh if not need.sound(e)]
    if not sound:
        return _Found(0, missing=(_why_nothing(need, mine, fresh),))
    newest = _occasions(sound)[-1]
    red = [e for e in newest if not e.passed and not _forced(e)]
    if red:
        return _Found(-1, tuple(newest), (f"{need.test} {red[0].id} is red: {need.ask}",))
    before = _before(need, every, newest, now)
    proof = _proof(need, records, newest)
    missing = _to_full(need, newest, before, proof, now)
    note = "" if all(e.automatic for e in newest) else f"self-attested by {newest[-1].actor}"
    rests = [*newest, *(before if _repeats(need, before) else ()), *([] if proof is None else [proof])]
    return _Found(0.5 if missing else 1.0, tuple(rests), missing, note)


def _why_nothing(need: Need, mine: list[Evidence], fresh: list[Evidence]) -> str:
    if fresh:
        return f"{need.test} {fresh[-1].id} is no evidence: {need.sound(fresh[-1])}"
    if mine:
        return f"{need.test} {mine[-1].id} is older than {FRESH_DAYS} days: {need.ask}"
    return need.ask


def _to_full(
    need: Need, newest: list[Evidence], before: list[Evidence], proof: Evidence | None, now: int
) -> tuple[str, ...]:
    missing = [text for text in dict.fromkeys(need.full(e) for e in newest) if text]
    if any(_forced(e) for e in newest):
        missing.append(f"{need.test} {newest[-1].id} was forced: let it pass by itself")
    if not all(e.automatic for e in newest):
        missing.append(f"{need.test} was asked for by {newest[-1].actor}: let a trigger run it, twice in a row")
    elif not _repeats(need, before):
        missing.append(f"a second automatic pass of {need.test} in a row")
    if proof is None:
        missing.append(f"{need.test} was never seen red: plant a fault that it has to find")
    last = max(e.event_ms for e in newest)
    if need.periodic and now - last > PERIODIC_DAYS * DAY:
        missing.append(f"{need.test} last ran {(now - last) // DAY} days ago: is its schedule on?")
    return tuple(missing)


def _repeats(need: Need, before: list[Evidence]) -> bool:
    return bool(before) and all(e.automatic and (e.passed or need.refuses) for e in before)


def belongs(e: Evidence, subject: Subject) -> bool:
    """Whether a record speaks of the version that serves or of what it was made from (R2)."""
    if subject.model is None:
        return False
    if e.test == "search" and _same_params(e, subject):
        return True
    if e.version_id is not None:
        return e.version_id in subject.versions
    if e.subject == subject.model:
        return True
    if e.subject == subject.endpoint:
        named = models_of(e)
        return subject.model in named if named else _stood(e, subject)
    return e.subject in subject.assets


def models_of(e: Evidence) -> list[str]:
    """The model versions that a record of an endpoint names: the one it judged, or both ends of a way back."""
    return [found for name in _NAMED if isinstance(found := e.details.get(name), str) and found]


def _stood(e: Evidence, subject: Subject) -> bool:
    """Whether the version stood behind the endpoint when a record was made that names none."""
    return any(since <= e.created_at and (until is None or e.created_at <= until) for since, until in subject.stood)


def _same_params(e: Evidence, subject: Subject) -> bool:
    """A sweep of the same model whose best values are those of the version: a retrained champion took them over."""
    best = e.details.get("best")
    if not best or series(e) != subject.registered:
        return False
    mine = dict(subject.params)
    return all(mine.get(name) == (v if isinstance(v, str) else repr(v)) for name, v in best.items())


def series(e: Evidence) -> str:
    """What is checked again and again: the registered model of a version, else the subject itself."""
    return e.subject.partition("/")[0]


def is_proof(e: Evidence) -> bool:
    """A planted fault: green where the check found it. It is no verdict on the version."""
    return e.details.get("mutation") is True


def _forced(e: Evidence) -> bool:
    return e.details.get("forced") is True


def _occasions(records: Sequence[Evidence]) -> list[list[Evidence]]:
    """Records of one run are one occasion; the others are each their own. In the order of their last record."""
    found: dict[object, list[Evidence]] = {}
    for e in records:
        found.setdefault(e.id if e.run_id is None else (e.run_id, e.subject), []).append(e)
    return sorted(found.values(), key=lambda group: group[-1].id)


def _before(need: Need, every: list[Evidence], newest: list[Evidence], now: int) -> list[Evidence]:
    """The occasion before the newest, of the same series, whichever version it was about."""
    first, name = newest[0].id, series(newest[0])
    earlier = [
        e
        for e in every
        if e.id < first and series(e) == name and now - e.event_ms <= FRESH_DAYS * DAY and not need.sound(e)
    ]
    groups = _occasions(earlier)
    return groups[-1] if groups else []


def _proof(need: Need, records: Sequence[Evidence], newest: list[Evidence]) -> Evidence | None:
    """The newest record that shows that the check can be red: it was, or it found a planted fault (R4).

    A record with ``details.mutation`` is green where the planted fault was found. The code that judged has to be the
    same: proof of another evaluator says nothing of this one.
    """
    evaluators = {e.evaluator for e in newest}
    for e in reversed(records):
        if e.test == need.test and e.evaluator in evaluators and e.passed == is_proof(e):
            return e
        if e.test == "drill" and e.details.get("test") == need.test and e.passed:
            return e
    return None
