"""Event time of each project (decision 5): wall time in production, a stored watermark in a replay."""

from __future__ import annotations

from sqlalchemy import bindparam, select

from noria.assets import tables as t
from noria.assets.errors import ClockBackwards
from noria.base.clock import Clock
from noria.base.ids import ProjectId
from noria.base.times import to_text
from noria.db import Database, Tx

_ONE = select(t.event_clocks.c.mode, t.event_clocks.c.watermark).where(
    t.event_clocks.c.project_id == bindparam("project_id")
)


class ProjectClock:
    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    def event_ms(self, project_id: ProjectId, tx: Tx | None = None) -> int:
        if tx is not None:
            return self.event_ms_in(tx, project_id)
        with self._db.read() as conn:
            row = conn.execute(_ONE, {"project_id": project_id}).one_or_none()
        return self._clock.now_ms() if row is None or row.mode == "wall" else row.watermark

    def event_ms_in(self, tx: Tx, project_id: ProjectId) -> int:
        row = tx.execute(_ONE, {"project_id": project_id}).one_or_none()
        return tx.now_ms if row is None or row.mode == "wall" else row.watermark

    def mode(self, project_id: ProjectId) -> str:
        with self._db.read() as conn:
            row = conn.execute(_ONE, {"project_id": project_id}).one_or_none()
        return "wall" if row is None else row.mode

    def set(self, tx: Tx, project_id: ProjectId, to_ms: int) -> int:
        """Puts the project into replay at ``to_ms`` or moves it on; returns the watermark before.

        Raises:
            ClockBackwards: ``to_ms`` lies before the watermark.
        """
        tx.lock(f"clock:{project_id}")
        row = tx.execute(_ONE, {"project_id": project_id}).one_or_none()
        before = row.watermark if row is not None and row.mode == "replay" else to_ms
        if to_ms < before:
            raise ClockBackwards(
                f"Event time stands at {to_text(before)} and cannot go back to {to_text(to_ms)}.",
                hint="A replay only goes forward; use another project or workspace to start over.",
                details={"watermark": before, "asked": to_ms},
            )
        tx.upsert(
            t.event_clocks,
            {"project_id": project_id, "mode": "replay", "watermark": to_ms},
            key=["project_id"],
        )
        return before

    def for_project(self, project_id: ProjectId) -> BoundClock:
        return BoundClock(self, project_id)


class BoundClock:
    """An ``EventClock`` of one project."""

    def __init__(self, clock: ProjectClock, project_id: ProjectId) -> None:
        self._clock = clock
        self._project_id = project_id

    def event_ms(self) -> int:
        return self._clock.event_ms(self._project_id)
