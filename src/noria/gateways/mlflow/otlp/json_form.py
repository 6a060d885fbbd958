"""An export request in JSON: ids in hexadecimal digits, whole numbers maybe as texts, names in camel case."""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final

import msgspec

from noria.gateways.mlflow.otlp.binary import DEEPEST, TRACE, checked, id_text, parent_text
from noria.gateways.mlflow.otlp.protobuf import WireWrong
from noria.gateways.mlflow.otlp.records import Received
from noria.tracking.traces.records import Span, SpanEvent, SpanLink

_STATUS: Final = {1: "ok", 2: "error", "STATUS_CODE_OK": "ok", "STATUS_CODE_ERROR": "error"}


def received(body: bytes) -> list[Received]:
    """The spans of an export request.

    Raises:
        WireWrong: it is none.
    """
    try:
        data = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise WireWrong(f"The body is no JSON: {error}.") from None
    found: list[Received] = []
    for of_resource in _list(_object(data), "resourceSpans"):
        resource = _pairs(_object(of_resource.get("resource") or {}), 0)
        for scope in _list(of_resource, "scopeSpans"):
            for one in _list(scope, "spans"):
                trace_id, span = _span(one)
                found.append(Received(trace_id, span, resource))
    return found


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise WireWrong(f"An object was expected, not {value!r:.60}.")
    return value


def _list(holder: dict[str, Any], key: str) -> list[dict[str, Any]]:
    found = holder.get(key) or []
    if not isinstance(found, list):
        raise WireWrong(f"{key} is no list.")
    return [_object(one) for one in found]


def _text(holder: dict[str, Any], key: str) -> str:
    found = holder.get(key)
    if found is not None and not isinstance(found, str):
        raise WireWrong(f"{key} is no text: {found!r:.60}.")
    return found or ""


def _whole(value: Any, least: int = 0) -> int:
    if isinstance(value, str) and value.removeprefix("-").isascii() and value.removeprefix("-").isdecimal():
        value = int(value[:25])
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int or not least <= value < 1 << 64:
        raise WireWrong(f"{value!r:.60} is no whole number of 64 bits.")
    return value


def _id(holder: dict[str, Any], key: str) -> bytes:
    try:
        return bytes.fromhex(_text(holder, key))
    except ValueError:
        raise WireWrong(f"{key} is not written in hexadecimal digits.") from None


def _span(one: dict[str, Any]) -> tuple[str, Span]:
    status = _object(one.get("status") or {})
    code = status.get("code")
    events = [
        SpanEvent(name=_text(event, "name"), at=_whole(event.get("timeUnixNano") or 0), attributes=_pairs(event, 0))
        for event in _list(one, "events")
    ]
    links = [
        SpanLink(
            trace_id=TRACE + id_text(_id(link, "traceId"), 16),
            span_id=id_text(_id(link, "spanId"), 8),
            attributes=_pairs(link, 0),
        )
        for link in _list(one, "links")
    ]
    return checked(
        id_text(_id(one, "traceId"), 16),
        id_text(_id(one, "spanId"), 8),
        parent_text(_id(one, "parentSpanId")),
        _text(one, "name"),
        _whole(one.get("startTimeUnixNano") or 0),
        _whole(one.get("endTimeUnixNano") or 0),
        _STATUS.get(code, "unset") if isinstance(code, int | str) else "unset",
        _text(status, "message"),
        _pairs(one, 0),
        events,
        links,
    )


def _pairs(holder: dict[str, Any], depth: int, key: str = "attributes") -> dict[str, Any]:
    return {_text(pair, "key"): _any(_object(pair.get("value") or {}), depth) for pair in _list(holder, key)}


def _any(value: dict[str, Any], depth: int) -> Any:
    if depth > DEEPEST:
        raise WireWrong(f"A value holds more than {DEEPEST} values in each other.")
    for key, one in value.items():
        match key:
            case "stringValue":
                return _text(value, key)
            case "boolValue":
                return one is True or one == "true"
            case "intValue":
                return _whole(one, -(1 << 63))
            case "doubleValue":
                return _double(one)
            case "arrayValue":
                return [_any(item, depth + 1) for item in _list(_object(one), "values")]
            case "kvlistValue":
                return _pairs(_object(one), depth + 1, "values")
            case "bytesValue":
                return _bytes(_text(value, key))
            case _:
                continue
    return None


def _double(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise WireWrong(f"{value!r:.60} is no number.") from None


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise WireWrong("A bytesValue is not written in base64.") from None
