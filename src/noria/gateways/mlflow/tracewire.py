"""Shapes of MLflow's messages about traces and assessments, and how traces look to its clients."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any, Final

import msgspec

from noria.base.errors import Invalid
from noria.base.ids import RunId
from noria.base.times import from_datetime, to_text
from noria.gateways.mlflow import door as d
from noria.gateways.mlflow import wire as w
from noria.gateways.mlflow.errors import Required
from noria.tracking.grammar import TRACE_STATUS
from noria.tracking.traces.records import Assessment, Source, Trace, TraceState

NAME: Final = "mlflow.traceName"
PLACE: Final = "mlflow.artifactLocation"
SPANS_PLACE: Final = "mlflow.trace.spansLocation"
SESSION: Final = "mlflow.trace.session"
SOURCE_RUN: Final = "mlflow.sourceRun"
BLOCKED: Final = (SPANS_PLACE, "mlflow.trace.archiveLocation", "mlflow.trace.archivalFailure")
"""Tags that a server sets by itself, or that it has no use for."""
_STATES: Final[dict[str | int, TraceState]] = {
    **{name: TraceState(state) for state, name in TRACE_STATUS.items()},
    "TRACE_STATUS_UNSPECIFIED": TraceState.UNKNOWN,
    0: TraceState.UNKNOWN,
    1: TraceState.OK,
    2: TraceState.ERROR,
    3: TraceState.RUNNING,
}
_SOURCES: Final = ("SOURCE_TYPE_UNSPECIFIED", "HUMAN", "LLM_JUDGE", "CODE")
_FAR: Final = 253_402_300_799_999
"""The last millisecond that a time in protobuf's JSON can say."""


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


# ---- times, as protobuf writes them in JSON

_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")
_TOOK: Final = re.compile(r"(-?)(\d{1,12})(?:\.(\d{1,9}))?s")


def time_in(value: str | None, field: str) -> int | None:
    """Milliseconds since 1970; what is finer is cut."""
    if not value:
        return None
    found = _TIME.fullmatch(value)
    try:
        if found is None:
            raise ValueError
        whole = from_datetime(datetime.fromisoformat(found.group(1) + found.group(3).replace("Z", "+00:00")))
    except (ValueError, OverflowError):
        raise Invalid(f"Invalid value {value!r:.60} for parameter '{field}'.", hint="2026-01-31T12:00:00.5Z") from None
    return whole + int(f"{(found.group(2) or '.')[1:]:0<3}"[:3])


def time_out(ms: int) -> str:
    return to_text(min(max(ms, 0), _FAR))


def took_in(value: str | None) -> int | None:
    if not value:
        return None
    found = _TOOK.fullmatch(value)
    if found is None:
        raise Invalid(f"Invalid value {value!r:.60} for parameter 'execution_duration'.", hint="0.125s")
    ms = int(found.group(2)) * 1000 + int(f"{found.group(3) or '':0<3}"[:3])
    return -ms if found.group(1) else ms


def took_out(ms: int) -> str:
    whole, rest = divmod(abs(ms), 1000)
    return f"{'-' if ms < 0 else ''}{whole}{f'.{rest:03d}' if rest else ''}s"


# ---- traces


def state_in(value: str | int | None) -> TraceState:
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        value = int(value[:9])
    found = _STATES.get(0 if value is None else value)
    if found is None:
        raise Invalid(f"Invalid value {value!r:.60} for parameter 'state'.", hint=", ".join(TRACE_STATUS.values()))
    return found


def tags_in(tags: dict[str, str]) -> tuple[str | None, dict[str, str]]:
    """The name of a trace, and its tags without what the server says by itself."""
    return tags.get(NAME), {key: value for key, value in tags.items() if key not in (NAME, PLACE, SPANS_PLACE)}


def runs_in(metadata: dict[str, str]) -> list[RunId]:
    return [RunId(metadata[SOURCE_RUN])] if metadata.get(SOURCE_RUN) else []


def trace_in(given: TraceInfoIn, experiment_id: int, now: int) -> Trace:
    metadata = given.trace_metadata or {}
    name, tags = tags_in(given.tags or {})
    trace_id = d.need(given.trace_id, "trace_id")
    started = time_in(given.request_time, "request_time")
    return Trace(
        trace_id=trace_id,
        experiment_id=experiment_id,
        started_at=0 if started is None else started,
        took=took_in(given.execution_duration),
        state=state_in(given.state),
        name=name,
        client_id=given.client_request_id,
        session=metadata.get(SESSION),
        request=given.request_preview,
        response=given.response_preview,
        runs=runs_in(metadata),
        tags=tags,
        metadata=metadata,
        assessments=[assessment_in(one, trace_id, now, keep_id=True) for one in given.assessments or ()],
    )


def place_of(door: d.Door, trace: Trace) -> str:
    return f"{d.location_of(door.experiment(trace.experiment_id))}/traces/{trace.trace_id}/artifacts"


def tags_out(door: d.Door, trace: Trace) -> dict[str, str]:
    made = {**trace.tags, PLACE: place_of(door, trace)}
    if trace.name is not None:
        made[NAME] = trace.name
    if trace.spans:
        made[SPANS_PLACE] = "TRACKING_STORE"
    return made


def info_out(door: d.Door, trace: Trace) -> w.Json:
    made: w.Json = {
        "trace_id": trace.trace_id,
        "client_request_id": trace.client_id,
        "trace_location": {
            "type": "MLFLOW_EXPERIMENT",
            "mlflow_experiment": {"experiment_id": d.experiment_id_out(door.experiment(trace.experiment_id))},
        },
        "request_preview": trace.request,
        "response_preview": trace.response,
        "request_time": time_out(trace.started_at),
        "execution_duration": None if trace.took is None else took_out(trace.took),
        "state": TRACE_STATUS[trace.state],
        "trace_metadata": trace.metadata or None,
        "assessments": [assessment_out(one) for one in trace.assessments] or None,
        "tags": tags_out(door, trace),
    }
    return {key: value for key, value in made.items() if value is not None}


