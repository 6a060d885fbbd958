"""What the client of a step may do with files, logged models, the registry and traces."""

from __future__ import annotations

from typing import Any, Final

from noria.assets.errors import RunNotFound
from noria.base.ids import RunId
from noria.gateways.mlflow.door import Door, run_id_of
from noria.gateways.mlflow.places import path_of
from noria.gateways.mlflow.proxy import Proxy
from noria.gateways.mlflow.routes import Asked
from noria.gateways.steps.admitted import Admitted
from noria.gateways.steps.bounds import Bounds, Heard, NotOfStep, Rule
from noria.tracking.records import Owner, OwnerKind

_FILES: Final = "2.0/mlflow-artifacts/"
_MODELS: Final = "2.0/mlflow/logged-models"
_TRACES: Final = ("3.0/mlflow/traces", "2.0/mlflow/traces")
_HEADER: Final = "x-mlflow-experiment-id"


class MadeRules:
    """Rules by (method, path)."""

    def __init__(self, door: Door, bounds: Bounds) -> None:
        self._door = door
        self._bounds = bounds
        self._files = Proxy(door)

    def rules(self) -> dict[tuple[str, str], Rule]:
        return {**self._of_files(), **self._of_models(), **self._of_registry(), **self._of_traces()}

    # ---- files

    def _of_files(self) -> dict[tuple[str, str], Rule]:
        many = {("POST", f"{_FILES}mpu/{verb}/{{path:path}}"): self._put for verb in ("create", "complete", "abort")}
        return {
            **many,
            ("PUT", _FILES + "mpu/parts/{upload}/{number}"): anybody,  # who knows its id was given it for own files
            ("PUT", _FILES + "artifacts/{path:path}"): self._put,
            ("GET", _FILES + "artifacts/{path:path}"): self._read_file,
            ("GET", _FILES + "presigned/{path:path}"): self._read_file,
            ("GET", _FILES + "artifacts"): self._list_files,
            ("GET", "2.0/mlflow/artifacts/list"): self._list_of_run,
            ("GET", "/get-artifact"): self._file_of_run,
        }

    def _put(self, admitted: Admitted, asked: Asked) -> None:
        owner, _ = self._files.place(path_of(asked))
        own = admitted.runs if owner.kind is OwnerKind.RUN else admitted.made
        if owner.kind is OwnerKind.TRACE:
            self._trace(admitted, owner.id)
        elif owner.id not in own:
            raise NotOfStep(f"The {owner.kind.value} {owner.id} is none of the step {admitted.asset!r}.")

    def _read_file(self, admitted: Admitted, asked: Asked) -> None:
        self._readable(admitted, self._files.place(path_of(asked))[0])

    def _list_files(self, admitted: Admitted, asked: Asked) -> None:
        self._readable(admitted, self._files.place(asked.query.get("path", [""])[-1])[0])

    def _readable(self, admitted: Admitted, owner: Owner) -> None:
        """Models may be read wherever they come from: a step may begin with one."""
        if owner.kind is OwnerKind.RUN:
            self._bounds.readable(admitted, RunId(owner.id))
        elif owner.kind is OwnerKind.TRACE:
            self._trace(admitted, owner.id)

    def _list_of_run(self, admitted: Admitted, asked: Asked) -> None:
        self._bounds.readable(admitted, run_id_of(asked.message.run_id, asked.message.run_uuid))

    def _file_of_run(self, admitted: Admitted, asked: Asked) -> None:
        given = {key: values[-1] for key, values in asked.query.items()}
        self._bounds.readable(admitted, run_id_of(given.get("run_id"), given.get("run_uuid")))

    # ---- logged models

    def _of_models(self) -> dict[tuple[str, str], Rule]:
        one = _MODELS + "/{model_id}"
        return {
            ("POST", _MODELS): self._create_model,
            ("POST", _MODELS + "/search"): self._search_models,
            ("GET", one): anybody,
            ("GET", one + "/artifacts/directories"): anybody,
            ("GET", one + "/artifacts/files"): anybody,
            ("PATCH", one): self._own_model,
            ("POST", one + "/params"): self._own_model,
            ("PATCH", one + "/tags"): self._own_model,
            ("DELETE", one + "/tags/{tag_key:path}"): self._own_model,
        }

    def _create_model(self, admitted: Admitted, asked: Asked) -> Heard:
        message = asked.message
        message.experiment_id = self._bounds.experiment(admitted, message.experiment_id)
        if message.source_run_id and RunId(message.source_run_id) not in admitted.runs:
            raise NotOfStep(f"The run {message.source_run_id!r:.80} is none of the step {admitted.asset!r}.")

        def made(answer: Any) -> None:
            admitted.made.add(answer["model"].info.model_id)

        return made

    def _own_model(self, admitted: Admitted, asked: Asked) -> None:
        if asked.path["model_id"] not in admitted.made:
            raise NotOfStep(f"The model {asked.path['model_id']!r:.80} is none of the step {admitted.asset!r}.")

    def _search_models(self, admitted: Admitted, asked: Asked) -> None:
        message = asked.message
        message.experiment_ids = [self._bounds.experiment(admitted, id) for id in message.experiment_ids or ()]

    # ---- the registry

    def _of_registry(self) -> dict[tuple[str, str], Rule]:
        models, versions = "2.0/mlflow/registered-models/", "2.0/mlflow/model-versions/"
        reading = [models + name for name in ("get", "search", "get-latest-versions", "alias")]
        reading += [versions + name for name in ("get", "search", "get-download-uri")]
        return {
            **{("GET", path): anybody for path in reading},
            ("POST", models + "get-latest-versions"): anybody,
            ("POST", models + "create"): anybody,
            ("POST", versions + "create"): self._create_version,
            ("POST", versions + "set-tag"): self._own_version,
            ("DELETE", versions + "delete-tag"): self._own_version,
            ("PATCH", versions + "update"): self._own_version,
        }

    def _create_version(self, admitted: Admitted, asked: Asked) -> Heard:
        """A version of what the step itself has made; who serves it is decided elsewhere."""
        message = asked.message
        run = RunId(message.run_id) if message.run_id else None
        source = (message.source or "").removeprefix("models:/").partition("/")[0]
        own = source in admitted.made if run is None else run in admitted.runs
        if not own or (message.model_id and message.model_id not in admitted.made):
            raise NotOfStep(
                f"{message.source!r:.200} is none of the step {admitted.asset!r}.",
                hint="A step registers what it has logged itself.",
            )

        def made(answer: Any) -> None:
            found = answer["model_version"]
            admitted.made.add(f"{found.name}/{found.version}")

        return made

    def _own_version(self, admitted: Admitted, asked: Asked) -> None:
        named = f"{asked.message.name}/{asked.message.version}"
        if named not in admitted.made:
            raise NotOfStep(f"The version {named!r:.300} is none of the step {admitted.asset!r}.")

    # ---- traces

    def _of_traces(self) -> dict[tuple[str, str], Rule]:
        new, old = _TRACES
        found: dict[tuple[str, str], Rule] = {
            ("POST", new): self._start_trace,
            ("POST", old): self._begin_trace,
            ("POST", new + "/search"): self._search_traces,
            ("GET", old): self._search_old,
            ("GET", new + "/get"): self._some_traces,
            ("GET", new + "/batchGet"): self._some_traces,
            ("POST", new + "/batchGetInfos"): self._some_traces,
            ("GET", new + "/{trace_id}"): self._own_trace,
            ("GET", old + "/{trace_id}/info"): self._own_trace,
            ("PATCH", old + "/{trace_id}"): self._own_trace,
            ("POST", new + "/{trace_id}/assessments"): self._own_trace,
            ("GET", new + "/{trace_id}/assessments/{assessment_id}"): self._own_trace,
            ("PATCH", new + "/{trace_id}/assessments/{assessment_id}"): self._own_trace,
            ("POST", "/v1/traces"): self._spans,
        }
        for at in _TRACES:
            found[("PATCH", at + "/{trace_id}/tags")] = self._own_trace
            found[("DELETE", at + "/{trace_id}/tags")] = self._own_trace
            found[("POST", at + "/link-to-run")] = self._link_traces
            found[("POST", at + "/link-prompts")] = self._some_traces
        for version in ("2.0", "3.0"):
            found[("GET", version + "/mlflow/get-trace-artifact")] = self._file_of_trace
        return found

    def _trace(self, admitted: Admitted, id: str) -> None:
        if self._door.ws.tracking.traces.get(self._door.project_id, id).experiment_id != admitted.experiment_id:
            raise NotOfStep(f"The trace {id!r:.100} is of another experiment than the step {admitted.asset!r}.")

    def _own_trace(self, admitted: Admitted, asked: Asked) -> None:
        self._trace(admitted, asked.path["trace_id"])

    def _some_traces(self, admitted: Admitted, asked: Asked) -> None:
        message = asked.message
        for id in getattr(message, "trace_ids", None) or [getattr(message, "trace_id", None) or ""]:
            self._trace(admitted, id)

    def _start_trace(self, admitted: Admitted, asked: Asked) -> None:
        info = None if asked.message.trace is None else asked.message.trace.trace_info
        place = None if info is None or info.trace_location is None else info.trace_location.mlflow_experiment
        if place is not None:
            place.experiment_id = self._bounds.experiment(admitted, place.experiment_id)

    def _begin_trace(self, admitted: Admitted, asked: Asked) -> None:
        asked.message.experiment_id = self._bounds.experiment(admitted, asked.message.experiment_id)

    def _spans(self, admitted: Admitted, asked: Asked) -> None:
        asked.headers[_HEADER] = self._bounds.experiment(admitted, asked.headers.get(_HEADER))
        run = asked.headers.get("x-mlflow-run-id")
        if run and RunId(run) not in admitted.runs:
            raise RunNotFound(f"The run {run!r:.80} is none of the step {admitted.asset!r}.")

    def _search_traces(self, admitted: Admitted, asked: Asked) -> None:
        for location in asked.message.locations or ():
            if location.mlflow_experiment is not None:
                place = location.mlflow_experiment
                place.experiment_id = self._bounds.experiment(admitted, place.experiment_id)

    def _search_old(self, admitted: Admitted, asked: Asked) -> None:
        self._search_models(admitted, asked)

    def _link_traces(self, admitted: Admitted, asked: Asked) -> None:
        self._bounds.own_run(admitted, asked.message)
        self._some_traces(admitted, asked)

    def _file_of_trace(self, admitted: Admitted, asked: Asked) -> None:
        self._trace(admitted, asked.query.get("request_id", [""])[0])


def anybody(admitted: Admitted, asked: Asked) -> None:
    """It can be read by every step, or is no harm."""
