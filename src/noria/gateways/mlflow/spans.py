"""Spans that come by OpenTelemetry's protocol (``POST /v1/traces``): from MLflow's own client, and from any other."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from typing import Any, Final

from starlette.responses import Response

from noria.base.errors import Invalid, NoriaError
from noria.base.ids import RunId
from noria.db import Tx
from noria.gateways.mlflow import door as d
from noria.gateways.mlflow import tracewire as tw
from noria.gateways.mlflow import wire_traces as wt
from noria.gateways.mlflow.app import read
from noria.gateways.mlflow.errors import Required
from noria.gateways.mlflow.otlp import binary, json_form
from noria.gateways.mlflow.otlp.records import Received
from noria.gateways.mlflow.routes import Asked, Route
from noria.http.errors import RequestTooLarge
from noria.tracking.keys import check_key
from noria.tracking.traces.records import Span, SpanBatch
from noria.tracking.traces.service import lock_of
from noria.tracking.traces.spantext import plain

MOST: Final = 32 << 20
MOST_UNPACKED: Final = 128 << 20
_LARGE: Final = 64 << 10
"""Bytes from which on a body is read in a thread."""
_PROTOBUF: Final = "application/x-protobuf"
_JSON: Final = "application/json"
_TAG: Final = "mlflow.traceTag."
_PREVIEW: Final = 1_000


class SpanCalls:
    """The handler; it is one call."""

    def __init__(self, door: d.Door) -> None:
        self._door = door
        self._traces = door.ws.tracking.traces
        self._project_id = door.project_id

    async def export(self, asked: Asked) -> Response:
        kind = asked.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in (_PROTOBUF, _JSON):
            raise Invalid(f"Invalid Content-Type: {kind!r:.80}.", hint=f"{_PROTOBUF} or {_JSON}")
        given = asked.headers.get("x-mlflow-experiment-id")
        if not given:
            raise Required("x-mlflow-experiment-id")
        experiment_id = d.experiment_id_in(given, "x-mlflow-experiment-id")
        run = asked.headers.get("x-mlflow-run-id")
        run_id = d.run_id_of(run) if run else None
        body = await read(asked.receive, MOST)
        packed = asked.headers.get("content-encoding", "identity").lower()
        small = len(body) < _LARGE and packed == "identity"
        batches = _batches(body, packed, kind) if small else await self._door.in_thread(_batches, body, packed, kind)
        await self._door.write(lambda tx: self._write(tx, experiment_id, batches, run_id), lock=lock_of(experiment_id))
        return Response(b"{}" if kind == _JSON else b"", media_type=kind)

    def _write(self, tx: Tx, experiment_id: int, batches: list[SpanBatch], run_id: RunId | None) -> None:
        self._traces.add_spans(tx, self._project_id, experiment_id, batches)
        whole = [batch.trace_id for batch in batches if any(span.parent_id is None for span in batch.spans)]
        if run_id is not None:
            for start in range(0, len(whole), 100):
                self._traces.link_run(tx, self._project_id, whole[start : start + 100], run_id)


def _batches(body: bytes, packed: str, kind: str) -> list[SpanBatch]:
    body = _unpacked(body, packed)
    found = json_form.received(body) if kind == _JSON else binary.received(body)
    if not found:
        raise Invalid("Invalid OpenTelemetry format - no spans found.")
    by_trace: dict[str, list[Received]] = {}
    for one in found:
        by_trace.setdefault(one.trace_id, []).append(one)
    return [_batch(trace_id, spans) for trace_id, spans in sorted(by_trace.items())]


def _unpacked(body: bytes, packed: str) -> bytes:
    """The body without its compression; never more than a bound, whatever it unpacks to.

    Raises:
        Invalid, RequestTooLarge: it is not what its header says; it is too large.
    """
    if packed == "identity":
        return body
    if packed not in ("gzip", "deflate"):
        raise Invalid(f"Unsupported Content-Encoding: {packed!r:.40}.", hint="gzip, deflate, or none.")
    windows = [31] if packed == "gzip" else [15, -15]
    for window in windows:
        inflate = zlib.decompressobj(window)
        try:
            made = inflate.decompress(body, MOST_UNPACKED)
        except zlib.error:
            continue
        if inflate.unconsumed_tail:
            raise RequestTooLarge(
                f"The body unpacks to more than {MOST_UNPACKED} bytes.", hint="Send fewer spans at once."
            )
        if inflate.eof:
            return made
    raise Invalid(f"Failed to decompress {packed} payload.")


def _batch(trace_id: str, received: Sequence[Received]) -> SpanBatch:
    spans = [one.span for one in received]
    root = next((span for span in spans if span.parent_id is None), None)
    tags: dict[str, str] = {}
    for key, value in next((one.resource for one in received if one.resource), {}).items():
        if not key.startswith(("telemetry.sdk.", "mlflow.")) and _is_tag(key):
            tags[key] = plain(value)
    metadata: dict[str, str] = {}
    session = _first(spans, "session.id", "gen_ai.conversation.id")
    if session is not None:
        metadata[wt.SESSION] = session
    user = _first(spans, "user.id")
    if user is not None:
        metadata["mlflow.trace.user"] = user
    usage = _usage(spans)
    if usage is not None:
        metadata["mlflow.trace.tokenUsage"] = usage
    name = None
    if root is not None:
        said = {key.removeprefix(_TAG): plain(value) for key, value in root.attributes.items() if key.startswith(_TAG)}
        name, own = tw.tags_in(said)
        tags |= {key: value for key, value in own.items() if _is_tag(key)}
    return SpanBatch(
        trace_id=trace_id,
        spans=spans,
        name=name,
        session=session,
        request=None if root is None else _preview(root.attributes.get("mlflow.spanInputs")),
        response=None if root is None else _preview(root.attributes.get("mlflow.spanOutputs")),
        tags=tags,
        metadata=metadata,
    )


def _is_tag(key: str) -> bool:
    try:
        check_key(key, "a tag")
    except NoriaError:
        return False
    return True


def _first(spans: Sequence[Span], *keys: str) -> str | None:
    """The first text that a span has under one of the keys."""
    for span in spans:
        for key in keys:
            value = span.attributes.get(key)
            if isinstance(value, str) and value:
                return value
    return None


def _preview(value: Any) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _PREVIEW else text[: _PREVIEW - 3] + "..."


_USAGE: Final = "mlflow.chat.tokenUsage"
_TOKENS: Final = {"gen_ai.usage.input_tokens": "input_tokens", "gen_ai.usage.output_tokens": "output_tokens"}


def _tokens(span: Span) -> dict[str, int]:
    found = span.attributes.get(_USAGE)
    if not isinstance(found, dict):
        found = {name: span.attributes[key] for key, name in _TOKENS.items() if key in span.attributes}
        if found:
            found["total_tokens"] = sum(value for value in found.values() if type(value) is int)
    return {key: value for key, value in found.items() if type(value) is int}


def _usage(spans: Sequence[Span]) -> str | None:
    """Tokens of a trace that came as a whole: of each span whose parents say nothing of them, since they say sums."""
    by_id = {span.span_id: span for span in spans}
    if all(span.parent_id is not None for span in spans):
        return None
    said = {id for id, span in by_id.items() if _tokens(span)}
    total: dict[str, int] = {}
    for id in said:
        above, seen = by_id[id].parent_id, {id}
        while above in by_id and above not in said and above not in seen:
            seen.add(above)
            above = by_id[above].parent_id
        if above not in said or above in seen:
            for key, value in _tokens(by_id[id]).items():
                total[key] = total.get(key, 0) + value
    return json.dumps(total) if total else None


def routes(door: d.Door) -> list[Route]:
    c = SpanCalls(door)
    return [Route(method="POST", path="/v1/traces", handler=c.export, raw=True)]
