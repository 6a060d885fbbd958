"""The audit log: who changed what, hash-chained so that a change in the past shows."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, select

from noria.assets import tables as t
from noria.assets.changes import audit_hash
from noria.assets.records import AuditEntry
from noria.base.ids import ProjectId
from noria.base.pages import Page, check_limit, number_position, token
from noria.db import Database

_HASHED = ("at", "actor", "verb", "subject", "detail", "prev")


class AuditLog:
    def __init__(self, db: Database) -> None:
        self._db = db

    def list(self, project_id: ProjectId, *, limit: int = 100, after: str | None = None) -> Page[AuditEntry]:
        """Newest first."""
        before = number_position(after)
        statement = select(t.audit).where(t.audit.c.project_id == project_id)
        if before is not None:
            statement = statement.where(t.audit.c.seq < before)
        with self._db.read() as conn:
            rows = conn.execute(statement.order_by(t.audit.c.seq.desc()).limit(check_limit(limit))).all()
        items = [_entry(row) for row in rows]
        return Page(items=items, next=token(items[-1].seq) if len(items) == limit else None)

    def verify(self, project_id: ProjectId) -> list[str]:
        """Walks the whole chain; returns what does not hold, in words. Truncation at the end needs an exported head."""
        faults: list[str] = []
        prev = ""
        with self._db.read() as conn:
            found = conn.execute(select(t.audit).where(t.audit.c.project_id == project_id).order_by(t.audit.c.seq))
            for row in found:
                if row.prev != prev:
                    faults.append(f"entry {row.seq} does not follow the entry before it")
                if audit_hash({name: getattr(row, name) for name in _HASHED}) != row.hash:
                    faults.append(f"entry {row.seq} was changed")
                prev = row.hash
        return faults


def _entry(row: Row[Any]) -> AuditEntry:
    return AuditEntry(
        seq=row.seq,
        at=row.at,
        actor=row.actor,
        verb=row.verb,
        subject=row.subject,
        detail=row.detail,
        prev=row.prev,
        hash=row.hash,
    )
