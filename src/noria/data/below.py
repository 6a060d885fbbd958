"""Whether a commit is in the history of another one, asked again and again while that one moves on.

Pure, but for the reader that it is handed: the commits of a repository between two generations, highest first.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple, TypeAlias

from noria.base.ids import CommitId

Read: TypeAlias = Callable[[int, int], Iterable[tuple[CommitId, Sequence[CommitId]]]]
"""From (lowest generation, the generation after the highest) to (commit, its parents), highest generation first."""
Holds: TypeAlias = Callable[[CommitId, int], bool]
"""Whether a history holds the commit with this id and generation."""

_FIRST: Final = 32
_MOST: Final = 4096
"""Generations that are read at once: few at first, since most questions are about the newest commits."""
_BRANCHES: Final = 64
_COMMITS: Final = 400_000
"""Commits that are remembered of all branches together, at about 150 bytes each."""


class Tip(NamedTuple):
    """The newest commit of a history."""

    id: CommitId
    generation: int
    parents: Sequence[CommitId]


class Below:
    """All that a tip stands on, itself included; followed down only as far as it was asked for."""

    def __init__(self, tip: Tip) -> None:
        self.tip = tip
        self._known = {tip.id}
        self._floor = tip.generation
        """Everything of the history from this generation up is in ``_known``."""
        self._next = set(tip.parents)
        """Of the history and below the floor; what they stand on is not known yet."""
        self._step = _FIRST

    @property
    def size(self) -> int:
        """How many commits are remembered."""
        return len(self._known) + len(self._next)

    def holds(self, commit: CommitId, generation: int, read: Read) -> bool:
        """Whether the commit, which has this generation, is in the history."""
        while generation < self._floor and self._next and commit not in self._next:
            low = max(0, self._floor - self._step)
            _follow(self._next, self._known, read(low, self._floor))
            self._floor, self._step = low, min(2 * self._step, _MOST)
        return commit in self._known or commit in self._next

    def move(self, tip: Tip, read: Read) -> bool:
        """Goes on to a tip that stands on this one. False where it does not; nothing changed then."""
        before = self.tip
        if tip.id == before.id:
            return True
        if tip.generation <= before.generation:
            return False
        wanted, fresh = set(tip.parents), {tip.id}
        if wanted != {before.id}:
            _follow(wanted, fresh, read(before.generation + 1, tip.generation))
        if before.id not in wanted:
            return False
        wanted -= self._known
        upper, step = before.generation + 1, _FIRST
        while upper > self._floor and not wanted <= self._next:  # merged from the side: down to where it is known
            low = max(self._floor, upper - step)
            _follow(wanted, fresh, read(low, upper))
            wanted -= self._known
            upper, step = low, min(2 * step, _MOST)
        self.tip = tip
        self._known |= fresh
        self._next |= wanted
        return True


def _follow(wanted: set[CommitId], found: set[CommitId], rows: Iterable[tuple[CommitId, Sequence[CommitId]]]) -> None:
    """Moves those of the commits that are wanted to ``found``; their parents are wanted then."""
    for commit, parents in rows:
        if commit in wanted:
            wanted.discard(commit)
            found.add(commit)
            wanted.update(parents)


class _Branch:
    """What is remembered of one branch. Its lock is held while it reads: others of the same branch wait for the rows
    that they need too, and nobody else does."""

    __slots__ = ("below", "lock")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.below: Below | None = None

    @property
    def size(self) -> int:
        return 0 if self.below is None else self.below.size


class Histories:
    """What the branches of a workspace hold. One per workspace; thread-safe.

    A commit's id says what it stands on, so nothing that is remembered can become wrong. What was not asked about for
    longest is forgotten first, where there are too many branches or too many commits of them in all.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        """Of the table of branches; never held while something is read."""
        self._seen: OrderedDict[tuple[int, str], _Branch] = OrderedDict()

    def of(self, repository_id: int, branch: str, tip: Tip | None, read: Read) -> Holds:
        """What a branch holds that stands at ``tip``."""
        if tip is None:
            return _nothing
        kept = self._kept((repository_id, branch))
        with kept.lock:
            if kept.below is None or not kept.below.move(tip, read):
                kept.below = Below(tip)
            current = kept.below

        def holds(commit: CommitId, generation: int) -> bool:
            nonlocal current
            with kept.lock:
                if current.tip.id != tip.id:  # it went on for somebody else meanwhile
                    current = Below(tip)
                return current.holds(commit, generation, read)

        return holds

    def _kept(self, key: tuple[int, str]) -> _Branch:
        with self._lock:
            found = self._seen.pop(key, None) or _Branch()
            self._seen[key] = found
            known = sum(one.size for one in self._seen.values())
            while len(self._seen) > 1 and (len(self._seen) > _BRANCHES or known > _COMMITS):
                _, gone = self._seen.popitem(last=False)
                known -= gone.size
            return found


def _nothing(_: CommitId, __: int) -> bool:
    return False
