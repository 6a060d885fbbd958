"""Spans by OpenTelemetry's protocol, as exporters of any language send them, and as attackers might."""

from __future__ import annotations

import gzip
import json
import math
import random
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from mlflow_wire import Wire
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

if TYPE_CHECKING:
    from mlflow_wire import Answer

    from mlflow import MlflowClient

DATABASES = ("sqlite", "postgres")
AT = "/v1/traces"
V3 = "/api/3.0/mlflow/traces"
TRACE = "ab" * 16
PROTOBUF = "application/x-protobuf"


def value(held: Any, into: Any) -> None:
    """Writes a value of Python into an AnyValue."""
    if isinstance(held, bool):
        into.bool_value = held
    elif isinstance(held, str):
        into.string_value = held
    elif isinstance(held, int):
        into.int_value = held
    elif isinstance(held, float):
        into.double_value = held
    elif isinstance(held, bytes):
        into.bytes_value = held
    elif isinstance(held, list):
        into.array_value.SetInParent()
        for one in held:
            value(one, into.array_value.values.add())
    elif isinstance(held, dict):
        into.kvlist_value.SetInParent()
        pairs(held, into.kvlist_value.values)


def pairs(held: dict[str, Any], into: Any) -> None:
    for key, one in held.items():
        pair = into.add(key=key)
        value(one, pair.value)


def request(*spans: dict[str, Any], resource: dict[str, Any] | None = None) -> ExportTraceServiceRequest:
    made = ExportTraceServiceRequest()
    of = made.resource_spans.add()
    pairs(resource or {}, of.resource.attributes)
    scope = of.scope_spans.add()
    scope.scope.name = "test"
    for given in spans:
        span = scope.spans.add(
            trace_id=bytes.fromhex(given.get("trace", TRACE)), span_id=bytes.fromhex(given["id"]), name=given.get("name", "s"),
            parent_span_id=bytes.fromhex(given.get("parent", "")), kind=2, flags=1, trace_state="a=b",
            start_time_unix_nano=given.get("start", 5_000_000), end_time_unix_nano=given.get("end", 9_000_000),
        )  # fmt: skip
        span.status.code = given.get("code", 0)
        span.status.message = given.get("message", "")
        pairs(given.get("attributes", {}), span.attributes)
        for name, attributes in given.get("events", {}).items():
            pairs(attributes, span.events.add(name=name, time_unix_nano=7_000_000).attributes)
        for trace, linked in given.get("links", []):
            span.links.add(trace_id=bytes.fromhex(trace), span_id=bytes.fromhex(linked))
    return made


def send(wire: Wire, experiment: str, body: bytes, kind: str = PROTOBUF, **headers: str) -> Answer:
    return wire.call("POST", AT, body, Content_Type=kind, x_mlflow_experiment_id=experiment, **headers)


def read(wire: Wire, trace: str = TRACE) -> dict[str, Any]:
    return wire.get(f"{V3}/get", trace_id=f"tr-{trace}")["trace"]


def some_id(size: int = 16) -> str:
    return random.randbytes(size).hex()


def test_a_trace_of_a_plain_exporter(wire: Wire, client: MlflowClient, experiment: str) -> None:
    trace, other = some_id(), some_id()
    body = request(
        {"trace": trace, "id": "01" * 8, "name": "root", "code": 1, "attributes": {
            "mlflow.spanInputs": {"q": "why?"}, "mlflow.spanOutputs": "because", "mlflow.spanType": "AGENT",
            "session.id": "s-1", "user.id": "ann", "mlflow.traceTag.team": "a", "mlflow.traceRequestId": "tr-forged",
        }},
        {"trace": trace, "id": "02" * 8, "parent": "01" * 8, "name": "call", "code": 2, "message": "late",
         "start": 6_000_000, "end": 20_000_000,
         "attributes": {"s": "ü", "b": True, "i": -(2**63), "d": 0.5, "l": [1, "x", []], "m": {"k": {"n": None}},
                        "gen_ai.usage.input_tokens": 7, "gen_ai.usage.output_tokens": 5},
         "events": {"exception": {"exception.type": "Late"}}, "links": [(other, "03" * 8)]},
        resource={"service.name": "shop", "telemetry.sdk.name": "x", "mlflow.forged": "x", "replicas": 3},
    ).SerializeToString()  # fmt: skip
    answer = send(wire, experiment, body)
    assert (answer.status, answer.body, answer.headers["content-type"]) == (200, b"", PROTOBUF)
    found = client.get_trace(f"tr-{trace}")
    info = found.info
    assert (info.state.value, info.request_time, info.execution_duration) == ("OK", 5, 15)
    assert (info.request_preview, info.response_preview) == ('{"q": "why?"}', "because")
    said = info.trace_metadata
    assert (said["mlflow.trace.session"], said["mlflow.trace.user"]) == ("s-1", "ann")
    assert json.loads(said["mlflow.trace.tokenUsage"]) == {"input_tokens": 7, "output_tokens": 5, "total_tokens": 12}
    assert {key: info.tags.get(key) for key in ("service.name", "replicas", "team", "mlflow.forged", "telemetry.sdk.name")} == {
        "service.name": "shop", "replicas": "3", "team": "a", "mlflow.forged": None, "telemetry.sdk.name": None,
    }  # fmt: skip
    root, call = found.data.spans
    assert (root.name, root.span_type, root.trace_id) == ("root", "AGENT", f"tr-{trace}")
    assert (call.parent_id, call.status.description, call.links[0].trace_id) == ("01" * 8, "late", f"tr-{other}")
    assert {key: call.get_attribute(key) for key in "sbidlm"} == {
        "s": "ü", "b": True, "i": -(2**63), "d": 0.5, "l": [1, "x", []], "m": {"k": {"n": None}},
    }  # fmt: skip
    assert call.events[0].attributes == {"exception.type": "Late"}


