"""What a project has, by a look at the database: a process that has nothing of a room need not import the room."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from noria.base.ids import ProjectId
from noria.db import Database

if TYPE_CHECKING:
    from sqlalchemy import Connection


class Glance:
    """One per workspace. Each question is one row of an index."""

    def __init__(self, db: Database, project_id: ProjectId) -> None:
        self._db = db
        self._project_id = project_id

    def has_endpoints(self) -> bool:
        from noria.serving.queries import has_endpoints

        return self._asked(has_endpoints)

    def has_deployments(self) -> bool:
        """Whether there is a deployment that endpoint workers have to load or hold."""
        from noria.serving.queries import has_deployments

        return self._asked(has_deployments)

    def has_definitions(self) -> bool:
        """Whether anything was applied (``noria apply``)."""
        from noria.pipelines.queries import has_definitions

        return self._asked(has_definitions)

    def has_repositories(self) -> bool:
        from noria.data.queries import has_repositories

        return self._asked(has_repositories)

    def _asked(self, has: Callable[[Connection, ProjectId], bool]) -> bool:
        with self._db.read() as conn:
            return has(conn, self._project_id)
