"""Which commits changed a path."""

from __future__ import annotations

from fnmatch import fnmatchcase

from noria.base.names import is_pattern
from noria.base.pages import Page, check_limit, token
from noria.data import ancestry, queries
from noria.data.pathchange import path_change
from noria.data.records import MAIN, Commit, PathChange, Repository, RepositoryKind, Touched
from noria.data.service.refs import RefVerbs, beyond
from noria.store import tree


class TouchedVerbs(RefVerbs):
    def touched(
        self,
        repository: Repository,
        pattern: str,
        ref: str = MAIN,
        *,
        limit: int = 50,
        after: str | None = None,
    ) -> Page[Touched]:
        """The commits that changed a path, or paths that fit a pattern; newest first, with these changes.

        A plain path costs two look-ups a commit, a pattern a tree diff: both follow what changed.
        """
        check_limit(limit)
        if repository.kind != RepositoryKind.FILES:
            self.get(repository.project_id, repository.name, RepositoryKind.FILES)
        start = self.resolve(repository, ref)
        found: list[Touched] = []
        with self._db.read() as conn:
            graph = queries.graph(conn, repository.id)
            for one in beyond(ancestry.newest_first(graph, start.id), after):
                commit = queries.commit(conn, one)
                assert commit is not None
                before = queries.commit(conn, commit.parents[0]) if commit.parents else None
                changes = self._changes_of(before, commit, pattern)
                if changes:
                    found.append(Touched(commit=commit, changes=changes))
                if len(found) > limit:
                    break
        more = len(found) > limit
        return Page(items=found[:limit], next=token(found[limit - 1].commit.id) if more else None)

    def _changes_of(self, before: Commit | None, commit: Commit, pattern: str) -> list[PathChange]:
        store = self._s.sessions.store
        if not is_pattern(pattern):
            old = None if before is None else tree.find(store, before.layout, pattern)
            new = tree.find(store, commit.layout, pattern)
            return [] if old == new else [path_change(tree.Change(pattern, old, new))]
        found = tree.diff(store, None if before is None else before.layout, commit.layout)
        return [path_change(c) for c in found if fnmatchcase(c.path, pattern)]

    def changes_of(self, repository: Repository, commit: Commit) -> list[PathChange]:
        """The files that a commit changed, against its first parent."""
        with self._db.read() as conn:
            before = queries.commit(conn, commit.parents[0]) if commit.parents else None
        return self._changes_of(before, commit, "*")
