from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from noria.base.ids import RunId, VersionId


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One set of hyperparameters that a sweep tried.

    Attributes:
        value: the primary metric on the validation rows; None where the trial failed.
    """

    number: int
    params: dict[str, Any]
    value: float | None
    run_id: RunId | None
    version_id: VersionId | None
    cached: bool
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """A finished sweep. ``best`` is the trial that became the model; ``warnings`` came up when its inputs were made."""

    run_id: RunId
    model: str
    metric: str
    better: int
    trials: list[Trial]
    best: Trial
    model_version: str
    facts: dict[str, Any] = field(default_factory=dict[str, Any])
    warnings: tuple[dict[str, Any], ...] = ()
