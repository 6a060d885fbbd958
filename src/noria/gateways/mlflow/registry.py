"""MLflow's calls about registered models and their versions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from noria.assets.errors import RunNotFound
from noria.base.errors import Invalid
from noria.base.ids import RunId, VersionId
from noria.base.search import Clause, Grammar, Order, parse, parse_order
from noria.gateways.mlflow import door as d
from noria.gateways.mlflow import sources
from noria.gateways.mlflow import wire as w
from noria.gateways.mlflow import wire_registry as wr
from noria.gateways.mlflow.artifacts import ArtifactCalls
from noria.gateways.mlflow.places import PlaceNotFound
from noria.gateways.mlflow.proxy import Proxy
from noria.gateways.mlflow.routes import Asked, Route
from noria.registry.errors import ModelNotFound
from noria.registry.grammar import MODELS, VERSIONS
from noria.registry.records import ModelVersion, RegisteredModel, Stage
from noria.tracking.errors import LoggedModelNotFound
from noria.tracking.records import LoggedModel, Owner, OwnerKind

if TYPE_CHECKING:
    from starlette.responses import Response

_VERSIONS: Final = "mlflow.modelVersions"
IS_PROMPT: Final = "mlflow.prompt.is_prompt"
_PROMPTS: Final = (IS_PROMPT, "true")
_PROMPT_SOURCES: Final = ("dummy-source", "prompt-template")
_STAGES: Final = {
    "None": Stage.NONE,
    "Staging": Stage.STAGING,
    "Production": Stage.PRODUCTION,
    "Archived": Stage.ARCHIVED,
}
_STAGE_NAMES: Final = {stage: name for name, stage in _STAGES.items()}
_BY_LOWER: Final = {name.lower(): stage for name, stage in _STAGES.items()}


class AliasUnknown(Invalid):
    """A model has no such alias; MLflow calls that a wrong parameter."""

    code = "alias_unknown"


def version_out(version: ModelVersion) -> wr.VersionOut:
    return wr.VersionOut(
        name=version.model,
        version=str(version.number),
        creation_timestamp=version.created_at,
        last_updated_timestamp=version.updated_at,
        current_stage=_STAGE_NAMES[version.stage],
        source=version.source or _own_source(version),
        status=version.status.upper(),
        description=version.description,
        run_id=version.run_id or version.stray_run or "",
        tags=w.tags_out(version.tags),
        run_link=version.link,
        aliases=list(version.aliases),
    )


def _own_source(version: ModelVersion) -> str:
    """Where clients find the files of a version that noria itself trained."""
    return "" if version.version_id is None else f"{d.ARTIFACTS}/versions/{version.version_id}/artifacts"


def model_out(model: RegisteredModel, latest: Sequence[ModelVersion]) -> wr.ModelOut:
    return wr.ModelOut(
        name=model.name,
        creation_timestamp=model.created_at,
        last_updated_timestamp=model.updated_at,
        description=model.description,
        latest_versions=[version_out(version) for version in latest],
        tags=w.tags_out(model.tags),
        aliases=[wr.AliasOut(alias, str(number)) for alias, number in model.aliases.items()],
    )


class ModelCalls:
    """Handlers of registered models; each is one call."""

    def __init__(self, door: d.Door) -> None:
        self._registry = door.ws.registry
        self._project_id = door.project_id

    def _shown(self, model: RegisteredModel) -> w.Json:
        latest = self._registry.newest_by_stage([model])
        return {"registered_model": model_out(model, latest[model.id])}

    def create(self, asked: Asked) -> w.Json:
        message: wr.CreateModel = asked.message
        made = self._registry.create(
            self._project_id,
            d.need(message.name, "name"),
            actor=asked.actor,
            description=message.description or "",
            tags={tag.key: tag.value for tag in message.tags or ()},
        )
        return {"registered_model": model_out(made, ())}

    def get(self, asked: Asked) -> w.Json:
        message: wr.NamedModel = asked.message
        return self._shown(self._registry.get(self._project_id, d.need(message.name, "name")))

    def search(self, asked: Asked) -> w.Json:
        message: wr.SearchRegistry = asked.message
        clauses, without = _no_prompts(parse(message.filter, MODELS))
        page = self._registry.search(
            self._project_id,
            clauses=clauses,
            order=_order(message.order_by, MODELS),
            without=without,
            limit=d.page_size(message.max_results, 100, 1_000),
            after=message.page_token or None,
        )
        latest = self._registry.newest_by_stage(page.items)
        found = [model_out(model, latest[model.id]) for model in page.items]
        return w.page("registered_models", found, page.next)

    def rename(self, asked: Asked) -> w.Json:
        message: wr.RenameModel = asked.message
        name, new = d.need(message.name, "name"), d.need(message.new_name, "new_name")
        return self._shown(self._registry.rename(self._project_id, name, new, actor=asked.actor))

    def update(self, asked: Asked) -> w.Json:
        message: wr.UpdateModel = asked.message
        name = d.need(message.name, "name")
        text = message.description or ""
        return self._shown(self._registry.describe(self._project_id, name, text, actor=asked.actor))

    def delete(self, asked: Asked) -> None:
        message: wr.NamedModel = asked.message
        self._registry.delete(self._project_id, d.need(message.name, "name"), actor=asked.actor)

    def latest(self, asked: Asked) -> w.Json:
        message: wr.GetLatest = asked.message
        model = self._registry.get(self._project_id, d.need(message.name, "name"))
        wanted = {_stage(name) for name in message.stages or _STAGES}
        found = [v for v in self._registry.newest_by_stage([model])[model.id] if v.stage in wanted]
        return {"model_versions": [version_out(version) for version in found]} if found else {}

    def set_tag(self, asked: Asked) -> None:
        message: wr.ModelTag = asked.message
        name, key = d.need(message.name, "name"), d.need(message.key, "key")
        self._registry.set_tag(self._project_id, name, 0, key, message.value or "", actor=asked.actor)

    def delete_tag(self, asked: Asked) -> None:
        message: wr.ModelTag = asked.message
        name, key = d.need(message.name, "name"), d.need(message.key, "key")
        self._registry.delete_tag(self._project_id, name, 0, key, actor=asked.actor)

    def set_alias(self, asked: Asked) -> None:
        message: wr.ModelAlias = asked.message
        name, alias = d.need(message.name, "name"), d.need(message.alias, "alias")
        number = number_of(message.version)
        self._registry.move_alias(self._project_id, name, alias, number, actor=asked.actor)

    def delete_alias(self, asked: Asked) -> None:
        message: wr.ModelAlias = asked.message
        name, alias = d.need(message.name, "name"), d.need(message.alias, "alias")
        self._registry.move_alias(self._project_id, name, alias, None, actor=asked.actor)

    def by_alias(self, asked: Asked) -> w.Json:
        message: wr.ModelAlias = asked.message
        name, alias = d.need(message.name, "name"), d.need(message.alias, "alias")
        if alias.lower() == "latest":
            return {"model_version": version_out(self._registry.newest(self._project_id, name))}
        number = self._registry.get(self._project_id, name).aliases.get(alias)
        if number is None:
            raise AliasUnknown(f"Registered model alias {alias} not found.")
        return {"model_version": version_out(self._registry.version(self._project_id, name, number))}


class VersionCalls:
    """Handlers of model versions; each is one call."""

    def __init__(self, door: d.Door) -> None:
        self._door = door
        self._registry = door.ws.registry
        self._project_id = door.project_id

    def _found(self, message: wr.NamedVersion) -> ModelVersion:
        name = d.need(message.name, "name")
        return self._registry.version(self._project_id, name, number_of(message.version))

    def create(self, asked: Asked) -> w.Json:
        message: wr.CreateVersion = asked.message
        name, source = d.need(message.name, "name"), d.need(message.source, "source")
        tags = {tag.key: tag.value for tag in message.tags or ()}
        if tags.get(IS_PROMPT, "").lower() == "true":
            if source not in _PROMPT_SOURCES:
                raise sources.SourceInvalid(
                    f"Invalid prompt source: {source!r:.300}.", hint=f"One of {', '.join(_PROMPT_SOURCES)}."
                )
            origin = _Origin(source, run=message.run_id or None)
        else:
            origin = self._origin(source, message.run_id or None, message.model_id or None)
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
        return {"model_version": version_out(made)}

    def _package(self, origin: _Origin, run: RunId | None, asked: Asked) -> VersionId | None:
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

    def _origin(self, text: str, run: str | None, logged_model: str | None) -> _Origin:
        """What a source means, checked against the run and the logged model of the request."""
        found = sources.parse(text)
        if found.kind == "run" and (logged_model or run != found.name):
            raise sources.wrong_owner(text, "model_id" if logged_model else "run_id")
        if found.kind == "logged" and logged_model != found.name:
            raise sources.wrong_owner(text, "model_id")
        if found.kind == "version":
            return self._copied(text, found.name, run, logged_model)
        model = None if logged_model is None else self._logged(text, logged_model)
        if found.kind == "proxied" and not self._owned(found.path, run, model):
            raise sources.wrong_owner(text, "model_id" if logged_model else "run_id")
        if model is not None:
            return _Origin(text, run=run or model.source_run or None, logged_model=logged_model)
        folder = None
        if found.kind == "run":
            folder = found.path.strip("/")
        elif found.kind == "proxied":
            folder = found.path.partition(f"/{run}/artifacts")[2].strip("/")
        return _Origin(text, run=run, folder=folder)

    def _logged(self, text: str, id: str) -> LoggedModel:
        try:
            return self._door.ws.tracking.logged_model(self._project_id, id)
        except LoggedModelNotFound:
            raise sources.wrong_owner(text, "model_id") from None

    def _copied(self, text: str, name: str, run: str | None, logged_model: str | None) -> _Origin:
        """A version made of another one: of the same run and the same files."""
        version = self._named(name)
        theirs = version.run_id or version.stray_run
        if (run and run != theirs) or (logged_model and logged_model != version.logged_model):
            raise sources.SourceInvalid(
                f"Invalid model version source: {text!r:.300}.",
                hint=f"run_id and model_id have to be those of {version.name}.",
            )
        if version.tags.get(IS_PROMPT, "").lower() == "true":
            raise sources.SourceInvalid(f"Invalid model version source: {text!r:.300} is a prompt.")
        return _Origin(
            f"models:/{version.model}/{version.number}", run=theirs, logged_model=version.logged_model, version=version
        )

    def _named(self, name: str) -> ModelVersion:
        try:
            if name.endswith("/latest"):
                return self._registry.newest(self._project_id, name[: -len("/latest")])
            model, slash, stage = name.partition("/")
            if slash and stage.lower() in _BY_LOWER:
                found = self._registry.newest_by_stage([self._registry.get(self._project_id, model)])
                for version in next(iter(found.values())):
                    if version.stage == _stage(stage):
                        return version
            return self._registry.resolve(self._project_id, name)
        except ModelNotFound as error:
            if "alias" in error.message:
                raise AliasUnknown(error.message) from None
            raise

    def _owned(self, path: str, run: str | None, model: LoggedModel | None) -> bool:
        """Whether files in the proxy's tree belong to the run or the logged model of a request."""
        if model is not None:
            place = d.location_of_model(self._door.experiment(model.experiment_id), model.id)
            return sources.within(path, sources.tree_path(place))
        if run is None:
            return False
        try:
            found = self._door.run(RunId(run))
        except RunNotFound:
            return False
        experiment = self._door.experiment(self._door.ws.tracking.data(found.id).experiment_id or 0)
        return sources.within(path, sources.tree_path(f"{d.location_of(experiment)}/{found.id}/artifacts"))

    def get(self, asked: Asked) -> w.Json:
        return {"model_version": version_out(self._found(asked.message))}

    def update(self, asked: Asked) -> w.Json:
        message: wr.UpdateVersion = asked.message
        name, number = d.need(message.name, "name"), number_of(message.version)
        found = self._registry.describe_version(
            self._project_id, name, number, message.description or "", actor=asked.actor
        )
        return {"model_version": version_out(found)}

    def delete(self, asked: Asked) -> None:
        message: wr.NamedVersion = asked.message
        name, number = d.need(message.name, "name"), number_of(message.version)
        self._registry.delete_version(self._project_id, name, number, actor=asked.actor)

    def search(self, asked: Asked) -> w.Json:
        message: wr.SearchRegistry = asked.message
        clauses, without = _no_prompts(parse(message.filter, VERSIONS))
        page = self._registry.search_versions(
            self._project_id,
            clauses=clauses,
            order=_order(message.order_by, VERSIONS),
            without=without,
            limit=d.page_size(message.max_results, 10_000, 200_000),
            after=message.page_token or None,
        )
        return w.page("model_versions", [version_out(v) for v in page.items], page.next)

    def move_stage(self, asked: Asked) -> w.Json:
        message: wr.MoveStage = asked.message
        name, number = d.need(message.name, "name"), number_of(message.version)
        stage = _stage(d.need(message.stage, "stage"))
        archive = bool(message.archive_existing_versions)
        if archive and stage not in (Stage.STAGING, Stage.PRODUCTION):
            raise Invalid(
                f"Versions in the stage {_STAGE_NAMES[stage]!r} cannot be archived.",
                hint="Only Staging and Production.",
            )
        found = self._registry.move_stage(
            self._project_id, name, number, stage, actor=asked.actor, archive_others=archive
        )
        return {"model_version": version_out(found)}

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
        return version.source or _own_source(version)

    def set_tag(self, asked: Asked) -> None:
        message: wr.VersionTag = asked.message
        name, key = d.need(message.name, "name"), d.need(message.key, "key")
        number = number_of(message.version)
        self._registry.set_tag(self._project_id, name, number, key, message.value or "", actor=asked.actor)

    def delete_tag(self, asked: Asked) -> None:
        message: wr.VersionTag = asked.message
        name, key = d.need(message.name, "name"), d.need(message.key, "key")
        self._registry.delete_tag(self._project_id, name, number_of(message.version), key, actor=asked.actor)


