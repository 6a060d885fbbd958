"""What belongs to a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from noria.base.errors import Denied
from noria.base.ids import RunId
from noria.gateways.mlflow.door import Door, run_id_of
from noria.gateways.mlflow.routes import Asked
from noria.gateways.steps.admitted import Admitted

_DEFAULT: Final = ("", "0")

Heard = Callable[[Any], None]
Rule = Callable[[Admitted, Asked], Heard | None]


class NotOfStep(Denied):
    """A step's client asks for what is none of its business."""

    code = "not_of_step"


class Bounds:
    """Questions that several rules ask."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def own_run(self, admitted: Admitted, message: Any) -> RunId:
        """The run that a message is about.

        Raises:
            NotOfStep: it is neither the step's own nor one that its client made.
        """
        id = run_id_of(message.run_id, getattr(message, "run_uuid", None))
        if id not in admitted.runs:
            raise NotOfStep(f"The run {id} is none of the step {admitted.asset!r}.")
        return id

    def readable(self, admitted: Admitted, id: RunId) -> None:
        """Runs of the same experiment may be read: earlier runs of the step.

        Raises:
            NotOfStep, RunNotFound: it is of another one, or not there.
        """
        if id in admitted.runs:
            return
        self._door.run(id)
        if self._door.ws.tracking.data(id).experiment_id != admitted.experiment_id:
            raise NotOfStep(f"The run {id} is of another experiment than the step {admitted.asset!r}.")

    def experiment(self, admitted: Admitted, id: str | None) -> str:
        """The step's experiment, where a client names it, the default one or none.

        Raises:
            NotOfStep: it names another one.
        """
        if id is None or id in _DEFAULT or id == str(admitted.experiment_id):
            return str(admitted.experiment_id)
        raise NotOfStep(f"The experiment {id!r:.80} is none of the step {admitted.asset!r}.")
