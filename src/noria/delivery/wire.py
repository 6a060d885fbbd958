"""Wire shapes of delivery."""

from __future__ import annotations

from typing import Any

import msgspec

from noria.base.times import to_text
from noria.delivery.records import Candidate, Rollout


class RolloutOut(msgspec.Struct):
    id: int
    phase: str
    step: int
    started: str
    days: int


class CandidateOut(msgspec.Struct):
    id: int
    model: str
    number: int | None
    endpoint: str
    trigger: str
    reason: dict[str, Any]
    params: dict[str, Any]
    state: str
    gates: list[dict[str, Any]]
    verdict: dict[str, Any]
    error: dict[str, Any] | None
    drill: bool
    forced: bool
    opened: str
    ended: str | None
    rollout: RolloutOut | None = None


class CandidatePage(msgspec.Struct):
    items: list[CandidateOut]


class CandidateQuery(msgspec.Struct, forbid_unknown_fields=True):
    model: str | None = None
    open: bool = False
    limit: int = 1000


class ReleaseBody(msgspec.Struct, forbid_unknown_fields=True):
    """``model``: name/number, name@alias, or the name for its newest version."""

    model: str
    drill: bool = False
    force: bool = False


class TrainBody(msgspec.Struct, forbid_unknown_fields=True):
    params: dict[str, Any] | None = None


class RollbackBody(msgspec.Struct, forbid_unknown_fields=True):
    drill: bool = False


class RollbackOut(msgspec.Struct):
    endpoint: str
    before: str
    after: str
    ms: int
    drill: bool


def candidate_out(found: Candidate, rollout: Rollout | None = None) -> CandidateOut:
    return CandidateOut(
        id=found.id,
        model=found.model,
        number=found.number,
        endpoint=found.endpoint,
        trigger=found.trigger,
        reason=found.reason,
        params=found.params,
        state=found.state.value,
        gates=found.gates,
        verdict=found.verdict,
        error=found.error,
        drill=found.drill,
        forced=found.forced,
        opened=to_text(found.opened),
        ended=None if found.ended is None else to_text(found.ended),
        rollout=None
        if rollout is None
        else RolloutOut(rollout.id, rollout.phase.value, rollout.step, to_text(rollout.started), len(rollout.blocks)),
    )
