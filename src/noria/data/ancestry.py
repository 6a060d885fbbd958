"""The graph of a repository's commits. Pure; it is read in one query, since a hundred thousand commits are few."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, TypeAlias

from noria.base.ids import CommitId


class Link(NamedTuple):
    """One commit, seen as a node.

    Attributes:
        at: wall time of the commit, milliseconds.
    """

    generation: int
    parents: tuple[CommitId, ...]
    at: int


Graph: TypeAlias = Mapping[CommitId, Link]


def ancestors(graph: Graph, starts: Iterable[CommitId]) -> set[CommitId]:
    """These commits and all that came before them."""
    found: set[CommitId] = set()
    todo = list(starts)
    while todo:
        commit = todo.pop()
        if commit not in found and commit in graph:
            found.add(commit)
            todo += graph[commit].parents
    return found


def whole(graph: Graph) -> set[CommitId]:
    """The commits whose history has no gap: nothing that they stand on is missing."""
    found: set[CommitId] = set()
    for commit in sorted(graph, key=lambda one: graph[one].generation):
        if found.issuperset(graph[commit].parents):
            found.add(commit)
    return found


def newest_first(graph: Graph, start: CommitId) -> Iterator[CommitId]:
    """A commit and its ancestors; no commit comes before one of its descendants."""
    seen = {start}
    heap = [(-graph[start].generation, -graph[start].at, start)]
    while heap:
        _, _, commit = heapq.heappop(heap)
        yield commit
        for parent in graph[commit].parents:
            if parent in graph and parent not in seen:
                seen.add(parent)
                heapq.heappush(heap, (-graph[parent].generation, -graph[parent].at, parent))


def first_parents(graph: Graph, start: CommitId) -> Iterator[CommitId]:
    """The line of a branch: what was merged into it is left out."""
    commit: CommitId | None = start
    while commit is not None and commit in graph:
        yield commit
        parents = graph[commit].parents
        commit = parents[0] if parents else None


def merge_base(graph: Graph, one: CommitId, other: CommitId) -> CommitId | None:
    """The youngest commit that both come from; of several that are as young, always the same one."""
    mine = ancestors(graph, [one])
    return next((commit for commit in newest_first(graph, other) if commit in mine), None)


def is_ancestor(graph: Graph, old: CommitId, young: CommitId) -> bool:
    """Whether ``young`` is ``old`` or comes from it."""
    lowest = graph[old].generation
    return any(c == old for c in _down_to(graph, young, lowest))


def _down_to(graph: Graph, start: CommitId, generation: int) -> Iterator[CommitId]:
    for commit in newest_first(graph, start):
        if graph[commit].generation < generation:
            return
        yield commit
