"""Commits that both sides of a transfer have: what may be taken for held, and what was erased on one side only.

A commit keeps its id when something of it is erased, and its layout is another one from then on. So the sides may hold
the same commit with different layouts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from noria.assets import queries as asset_queries
from noria.assets.records import Version
from noria.base.digest import Digest
from noria.base.ids import CommitId
from noria.data import queries
from noria.data.errors import TransferRefused
from noria.data.records import Commit, Repository, RepositoryKind
from noria.data.service.transfer.receiving import Parcel, Side
from noria.store import tree

if TYPE_CHECKING:
    from sqlalchemy import Connection

ERASED: Final = "erased"
"""In the meta of a version: the numbers of the erasures that touched it."""


@dataclass(frozen=True, slots=True)
class Meeting:
    """The two sides of one transfer, for one repository.

    Attributes:
        pushed: the sender is this workspace; for what is said to people.
    """

    pushed: bool
    source: Repository
    target: Repository | None
    sender: Side
    receiver: Side

    def standing(
        self, mine: Connection, theirs: Connection, known: Sequence[CommitId], *, news: bool
    ) -> dict[CommitId, Digest]:
        """The layouts of common commits that both sides hold alike; what is sent may stand on them.

        Args:
            mine: the sender's database. theirs: the receiver's. news: whether new commits follow.

        Raises:
            TransferRefused: the receiver erased something from one of them that the sender still has, and new commits,
                which would bring it back, follow.
        """
        found: dict[CommitId, Digest] = {}
        for start in range(0, len(known), 500):
            some = list(known[start : start + 500])
            there = {commit.id: commit for commit in queries.commits_by_ids(theirs, some)}
            for commit in queries.commits_by_ids(mine, some):
                other = there[commit.id]
                if other.layout == commit.layout:
                    found[commit.id] = commit.layout
                elif news:
                    held = asset_queries.versions_by_ids(theirs, [other.version_id])[other.version_id]
                    sent = asset_queries.versions_by_ids(mine, [commit.version_id])[commit.version_id]
                    self._refuse_return(commit, sent, held, other.layout)
        return found

    def refuse_returns(self, parcel: Parcel) -> None:
        """New commits with the content of an old one from which the receiver erased something would bring it back.

        Raises:
            TransferRefused: there is one.
        """
        if self.target is None:
            return
        with self.receiver.services.db.read() as theirs:
            for commit in parcel.commits:
                held = asset_queries.version_by_digest(theirs, self.target.asset_id, commit.digest)
                if held is not None and held.layout != commit.layout:
                    self._refuse_return(commit, parcel.versions[commit.version_id], held, held.layout)

    def _refuse_return(self, commit: Commit, sent: Version, held: Version, layout: Digest) -> None:
        marks = held.meta.get(ERASED)
        if not marks or not self._has_more(commit, sent, layout):
            return
        where, other = ("there", "here") if self.pushed else ("here", "there")
        numbers = ", ".join(map(str, marks))
        raise TransferRefused(
            f"Something of the commit {commit.id[:12]} of {self.source.name} was erased {where} as number {numbers}, "
            f"and what is to come would bring it back.",
            hint=f"Erase it {other}, too: noria data purge {self.source.name} ...   and repeat this. "
            f"What it was, noria data erasures tells {where}.",
            details={"commit": commit.id, "erasures": list(marks)},
        )

    def _has_more(self, commit: Commit, sent: Version, layout: Digest) -> bool:
        """Whether the sender still has something of the commit that the receiver's ``layout`` does not have."""
        if self.source.kind == RepositoryKind.TABLE:
            return ERASED not in sent.meta  # equal rows may lie on disk in several ways
        here, there = (side.services.sessions.store for side in (self.sender, self.receiver))
        kept = {entry.path for entry in tree.walk(there, layout)}
        return any(entry.path not in kept for entry in tree.walk(here, commit.layout))