def old_info_out(door: d.Door, trace: Trace) -> w.Json:
    status = "TRACE_STATUS_UNSPECIFIED" if trace.state == TraceState.UNKNOWN else TRACE_STATUS[trace.state]
    return {
        "request_id": trace.trace_id,
        "experiment_id": d.experiment_id_out(door.experiment(trace.experiment_id)),
        "timestamp_ms": trace.started_at,
        "execution_time_ms": trace.took or 0,
        "status": status,
        "request_metadata": w.tags_out(dict(trace.metadata)),
        "tags": w.tags_out(tags_out(door, trace)),
    }


# ---- assessments


def assessment_in(given: AssessmentIn, trace_id: str, now: int, *, keep_id: bool = False) -> Assessment:
    kind, value, error = value_in(given)
    source = given.source or SourceIn()
    metadata = given.metadata or {}
    created = time_in(given.create_time, "create_time")
    updated = time_in(given.last_update_time, "last_update_time")
    return Assessment(
        id=(given.assessment_id or "") if keep_id else "",
        trace_id=trace_id,
        name=d.need(given.assessment_name, "assessment_name"),
        kind=kind,
        value=value,
        error=error,
        source=Source(kind=_source(source.source_type), id=source.source_id or None),
        span_id=given.span_id or None,
        rationale=given.rationale or None,
        overrides=given.overrides or None,
        valid=given.valid is not False,
        metadata=metadata,
        whole_session=SESSION in metadata,
        created_at=now if created is None else created,
        updated_at=now if updated is None else updated,
    )


def _source(given: str | int | None) -> str:
    if isinstance(given, int) or (isinstance(given, str) and given.isascii() and given.isdecimal()):
        number = int(str(given)[:9])
        given = _SOURCES[number] if 0 <= number < len(_SOURCES) else ""
    name = given or (_SOURCES[0] if given is None else "")
    if name not in _SOURCES:
        raise Invalid(f"Invalid value {given!r:.60} for parameter 'source_type'.", hint=", ".join(_SOURCES[1:]))
    return name


def value_in(given: AssessmentIn) -> tuple[str, Any, dict[str, Any] | None]:
    """Kind, value and error of an assessment."""
    if given.expectation is not None:
        return "expectation", _expected(given.expectation), None
    if given.feedback is not None:
        error = given.feedback.get("error")
        return "feedback", given.feedback.get("value"), error if isinstance(error, dict) else None
    if given.issue is not None:
        return "issue", str(given.issue.get("issue_name") or ""), None
    raise Invalid("An assessment has to hold one of 'feedback', 'expectation' and 'issue'.")


def _expected(given: dict[str, Any]) -> Any:
    written = given.get("serialized_value")
    if not isinstance(written, dict):
        return given.get("value")
    text = written.get("value")
    if written.get("serialization_format") != "JSON_FORMAT" or not isinstance(text, str):
        raise Invalid("The serialized value of an expectation is written in JSON_FORMAT.")
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        raise Invalid(f"The serialized value {text!r:.60} of an expectation is no JSON.") from None


def assessment_out(one: Assessment) -> w.Json:
    made: w.Json = {
        "assessment_id": one.id,
        "assessment_name": one.name,
        "trace_id": one.trace_id,
        "source": {"source_type": one.source.kind, **({"source_id": one.source.id} if one.source.id else {})},
        "create_time": time_out(one.created_at),
        "last_update_time": time_out(one.updated_at),
    }
    if one.kind == "feedback":
        made["feedback"] = {"value": one.value, **({"error": one.error} if one.error else {})}
    elif one.kind == "issue":
        made["issue"] = {"issue_name": one.value}
    elif isinstance(one.value, dict | list):
        written = {"serialization_format": "JSON_FORMAT", "value": json.dumps(one.value)}
        made["expectation"] = {"serialized_value": written}
    else:
        made["expectation"] = {"value": one.value}
    optional = {"span_id": one.span_id, "rationale": one.rationale, "overrides": one.overrides}
    made |= {key: value for key, value in optional.items() if value}
    if one.metadata:
        made["metadata"] = one.metadata
    return {**made, "valid": one.valid}


_MASK: Final = {
    "assessmentname": "name",
    "expectation": "value",
    "feedback": "value",
    "rationale": "rationale",
    "metadata": "metadata",
}


def amended_in(message: UpdateAssessment) -> dict[str, Any]:
    """What an update changes, as arguments of the verb."""
    given = d.need(message.assessment, "assessment")
    mask = message.update_mask
    if mask is None:
        raise Required("update_mask")
    paths = mask.get("paths") or [] if isinstance(mask, dict) else mask.split(",")
    wanted = {_MASK.get(str(path).strip().replace("_", "").lower()) for path in paths}
    made: dict[str, Any] = {}
    if "name" in wanted:
        made["name"] = d.need(given.assessment_name, "assessment_name")
    if "value" in wanted:
        if given.expectation is not None and given.feedback is not None:
            raise Invalid("Cannot specify both `expectation` and `feedback` parameters.")
        made["kind"], made["value"], made["error"] = value_in(given)
    if "rationale" in wanted:
        made["rationale"] = given.rationale or ""
    if "metadata" in wanted:
        made["metadata"] = given.metadata or {}
    return made
