"""Verbs of registered models."""

from __future__ import annotations

from collections.abc import Sequence

from noria.base.actor import Actor
from noria.base.ids import ProjectId
from noria.base.pages import Page
from noria.base.search import Clause, Order
from noria.db import Tx
from noria.registry import queries, search
from noria.registry import tables as t
from noria.registry.errors import ModelExists
from noria.registry.records import RegisteredModel
from noria.registry.service.base import check_model, check_tags, check_text, tag_rows
from noria.registry.service.versions import Versions


class Models(Versions):
    def create(
        self,
        project_id: ProjectId,
        name: str,
        *,
        actor: Actor,
        description: str = "",
        tags: dict[str, str] | None = None,
    ) -> RegisteredModel:
        """A new registered model.

        Raises:
            ModelExists: the name is taken.
            ModelNameInvalid, ModelTagInvalid: a part of it is not allowed.
        """
        check_model(name)
        check_tags(tags or {})
        check_text("description", description)
        with self._changes.begin("registry.create", project_id, actor) as change:
            return self._create(change, name, description, tags or {})

    def models(self, project_id: ProjectId) -> list[RegisteredModel]:
        with self._db.read() as conn:
            return queries.models(conn, project_id)

    def search(
        self,
        project_id: ProjectId,
        *,
        clauses: Sequence[Clause] = (),
        order: Sequence[Order] = (),
        without: tuple[str, str] | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Page[RegisteredModel]:
        """Models that fit; by name, if nothing else is asked for.

        Args:
            without: a tag and its value; models that have it are left out.
        """
        with self._db.read() as conn:
            items, following = search.models(
                conn, project_id, clauses=clauses, order=order, without=without, limit=limit, after=after
            )
        return Page(items=items, next=following)

    def describe(self, project_id: ProjectId, name: str, description: str, *, actor: Actor) -> RegisteredModel:
        """Sets what is said of a model."""
        check_text("description", description)
        with self._changes.begin("registry.describe", project_id, actor) as change:
            found = self.get(project_id, name, change.tx)
            queries.touch(change.tx, found.id, description=description)
            change.note(name)
            return self.get(project_id, name, change.tx)

    def rename(self, project_id: ProjectId, name: str, to: str, *, actor: Actor) -> RegisteredModel:
        """Gives a model another name; versions, aliases and tags stay with it.

        Raises:
            ModelExists, ModelUsed: the new name is taken; an endpoint serves the model by its name.
        """
        check_model(to)
        with self._changes.begin("registry.rename", project_id, actor) as change:
            found = self.get(project_id, name, change.tx)
            self._refuse_used(change.tx, project_id, name)
            change.tx.lock(f"model:{project_id}:{to}")
            if queries.model(change.tx.conn, project_id, to) is not None:
                raise ModelExists(to)
            queries.touch(change.tx, found.id, name=to)
            queries.touch_versions(change.tx, found.id)
            change.note(name, name=to)
            change.event("model.renamed", to, {"before": name})
            return self.get(project_id, to, change.tx)

    def delete(self, project_id: ProjectId, name: str, *, actor: Actor) -> None:
        """Deletes a model with all its versions, aliases and tags; lineage keeps their rows.

        Raises:
            ModelUsed: an endpoint serves it.
        """
        with self._changes.begin("registry.delete", project_id, actor) as change:
            found = self.get(project_id, name, change.tx)
            change.tx.lock(f"model:{found.id}")
            self._refuse_used(change.tx, project_id, name)
            for alias, number in found.aliases.items():
                change.event("alias.moved", name, {"alias": alias, "before": number, "after": None})
            queries.drop_model(change.tx, found.id, name)
            change.note(name, id=found.id)
            change.event("model.deleted", name, {"number": None})

    def set_tag(self, project_id: ProjectId, name: str, number: int, key: str, value: str, *, actor: Actor) -> None:
        """Sets a tag of a version (of the model itself for number 0)."""
        check_tags({key: value})
        with self._changes.begin("registry.tag", project_id, actor) as change:
            model_id = self._tagged(change.tx, project_id, name, number)
            for row in tag_rows(model_id, number, {key: value}):
                change.tx.upsert(t.model_tags, row, key=["model_id", "number", "key"])
            change.note(f"{name}/{number}" if number else name, key=key)
            change.event("model.tagged", name, {"number": number or None, "key": key, "value": value})

    def delete_tag(self, project_id: ProjectId, name: str, number: int, key: str, *, actor: Actor) -> bool:
        """Takes a tag of a version (of the model itself for number 0) away; says whether there was one."""
        with self._changes.begin("registry.tag", project_id, actor) as change:
            model_id = self._tagged(change.tx, project_id, name, number)
            there = queries.delete_tag(change.tx, model_id, number, key)
            change.note(f"{name}/{number}" if number else name, key=key, removed=there)
            if there:
                change.event("model.untagged", name, {"number": number or None, "key": key})
        return there

    def _tagged(self, tx: Tx, project_id: ProjectId, name: str, number: int) -> int:
        if number:
            return self.version(project_id, name, number, tx).model_id
        return self.get(project_id, name, tx).id
