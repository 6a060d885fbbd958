"""A running server of MLflow's protocol as a source: plain REST, in pages."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO, Final
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import urllib3

from noria.gateways.mlflow.door import STATES
from noria.gateways.mlflow.moving import places
from noria.gateways.mlflow.moving.errors import SourceFailed
from noria.gateways.mlflow.moving.records import (
    SourceExperiment,
    SourceFile,
    SourceLogged,
    SourcePoint,
    SourceRun,
    Unreachable,
)
from noria.gateways.mlflow.moving.words import stage_of
from noria.registry.records import ForeignModel, ForeignVersion
from noria.tracking.blocks import Mark
from noria.tracking.records import Dataset, DatasetInput, ForeignRun

_RUNS: Final = 100
_POINTS: Final = 25_000
_AT_ONCE: Final = 8
"""Histories that are asked for at once."""
_PROXY: Final = "/api/2.0/mlflow-artifacts/artifacts"
_PROMPT: Final = "tags.`mlflow.prompt.is_prompt` = 'true'"
_MODEL_STATES: Final = {
    "LOGGED_MODEL_PENDING": "PENDING",
    "LOGGED_MODEL_READY": "READY",
    "LOGGED_MODEL_UPLOAD_FAILED": "FAILED",
}
Json = dict[str, Any]


class ServerSource:
    """A server, asked with the credentials that MLflow's clients take from the environment."""

    near = False

    def __init__(self, url: str, environment: Mapping[str, str]) -> None:
        parts = urlsplit(url)
        host = parts.hostname or ""
        netloc = (f"[{host}]" if ":" in host else host) + (f":{parts.port}" if parts.port else "")
        self._url = urlunsplit((parts.scheme, netloc, parts.path.rstrip("/"), "", ""))
        self.name = self._url
        user = unquote(parts.username or "") or environment.get("MLFLOW_TRACKING_USERNAME", "")
        password = unquote(parts.password or "") or environment.get("MLFLOW_TRACKING_PASSWORD", "")
        headers = {"User-Agent": "noria-import", "Accept-Encoding": "identity"}
        token = environment.get("MLFLOW_TRACKING_TOKEN", "")
        if user or password:
            headers |= urllib3.make_headers(basic_auth=f"{user}:{password}")
        elif token:
            headers["Authorization"] = f"Bearer {token}"
        retries = urllib3.Retry(
            5, connect=2, backoff_factor=0.2, status_forcelist=(429, 502, 503, 504), allowed_methods=None, redirect=0,
            raise_on_status=False, raise_on_redirect=False,
        )  # fmt: skip
        self._pool = urllib3.PoolManager(
            maxsize=_AT_ONCE, headers=headers, retries=retries, timeout=urllib3.Timeout(connect=10, read=120)
        )
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="noria-import")

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)
        self._pool.clear()

    # ---- asking

    def _ask(self, method: str, path: str, given: Json, *, absent: bool = False) -> Json:
        """The answer to a call; with ``absent``, nothing where the server does not know the call.

        Raises:
            SourceFailed: it cannot be reached, refuses, or does not speak MLflow's protocol.
        """
        url = f"{self._url}/api/2.0/mlflow/{path}"
        try:
            if method == "GET":
                fields = [(key, str(value)) for key, value in given.items() if value is not None]
                answer = self._pool.request("GET", url, fields=fields)
            else:
                answer = self._pool.request("POST", url, json={k: v for k, v in given.items() if v is not None})
        except urllib3.exceptions.HTTPError as error:
            raise self._lost(error) from None
        if answer.status in (404, 405, 501) and absent:
            return {}
        if answer.status in (401, 403):
            raise SourceFailed(
                f"{self._url} answered {answer.status} to {path}.",
                hint="Set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.",
            )
        try:
            found = json.loads(answer.data)
        except ValueError:
            found = None
        if answer.status != 200 or not isinstance(found, dict):
            said = found.get("message", "") if isinstance(found, dict) else ""
            raise SourceFailed(
                f"{self._url} answered {answer.status} to {path}: {said or 'not what MLflow answers'!s:.300}",
                hint="Is this the address of a tracking server?",
            )
        return found

    def _lost(self, error: Exception) -> SourceFailed:
        return SourceFailed(
            f"{self._url} does not answer: {type(error).__name__}.", hint="Repeat the command: it goes on where it was."
        )

    def _pages(self, method: str, path: str, given: Json, key: str, *, absent: bool = False) -> Iterator[list[Any]]:
        token: str | None = None
        while True:
            answer = self._ask(method, path, {**given, "page_token": token}, absent=absent)
            found = answer.get(key) or []
            if found:
                yield found
            following = answer.get("next_page_token")
            if not following or following == token:
                return
            token = following

    # ---- experiments and runs

    def experiments(self) -> Iterator[SourceExperiment]:
        given = {"view_type": "ALL", "max_results": 1_000}
        for page in self._pages("POST", "experiments/search", given, "experiments"):
            for one in page:
                yield SourceExperiment(
                    id=str(one["experiment_id"]),
                    name=one["name"],
                    place=one.get("artifact_location") or "",
                    deleted=one.get("lifecycle_stage") == "deleted",
                    created_at=_number(one.get("creation_time")),
                    tags=_texts(one.get("tags")),
                )

    def count(self, experiment: SourceExperiment) -> int | None:
        return None

    def runs(self, experiment: SourceExperiment) -> Iterator[list[SourceRun]]:
        # The oldest first: runs that begin meanwhile come at the end and move no page.
        given = {
            "experiment_ids": [experiment.id],
            "run_view_type": "ALL",
            "max_results": _RUNS,
            "order_by": ["attributes.start_time ASC"],
        }
        for page in self._pages("POST", "runs/search", given, "runs"):
            yield list({run.said.id: run for run in map(_run, page)}.values())

    def history(self, run: SourceRun) -> Iterator[tuple[str, list[Mark]]]:
        keys = list(run.latest)
        for start in range(0, len(keys), _AT_ONCE):
            part = keys[start : start + _AT_ONCE]
            asked = [self._threads.submit(self._first, run.said.id, key) for key in part]
            for key, future in zip(part, asked, strict=True):
                found, token = future.result()
                yield key, found
                while token:
                    found, token = self._points(run.said.id, key, token)
                    yield key, found

    def _first(self, run: str, key: str) -> tuple[list[Mark], str | None]:
        return self._points(run, key, None)

    def _points(self, run: str, key: str, token: str | None) -> tuple[list[Mark], str | None]:
        given = {"run_id": run, "metric_key": key, "max_results": _POINTS, "page_token": token}
        answer = self._ask("GET", "metrics/get-history", given)
        following = answer.get("next_page_token")
        return [_mark(one) for one in answer.get("metrics") or []], None if following == token else following

    # ---- files

    def files(self, place: str) -> Iterator[SourceFile]:
        path = self._proxied(place)
        if path is not None:
            return self._listed(path)
        folder = places.local(place)
        if folder is None or not folder.is_dir():
            raise Unreachable(f"they stay at {places.named(place)}")
        return places.walk(folder)

    def _proxied(self, place: str) -> str | None:
        parts = urlsplit(place)
        if parts.scheme == "mlflow-artifacts":
            return unquote(parts.path).strip("/")
        if parts.scheme in ("http", "https") and f"{_PROXY}/" in parts.path:
            return unquote(parts.path.partition(f"{_PROXY}/")[2]).strip("/")
        return None

    def _listed(self, root: str) -> Iterator[SourceFile]:
        folders = [""]
        for folder in folders:  # grows while it is walked through
            at = f"{root}/{folder}" if folder else root
            for one in self._folder(at):
                name = str(one.get("path", "")).rpartition("/")[2]
                if not name:
                    continue
                path = f"{folder}/{name}" if folder else name
                if one.get("is_dir"):
                    folders.append(path)
                else:
                    yield SourceFile(path, int(one.get("file_size") or 0), None, self._opener(f"{root}/{path}"))

    def _folder(self, path: str) -> list[Json]:
        try:
            answer = self._pool.request("GET", self._url + _PROXY, fields={"path": path})
        except urllib3.exceptions.HTTPError as error:
            raise self._lost(error) from None
        if answer.status != 200:
            raise Unreachable(f"the server answers {answer.status} to a list of them")
        return json.loads(answer.data).get("files") or []

    def _opener(self, path: str) -> Any:
        def opens() -> BinaryIO:
            answer = self._pool.request(
                "GET", f"{self._url}{_PROXY}/{quote(path, safe='/')}", preload_content=False, decode_content=False
            )
            if answer.status != 200:
                answer.release_conn()
                raise OSError(f"the server answers {answer.status}")
            answer.auto_close = False  # pyright: ignore[reportAttributeAccessIssue] - what io asks for
            return io.BufferedReader(answer, 1 << 20)  # pyright: ignore[reportArgumentType]

        return opens

    def others(self) -> dict[str, int]:
        return {}  # it would have to be asked for each kind, in pages

    # ---- models

    def logged(self, experiment: SourceExperiment) -> Iterator[SourceLogged]:
        given = {"experiment_ids": [experiment.id], "max_results": 50}
        for page in self._pages("POST", "logged-models/search", given, "models", absent=True):
            for one in page:
                yield _logged(one.get("info") or {}, one.get("data") or {})

    def models(self) -> Iterator[ForeignModel]:
        for prompts in (False, True):  # a search leaves prompts out unless it asks for them
            given = {"max_results": 100, "filter": _PROMPT if prompts else None}
            for page in self._pages("GET", "registered-models/search", given, "registered_models"):
                for one in page:
                    yield self._model(one, prompts)

    def _model(self, one: Json, prompts: bool) -> ForeignModel:
        name = one["name"]
        mark = '"' if "'" in name else "'"
        asked = f"name = {mark}{name}{mark}" + (f" AND {_PROMPT}" if prompts else "")
        given = {"filter": asked, "max_results": 1_000}
        versions = [
            _version(version)
            for page in self._pages("GET", "model-versions/search", given, "model_versions")
            for version in page
        ]
        created = _number(one.get("creation_timestamp")) or 0
        return ForeignModel(
            name=name,
            description=one.get("description") or "",
            created_at=created,
            updated_at=_number(one.get("last_updated_timestamp")) or created,
            tags=_texts(one.get("tags")),
            aliases={alias["alias"]: int(alias["version"]) for alias in one.get("aliases") or []},
            versions=sorted(versions, key=lambda version: version.number),
        )


