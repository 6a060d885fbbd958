"""Shapes of MLflow's messages about traces and assessments, and how traces look to its clients."""

from __future__ import annotations

from typing import Final

from noria.base.errors import Invalid
from noria.base.ids import RunId
from noria.gateways.mlflow import assessmentwire as aw
from noria.gateways.mlflow import door as d
from noria.gateways.mlflow import wire as w
from noria.gateways.mlflow import wire_times as times
from noria.gateways.mlflow import wire_traces as wt
from noria.tracking.grammar import TRACE_STATUS
from noria.tracking.traces.records import Trace, TraceState

NAME: Final = "mlflow.traceName"
PLACE: Final = "mlflow.artifactLocation"
SPANS_PLACE: Final = "mlflow.trace.spansLocation"
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


def trace_in(given: wt.TraceInfoIn, experiment_id: int, now: int) -> Trace:
    metadata = given.trace_metadata or {}
    name, tags = tags_in(given.tags or {})
    trace_id = d.need(given.trace_id, "trace_id")
    started = times.time_in(given.request_time, "request_time")
    return Trace(
        trace_id=trace_id,
        experiment_id=experiment_id,
        started_at=0 if started is None else started,
        took=times.took_in(given.execution_duration),
        state=state_in(given.state),
        name=name,
        client_id=given.client_request_id,
        session=metadata.get(wt.SESSION),
        request=given.request_preview,
        response=given.response_preview,
        runs=runs_in(metadata),
        tags=tags,
        metadata=metadata,
        assessments=[aw.assessment_in(one, trace_id, now, keep_id=True) for one in given.assessments or ()],
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
        "request_time": times.time_out(trace.started_at),
        "execution_duration": None if trace.took is None else times.took_out(trace.took),
        "state": TRACE_STATUS[trace.state],
        "trace_metadata": trace.metadata or None,
        "assessments": [aw.assessment_out(one) for one in trace.assessments] or None,
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
