from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from noria.base.digest import Digest
from noria.base.ids import RunId, VersionId


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """One input of a step.

    Attributes:
        slot: the parameter, or a role such as ``features`` and ``target``.
        asset: the name of the asset.
        pinned: a branch, commit or version to use instead of the newest.
    """

    slot: str
    asset: str
    pinned: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """A reason why a step runs: ``level`` CODE, VALUE, PARAM, INPUT, LIBRARY, ENV, POLICY, UPSTREAM or NEW."""

    level: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """What would happen to one asset.

    Attributes:
        action: ``source`` (its head is taken), ``reuse`` (cached), ``run`` (of a source: it is collected), or ``empty``
            (a source without rows).
        expected_ms: from the history of runs; None where there is none.
        key: the cache key; None where an input will change first.
    """

    asset: str
    kind: str
    action: str
    why: tuple[Why, ...] = ()
    expected_ms: int | None = None
    key: Digest | None = None
    version_id: VersionId | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What happened to one asset in a pipeline run.

    Attributes:
        action: ``source``, ``reused``, ``made``, ``failed`` or ``blocked`` (an input failed).
        run_id: the run that made it, now or before.
        outputs: output slot -> version; the main output has the slot ``""``.
        warnings: what did not stop it, in the form of errors: a batch that a contract refused, for instance.
    """

    asset: str
    kind: str
    action: str
    run_id: RunId | None = None
    outputs: dict[str, VersionId] = field(default_factory=dict[str, VersionId])
    why: tuple[Why, ...] = ()
    wall_ms: int = 0
    error: dict[str, Any] | None = None
    warnings: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineRun:
    """A whole ``noria run``."""

    run_id: RunId
    steps: dict[str, StepResult]

    @property
    def warnings(self) -> tuple[dict[str, Any], ...]:
        """What did not stop a step, in the form of errors."""
        return tuple(warning for step in self.steps.values() for warning in step.warnings)

    @property
    def failed(self) -> list[StepResult]:
        return [s for s in self.steps.values() if s.action == "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """What a project says of one asset, as applied: plain values, so that a server knows it without user code."""

    name: str
    kind: str
    entry: str
    spec: dict[str, Any]
    code: str
    updated_at: int
