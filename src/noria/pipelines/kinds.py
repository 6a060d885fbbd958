"""What the kinds of steps differ in. Later rooms add theirs in ``workspace``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from noria.assets import Change
from noria.assets.records import AssetKind, Version
from noria.base.ids import RunId
from noria.pipelines.graph import Graph, Node
from noria.pipelines.task import TaskResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Landed:
    """A step whose outputs are being written down, inside the transaction that does it."""

    change: Change
    node: Node
    run_id: RunId
    outputs: dict[str, Version]
    result: TaskResult
    trial: bool = False


def _no_spec(node: Node, graph: Graph) -> dict[str, Any]:
    return {}


def _no_code(node: Node) -> list[Any]:
    return []


@dataclass(frozen=True, slots=True, kw_only=True)
class StepKind:
    """One kind of step.

    Attributes:
        asset: the kind of asset that the main output is.
        runner: ``module:function`` that runs it, in whatever process.
        version: raise it when the runner makes something else of the same inputs.
        spec: what the runner needs to know of the declaration, as plain values; part of the identity.
        code: further functions that count for the identity (metrics, for instance).
        land: what else is written in the transaction of the outputs.
    """

    asset: AssetKind
    runner: str
    version: int = 1
    spec: Callable[[Node, Graph], dict[str, Any]] = _no_spec
    code: Callable[[Node], list[Any]] = _no_code
    land: Callable[[Landed], None] | None = None


@dataclass(slots=True)
class StepKinds:
    """The kinds by name."""

    kinds: dict[str, StepKind] = field(default_factory=dict[str, StepKind])

    def __getitem__(self, name: str) -> StepKind:
        return self.kinds[name]


def _dataset_spec(node: Node, graph: Graph) -> dict[str, Any]:
    return {k: node.options[k] for k in ("key", "time") if node.options.get(k)}


def _command_spec(node: Node, graph: Graph) -> dict[str, Any]:
    return {"text": node.options["text"], "out": node.options["out"]}


def _land_check(landed: Landed) -> None:
    landed.change.event("check.passed", landed.node.name, {"run": landed.run_id, "about": landed.node.options["about"]})


PLAIN: dict[str, StepKind] = {
    "dataset": StepKind(asset=AssetKind.DATASET, runner="noria.pipelines.runners:run_dataset", spec=_dataset_spec),
    "report": StepKind(asset=AssetKind.REPORT, runner="noria.pipelines.runners:run_report"),
    "check": StepKind(asset=AssetKind.CHECK, runner="noria.pipelines.runners:run_check", land=_land_check),
    "command": StepKind(asset=AssetKind.DATASET, runner="noria.pipelines.runners:run_command", spec=_command_spec),
}
