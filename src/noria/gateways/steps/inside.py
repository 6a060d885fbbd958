"""What an MLflow client in a step's process needs: its environment, and nothing left over from the step before.

Nothing here imports MLflow. It is looked at only where the step's own code has imported it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from noria.gateways.steps.names import HIDDEN, OWN, TOKEN, TOKEN_BEGINS, URI

_FLUENT: Final = "mlflow.tracking.fluent"
_AUTOLOGGING: Final = "mlflow.utils.autologging_utils"


class Inside:
    """The environment of one task; as a context, for as long as the task runs. An empty text unsets a variable.

    Clients are at the step's own run while the step's function runs. What noria itself does around it, for instance
    the fit of a baseline, is not logged by them.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._ours = environment.get(TOKEN, "").startswith(TOKEN_BEGINS)
        self._before: dict[str, str | None] = {}
        self._quiet: contextlib.AbstractContextManager[None] | None = None

    def __enter__(self) -> Inside:
        environ, before = os.environ, self._before
        for name, value in self._environment.items():
            before[name] = environ.get(name)
            if value:
                environ[name] = value
            else:
                environ.pop(name, None)
        return self

    def __exit__(self, *_: object) -> None:
        self._loud()
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    def call(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The step's function, with clients at the step's run while it runs."""
        if not self._ours:
            return function

        def called(*args: Any, **kwargs: Any) -> Any:
            self._loud()
            before = _Before(self._environment[URI])
            status = "FAILED"
            try:
                made = function(*args, **kwargs)
                status = "FINISHED"
            finally:
                if "mlflow" in sys.modules:
                    self._restore(before, status)
            return made

        called.__dict__.update(getattr(function, "__dict__", {}))  # its declaration
        called.__wrapped__ = function  # type: ignore[attr-defined] - its parameters are the function's
        return called

    def _restore(self, before: _Before, status: str) -> None:
        before.restore(sys.modules["mlflow"], status)
        self._hush()
        for name in HIDDEN:
            os.environ.pop(name, None)
        # A client takes the run away once it has begun it.
        os.environ.update({name: value for name, value in self._environment.items() if value})

    def _hush(self) -> None:
        """Turns autologging off where the modules of the project have turned it on for good."""
        module = sys.modules.get(_AUTOLOGGING)
        if module is not None and self._quiet is None and hasattr(module, "disable_autologging"):
            quiet = module.disable_autologging()
            quiet.__enter__()
            self._quiet = quiet

    def _loud(self) -> None:
        if self._quiet is not None:
            self._quiet.__exit__(None, None, None)
            self._quiet = None


class _Before:
    """What MLflow's module stood at before a step's function ran; a worker is warm, and runs others after it."""

    def __init__(self, ours: str) -> None:
        self._ours = ours
        self._uri = ours
        self._run: str | None = None
        self._experiment: Any = None
        self._logging: set[str] = set()
        mlflow = sys.modules.get("mlflow")
        if mlflow is not None:
            self._logging = _autologging()
            with contextlib.suppress(Exception):  # a module of this name that is not MLflow
                self._uri = mlflow.get_tracking_uri()
                run = mlflow.active_run()
                self._run = None if run is None else run.info.run_id
            self._experiment = getattr(sys.modules.get(_FLUENT), "_active_experiment_id", None)
            if self.elsewhere:
                for name in OWN:  # this run's token and id are not for that server
                    os.environ.pop(name, None)
            else:
                choose(None)  # the step's own is in the environment

    @property
    def elsewhere(self) -> bool:
        """Whether code outside of the function has chosen a server, or has a run open: both stay."""
        return self._uri != self._ours or self._run is not None

    def restore(self, mlflow: Any, status: str) -> None:
        """Ends the runs that the function began, sends what waits, and forgets what it chose."""
        with contextlib.suppress(Exception):
            while (run := mlflow.active_run()) is not None and run.info.run_id != self._run:
                mlflow.end_run(status)
        for name in () if self.elsewhere else ("flush_async_logging", "flush_trace_async_logging"):
            with contextlib.suppress(Exception):
                getattr(mlflow, name)()
        with contextlib.suppress(Exception):
            if mlflow.get_active_model_id() is not None:
                mlflow.clear_active_model()
        for name in _autologging() - self._logging:
            with contextlib.suppress(Exception):
                _stop(mlflow, name)
        choose(self._experiment)
        with contextlib.suppress(Exception):
            if not self.elsewhere:
                mlflow.set_tracking_uri(None)
            elif self._uri != self._ours:
                mlflow.set_tracking_uri(self._uri)


def choose(experiment: Any) -> None:
    """MLflow has no public way to choose no experiment, and asks the server about every other one."""
    fluent = sys.modules.get(_FLUENT)
    if getattr(fluent, "_active_experiment_id", experiment) != experiment:
        fluent._active_experiment_id = experiment  # type: ignore[union-attr]


def _autologging() -> set[str]:
    """The libraries whose calls are logged now."""
    known: Any = getattr(sys.modules.get(_AUTOLOGGING), "AUTOLOGGING_INTEGRATIONS", {})
    return {name for name, settings in list(known.items()) if settings and not settings.get("disable", True)}


def _stop(mlflow: Any, name: str) -> None:
    known: Any = getattr(sys.modules[_AUTOLOGGING], "AUTOLOGGING_INTEGRATIONS", {})
    place = mlflow if name == "mlflow" else getattr(mlflow, name)
    place.autolog(disable=True, silent=True)
    known[name] = {}  # as it was before the first call, so that the next step can turn everything on at once
