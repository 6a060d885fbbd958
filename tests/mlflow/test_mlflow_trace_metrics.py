"""Sums over traces, spans and assessments, as MLflow's own server adds them up."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from mlflow.entities import AssessmentSource

import mlflow

if TYPE_CHECKING:
    from mlflow_wire import Wire

DATABASES = ("sqlite", "postgres")
HUMAN = AssessmentSource("HUMAN", "ada")
PATH = "/api/3.0/mlflow/traces/metrics"


@pytest.fixture
def traced(fluent: Any, wire: Wire, experiment: str) -> Any:
    """What sums are asked of: five traces, of which one failed and one was overridden in judgement."""
    ids: list[str] = []
    for n in range(5):
        with mlflow.start_span("even" if n % 2 == 0 else "odd", "CHAIN") as root:
            mlflow.update_current_trace(tags={"n": str(n)}, metadata={"mlflow.trace.session": f"s{n // 2}"})
            with mlflow.start_span("call", "LLM") as inner:
                usage = {"input_tokens": n, "output_tokens": 10, "total_tokens": n + 10}
                inner.set_attribute("mlflow.chat.tokenUsage", usage)
            if n == 3:
                root.set_status("ERROR")
        ids.append(root.trace_id)
    mlflow.flush_trace_async_logging()
    for n, id in enumerate(ids):
        one = mlflow.log_feedback(trace_id=id, name="good", value=n >= 2, source=HUMAN)
        mlflow.log_feedback(trace_id=id, name="points", value=float(n), source=HUMAN)
    mlflow.override_feedback(trace_id=ids[4], assessment_id=one.assessment_id, value=False, source=HUMAN)

    def asked(view: str, name: str, *kinds: Any, **more: Any) -> list[tuple[dict[str, str], dict[str, float]]]:
        wanted = [
            {"aggregation_type": k} if isinstance(k, str) else {"aggregation_type": "PERCENTILE", "percentile_value": k}
            for k in kinds
        ]
        body = {"experiment_ids": [experiment], "view_type": view, "metric_name": name, "aggregations": wanted, **more}
        points = wire.call("POST", PATH, body).json.get("data_points", [])
        return [(one.get("dimensions", {}), one["values"]) for one in points]

    return asked


def test_traces_are_counted_by_name_state_and_session(traced: Any) -> None:
    assert traced("TRACES", "trace_count", "COUNT") == [({}, {"COUNT": 5})]
    assert traced("TRACES", "trace_count", "COUNT", dimensions=["trace_name", "trace_status"]) == [
        ({"trace_name": "even", "trace_status": "OK"}, {"COUNT": 3}),
        ({"trace_name": "odd", "trace_status": "ERROR"}, {"COUNT": 1}),
        ({"trace_name": "odd", "trace_status": "OK"}, {"COUNT": 1}),
    ]
    assert traced("TRACES", "session_count", "COUNT") == [({}, {"COUNT": 3})]
    for text, count in (
        ("trace.status = 'ERROR'", 1),
        ("trace.tag.n = '2'", 1),
        ('trace.tag.`mlflow.traceName` = "even"', 3),
        ("trace.metadata.`mlflow.trace.session` = 's0'", 2),
        ("trace.tag.n = 'x'", 0),
    ):
        assert traced("TRACES", "trace_count", "COUNT", filters=[text]) == [({}, {"COUNT": count})], text


def test_tokens_are_added_and_spread(traced: Any) -> None:
    ((_, found),) = traced("TRACES", "input_tokens", "SUM", "AVG", "MIN", "MAX", 50, 90)
    assert found == pytest.approx({"SUM": 10, "AVG": 2, "MIN": 0, "MAX": 4, "P50.0": 2, "P90.0": 3.6})
    assert traced("TRACES", "total_tokens", "SUM", dimensions=["trace_name"]) == [
        ({"trace_name": "even"}, {"SUM": 36}), ({"trace_name": "odd"}, {"SUM": 24})
    ]  # fmt: skip
    ((_, found),) = traced("TRACES", "latency", "MIN", "MAX")
    assert 0 <= found["MIN"] <= found["MAX"]
    assert traced("TRACES", "cache_read_input_tokens", "SUM") == []


def test_spans_and_assessments(traced: Any) -> None:
    assert traced("SPANS", "span_count", "COUNT", dimensions=["span_type"]) == [
        ({"span_type": "CHAIN"}, {"COUNT": 5}), ({"span_type": "LLM"}, {"COUNT": 5})
    ]  # fmt: skip
    assert traced("SPANS", "span_count", "COUNT", filters=["span.name = 'call'", "trace.tag.n = '1'"]) == [
        ({}, {"COUNT": 1})
    ]
    assert traced("SPANS", "span_count", "COUNT", dimensions=["span_status"], filters=["span.status = 'ERROR'"]) == [
        ({"span_status": "ERROR"}, {"COUNT": 1})
    ]
    assert traced("SPANS", "total_cost", "SUM") == []
    assert traced("ASSESSMENTS", "assessment_count", "COUNT", dimensions=["assessment_name", "assessment_value"])[
        :2
    ] == [
        ({"assessment_name": "good", "assessment_value": "false"}, {"COUNT": 3}),
        ({"assessment_name": "good", "assessment_value": "true"}, {"COUNT": 2}),
    ]
    assert traced("ASSESSMENTS", "assessment_value", "AVG", dimensions=["assessment_name"]) == [
        ({"assessment_name": "good"}, {"AVG": pytest.approx(0.4)}), ({"assessment_name": "points"}, {"AVG": 2.0})
    ]  # fmt: skip
    assert traced("ASSESSMENTS", "assessment_count", "COUNT", filters=["assessment.name = 'points'"]) == [
        ({}, {"COUNT": 5})
    ]


def test_by_time(traced: Any) -> None:
    now = int(time.time() * 1_000)
    frame = {"start_time_ms": now - 3_600_000, "end_time_ms": now + 3_600_000}
    found = traced("TRACES", "trace_count", "COUNT", time_interval_seconds=3_600, **frame)
    assert sum(values["COUNT"] for _, values in found) == 5
    assert all(said["time_bucket"].endswith(":00:00+00:00") for said, _ in found)
    assert traced("TRACES", "trace_count", "COUNT", start_time_ms=now + 3_600_000) == [({}, {"COUNT": 0})]
    assert traced("SPANS", "span_count", "COUNT", end_time_ms=1) == [({}, {"COUNT": 0})]
    assert len(traced("TRACES", "trace_count", "COUNT", dimensions=["trace_name"], max_results=1)) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"experiment_ids": []}, {"view_type": "RUNS"}, {"metric_name": "span_count"}, {"aggregations": []},
        {"aggregations": [{"aggregation_type": "SUM"}]}, {"aggregations": [{"aggregation_type": "MEDIAN"}]},
        {"metric_name": "latency", "aggregations": [{"aggregation_type": "PERCENTILE", "percentile_value": 101}]},
        {"dimensions": ["span_name"]}, {"filters": ["trace.status != 'OK'"]}, {"filters": ["trace.tag = 'x'"]},
        {"filters": ["span.name = 'x'"]}, {"filters": ["status = 'OK'"]}, {"filters": ["trace.status.x = 'OK'"]},
        {"filters": ["trace.status = 'OK' AND trace.tag.n = '1'"]}, {"time_interval_seconds": 60},
    ],
)  # fmt: skip
@pytest.mark.ours
def test_what_is_refused(wire: Wire, experiment: str, wrong: dict[str, Any]) -> None:
    body = {
        "experiment_ids": [experiment], "view_type": "TRACES", "metric_name": "trace_count",
        "aggregations": [{"aggregation_type": "COUNT"}],
    }  # fmt: skip
    assert wire.call("POST", PATH, body).json == {
        "data_points": [{"metric_name": "trace_count", "dimensions": {}, "values": {"COUNT": 0}}]
    }
    assert wire.call("POST", PATH, {**body, **wrong}).error[:2] == (400, "INVALID_PARAMETER_VALUE")
