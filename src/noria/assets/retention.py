"""How long records of the system itself are kept, and what removes those that are older: once a day, as a job."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sqlalchemy import delete, exists, select

from noria.assets import tables as t
from noria.base.errors import Invalid
from noria.base.ids import ProjectId
from noria.base.times import DAY
from noria.db import Database, Tx

Pruner = Callable[[Tx, ProjectId, int], int]
"""Removes what is older than the given wall time from a project; returns how many rows."""

OwnPruner = Callable[[ProjectId, int], int]
"""The same in transactions of its own."""

DEFAULTS: Final[dict[str, int]] = {
    "events": 30 * DAY,
    "idempotency": 1 * DAY,
    "jobs": 30 * DAY,
    "logs": 30 * DAY,
    "runs.bin": 30 * DAY,
    "segments": 7 * DAY,
}
"""What is pruned, and after how long by default. Audit rows, evidence and lineage are never pruned."""


PRUNE: Final = "prune"
"""Kind of the job that a server queues once a day."""


class Retention:
    """Settings of each project, and the pruning of everything that registered a pruner."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._pruners: dict[str, Pruner] = {"events": prune_events, "idempotency": prune_idempotency}
        self._own: dict[str, OwnPruner] = {}

    def register(self, what: str, pruner: Pruner) -> None:
        assert what in DEFAULTS, what
        self._pruners[what] = pruner

    def register_own(self, what: str, pruner: OwnPruner) -> None:
        """One that opens its own transactions: for what is too much for a single one."""
        assert what in DEFAULTS, what
        self._own[what] = pruner

    def settings(self, project_id: ProjectId, tx: Tx | None = None) -> dict[str, int]:
        """Milliseconds that each kind of record is kept."""
        with self._db.read(tx) as conn:
            rows = conn.execute(select(t.retention).where(t.retention.c.project_id == project_id)).all()
        return {**DEFAULTS, **{row.what: row.keep_ms for row in rows}}

    def set(self, tx: Tx, project_id: ProjectId, what: str, keep_ms: int) -> None:
        if what not in DEFAULTS:
            raise Invalid(f"{what!r} has no retention.", hint=f"One of: {', '.join(sorted(DEFAULTS))}.")
        if keep_ms < DEFAULTS["idempotency"] and what in ("events", "idempotency"):
            raise Invalid(f"{what} must be kept for a day at least, for retries.", hint="Write 1d or more.")
        row = {"project_id": project_id, "what": what, "keep_ms": keep_ms}
        tx.upsert(t.retention, row, key=["project_id", "what"])

    def prune(self, project_id: ProjectId) -> dict[str, int]:
        """Removes what is too old; returns how much of each kind: rows, or files for logs and segments."""
        removed: dict[str, int] = {}
        for what, keep in self.settings(project_id).items():
            if what in self._own:
                with self._db.write() as tx:
                    before = tx.now_ms - keep
                removed[what] = self._own[what](project_id, before)
                continue
            with self._db.write() as tx:
                removed[what] = self._pruners[what](tx, project_id, tx.now_ms - keep)
        return removed


def prune_events(tx: Tx, project_id: ProjectId, before: int) -> int:
    """Events whose deliveries are all done, with their deliveries. Dead ones stay until somebody looks."""
    open_delivery = exists().where(t.deliveries.c.event_id == t.events.c.id, t.deliveries.c.state != "done")
    old = select(t.events.c.id).where(
        t.events.c.project_id == project_id, t.events.c.created_at < before, ~open_delivery
    )
    tx.execute(delete(t.deliveries).where(t.deliveries.c.event_id.in_(old)))
    no_delivery = ~exists().where(t.deliveries.c.event_id == t.events.c.id)
    where = (t.events.c.project_id == project_id, t.events.c.created_at < before, no_delivery)
    return tx.execute(delete(t.events).where(*where)).rowcount


def prune_idempotency(tx: Tx, project_id: ProjectId, before: int) -> int:
    where = (t.idempotency.c.project_id == project_id, t.idempotency.c.created_at < before)
    return tx.execute(delete(t.idempotency).where(*where)).rowcount
