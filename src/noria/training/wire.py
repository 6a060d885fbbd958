"""Wire shapes of sweeps and adoptions: what ``--json`` prints."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from noria.assets.records import Version
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


class AdoptBody(msgspec.Struct, forbid_unknown_fields=True):
    """``model`` is a version: name, name/3, name@alias. What is left out is as it was for the version before.

    ``on`` is a table with rows that the model was not trained on, ``target`` its column of the truth; ``proba``: the
    score is the chance of a yes; ``after``: how long the truth is waited for, such as 7d; ``gates``: roc_auc>=0.8,
    beats_champion, slices:origin:roc_auc>=0.6.
    """

    model: str
    on: str | None = None
    target: str | None = None
    key: list[str] | None = None
    task: str | None = None
    proba: bool | None = None
    after: str | None = None
    gates: list[str] | None = None


class AdoptedOut(msgspec.Struct):
    """``version`` is the asset version that is deployed; ``differs`` lists packages that it was logged with and
    that are here in another version; ``probabilities``: it could give chances instead of classes.
    """

    model: str
    version: int
    run: str
    task: str
    rows: int
    metrics: dict[str, float | None]
    settings: dict[str, Any]
    differs: list[str]
    probabilities: bool


def adopted_out(model: str, version: Version) -> AdoptedOut:
    meta = version.meta
    metrics = {name: value if math.isfinite(value) else None for name, value in meta["metrics"].items()}
    settings = {name: value for name, value in meta["asked"].items() if name not in ("of", "table")}
    return AdoptedOut(
        model=model,
        version=version.id,
        run=meta["run"],
        task=meta["task"],
        rows=meta["rows"],
        metrics=metrics,
        settings=settings,
        differs=meta["differs"],
        probabilities=meta["probabilities"],
    )


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
