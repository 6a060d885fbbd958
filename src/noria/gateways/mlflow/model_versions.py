"""MLflow's calls about versions of registered models."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from noria.base.errors import Invalid
from noria.base.ids import RunId, VersionId
from noria.base.search import parse
from noria.gateways.mlflow import door as d
from noria.gateways.mlflow import registry_words as rw
from noria.gateways.mlflow import sources
from noria.gateways.mlflow import wire as w
from noria.gateways.mlflow import wire_registry as wr
from noria.gateways.mlflow.artifacts import ArtifactCalls
from noria.gateways.mlflow.names import IS_PROMPT
from noria.gateways.mlflow.origins import Origin, Origins
from noria.gateways.mlflow.places import PlaceNotFound
from noria.gateways.mlflow.proxy import Proxy
from noria.gateways.mlflow.routes import Asked
from noria.registry.grammar import VERSIONS
from noria.registry.records import ModelVersion, Stage
from noria.tracking.records import Owner, OwnerKind

if TYPE_CHECKING:
    from starlette.responses import Response

_VERSIONS: Final = "mlflow.modelVersions"
_PROMPT_SOURCES: Final = ("dummy-source", "prompt-template")


class VersionCalls:
    """Handlers of model versions; each is one call."""

    def __init__(self, door: d.Door) -> None:
        self._door = door
        self._registry = door.ws.registry
        self._project_id = door.project_id
        self._origins = Origins(door)

    def _found(self, message: wr.NamedVersion) -> ModelVersion:
        name = d.need(message.name, "name")
        return self._registry.version(self._project_id, name, rw.number_of(message.version))

    def create(self, asked: Asked) -> w.Json:
        message: wr.CreateVersion = asked.message
        name, source = d.need(message.name, "name"), d.need(message.source, "source")
        tags = {tag.key: tag.value for tag in message.tags or ()}
        if tags.get(IS_PROMPT, "").lower() == "true":
            if source not in _PROMPT_SOURCES:
                raise sources.SourceInvalid(
                    f"Invalid prompt source: {source!r:.300}.", hint=f"One of {', '.join(_PROMPT_SOURCES)}."
                )
            origin = Origin(source, run=message.run_id or None)
        else:
            origin = self._origins.of(source, message.run_id or None, message.model_id or None)
        known = None if origin.run is None else next(iter(self._door.known([RunId(origin.run)])), None)
        made = self._registry.add_version(
            self._project_id,
            name,
            actor=asked.actor,
            version_id=self._package(origin, known, asked),
            run_id=known,
            stray_run=origin.run if known is None else None,
            source=origin.source,
            description=message.description or "",
            link=message.run_link or "",
            logged_model=origin.logged_model,
            tags=tags,
        )
        if origin.logged_model is not None:
            self._remember(origin.logged_model, made)
        return {"model_version": rw.version_out(made)}

    def _package(self, origin: Origin, run: RunId | None, asked: Asked) -> VersionId | None:
        """The version of the graph that holds the files of a new model version, where they lie here."""
        tracking = self._door.ws.tracking
        if origin.version is not None:
            return origin.version.version_id
        if origin.logged_model is not None:
            return tracking.logged_of(self._project_id, origin.logged_model)
        if run is None or origin.folder is None:
            return None
        made = tracking.package(
            self._project_id,
            Owner(OwnerKind.RUN, run),
            origin.folder,
            name=origin.folder or "model",
            run=run,
            facts={},
            actor=asked.actor,
        )
        return None if made is None else made.id

    def _remember(self, logged_model: str, made: ModelVersion) -> None:
        """A logged model says in a tag of which versions it became."""
        tracking = self._door.ws.tracking
        entry = {"name": made.model, "version": str(made.number)}
        with self._door.ws.db.write() as tx:
            tx.lock(f"logged:{logged_model}")
            text = tracking.logged_model(self._project_id, logged_model, tx).tags.get(_VERSIONS, "[]")
            try:
                before = json.loads(text)
            except (ValueError, RecursionError):
                before = []
            entries = [one for one in before if one != entry] if isinstance(before, list) else []
            tags = {_VERSIONS: json.dumps([*entries, entry])}
            tracking.tag_logged_model(self._project_id, logged_model, tags, tx=tx)

    def get(self, asked: Asked) -> w.Json:
        return {"model_version": rw.version_out(self._found(asked.message))}

    def update(self, asked: Asked) -> w.Json:
        message: wr.UpdateVersion = asked.message
        name, number = d.need(message.name, "name"), rw.number_of(message.version)
        found = self._registry.describe_version(
            self._project_id, name, number, message.description or "", actor=asked.actor
        )
        return {"model_version": rw.version_out(found)}

    def delete(self, asked: Asked) -> None:
        message: wr.NamedVersion = asked.message
        name, number = d.need(message.name, "name"), rw.number_of(message.version)
        self._registry.delete_version(self._project_id, name, number, actor=asked.actor)

    def search(self, asked: Asked) -> w.Json:
        message: wr.SearchRegistry = asked.message
        clauses, without = rw.no_prompts(parse(message.filter, VERSIONS))
        page = self._registry.search_versions(
            self._project_id,
            clauses=clauses,
            order=rw.order_of(message.order_by, VERSIONS),
            without=without,
            limit=d.page_size(message.max_results, 10_000, 200_000),
            after=message.page_token or None,
        )
        return w.page("model_versions", [rw.version_out(v) for v in page.items], page.next)

    def move_stage(self, asked: Asked) -> w.Json:
        message: wr.MoveStage = asked.message
        name, number = d.need(message.name, "name"), rw.number_of(message.version)
        stage = rw.stage_of(d.need(message.stage, "stage"))
        archive = bool(message.archive_existing_versions)
        if archive and stage not in (Stage.STAGING, Stage.PRODUCTION):
            raise Invalid(
                f"Versions in the stage {rw.STAGE_NAMES[stage]!r} cannot be archived.",
                hint="Only Staging and Production.",
            )
        found = self._registry.move_stage(
            self._project_id, name, number, stage, actor=asked.actor, archive_others=archive
        )
        return {"model_version": rw.version_out(found)}

    def download_uri(self, asked: Asked) -> w.Json:
        return {"artifact_uri": self._place(self._found(asked.message))}

    def get_artifact(self, asked: Asked) -> Response:
        """A file of a version, as the page of a model asks for it.

        Raises:
            PlaceNotFound: its files lie where only clients can read them.
        """
        message: wr.VersionFile = asked.message
        path = d.need(message.path, "path")
        version = self._found(message)
        source = sources.parse(self._place(version))
        if source.kind == "run":
            owner, below = Owner(OwnerKind.RUN, source.name), source.path
        elif source.kind == "logged":
            owner, below = Owner(OwnerKind.MODEL, source.name), ""
        elif source.kind == "proxied":
            owner, below = Proxy(self._door).place(source.path)
        else:
            raise PlaceNotFound(f"The files of {version.name!r:.200} do not lie here.", hint="Read them with a client.")
        self._door.check_owner(owner)
        return ArtifactCalls(self._door).sent(asked, owner, f"{below}/{path}".strip("/"))

    def _place(self, version: ModelVersion) -> str:
        """Where a client finds the files of a version."""
        for _ in range(100):  # a version may be a copy of a copy
            source = version.source
            if not source.startswith("models:"):
                break
            found = sources.parse(source)
            if found.kind != "version":
                break
            version = self._registry.resolve(self._project_id, found.name)
        return version.source or rw.own_source(version)

    def set_tag(self, asked: Asked) -> None:
        message: wr.VersionTag = asked.message
        name, key = d.need(message.name, "name"), d.need(message.key, "key")
        number = rw.number_of(message.version)
        self._registry.set_tag(self._project_id, name, number, key, message.value or "", actor=asked.actor)

    def delete_tag(self, asked: Asked) -> None:
        message: wr.VersionTag = asked.message
        name, key = d.need(message.name, "name"), d.need(message.key, "key")
        self._registry.delete_tag(self._project_id, name, rw.number_of(message.version), key, actor=asked.actor)
