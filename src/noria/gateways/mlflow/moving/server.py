"""A running server of MLflow's protocol as a source: plain REST, in pages."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import urllib3

from noria.gateways.mlflow.moving import places
from noria.gateways.mlflow.moving.errors import SourceFailed
from noria.gateways.mlflow.moving.filed import file_of_spans
from noria.gateways.mlflow.moving.records import (
    SourceExperiment,
    SourceFile,
    SourceLogged,
    SourceRun,
    SourceTrace,
    Unreachable,
)
from noria.gateways.mlflow.moving.server_words import logged_in, mark_of, number, run_in, texts, version_in
from noria.gateways.mlflow.moving.trace_words import assessment_of, trace_of
from noria.gateways.mlflow.names import IS_PROMPT
from noria.gateways.mlflow.tracewire import PLACE
from noria.registry.records import ForeignModel
from noria.tracking.blocks import Mark
from noria.tracking.traces.records import Span

_RUNS: Final = 100
_TRACES: Final = 100
_POINTS: Final = 25_000
_AT_ONCE: Final = 8
"""Histories that are asked for at once."""
_PROXY: Final = "/api/2.0/mlflow-artifacts/artifacts"
_PROMPTS: Final = f"tags.`{IS_PROMPT}` = 'true'"
Json = dict[str, Any]


class ServerSource:
    """A server, asked with the credentials that MLflow's clients take from the environment.

    What it says is no reason to open a file of this machine: its clients may have named any place.
    """

    near = False

    def __init__(self, url: str, environment: Mapping[str, str], artifacts: Path | None = None) -> None:
        self._roots = [] if artifacts is None else [artifacts]
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

    def _ask(self, method: str, path: str, given: Json, *, absent: bool = False, version: str = "2.0") -> Json:
        """The answer to a call; with ``absent``, nothing where the server does not know the call.

        Raises:
            SourceFailed: it cannot be reached, refuses, or does not speak MLflow's protocol.
        """
        url = f"{self._url}/api/{version}/mlflow/{path}"
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

    def _pages(
        self, method: str, path: str, given: Json, key: str, *, absent: bool = False, version: str = "2.0"
    ) -> Iterator[list[Any]]:
        token: str | None = None
        while True:
            answer = self._ask(method, path, {**given, "page_token": token}, absent=absent, version=version)
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
                    created_at=number(one.get("creation_time")),
                    tags=texts(one.get("tags")),
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
            yield list({run.said.id: run for run in map(run_in, page)}.values())

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
        return [mark_of(one) for one in answer.get("metrics") or []], None if following == token else following

    # ---- files

    def files(self, place: str) -> Iterator[SourceFile]:
        path = self._proxied(place)
        if path is not None:
            return self._listed(path)
        return places.files_in(place, self._roots, f"{places.OUTSIDE} and --again")

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

    # ---- traces

    def traces(self, experiment: SourceExperiment) -> Iterator[list[SourceTrace]]:
        order = ["timestamp_ms ASC"]
        place = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment.id}}
        given = {"locations": [place], "max_results": _TRACES, "order_by": order}
        none = True
        for page in self._pages("POST", "traces/search", given, "traces", absent=True, version="3.0"):
            none = False
            yield self._traces(page)
        if none:  # a server before 3.0, or an experiment without any
            given = {"experiment_ids": experiment.id, "max_results": _TRACES, "order_by": order[0]}
            for page in self._pages("GET", "traces", given, "traces", absent=True):
                yield self._traces(page)

    def _traces(self, page: Sequence[Json]) -> list[SourceTrace]:
        made: list[SourceTrace] = []
        for one in page:
            id = str(one.get("trace_id") or one.get("request_id"))
            try:
                tags = texts(one.get("tags"))
                metadata = texts(one.get("trace_metadata") or one.get("request_metadata"))
                judged = [assessment_of(given, id) for given in one.get("assessments") or ()]
                said = trace_of(one, tags, metadata, judged)
            except ValueError as error:
                raise SourceFailed(f"{self._url} says of trace {id:.60}: {error}.", hint="Report it.") from None
            made.append(SourceTrace(said=said, place=tags.get(PLACE, ""), extent="", spans=partial(self._spans, id)))
        return made

    def _spans(self, trace_id: str) -> list[Span]:
        url = f"{self._url}/ajax-api/2.0/mlflow/get-trace-artifact"
        try:
            answer = self._pool.request("GET", url, fields={"request_id": trace_id})
        except urllib3.exceptions.HTTPError as error:
            raise self._lost(error) from None
        if answer.status == 404:
            return []
        if answer.status != 200:
            raise ValueError(f"the server answers {answer.status}")
        return file_of_spans(answer.data)

    # ---- models

    def logged(self, experiment: SourceExperiment) -> Iterator[SourceLogged]:
        given = {"experiment_ids": [experiment.id], "max_results": 50}
        for page in self._pages("POST", "logged-models/search", given, "models", absent=True):
            for one in page:
                yield logged_in(one.get("info") or {}, one.get("data") or {})

    def models(self) -> Iterator[ForeignModel]:
        for prompts in (False, True):  # a search leaves prompts out unless it asks for them
            given = {"max_results": 100, "filter": _PROMPTS if prompts else None}
            for page in self._pages("GET", "registered-models/search", given, "registered_models"):
                for one in page:
                    yield self._model(one, prompts)

    def _model(self, one: Json, prompts: bool) -> ForeignModel:
        name = one["name"]
        mark = '"' if "'" in name else "'"
        asked = f"name = {mark}{name}{mark}" + (f" AND {_PROMPTS}" if prompts else "")
        given = {"filter": asked, "max_results": 1_000}
        versions = [
            version_in(version)
            for page in self._pages("GET", "model-versions/search", given, "model_versions")
            for version in page
        ]
        created = number(one.get("creation_timestamp")) or 0
        return ForeignModel(
            name=name,
            description=one.get("description") or "",
            created_at=created,
            updated_at=number(one.get("last_updated_timestamp")) or created,
            tags=texts(one.get("tags")),
            aliases={alias["alias"]: int(alias["version"]) for alias in one.get("aliases") or []},
            versions=sorted(versions, key=lambda version: version.number),
        )
