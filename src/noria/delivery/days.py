"""Up to which day of event time a project was processed."""

from __future__ import annotations

from noria.base.ids import ProjectId
from noria.db import Database
from noria.delivery import queries


class Days:
    """One per workspace; apart from the rest of the room, since a server without endpoints asks for nothing else."""

    def __init__(self, db: Database, project_id: ProjectId) -> None:
        self._db = db
        self._project_id = project_id

    def processed(self) -> int | None:
        """The day up to which everything was processed, in milliseconds of event time; None before the first."""
        with self._db.read() as conn:
            return queries.trigger_mark(conn, self._project_id, "", "processed")

    def set_processed(self, at: int) -> None:
        with self._db.write() as tx:
            queries.set_trigger_mark(tx, self._project_id, "", "processed", at)
