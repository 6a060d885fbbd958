"""The 28 tests of the ML Test Score in our own words, each with the evidence that it rests on."""

from __future__ import annotations

import math
from typing import Any, Final

from noria.assets.records import Evidence
from noria.scorecard.records import Section, Subject
from noria.scorecard.rules import Need, Test

CANARY_REQUESTS: Final = 100
ROLLBACK_MS: Final = 60_000
TRIALS: Final = 10
TRUTH_COVERAGE: Final = 0.5
AGES: Final = 3
VERSIONS: Final = 5


def _number(e: Evidence, name: str) -> float | None:
    value: Any = e.details.get(name)
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if good else None


def _rows(e: Evidence) -> str:
    """Rows have to have been looked at."""
    return "" if (_number(e, "rows") or 0) > 0 else "it looked at no rows"


def _filled(name: str, text: str) -> Any:
    def judge(e: Evidence) -> str:
        return "" if e.details.get(name) else text

    return judge


def _finite(name: str, text: str) -> Any:
    def judge(e: Evidence) -> str:
        return "" if _number(e, name) is not None else text

    return judge


def _at_least(name: str, least: float, text: str) -> Any:
    def judge(e: Evidence) -> str:
        return "" if (_number(e, name) or 0) >= least else text

    return judge


def _gates(e: Evidence) -> list[dict[str, Any]]:
    found = e.details.get("gates")
    return [g for g in found if isinstance(g, dict)] if isinstance(found, list) else []


def _kind(gate: dict[str, Any]) -> str:
    return str(gate.get("kind") or gate.get("gate") or gate.get("name") or "").partition(" ")[0].partition("(")[0]


def _both_gates(e: Evidence) -> str:
    kinds = {_kind(g) for g in _gates(e) if g.get("passed", True)}
    if "beats_champion" not in kinds:
        return "a gate against the champion: nr.gate.beats_champion()"
    if kinds <= {"beats_champion"}:
        return "a gate with a fixed bound beside the comparison: nr.gate.metric or nr.gate.slices"
    return ""


def _gates_slices(e: Evidence, _: Subject) -> bool:
    return any(_kind(g) == "slices" for g in _gates(e))


def _intervals(e: Evidence) -> str:
    found: list[dict[str, Any]] = e.details.get("features") or []
    return "" if all("low" in f and "high" in f for f in found) else "an interval for each feature's effect"


def _canary(e: Evidence) -> str:
    if e.details.get("drill") is True:
        return "it was a drill, not this version's release"
    return "" if (_number(e, "requests") or 0) > 0 else "it saw no requests"


def _rollback(e: Evidence) -> str:
    before, after = e.details.get("before", e.details.get("from")), e.details.get("after", e.details.get("to"))
    if before is not None and before == after:
        return f"it went from {before} to itself"
    return "" if _number(e, "ms") is not None else "it does not say how long it took"


def _fast(e: Evidence) -> str:
    return "" if (_number(e, "ms") or 0) <= ROLLBACK_MS else f"a way back within {ROLLBACK_MS // 1000} s"


def _all_equal(e: Evidence) -> str:
    return "" if e.details.get("equal", e.details.get("rows")) == e.details.get("rows") else "every row has to be equal"


def _of_endpoint(e: Evidence, subject: Subject) -> bool:
    return e.subject == subject.endpoint


def _of_model(e: Evidence, subject: Subject) -> bool:
    return e.subject != subject.endpoint


def _drawn(e: Evidence) -> str:
    return "" if e.details.get("random") is True else "the prediction has to be drawn at random, not chosen"


def _truth(e: Evidence) -> str:
    if e.details.get("estimate") is True:
        return "an estimate without labels is no truth"
    coverage = _number(e, "coverage")
    few = coverage is not None and coverage < TRUTH_COVERAGE
    return f"labels for at least {TRUTH_COVERAGE:.0%} of the predictions" if few else ""


def _someone_else(e: Evidence) -> str:
    who = e.details.get("reviewer")
    return "" if who and who != e.details.get("author") else "somebody else than the author has to approve it"


