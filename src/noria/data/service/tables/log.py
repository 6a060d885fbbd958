"""A table as a log: what each commit of a branch wrote, in order, under offsets that stay.

An offset is ``generation:row:commit``: the row of that number among those that the commit wrote. Commits never change,
so an offset names one record for ever, whatever is compacted, replaced or deleted later. A record that was replaced by
its key is in the log twice, as it was and as it became.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl

from noria.base.errors import Conflict, Invalid
from noria.base.ids import CommitId
from noria.data import queries
from noria.data.records import MAIN, Commit, Repository, RepositoryKind
from noria.data.rows import load_layout
from noria.data.rows.schema import SEQ
from noria.data.service.base import Services
from noria.data.service.contracts import ContractVerbs

EARLIEST: Final = "earliest"
LATEST: Final = "latest"
_CHAINS: Final = 64
_MARK: Final = 12
"""Digits of a commit in an offset."""


class OffsetLost(Conflict):
    """The branch no longer holds the commit that an offset names."""

    code = "offset_lost"

    def __init__(self, name: str, branch: str, offset: str) -> None:
        super().__init__(
            f"{name}@{branch} does not hold the commit of the offset {offset!r:.80}: its history was changed.",
            hint="Read from=earliest, or from=latest for what comes from now on.",
            details={"repository": name, "branch": branch, "offset": offset[:80]},
        )


@dataclass(frozen=True, slots=True, order=True)
class Offset:
    """A place in a log; ``row`` counts from 0 among the rows that the commit wrote."""

    generation: int
    row: int
    commit: str = ""

    def __str__(self) -> str:
        return f"{self.generation}:{self.row}:{self.commit}"

    @classmethod
    def parse(cls, text: str) -> Offset:
        parts = text.split(":")
        digits = all(p.isascii() and p.isdecimal() and len(p) <= 12 for p in parts[:2])
        mark = len(parts) == 3 and len(parts[2]) in (0, _MARK) and all(c in "0123456789abcdef" for c in parts[2])
        if not (digits and mark):
            raise Invalid(f"{text!r:.80} is no offset.", hint="Send back next or an offset as it came, or earliest.")
        return cls(int(parts[0]), int(parts[1]), parts[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPage:
    """A part of a log.

    Attributes:
        records: (offset, row), oldest first.
        next: where to go on.
        head: the newest commit of the branch when it was read.
    """

    records: list[tuple[Offset, dict[str, Any]]] = field(default_factory=list[tuple[Offset, dict[str, Any]]])
    next: Offset
    head: CommitId | None


@dataclass(frozen=True, slots=True)
class _Link:
    id: CommitId
    generation: int
    rows: int
    """Those that it wrote."""
    total: int
    """Those of the table."""
    plain: bool
    """Whether it only added rows, so that all rows of the commit before are still there."""


class LogVerbs(ContractVerbs):
    def __init__(self, services: Services) -> None:
        super().__init__(services)
        self._chains: OrderedDict[int, list[_Link]] = OrderedDict()
        self._chains_lock = threading.Lock()

    def records(
        self,
        repository: Repository,
        start: str = EARLIEST,
        *,
        limit: int = 1000,
        branch: str = MAIN,
    ) -> LogPage:
        """What was written to a table from an offset on, in order.

        Args:
            start: an offset, ``earliest`` or ``latest``.
            limit: rows at most, 1 to 10,000.

        Raises:
            OffsetLost: the history of the branch was changed, and the offset's commit is no longer part of it.
        """
        if repository.kind != RepositoryKind.TABLE:
            self.get(repository.project_id, repository.name, RepositoryKind.TABLE)
        if not 1 <= limit <= 10_000:
            raise Invalid(f"{limit} rows at once are not possible.", hint="1 to 10000")
        head = self.head(repository, branch)
        if head is None:
            if start not in (EARLIEST, LATEST) and Offset.parse(start).generation:
                raise OffsetLost(repository.name, branch, start)
            return LogPage(next=Offset(0, 0), head=None)
        links = self._chain(repository, head)
        if start == LATEST:
            last = self._written_by(links[-1], links[-1])
            return LogPage(next=Offset(head.generation, len(last), head.id[:_MARK]), head=head.id)
        offset = Offset(0, 0) if start == EARLIEST else Offset.parse(start)
        place = _at(links, offset.generation) if offset.generation else 0
        if place < 0 or (offset.generation and not links[place].id.startswith(offset.commit)):
            raise OffsetLost(repository.name, branch, start)
        found: list[tuple[Offset, dict[str, Any]]] = []
        after, skip = offset, offset.row
        while place < len(links) and len(found) < limit:
            end = _run(links, place, skip + limit - len(found))
            frame = self._written_by(links[place], links[end])
            generation = links[place].generation
            skip = min(skip, int((frame[SEQ] == generation).sum()))
            number = skip - 1
            for values in frame.slice(skip, limit - len(found)).iter_rows(named=True):
                seq = values.pop(SEQ)
                generation, number = seq, (number + 1 if seq == generation else 0)
                mark = links[_at(links, seq)].id[:_MARK]
                found.append((Offset(seq, number, mark), values))
                after = Offset(seq, number + 1, mark)
            if len(found) < limit and after.generation < links[end].generation:
                after = Offset(links[end].generation, 0, links[end].id[:_MARK])  # what follows wrote nothing
            place, skip = end + 1, 0
        return LogPage(records=found, next=after, head=head.id)

    def offsets_of(self, commit: Commit, first: int, count: int) -> tuple[Offset, Offset] | None:
        """The first and the last offset of ``count`` rows that a commit wrote from its row ``first`` on."""
        if not count:
            return None
        mark = commit.id[:_MARK]
        return Offset(commit.generation, first, mark), Offset(commit.generation, first + count - 1, mark)

    # ---- how it is found

    def _written_by(self, first: _Link, last: _Link) -> pl.DataFrame:
        """The rows that commits wrote, in order, with ``__seq``; all but the first only added rows."""
        with self._db.read() as conn:
            commit = queries.commit(conn, last.id)
        assert commit is not None
        layout = load_layout(self._s.sessions.store, commit.layout)
        columns = [*layout.schema.names, SEQ]
        frame = self.reader.read(layout, hidden=True, after_seq=first.generation - 1)
        frame = frame.select(columns)
        return frame.filter(pl.col(SEQ) <= last.generation).sort(SEQ, maintain_order=True)

    def _chain(self, repository: Repository, head: Commit) -> list[_Link]:
        """The commits that lead to ``head`` by first parents, oldest first. Only what is new is looked up."""
        with self._chains_lock:
            kept = self._chains.get(repository.id, [])
        above = kept[-1].generation if kept and kept[-1].generation < head.generation else 0
        links = self._linked(repository, head, kept, above) or self._linked(repository, head, [], 0)
        with self._chains_lock:
            self._chains[repository.id] = links
            self._chains.move_to_end(repository.id)
            while len(self._chains) > _CHAINS:
                self._chains.popitem(last=False)
        return links

    def _linked(self, repository: Repository, head: Commit, kept: list[_Link], above: int) -> list[_Link]:
        """The chain, of which ``kept`` is known; nothing where the head does not stand on it."""
        if kept and kept[-1].id == head.id:
            return kept
        with self._db.read() as conn:
            found = queries.lineage(conn, repository.id, above)
        news: list[_Link] = []
        one: str | None = head.id
        while one is not None and one in found:
            node = found[one]
            before = node.parents[0] if node.parents else None
            total = 0 if before is None else -1
            if before is not None and before in found:
                total = found[before].stats.get("rows", -1)
            elif before is not None and kept and kept[-1].id == before:
                total = kept[-1].total
            stats = node.stats
            written = stats.get("added", 0) + stats.get("updated", 0)
            plain = len(node.parents) == 1 and written == stats.get("added", 0) and not stats.get("deleted", 0)
            plain = plain and stats.get("rows", -2) == total + stats.get("added", 0)
            news.append(_Link(node.id, node.generation, written, stats.get("rows", -1), plain))
            one = before
        if one is not None and not (kept and kept[-1].id == one):
            return []
        return [*(kept if one is not None else []), *reversed(news)]


def _run(links: list[_Link], place: int, rows: int) -> int:
    """The last of the commits after ``place`` that are read from one layout together with it."""
    end, have = place, links[place].rows
    while end + 1 < len(links) and links[end + 1].plain and have < rows:
        end += 1
        have += links[end].rows
    return end


def _at(links: list[_Link], generation: int) -> int:
    """The number of the commit of a generation, -1 where there is none."""
    place = bisect_left(links, generation, key=lambda link: link.generation)
    return place if place < len(links) and links[place].generation == generation else -1
