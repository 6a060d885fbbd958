"""Traces by the real client: told, found, read again, tagged, judged and deleted."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from mlflow.entities import SpanEvent, SpanStatusCode, SpanType, TraceData
from mlflow.entities.assessment import AssessmentSource, Feedback
from mlflow.exceptions import MlflowException
from mlflow.tracing.attachments import Attachment

import mlflow

if TYPE_CHECKING:
    from mlflow_wire import Wire

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
    assert set(tags["later"]) == {"x"}
    assert 4_000 < len(tags["later"]) <= 8_000
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


# ---- searches

WORDS = ("red", "green", "blue")


def logged(experiment: str) -> list[Any]:
    """Thirty traces that differ in what is searched, as the server has them."""
    for n in range(30):
        with mlflow.start_span(f"call {n % 3}", span_type="AGENT" if n % 2 else "CHAIN") as root:
            root.set_inputs({"question": f"what is {WORDS[n % 3]} {n}"})
            mlflow.update_current_trace(
                tags={"word": WORDS[n % 3], **({"Rare": "x"} if n % 10 == 0 else {})},
                metadata={"mlflow.trace.session": f"s{n % 4}", "mlflow.trace.user": f"u{n % 5}"},
                client_request_id=f"c{n}",
            )
            with mlflow.start_span("look up", span_type="TOOL") as span:
                span.set_attributes({"model": f"m{n % 2}", "n": n})
                if n % 6 == 0:
                    span.set_status("ERROR")
            if n % 5 == 0:
                root.set_status("ERROR")
            root.set_outputs(n)
        trace_id = mlflow.get_last_active_trace_id()
        if n % 4 == 0:
            mlflow.log_feedback(trace_id=trace_id, name="good", value=n % 8 == 0)
            mlflow.log_feedback(trace_id=trace_id, name="score", value=n / 10)
        if n % 7 == 0:
            mlflow.log_expectation(trace_id=trace_id, name="answer", value=f"text {n}")
    found = mlflow.search_traces(locations=[experiment], return_type="list", max_results=100)
    assert len(found) == 30
    return found


def values(trace: Any, name: str) -> list[Any]:
    return [one.value for one in trace.info.assessments if one.name == name]


def n_of(trace: Any) -> int:
    return trace.data.spans[0].outputs


FILTERS: list[tuple[str, Callable[[Any], bool]]] = [
    ("trace.status = 'OK'", lambda t: n_of(t) % 5 != 0),
    ("attributes.status != 'OK'", lambda t: n_of(t) % 5 == 0),
    ("status IN ('ERROR', 'IN_PROGRESS')", lambda t: n_of(t) % 5 == 0),
    ("name = 'call 1'", lambda t: n_of(t) % 3 == 1),
    ("attributes.name LIKE '%2'", lambda t: n_of(t) % 3 == 2),
    ("trace.name ILIKE 'CALL _'", lambda t: True),
    ("tags.`mlflow.traceName` = 'call 1'", lambda t: n_of(t) % 3 == 1),
    ("tags.word = 'red'", lambda t: n_of(t) % 3 == 0),
    ("tag.word != 'red'", lambda t: n_of(t) % 3 != 0),
    ("tags.Rare IS NULL", lambda t: n_of(t) % 10 != 0),
    ("tags.Rare IS NOT NULL", lambda t: n_of(t) % 10 == 0),
    ("metadata.`mlflow.trace.session` = 's1'", lambda t: n_of(t) % 4 == 1),
    ("request_metadata.`mlflow.trace.user` LIKE 'u%'", lambda t: True),
    ("client_request_id = 'c7'", lambda t: n_of(t) == 7),
    ("client_request_id IN ('c7', 'c8')", lambda t: n_of(t) in (7, 8)),
    ("timestamp_ms > 0", lambda t: True),
    ("timestamp < 5", lambda t: False),
    ("execution_time_ms >= 0", lambda t: True),
    ("run_id = '0123456789abcdef0123456789abcdef'", lambda t: False),
    ("span.name = 'look up'", lambda t: True),
    ("span.type = 'AGENT'", lambda t: n_of(t) % 2 == 1),
    ("span.status = 'ERROR'", lambda t: n_of(t) % 6 == 0 or n_of(t) % 5 == 0),
    ("span.name = 'look up' AND span.status = 'ERROR'", lambda t: n_of(t) % 6 == 0),
    ("span.name = 'look up' AND span.type = 'AGENT'", lambda t: False),
    ("span.attributes.model LIKE '%m1%'", lambda t: n_of(t) % 2 == 1),
    ("trace.text LIKE '%what is blue%'", lambda t: n_of(t) % 3 == 2),
    ("span.content ILIKE '%WHAT IS BLUE 5%'", lambda t: n_of(t) == 5),
    ("feedback.good = 'true'", lambda t: True in values(t, "good")),
    ("feedback.good != 'true'", lambda t: False in values(t, "good")),
    ("feedback.score > 1.5", lambda t: any(v > 1.5 for v in values(t, "score"))),
    ("feedback.score IS NULL", lambda t: not values(t, "score")),
    ("expectation.answer = 'text 14'", lambda t: n_of(t) == 14),
    ("expectation.answer IS NOT NULL", lambda t: n_of(t) % 7 == 0),
    ("tags.word = 'green' AND status = 'OK' AND span.type = 'AGENT' AND timestamp > 5", lambda t: n_of(t) % 3 == 1
     and n_of(t) % 5 != 0 and n_of(t) % 2 == 1),
]  # fmt: skip


def test_every_filter_finds_what_a_model_in_python_finds(tracing, experiment: str) -> None:
    known = logged(experiment)
    for text, fits in FILTERS:
        found = mlflow.search_traces(
            locations=[experiment], filter_string=text, return_type="list", include_spans=False, max_results=100
        )
        wanted = [trace.info.trace_id for trace in known if fits(trace)]
        assert [trace.info.trace_id for trace in found] == wanted, text


def test_pages_orders_and_frames(tracing, client, experiment: str) -> None:
    known = logged(experiment)
    newest = [trace.info.trace_id for trace in known]
    assert [t.info.request_time for t in known] == sorted((t.info.request_time for t in known), reverse=True)
    seen: list[str] = []
    token = None
    while True:
        page = client.search_traces(locations=[experiment], max_results=7, page_token=token)
        seen += [trace.info.trace_id for trace in page]
        token = page.token
        if not token:
            break
    assert seen == newest
    by_name = client.search_traces(locations=[experiment], order_by=["name DESC", "timestamp_ms ASC"], max_results=100)
    wanted = sorted(known, key=lambda t: t.info.request_time)
    wanted.sort(key=lambda t: t.info.tags["mlflow.traceName"], reverse=True)
    assert [t.info.tags["mlflow.traceName"] for t in by_name] == [t.info.tags["mlflow.traceName"] for t in wanted]
    assert [t.info.request_time for t in by_name] == [t.info.request_time for t in wanted]
    frame = mlflow.search_traces(locations=[experiment], max_results=3)
    assert list(frame["trace_id"]) == newest[:3]
    assert {"request", "response", "spans", "tags", "assessments"} <= set(frame.columns)


def test_what_a_search_refuses(wire: Wire, experiment: str) -> None:
    place = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment}}
    assert wire.post(f"{V3}/search", locations=[place]) == {}
    for body in (
        {},
        {"locations": [place], "max_results": 501},
        {"locations": [place], "max_results": 0},
        {"locations": [place], "filter": "what = 'x'"},
        {"locations": [place], "filter": "status = 'OK' OR status = 'ERROR'"},
        {"locations": [place], "filter": "prompt = 'no version'"},
        {"locations": [place], "order_by": ["span.name"]},
        {"locations": [place], "page_token": "x"},
        {"locations": "x"},
    ):
        status, code, _ = wire.refused(f"{V3}/search", body)
        assert (status, code) == (400, "INVALID_PARAMETER_VALUE"), body
    status, code, _ = wire.refused(f"{V3}/tr-{'0' * 32}", None, method="GET")
    assert (status, code) == (404, "RESOURCE_DOES_NOT_EXIST")


# ---- assessments


def test_feedback_and_expectations(tracing, client) -> None:
    with mlflow.start_span("s") as span:
        pass
    trace_id = span.trace_id
    human = AssessmentSource(source_type="HUMAN", source_id="ann")
    made = {
        "bool": mlflow.log_feedback(trace_id=trace_id, name="bool", value=True, source=human, rationale="so"),
        "list": mlflow.log_feedback(trace_id=trace_id, name="list", value=["a", 1], metadata={"k": "v"}),
        "dict": mlflow.log_feedback(trace_id=trace_id, name="dict", value={"a": 0.5}, span_id=span.span_id),
        "failed": mlflow.log_feedback(trace_id=trace_id, name="failed", error=ValueError("no"), source=AssessmentSource(source_type="LLM_JUDGE", source_id="judge")),
        "text": mlflow.log_expectation(trace_id=trace_id, name="text", value="wanted", source=human),
        "deep": mlflow.log_expectation(trace_id=trace_id, name="deep", value={"a": [1, {"b": None}]}),
    }  # fmt: skip
    have = {one.name: one for one in kept(trace_id).info.assessments}
    assert set(have) == set(made)
    for name, one in made.items():
        assert have[name].value == one.value, name
        assert mlflow.get_assessment(trace_id=trace_id, assessment_id=one.assessment_id) == have[name]
    assert (have["bool"].source, have["bool"].rationale, have["list"].metadata) == (human, "so", {"k": "v"})
    assert (have["dict"].span_id, have["text"].source) == (span.span_id, human)
    assert (have["failed"].error.error_code, have["failed"].error.error_message) == ("ValueError", "no")

    changed = Feedback(name="bool", value=False, source=human, rationale="not so", metadata={"m": "1"})
    mlflow.update_assessment(trace_id=trace_id, assessment_id=made["bool"].assessment_id, assessment=changed)
    found = mlflow.get_assessment(trace_id=trace_id, assessment_id=made["bool"].assessment_id)
    assert (found.value, found.rationale, found.metadata, found.source) == (False, "not so", {"m": "1"}, human)
    assert found.create_time_ms == made["bool"].create_time_ms
    assert found.last_update_time_ms >= found.create_time_ms

    mine = mlflow.override_feedback(trace_id=trace_id, assessment_id=made["list"].assessment_id, value=["b"])
    have = {one.assessment_id: one for one in kept(trace_id).info.assessments}
    assert have[made["list"].assessment_id].valid is False
    assert have[mine.assessment_id].overrides == made["list"].assessment_id
    mlflow.delete_assessment(trace_id=trace_id, assessment_id=mine.assessment_id)
    have = {one.assessment_id: one for one in kept(trace_id).info.assessments}
    assert have[made["list"].assessment_id].valid is True
    assert mine.assessment_id not in have
    mlflow.delete_assessment(trace_id=trace_id, assessment_id=mine.assessment_id)
    with pytest.raises(MlflowException, match="not found"):
        mlflow.get_assessment(trace_id=trace_id, assessment_id=mine.assessment_id)
    with pytest.raises(MlflowException, match="not found"):
        mlflow.log_feedback(trace_id="tr-" + "0" * 32, name="x", value=1)


def test_what_an_assessment_refuses(tracing, wire: Wire) -> None:
    with mlflow.start_span("s") as span:
        pass
    at = f"{V3}/{span.trace_id}/assessments"
    source = {"source_type": "HUMAN", "source_id": "ann"}
    for body in (
        {},
        {"assessment": {"assessment_name": "a", "source": source}},
        {"assessment": {"assessment_name": "a", "source": {"source_type": "CAT"}, "feedback": {"value": 1}}},
        {"assessment": {"assessment_name": "a", "source": source, "feedback": 1}},
        {"assessment": {"assessment_name": "a", "source": source, "feedback": {"value": 1}, "create_time": "never"}},
        {"assessment": {"assessment_name": "a", "source": source,
                        "expectation": {"serialized_value": {"serialization_format": "JSON_FORMAT", "value": "{"}}}},
    ):  # fmt: skip
        assert wire.refused(at, body)[0] == 400, body
    one = wire.post(at, assessment={"assessment_name": "a", "source": source, "feedback": {"value": 1}})["assessment"]
    place = f"{at}/{one['assessment_id']}"
    for body in (
        {"assessment": {"feedback": {"value": 2}}},
        {"assessment": {"expectation": {"value": 2}}, "update_mask": "expectation"},
    ):
        assert wire.refused(place, body, method="PATCH")[0] == 400, body
    changed = wire.call("PATCH", place, {"assessment": {"assessment_name": "b"}, "update_mask": "assessmentName"})
    assert changed.json["assessment"]["assessment_name"] == "b"
    assert changed.json["assessment"]["feedback"] == {"value": 1}


# ---- links, files, the end


def test_traces_are_linked_with_runs_and_prompts(tracing, wire: Wire, experiment: str) -> None:
    ids = []
    for n in range(3):
        with mlflow.start_span(f"s{n}") as span:
            ids.append(span.trace_id)
    run = wire.run(experiment)
    wire.post("traces/link-to-run", trace_ids=ids[:2], run_id=run)
    found = mlflow.search_traces(locations=[experiment], run_id=run, return_type="list")
    assert {trace.info.trace_id for trace in found} == set(ids[:2])
    wire.post("traces/link-prompts", trace_id=ids[2], prompt_versions=[{"name": "ask", "version": "2"}])
    found = mlflow.search_traces(locations=[experiment], filter_string="prompt = 'ask/2'", return_type="list")
    assert [trace.info.trace_id for trace in found] == ids[2:]
    assert wire.refused("traces/link-to-run", {"trace_ids": ["x"] * 101, "run_id": run})[0] == 400
    assert (
        wire.refused("traces/link-prompts", {"trace_id": "x", "prompt_versions": [{"name": "a", "version": "1"}]})[0]
        == 404
    )


@pytest.mark.ours
def test_what_mlflow_takes_and_nobody_finds_again(tracing, wire: Wire) -> None:
    with mlflow.start_span("s") as span:
        pass
    assert wire.refused("traces/link-to-run", {"trace_ids": [span.trace_id], "run_id": "0" * 32})[0] == 404
    for name in ("", "a" * 251):
        body = {"assessment": {"assessment_name": name, "source": {"source_type": "HUMAN"}, "feedback": {"value": 1}}}
        assert wire.refused(f"{V3}/{span.trace_id}/assessments", body)[0] == 400


def test_traces_are_deleted(tracing, client, wire: Wire, experiment: str) -> None:
    ids = []
    for n in range(6):
        with mlflow.start_span(f"s{n}") as span:
            ids.append(span.trace_id)
    assert client.delete_traces(experiment, trace_ids=[ids[0], "tr-nowhere"]) == 1
    times = [client.get_trace(id).info.request_time for id in ids[1:]]
    assert client.delete_traces(experiment, max_timestamp_millis=max(times), max_traces=2) == 2
    assert client.delete_traces(experiment, max_timestamp_millis=1) == 0
    assert len(mlflow.search_traces(locations=[experiment], return_type="list")) == 3
    assert client.delete_traces(experiment, max_timestamp_millis=max(times)) == 3
    assert mlflow.search_traces(locations=[experiment], return_type="list") == []
    for body in (
        {"experiment_id": experiment},
        {"experiment_id": experiment, "request_ids": ["a"], "max_timestamp_millis": 5},
        {"experiment_id": experiment, "request_ids": ["a"], "max_traces": 5},
        {"experiment_id": experiment, "max_timestamp_millis": 5, "max_traces": 0},
        {"request_ids": ["a"]},
    ):
        assert wire.refused("traces/delete-traces", body)[0] == 400, body


def test_an_attachment_of_a_trace_comes_back(tracing, wire: Wire) -> None:
    with mlflow.start_span("s") as span:
        span.set_inputs({"picture": Attachment(content_type="image/png", content_bytes=b"\x89PNG" * 100)})
    value = kept(span.trace_id).data.spans[0].inputs["picture"]
    name = urlsplit(value).netloc
    found = wire.call(
        "GET", "/ajax-api/3.0/mlflow/get-trace-artifact", query={"request_id": span.trace_id, "path": name}
    )
    assert (found.status, found.body) == (200, b"\x89PNG" * 100)
    for path in ("x", "../traces.json", "a/../../x", "/etc/passwd"):
        asked = {"request_id": span.trace_id, "path": path}
        assert wire.call("GET", "/ajax-api/3.0/mlflow/get-trace-artifact", query=asked).status == 400, path


def test_the_file_of_spans_that_the_page_of_a_trace_asks_for(tracing, wire: Wire) -> None:
    with mlflow.start_span("s", attributes={"a": {"b": [1, "ü"]}}) as span:
        pass
    found = wire.call("GET", "/ajax-api/3.0/mlflow/get-trace-artifact", query={"request_id": span.trace_id})
    assert "traces.json" in found.headers["content-disposition"]
    again = TraceData.from_dict(found.json).spans[0]
    assert (again.trace_id, again.span_id, again.get_attribute("a")) == (span.trace_id, span.span_id, {"b": [1, "ü"]})
    assert wire.call("GET", "/ajax-api/3.0/mlflow/get-trace-artifact").status == 400
    assert wire.call("GET", "/ajax-api/3.0/mlflow/get-trace-artifact", query={"request_id": "x"}).status == 404


def test_a_client_that_keeps_its_spans_in_a_file(tracing, wire: Wire, experiment: str) -> None:
    """Clients before 3.4 send no spans: they upload ``traces.json`` to the place that the server names."""
    with mlflow.start_span("s") as span:
        span.set_outputs(7)
    body = kept(span.trace_id).data.to_json_bytes()
    info = {
        "trace_id": "tr-" + "1" * 32, "state": "OK", "request_time": "2026-01-02T03:04:05.678Z",
        "execution_duration": "1.5s", "trace_metadata": {"a": "b"}, "tags": {"mlflow.traceName": "old"},
        "trace_location": {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment}},
    }  # fmt: skip
    made = wire.post(V3, trace={"trace_info": info})["trace"]["trace_info"]
    assert (made["request_time"], made["execution_duration"]) == (info["request_time"], "1.500s")
    assert "mlflow.trace.spansLocation" not in made["tags"]
    place = made["tags"]["mlflow.artifactLocation"].removeprefix("mlflow-artifacts:")
    assert wire.call("PUT", f"/api/2.0/mlflow-artifacts/artifacts{place}/traces.json", body).status == 200
    again = mlflow.get_trace(info["trace_id"])
    assert (again.info.tags["mlflow.traceName"], again.data.spans[0].outputs) == ("old", 7)
    shown = wire.call("GET", "/ajax-api/3.0/mlflow/get-trace-artifact", query={"request_id": info["trace_id"]})
    assert shown.body == body


@pytest.mark.parametrize("said", ['{"num_spans": 1e999}', '{"num_spans": NaN}', "[" * 5_000, "5", "x"])
def test_a_number_of_spans_that_is_none_is_passed_over(wire: Wire, experiment: str, said: str) -> None:
    id = f"tr-{uuid.uuid4().hex}"
    place = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment}}
    info = {"trace_id": id, "trace_location": place, "request_time": "2026-01-01T00:00:00Z", "state": "OK"}
    wire.post(V3, trace={"trace_info": {**info, "trace_metadata": {"mlflow.trace.sizeStats": said}}})
    span = {"name": "s", "traceId": id[3:], "spanId": "0" * 15 + "1", "startTimeUnixNano": "5", "endTimeUnixNano": "6"}
    body = {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}
    assert wire.call("POST", "/v1/traces", body, x_mlflow_experiment_id=experiment).status == 200
    assert len(wire.get(f"{V3}/get", trace_id=id)["trace"]["spans"]) == 1


def test_clients_of_version_2_begin_and_end_a_trace(wire: Wire, experiment: str) -> None:
    pairs = [{"key": "a", "value": "b"}, {"key": "mlflow.trace.session", "value": "s"}]
    tags = [{"key": "mlflow.traceName", "value": "n"}, {"key": "t", "value": "1"}]
    begun = wire.post("traces", experiment_id=experiment, timestamp_ms=1_000, request_metadata=pairs, tags=tags)[
        "trace_info"
    ]
    assert (begun["experiment_id"], begun["timestamp_ms"], begun["status"]) == (experiment, 1_000, "IN_PROGRESS")
    id = begun["request_id"]
    ended = wire.call("PATCH", f"traces/{id}", {
        "request_id": id, "timestamp_ms": 1_250, "status": "ERROR", "request_metadata": [{"key": "c", "value": "d"}],
        "tags": [{"key": "t", "value": "2"}],
    }).json["trace_info"]  # fmt: skip
    assert (ended["execution_time_ms"], ended["status"]) == (250, "ERROR")
    wire.call("PATCH", f"traces/{id}/tags", {"key": "u", "value": "3"})
    assert wire.call("DELETE", f"traces/{id}/tags", {"key": "t"}).status == 200
    info = wire.get(f"traces/{id}/info")["trace_info"]
    assert {pair["key"]: pair["value"] for pair in info["request_metadata"]} == {
        "a": "b",
        "c": "d",
        "mlflow.trace.session": "s",
    }
    have = {tag["key"]: tag["value"] for tag in info["tags"] if tag["key"] != "mlflow.artifactLocation"}
    assert have == {"mlflow.traceName": "n", "u": "3"}
    found = wire.get("traces", experiment_ids=[experiment], filter="attributes.status = 'ERROR'", max_results=5)
    assert [one["request_id"] for one in found["traces"]] == [id]
    assert wire.refused("traces/nowhere", {"timestamp_ms": 5, "status": "OK"}, method="PATCH")[0] == 404
    assert wire.refused("traces", {"experiment_id": "999999", "timestamp_ms": 5})[0] == 404
    assert wire.call("GET", "traces").status == 400


def test_how_often_two_filters_fit_together(tracing, wire: Wire, experiment: str) -> None:
    for n in range(12):
        with mlflow.start_span("a" if n % 2 else "b"):
            mlflow.update_current_trace(tags={"k": "x" if n % 4 == 1 else "y"})
    asked = {"experiment_ids": [experiment], "filter_string1": "name = 'a'", "filter_string2": "tags.k = 'x'"}
    made = wire.post(f"{V3}/calculate-filter-correlation", **asked)
    assert (made["filter1_count"], made["filter2_count"], made["joint_count"], made["total_count"]) == (6, 3, 3, 12)
    assert made["npmi"] == pytest.approx(0.5)
    never = wire.post(f"{V3}/calculate-filter-correlation", **{**asked, "filter_string2": "name = 'b'"})
    assert never["npmi"] == -1
    assert "npmi" not in wire.post(f"{V3}/calculate-filter-correlation", **{**asked, "filter_string2": "name = 'c'"})
