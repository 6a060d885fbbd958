"""What the client of a step may do (decision 16): its own run, what it makes from there, and reading what it needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from noria.base.actor import Actor
from noria.base.ids import RunId
from noria.gateways.mlflow import wire as w
from noria.gateways.mlflow.app import Instead
from noria.gateways.mlflow.door import Door, run_id_of
from noria.gateways.mlflow.routes import Asked, Route
from noria.gateways.mlflow.runs import NAME_TAG, RunCalls
from noria.gateways.steps.admitted import Admitted
from noria.gateways.steps.bounds import Bounds, Heard, NotOfStep, Rule
from noria.gateways.steps.made import MadeRules, anybody

_PARENT: Final = "mlflow.parentRunId"
_AUTOLOGGING: Final = "mlflow.autologging"
_LONGEST: Final = 250
_PROBES: Final = ("/health", "/version")


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest(Actor):
    """The actor of a step's run, and which step it is."""

    admitted: Admitted


class Rules:
    """Looks at every request of a step's client before it is answered."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._runs = RunCalls(door)
        self._bounds = Bounds(door)
        runs, metrics = "2.0/mlflow/runs/", "2.0/mlflow/metrics/"
        writing = ("update", "set-tag", "delete-tag", "log-metric", "log-inputs", "outputs", "log-model")
        self._rules: dict[tuple[str, str], Rule] = {
            **MadeRules(door, self._bounds).rules(),
            **{("POST", runs + name): self._own_run for name in writing},
            ("POST", runs + "create"): self._create_run,
            ("POST", runs + "log-parameter"): self._param,
            ("POST", runs + "log-metric"): self._metric,
            ("POST", runs + "log-batch"): self._batch,
            ("POST", runs + "search"): self._search,
            ("GET", runs + "get"): self._read_run,
            ("GET", metrics + "get-history"): self._read_run,
            ("GET", metrics + "get-history-bulk"): self._read_runs,
            ("GET", metrics + "get-history-bulk-interval"): self._read_runs,
            ("GET", "2.0/mlflow/experiments/get"): self._own_experiment,
            ("GET", "2.0/mlflow/experiments/get-by-name"): self._named_experiment,
            ("POST", "2.0/mlflow/experiments/set-experiment-tag"): self._own_experiment,
            ("GET", "3.0/mlflow/server-info"): anybody,
            **{("GET", path): anybody for path in _PROBES},
        }

    def __call__(self, route: Route, asked: Asked) -> Heard | None:
        assert isinstance(asked.actor, Guest)
        admitted = asked.actor.admitted
        if admitted.experiment_id is None:
            self._open(admitted)
        rule = self._rules.get((route.method, route.path))
        if rule is None:
            raise NotOfStep(
                f"The token of the step {admitted.asset!r} is not for {route.method} {route.path}.",
                hint="Do it outside of the step: export MLFLOW_TRACKING_URI=... with the address of noria up.",
            )
        return rule(admitted, asked)

    def _open(self, admitted: Admitted) -> None:
        """Puts the step's run into its experiment. Steps that log nothing have none."""
        tracking, project_id = self._door.ws.tracking, self._door.project_id
        with self._door.ws.db.write() as tx:
            tracking.track(tx, project_id, admitted.run_id, experiment=admitted.asset, user=admitted.actor.name)
            admitted.experiment_id = tracking.ensure_experiment(tx, project_id, admitted.asset)

    # ---- runs

    def _own_run(self, admitted: Admitted, asked: Asked) -> None:
        self._bounds.own_run(admitted, asked.message)

    def _create_run(self, admitted: Admitted, asked: Asked) -> Heard:
        """A run beside the step's own one becomes its child.

        What a script logs after a fit that was logged by itself needs no other run: it goes on with the step's own.
        """
        message: w.CreateRun = asked.message
        message.experiment_id = self._bounds.experiment(admitted, message.experiment_id)
        tags = list(message.tags or ())
        said = {tag.key for tag in tags} & {_PARENT, NAME_TAG, _AUTOLOGGING}
        if admitted.autologged and not said and not message.run_name:
            raise Instead({"run": self._runs.shown([admitted.run_id])[0]})
        parent = next((tag.value for tag in tags if tag.key == _PARENT), None)
        if parent is None:
            tags.append(w.Pair(_PARENT, admitted.run_id))
        elif RunId(parent) not in admitted.runs:
            raise NotOfStep(f"The run {parent!r:.80} is none of the step {admitted.asset!r}.")
        message.tags = tags
        parent_id = RunId(parent or admitted.run_id)

        def made(answer: Any) -> None:
            id = RunId(answer["run"].info.run_id)
            admitted.runs.add(id)
            with self._door.ws.db.write() as tx:
                self._door.ws.assets.amend_run(tx, id, parent_id=parent_id)

        return made

    def _param(self, admitted: Admitted, asked: Asked) -> None:
        message: w.Keyed = asked.message
        if self._bounds.own_run(admitted, message) == admitted.run_id and message.key:
            message.key, message.value = _beside(admitted, message.key, message.value or "")

    def _metric(self, admitted: Admitted, asked: Asked) -> None:
        message: w.LogMetric = asked.message
        if self._bounds.own_run(admitted, message) == admitted.run_id:
            _once(admitted, message)

    def _batch(self, admitted: Admitted, asked: Asked) -> None:
        message: w.LogBatch = asked.message
        if self._bounds.own_run(admitted, message) != admitted.run_id:
            return
        admitted.autologged |= any(tag.key == _AUTOLOGGING for tag in message.tags or ())
        for metric in message.metrics or ():
            _once(admitted, metric)
        for param in message.params or ():
            param.key, param.value = _beside(admitted, param.key, param.value or "")

    def _search(self, admitted: Admitted, asked: Asked) -> None:
        message: w.SearchRuns = asked.message
        message.experiment_ids = [self._bounds.experiment(admitted, id) for id in message.experiment_ids or ()]

    def _read_run(self, admitted: Admitted, asked: Asked) -> None:
        message: w.NamedRun = asked.message
        self._bounds.readable(admitted, run_id_of(message.run_id, message.run_uuid))

    def _read_runs(self, admitted: Admitted, asked: Asked) -> None:
        message: Any = asked.message
        for id in (message.run_id if isinstance(message, w.GetBulk) else message.run_ids) or ():
            self._bounds.readable(admitted, run_id_of(id))

    # ---- experiments

    def _own_experiment(self, admitted: Admitted, asked: Asked) -> None:
        asked.message.experiment_id = self._bounds.experiment(admitted, asked.message.experiment_id)

    def _named_experiment(self, admitted: Admitted, asked: Asked) -> None:
        """Whatever name a script chooses, its run is the step's: a client refuses to resume a run of another one."""
        asked.message.experiment_name = admitted.asset


def _once(admitted: Admitted, metric: w.MetricIn) -> None:
    if metric.key and metric.value is not None and metric.timestamp is not None:
        metric.timestamp = admitted.once("mlflow", metric.key, metric.step or 0, metric.value, metric.timestamp)


def _beside(admitted: Admitted, key: str, value: str) -> tuple[str, str]:
    """A parameter beside the hyperparameters of the step: the same number is the same, others keep their own name."""
    ours = admitted.params.get(key)
    if ours is None or ours == value:
        return key, value
    try:
        if float(ours) == float(value):
            return key, ours
    except ValueError:
        pass
    other = f"mlflow.{key}"
    return (other if len(other) <= _LONGEST else key), value