def test_numbers_and_bytes_that_json_has_no_form_for(wire: Wire, experiment: str) -> None:
    trace = some_id()
    held = {"nan": math.nan, "inf": -math.inf, "bytes": b"\x00\xff", "big": 2**63 - 1}
    assert (
        send(wire, experiment, request({"trace": trace, "id": "01" * 8, "attributes": held}).SerializeToString()).status
        == 200
    )
    shown = {pair["key"]: pair["value"] for pair in read(wire, trace)["spans"][0]["attributes"]}
    assert shown["nan"] == {"double_value": "NaN"}
    assert shown["inf"] == {"double_value": "-Infinity"}
    assert shown["bytes"] == {"bytes_value": "AP8="}
    assert shown["big"] == {"int_value": 2**63 - 1}
    assert (
        wire.call("GET", "/ajax-api/3.0/mlflow/get-trace-artifact", query={"request_id": f"tr-{trace}"}).status == 200
    )


def test_the_form_in_json(wire: Wire, client: MlflowClient, experiment: str) -> None:
    trace = some_id()
    span = {
        "traceId": trace.upper(), "spanId": "01" * 8, "parentSpanId": "", "name": "n", "kind": 1,
        "startTimeUnixNano": "5000000", "endTimeUnixNano": 9_000_000, "status": {"code": "STATUS_CODE_ERROR", "message": "m"},
        "attributes": [
            {"key": "i", "value": {"intValue": "-7"}}, {"key": "d", "value": {"doubleValue": 1}},
            {"key": "l", "value": {"arrayValue": {"values": [{"boolValue": False}, {"stringValue": "x"}]}}},
            {"key": "m", "value": {"kvlistValue": {"values": [{"key": "k", "value": {}}]}}},
        ],
        "events": [{"timeUnixNano": "6000000", "name": "e", "attributes": []}],
        "links": [{"traceId": "cd" * 16, "spanId": "02" * 8}], "notInTheProtocol": 1,
    }  # fmt: skip
    body = {"resourceSpans": [{"resource": {}, "scopeSpans": [{"scope": {}, "spans": [span]}]}]}
    answer = send(wire, experiment, json.dumps(body).encode(), "application/json; charset=utf-8")
    assert answer.status == 200
    found = client.get_trace(f"tr-{trace}").data.spans[0]
    assert {key: found.get_attribute(key) for key in "idlm"} == {"i": -7, "d": 1.0, "l": [False, "x"], "m": {"k": None}}
    assert (found.status.status_code.value, found.status.description, len(found.events)) == ("ERROR", "m", 1)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "raw"])
def test_compressed_bodies(wire: Wire, experiment: str, encoding: str) -> None:
    trace = some_id()
    body = request({"trace": trace, "id": "01" * 8}).SerializeToString()
    raw = zlib.compressobj(wbits=-15)
    packed = {"gzip": gzip.compress(body), "deflate": zlib.compress(body), "raw": raw.compress(body) + raw.flush()}
    name = "deflate" if encoding == "raw" else encoding
    assert send(wire, experiment, packed[encoding], Content_Encoding=name).status == 200
    assert len(read(wire, trace)["spans"]) == 1
    assert send(wire, experiment, body, Content_Encoding=name).status == 400
    assert send(wire, experiment, packed[encoding][:-9], Content_Encoding=name).status == 400
    assert send(wire, experiment, body, Content_Encoding="br").status == 400


def test_spans_of_many_traces_in_one_body_and_of_one_trace_in_many(wire: Wire, experiment: str) -> None:
    ids = [some_id() for _ in range(50)]
    run = wire.run(experiment)
    spans = [{"trace": id, "id": f"{n + 1:016x}"} for id in ids for n in range(3)]
    assert send(wire, experiment, request(*spans).SerializeToString(), x_mlflow_run_id=run).status == 200
    place = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment}}
    found = wire.post(f"{V3}/search", locations=[place], filter=f"run_id = '{run}'", max_results=100)["traces"]
    assert {one["trace_id"] for one in found} == {f"tr-{id}" for id in ids}
    for n in range(20):
        body = request({"trace": ids[0], "id": f"{n + 100:016x}", "parent": f"{1:016x}"}).SerializeToString()
        assert send(wire, experiment, body).status == 200
    assert len(read(wire, ids[0])["spans"]) == 23
    batch = wire.get(f"{V3}/batchGet", trace_ids=[f"tr-{id}" for id in ids[:3]] + ["tr-nowhere"])["traces"]
    assert [len(one["spans"]) for one in batch] == [23, 3, 3]


