"""What to try next. Optuna's TPE, asked in rounds of a fixed width, rebuilt from the finished trials each time.

So the same trials give the same questions, whether or not the sweep was interrupted, and however many processes ran.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from noria.base.errors import Invalid, MissingExtra


def ask(
    space: dict[str, dict[str, Any]],
    done: Sequence[tuple[dict[str, Any], float | None]],
    count: int,
    *,
    better: int,
    seed: str,
) -> list[dict[str, Any]]:
    """The next ``count`` sets of hyperparameters, given those that were tried and their values.

    Args:
        better: 1 where more is better, -1 where less is.
        seed: together with the number of finished trials it decides everything random.
    """
    try:
        import optuna
    except ImportError:
        raise MissingExtra("optuna", "ml", "A sweep") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    number = int.from_bytes(hashlib.sha256(f"{seed}:{len(done)}".encode()).digest()[:4], "big")
    sampler = optuna.samplers.TPESampler(seed=number, n_startup_trials=8, multivariate=False)
    study = optuna.create_study(direction="maximize" if better > 0 else "minimize", sampler=sampler)
    distributions = {name: _distribution(optuna, name, spec) for name, spec in space.items()}
    for params, value in done:
        if value is None:
            state, values = optuna.trial.TrialState.FAIL, None
        else:
            state, values = optuna.trial.TrialState.COMPLETE, [value]
        study.add_trial(
            optuna.trial.create_trial(
                state=state,
                params={k: _inside(params[k], space[k]) for k in space},
                distributions=distributions,
                values=values,
            )
        )
    asked: list[dict[str, Any]] = []
    for _ in range(count):
        trial = study.ask(distributions)
        asked.append({name: _rounded(trial.params[name], space[name]) for name in space})
    return asked


def _distribution(optuna: Any, name: str, spec: dict[str, Any]) -> Any:
    d = optuna.distributions
    if spec["kind"] == "floats":
        return d.FloatDistribution(spec["low"], spec["high"])
    if spec["kind"] == "log":
        return d.FloatDistribution(spec["low"], spec["high"], log=True)
    if spec["kind"] == "ints":
        return d.IntDistribution(int(spec["low"]), int(spec["high"]))
    if spec["kind"] == "choice":
        return d.CategoricalDistribution(tuple(spec["choices"]))
    raise Invalid(f"The space of {name!r} is of the unknown kind {spec['kind']!r}.")


def _rounded(value: Any, spec: dict[str, Any]) -> Any:
    """Six significant digits: enough to search by, short to read, and the same in every record."""
    return float(f"{value:.6g}") if spec["kind"] in ("floats", "log") else value


def _inside(value: Any, spec: dict[str, Any]) -> Any:
    if spec["kind"] in ("floats", "log"):
        return min(max(float(value), spec["low"]), spec["high"])
    return value
