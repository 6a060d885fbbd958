"""The steps of this room, as pipelines know them."""

from __future__ import annotations

from typing import Any

from noria.assets import Change, EvidenceLog
from noria.assets.records import AssetKind
from noria.base.ids import RunId, VersionId
from noria.pipelines.declare.policies import Split
from noria.pipelines.graph import Graph, Node
from noria.pipelines.kinds import Landed, StepKind
from noria.registry import Registry
from noria.training.errors import TrainingInvalid

EVALUATOR = "noria.training.run:1"


def _spec(node: Node, graph: Graph) -> dict[str, Any]:
    options = node.options
    if options["features"] is None:
        raise TrainingInvalid(
            f"The model {node.name!r} names no features= and target=.", hint="@nr.model(features=..., target=...)"
        )
    split: Split | None = options["split"]
    made = [
        {"name": x, "entry": ""}
        if isinstance(x, str)
        else {"name": x.__name__, "entry": f"{x.__module__}:{x.__qualname__}"}
        for x in options["metrics"]
    ]
    return {
        "features": options["features"],
        "target": options["target"],
        "split": None if split is None else split.spec(),
        "metrics": made,
    }


def _code(node: Node) -> list[Any]:
    return [x for x in node.options["metrics"] if not isinstance(x, str)]


def model_kind(registry: Registry, evidence: EvidenceLog) -> StepKind:
    def land(landed: Landed) -> None:
        if landed.trial:
            return
        made = register(registry, landed)
        record_facts(evidence, landed.change, made, landed.outputs[""].id, landed.run_id, landed.result.facts)

    return StepKind(asset=AssetKind.MODEL, runner="noria.training.run:run_model", spec=_spec, code=_code, land=land)


def record_facts(
    evidence: EvidenceLog, change: Change, name: str, version_id: VersionId, run_id: RunId, facts: dict[str, Any]
) -> None:
    """Keeps what was found when a model was judged, in the change that registers it."""
    found: list[tuple[str, dict[str, Any], bool]] = [
        ("baseline", {"baseline": baseline, **details}, details["comparison"]["low"] > 0)
        for baseline, details in facts["baselines"].items()
    ]
    found += [
        ("slices", {"slices": facts["slices"]}, bool(facts["slices"])),
        ("importance", {"features": facts.get("importance", [])}, bool(facts.get("importance"))),
        ("numeric", {"finite": facts["finite"]}, facts["finite"]),
    ]
    for test, details, passed in found:
        evidence.record(
            change,
            test,
            name,
            passed=passed,
            evaluator=EVALUATOR,
            version_id=version_id,
            run_id=run_id,
            details=details,
        )


def register(registry: Registry, landed: Landed) -> str:
    """Registers a trained model under its asset's name; returns ``name/number``."""
    made = registry.register(
        landed.change.project_id,
        landed.node.name,
        actor=landed.change.actor,
        version_id=landed.outputs[""].id,
        run_id=landed.run_id,
        tx=landed.change.tx,
    )
    return made.name


def check_kind(plain: StepKind) -> StepKind:
    return StepKind(asset=plain.asset, runner="noria.training.run:run_check", land=plain.land)
