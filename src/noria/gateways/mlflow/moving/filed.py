"""Spans as MLflow keeps them in ``traces.json`` and in its database, in all forms that it had."""

from __future__ import annotations

import base64
import json
from typing import Any, Final

from noria.gateways.mlflow.otlp.binary import DEEPEST, REQUEST_ID, TYPE
from noria.tracking.traces.records import Span, SpanEvent, SpanLink

FILE: Final = "traces.json"
ATTACHED: Final = "mlflow-attachment:"
"""What the spans of a trace say where it has files of its own."""
_LEAST, _MOST = -(1 << 63), 1 << 64
Json = dict[str, Any]


def file_of_spans(data: bytes) -> list[Span]:
    """The spans in a file ``traces.json``.

    Raises:
        ValueError: it is none.
    """
    try:
        found = json.loads(data)
        return [_span(one) for one in found["spans"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None


def span_of(text: str) -> Span:
    """The span in a row of MLflow's database.

    Raises:
        ValueError: it is none.
    """
    try:
        return _span(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None


def _span(one: Json) -> Span:
    old = one.get("context")
    status = one.get("status") or {}
    code = one.get("status_code") if old else status.get("code")
    message = one.get("status_message") if old else status.get("message")
    attributes = {_text(key): _written(value) for key, value in (one.get("attributes") or {}).items()}
    attributes.pop(REQUEST_ID, None)
    kind = attributes.get(TYPE)
    parent = one.get("parent_id") if old else one.get("parent_span_id")
    ended = one.get("end_time" if old else "end_time_unix_nano")
    return Span(
        span_id=_id(old["span_id"] if old else one["span_id"], 8),
        parent_id=_id(parent, 8) if parent else None,
        name=_text(one.get("name") or ""),
        started=int(one.get("start_time" if old else "start_time_unix_nano") or 0),
        ended=int(ended) if ended else None,
        status={"OK": "ok", "ERROR": "error"}.get(str(code).rpartition("_")[2].rpartition(".")[2], "unset"),
        message=_text(message or ""),
        type=kind if isinstance(kind, str) else None,
        attributes=attributes,
        events=[
            SpanEvent(
                name=_text(event.get("name") or ""),
                at=int(event.get("timestamp" if old else "time_unix_nano") or 0),
                attributes=_kept(event.get("attributes") or {}, 0),
            )
            for event in one.get("events") or ()
        ],
        links=[
            SpanLink(
                trace_id=_text(link["trace_id"]),
                span_id=_id(link["span_id"], 8),
                attributes=_kept(link.get("attributes") or {}, 0),
            )
            for link in one.get("links") or ()
        ],
    )


def _id(text: str, size: int) -> str:
    """An id in hexadecimal digits. MLflow wrote them with ``0x``, in base64, and as they are."""
    digits = text.removeprefix("0x")
    try:
        if text != digits or len(digits) == 2 * size:
            return bytes.fromhex(f"{digits:0>{2 * size}}").hex()
    except ValueError:
        pass
    data = base64.b64decode(text, validate=True)
    if len(data) != size:
        raise ValueError(f"an id has {len(data)} bytes instead of {size}")
    return data.hex()


def _written(value: Any) -> Any:
    """The value of an attribute, which is written as JSON of its own."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return _text(value)
    return _kept(value, 0)


def _kept(value: Any, depth: int) -> Any:
    """A value that is stored: whole numbers beyond 64 bits and what is nested too deep become texts."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dict | list) and depth > DEEPEST:
        return _text(json.dumps(value))
    if isinstance(value, dict):
        return {_text(key): _kept(one, depth + 1) for key, one in value.items()}
    if isinstance(value, list):
        return [_kept(one, depth + 1) for one in value]
    if isinstance(value, int) and not _LEAST <= value < _MOST:
        return str(value)
    return value


def _text(value: str) -> str:
    return value.encode("utf-8", "replace").decode()