def _run(one: Json) -> SourceRun:
    info, data = one["info"], one.get("data") or {}
    metrics = {metric["key"]: _mark(metric) for metric in data.get("metrics") or []}
    inputs, outputs = one.get("inputs") or {}, one.get("outputs") or {}
    tags = _texts(data.get("tags"))
    return SourceRun(
        said=ForeignRun(
            id=info.get("run_id") or info["run_uuid"],
            name=info.get("run_name") or tags.get("mlflow.runName", ""),
            user=info.get("user_id") or "",
            state=STATES.get(info.get("status", ""), STATES["FAILED"]),
            started_at=_number(info.get("start_time")),
            ended_at=_number(info.get("end_time")),
            params=_texts(data.get("params")),
            tags=tags,
            inputs=[_input(given) for given in inputs.get("dataset_inputs") or []],
        ),
        deleted=info.get("lifecycle_stage") == "deleted",
        latest=metrics,
        extent="",
        place=info.get("artifact_uri") or "",
        read=[given["model_id"] for given in inputs.get("model_inputs") or []],
        made=[(given["model_id"], int(given.get("step") or 0)) for given in outputs.get("model_outputs") or []],
    )


def _input(given: Json) -> DatasetInput:
    found = given.get("dataset") or {}
    dataset = Dataset(
        name=found.get("name") or "",
        digest=found.get("digest") or "",
        source_type=found.get("source_type") or "",
        source=found.get("source") or "",
        schema=found.get("schema"),
        profile=found.get("profile"),
    )
    return DatasetInput(dataset=dataset, tags=_texts(given.get("tags")))


