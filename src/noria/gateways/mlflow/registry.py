"""MLflow's calls about registered models."""

from __future__ import annotations

from noria.base.search import parse
from noria.gateways.mlflow import door as d
from noria.gateways.mlflow import registry_words as rw
from noria.gateways.mlflow import wire as w
from noria.gateways.mlflow import wire_registry as wr
from noria.gateways.mlflow.model_versions import VersionCalls
from noria.gateways.mlflow.routes import Asked, Route
from noria.registry.grammar import MODELS
from noria.registry.records import RegisteredModel


class ModelCalls:
    """Handlers of registered models; each is one call."""

    def __init__(self, door: d.Door) -> None:
        self._registry = door.ws.registry
        self._project_id = door.project_id

    def _shown(self, model: RegisteredModel) -> w.Json:
        latest = self._registry.newest_by_stage([model])
        return {"registered_model": rw.model_out(model, latest[model.id])}

    def create(self, asked: Asked) -> w.Json:
        message: wr.CreateModel = asked.message
        made = self._registry.create(
            self._project_id,
            d.need(message.name, "name"),
            actor=asked.actor,
            description=message.description or "",
            tags={tag.key: tag.value for tag in message.tags or ()},
        )
        return {"registered_model": rw.model_out(made, ())}

    def get(self, asked: Asked) -> w.Json:
        message: wr.NamedModel = asked.message
        return self._shown(self._registry.get(self._project_id, d.need(message.name, "name")))

    def search(self, asked: Asked) -> w.Json:
        message: wr.SearchRegistry = asked.message
        clauses, without = rw.no_prompts(parse(message.filter, MODELS))
        page = self._registry.search(
            self._project_id,
            clauses=clauses,
            order=rw.order_of(message.order_by, MODELS),
            without=without,
            limit=d.page_size(message.max_results, 100, 1_000),
            after=message.page_token or None,
        )
        latest = self._registry.newest_by_stage(page.items)
        found = [rw.model_out(model, latest[model.id]) for model in page.items]
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
        wanted = {rw.stage_of(name) for name in message.stages or rw.STAGES}
        found = [v for v in self._registry.newest_by_stage([model])[model.id] if v.stage in wanted]
        return {"model_versions": [rw.version_out(version) for version in found]} if found else {}

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
        number = rw.number_of(message.version)
        self._registry.move_alias(self._project_id, name, alias, number, actor=asked.actor)

    def delete_alias(self, asked: Asked) -> None:
        message: wr.ModelAlias = asked.message
        name, alias = d.need(message.name, "name"), d.need(message.alias, "alias")
        self._registry.move_alias(self._project_id, name, alias, None, actor=asked.actor)

    def by_alias(self, asked: Asked) -> w.Json:
        message: wr.ModelAlias = asked.message
        name, alias = d.need(message.name, "name"), d.need(message.alias, "alias")
        if alias.lower() == "latest":
            return {"model_version": rw.version_out(self._registry.newest(self._project_id, name))}
        number = self._registry.get(self._project_id, name).aliases.get(alias)
        if number is None:
            raise rw.AliasUnknown(f"Registered model alias {alias} not found.")
        return {"model_version": rw.version_out(self._registry.version(self._project_id, name, number))}


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
