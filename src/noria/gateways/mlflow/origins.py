"""What the source of a new model version means, checked against the run and the logged model that it comes with."""

from __future__ import annotations

from noria.assets.errors import RunNotFound
from noria.base.ids import ProjectId, RunId
from noria.gateways.mlflow import door as d
from noria.gateways.mlflow import registry_words as rw
from noria.gateways.mlflow import sources
from noria.gateways.mlflow.names import IS_PROMPT
from noria.registry.errors import ModelNotFound
from noria.registry.records import ModelVersion
from noria.tracking.errors import LoggedModelNotFound
from noria.tracking.records import LoggedModel


class Origin:
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


class Origins:
    """Checks of a door."""

    def __init__(self, door: d.Door) -> None:
        self._door = door
        self._registry = door.ws.registry
        self._project_id: ProjectId = door.project_id

    def of(self, text: str, run: str | None, logged_model: str | None) -> Origin:
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
            return Origin(text, run=run or model.source_run or None, logged_model=logged_model)
        folder = None
        if found.kind == "run":
            folder = found.path.strip("/")
        elif found.kind == "proxied":
            folder = found.path.partition(f"/{run}/artifacts")[2].strip("/")
        return Origin(text, run=run, folder=folder)

    def _logged(self, text: str, id: str) -> LoggedModel:
        try:
            return self._door.ws.tracking.logged_model(self._project_id, id)
        except LoggedModelNotFound:
            raise sources.wrong_owner(text, "model_id") from None

    def _copied(self, text: str, name: str, run: str | None, logged_model: str | None) -> Origin:
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
        return Origin(
            f"models:/{version.model}/{version.number}", run=theirs, logged_model=version.logged_model, version=version
        )

    def _named(self, name: str) -> ModelVersion:
        try:
            if name.endswith("/latest"):
                return self._registry.newest(self._project_id, name[: -len("/latest")])
            model, slash, stage = name.partition("/")
            if slash and stage.lower() in rw.STAGES_BY_LOWER:
                found = self._registry.newest_by_stage([self._registry.get(self._project_id, model)])
                for version in next(iter(found.values())):
                    if version.stage == rw.stage_of(stage):
                        return version
            return self._registry.resolve(self._project_id, name)
        except ModelNotFound as error:
            if "alias" in error.message:
                raise rw.AliasUnknown(error.message) from None
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
        data = self._door.ws.tracking.data(found.id)
        place = d.location_of_run(self._door.experiment(data.experiment_id or 0), found.id, data.location)
        return sources.within(path, sources.tree_path(place))
