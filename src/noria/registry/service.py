"""The verbs of the registry."""

from __future__ import annotations

import re
from typing import Any, Final

from noria.assets import Changes
from noria.base.actor import Actor
from noria.base.ids import ProjectId, RunId, VersionId
from noria.base.names import check_name, nearest
from noria.base.once import Once
from noria.db import Database, Tx
from noria.registry import queries
from noria.registry import tables as t
from noria.registry.errors import AliasInvalid, AliasMoved, ModelNotFound
from noria.registry.records import ModelVersion, RegisteredModel

_ANY: Final = object()
_MAX_DIGITS: Final = 9
"""Of the number of a version; it fits into the column then."""


class Registry:
    """One per workspace."""

    def __init__(self, db: Database, changes: Changes) -> None:
        self._db = db
        self._changes = changes

    def create(self, project_id: ProjectId, name: str, *, actor: Actor, tx: Tx | None = None) -> RegisteredModel:
        """The registered model of this name, made if it is new."""
        with self._db.read(tx) as conn:
            found = queries.model(conn, project_id, name)
        if found is not None:
            return found
        check_name(name, "a model")
        with self._changes.begin("registry.create", project_id, actor, tx=tx) as change:
            now = change.tx.now_ms
            row = {"project_id": project_id, "name": name, "description": "", "created_at": now, "updated_at": now}
            change.tx.insert_new(t.registered_models, row)
            change.note(name)
            made = queries.model(change.tx.conn, project_id, name)
        assert made is not None
        return made

    def register(
        self,
        project_id: ProjectId,
        name: str,
        *,
        actor: Actor,
        version_id: VersionId | None,
        run_id: RunId | None,
        source: str = "",
        tags: dict[str, str] | None = None,
        tx: Tx | None = None,
    ) -> ModelVersion:
        """A new version; the same content of the same run again is the version that is there (promise 4)."""
        with self._changes.begin("registry.register", project_id, actor, tx=tx) as change:
            found = self.create(project_id, name, actor=actor, tx=change.tx)
            conn = change.tx.conn
            if run_id is not None:
                before = queries.version_of_run(conn, found.id, run_id, version_id)
                if before is not None:
                    return before
            number = queries.next_number(change.tx, found.id)
            now = change.tx.now_ms
            row: dict[str, Any] = {
                "model_id": found.id,
                "number": number,
                "version_id": version_id,
                "run_id": run_id,
                "source": source,
                "status": "ready",
                "description": "",
                "created_at": now,
                "updated_at": now,
            }
            change.tx.insert(t.model_versions, row)
            for key, value in (tags or {}).items():
                change.tx.insert(t.model_tags, {"model_id": found.id, "number": number, "key": key, "value": value})
            change.note(f"{name}/{number}", run=run_id)
            change.event("model.registered", name, {"number": number, "run": run_id})
            made = queries.version(conn, found.id, number)
        assert made is not None
        return made

    def get(self, project_id: ProjectId, name: str) -> RegisteredModel:
        with self._db.read() as conn:
            found = queries.model(conn, project_id, name)
            if found is None:
                known = (m.name for m in queries.models(conn, project_id))
                raise ModelNotFound(
                    f"There is no registered model {name!r}.", hint=nearest(name, known) or "noria models list"
                )
            return found

    def models(self, project_id: ProjectId) -> list[RegisteredModel]:
        with self._db.read() as conn:
            return queries.models(conn, project_id)

    def versions(self, project_id: ProjectId, name: str) -> list[ModelVersion]:
        """Newest first."""
        found = self.get(project_id, name)
        with self._db.read() as conn:
            return queries.versions(conn, found.id)

    def versions_with(self, version_ids: list[VersionId]) -> list[ModelVersion]:
        """Model versions whose package is one of these asset versions."""
        with self._db.read() as conn:
            return queries.versions_with(conn, version_ids)

    def version(self, project_id: ProjectId, name: str, number: int, tx: Tx | None = None) -> ModelVersion:
        with self._db.read(tx) as conn:
            model = queries.model(conn, project_id, name)
            found = None if model is None else queries.version(conn, model.id, number)
        if found is None:
            raise ModelNotFound(f"There is no version {number} of {name!r}.", hint=f"noria models show {name}")
        return found

    def resolve(self, project_id: ProjectId, text: str) -> ModelVersion:
        """``name@alias``, ``name/3`` or ``name`` (its newest version); ``models:/`` in front is allowed."""
        text = text.removeprefix("models:/")
        name, at, alias = text.partition("@")
        if at:
            found = self.get(project_id, name)
            if alias not in found.aliases:
                hint = nearest(alias, found.aliases) or f"Aliases: {', '.join(sorted(found.aliases)) or 'none'}."
                raise ModelNotFound(f"{name!r} has no alias {alias!r}.", hint=hint)
            return self.version(project_id, name, found.aliases[alias])
        name, slash, number = text.partition("/")
        if slash:
            if not (number.isascii() and number.isdecimal() and len(number) <= _MAX_DIGITS):
                raise ModelNotFound(f"{text!r} is not a model version.", hint="Write name/3 or name@champion.")
            return self.version(project_id, name, int(number))
        found_versions = self.versions(project_id, name)
        if not found_versions:
            raise ModelNotFound(f"{name!r} has no version yet.", hint=f"noria run {name}")
        return found_versions[0]

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
        _check_alias(alias)
        found = self.get(project_id, name)
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

    def set_tag(self, project_id: ProjectId, name: str, number: int, key: str, value: str, *, actor: Actor) -> None:
        """Sets a tag of a version (of the model itself for number 0)."""
        found = self.get(project_id, name)
        with self._changes.begin("registry.tag", project_id, actor) as change:
            row = {"model_id": found.id, "number": number, "key": key, "value": value}
            change.tx.upsert(t.model_tags, row, key=["model_id", "number", "key"])
            change.note(f"{name}/{number}", key=key)


def _check_alias(alias: str) -> None:
    check_name(alias, "an alias")
    if alias == "latest" or re.fullmatch(r"v\d+", alias):
        raise AliasInvalid(f"{alias!r} cannot be an alias.", hint="latest and v3 mean version numbers elsewhere.")
