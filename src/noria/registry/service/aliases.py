"""Aliases: names that point at versions and move by compare-and-swap."""

from __future__ import annotations

from typing import Any, Final

from noria.base.actor import Actor
from noria.base.ids import ProjectId
from noria.base.once import Once
from noria.db import Tx
from noria.registry import queries
from noria.registry.errors import AliasMoved
from noria.registry.service.base import Base, check_alias

_ANY: Final = object()


class Aliases(Base):
    def alias(self, project_id: ProjectId, name: str, alias: str, tx: Tx | None = None) -> int | None:
        """The number that an alias points at, None where there is no such alias or model."""
        with self._db.read(tx) as conn:
            found = queries.model(conn, project_id, name)
            return None if found is None else queries.alias(conn, found.id, alias)

    def move_alias(
        self,
        project_id: ProjectId,
        name: str,
        alias: str,
        to: int | None,
        *,
        actor: Actor,
        expected: Any = _ANY,
        once: Once | None = None,
        tx: Tx | None = None,
    ) -> int | None:
        """Points an alias at another version (None removes it) by compare-and-swap; returns where it pointed.

        Raises:
            AliasMoved: ``expected`` was given and the alias points elsewhere.
        """
        check_alias(alias)
        found = self.get(project_id, name, tx)
        if to is not None:
            self.version(project_id, name, to, tx)
        with self._changes.begin("registry.alias", project_id, actor, once=once, tx=tx) as change:
            if change.earlier is not None:
                return change.earlier["before"]
            before = queries.alias(change.tx.conn, found.id, alias)
            wanted = before if expected is _ANY else expected
            if before != wanted or not queries.move_alias(change.tx, found.id, alias, before, to):
                raise AliasMoved(name, alias, wanted, before)
            change.note(f"{name}@{alias}", before=before, after=to)
            change.answer({"before": before})
            change.event("alias.moved", name, {"alias": alias, "before": before, "after": to})
        return before
