from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from noria.base.ids import RunId


class TraceState(StrEnum):
    RUNNING = "running"
    OK = "ok"
    ERROR = "error"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanEvent:
    """Something that happened during a span; ``at`` in nanoseconds since 1970."""

    name: str
    at: int
    attributes: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanLink:
    """Another span that a span says it belongs to, maybe of another trace."""

    trace_id: str
    span_id: str
    attributes: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One unit of work in a trace.

    Attributes:
        span_id, parent_id: 16 hexadecimal digits; a root has no parent.
        status: ``unset``, ``ok`` or ``error``.
        started, ended: nanoseconds since 1970; one that has not ended yet has no end.
        type: what kind of work, a word of the client's.
        attributes: values of JSON, and bytes, NaN and the infinities.
    """

    span_id: str
    name: str
    started: int
    ended: int | None = None
    parent_id: str | None = None
    status: str = "unset"
    message: str = ""
    type: str | None = None
    attributes: dict[str, Any] = field(default_factory=dict[str, Any])
    events: list[SpanEvent] = field(default_factory=list[SpanEvent])
    links: list[SpanLink] = field(default_factory=list[SpanLink])


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Who judged: a kind of judge, and which one."""

    kind: str
    id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """What somebody says of a trace, or of one span of it.

    Attributes:
        kind: ``feedback`` (how good it was), ``expectation`` (what it should have been) or ``issue``.
        value: any value of JSON.
        error: why there is no value, as the judge said it; only of feedback.
        overrides: the id of the assessment that this one replaces, which is not valid from then on.
        whole_session: it is about all traces of the session.
        created_at, updated_at: milliseconds since 1970.
    """

    id: str
    trace_id: str
    name: str
    kind: str
    value: Any
    source: Source
    created_at: int
    updated_at: int
    error: dict[str, Any] | None = None
    span_id: str | None = None
    rationale: str | None = None
    overrides: str | None = None
    valid: bool = True
    metadata: dict[str, str] = field(default_factory=dict[str, str])
    whole_session: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One request to an application, as a tree of spans; this record is what is known of it without its spans.

    Attributes:
        experiment_id: the number of its experiment.
        started_at: milliseconds since 1970.
        took: milliseconds; None while it runs.
        client_id: the application's own name for the request.
        session: the conversation that it belongs to.
        request, response: beginnings of what went in and came out.
        spans: how many are stored here; 0 where the client keeps them in a file.
        runs: runs that it belongs to.
        prompts: ``name/version`` of prompts that it used.
        metadata: what the client said once; ``tags`` may change.
    """

    trace_id: str
    experiment_id: int
    started_at: int
    took: int | None
    state: TraceState
    name: str | None = None
    client_id: str | None = None
    session: str | None = None
    request: str | None = None
    response: str | None = None
    spans: int = 0
    runs: Sequence[RunId] = ()
    prompts: Sequence[str] = ()
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    assessments: Sequence[Assessment] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanBatch:
    """Spans of one trace that came together, and what they say of the trace where nobody else said it.

    Attributes:
        tags: set, whatever was there; ``metadata`` only where the key is missing.
    """

    trace_id: str
    spans: Sequence[Span]
    name: str | None = None
    session: str | None = None
    request: str | None = None
    response: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
