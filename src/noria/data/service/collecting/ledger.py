"""What the commits of a branch say that was taken of a source, and what a contract refused of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from noria.assets import Change, Changes
from noria.base.actor import Actor
from noria.data import queries, taken
from noria.data import tables as t
from noria.data.collectors.protocol import Marks, Piece
from noria.data.errors import ContractBroken
from noria.data.records import MAIN, Commit, QuarantineState, Repository
from noria.data.service import Data
from noria.db import Database

if TYPE_CHECKING:
    from sqlalchemy import Connection

_REFUSED = "refused"
"""In the mark of a part that a contract refused: the contract's number and what was seen of the part."""


Before = Mapping[str, dict[str, Any] | None]
"""What was known of the parts of a piece when it was read."""


class TakenError(Exception):
    """What was known of a part when it was read is not so any more: the transaction rolls back, and one looks anew."""


class Ledger:
    """One per workspace."""

    def __init__(self, db: Database, data: Data, changes: Changes) -> None:
        self._db = db
        self._data = data
        self._changes = changes

    def marks(self, repository: Repository, branch: str = MAIN) -> dict[str, dict[str, Any]]:
        """What the commits of a branch say that was taken of each part of a source, and what was refused for it."""
        return self.stands(repository, branch)[1]

    def stands(self, repository: Repository, branch: str) -> tuple[Commit | None, dict[str, dict[str, Any]]]:
        """(the head of a branch, its marks), of one moment."""
        with self._db.read() as conn:
            _, head = queries.head(conn, repository.id, branch)
            return head, self.marks_at(conn, repository, branch, head)

    def went_on(self, repository: Repository, branch: str, before: Commit | None, head: Commit | None) -> bool:
        """Whether a branch that stands at ``head`` holds the commit at which it stood before."""
        if before is None or (head is not None and head.id == before.id):
            return True
        with self._db.read() as conn:
            return self._data.holds(conn, repository, branch, head)(before.id, before.generation)

    @staticmethod
    def covers(mark: Mapping[str, Any], size: int, mtime_ns: int) -> bool:
        """Whether after a look a file of this size and time needs no other one. A last line without an end does.

        One that was refused waits, also where it was touched since: its mark stays as it was then.
        """
        refused = mark.get(_REFUSED)
        seen = mark if refused is None else refused["mark"]
        same = refused is not None or (seen.get("size"), seen.get("mtime_ns")) == (size, mtime_ns)
        return same and seen.get("read") is None

    def seen(self, repository: Repository, branch: str, marks: Mapping[str, dict[str, Any]]) -> tuple[Marks, list[str]]:
        """(what a source is to compare with, parts that wait in quarantine).

        A part that the contract in force refused counts as seen as it was then: it is offered again when it changed, or
        when the contract did, but not where the batch was dropped. Where it was accepted, the commit says what was
        taken; a branch that does not hold that commit is offered the part. Of refused lines those that follow are.
        Of a table without any rows everything is offered, so that the reason is told again.
        """
        empty = self._data.head(repository, branch) is None
        decided: dict[int, QuarantineState] = {}
        if any(_REFUSED in mark for mark in marks.values()):
            for batch in self._data.quarantine(repository.project_id, repository):
                if batch.state != QuarantineState.OPEN:
                    decided[batch.id] = batch.state
        seen: dict[str, dict[str, Any]] = {}
        never: list[str] = []
        waiting: list[str] = []
        for source, mark in marks.items():
            accepted = {name: value for name, value in mark.items() if name != _REFUSED}
            refused = mark.get(_REFUSED)
            state = None if refused is None else decided.get(refused["batch"])
            if refused is not None and state == QuarantineState.DROPPED:  # its rows are not wanted
                seen[source] = refused["mark"]
            elif state is None and refused is not None and refused["contract"] == repository.contract and not empty:
                waiting.append(source)
                seen[source] = refused["mark"]
                if not accepted:
                    never.append(source)
            elif accepted:
                seen[source] = accepted
        return Marks(seen, waiting, never), waiting

    def held(self, repository: Repository, waiting: list[str]) -> list[ContractBroken]:
        """Why parts were refused before, from what lies in quarantine; nothing of batches that were settled since."""
        if not waiting:
            return []
        found: dict[str, ContractBroken] = {}
        for batch in self._data.quarantine(repository.project_id, repository):  # newest first
            if batch.state == "open" and batch.source in waiting and batch.source not in found:
                held = ContractBroken(repository.name, repository.contract or 0, batch.report, batch.id)
                held.details["source"] = batch.source
                found[batch.source] = held
        return list(found.values())

    def mark_alone(
        self,
        repository: Repository,
        branch: str,
        piece: Piece,
        before: Before,
        actor: Actor,
        met: Commit | None = None,
    ) -> None:
        """Remembers a part that brought no rows, as of a commit that holds all that there is of it.

        Nothing is remembered where a branch has no commit: nothing was taken, and the next look reads the part again.

        Args:
            met: the commit that was found to hold the rows; default: the head, for a part without any.

        Raises:
            TakenError: that commit does not hold what was taken of the part when it was read, or it is gone.
        """
        with self._changes.begin("data.collect", repository.project_id, actor) as change:
            conn = change.tx.conn
            if met is None:
                _, met = queries.head(conn, repository.id, branch)
            elif queries.commit(conn, met.id) is None:
                raise TakenError
            self.check(conn, repository, branch, met, before)
            if met is not None:
                self.mark(change, repository, branch, piece, met)
            change.note(repository.name, source=piece.source, rows=0)

    def mark_refused(
        self, repository: Repository, branch: str, piece: Piece, before: Before, batch: int, actor: Actor
    ) -> None:
        """Remembers under which contract a part was refused, beside what was taken of it before.

        Where the batch was accepted, and the branch holds what came of it, the part is taken.

        Raises:
            TakenError: the branch does not hold what was taken of the part when it was read.
        """
        with self._changes.begin("data.collect", repository.project_id, actor) as change:
            _, head = queries.head(change.tx.conn, repository.id, branch)
            self.check(change.tx.conn, repository, branch, head, before)
            found = queries.quarantined(change.tx.conn, batch)
            if found is not None and found.state == QuarantineState.ACCEPTED and head is not None:
                self.mark(change, repository, branch, piece, head)
                change.note(repository.name, source=piece.source, accepted=batch)
                return
            row = {"repository_id": repository.id, "branch": branch, "source": piece.source, "mark": piece.mark}
            row |= {"contract": repository.contract, "batch": batch, "at": change.tx.now_ms}
            change.tx.upsert(t.refusals, row, key=["repository_id", "branch", "source"])
            change.note(repository.name, source=piece.source, refused=repository.contract)

    def check(
        self, conn: Connection, repository: Repository, branch: str, commit: Commit | None, before: Before
    ) -> None:
        """Raises ``TakenError`` where of a branch that stands at ``commit`` something else is known than before."""
        found = self.marks_at(conn, repository, branch, commit, list(before))
        if any(found.get(source) != seen for source, seen in before.items()):
            raise TakenError

    def mark(self, change: Change, repository: Repository, branch: str, piece: Piece, commit: Commit) -> None:
        taken.keep_marks(change.tx, repository.id, commit, piece.marks)
        taken.settle_refusals(change.tx.conn, repository.id, branch, piece.marks)

    def marks_at(
        self,
        conn: Connection,
        repository: Repository,
        branch: str,
        head: Commit | None,
        sources: list[str] | None = None,
    ) -> dict[str, dict[str, Any]]:
        """Of a branch that stands at ``head``: of all parts, or of these."""
        found: dict[str, dict[str, Any]] = {}
        if head is not None:
            holds = self._data.holds(conn, repository, branch, head)
            found = taken.marks(conn, repository.id, holds, head.generation, sources)
        for source, row in taken.refusals(conn, repository.id, branch).items():
            if sources is None or source in sources:
                refused = {"contract": row.contract, "batch": row.batch, "mark": row.mark}
                found[source] = {**found.get(source, {}), _REFUSED: refused}
        return found
