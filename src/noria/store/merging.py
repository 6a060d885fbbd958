"""Three-way merge of trees. It costs what differs: ranges that two trees share are never read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from noria.base.digest import Digest
from noria.store import tree
from noria.store.objects import ObjectStore, Writer
from noria.store.records import Entry, EntryKind

Strategy = Literal["conflict", "ours", "theirs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeMerge:
    """The merged tree.

    Attributes:
        conflicts: paths that both sides changed, and not to the same. Empty where a strategy decided.
        taken: how many paths were taken from ``theirs``.
    """

    root: Digest
    conflicts: list[str]
    taken: int


def merge(
    store: ObjectStore,
    writer: Writer,
    base: Digest | None,
    ours: Digest,
    theirs: Digest | None,
    strategy: str = "conflict",
) -> TreeMerge:
    """What happened from ``base`` to ``theirs``, done to ``ours``. None stands for an empty tree.

    Without a base the trees have nothing in common: paths that both have must be equal.

    Args:
        strategy: what wins where both sides changed a path: ``conflict`` (nobody), ``ours`` or ``theirs``.
    """
    if theirs is not None and ours in (base, theirs):
        return TreeMerge(root=theirs, conflicts=[], taken=0)
    mine = {change.path: change for change in tree.diff(store, base, ours)}
    taken: dict[str, Entry | None] = {}
    conflicts: list[str] = []
    for change in tree.diff(store, base, theirs):
        other = mine.get(change.path)
        if other is None:
            taken[change.path] = change.after
        elif other.after != change.after:
            if strategy == "theirs":
                taken[change.path] = change.after
            elif strategy == "conflict":
                conflicts.append(change.path)
    conflicts += fit(store, ours, taken)
    if conflicts:
        return TreeMerge(root=ours, conflicts=sorted(set(conflicts)), taken=0)
    return TreeMerge(root=tree.apply(store, writer, ours, taken), conflicts=[], taken=len(taken))


def fit(store: ObjectStore, root: Digest, changes: dict[str, Entry | None]) -> list[str]:
    """Makes changes fit into a tree; returns the paths that cannot be there: a file where a folder would have to be.

    Entries of empty folders that get a path below them are added to ``changes`` as removed.
    """
    wrong: list[str] = []
    for path, entry in list(changes.items()):
        if entry is None:
            continue
        for parent in _parents(path):
            above = changes[parent] if parent in changes else tree.find(store, root, parent)
            if above is None:
                continue
            if above.kind == EntryKind.FOLDER:
                changes[parent] = None
            else:
                wrong.append(path)
        if any(changes.get(below.path, below) is not None for below in tree.walk(store, root, path + "/")):
            if entry.kind == EntryKind.FOLDER:
                del changes[path]  # it is not empty, so that it is no entry of its own
            else:
                wrong.append(path)
    return wrong


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:number]) for number in range(1, len(parts))]
