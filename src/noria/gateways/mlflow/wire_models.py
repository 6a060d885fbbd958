"""Shapes of MLflow's messages about logged models."""

from __future__ import annotations

import msgspec

from noria.gateways.mlflow.wire import In, MetricOut, ModelOutput, Out, Tag

# ---- what is sent


class RegistrationOut(Out):
    name: str
    version: str


class LoggedInfo(Out):
    model_id: str
    experiment_id: str
    name: str
    creation_timestamp_ms: int
    last_updated_timestamp_ms: int
    artifact_uri: str
    status: str
    model_type: str = ""
    source_run_id: str = ""
    status_message: str = ""
    tags: list[Tag] = msgspec.field(default_factory=list)
    registrations: list[RegistrationOut] = msgspec.field(default_factory=list)


class LoggedData(Out):
    params: list[Tag] = msgspec.field(default_factory=list)
    metrics: list[MetricOut] = msgspec.field(default_factory=list)


class LoggedOut(msgspec.Struct):
    info: LoggedInfo
    data: LoggedData


# ---- what clients send


class CreateLogged(In):
    experiment_id: str | None = None
    name: str | None = None
    model_type: str | None = None
    source_run_id: str | None = None
    params: list[Tag] | None = None
    tags: list[Tag] | None = None


class FinishLogged(In):
    model_id: str | None = None
    status: str | int | None = None


class LoggedParams(In):
    params: list[Tag] | None = None


class LoggedTags(In):
    tags: list[Tag] | None = None


class Measured(In):
    dataset_name: str | None = None
    dataset_digest: str | None = None


class OrderLogged(Measured):
    field_name: str | None = None
    ascending: bool | None = None


class SearchLogged(In):
    experiment_ids: list[str] | None = None
    filter: str | None = None
    datasets: list[Measured] | None = None
    max_results: int | None = None
    order_by: list[OrderLogged] | None = None
    page_token: str | None = None


class ListLogged(In):
    artifact_directory_path: str | None = None
    page_token: str | None = None


class LogModel(In):
    run_id: str | None = None
    model_json: str | None = None


class LogOutputs(In):
    run_id: str | None = None
    models: list[ModelOutput] | None = None
