"""What a server answers, in our records."""

from __future__ import annotations

from typing import Any, Final

from noria.gateways.mlflow.door import STATES
from noria.gateways.mlflow.moving.records import SourceLogged, SourcePoint, SourceRun
from noria.gateways.mlflow.moving.words import stage_of
from noria.registry.records import ForeignVersion
from noria.tracking.blocks import Mark
from noria.tracking.records import Dataset, DatasetInput, ForeignRun

_MODEL_STATES: Final = {
    "LOGGED_MODEL_PENDING": "PENDING",
    "LOGGED_MODEL_READY": "READY",
    "LOGGED_MODEL_UPLOAD_FAILED": "FAILED",
}
Json = dict[str, Any]


def run_in(one: Json) -> SourceRun:
    info, data = one["info"], one.get("data") or {}
    metrics = {metric["key"]: mark_of(metric) for metric in data.get("metrics") or []}
    inputs, outputs = one.get("inputs") or {}, one.get("outputs") or {}
    tags = texts(data.get("tags"))
    return SourceRun(
        said=ForeignRun(
            id=info.get("run_id") or info["run_uuid"],
            name=info.get("run_name") or tags.get("mlflow.runName", ""),
            user=info.get("user_id") or "",
            state=STATES.get(info.get("status", ""), STATES["FAILED"]),
            started_at=number(info.get("start_time")),
            ended_at=number(info.get("end_time")),
            params=texts(data.get("params")),
            tags=tags,
            inputs=[input_in(given) for given in inputs.get("dataset_inputs") or []],
        ),
        deleted=info.get("lifecycle_stage") == "deleted",
        latest=metrics,
        extent="",
        place=info.get("artifact_uri") or "",
        read=[given["model_id"] for given in inputs.get("model_inputs") or []],
        made=[(given["model_id"], int(given.get("step") or 0)) for given in outputs.get("model_outputs") or []],
    )


def input_in(given: Json) -> DatasetInput:
    found = given.get("dataset") or {}
    dataset = Dataset(
        name=found.get("name") or "",
        digest=found.get("digest") or "",
        source_type=found.get("source_type") or "",
        source=found.get("source") or "",
        schema=found.get("schema"),
        profile=found.get("profile"),
    )
    return DatasetInput(dataset=dataset, tags=texts(given.get("tags")))


def logged_in(info: Json, data: Json) -> SourceLogged:
    points = [
        SourcePoint(
            run=one.get("run_id") or "",
            key=one["key"],
            mark=mark_of(one),
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
        created_at=number(info.get("creation_timestamp_ms")) or 0,
        updated_at=number(info.get("last_updated_timestamp_ms")) or 0,
        deleted=False,
        params=texts(data.get("params")),
        tags=texts(info.get("tags")),
        points=points,
    )


def version_in(one: Json) -> ForeignVersion:
    created = number(one.get("creation_timestamp")) or 0
    return ForeignVersion(
        number=int(one["version"]),
        source=one.get("source") or "",
        run=one.get("run_id") or "",
        description=one.get("description") or "",
        stage=stage_of(one.get("current_stage")),
        link=one.get("run_link") or "",
        created_at=created,
        updated_at=number(one.get("last_updated_timestamp")) or created,
        logged_model=one.get("model_id") or "",
        tags=texts(one.get("tags")),
    )


def texts(pairs: Any) -> dict[str, str]:
    if isinstance(pairs, dict):
        return {str(key): str(value) for key, value in pairs.items()}
    return {pair["key"]: pair.get("value") or "" for pair in pairs or []}


def mark_of(one: Json) -> Mark:
    return int(one.get("timestamp") or 0), int(one.get("step") or 0), float(one.get("value") or 0.0)


def number(value: Any) -> int | None:
    return None if value is None or value == "" else int(value)