class _Origin:
    """Where a version comes from, after the checks."""

    __slots__ = ("folder", "logged_model", "run", "source", "version")

    def __init__(
        self,
        source: str,
        *,
        run: str | None,
        logged_model: str | None = None,
        version: ModelVersion | None = None,
        folder: str | None = None,
    ) -> None:
        self.source = source
        self.run = run
        self.logged_model = logged_model
        self.version = version
        self.folder = folder
        """Of the run's files."""


def number_of(value: str | None) -> int:
    """The number of a version.

    Raises:
        Invalid: it is none.
    """
    text = d.need(value, "version").strip()
    if not (text.isascii() and text.lstrip("-").isdecimal() and len(text) <= 9):
        raise Invalid(f"Parameter 'version' must be an integer, got {text!r:.100}.")
    return max(int(text), -1)


def _stage(name: str) -> Stage:
    found = _BY_LOWER.get(name.lower())
    if found is None:
        raise Invalid(f"Invalid Model Version stage: {name!r:.100}.", hint=f"One of {', '.join(_STAGES)}.")
    return found


def _no_prompts(clauses: Sequence[Clause]) -> tuple[list[Clause], tuple[str, str] | None]:
    """Prompts are registered models too; a search gives them only where its filter asks for them."""
    for clause in clauses:
        if clause.kind == "tag" and clause.key == IS_PROMPT:
            value = str(clause.value).lower()
            if (clause.op, value) in (("=", "true"), ("!=", "false")):
                return list(clauses), None
            break
    return [c for c in clauses if c.kind != "tag" or c.key != IS_PROMPT], _PROMPTS