def test_what_is_refused(wire: Wire, experiment: str) -> None:
    good = request({"id": "01" * 8}).SerializeToString()
    assert wire.call("POST", AT, good, Content_Type=PROTOBUF).status in (400, 422)
    assert send(wire, experiment, good, "text/plain").status == 400
    assert send(wire, "999999", good).status == 404
    for body in (
        b"",
        b"\xff",
        good[:-3],
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x0b\x0c",
        b"nonsense",
    ):
        assert send(wire, experiment, body).status in (400, 422), body
    for wrong in ({"id": "01"}, {"id": ""}, {"id": "01" * 8, "trace": "ab"}, {"id": "01" * 8, "trace": ""}):
        if "trace" in wrong or wrong["id"] == "":
            assert send(wire, experiment, request(wrong).SerializeToString()).status in (400, 422, 200), wrong
    for text in ("", "{", "[]", '{"resourceSpans": 1}', '{"resourceSpans": [1]}', "{}",
                 '{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "zz"}]}]}]}'):  # fmt: skip
        assert send(wire, experiment, text.encode(), "application/json").status in (400, 422), text


@pytest.mark.ours
def test_hostile_bodies_are_refused_within_bounds(wire: Wire, experiment: str) -> None:
    bomb = zlib.compressobj(9, wbits=31)
    packed = b"".join(bomb.compress(bytes(1 << 20)) for _ in range(200)) + bomb.flush()
    assert send(wire, experiment, packed, Content_Encoding="gzip").status == 413
    inner = b""
    for _ in range(2_000):  # a list in a list in a list
        inner = b"\x2a" + varint(len(b"\x0a" + varint(len(inner)) + inner)) + b"\x0a" + varint(len(inner)) + inner
    pair = b"\x0a\x01k\x12" + varint(len(inner)) + inner
    span = b"\x0a\x10" + b"a" * 16 + b"\x12\x08" + b"b" * 8 + b"\x4a" + varint(len(pair)) + pair
    scope = b"\x12" + varint(len(span)) + span
    of = b"\x12" + varint(len(scope)) + scope
    answer = send(wire, experiment, b"\x0a" + varint(len(of)) + of)
    assert answer.error[:2] == (400, "INVALID_PARAMETER_VALUE")
    deep = '{"arrayValue": {"values": [' * 2_000 + "]}}" * 2_000
    text = '{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "%s", "spanId": "%s", "attributes": [{"key": "k", "value": %s}]}]}]}]}'
    assert send(wire, experiment, (text % (TRACE, "01" * 8, deep)).encode(), "application/json").status == 400
    assert wire.call("GET", AT).status == 405


def varint(number: int) -> bytes:
    made = b""
    while number > 0x7F:
        made += bytes([number & 0x7F | 0x80])
        number >>= 7
    return made + bytes([number])


def test_bytes_of_any_kind_are_never_a_fault_of_the_server(wire: Wire, experiment: str) -> None:
    chance = random.Random(7)
    good = request(
        {"id": "01" * 8, "trace": some_id(), "attributes": {"a": [1, {"b": "c"}]}, "events": {"e": {"k": 1.5}}},
        resource={"service.name": "x"},
    ).SerializeToString()
    for _ in range(300):
        broken = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            broken[chance.randrange(len(broken))] = chance.randrange(256)
        assert send(wire, experiment, bytes(broken)).status in (200, 400, 422)
    for _ in range(100):
        assert send(wire, experiment, chance.randbytes(chance.randint(0, 60))).status in (200, 400, 422)


def test_many_senders_of_the_same_traces_lose_nothing(wire: Wire, server: str, experiment: str) -> None:
    traces = [some_id() for _ in range(6)]

    def sender(k: int) -> None:
        own = Wire(server)
        for n in range(12):
            trace = traces[(k + n) % len(traces)]
            body = request({"trace": trace, "id": f"{k * 100 + n + 1:016x}", "parent": "" if n + k == 0 else "ff" * 8})
            assert send(own, experiment, body.SerializeToString()).status == 200
            info = {
                "trace_id": f"tr-{trace}", "state": "OK", "request_time": "2026-01-02T03:04:05Z", "tags": {f"k{k}": str(n)},
                "trace_location": {"mlflow_experiment": {"experiment_id": experiment}},
            }  # fmt: skip
            own.post(V3, trace={"trace_info": info})
        own.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(sender, range(8)))
    found = [read(wire, trace) for trace in traces]
    assert sum(len(one["spans"]) for one in found) == 8 * 12
    assert all({f"k{k}" for k in range(8)} <= set(one["trace_info"]["tags"]) for one in found)
