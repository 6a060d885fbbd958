"""What a merge would do, without doing it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Final

from noria.data import ancestry, queries
from noria.data.pathchange import path_change
from noria.data.records import MAIN, Commit, MergePreview, PathChange, Repository, RepositoryKind
from noria.data.service.history import HistoryVerbs, sides_of
from noria.store import tree

_SHOWN: Final = 100
_COUNTED: Final = {"added": "added", "changed": "updated", "removed": "deleted"}


class PreviewVerbs(HistoryVerbs):
    def preview_merge(
        self,
        repository: Repository,
        source: str,
        *,
        into: str = MAIN,
        strategy: str = "conflict",
        resolve: Mapping[str, str] | None = None,
        fast_forward: bool = True,
    ) -> MergePreview:
        """What ``merge`` would do with the same arguments. Writes nothing; contract and hooks are not asked.

        Raises:
            Invalid: as of ``merge``.
        """
        sides = sides_of(repository, strategy, resolve)
        theirs, head = self.resolve(repository, source), self.head(repository, into)
        base = None if head is None else self.merge_base(repository, head, theirs)
        count, commits = self._coming(repository, head, theirs)
        changes, stats, conflicts = list[PathChange](), dict[str, int](), list[str]()
        if head is not None and base == theirs:
            how = "nothing"
        elif head is None or (fast_forward and base == head):
            how = "fast-forward"
            changes, stats = self._whole(repository, head, theirs)
        else:
            how = "merge"
            with self._s.sessions.store.hasher() as scratch:
                start = None if base is None else base.layout
                seq = 1 + max(head.generation, theirs.generation)
                made = self._combine(scratch, repository, start, head, theirs.layout, sides, seq)
            conflicts = list(made.conflicts)
            if made.change is not None:
                stats = {name: getattr(made.change, name) for name in _COUNTED.values()}
            elif made.layout == theirs.layout:
                changes, stats = self._whole(repository, head, theirs)
            else:
                before = {path: tree.find(self._s.sessions.store, head.layout, path) for path in made.taken}
                taken = (tree.Change(path, before[path], made.taken[path]) for path in sorted(made.taken))
                changes, stats = _counted([path_change(c) for c in taken if c.before != c.after])
        return MergePreview(
            how=how,
            head=None if head is None else head.id,
            source=theirs.id,
            base=None if base is None else base.id,
            commits=commits,
            count=count,
            changes=changes,
            stats=stats,
            conflicts=conflicts,
        )

    def _coming(self, repository: Repository, head: Commit | None, theirs: Commit) -> tuple[int, list[Commit]]:
        """How many commits a branch would get, and the newest of them."""
        with self._db.read() as conn:
            graph = queries.graph(conn, repository.id)
            there = set() if head is None else ancestry.ancestors(graph, [head.id])
            new = ancestry.ancestors(graph, [theirs.id]) - there
            shown = islice((one for one in ancestry.newest_first(graph, theirs.id) if one in new), _SHOWN)
            return len(new), queries.commits_in_order(conn, list(shown))

    def _whole(
        self, repository: Repository, head: Commit | None, theirs: Commit
    ) -> tuple[list[PathChange], dict[str, int]]:
        """How a branch would differ if it stood at ``theirs``."""
        if repository.kind == RepositoryKind.FILES:
            old = None if head is None else head.layout
            return _counted([path_change(c) for c in tree.diff(self._s.sessions.store, old, theirs.layout)])
        rows = self._difference(repository, head, theirs)
        assert rows is not None
        return [], {name: getattr(rows, name) for name in _COUNTED.values()}


def _counted(changes: list[PathChange]) -> tuple[list[PathChange], dict[str, int]]:
    return changes, {name: sum(c.kind == kind for c in changes) for kind, name in _COUNTED.items()}
