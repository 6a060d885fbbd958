"""The moves of branches: every head is moved here, and each move is written down."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Connection, Row, or_, select

from noria.assets import Change
from noria.base.ids import CommitId
from noria.data import queries
from noria.data import tables as t
from noria.data.records import Move

FROM_ELSEWHERE: Final = frozenset({"data.clone", "data.pull", "data.fetch", "data.push", "data.import"})
"""Verbs that bring a branch which was somewhere else before."""


def move_head(change: Change, repository_id: int, branch: str, before: CommitId | None, after: CommitId | None) -> bool:
    """Moves the head of a branch; False where it does not stand at ``before``."""
    tx = change.tx
    if not queries.move_branch(tx.conn, repository_id, branch, before, after, tx.now_ms):
        return False
    write_move(change, repository_id, branch, before, after)
    return True


def write_move(
    change: Change, repository_id: int, branch: str, before: CommitId | None, after: CommitId | None
) -> None:
    """Writes down that a branch was made, moved or removed."""
    tx, c = change.tx, t.moves.c
    mine = (c.repository_id == repository_id, c.branch == branch)
    last = tx.execute(select(c.at).where(*mine).order_by(c.at.desc()).limit(1)).scalar_one_or_none()
    row = {"repository_id": repository_id, "branch": branch, "before": before, "after": after}
    at = tx.now_ms if last is None else max(tx.now_ms, last)
    tx.insert(t.moves, {**row, "verb": change.verb, "actor": change.actor.name, "at": at})


def moves(conn: Connection, repository_id: int, branch: str | None, before: int | None, limit: int) -> list[Move]:
    """Newest first; of all branches or of one; those before the move with a number."""
    c = t.moves.c
    found = select(t.moves).where(c.repository_id == repository_id).order_by(c.id.desc()).limit(limit)
    if branch is not None:
        found = found.where(c.branch == branch)
    if before is not None:
        found = found.where(c.id < before)
    return [_move(row) for row in conn.execute(found)]


def last_by(conn: Connection, repository_id: int, branch: str, moment: int) -> Move | None:
    """The last move of a branch up to a moment."""
    c = t.moves.c
    found = select(t.moves).where(c.repository_id == repository_id, c.branch == branch, c.at <= moment)
    row = conn.execute(found.order_by(c.at.desc(), c.id.desc()).limit(1)).one_or_none()
    return None if row is None else _move(row)


def first_after(conn: Connection, repository_id: int, branch: str, moment: int, *, held: bool = False) -> Move | None:
    """The first move of a branch after a moment, from or to a commit; ``held``: the first to one."""
    c = t.moves.c
    found = select(t.moves).where(c.repository_id == repository_id, c.branch == branch, c.at > moment)
    some = c.after.is_not(None) if held else or_(c.after.is_not(None), c.before.is_not(None))
    found = found.where(some)
    row = conn.execute(found.order_by(c.at, c.id).limit(1)).one_or_none()
    return None if row is None else _move(row)


def first_kept_after(conn: Connection, repository_id: int, branch: str, number: int) -> Move | None:
    """The first move of a branch after another one whose commit is still there."""
    c = t.moves.c
    found = select(t.moves).join(t.commits, t.commits.c.id == c.after)
    found = found.where(c.repository_id == repository_id, c.branch == branch, c.id > number)
    row = conn.execute(found.order_by(c.id).limit(1)).one_or_none()
    return None if row is None else _move(row)


def _move(row: Row[Any]) -> Move:
    return Move(
        number=row.id,
        branch=row.branch,
        before=None if row.before is None else CommitId(row.before),
        after=None if row.after is None else CommitId(row.after),
        verb=row.verb,
        actor=row.actor,
        at=row.at,
    )
