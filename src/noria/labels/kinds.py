"""The steps of this room, as pipelines know them."""

from __future__ import annotations

from typing import Any

from noria.assets.records import AssetKind
from noria.base.times import parse_duration
from noria.pipelines.graph import Graph, Node
from noria.pipelines.kinds import StepKind


def _spec(node: Node, graph: Graph) -> dict[str, Any]:
    return {"of": node.options["of"], "after_ms": parse_duration(node.options["after"])}


def label_kind() -> StepKind:
    return StepKind(asset=AssetKind.LABELS, runner="noria.labels.run:run_labels", spec=_spec)
