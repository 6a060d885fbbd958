"""Verbs of the numbered versions of registered models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from noria.assets import Change
from noria.base.actor import Actor
from noria.base.ids import ProjectId, RunId, VersionId
from noria.base.names import nearest
from noria.base.pages import Page
from noria.base.search import Clause, Order
from noria.db import Tx
from noria.registry import queries, search
from noria.registry import tables as t
from noria.registry.errors import ModelExists, ModelNotFound
from noria.registry.records import ModelVersion, RegisteredModel, Stage
from noria.registry.service.base import Base, check_model, check_tags, check_text, tag_rows

_MAX_DIGITS: Final = 9
"""Of the number of a version; it fits into the column then."""


class Versions(Base):
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
        """A new version; the same content of the same run again is the version that is there (promise 4).

        The registered model is made if it is new.
        """
        check_tags(tags or {})
        with self._changes.begin("registry.register", project_id, actor, tx=tx) as change:
            found = queries.model(change.tx.conn, project_id, name)
            if found is None:
                found = self._create(change, check_model(name), "", {})
            if run_id is not None:
                before = queries.version_of_run(change.tx.conn, found.id, run_id, version_id)
                if before is not None:
                    return before
            return self._add(change, found, tags or {}, version_id=version_id, run_id=run_id, source=source)

    def add_version(
        self,
        project_id: ProjectId,
        name: str,
        *,
        actor: Actor,
        version_id: VersionId | None = None,
        run_id: RunId | None = None,
        stray_run: str | None = None,
        source: str,
        description: str = "",
        link: str = "",
        logged_model: str | None = None,
        tags: dict[str, str] | None = None,
        tx: Tx | None = None,
    ) -> ModelVersion:
        """A new version of a model that is there, as a client describes it; a new one each time.

        Args:
            version_id: the asset version that holds its package, where it lies here.
            stray_run: a run that the client names and that is not here.
            source, link: remembered, never opened.

        Raises:
            ModelNotFound: there is no such registered model.
        """
        check_tags(tags or {})
        check_text("description", description)
        check_text("source", source)
        check_text("link", link)
        with self._changes.begin("registry.register", project_id, actor, tx=tx) as change:
            found = self.get(project_id, name, change.tx)
            return self._add(
                change,
                found,
                tags or {},
                version_id=version_id,
                run_id=run_id,
                stray_run=stray_run,
                source=source,
                description=description,
                link=link,
                logged_model=logged_model,
            )

    def _create(self, change: Change, name: str, description: str, tags: dict[str, str]) -> RegisteredModel:
        now = change.tx.now_ms
        change.tx.lock(f"model:{change.project_id}:{name}")  # whoever renames another model takes it too
        row = {"project_id": change.project_id, "name": name, "description": description}
        made = change.tx.insert_new_key(t.registered_models, {**row, "created_at": now, "updated_at": now})
        if made is None:
            raise ModelExists(name)
        change.tx.insert_new_many(t.model_tags, tag_rows(made, 0, tags))
        change.note(name)
        change.event("model.created", name, {"description": description, "tags": tags})
        return RegisteredModel(
            id=made,
            project_id=change.project_id,
            name=name,
            description=description,
            created_at=now,
            updated_at=now,
            tags=dict(sorted(tags.items())),
        )

    def _add(self, change: Change, model: RegisteredModel, tags: dict[str, str], **values: Any) -> ModelVersion:
        tx = change.tx
        number = queries.next_number(tx, model.id)
        times = {"created_at": tx.now_ms, "updated_at": tx.now_ms}
        row = {"description": "", "number": number, **times, **values, "model_id": model.id, "status": "ready"}
        number = row["number"]
        tx.insert(t.model_versions, row)
        tx.insert_new_many(t.model_tags, tag_rows(model.id, number, tags))
        queries.touch(tx, model.id)
        run = values.get("run_id") or values.get("stray_run")
        change.note(f"{model.name}/{number}", run=run)
        change.event(
            "model.registered",
            model.name,
            {"number": number, "run": run, "source": row["source"], "description": row["description"], "tags": tags},
        )
        made = queries.version(tx.conn, model.id, number)
        assert made is not None
        return made

    # ---- reading

    def versions(self, project_id: ProjectId, name: str) -> list[ModelVersion]:
        """Newest first."""
        found = self.get(project_id, name)
        with self._db.read() as conn:
            return queries.versions(conn, found.id)

    def versions_with(self, version_ids: list[VersionId], *, deleted: bool = False) -> list[ModelVersion]:
        """Model versions whose package is one of these asset versions; with ``deleted``, deleted ones too."""
        with self._db.read() as conn:
            return queries.versions_with(conn, version_ids, deleted=deleted)

    def newest_by_stage(self, models: Sequence[RegisteredModel]) -> dict[int, list[ModelVersion]]:
        """Id of a model -> the newest version of each stage, oldest first."""
        with self._db.read() as conn:
            return queries.newest_by_stage(conn, [model.id for model in models])

    def newest(self, project_id: ProjectId, name: str) -> ModelVersion:
        """The version with the highest number.

        Raises:
            ModelNotFound: there is no such model, or no version of it.
        """
        found = self.get(project_id, name)
        with self._db.read() as conn:
            newest = queries.versions(conn, found.id, limit=1)
        if not newest:
            raise ModelNotFound(f"{name!r} has no version yet.", hint=f"noria run {name}")
        return newest[0]

    def resolve(self, project_id: ProjectId, text: str) -> ModelVersion:
        """``name@alias``, ``name/3`` or ``name`` (its newest version); ``models:/`` in front is allowed."""
        text = text.removeprefix("models:/")
        name, slash, number = text.partition("/")
        if slash:
            if not (number.isascii() and number.isdecimal() and len(number) <= _MAX_DIGITS):
                raise ModelNotFound(f"{text!r:.300} is not a model version.", hint="Write name/3 or name@champion.")
            return self.version(project_id, name, int(number))
        name, at, alias = text.rpartition("@")  # a name may hold @, an alias may not
        if at and not self._named(project_id, text):
            found = self.get(project_id, name)
            if alias not in found.aliases:
                raise ModelNotFound(
                    f"{name!r} has no alias {alias!r:.300}.",
                    hint=nearest(alias, found.aliases) or f"Aliases: {', '.join(sorted(found.aliases)) or 'none'}.",
                )
            return self.version(project_id, name, found.aliases[alias])
        return self.newest(project_id, text)

    def _named(self, project_id: ProjectId, name: str) -> bool:
        with self._db.read() as conn:
            return queries.model(conn, project_id, name) is not None

    def search_versions(
        self,
        project_id: ProjectId,
        *,
        clauses: Sequence[Clause] = (),
        order: Sequence[Order] = (),
        without: tuple[str, str] | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Page[ModelVersion]:
        """Versions that fit; those changed last come first, if nothing else is asked for.

        Args:
            without: a tag and its value; models of which a version has it are left out.
        """
        with self._db.read() as conn:
            items, following = search.versions(
                conn, project_id, clauses=clauses, order=order, without=without, limit=limit, after=after
            )
        return Page(items=items, next=following)

    # ---- changing

    def describe_version(
        self, project_id: ProjectId, name: str, number: int, description: str, *, actor: Actor
    ) -> ModelVersion:
        """Sets what is said of a version."""
        check_text("description", description)
        with self._changes.begin("registry.describe", project_id, actor) as change:
            found = self.version(project_id, name, number, change.tx)
            queries.touch_version(change.tx, found.model_id, number, description=description)
            change.note(found.name)
            return self.version(project_id, name, number, change.tx)

    def move_stage(
        self,
        project_id: ProjectId,
        name: str,
        number: int,
        stage: Stage,
        *,
        actor: Actor,
        archive_others: bool = False,
    ) -> ModelVersion:
        """Puts a version into a stage. A stage is a word for people: it moves no traffic and starts no release.

        Args:
            archive_others: versions that were in that stage go to the archive.
        """
        with self._changes.begin("registry.stage", project_id, actor) as change:
            found = self.version(project_id, name, number, change.tx)
            change.tx.lock(f"model:{found.model_id}")
            archived: list[int] = []
            if archive_others:
                archived = queries.archive_others(change.tx, found.model_id, number, stage)
            queries.touch_version(change.tx, found.model_id, number, stage=stage.value)
            queries.touch(change.tx, found.model_id)
            change.note(found.name, before=found.stage.value, after=stage.value, archived=archived)
            payload = {"number": number, "before": found.stage.value, "after": stage.value}
            change.event("model.staged", name, payload)
            return self.version(project_id, name, number, change.tx)

    def delete_version(self, project_id: ProjectId, name: str, number: int, *, actor: Actor) -> None:
        """Deletes a version with its tags and the aliases that point at it. Its number never comes again.

        Raises:
            ModelUsed: an endpoint serves it.
        """
        with self._changes.begin("registry.delete", project_id, actor) as change:
            found = self.version(project_id, name, number, change.tx)
            self._refuse_used(change.tx, project_id, name, number)
            for alias in found.aliases:
                queries.move_alias(change.tx, found.model_id, alias, number, None)
                change.event("alias.moved", name, {"alias": alias, "before": number, "after": None})
            queries.drop_version(change.tx, found.model_id, number)
            queries.touch(change.tx, found.model_id)
            change.note(found.name)
            change.event("model.deleted", name, {"number": number})
