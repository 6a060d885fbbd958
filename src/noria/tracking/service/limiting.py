"""Verbs of quotas: what a project may hold, and what it holds."""

from __future__ import annotations

from noria.base.actor import Actor
from noria.base.ids import ProjectId
from noria.base.once import Once
from noria.tracking import quotas
from noria.tracking.service.base import Base


class Limiting(Base):
    def quotas(self, project_id: ProjectId) -> dict[str, tuple[int | None, int | None]]:
        """What -> its limit (None: none) and how much there is (of points and keys: the most in one run or experiment,
        and only where they have a limit)."""
        with self._db.read() as conn:
            limits = self._quotas.limits(conn, project_id, self._assets.now_ms())
            there = quotas.used(conn, project_id, limits)
        return {what: (limits.get(what), there.get(what)) for what in quotas.WHAT}

    def set_quota(
        self, project_id: ProjectId, what: str, most: int | None, *, actor: Actor, once: Once | None = None
    ) -> None:
        """Sets a limit, or takes it away (None). What is there already stays.

        Raises:
            Invalid: there is no such limit.
        """
        with self._changes.begin("admin.quota", project_id, actor, once=once) as change:
            if change.earlier is not None:
                return
            quotas.put(change.tx, project_id, what, most)
            change.note(what, most=most)
            change.tx.after_commit(self._quotas.forget)
