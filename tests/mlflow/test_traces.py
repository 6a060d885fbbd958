"""Traces by the real client: told, found, read again, tagged, judged and deleted."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from mlflow.entities import SpanEvent, SpanStatusCode, SpanType
from mlflow.exceptions import MlflowException

import mlflow

V3 = "/api/3.0/mlflow/traces"


@pytest.fixture
def tracing(fluent: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module ``mlflow``, whose exporter was made for this test's server and sends before it goes on."""
    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_TRACE_LOGGING", "false")
    mlflow.tracing.reset()
    yield fluent
    mlflow.tracing.reset()


def kept(trace_id: str | None = None) -> Any:
    """A trace as the server has it."""
    found = mlflow.get_trace(trace_id or mlflow.get_last_active_trace_id())
    assert found is not None
    return found


def test_a_function_is_traced_with_all_that_it_calls(tracing, experiment: str) -> None:
    @mlflow.trace
    def child(x: int) -> int:
        return x + 1

    @mlflow.trace(
        span_type=SpanType.CHAIN, attributes={"k": "v", "n": 5, "f": 1.5, "l": [1, "ü", None], "d": {"a": {}}}
    )
    def top(a: int, b: str = "ü") -> dict[str, int]:
        return {"r": child(a)}

    assert top(1) == {"r": 2}
    trace = kept()
    assert trace.info.trace_location.mlflow_experiment.experiment_id == experiment
    assert trace.info.state.value == "OK"
    assert trace.info.tags["mlflow.traceName"] == "top"
    assert trace.info.tags["mlflow.trace.spansLocation"] == "TRACKING_STORE"
    assert trace.info.tags["mlflow.artifactLocation"].endswith(f"/{experiment}/traces/{trace.info.trace_id}/artifacts")
    assert (trace.info.request_preview, trace.info.response_preview) == ('{"a": 1, "b": "ü"}', '{"r": 2}')
    assert trace.info.execution_duration is not None
    root, called = trace.data.spans
    assert (root.name, root.span_type, root.parent_id) == ("top", "CHAIN", None)
    assert (root.inputs, root.outputs) == ({"a": 1, "b": "ü"}, {"r": 2})
    assert {key: root.get_attribute(key) for key in "knfld"} == {
        "k": "v", "n": 5, "f": 1.5, "l": [1, "ü", None], "d": {"a": {}},
    }  # fmt: skip
    assert (called.name, called.parent_id, called.inputs, called.outputs) == ("child", root.span_id, {"x": 1}, 2)
    assert root.start_time_ns <= called.start_time_ns <= called.end_time_ns <= root.end_time_ns
    assert root.status.status_code == SpanStatusCode.OK


def test_manual_spans_with_events_and_failures(tracing) -> None:
    with mlflow.start_span("outer") as outer:
        outer.set_inputs({"q": "why"})
        with mlflow.start_span("tool", span_type="TOOL") as span:
            span.set_attributes({"deep": {"a": [1.5, {"b": False}]}, "none": None, "big": 2**62, "neg": -5})
            span.add_event(SpanEvent("seen", attributes={"n": 3, "text": "x"}))
        with pytest.raises(ValueError, match="boo"), mlflow.start_span("bad"):
            raise ValueError("boo")
        outer.set_outputs("because")
    trace = kept()
    by_name = {span.name: span for span in trace.data.spans}
    assert set(by_name) == {"outer", "tool", "bad"}
    tool, bad = by_name["tool"], by_name["bad"]
    assert {key: tool.get_attribute(key) for key in ("deep", "none", "big", "neg")} == {
        "deep": {"a": [1.5, {"b": False}]}, "none": None, "big": 2**62, "neg": -5,
    }  # fmt: skip
    assert [(event.name, event.attributes) for event in tool.events] == [("seen", {"n": 3, "text": "x"})]
    assert bad.status.status_code == SpanStatusCode.ERROR
    assert "boo" in bad.status.description
    assert bad.events[0].attributes["exception.type"] == "ValueError"
    assert "Traceback" in bad.events[0].attributes["exception.stacktrace"]
    assert trace.info.state.value == "OK"
    assert by_name["outer"].outputs == "because"


