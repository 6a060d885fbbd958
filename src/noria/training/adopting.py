"""What a model of MLflow's client is adopted with: the rows that judge it, the truth, the gates."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from noria.base.errors import Invalid
from noria.base.names import nearest
from noria.pipelines.declare import gate
from noria.pipelines.declare.policies import Gate
from noria.training.metrics import DEFAULTS, METRICS

TASKS: Final = tuple(DEFAULTS)
_BOUND: Final = re.compile(r"(?:slices:(?P<by>[^:]+):)?(?P<name>[^<>=]+?)\s*(?P<sign>>=|<=)\s*(?P<value>\S+)")
_GATES: Final = "beats_champion, roc_auc>=0.8, rmse<=3 or slices:COLUMN:roc_auc>=0.6"


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopting:
    """Settings; what is left out is taken from the adoption of the model's version before.

    Attributes:
        on: a table with rows that the model was not trained on, ``name`` or ``name@branch``; empty for none.
        target: its column of the truth.
        key: the columns that name a row; those of the table's key where none are named.
        task: ``binary`` or ``regression``; empty: what the truth looks like.
        proba: the score is the chance of a yes, from the model's own ``predict_proba``.
        after_ms: how long after a row's moment its truth is waited for.
        gates: what a version has to show before it is released, as ``nr.gate`` makes them.
    """

    on: str = ""
    target: str = ""
    key: tuple[str, ...] = ()
    task: str = ""
    proba: bool = False
    after_ms: int = 0
    gates: tuple[dict[str, Any], ...] = field(default=())

    def as_value(self) -> dict[str, Any]:
        return {
            "on": self.on,
            "target": self.target,
            "key": list(self.key),
            "task": self.task,
            "proba": self.proba,
            "after_ms": self.after_ms,
            "gates": list(self.gates),
        }

    @classmethod
    def of_value(cls, value: Mapping[str, Any]) -> Adopting:
        return cls(
            on=value["on"],
            target=value["target"],
            key=tuple(value["key"]),
            task=value["task"],
            proba=value["proba"],
            after_ms=value["after_ms"],
            gates=tuple(value["gates"]),
        )

    def check(self) -> Adopting:
        """Itself.

        Raises:
            Invalid: parts of it do not fit together.
        """
        if bool(self.on) != bool(self.target):
            raise Invalid(
                "A table that judges needs a column with the truth, and a truth needs a table.",
                hint="--on TABLE --target COLUMN",
            )
        if self.task and self.task not in TASKS:
            raise Invalid(f"There is no task {self.task!r}.", hint=nearest(self.task, TASKS) or ", ".join(TASKS))
        for wanted in self.gates if self.on else ():
            name = wanted["metric"]
            if name is not None and name not in METRICS:
                raise Invalid(
                    f"A table judges by no metric {name!r}.", hint=nearest(name, METRICS) or ", ".join(METRICS)
                )
        if self.after_ms < 0:
            raise Invalid("The truth cannot be waited for less than no time.", hint="--after 7d")
        return self


def gates_of(texts: Sequence[str]) -> tuple[dict[str, Any], ...]:
    """Gates as a person writes them: ``beats_champion``, ``roc_auc>=0.8``, ``slices:origin:roc_auc>=0.6``.

    Raises:
        Invalid: one is none of these. A metric that noria does not know is allowed: the client may have logged it.
    """
    return tuple(_gate(text.strip()) for text in texts)


def _gate(text: str) -> dict[str, Any]:
    if text == "beats_champion":
        return gate.beats_champion().spec()
    match = _BOUND.fullmatch(text)
    try:
        value = float(match["value"]) if match is not None else float("nan")
    except ValueError:
        value = float("nan")
    if match is None or value != value:
        raise Invalid(f"{text!r} is no gate.", hint=f"For instance {_GATES}.")
    name = match["name"].strip()
    if match["by"]:
        if name not in METRICS or match["sign"] != (">=" if METRICS[name].better > 0 else "<="):
            raise Invalid(f"{text!r} is no gate on slices.", hint=f"One of {', '.join(METRICS)}, and how good it is.")
        return Gate(kind="slices", by=match["by"], metric=name, least=value).spec()
    least, most = (value, None) if match["sign"] == ">=" else (None, value)
    return gate.metric(name, least=least, most=most).spec()
