"""Shapes of MLflow's messages about traces and assessments."""

from __future__ import annotations

from typing import Any, Final

from noria.gateways.mlflow import wire as w

SESSION: Final = "mlflow.trace.session"
"""The metadata by which the traces of a conversation are found."""


class SourceIn(w.In):
    source_type: str | int | None = None
    source_id: str | None = None


class AssessmentIn(w.In):
    assessment_id: str | None = None
    assessment_name: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    source: SourceIn | None = None
    create_time: str | None = None
    last_update_time: str | None = None
    feedback: dict[str, Any] | None = None
    expectation: dict[str, Any] | None = None
    issue: dict[str, Any] | None = None
    rationale: str | None = None
    metadata: dict[str, str] | None = None
    overrides: str | None = None
    valid: bool | None = None


class ExperimentPlace(w.In):
    experiment_id: str | None = None


class Location(w.In):
    mlflow_experiment: ExperimentPlace | None = None


class TraceInfoIn(w.In):
    trace_id: str | None = None
    client_request_id: str | None = None
    trace_location: Location | None = None
    request_preview: str | None = None
    response_preview: str | None = None
    request_time: str | None = None
    execution_duration: str | None = None
    state: str | int | None = None
    trace_metadata: dict[str, str] | None = None
    tags: dict[str, str] | None = None
    assessments: list[AssessmentIn] | None = None


class TraceIn(w.In):
    trace_info: TraceInfoIn | None = None


class StartTrace(w.In):
    trace: TraceIn | None = None


class GetTrace(w.In):
    trace_id: str | None = None
    allow_partial: bool | None = None


class TraceIds(w.In):
    trace_ids: list[str] | None = None
    experiment_ids: list[str] | None = None


class SearchTraces(w.In):
    locations: list[Location] | None = None
    filter: str | None = None
    max_results: int | None = None
    order_by: list[str] | None = None
    page_token: str | None = None


class OldSearch(w.In):
    experiment_ids: list[str] | None = None
    filter: str | None = None
    max_results: int | None = None
    order_by: list[str] | None = None
    page_token: str | None = None


class DeleteTraces(w.In):
    experiment_id: str | None = None
    max_timestamp_millis: int | None = None
    max_traces: int | None = None
    request_ids: list[str] | None = None


class Keyed(w.In):
    key: str | None = None
    value: str | None = None


class AssessmentBody(w.In):
    assessment: AssessmentIn | None = None


class UpdateAssessment(w.In):
    assessment: AssessmentIn | None = None
    update_mask: str | dict[str, Any] | None = None


class OldStart(w.In):
    experiment_id: str | None = None
    timestamp_ms: int | None = None
    request_metadata: list[w.Tag] | None = None
    tags: list[w.Tag] | None = None


class OldEnd(w.In):
    timestamp_ms: int | None = None
    status: str | int | None = None
    request_metadata: list[w.Tag] | None = None
    tags: list[w.Tag] | None = None


class LinkToRun(w.In):
    trace_ids: list[str] | None = None
    run_id: str | None = None


class PromptRef(w.In):
    name: str | None = None
    version: str | int | None = None


class LinkPrompts(w.In):
    trace_id: str | None = None
    prompt_versions: list[PromptRef] | None = None


class Correlation(w.In):
    experiment_ids: list[str] | None = None
    filter_string1: str | None = None
    filter_string2: str | None = None
    base_filter: str | None = None
