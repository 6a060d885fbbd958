"""Whatever is sent, the answer is one of MLflow's forms and never the server's fault."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow_wire import AJAX, API, Answer, Wire, fresh

pytestmark = pytest.mark.ours  # MLflow's own server answers 500 to much of this
TIMES = int(os.environ.get("NORIA_TEST_FUZZ", "1"))
"""How many times as much is tried."""
DATABASES = ("sqlite", "postgres")
CODES = {
    400: {"BAD_REQUEST", "INVALID_PARAMETER_VALUE", "RESOURCE_ALREADY_EXISTS"},
    403: {"PERMISSION_DENIED"},
    404: {"NOT_FOUND", "RESOURCE_DOES_NOT_EXIST", "ENDPOINT_NOT_FOUND"},
    409: {"ALREADY_EXISTS", "RESOURCE_CONFLICT", "ABORTED"},
    429: {"REQUEST_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED"},
}
POSTS = [
    "experiments/create", "experiments/delete", "experiments/restore", "experiments/update", "experiments/search",
    "experiments/set-experiment-tag", "experiments/delete-experiment-tag", "experiments/search-datasets",
    "runs/create", "runs/update", "runs/delete", "runs/restore", "runs/search", "runs/log-metric",
    "runs/log-parameter", "runs/set-tag", "runs/delete-tag", "runs/log-batch", "runs/log-inputs", "runs/outputs",
    "runs/log-model", "logged-models", "logged-models/search", "registered-models/create", "registered-models/rename",
    "registered-models/set-tag", "registered-models/alias", "registered-models/get-latest-versions",
    "model-versions/create", "model-versions/set-tag", "model-versions/transition-stage", "webhooks",
    "artifacts/presigned-upload-url", "artifacts/presigned-download-url", "traces", "traces/delete-traces",
]  # fmt: skip
GETS = [
    "experiments/get", "experiments/get-by-name", "experiments/search", "runs/get", "metrics/get-history",
    "metrics/get-history-bulk-interval", "metrics/get-history-bulk", "artifacts/list", "registered-models/get",
    "registered-models/search", "registered-models/alias", "model-versions/get", "model-versions/search",
    "model-versions/get-download-uri", "logged-models/m-1", "logged-models/m-1/artifacts/directories", "traces",
    "webhooks", "webhooks/w-1", "traces/tr-1/info",
]  # fmt: skip
V3_POSTS = [
    "traces", "traces/search", "traces/delete-traces", "traces/batchGetInfos", "traces/metrics", "datasets/create",
    "datasets/search", "issues", "issues/search", "scorers/register", "review-queues/create", "label-schemas/create",
    "prompt-optimization/jobs", "gateway/secrets/create", "workspaces", "traces/calculate-filter-correlation",
    "traces/tr-1/assessments", "datasets/d-1/records",
]  # fmt: skip
V3_GETS = ["traces/tr-1", "traces/get", "traces/batchGet", "scorers/list", "gateway/endpoints/list", "server-info"]
OTHER = [
    "/health", "/version", "/get-artifact", "/model-versions/get-artifact", "/ajax-api/2.0/mlflow/upload-artifact",
    "/api/2.0/mlflow-artifacts/artifacts", "/api/2.0/mlflow-artifacts/artifacts/1/x/artifacts/a.txt",
    "/api/2.0/mlflow-artifacts/mpu/create/a", "/graphql", "/v1/traces", "/ajax-api/3.0/mlflow/get-trace-artifact",
]  # fmt: skip
FIELDS = [
    "name", "new_name", "experiment_id", "experiment_ids", "experiment_name", "run_id", "run_uuid", "run_ids", "key",
    "value", "timestamp", "step", "metrics", "params", "tags", "datasets", "models", "max_results", "page_token",
    "filter", "order_by", "view_type", "run_view_type", "status", "start_time", "end_time", "user_id", "run_name",
    "artifact_location", "metric_key", "start_step", "end_step", "path", "version", "stage", "alias", "source",
    "description", "model_id", "model_json", "model_type", "source_run_id", "request_id", "trace_id", "trace", "spans",
    "locations", "events", "url", "secret", "dataset_name", "dataset_digest", "artifact_path", "request_ids",
    "max_timestamp_millis", "experimentId", "runId", "filter_string", "archive_existing_versions",
]  # fmt: skip
ODD_TEXTS = ["", "0", "1", "-1", "1e999", "NaN", "a//b", "../../etc/passwd", "%00", "\x00", "\ud800", "é" * 300, "x" * 7000,
             "' OR 1=1 --", "9" * 40, "{}", "FINISHED", "mlflow.runName", "metrics.m > 1", "tags.`", "e30=", "m DESC",
             "models:/x/1", "runs:/x/y", "file:///etc/passwd", "s3://a/b", "http://127.0.0.1:1/", "mlflow-artifacts:/x"]  # fmt: skip
ODD_NUMBERS = [
    0,
    1,
    -1,
    2**31,
    2**63 - 1,
    2**63,
    -(2**63),
    -(2**63) - 1,
    10**40,
    1.5,
    1e308,
    float("nan"),
    float("inf"),
]


def values() -> st.SearchStrategy[Any]:
    texts = st.sampled_from(ODD_TEXTS) | st.text(max_size=20) | st.sampled_from(["RUN", "EXP"])
    plain = st.none() | st.booleans() | st.sampled_from(ODD_NUMBERS) | st.integers() | st.floats() | texts
    keyed = st.dictionaries(st.sampled_from(["key", "value", "timestamp", "step", "dataset", "tags", "name"]), plain)
    return st.recursive(
        plain | keyed,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
        max_leaves=12,
    )


def bodies() -> st.SearchStrategy[Any]:
    return st.dictionaries(st.sampled_from(FIELDS), values(), max_size=7)


def filled(value: Any, made: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {k: filled(v, made) for k, v in value.items()}
    if isinstance(value, list):
        return [filled(v, made) for v in value]
    return made.get(value, value) if isinstance(value, str) else value


def well(found: Answer) -> None:
    """An answer of the protocol: what was asked, or a refusal that says why."""
    assert found.status < 500 or (found.status == 501 and found.error[1] == "NOT_IMPLEMENTED"), found.body[:2000]
    if found.status >= 400 and found.headers.get("content-type", "").startswith("application/json") and found.body:
        value = found.json
        if "error_code" in value:
            assert value["error_code"] in CODES.get(found.status, {value["error_code"]}), value
            assert isinstance(value["message"], str)
            assert value["message"]
            assert "Traceback" not in value["message"]
            assert "sqlite" not in value["message"].lower()
            assert "psycopg" not in value["message"].lower()


@settings(max_examples=100 * TIMES)
@given(path=st.sampled_from(POSTS), prefix=st.sampled_from([API, AJAX]), body=bodies(), given_ids=st.booleans())
def test_wild_values_in_the_right_fields(place: Any, path: str, prefix: str, body: dict, given_ids: bool) -> None:
    wire, made = place
    if given_ids:
        body = {**body, "run_id": made["RUN"], "experiment_id": made["EXP"]}
    well(wire.call("POST", prefix + path, filled(body, made)))


@settings(max_examples=60 * TIMES)
@given(path=st.sampled_from(GETS), prefix=st.sampled_from([API, AJAX]), data=st.data())
def test_wild_values_in_a_query(place: Any, path: str, prefix: str, data: st.DataObject) -> None:
    wire, made = place
    texts = st.sampled_from([*ODD_TEXTS, *made.values()]) | st.text(max_size=20) | st.integers().map(str)
    query = data.draw(st.dictionaries(st.sampled_from(FIELDS), texts | st.lists(texts, max_size=3), max_size=5))
    query = {k: [t.encode("utf-8", "replace") for t in ([v] if isinstance(v, str) else v)] for k, v in query.items()}
    if data.draw(st.booleans()):
        query |= {"run_id": [made["RUN"].encode()], "metric_key": [b"m"]}
    well(wire.call("GET", prefix + path + "?" + urlencode(query, doseq=True)))


@settings(max_examples=40 * TIMES)
@given(
    path=st.sampled_from(V3_POSTS), body=bodies(), prefix=st.sampled_from(["/api/3.0/mlflow/", "/ajax-api/3.0/mlflow/"])
)
def test_wild_values_in_the_third_version(place: Any, path: str, body: dict, prefix: str) -> None:
    wire, made = place
    well(wire.call("POST", prefix + path, filled(body, made)))


@settings(max_examples=60 * TIMES)
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]),
    path=st.one_of(
        st.sampled_from(POSTS + GETS).map(lambda p: API + p),
        st.sampled_from(POSTS + GETS).map(lambda p: AJAX + p),
        st.sampled_from(V3_POSTS + V3_GETS).map(lambda p: "/api/3.0/mlflow/" + p),
        st.sampled_from(OTHER),
        st.tuples(st.sampled_from([API, AJAX, "/api/2.0/mlflow-artifacts/artifacts/"]), st.text(max_size=12)).map("".join),
        st.lists(st.sampled_from(["..", ".", "runs", "get", "%2e%2e", "%00", "a b", "é", "", "mlflow"]), max_size=5).map(
            lambda parts: API + "/".join(parts)
        ),
    ),
    body=st.none() | st.binary(max_size=40) | values(),
)  # fmt: skip
def test_any_method_and_path(place: Any, method: str, path: str, body: Any) -> None:
    wire, made = place
    target = quote(path.encode("utf-8", "replace"), safe="/%")
    sent = body if body is None or isinstance(body, bytes) else json.dumps(filled(body, made)).encode()
    well(wire.call(method, target, sent))


TAGS = [{"key": "k", "value": "v"}]
INFO = {
    "trace_id": "tr-1", "request_time": "2026-11-26T02:33:13.955Z", "execution_duration": "0.071s", "state": "OK",
    "trace_location": {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "EXP"}},
    "trace_metadata": {"a": "b"}, "tags": {"mlflow.traceName": "f"}, "request_preview": "x", "response_preview": "y",
}  # fmt: skip
ASSESSED = {
    "assessment_name": "ok", "trace_id": "tr-1", "source": {"source_type": "CODE", "source_id": "default"},
    "create_time": "2026-11-26T02:33:14.254Z", "feedback": {"value": True}, "rationale": "r", "valid": True,
}  # fmt: skip
WHERE = [{"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "EXP"}}]
ONE_INPUT = {
    "tags": TAGS,
    "dataset": {"name": "d", "digest": "x", "source_type": "local", "source": "s", "schema": "{}"},
}
POINT = {"key": "m", "value": 0.5, "timestamp": 5, "step": 1}
OF_MODEL = {**POINT, "model_id": "m-1", "dataset_name": "d", "dataset_digest": "x"}
MODEL_TOLD = '{"run_id": "r", "artifact_path": "a", "flavors": {"f": {}}, "utc_time_created": "2020-01-01 00:00:00"}'
HISTORY = {"key": "mlflow.log-model.history", "value": '[{"artifact_path": "a"}]'}
RIGHT: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "2.0/mlflow/experiments/create", {"name": "NEW", "artifact_location": "s3://a/b", "tags": TAGS}),
    ("POST", "2.0/mlflow/experiments/search", {"max_results": 3, "filter": "name != 'x'", "order_by": ["name"], "view_type": "ALL"}),
    ("POST", "2.0/mlflow/experiments/set-experiment-tag", {"experiment_id": "EXP", "key": "k", "value": "v"}),
    ("POST", "2.0/mlflow/experiments/update", {"experiment_id": "EXP", "new_name": "NEW"}),
    ("POST", "2.0/mlflow/experiments/search-datasets", {"experiment_ids": ["EXP"]}),
    ("POST", "2.0/mlflow/runs/create", {"experiment_id": "EXP", "start_time": 5, "run_name": "r", "user_id": "u", "tags": TAGS}),
    ("POST", "2.0/mlflow/runs/update", {"run_id": "RUN", "status": "FINISHED", "end_time": 7, "run_name": "r"}),
    ("POST", "2.0/mlflow/runs/log-metric", {"run_id": "RUN", **OF_MODEL}),
    ("POST", "2.0/mlflow/runs/log-batch", {"run_id": "RUN", "metrics": [POINT, OF_MODEL], "params": TAGS, "tags": TAGS}),
    ("POST", "2.0/mlflow/runs/log-inputs", {"run_id": "RUN", "datasets": [ONE_INPUT], "models": [{"model_id": "m-1"}]}),
    ("POST", "2.0/mlflow/runs/outputs", {"run_id": "RUN", "models": [{"model_id": "m-1", "step": 1}]}),
    (
        "POST", "2.0/mlflow/runs/search",
        {"experiment_ids": ["EXP"], "filter": "metrics.m > 0", "order_by": ["tags.k"], "max_results": 2, "run_view_type": "ALL"},
    ),
    ("GET", "2.0/mlflow/metrics/get-history", {"run_id": "RUN", "metric_key": "m", "max_results": 5}),
    (
        "GET", "2.0/mlflow/metrics/get-history-bulk-interval",
        {"run_ids": ["RUN"], "metric_key": "m", "start_step": 0, "end_step": 5, "max_results": 3},
    ),
    ("GET", "2.0/mlflow/metrics/get-history-bulk", {"run_id": ["RUN"], "metric_key": "m", "max_results": 3}),
    ("GET", "2.0/mlflow/artifacts/list", {"run_id": "RUN", "path": "a/b", "page_token": ""}),
    ("GET", "2.0/mlflow-artifacts/artifacts", {"path": "FOLDER"}),
    ("POST", "2.0/mlflow/registered-models/create", {"name": "NEW", "tags": TAGS, "description": "d"}),
    ("POST", "2.0/mlflow/registered-models/set-tag", {"name": "MODEL", "key": "k", "value": "v"}),
    ("POST", "2.0/mlflow/registered-models/alias", {"name": "MODEL", "alias": "a", "version": "1"}),
    ("PATCH", "2.0/mlflow/registered-models/update", {"name": "MODEL", "description": "d"}),
    ("GET", "2.0/mlflow/registered-models/search", {"filter": "name != 'x'", "max_results": 3, "order_by": ["name"]}),
    ("POST", "2.0/mlflow/registered-models/get-latest-versions", {"name": "MODEL", "stages": ["None"]}),
    (
        "POST", "2.0/mlflow/model-versions/create",
        {"name": "MODEL", "source": "SOURCE", "run_id": "RUN", "tags": TAGS, "description": "d", "run_link": ""},
    ),
    ("POST", "2.0/mlflow/model-versions/transition-stage", {"name": "MODEL", "version": "1", "stage": "Staging", "archive_existing_versions": True}),
    ("PATCH", "2.0/mlflow/model-versions/update", {"name": "MODEL", "version": "1", "description": "d"}),
    ("POST", "2.0/mlflow/model-versions/set-tag", {"name": "MODEL", "version": "1", "key": "k", "value": "v"}),
    ("GET", "2.0/mlflow/model-versions/search", {"filter": "name = 'MODEL'", "max_results": 3, "order_by": ["version_number"]}),
    (
        "POST", "2.0/mlflow/logged-models",
        {"experiment_id": "EXP", "name": "n", "source_run_id": "RUN", "params": TAGS, "tags": TAGS, "model_type": "t"},
    ),
    ("PATCH", "2.0/mlflow/logged-models/m-1", {"model_id": "m-1", "status": "LOGGED_MODEL_READY"}),
    ("PATCH", "2.0/mlflow/logged-models/m-1/tags", {"tags": TAGS}),
    ("POST", "2.0/mlflow/logged-models/m-1/params", {"params": TAGS}),
    (
        "POST", "2.0/mlflow/logged-models/search",
        {
            "experiment_ids": ["EXP"], "filter": "metrics.m > 0", "max_results": 3, "datasets": [{"dataset_name": "d"}],
            "order_by": [{"field_name": "metrics.m", "ascending": False, "dataset_name": "d", "dataset_digest": "x"}],
        },
    ),
    ("POST", "2.0/mlflow/webhooks", {"name": "w", "url": "https://example.org/x", "events": [{"entity": "MODEL_VERSION", "action": "CREATED"}], "secret": "s", "status": "ACTIVE"}),
    ("POST", "3.0/mlflow/traces", {"trace": {"trace_info": INFO}}),
    ("POST", "3.0/mlflow/traces/search", {"locations": WHERE, "filter": "status = 'OK'", "max_results": 3, "order_by": ["timestamp_ms DESC"]}),
    ("POST", "3.0/mlflow/traces/metrics", {"experiment_ids": ["EXP"], "view_type": "TRACES", "metric_name": "latency", "aggregations": [{"aggregation_type": "PERCENTILE", "percentile_value": 50.5}], "dimensions": ["trace_name"], "filters": ["trace.status = 'OK'"], "time_interval_seconds": 60, "start_time_ms": 0, "end_time_ms": 5, "max_results": 3}),
    ("POST", "3.0/mlflow/traces/tr-1/assessments", {"assessment": ASSESSED}),
    ("PATCH", "3.0/mlflow/traces/tr-1/tags", {"key": "k", "value": "v"}),
    ("POST", "3.0/mlflow/traces/delete-traces", {"experiment_id": "EXP", "max_timestamp_millis": 5, "max_traces": 3}),
    ("POST", "2.0/mlflow/traces", {"experiment_id": "EXP", "timestamp_ms": 5, "request_metadata": TAGS, "tags": TAGS}),
    ("PATCH", "2.0/mlflow/traces/tr-1", {"timestamp_ms": 5, "status": "OK", "request_metadata": TAGS, "tags": TAGS}),
    ("POST", "2.0/mlflow/runs/log-model", {"run_id": "RUN", "model_json": MODEL_TOLD}),
    ("POST", "2.0/mlflow/runs/log-parameter", {"run_id": "RUN", "key": "p", "value": "v"}),
    ("POST", "2.0/mlflow/runs/set-tag", {"run_id": "RUN", **HISTORY}),
    ("POST", "2.0/mlflow/runs/delete-tag", {"run_id": "RUN", "key": "k"}),
    ("POST", "2.0/mlflow/runs/delete", {"run_id": "RUN"}),
    ("POST", "2.0/mlflow/experiments/delete-experiment-tag", {"experiment_id": "EXP", "key": "k"}),
    ("POST", "2.0/mlflow/experiments/delete", {"experiment_id": "EXP"}),
    ("DELETE", "2.0/mlflow/registered-models/delete-tag", {"name": "MODEL", "key": "k"}),
    ("DELETE", "2.0/mlflow/registered-models/alias", {"name": "MODEL", "alias": "a"}),
    ("DELETE", "2.0/mlflow/registered-models/delete", {"name": "NEW"}),
    ("DELETE", "2.0/mlflow/model-versions/delete-tag", {"name": "MODEL", "version": "1", "key": "k"}),
    ("DELETE", "2.0/mlflow/model-versions/delete", {"name": "NEW", "version": "1"}),
    ("DELETE", "2.0/mlflow/logged-models/m-1/tags/k", {}),
    ("DELETE", "2.0/mlflow/logged-models/GONE", {}),
    ("DELETE", "2.0/mlflow/webhooks/GONE", {}),
    ("DELETE", "3.0/mlflow/traces/tr-1/tags", {"key": "k"}),
    ("GET", "3.0/mlflow/traces/batchGet", {"trace_ids": ["tr-1"]}),
    ("GET", "3.0/mlflow/traces/get", {"trace_id": "tr-1", "allow_partial": "true"}),
]  # fmt: skip


NEW_MODEL = ("registered-models/create", {"name": "NEW"})
HOOK = {"name": "w", "url": "https://example.org/x", "events": [{"entity": "MODEL_VERSION", "action": "CREATED"}]}
BEFORE: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "runs/delete-tag": [("runs/set-tag", {"run_id": "RUN", "key": "k", "value": "v"})],
    "experiments/delete-experiment-tag": [
        ("experiments/set-experiment-tag", {"experiment_id": "EXP", "key": "k", "value": "v"})
    ],
    "registered-models/delete-tag": [("registered-models/set-tag", {"name": "MODEL", "key": "k", "value": "v"})],
    "registered-models/alias": [("registered-models/alias", {"name": "MODEL", "alias": "a", "version": "1"})],
    "registered-models/delete": [NEW_MODEL],
    "model-versions/delete-tag": [
        ("model-versions/set-tag", {"name": "MODEL", "version": "1", "key": "k", "value": "v"})
    ],
    "model-versions/delete": [NEW_MODEL, ("model-versions/create", {"name": "NEW", "source": "s3://a/b"})],
    "logged-models/m-1/tags/k": [("logged-models/m-1/tags", {"tags": TAGS})],
    "logged-models/GONE": [("logged-models", {"experiment_id": "EXP", "name": "n"})],
    "webhooks/GONE": [("webhooks", HOOK)],
    "traces/tr-1/tags": [("/api/3.0/mlflow/traces/tr-1/tags", {"key": "k", "value": "v"})],
}
"""What has to be there for a DELETE, or for a call that says ``delete``, to take it away."""


def prepared(wire: Wire, path: str, made: dict[str, str]) -> dict[str, str]:
    """Makes what a call takes away; the ids with its own."""
    for what, id in (("experiments", {"experiment_id": made["EXP"]}), ("runs", {"run_id": made["RUN"]})):
        wire.call("POST", f"{what}/restore", id)  # another call may have deleted it
    made = {**made, "NEW": fresh()}
    for target, body in BEFORE.get(path.partition("/mlflow/")[2], ()):
        method = "PATCH" if target.endswith("/tags") else "POST"
        found = wire.call(method, at(target, made), filled(copy.deepcopy(body), made)).json
        made["GONE"] = found.get("model", {}).get("info", {}).get("model_id") or found.get("webhook", {}).get(
            "webhook_id", ""
        )
    return made


Place = tuple[Wire, dict[str, str]]


def stand(wire: Wire) -> dict[str, str]:
    """Ids of what is there: an experiment, a run, models, a trace."""
    experiment = wire.experiment()
    run = wire.run(experiment)
    model = fresh("model")
    wire.post("registered-models/create", name=model)
    source = wire.get("runs/get", run_id=run)["run"]["info"]["artifact_uri"] + "/model"
    wire.post("model-versions/create", name=model, source=source, run_id=run)
    logged = wire.post("logged-models", experiment_id=experiment, name="n", source_run_id=run)["model"]["info"]
    trace = fresh("tr")
    made = {"EXP": experiment, "RUN": run, "MODEL": model, "m-1": logged["model_id"], "tr-1": trace, "SOURCE": source}
    made["FOLDER"] = f"{experiment}/{run}/artifacts"
    wire.post("/api/3.0/mlflow/traces", trace={"trace_info": filled(INFO, made)})
    return made


@pytest.fixture(scope="module")
def place(server: str) -> Iterator[Place]:
    wire = Wire(server)
    yield wire, stand(wire)
    wire.close()


@pytest.fixture(scope="module")
def clean(server: str) -> Iterator[Place]:
    """What nothing wild comes to."""
    wire = Wire(server)
    yield wire, stand(wire)
    wire.close()


def at(path: str, made: dict[str, str]) -> str:
    return path.replace("m-1", made["m-1"]).replace("tr-1", made["tr-1"]).replace("GONE", made.get("GONE", "GONE"))


def places(value: Any) -> list[tuple[Any, Any]]:
    """Everything inside of a value: what holds it, and under which key or number."""
    inside = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    return [one for key, held in inside for one in ((value, key), *places(held))]


@settings(max_examples=120 * TIMES)
@given(right=st.sampled_from(RIGHT), ajax=st.booleans(), data=st.data())
def test_a_right_request_with_something_wild_in_it(
    place: Any, right: tuple[str, str, dict[str, Any]], ajax: bool, data: st.DataObject
) -> None:
    wire, made = place
    method, path, given_body = right
    made = prepared(wire, path, made)
    body = copy.deepcopy(given_body)
    for _ in range(data.draw(st.integers(0, 2))):
        holder, key = data.draw(st.sampled_from(places(body) or [({}, "none")]))
        what = data.draw(st.sampled_from(["wild", "wild", "wild", "gone", "twice", "in a list"]))
        if what == "wild" and key in holder if isinstance(holder, dict) else what == "wild":
            holder[key] = data.draw(values())
        elif what == "gone" and isinstance(holder, dict):
            holder.pop(key, None)
        elif what == "twice" and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        elif isinstance(holder, list) or key in holder:
            holder[key] = [holder[key]]
    body = filled(body, made)
    where = ("/ajax-api/" if ajax else "/api/") + at(path, made)
    if method != "GET":
        well(wire.call(method, where, body))
        return
    texts = [
        (k, str(v).encode("utf-8", "replace"))
        for k, held in body.items()
        for v in (held if isinstance(held, list) else [held])
    ]
    well(wire.call("GET", where + "?" + urlencode(texts)))


@pytest.mark.parametrize(("method", "path", "body"), RIGHT)
def test_the_requests_that_are_made_wild_are_right(clean: Place, method: str, path: str, body: dict[str, Any]) -> None:
    """Else they would be refused at the first look, and nothing behind it be tried."""
    wire, made = clean
    made = prepared(wire, path, made)
    given_body = filled(copy.deepcopy(body), made)
    where = "/api/" + at(path, made)
    found = wire.call(method, where, None, given_body) if method == "GET" else wire.call(method, where, given_body)
    assert found.status == 200, found.body


TOKENS = [
    "metrics.m", "params.p", "tags.t", "status", "start_time", "run_id", "dataset.name", "attributes.", "metrics.",
    "`", '"', "'", "''", "(", ")", ",", ";", "=", "!=", ">", ">=", "<", "<=", "==", "<>", "LIKE", "ILIKE", "IN",
    "NOT IN", "IS NULL", "IS NOT NULL", "AND", "OR", "NOT", "'a'", '"b"', "`c d`", "1", "-1", "1e5", ".5", "nan", "--",
    "/*", "*/", "\\", "%", "_", "\n", "\x00", "é", "('a', 'b')", "()", "BETWEEN", "null", "NULL", "x" * 300, "''''",
]  # fmt: skip


@settings(max_examples=100 * TIMES)
@given(
    parts=st.lists(st.sampled_from(TOKENS) | st.text(max_size=4), max_size=12),
    glue=st.sampled_from([" ", "", "  "]),
    path=st.sampled_from(["runs/search", "experiments/search", "logged-models/search"]),
    order=st.lists(st.lists(st.sampled_from([*TOKENS, "DESC", "ASC", "desc"]), max_size=4).map(" ".join), max_size=2),
)
def test_any_filter_and_order(place: Any, parts: list[str], glue: str, path: str, order: list[str]) -> None:
    wire, made = place
    body = {"experiment_ids": [made["EXP"]], "filter": glue.join(parts), "max_results": 5}
    well(wire.call("POST", path, {**body, "order_by": order} if path != "logged-models/search" else body))


@given(
    token=st.binary(max_size=60) | st.sampled_from([b"e30=", b"W10=", b"MQ==", b"eyJvZmZzZXQiOiAxfQ=="]),
    size=st.integers(1, 5),
)
def test_any_page_token(place: Any, token: bytes, size: int) -> None:
    wire, made = place
    text = token.decode("latin-1")
    for path in ("runs/search", "experiments/search"):
        well(wire.call("POST", path, {"experiment_ids": [made["EXP"]], "page_token": text, "max_results": size}))
    query = {"run_id": made["RUN"], "metric_key": "m", "max_results": size, "page_token": text}
    well(wire.call("GET", "metrics/get-history", None, query))


@given(
    data=st.binary(max_size=200), path=st.sampled_from(["runs/log-metric", "runs/log-batch", "runs/search", "runs/get"])
)
def test_any_bytes_as_a_body(place: Any, data: bytes, path: str) -> None:
    well(place[0].call("POST", path, data))


def test_the_server_is_well_after_all_that(place: Any) -> None:
    wire = place[0]
    run = wire.run(wire.experiment())
    wire.post("runs/log-metric", run_id=run, key="m", value=1, timestamp=1)
    assert wire.data(run)["metrics"] == {"m": 1.0}
