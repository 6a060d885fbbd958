"""Wire shapes of sweeps: what ``--json`` prints."""

from __future__ import annotations

from typing import Any

import msgspec

from noria.training.records import Sweep, Trial


class TrialOut(msgspec.Struct):
    """``value`` is the primary metric on the validation rows; null where the trial failed."""

    number: int
    params: dict[str, Any]
    value: float | None
    run: str | None
    version: int | None
    cached: bool
    error: str | None


class SweepOut(msgspec.Struct):
    """``better`` is 1 where more of the metric is better, -1 where less is; ``model_version`` is model/number."""

    run: str
    model: str
    metric: str
    better: int
    trials: list[TrialOut]
    best: TrialOut
    model_version: str
    warnings: list[dict[str, Any]] = []


def trial_out(trial: Trial) -> TrialOut:
    return TrialOut(
        number=trial.number,
        params=trial.params,
        value=trial.value,
        run=trial.run_id,
        version=trial.version_id,
        cached=trial.cached,
        error=trial.error,
    )


def sweep_out(sweep: Sweep) -> SweepOut:
    return SweepOut(
        run=sweep.run_id,
        model=sweep.model,
        metric=sweep.metric,
        better=sweep.better,
        trials=[trial_out(t) for t in sweep.trials],
        best=trial_out(sweep.best),
        model_version=sweep.model_version,
        warnings=list(sweep.warnings),
    )