def _logged(info: Json, data: Json) -> SourceLogged:
    points = [
        SourcePoint(
            run=one.get("run_id") or "",
            key=one["key"],
            mark=_mark(one),
            dataset=one.get("dataset_name") or "",
            digest=one.get("dataset_digest") or "",
        )
        for one in data.get("metrics") or []
    ]
    return SourceLogged(
        id=info["model_id"],
        name=info.get("name") or "",
        kind=info.get("model_type") or "",
        status=_MODEL_STATES.get(info.get("status", ""), "UNSPECIFIED"),
        run=info.get("source_run_id") or "",
        place=info.get("artifact_uri") or "",
        created_at=_number(info.get("creation_timestamp_ms")) or 0,
        updated_at=_number(info.get("last_updated_timestamp_ms")) or 0,
        deleted=False,
        params=_texts(data.get("params")),
        tags=_texts(info.get("tags")),
        points=points,
    )


def _version(one: Json) -> ForeignVersion:
    created = _number(one.get("creation_timestamp")) or 0
    return ForeignVersion(
        number=int(one["version"]),
        source=one.get("source") or "",
        run=one.get("run_id") or "",
        description=one.get("description") or "",
        stage=stage_of(one.get("current_stage")),
        link=one.get("run_link") or "",
        created_at=created,
        updated_at=_number(one.get("last_updated_timestamp")) or created,
        logged_model=one.get("model_id") or "",
        tags=_texts(one.get("tags")),
    )


def _texts(pairs: Any) -> dict[str, str]:
    return {pair["key"]: pair.get("value") or "" for pair in pairs or []}


def _mark(one: Json) -> Mark:
    return int(one.get("timestamp") or 0), int(one.get("step") or 0), float(one.get("value") or 0.0)


def _number(value: Any) -> int | None:
    return None if value is None or value == "" else int(value)
