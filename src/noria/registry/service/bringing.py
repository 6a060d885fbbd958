"""The verb that takes over a registered model of another server. It may be repeated: nothing doubles."""

from __future__ import annotations

from collections.abc import Callable, Collection

from noria.assets import Change
from noria.base.actor import Actor
from noria.base.ids import ProjectId, RunId
from noria.registry import queries
from noria.registry import tables as t
from noria.registry.errors import AliasInvalid, ModelTagInvalid
from noria.registry.records import ForeignModel, ForeignVersion, ModelBrought, ModelVersion, RegisteredModel
from noria.registry.service.aliases import Aliases
from noria.registry.service.base import check_alias, check_model, check_tags, check_text, tag_rows
from noria.registry.service.models import Models

Step = Callable[[Change, RegisteredModel], None]


class Bringing(Models, Aliases):
    def bring(
        self, project_id: ProjectId, theirs: ForeignModel, *, actor: Actor, runs: Collection[str]
    ) -> ModelBrought:
        """Makes a registered model with its versions, or brings it up to date: all of it or nothing.

        Versions keep their numbers. A number that means another version here is left alone, and said.

        Args:
            runs: those of the runs it names that are here.

        Raises:
            ModelNameInvalid: it cannot have this name here.
        """
        check_model(theirs.name)
        done = ModelBrought()
        with self._db.read() as conn:
            ours = queries.model(conn, project_id, theirs.name)
            have = {} if ours is None else {one.number: one for one in queries.versions(conn, ours.id)}
            taken = set[int]() if ours is None else queries.numbers(conn, ours.id)
        steps: list[Step] = []
        if ours is not None:
            self._compare_model(ours, theirs, done, steps)
        same: set[int] = set()
        for version in theirs.versions:
            if version.number not in taken:
                steps.append(self._adding(version, runs, done))
                same.add(version.number)
            elif version.number in have and have[version.number].created_at == version.created_at:
                self._compare(have[version.number], version, done, steps)
                same.add(version.number)
            else:
                done.left.append((f"version {version.number}", "the number is another version's here, or was"))
        self._aliases(ours, theirs, same, done, steps)
        if ours is not None and not steps:
            return done
        with self._changes.begin("registry.bring", project_id, actor) as change:
            if ours is None:
                done.new = True
                made = self._create(change, theirs.name, theirs.description, _fit(theirs.tags, "", done))
            else:
                made = ours
            for step in steps:
                step(change, made)
            times = {"updated_at": theirs.updated_at} | ({"created_at": theirs.created_at} if ours is None else {})
            queries.touch(change.tx, made.id, **times)
            change.note(theirs.name, versions=done.versions, changed=done.changed)
        return done

    def _compare_model(
        self, ours: RegisteredModel, theirs: ForeignModel, done: ModelBrought, steps: list[Step]
    ) -> None:
        if ours.description != theirs.description:
            text = check_text("description", theirs.description)
            steps.append(lambda change, model: queries.touch(change.tx, model.id, description=text))
            done.changed += 1
        self._tags(0, ours.tags, _fit(theirs.tags, "", done), done, steps)

    def _compare(self, ours: ModelVersion, theirs: ForeignVersion, done: ModelBrought, steps: list[Step]) -> None:
        if (ours.description, ours.stage) != (theirs.description, theirs.stage):
            values = {"description": check_text("description", theirs.description), "stage": theirs.stage.value}
            times = {"updated_at": theirs.updated_at}
            steps.append(
                lambda change, model: queries.touch_version(change.tx, model.id, theirs.number, **values, **times)
            )
            done.changed += 1
        if ours.version_id is None and theirs.version_id is not None:  # its files came later, or were not looked for
            values_of = {"version_id": theirs.version_id, "updated_at": theirs.updated_at}
            steps.append(lambda change, model: queries.touch_version(change.tx, model.id, theirs.number, **values_of))
            done.changed += 1
        self._tags(theirs.number, ours.tags, _fit(theirs.tags, f"version {theirs.number}: ", done), done, steps)

    def _tags(
        self, number: int, ours: dict[str, str], theirs: dict[str, str], done: ModelBrought, steps: list[Step]
    ) -> None:
        other = {key: value for key, value in theirs.items() if ours.get(key) != value}
        done.changed += len(other)

        def put(change: Change, model: RegisteredModel) -> None:
            rows = tag_rows(model.id, number, other)
            change.tx.upsert_many(t.model_tags, rows, key=["model_id", "number", "key"])

        if other:
            steps.append(put)

    def _adding(self, version: ForeignVersion, runs: Collection[str], done: ModelBrought) -> Step:
        tags = _fit(version.tags, f"version {version.number}: ", done)
        check_text("description", version.description)
        check_text("source", version.source)
        here = version.run in runs
        done.versions += 1

        def add(change: Change, model: RegisteredModel) -> None:
            self._add(
                change,
                model,
                tags,
                number=version.number,
                version_id=version.version_id,
                run_id=RunId(version.run) if here else None,
                stray_run=None if here else version.run or None,
                source=version.source,
                description=version.description,
                link=version.link,
                logged_model=version.logged_model or None,
                stage=version.stage.value,
                created_at=version.created_at,
                updated_at=version.updated_at,
            )

        return add

    def _aliases(
        self,
        ours: RegisteredModel | None,
        theirs: ForeignModel,
        numbers: Collection[int],
        done: ModelBrought,
        steps: list[Step],
    ) -> None:
        for alias, number in theirs.aliases.items():
            if ours is not None and ours.aliases.get(alias) == number:
                continue
            try:
                check_alias(alias)
            except AliasInvalid as error:
                done.left.append((f"alias {alias!r:.300}", error.message))
                continue
            if number not in numbers:
                done.left.append((f"alias {alias!r}", f"its version {number} is not here"))
                continue
            steps.append(self._pointing(theirs.name, alias, number))
            done.changed += ours is not None

    def _pointing(self, name: str, alias: str, number: int) -> Step:
        return lambda change, _: self._point(change, name, alias, number)

    def _point(self, change: Change, name: str, alias: str, number: int) -> None:
        self.move_alias(change.project_id, name, alias, number, actor=change.actor, tx=change.tx)


def _fit(tags: dict[str, str], where: str, done: ModelBrought) -> dict[str, str]:
    """The tags that a model may have here."""
    kept: dict[str, str] = {}
    for key, value in tags.items():
        try:
            kept |= check_tags({key: value})
        except ModelTagInvalid as error:
            done.left.append((f"{where}tag {key!r:.300}", error.message))
    return kept
