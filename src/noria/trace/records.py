from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One thing on a trail.

    Attributes:
        kind: prediction, request, rows, row, deployment, endpoint, model, run, params, features, labels, commit, ...
        name: what it is called; shown only, never followed.
        id: what it was found by: a digest, a run, a commit, a number.
        facts: what its record says, plain values.
        children: what it leads to.
    """

    kind: str
    name: str = ""
    id: str = ""
    facts: dict[str, Any] = field(default_factory=dict[str, Any])
    children: tuple[Node, ...] = ()

    def as_value(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "name": self.name,
            "id": self.id,
            "facts": self.facts,
            "children": [child.as_value() for child in self.children],
        }

    def find(self, kind: str) -> list[Node]:
        """This node and all below it that are of a kind."""
        below = [found for child in self.children for found in child.find(kind)]
        return [self, *below] if self.kind == kind else below


@dataclass(frozen=True, slots=True, kw_only=True)
class Trail:
    """Where a thing comes from, and what it touched.

    Attributes:
        thing: what was asked for.
        backward: the thing itself; its children are what it was made from.
        forward: what was made from it.
    """

    thing: str
    backward: Node
    forward: tuple[Node, ...] = ()

    def as_value(self) -> dict[str, Any]:
        return {
            "thing": self.thing,
            "backward": self.backward.as_value(),
            "forward": [node.as_value() for node in self.forward],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """One prediction as the log holds it.

    Attributes:
        request, features: JSON, as captured.
        at: microseconds of event time.
        commits: ids of the commits of the tables that were read.
    """

    endpoint: str
    id: str
    deployment: int
    model: str
    role: str
    answered: bool
    at: int | None
    entity: str
    score: float | None
    request: str
    features: str
    received: int
    latency: int
    revision: int
    commits: tuple[str, ...]
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedRows:
    """The rows of one table that one look-up found for a prediction.

    Attributes:
        how: asof or history; ``on`` the values that were looked up; ``span_us`` how far back.
        count: how many rows; ``rows`` the newest of them.
    """

    table: str
    commit: str | None
    how: str
    on: dict[str, Any]
    span_us: int | None
    count: int
    rows: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A prediction computed again from the rows at its captured commits.

    Attributes:
        captured, recomputed: features by name.
        again: the score of the recomputed features.
    """

    prediction: Captured
    captured: dict[str, Any]
    recomputed: dict[str, Any]
    again: float
    used: tuple[UsedRows, ...]

    @property
    def different(self) -> list[str]:
        """Features that differ; ``score`` where only the score does."""
        names = [n for n in {**self.captured, **self.recomputed} if not _same(self, n)]
        score = self.prediction.score
        close = score is not None and abs(score - self.again) <= 1e-9 * max(1.0, abs(score))
        return names if names or close else ["score"]

    @property
    def equal(self) -> bool:
        return not self.different


def _same(replay: Replay, name: str) -> bool:
    both = name in replay.captured and name in replay.recomputed
    # repr keeps 1 apart from 1.0, and -0.0 from 0.0
    return both and repr(replay.captured[name]) == repr(replay.recomputed[name])
