"""Which commit of ours stands for each commit of git."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from noria.base.digest import Digest
from noria.base.ids import CommitId
from noria.data.collectors.git import GitCommit
from noria.data.records import Commit
from noria.data.service.landing import Landing
from noria.data.service.transfer.dvc.history import State


@dataclass(frozen=True, slots=True)
class Node:
    """A commit of ours that stands for one of git's."""

    id: CommitId
    layout: Digest
    generation: int
    parents: tuple[CommitId, ...]
    state: State
    partial: bool = False
    """Some contents were missing, so the tree does not hold all that ``state`` names."""


class Line:
    """Which commit of ours stands for each commit of git, in one repository."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.paths = frozenset(paths)
        self._of: dict[str, Node] = {}
        self._nodes: dict[CommitId, Node] = {}

    def put(self, git: str, node: Node) -> None:
        self._of[git] = node
        self._nodes[node.id] = node

    def of(self, git: str) -> Node | None:
        return self._of.get(git)

    def heads(self, commit: GitCommit) -> list[Node]:
        """What stands for its parents, without what another of them stands on already."""
        found = list({node.id: node for p in commit.parents if (node := self._of.get(p)) is not None}.values())
        return [one for one in found if not any(self._reaches(other, one) for other in found if other is not one)]

    def _reaches(self, tip: Node, wanted: Node) -> bool:
        pending, seen = [tip], {tip.id}
        while pending:
            node = pending.pop()
            if node.id == wanted.id:
                return True
            for parent in node.parents:
                known = self._nodes.get(parent)
                if known is not None and parent not in seen and known.generation >= wanted.generation:
                    seen.add(parent)
                    pending.append(known)
        return False


def known_node(commit: Commit, state: State) -> Node:
    partial = bool(commit.meta["git"].get("missing"))
    return Node(commit.id, commit.layout, commit.generation, commit.parents, state, partial)


def landed_node(landing: Landing, state: State) -> Node:
    partial = bool(landing.meta["git"]["missing"])
    return Node(landing.id, landing.layout, landing.ancestry.generation, landing.ancestry.parents, state, partial)
