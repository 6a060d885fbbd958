"""Evidence records: what gates decided on and what the ML Test Score is computed from."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, select

from noria.assets import tables as t
from noria.assets.changes import Change
from noria.assets.records import Evidence
from noria.base.ids import ProjectId, RunId, VersionId
from noria.db import Database


class EvidenceLog:
    def __init__(self, db: Database) -> None:
        self._db = db

    def record(
        self,
        change: Change,
        test: str,
        subject: str,
        *,
        passed: bool,
        evaluator: str,
        version_id: VersionId | None = None,
        run_id: RunId | None = None,
        details: dict[str, Any] | None = None,
    ) -> int:
        """Adds a record in the transaction of the change that it speaks of. Records are never edited."""
        return change.tx.insert(
            t.evidence,
            {
                "project_id": change.project_id,
                "test": test,
                "subject": subject,
                "version_id": version_id,
                "run_id": run_id,
                "passed": passed,
                "automatic": change.actor.automatic,
                "actor": change.actor.name,
                "evaluator": evaluator,
                "details": details or {},
                "event_ms": change.event_ms,
                "created_at": change.tx.now_ms,
            },
        )

    def list(
        self, project_id: ProjectId, *, tests: list[str] | None = None, subject: str | None = None, limit: int = 10_000
    ) -> list[Evidence]:
        """Oldest first; of more than ``limit`` records the newest."""
        c = t.evidence.c
        statement = select(t.evidence).where(c.project_id == project_id)
        if tests is not None:
            statement = statement.where(c.test.in_(tests))
        if subject is not None:
            statement = statement.where(c.subject == subject)
        with self._db.read() as conn:
            rows = conn.execute(statement.order_by(c.id.desc()).limit(limit)).all()
        return [_evidence(row) for row in reversed(rows)]


def _evidence(row: Row[Any]) -> Evidence:
    return Evidence(
        id=row.id,
        project_id=ProjectId(row.project_id),
        test=row.test,
        subject=row.subject,
        version_id=None if row.version_id is None else VersionId(row.version_id),
        run_id=None if row.run_id is None else RunId(row.run_id),
        passed=row.passed,
        automatic=row.automatic,
        actor=row.actor,
        evaluator=row.evaluator,
        details=row.details,
        event_ms=row.event_ms,
        created_at=row.created_at,
    )
