"""Wire shapes of traces: what HTTP sends and what ``--json`` prints."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from typing import Any

import msgspec

from noria.base.times import to_text
from noria.tracking.traces.records import Assessment, Span, Trace
from noria.tracking.wire.runs import Limit


class AssessmentOut(msgspec.Struct):
    id: str
    kind: str
    name: str
    value: Any
    error: dict[str, Any] | None
    by: str
    span: str | None
    rationale: str | None
    valid: bool
    metadata: dict[str, str]
    created_at: str


class TraceOut(msgspec.Struct):
    """``took_ms``: nothing while it runs; ``request`` and ``response``: their beginnings."""

    id: str
    experiment: int
    name: str | None
    state: str
    started_at: str
    took_ms: int | None
    session: str | None
    client_id: str | None
    request: str | None
    response: str | None
    spans: int
    runs: list[str]
    prompts: list[str]
    tags: dict[str, str]
    metadata: dict[str, str]
    assessments: list[AssessmentOut]


class EventOut(msgspec.Struct):
    name: str
    at_ns: int
    attributes: dict[str, Any]


class SpanOut(msgspec.Struct):
    """Times are nanoseconds since 1970; bytes in attributes are base64, numbers that JSON lacks are texts."""

    id: str
    parent: str | None
    name: str
    type: str | None
    status: str
    message: str
    started_ns: int
    ended_ns: int | None
    attributes: dict[str, Any]
    events: list[EventOut]


class TraceDetail(msgspec.Struct):
    trace: TraceOut
    spans: list[SpanOut]


class TracePage(msgspec.Struct):
    items: list[TraceOut]
    next: str | None = None


class TracesQuery(msgspec.Struct, forbid_unknown_fields=True):
    """``filter``: for instance ``status = "ERROR" and tags.team = "a"``; ``order``: ``timestamp_ms asc``."""

    filter: str | None = None
    order: str | None = None
    limit: Limit = 100
    after: str | None = None


def assessment_out(one: Assessment) -> AssessmentOut:
    return AssessmentOut(
        id=one.id,
        kind=one.kind,
        name=one.name,
        value=one.value,
        error=one.error,
        by=f"{one.source.kind}:{one.source.id}" if one.source.id else one.source.kind,
        span=one.span_id,
        rationale=one.rationale,
        valid=one.valid,
        metadata=one.metadata,
        created_at=to_text(one.created_at),
    )


def trace_out(trace: Trace) -> TraceOut:
    return TraceOut(
        id=trace.trace_id,
        experiment=trace.experiment_id,
        name=trace.name,
        state=trace.state.value,
        started_at=to_text(trace.started_at),
        took_ms=trace.took,
        session=trace.session,
        client_id=trace.client_id,
        request=trace.request,
        response=trace.response,
        spans=trace.spans,
        runs=list(trace.runs),
        prompts=list(trace.prompts),
        tags=dict(trace.tags),
        metadata=dict(trace.metadata),
        assessments=[assessment_out(one) for one in trace.assessments],
    )


def span_out(span: Span) -> SpanOut:
    return SpanOut(
        id=span.span_id,
        parent=span.parent_id,
        name=span.name,
        type=span.type,
        status=span.status,
        message=span.message,
        started_ns=span.started,
        ended_ns=span.ended,
        attributes=_plain(span.attributes),
        events=[EventOut(one.name, one.at, _plain(one.attributes)) for one in span.events],
    )


def detail_out(trace: Trace, spans: Sequence[Span]) -> TraceDetail:
    return TraceDetail(trace_out(trace), [span_out(span) for span in spans])


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
