"""Wire shapes of trails: what HTTP sends and what ``--json`` prints."""

from __future__ import annotations

from typing import Any

import msgspec

from noria.data.records import MAIN
from noria.trace.records import Node, Trail


class NodeOut(msgspec.Struct):
    kind: str
    name: str
    id: str
    facts: dict[str, Any]
    children: list[NodeOut]


class TrailOut(msgspec.Struct):
    thing: str
    backward: NodeOut
    forward: list[NodeOut]


class TraceQuery(msgspec.Struct):
    """``thing``: a prediction, run, model version, asset, digest or commit. ``rows``: rows of each look-up.

    With ``key`` (a JSON object) ``thing`` is a table, and the row with this key at ``ref`` is traced.
    """

    thing: str
    rows: int = 3
    key: str = ""
    ref: str = MAIN


def trail_out(trail: Trail) -> TrailOut:
    return TrailOut(trail.thing, _node(trail.backward), [_node(n) for n in trail.forward])


def _node(node: Node) -> NodeOut:
    return NodeOut(node.kind, node.name, node.id, node.facts, [_node(child) for child in node.children])
