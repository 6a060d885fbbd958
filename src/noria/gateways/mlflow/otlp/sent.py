"""Spans as MLflow's clients read them: the JSON of OTLP's messages, and the file ``traces.json``."""

from __future__ import annotations

import base64
import json
import math
from typing import Any, Final

from noria.gateways.mlflow.otlp.binary import REQUEST_ID, TRACE
from noria.tracking.traces.records import Span, SpanLink

Json = dict[str, Any]
_CODES: Final = {"ok": "STATUS_CODE_OK", "error": "STATUS_CODE_ERROR", "unset": "STATUS_CODE_UNSET"}


def _id(hexadecimal: str) -> str:
    return base64.b64encode(bytes.fromhex(hexadecimal)).decode()


def _attributes(trace_id: str, span: Span) -> Json:
    return {REQUEST_ID: trace_id, **span.attributes}


def message(trace_id: str, span: Span) -> Json:
    """A span as a message of OTLP, as protobuf writes it in JSON."""
    status = {"message": span.message} if span.message else {}
    if span.status != "unset":
        status["code"] = _CODES[span.status]
    made: Json = {
        "trace_id": _id(trace_id.removeprefix(TRACE)),
        "span_id": _id(span.span_id),
        "name": span.name,
        "start_time_unix_nano": span.started,
        "attributes": _pairs(_attributes(trace_id, span)),
        "status": status,
    }
    if span.ended is not None:
        made["end_time_unix_nano"] = span.ended
    if span.parent_id:
        made["parent_span_id"] = _id(span.parent_id)
    if span.events:
        made["events"] = [
            {"time_unix_nano": e.at, "name": e.name, "attributes": _pairs(e.attributes)} for e in span.events
        ]
    if span.links:
        made["links"] = [
            {
                "trace_id": _id(link.trace_id.removeprefix(TRACE)),
                "span_id": _id(link.span_id),
                "attributes": _pairs(link.attributes),
            }
            for link in span.links
        ]
    return made


def _pairs(values: Json) -> list[Json]:
    return [{"key": key, "value": _any(value)} for key, value in values.items()]


def _any(value: Any) -> Json:
    if value is None:
        return {}
    if isinstance(value, bool):
        return {"bool_value": value}
    if isinstance(value, str):
        return {"string_value": value}
    if isinstance(value, int):
        return {"int_value": value}
    if isinstance(value, float):
        return {"double_value": value if math.isfinite(value) else _odd(value)}
    if isinstance(value, bytes):
        return {"bytes_value": base64.b64encode(value).decode()}
    if isinstance(value, dict):
        return {"kvlist_value": {"values": _pairs(value)}}
    return {"array_value": {"values": [_any(one) for one in value]}}


def _odd(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def filed(trace_id: str, span: Span) -> Json:
    """A span as it stands in ``traces.json``: the value of each attribute is written as JSON of its own."""
    return {
        "trace_id": _id(trace_id.removeprefix(TRACE)),
        "span_id": _id(span.span_id),
        "parent_span_id": _id(span.parent_id) if span.parent_id else None,
        "name": span.name,
        "start_time_unix_nano": span.started,
        "end_time_unix_nano": span.ended,
        "events": [{"name": e.name, "time_unix_nano": e.at, "attributes": _plain(e.attributes)} for e in span.events],
        "status": {"code": _CODES[span.status], "message": span.message},
        "attributes": {key: _dumped(value) for key, value in _attributes(trace_id, span).items()},
        "links": [_link(link) for link in span.links],
    }


def _link(link: SpanLink) -> Json:
    return {"trace_id": link.trace_id, "span_id": link.span_id, "attributes": _plain(link.attributes) or None}


def _dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=_encoded)


def _plain(value: Any) -> Any:
    """A value of JSON without what JSON has no form for."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return _odd(value)
    return _encoded(value) if isinstance(value, bytes) else value


def _encoded(value: Any) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)
