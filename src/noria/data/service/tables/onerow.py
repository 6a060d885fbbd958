"""What happened to one row, and which versions hold it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from noria.base.errors import NotFound
from noria.base.ids import CommitId
from noria.data import erased, queries
from noria.data.records import MAIN, Commit, Repository, RepositoryKind
from noria.data.rows.finder import FoundRow, RowFinder
from noria.data.service.tables.rows import RowVerbs


@dataclass(frozen=True, slots=True, kw_only=True)
class RowEvent:
    """What a commit did to a row. ``kind`` is added, changed or removed; rows as they were in their version."""

    commit: Commit
    kind: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class RowNotFound(NotFound):
    """No row has this key."""

    code = "row_not_found"


class OneRowVerbs(RowVerbs):
    def row_history(self, repository: Repository, key: Mapping[str, Any], ref: str = MAIN) -> list[RowEvent]:
        """What happened to the row with this key, newest first, along the first parents of ``ref``.

        Of each file of the table the key columns are read, once; versions in between two changes are skipped.

        Args:
            key: column -> value (or its text), for every column of the key.
        """
        self._table(repository)
        head = self.resolve(repository, ref)
        line = _Line(self, self._finder(head, key), self._first_parents(repository, head))
        events: list[RowEvent] = []
        place = 0
        while place < len(line.commits):
            last = line.unchanged_until(place)
            now, before = line.at(last), line.at(last + 1)
            if now is None or before is None or not now.same(before):
                kind = "removed" if now is None else "added" if before is None else "changed"
                if now is not None or before is not None:
                    events.append(
                        RowEvent(
                            commit=line.commits[last],
                            kind=kind,
                            before=None if before is None else before.values,
                            after=None if now is None else now.values,
                        )
                    )
            place = last + 1
        if not events:
            with self._db.read() as conn:
                erased.refuse_key(conn, repository, key)
            raise RowNotFound(
                f"{repository.name} never held a row with the key {dict(key)}.",
                hint=f"noria data read {repository.name}   shows rows.",
            )
        return events

    def versions_with_row(self, repository: Repository, key: Mapping[str, Any], ref: str = MAIN) -> list[Commit]:
        """The commits, of all branches and oldest first, that hold the row just as ``ref`` has it.

        Raises:
            RowNotFound: ``ref`` has no row with this key.
        """
        self._table(repository)
        head = self.resolve(repository, ref)
        finder = self._finder(head, key)
        wanted = finder.find(self.layout(head))
        if wanted is None:
            with self._db.read() as conn:
                erased.refuse_key(conn, repository, key)
            raise RowNotFound(
                f"{repository.name}@{ref} has no row with the key {dict(key)}.",
                hint=f"noria data history {repository.name} {' '.join(f'{k}={v}' for k, v in key.items())}",
            )
        with self._db.read() as conn:
            commits = queries.commits_of_repository(conn, repository.id)
        holds: dict[str, bool] = {}
        for commit in commits:
            name = str(commit.layout)
            if name not in holds:
                found = finder.find(self.layout(commit))
                holds[name] = found is not None and wanted.same(found)
        return [commit for commit in commits if holds[str(commit.layout)]]

    def _finder(self, commit: Commit, key: Mapping[str, Any]) -> RowFinder:
        return RowFinder(self.reader, self.writer.keys, self.layout(commit), key)

    def _first_parents(self, repository: Repository, head: Commit) -> list[Commit]:
        """From a commit back to the first, in one query."""
        with self._db.read() as conn:
            known = {commit.id: commit for commit in queries.commits_of_repository(conn, repository.id)}
        line: list[Commit] = []
        following: CommitId | None = head.id
        while following is not None and following in known:
            line.append(known[following])
            following = line[-1].parents[0] if line[-1].parents else None
        return line

    def _table(self, repository: Repository) -> None:
        if repository.kind != RepositoryKind.TABLE:
            self.get(repository.project_id, repository.name, RepositoryKind.TABLE)


class _Line:
    """A row along a line of commits, newest first; each version is looked at when it is asked for."""

    def __init__(self, data: OneRowVerbs, finder: RowFinder, commits: list[Commit]) -> None:
        self._data = data
        self._finder = finder
        self.commits = commits
        self._found: dict[int, FoundRow | None] = {}

    def at(self, place: int) -> FoundRow | None:
        if place >= len(self.commits):
            return None
        if place not in self._found:
            self._found[place] = self._finder.find(self._data.layout(self.commits[place]))
        return self._found[place]

    def unchanged_until(self, place: int) -> int:
        """The oldest commit up to which the row is the same, going back from one."""
        now = self.at(place)
        if now is not None:
            # A row tells in which generation it came: what lies between needs no look, where both ends agree.
            last = place
            while last + 1 < len(self.commits) and self.commits[last + 1].generation >= now.seq:
                last += 1
            if self._same(now, self.at(last)) and not self._same(now, self.at(last + 1)):
                return last
        last = place
        while last + 1 < len(self.commits) and self._same(now, self.at(last + 1)):
            last += 1
        return last

    @staticmethod
    def _same(one: FoundRow | None, other: FoundRow | None) -> bool:
        if one is None or other is None:
            return one is other
        return one.seq == other.seq and one.same(other)
