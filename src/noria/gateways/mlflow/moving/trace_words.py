"""A trace and its assessments in MLflow's words, as its servers and files write them: since 3.0 and before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from noria.base.errors import Invalid, NoriaError
from noria.gateways.mlflow import assessmentwire as aw
from noria.gateways.mlflow import tracewire as tw
from noria.gateways.mlflow import wire_times as times
from noria.gateways.mlflow import wire_traces as wt
from noria.tracking.traces.records import Assessment, Trace

Json = dict[str, Any]


def trace_of(
    info: Json,
    tags: Mapping[str, str],
    metadata: Mapping[str, str],
    assessments: Sequence[Assessment] = (),
) -> Trace:
    """A trace, its experiment not said.

    Raises:
        ValueError: it is none.
    """
    old = "request_id" in info
    name, own = tw.tags_in(dict(tags))
    try:
        took = info.get("execution_time_ms") if old else info.get("execution_duration_ms")
        started = info.get("timestamp_ms") if old else times.time_in(info.get("request_time"), "request_time")
        return Trace(
            trace_id=str(info["request_id"] if old else info["trace_id"]),
            experiment_id=0,
            started_at=int(started or 0),
            took=times.took_in(info.get("execution_duration")) if took is None else int(took),
            state=tw.state_in(info.get("status") if old else info.get("state")),
            name=name,
            client_id=info.get("client_request_id"),
            session=metadata.get(wt.SESSION),
            request=info.get("request_preview"),
            response=info.get("response_preview"),
            runs=tw.runs_in(dict(metadata)),
            tags=own,
            metadata=dict(metadata),
            assessments=assessments,
        )
    except (KeyError, TypeError, AttributeError, Invalid) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None


def assessment_of(given: Json, trace_id: str) -> Assessment:
    """An assessment.

    Raises:
        ValueError: it is none.
    """
    try:
        found = aw.assessment_in(msgspec.convert(given, wt.AssessmentIn, strict=False), trace_id, 0, keep_id=True)
    except (msgspec.ValidationError, NoriaError) as error:
        raise ValueError(str(error)) from None
    if not found.id:
        raise ValueError("it has no id")
    return replace(found, trace_id=trace_id)
