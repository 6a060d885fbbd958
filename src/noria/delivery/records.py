from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any, Final

from noria.base.actor import Actor


class CandidateState(enum.StrEnum):
    TRAINING = "training"
    GATING = "gating"
    REFUSED = "refused"
    """A gate said no, or nothing new came out of the training."""
    RELEASING = "releasing"
    PROMOTED = "promoted"
    THROWN_OUT = "thrown_out"
    INCONCLUSIVE = "inconclusive"
    CANCELLED = "cancelled"
    FAILED = "failed"


CANDIDATE_MOVES: dict[CandidateState, frozenset[CandidateState]] = {
    CandidateState.TRAINING: frozenset({CandidateState.GATING, CandidateState.REFUSED, CandidateState.FAILED}),
    CandidateState.GATING: frozenset({CandidateState.RELEASING, CandidateState.REFUSED, CandidateState.FAILED}),
    CandidateState.RELEASING: frozenset(
        {
            CandidateState.PROMOTED,
            CandidateState.THROWN_OUT,
            CandidateState.INCONCLUSIVE,
            CandidateState.CANCELLED,
            CandidateState.FAILED,
        }
    ),
}
SYSTEM: Final = Actor(name="system:delivery", automatic=True)
JOB: Final = "deliver"
"""Kind of the job that trains a candidate, puts it through its gates and begins its release."""
PERSONS = ("manual", "drill", "follow")
"""Triggers behind which somebody stands; no budget counts them."""
OPEN = (CandidateState.TRAINING, CandidateState.GATING, CandidateState.RELEASING)
FOLLOW: Final = "delivery.follow"
"""The subscriber that starts a release where an alias was moved; it hears of the events below."""
FOLLOWED: Final = ("alias.moved", *(f"candidate.{state.value}" for state in CandidateState if state not in OPEN))


class Phase(enum.StrEnum):
    LOADING = "loading"
    SHADOW = "shadow"
    CANARY = "canary"
    DONE = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """What one gate saw and said."""

    kind: str
    passed: bool
    text: str
    details: dict[str, Any] = field(default_factory=dict[str, Any])

    def as_value(self) -> dict[str, Any]:
        return {"kind": self.kind, "passed": self.passed, "text": self.text, "details": self.details}


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A model version on its way, or what came of it.

    Attributes:
        trigger: every, new_rows, drift, worse, manual, drill or follow; ``reason`` the numbers behind it.
        model: the registered model; number: of its version, once there is one.
        gates: what each gate said. verdict: what the canary said, with its numbers.
        forced: a person released it although a gate said no.
        opened, ended: event time.
    """

    id: int
    model: str
    endpoint: str
    trigger: str
    reason: dict[str, Any]
    params: dict[str, Any]
    state: CandidateState
    number: int | None
    gates: list[dict[str, Any]]
    verdict: dict[str, Any]
    error: dict[str, Any] | None
    drill: bool
    forced: bool
    opened: int
    ended: int | None

    @property
    def name(self) -> str:
        return f"{self.model}/{self.number}" if self.number is not None else self.model


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """A release on its way: a persisted state machine.

    Attributes:
        champion: the deployment that it wants to replace; None for an endpoint without one.
        step: which of the policy's canary steps; step_from: event time at which it began.
        blocks: [day, rows, mean loss difference] of each complete day, in order; never changed once written.
        looked: event time of the last look.
    """

    id: int
    endpoint_id: int
    candidate_id: int
    deployment: int
    champion: int | None
    phase: Phase
    step: int
    policy: dict[str, Any]
    blocks: list[list[float]]
    started: int
    step_from: int
    looked: int