def _need(test: str, ask: str, **more: Any) -> Need:
    return Need(test=test, ask=ask, **more)


_CONTRACT = _need(
    "contract",
    "a contract on the sources, with a recorded verdict on each batch: noria data contract set SOURCE FILE",
    sound=_rows,
    refuses=True,
)
_SERVED = _need("serving_inputs", "the daily check of served rows against the contract", sound=_rows, periodic=True)
_CI = _need(
    "ci",
    "tests of the project's code, run on the code of this version (noria cannot record them yet)",
    sound=_filled("tests", "it ran no tests"),
)

_D, _M, _I, _O = Section.DATA, Section.MODEL, Section.INFRASTRUCTURE, Section.MONITORING

TESTS: Final[tuple[Test, ...]] = (
    Test(id="D1", section=_D, title="What features may be is written down and checked", needs=(_CONTRACT, _SERVED)),
    Test(
        id="D2",
        section=_D,
        title="Every feature helps",
        needs=(
            _need(
                "importance",
                "the effect of each feature on held-out rows, measured in training",
                sound=_filled("features", "it names no feature"),
                full=_intervals,
            ),
        ),
    ),
    Test(
        id="D3",
        section=_D,
        title="No feature costs more than it is worth",
        needs=(
            _need(
                "feature_check",
                "the features' build time, measured when they are made",
                sound=_filled("cost", "it measured no cost"),
            ),
            _need(
                "feature_cost",
                "a budget for features that can block one",
                sound=_finite("budget", "its budget has no bound"),
            ),
        ),
    ),
    Test(
        id="D4",
        section=_D,
        title="Features keep the rules on what may be used",
        needs=(
            _need(
                "feature_policy",
                "rules on forbidden and deprecated sources, checked along the lineage of every feature",
                sound=_filled("rules", "it has no rules"),
            ),
        ),
    ),
    Test(
        id="D5",
        section=_D,
        title="Privacy is guarded along the whole pipeline",
        needs=(
            _need("privacy", "a search for personal data in each version, which finds a planted value", sound=_rows),
        ),
    ),
    Test(
        id="D6",
        section=_D,
        title="A new feature reaches production fast",
        needs=(
            _need(
                "lead_time",
                "the time from a feature's first definition to its first served value",
                sound=_finite("days", "it measured no time"),
            ),
        ),
    ),
    Test(
        id="D7",
        section=_D,
        title="All feature code is tested",
        needs=(
            _need(
                "feature_check",
                "features made by noria, compared in bulk, one by one and without the future",
                sound=_rows,
            ),
            _CI,
        ),
    ),
    Test(
        id="M1",
        section=_M,
        title="The model's code was reviewed and is in the repository",
        needs=(_need("review", "an approval of the commit that this version was trained from", full=_someone_else),),
    ),
    Test(
        id="M2",
        section=_M,
        title="The metric offline says what happens online",
        needs=(
            _need(
                "correlation",
                "the metric offline and the outcome online of every deployed version, compared",
                full=_at_least("versions", VERSIONS, f"at least {VERSIONS} deployed versions"),
            ),
        ),
    ),
    Test(
        id="M3",
        section=_M,
        title="Hyperparameters were searched",
        needs=(
            _need(
                "search",
                "a sweep over the declared space that gave this version its values: noria sweep MODEL",
                sound=_at_least("trials", 2, "it tried fewer than two sets of values"),
                full=_at_least("trials", TRIALS, f"a sweep with at least {TRIALS} trials"),
            ),
        ),
    ),
    Test(
        id="M4",
        section=_M,
        title="What a model loses with age is known",
        needs=(
            _need(
                "backtest",
                "old versions judged on newer windows, at each retraining",
                full=_at_least("ages", AGES, f"at least {AGES} ages"),
            ),
        ),
    ),
    Test(
        id="M5",
        section=_M,
        title="A simpler model is not as good",
        needs=(_need("baseline", "a constant and a linear model on the same split, both beaten with an interval"),),
    ),
    Test(
        id="M6",
        section=_M,
        title="The model is good on every important slice",
        needs=(
            _need("slices", "metrics on the slices of the test rows", sound=_filled("slices", "there is no slice")),
            _need("gate", "a gate on slices: nr.gate.slices(...)", where=_gates_slices, refuses=True),
        ),
    ),
    Test(
        id="M7",
        section=_M,
        title="The model was tested for fairness",
        needs=(
            _need(
                "fairness",
                "metrics by a declared group of people, in training and in production",
                sound=_filled("groups", "it names no group"),
            ),
        ),
    ),
    Test(
        id="I1",
        section=_I,
        title="Training again gives the same model",
        needs=(_need("reproduce", "this version's run executed again without cache, and its result compared"),),
    ),
    Test(id="I2", section=_I, title="The model's code has unit tests", needs=(_CI,)),
    Test(
        id="I3",
        section=_I,
        title="The whole pipeline is tested at once",
        needs=(_need("pipeline", "a run from the sources to a served prediction"),),
    ),
    Test(
        id="I4",
        section=_I,
        title="A model is judged before it serves",
        needs=(
            _need(
                "gate",
                "gates that this version passed: @nr.model(gates=[...])",
                sound=lambda e: "" if _gates(e) else "it has no gates",
                full=_both_gates,
                refuses=True,
            ),
        ),
    ),
    Test(
        id="I5",
        section=_I,
        title="One prediction can be followed step by step",
        needs=(_need("trace", "a prediction traced to its rows and computed again", sound=_rows, full=_drawn),),
    ),
    Test(
        id="I6",
        section=_I,
        title="A new model meets a little traffic first",
        needs=(
            _need(
                "canary",
                "a release through a canary: nr.release.canary(...)",
                sound=_canary,
                refuses=True,
                full=_at_least("requests", CANARY_REQUESTS, f"a canary with at least {CANARY_REQUESTS} requests"),
            ),
        ),
    ),
    Test(
        id="I7",
        section=_I,
        title="The way back is quick and safe",
        needs=(
            _need(
                "rollback",
                "a rollback, for real or as a drill: noria rollback ENDPOINT --drill",
                sound=_rollback,
                full=_fast,
            ),
        ),
    ),
    Test(
        id="Mo1",
        section=_O,
        title="A change in what we depend on is noticed",
        needs=(
            _need(
                "dependency",
                "a notice, delivered to somebody, when a library or a source's columns change",
                sound=_filled("delivered", "nobody got it"),
            ),
        ),
    ),
    Test(
        id="Mo2",
        section=_O,
        title="What holds for training data holds for served data",
        needs=(_SERVED,),
    ),
    Test(
        id="Mo3",
        section=_O,
        title="Features are the same in training and in serving",
        needs=(
            _need(
                "skew",
                "captured features computed again in bulk and compared",
                sound=_rows,
                full=_all_equal,
                periodic=True,
            ),
        ),
    ),
    Test(
        id="Mo4",
        section=_O,
        title="Models do not grow too old",
        needs=(
            _need(
                "staleness",
                "the age of the serving model and of its data, checked against a limit",
                sound=_finite("age_days", "it does not know the age"),
                full=_finite("limit_days", "a limit for the age: nr.when.every(...)"),
                periodic=True,
            ),
        ),
    ),
    Test(
        id="Mo5",
        section=_O,
        title="Numbers stay finite",
        needs=(
            _need("numeric", "a count of scores that are no numbers, in training", where=_of_model),
            _need("numeric", "the same count over served scores, every day", where=_of_endpoint, periodic=True),
        ),
    ),
    Test(
        id="Mo6",
        section=_O,
        title="A new version is not slower",
        needs=(_need("speed", "latency and memory of this version against the one before, on the same machine"),),
    ),
    Test(
        id="Mo7",
        section=_O,
        title="Predictions do not get worse",
        needs=(
            _need(
                "quality",
                "the metric over served predictions and their late labels, window by window",
                sound=_rows,
                full=_truth,
                periodic=True,
            ),
        ),
    ),
)

NAMES: Final = sorted({need.test for test in TESTS for need in test.needs} | {"drill"})
"""The evidence records that any test rests on."""