def test_a_function_that_fails_fails_its_trace(tracing) -> None:
    @mlflow.trace
    def fails() -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        fails()
    assert kept().info.state.value == "ERROR"


def test_coroutines_generators_and_threads(tracing, experiment: str) -> None:
    @mlflow.trace
    async def leaf(n: int) -> int:
        await asyncio.sleep(0)
        return n * n

    @mlflow.trace(name="gathered")
    async def gathered() -> list[int]:
        return await asyncio.gather(*(leaf(n) for n in range(5)))

    assert asyncio.run(gathered()) == [0, 1, 4, 9, 16]
    trace = kept()
    root = trace.data.spans[0]
    assert sorted(span.outputs for span in trace.data.spans[1:]) == [0, 1, 4, 9, 16]
    assert {span.parent_id for span in trace.data.spans[1:]} == {root.span_id}

    @mlflow.trace(name="stream")
    def stream() -> Iterator[int]:
        yield from range(3)

    assert list(stream()) == [0, 1, 2]
    assert len(kept().data.spans[0].events) == 3

    @mlflow.trace(name="threaded")
    def work(n: int) -> int:
        with mlflow.start_span(f"part {n}"):
            return n

    threads = [threading.Thread(target=work, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = mlflow.search_traces(
        locations=[experiment], filter_string="trace.name = 'threaded'", return_type="list", max_results=50
    )
    assert len(found) == 20
    assert {len(trace.data.spans) for trace in found} == {2}
    assert {trace.data.spans[0].outputs for trace in found} == set(range(20))


def test_what_a_program_says_of_its_trace(tracing) -> None:
    @mlflow.trace
    def chat() -> str:
        mlflow.update_current_trace(
            tags={"team": "a", "n": 1},
            metadata={"mlflow.trace.session": "s-1", "mlflow.trace.user": "ann", "own": "x"},
            client_request_id="request-7",
        )
        return "hi"

    with mlflow.start_run() as run:
        chat()
    trace = kept()
    assert (trace.info.tags["team"], trace.info.tags["n"]) == ("a", "1")
    assert trace.info.client_request_id == "request-7"
    said = trace.info.trace_metadata
    assert (said["mlflow.trace.session"], said["mlflow.trace.user"], said["own"]) == ("s-1", "ann", "x")
    assert said["mlflow.sourceRun"] == run.info.run_id
    mlflow.set_trace_tag(trace.info.trace_id, "team", "b")
    mlflow.set_trace_tag(trace.info.trace_id, "later", "x" * 9_000)
    mlflow.delete_trace_tag(trace.info.trace_id, "n")
    tags = kept(trace.info.trace_id).info.tags
    assert tags["team"] == "b"
    assert tags["later"] == "x" * 8_000
    assert "n" not in tags
    with pytest.raises(MlflowException, match="nowhere"):
        mlflow.delete_trace_tag(trace.info.trace_id, "nowhere")
    with pytest.raises(MlflowException, match="not found"):
        mlflow.set_trace_tag("tr-" + "0" * 32, "a", "b")


def test_what_is_sent_in_the_background_arrives_whole(tracing, experiment: str, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_TRACE_LOGGING", "true")
    mlflow.tracing.reset()

    @mlflow.trace
    def outer(n: int) -> int:
        with mlflow.start_span("inner"):
            return n

    for n in range(30):
        outer(n)
    mlflow.flush_trace_async_logging()
    found = mlflow.search_traces(locations=[experiment], return_type="list", max_results=100)
    assert sorted(trace.data.spans[0].outputs for trace in found) == list(range(30))
    assert {len(trace.data.spans) for trace in found} == {2}
    assert {trace.info.state.value for trace in found} == {"OK"}
