"""MLflow's calls about logged models."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from noria.base.errors import Invalid
from noria.base.search import Clause, parse
from noria.db import Tx
from noria.gateways.mlflow import door as d
from noria.gateways.mlflow import wire as w
from noria.gateways.mlflow import wire_models as wm
from noria.gateways.mlflow.artifacts import ArtifactCalls, FileInfo
from noria.gateways.mlflow.names import run_name
from noria.gateways.mlflow.routes import Asked, Route
from noria.tracking.grammar import LOGGED_MODELS
from noria.tracking.logged import LoggedOrder
from noria.tracking.records import LoggedModel, LoggedState, Owner, OwnerKind
from noria.tracking.service import MOST_TAG, lock_of

if TYPE_CHECKING:
    from starlette.responses import Response

_STATES: Final = {
    "LOGGED_MODEL_STATUS_UNSPECIFIED": LoggedState.UNKNOWN,
    "LOGGED_MODEL_PENDING": LoggedState.PENDING,
    "LOGGED_MODEL_READY": LoggedState.READY,
    "LOGGED_MODEL_UPLOAD_FAILED": LoggedState.FAILED,
}
_NAMES: Final = {state: name for name, state in _STATES.items()}
_HISTORY: Final = "mlflow.log-model.history"
_NEEDED: Final = ("artifact_path", "flavors", "run_id", "utc_time_created")
_ORDER_NAMES: Final = {
    "creation_time": "creation_timestamp",
    "creation_timestamp_ms": "creation_timestamp",
    "last_updated_timestamp_ms": "last_updated_timestamp",
}


def model_out(model: LoggedModel, door: d.Door) -> wm.LoggedOut:
    experiment = door.experiment(model.experiment_id)
    return wm.LoggedOut(
        wm.LoggedInfo(
            model_id=model.id,
            experiment_id=d.experiment_id_out(experiment),
            name=model.name,
            creation_timestamp_ms=model.created_at,
            last_updated_timestamp_ms=model.updated_at,
            artifact_uri=d.location_of_model(experiment, model.id),
            status=_NAMES[model.state],
            model_type=model.kind,
            source_run_id=model.source_run,
            status_message=model.status_message,
            tags=w.tags_out(model.tags),
        ),
        wm.LoggedData(
            params=w.tags_out(model.params),
            metrics=[
                w.MetricOut(
                    p.key,
                    w.number_out(p.value),
                    p.at,
                    p.step,
                    run_id=p.run_id,
                    model_id=model.id,
                    dataset_name=p.dataset or None,
                    dataset_digest=p.digest or None,
                )
                for p in model.metrics
            ],
        ),
    )


class LoggedCalls:
    """Handlers; each is one call."""

    def __init__(self, door: d.Door) -> None:
        self._door = door
        self._tracking = door.ws.tracking
        self._project_id = door.project_id
        self._files = ArtifactCalls(door)

    def _found(self, asked: Asked, **more: Any) -> LoggedModel:
        return self._tracking.logged_model(self._project_id, asked.path["model_id"], **more)

    def create(self, asked: Asked) -> w.Json:
        message: wm.CreateLogged = asked.message
        made = self._tracking.create_logged_model(
            self._project_id,
            d.experiment_id_in(message.experiment_id),
            name=message.name or run_name(),
            actor=asked.actor,
            kind=message.model_type or "",
            source_run=message.source_run_id or "",
            params=_texts(message.params),
            tags=_texts(message.tags),
        )
        return {"model": model_out(made, self._door)}

    def get(self, asked: Asked) -> w.Json:
        deleted = asked.query.get("allow_deleted", ["false"])[-1].lower() == "true"
        return {"model": model_out(self._found(asked, deleted=deleted), self._door)}

    def finish(self, asked: Asked) -> w.Json:
        message: wm.FinishLogged = asked.message
        id, state = asked.path["model_id"], _state(d.need(message.status, "status"))
        if message.model_id not in (None, "", id):
            raise Invalid(f"model_id is {message.model_id!r:.100}, and the path names {id!r:.100}.")
        self._door.ws.tracking.finish_logged_model(self._project_id, id, state, actor=asked.actor)
        return {"model": model_out(self._found(asked), self._door)}

    def delete(self, asked: Asked) -> None:
        self._tracking.delete_logged_model(self._project_id, asked.path["model_id"], actor=asked.actor)

    def log_params(self, asked: Asked) -> None:
        message: wm.LoggedParams = asked.message
        self._tracking.log_model_params(self._project_id, asked.path["model_id"], _texts(message.params))

    def set_tags(self, asked: Asked) -> None:
        message: wm.LoggedTags = asked.message
        self._tracking.tag_logged_model(self._project_id, asked.path["model_id"], _texts(message.tags))

    def delete_tag(self, asked: Asked) -> None:
        self._tracking.untag_logged_model(self._project_id, asked.path["model_id"], asked.path["tag_key"])

    def search(self, asked: Asked) -> w.Json:
        message: wm.SearchLogged = asked.message
        ids = message.experiment_ids or []
        page = self._tracking.search_logged_models(
            self._project_id,
            self._door.known_experiments([d.experiment_id_in(id) for id in ids]),
            clauses=[_in_our_words(clause) for clause in parse(message.filter, LOGGED_MODELS)],
            order=[_order(one) for one in message.order_by or ()],
            datasets=[
                (d.need(one.dataset_name, "datasets.dataset_name"), one.dataset_digest or "")
                for one in message.datasets or ()
            ],
            limit=d.page_size(message.max_results or None, 100, 1_000),
            after=message.page_token or None,
            root=d.ARTIFACTS,
        )
        return w.page("models", [model_out(model, self._door) for model in page.items], page.next)

    # ---- files

    def list_files(self, asked: Asked) -> w.Json:
        message: wm.ListLogged = asked.message
        model = self._found(asked, full=False)
        owner, folder = Owner(OwnerKind.MODEL, model.id), (message.artifact_directory_path or "").removesuffix("/")
        page = self._tracking.list_artifacts(owner, folder, after=message.page_token or None)
        made: w.Json = {"root_uri": d.location_of_model(self._door.experiment(model.experiment_id), model.id)}
        if page.items:
            made["files"] = [FileInfo(one.path, one.is_folder, one.size or None) for one in page.items]
        return {**made, "next_page_token": page.next} if page.next else made

    def get_file(self, asked: Asked) -> Response:
        path = asked.query.get("artifact_file_path", [""])[-1]
        owner = Owner(OwnerKind.MODEL, self._found(asked, full=False).id)
        return self._files.sent(asked, owner, d.need(path, "artifact_file_path"))

    # ---- runs

    async def outputs(self, asked: Asked) -> None:
        message: wm.LogOutputs = asked.message
        id = d.run_id_of(message.run_id)
        models = [
            (d.need(m.model_id, "models.model_id"), m.step or 0) for m in d.need(message.models or None, "models")
        ]
        await self._door.write(
            lambda tx: self._tracking.link_models(tx, id, models, made=True, project_id=self._project_id),
            lock=lock_of(id),
        )

    async def log_model(self, asked: Asked) -> None:
        """What clients before MLflow 3 say of a model; it becomes a tag of the run."""
        message: wm.LogModel = asked.message
        id, text = d.run_id_of(message.run_id), d.need(message.model_json, "model_json")
        try:
            told = json.loads(text)
        except (ValueError, RecursionError):
            raise Invalid(f"Malformed model info. {text!r:.100} is not a valid JSON object.") from None
        missing = [name for name in _NEEDED if not isinstance(told, dict) or name not in told]
        if missing:
            raise Invalid(f"Model json is missing mandatory fields: {', '.join(missing)}.")
        kept = {key: told[key] for key in (*_NEEDED, "model_uuid") if key in told}
        try:
            entry = json.dumps(kept)
        except RecursionError:
            raise Invalid(f"Malformed model info. {text!r:.100} is too deep.") from None

        def write(tx: Tx) -> None:
            history = _with(self._tracking.data_of([id], tx)[id].tags.get(_HISTORY, ""), entry)
            self._tracking.log(id, tags={_HISTORY: history}, project_id=self._project_id, tx=tx, locked=True)

        await self._door.write(write, lock=lock_of(id))


def _with(history: str, entry: str) -> str:
    """A history with one entry more; any client may have set the tag. The oldest entries go where it is too long."""
    try:
        before = json.loads(history or "[]")
        entries = [json.dumps(one) for one in before] if isinstance(before, list) else []
    except (ValueError, RecursionError):
        entries = []
    entries.append(entry)
    while len(entries) > 1 and sum(len(one) + 2 for one in entries) > MOST_TAG:
        del entries[0]
    return f"[{', '.join(entries)}]"


def _in_our_words(clause: Clause) -> Clause:
    """A clause about what MLflow names otherwise."""
    if clause.kind != "attribute" or clause.key != "status":
        return clause
    value = clause.value
    return replace(clause, value=tuple(map(_status, value)) if isinstance(value, tuple) else _status(value))


def _texts(given: list[w.Tag] | None) -> dict[str, str]:
    return {d.need(tag.key, "key"): tag.value for tag in given or ()}


def _state(status: str | int) -> LoggedState:
    name = str(status)
    if name.isascii() and name.isdecimal() and int(name[:9]) < len(_STATES):
        return list(_STATES.values())[int(name[:9])]
    if name not in _STATES:
        raise Invalid(f"Invalid value {status!r:.60} for parameter 'status'.", hint=f"One of {', '.join(_STATES)}.")
    return _STATES[name]


def _status(value: Any) -> str:
    return str(value).removeprefix("LOGGED_MODEL_").removeprefix("STATUS_")


def _order(one: wm.OrderLogged) -> LoggedOrder:
    field = d.need(one.field_name, "order_by.field_name")
    return LoggedOrder(
        field=_ORDER_NAMES.get(field, field),
        descending=one.ascending is False,
        dataset=one.dataset_name or "",
        digest=one.dataset_digest or "",
    )


def routes(door: d.Door) -> list[Route]:
    c = LoggedCalls(door)
    at = "2.0/mlflow/logged-models"
    one = at + "/{model_id}"
    return [
        Route(method="POST", path=at, handler=c.create, message=wm.CreateLogged),
        Route(method="POST", path=at + "/search", handler=c.search, message=wm.SearchLogged),
        Route(method="GET", path=one, handler=c.get),
        Route(method="PATCH", path=one, handler=c.finish, message=wm.FinishLogged),
        Route(method="DELETE", path=one, handler=c.delete),
        Route(method="POST", path=one + "/params", handler=c.log_params, message=wm.LoggedParams),
        Route(method="PATCH", path=one + "/tags", handler=c.set_tags, message=wm.LoggedTags),
        Route(method="DELETE", path=one + "/tags/{tag_key:path}", handler=c.delete_tag),
        Route(method="GET", path=one + "/artifacts/directories", handler=c.list_files, message=wm.ListLogged),
        Route(method="GET", path=one + "/artifacts/files", handler=c.get_file),
        Route(method="POST", path="2.0/mlflow/runs/outputs", handler=c.outputs, message=wm.LogOutputs),
        Route(method="POST", path="2.0/mlflow/runs/log-model", handler=c.log_model, message=wm.LogModel),
    ]