def _order(texts: Sequence[str] | None, grammar: Grammar) -> list[Order]:
    order = [parse_order(text, grammar) for text in texts or ()]
    if len({one.key for one in order}) < len(order):
        raise Invalid("order_by names a field twice.")
    return order


def routes(door: d.Door) -> list[Route]:
    m, v = ModelCalls(door), VersionCalls(door)
    models, versions = "2.0/mlflow/registered-models/", "2.0/mlflow/model-versions/"
    return [
        Route(method="POST", path=models + "create", handler=m.create, message=wr.CreateModel),
        Route(method="GET", path=models + "get", handler=m.get, message=wr.NamedModel),
        Route(method="GET", path=models + "search", handler=m.search, message=wr.SearchRegistry),
        Route(method="POST", path=models + "rename", handler=m.rename, message=wr.RenameModel),
        Route(method="PATCH", path=models + "update", handler=m.update, message=wr.UpdateModel),
        Route(method="DELETE", path=models + "delete", handler=m.delete, message=wr.NamedModel),
        Route(method="GET", path=models + "get-latest-versions", handler=m.latest, message=wr.GetLatest),
        Route(method="POST", path=models + "get-latest-versions", handler=m.latest, message=wr.GetLatest),
        Route(method="POST", path=models + "set-tag", handler=m.set_tag, message=wr.ModelTag),
        Route(method="DELETE", path=models + "delete-tag", handler=m.delete_tag, message=wr.ModelTag),
        Route(method="GET", path=models + "alias", handler=m.by_alias, message=wr.ModelAlias),
        Route(method="POST", path=models + "alias", handler=m.set_alias, message=wr.ModelAlias),
        Route(method="DELETE", path=models + "alias", handler=m.delete_alias, message=wr.ModelAlias),
        Route(method="POST", path=versions + "create", handler=v.create, message=wr.CreateVersion),
        Route(method="GET", path=versions + "get", handler=v.get, message=wr.NamedVersion),
        Route(method="PATCH", path=versions + "update", handler=v.update, message=wr.UpdateVersion),
        Route(method="DELETE", path=versions + "delete", handler=v.delete, message=wr.NamedVersion),
        Route(method="GET", path=versions + "search", handler=v.search, message=wr.SearchRegistry),
        Route(method="POST", path=versions + "transition-stage", handler=v.move_stage, message=wr.MoveStage),
        Route(method="GET", path=versions + "get-download-uri", handler=v.download_uri, message=wr.NamedVersion),
        Route(method="GET", path="/model-versions/get-artifact", handler=v.get_artifact, message=wr.VersionFile),
        Route(method="POST", path=versions + "set-tag", handler=v.set_tag, message=wr.VersionTag),
        Route(method="DELETE", path=versions + "delete-tag", handler=v.delete_tag, message=wr.VersionTag),
    ]
