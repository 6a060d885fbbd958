"""Three-way merge of trees. It costs what differs: ranges that two trees share are never read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
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
        conflicts: paths that both sides changed, and not to the same. Empty where something decided.
        taken: what came from ``theirs``, by path; None: deleted. With conflicts: what would come beside them. Empty
            where all of ``theirs`` was taken, since ``ours`` had nothing of its own.
    """

    root: Digest
    conflicts: list[str]
    taken: dict[str, Entry | None] = field(default_factory=dict[str, "Entry | None"])


@dataclass(frozen=True, slots=True)
class Sides:
    """Who wins a path that both sides changed.

    Attributes:
        strategy: for paths that no pattern fits.
        patterns: pattern -> ``ours`` or ``theirs``. A pattern is a path, a folder, or has wildcards (``*`` crosses
            folders). The most exact one decides: the path itself, then the one with the most characters beside ``*``.
            Where two of the same length contradict each other, nobody wins.
        fitted: the patterns that a path fitted so far.
    """

    strategy: str = "conflict"
    patterns: Mapping[str, str] = field(default_factory=dict[str, str])
    fitted: set[str] = field(default_factory=set[str], compare=False)

    @property
    def unused(self) -> list[str]:
        """The patterns that no path has fitted that was asked about."""
        return [pattern for pattern in self.patterns if pattern not in self.fitted]

    def of(self, path: str) -> str:
        best, side = (False, -1), self.strategy
        for pattern, wins in self.patterns.items():
            if path != pattern and not path.startswith(pattern.rstrip("/") + "/") and not fnmatchcase(path, pattern):
                continue
            self.fitted.add(pattern)
            exact = (path == pattern, len(pattern.rstrip("/").replace("*", "")))
            if exact > best:
                best, side = exact, wins
            elif exact == best and wins != side:
                side = "conflict"
        return side


def merge(
    store: ObjectStore,
    writer: Writer,
    base: Digest | None,
    ours: Digest,
    theirs: Digest | None,
    sides: Sides = Sides(),
) -> TreeMerge:
    """What happened from ``base`` to ``theirs``, done to ``ours``. None stands for an empty tree.

    Without a base the trees have nothing in common: paths that both have must be equal.

    Args:
        sides: what wins where both sides changed a path.
    """
    if theirs is not None and ours in (base, theirs):
        return TreeMerge(root=theirs, conflicts=[])
    mine = {change.path: change for change in tree.diff(store, base, ours)}
    taken: dict[str, Entry | None] = {}
    conflicts: list[str] = []
    for change in tree.diff(store, base, theirs):
        other = mine.get(change.path)
        if other is None:
            taken[change.path] = change.after
        elif other.after != change.after:
            side = sides.of(change.path)
            if side == "theirs":
                taken[change.path] = change.after
            elif side == "conflict":
                conflicts.append(change.path)
    conflicts += _fit(store, ours, taken, sides)
    if conflicts:
        return TreeMerge(root=ours, conflicts=sorted(set(conflicts)), taken=taken)
    return TreeMerge(root=tree.apply(store, writer, ours, taken), conflicts=[], taken=taken)


def _fit(store: ObjectStore, ours: Digest, taken: dict[str, Entry | None], sides: Sides) -> list[str]:
    """``fit``, where a file of one side that is a folder of the other goes to whom it is given.

    A path goes to ``theirs`` only if all that stands in its way does too.
    """
    for path in dict.fromkeys(fit(store, ours, taken)):
        side = sides.of(path)
        if side == "theirs":
            way = _in_the_way(store, ours, taken, path)
            if all(sides.of(one) == "theirs" for one in way):
                taken.update(dict.fromkeys(way))
        elif side == "ours":
            taken.pop(path, None)
    wrong = list(dict.fromkeys(fit(store, ours, taken)))
    for path in list(wrong):
        if sides.of(path) == "theirs":  # and something in its way is not
            wrong += [one for one in _in_the_way(store, ours, taken, path) if sides.of(one) != "theirs"]
    return wrong


def _in_the_way(store: ObjectStore, root: Digest, changes: dict[str, Entry | None], path: str) -> list[str]:
    """The paths that would have to go for a path to be there."""
    above = [p for p in _parents(path) if (changes[p] if p in changes else tree.find(store, root, p)) is not None]
    below = [entry.path for entry in tree.walk(store, root, path + "/")]
    return above + [one for one in below if one not in changes or changes[one] is not None]


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
