"""The steps of this room, as pipelines know them."""

from __future__ import annotations

from typing import Any

import polars as pl

from noria.assets import EvidenceLog
from noria.assets.records import AssetKind
from noria.features.errors import FeatureInvalid
from noria.features.service import EVALUATOR
from noria.pipelines.graph import Graph, Node
from noria.pipelines.kinds import Landed, StepKind


def _spec(node: Node, graph: Graph) -> dict[str, Any]:
    at = node.options["at"]
    if isinstance(at, str):
        at = pl.col(at)
    if not isinstance(at, pl.Expr):
        raise FeatureInvalid(f"at={at!r} of {node.name!r} is neither a column nor an expression.")
    return {"of": node.options["of"], "at": at.meta.serialize(format="json")}


def feature_kind(evidence: EvidenceLog) -> StepKind:
    def land(landed: Landed) -> None:
        found = landed.result.facts["check"]
        evidence.record(
            landed.change,
            "feature_check",
            landed.node.name,
            passed=True,
            evaluator=EVALUATOR,
            version_id=landed.outputs[""].id,
            run_id=landed.run_id,
            details={**found, "cost": landed.result.cost, "stored": landed.outputs[""].size},
        )

    return StepKind(asset=AssetKind.FEATURES, runner="noria.features.run:run_features", spec=_spec, land=land)
