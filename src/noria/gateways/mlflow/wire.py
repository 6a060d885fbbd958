"""Shapes of MLflow's messages about experiments, runs and metrics. What is None is left out, as protobuf does."""

from __future__ import annotations

import math
from typing import Any

import msgspec

Json = dict[str, Any]


class Out(msgspec.Struct, omit_defaults=True):
    """A message that is sent."""


class In(msgspec.Struct):
    """A message that is taken: unknown fields are ignored, null is the same as nothing."""


class Tag(msgspec.Struct):
    key: str
    value: str = ""


class Pair(msgspec.Struct):
    """A tag or parameter as it is sent."""

    key: str
    value: str | None = None


class ExperimentOut(Out):
    experiment_id: str
    name: str
    artifact_location: str
    lifecycle_stage: str
    last_update_time: int
    creation_time: int
    tags: list[Tag] = msgspec.field(default_factory=list)


class RunInfo(Out):
    run_uuid: str
    experiment_id: str
    run_name: str
    user_id: str
    status: str
    start_time: int
    artifact_uri: str
    lifecycle_stage: str
    run_id: str
    end_time: int | None = None


class MetricOut(Out):
    """``value`` is a number, or the text NaN, Infinity or -Infinity."""

    key: str
    value: float | str
    timestamp: int
    step: int | None = None
    run_id: str | None = None
    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None


class RunDataOut(Out):
    metrics: list[MetricOut] = msgspec.field(default_factory=list)
    params: list[Tag] = msgspec.field(default_factory=list)
    tags: list[Tag] = msgspec.field(default_factory=list)


class DatasetWire(Out):
    name: str = ""
    digest: str = ""
    source_type: str = ""
    source: str = ""
    schema: str | None = None
    profile: str | None = None


class DatasetInputWire(Out):
    tags: list[Tag] | None = None
    dataset: DatasetWire | None = None


class ModelInput(Out):
    model_id: str = ""


class ModelOutput(Out):
    model_id: str = ""
    step: int | None = None


class RunInputsOut(Out):
    dataset_inputs: list[DatasetInputWire] = msgspec.field(default_factory=list)
    model_inputs: list[ModelInput] = msgspec.field(default_factory=list)


class RunOutputsOut(Out):
    model_outputs: list[ModelOutput] = msgspec.field(default_factory=list)


class RunOut(Out):
    info: RunInfo
    data: RunDataOut
    inputs: RunInputsOut | None = None
    outputs: RunOutputsOut | None = None


def number_out(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def page(name: str, items: list[Any], following: str | None) -> Json:
    """A page of a list; what is empty is left out."""
    made: Json = {name: items} if items else {}
    return {**made, "next_page_token": following} if following else made


def tags_out(found: dict[str, str]) -> list[Tag]:
    return [Tag(key, value) for key, value in found.items()]


# ---- what clients send


class CreateExperiment(In):
    name: str | None = None
    artifact_location: str | None = None
    tags: list[Pair] | None = None


class ExperimentId(In):
    experiment_id: str | None = None


class ExperimentName(In):
    experiment_name: str | None = None


class UpdateExperiment(In):
    experiment_id: str | None = None
    new_name: str | None = None


class ExperimentTag(In):
    experiment_id: str | None = None
    key: str | None = None
    value: str | None = None


class SearchExperiments(In):
    max_results: int | None = None
    page_token: str | None = None
    filter: str | None = None
    order_by: list[str] | None = None
    view_type: str | int | None = None


class SearchDatasets(In):
    experiment_ids: list[str] | None = None


class CreateRun(In):
    experiment_id: str | None = None
    user_id: str | None = None
    run_name: str | None = None
    start_time: int | None = None
    tags: list[Pair] | None = None


class NamedRun(In):
    run_id: str | None = None
    run_uuid: str | None = None


class UpdateRun(In):
    run_id: str | None = None
    run_uuid: str | None = None
    status: str | int | None = None
    end_time: int | None = None
    run_name: str | None = None


class Keyed(In):
    """A parameter or tag of a run."""

    run_id: str | None = None
    run_uuid: str | None = None
    key: str | None = None
    value: str | None = None


class MetricIn(In):
    key: str | None = None
    value: float | None = None
    timestamp: int | None = None
    step: int | None = None
    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None


class LogMetric(MetricIn):
    run_id: str | None = None
    run_uuid: str | None = None


class LogBatch(In):
    run_id: str | None = None
    run_uuid: str | None = None
    metrics: list[MetricIn] | None = None
    params: list[Pair] | None = None
    tags: list[Pair] | None = None


class DatasetInputIn(In):
    tags: list[Pair] | None = None
    dataset: DatasetWire | None = None


class LogInputs(In):
    run_id: str | None = None
    datasets: list[DatasetInputIn] | None = None
    models: list[ModelInput] | None = None


class SearchRuns(In):
    experiment_ids: list[str] | None = None
    filter: str | None = None
    run_view_type: str | int | None = None
    max_results: int | None = None
    order_by: list[str] | None = None
    page_token: str | None = None


class GetHistory(In):
    run_id: str | None = None
    run_uuid: str | None = None
    metric_key: str | None = None
    max_results: int | None = None
    page_token: str | None = None


class GetBulk(In):
    run_id: list[str] | None = None
    metric_key: str | None = None
    max_results: int | None = None


class GetInterval(In):
    run_ids: list[str] | None = None
    metric_key: str | None = None
    start_step: int | None = None
    end_step: int | None = None
    max_results: int | None = None
