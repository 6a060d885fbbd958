"""An export request in protobuf."""

from __future__ import annotations

from typing import Any, Final

from noria.gateways.mlflow.otlp.protobuf import Value, WireWrong, double, fields, part, signed, text, whole
from noria.gateways.mlflow.otlp.records import Received
from noria.tracking.traces.records import Span, SpanEvent, SpanLink

DEEPEST: Final = 64
"""Values in values."""
TRACE: Final = "tr-"
TYPE: Final = "mlflow.spanType"
REQUEST_ID: Final = "mlflow.traceRequestId"
_STATUS: Final = {1: "ok", 2: "error"}


def received(body: bytes) -> list[Received]:
    """The spans of an export request.

    Raises:
        WireWrong: it is none.
    """
    found: list[Received] = []
    for number, value in fields(memoryview(body)):
        if number == 1:
            found += _of_resource(part(value))
    return found


def _of_resource(data: memoryview) -> list[Received]:
    resource: dict[str, Any] = {}
    scopes: list[memoryview] = []
    for number, value in fields(data):
        if number == 1:
            pairs = [one for n, one in fields(part(value)) if n == 1]
            resource |= dict(_pair(one, 0) for one in pairs)
        elif number == 2:
            scopes.append(part(value))
    return [
        Received(trace_id, span, resource)
        for scope in scopes
        for number, value in fields(scope)
        if number == 2
        for trace_id, span in (_span(part(value)),)
    ]


def _span(data: memoryview) -> tuple[str, Span]:
    trace_id = span_id = ""
    parent: str | None = None
    name = message = ""
    started = ended = code = 0
    attributes: dict[str, Any] = {}
    events: list[SpanEvent] = []
    links: list[SpanLink] = []
    for number, value in fields(data):
        if number == 1:
            trace_id = id_text(bytes(part(value)), 16)
        elif number == 2:
            span_id = id_text(bytes(part(value)), 8)
        elif number == 4:
            parent = parent_text(bytes(part(value)))
        elif number == 5:
            name = text(value)
        elif number == 7:
            started = whole(value)
        elif number == 8:
            ended = whole(value)
        elif number == 9:
            key, one = _pair(value, 0)
            attributes[key] = one
        elif number == 11:
            events.append(_event(part(value)))
        elif number == 13:
            links.append(_link(part(value)))
        elif number == 15:
            message, code = _status(part(value))
    return checked(
        trace_id, span_id, parent, name, started, ended, _STATUS.get(code, "unset"), message, attributes, events, links
    )


def checked(
    trace_id: str,
    span_id: str,
    parent: str | None,
    name: str,
    started: int,
    ended: int,
    status: str,
    message: str,
    attributes: dict[str, Any],
    events: list[SpanEvent],
    links: list[SpanLink],
) -> tuple[str, Span]:
    """A span from its parts, with the id of its trace."""
    if not trace_id or not span_id:
        raise WireWrong("A span has no id, or no trace.")
    attributes.pop(REQUEST_ID, None)  # it follows from the trace's id, whatever the client says
    kind = attributes.get(TYPE)
    return TRACE + trace_id, Span(
        span_id=span_id,
        parent_id=parent,
        name=name,
        started=started,
        ended=ended or None,
        status=status,
        message=message,
        type=kind if isinstance(kind, str) else None,
        attributes=attributes,
        events=events,
        links=links,
    )


def id_text(data: bytes, size: int) -> str:
    """An id in hexadecimal digits.

    Raises:
        WireWrong: it has not this size.
    """
    if len(data) != size:
        raise WireWrong(f"An id has {len(data)} bytes instead of {size}.")
    return data.hex()


def parent_text(data: bytes) -> str | None:
    return None if not any(data) else id_text(data, 8)


def _status(data: memoryview) -> tuple[str, int]:
    message, code = "", 0
    for number, value in fields(data):
        if number == 2:
            message = text(value)
        elif number == 3:
            code = whole(value)
    return message, code


def _event(data: memoryview) -> SpanEvent:
    name, at = "", 0
    attributes: dict[str, Any] = {}
    for number, value in fields(data):
        if number == 1:
            at = whole(value)
        elif number == 2:
            name = text(value)
        elif number == 3:
            key, one = _pair(value, 0)
            attributes[key] = one
    return SpanEvent(name=name, at=at, attributes=attributes)


def _link(data: memoryview) -> SpanLink:
    trace_id = span_id = ""
    attributes: dict[str, Any] = {}
    for number, value in fields(data):
        if number == 1:
            trace_id = id_text(bytes(part(value)), 16)
        elif number == 2:
            span_id = id_text(bytes(part(value)), 8)
        elif number == 4:
            key, one = _pair(value, 0)
            attributes[key] = one
    return SpanLink(trace_id=TRACE + trace_id, span_id=span_id, attributes=attributes)


def _pair(data: Value, depth: int) -> tuple[str, Any]:
    key, found = "", None
    for number, value in fields(part(data)):
        if number == 1:
            key = text(value)
        elif number == 2:
            found = _any(part(value), depth)
    return key, found


def _any(data: memoryview, depth: int) -> Any:
    if depth > DEEPEST:
        raise WireWrong(f"A value holds more than {DEEPEST} values in each other.")
    found: Any = None
    for number, value in fields(data):
        if number == 1:
            found = text(value)
        elif number == 2:
            found = bool(whole(value))
        elif number == 3:
            found = signed(value)
        elif number == 4:
            found = double(value)
        elif number == 5:
            found = [_any(part(one), depth + 1) for n, one in fields(part(value)) if n == 1]
        elif number == 6:
            found = dict(_pair(one, depth + 1) for n, one in fields(part(value)) if n == 1)
        elif number == 7:
            found = bytes(part(value))
    return found
