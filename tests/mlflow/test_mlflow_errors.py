"""What the protocol refuses, and how: status, error_code, and a message that names what is wrong."""

from __future__ import annotations

from typing import Any

import pytest
from mlflow.exceptions import RestException
from mlflow_wire import AJAX, API, Wire, fresh

from mlflow import MlflowClient

NOWHERE = "0" * 32
INVALID = (400, "INVALID_PARAMETER_VALUE")
MISSING = (404, "RESOURCE_DOES_NOT_EXIST")
OURS = pytest.mark.ours
BIG = 2**63


@pytest.fixture(scope="module")
def made(server: str) -> Any:
    """Ids of an experiment and of a run in it, which nothing here changes."""
    wire = Wire(server)
    experiment = wire.experiment()
    run = wire.run(experiment)
    wire.post("runs/log-batch", run_id=run, params=[{"key": "p", "value": "1"}], tags=[{"key": "t", "value": "1"}])
    yield {"EXP": experiment, "RUN": run}
    wire.close()


def filled(value: Any, made: dict[str, str]) -> Any:
    """``value`` with the ids of what was made in it."""
    if isinstance(value, dict):
        return {k: filled(v, made) for k, v in value.items()}
    if isinstance(value, list):
        return [filled(v, made) for v in value]
    return made.get(value, value) if isinstance(value, str) else value


def case(path: str, body: dict[str, Any], words: str, kind: tuple[int, str] = INVALID, *marks: Any) -> Any:
    shown = ",".join(f"{k}={str(v)[:12]}" for k, v in body.items() if v not in ("RUN", "EXP"))
    return pytest.param(path, body, words.split(), kind, id=f"{path}-{shown}", marks=marks)


def ours(path: str, body: dict[str, Any], words: str, kind: tuple[int, str] = INVALID) -> Any:
    """MLflow's own server takes it, or answers 500."""
    return case(path, body, words, kind, OURS)


LONG = "k" * 251
POINT = {"key": "m", "value": 1, "timestamp": 1}
CREATE, UPDATE = "experiments/create", "experiments/update"
METRIC, PARAM, TAG, BATCH, INPUTS = (
    "runs/log-metric", "runs/log-parameter", "runs/set-tag", "runs/log-batch", "runs/log-inputs",
)  # fmt: skip
ETAG = "experiments/set-experiment-tag"


def points(count: int) -> list[dict[str, Any]]:
    return [{"key": "m", "value": 1, "timestamp": i} for i in range(count)]


def pairs(count: int) -> list[dict[str, Any]]:
    return [{"key": f"k{i}", "value": "1"} for i in range(count)]


POSTS = [
    # experiments
    case(CREATE, {}, "name"),
    case(CREATE, {"name": ""}, "name"),
    case(CREATE, {"name": None}, "name"),
    case(CREATE, {"name": 5}, "name"),
    case(CREATE, {"name": ["x"]}, "name"),
    case(CREATE, {"name": "n" * 501}, "name 500"),
    case(CREATE, {"name": "NEW", "tags": "x"}, "tags"),
    case(CREATE, {"name": "NEW", "tags": {}}, "tags"),
    case(CREATE, {"name": "NEW", "tags": [{"key": LONG, "value": "1"}]}, "250"),
    case(CREATE, {"name": "NEW", "tags": [{"key": "k", "value": "v" * 20_001}]}, "20000"),
    case(CREATE, {"name": "NEW", "tags": [{"key": "a//b", "value": "v"}]}, "a//b"),
    case(CREATE, {"name": "NEW", "artifact_location": 5}, "artifact_location"),
    case(CREATE, {"name": "NEW", "artifact_location": "s3://a/b#c"}, "artifact"),
    case(CREATE, {"name": "NEW", "artifact_location": "s3://b/" + "x" * 2048}, "artifact"),
    case(CREATE, {"name": "NEW", "artifact_location": "runs:/x/y"}, "artifact runs:/x/y"),
    *(ours(CREATE, {"name": "NEW", "artifact_location": at}, "artifact") for at in ("s3://a/b\tc", "s3://a\n", "here")),
    ours(CREATE, {"name": "NEW", "tags": ["x"]}, "tags"),
    ours(CREATE, {"name": "NEW", "tags": [{"key": "k", "value": 5}]}, "value"),
    ours(CREATE, {"name": "a\x00b"}, "NUL"),
    case(UPDATE, {}, "experiment_id"),
    case(UPDATE, {"experiment_id": "EXP"}, "new_name"),
    case(UPDATE, {"experiment_id": "EXP", "new_name": ""}, "new_name"),
    case(UPDATE, {"experiment_id": "EXP", "new_name": 5}, "new_name"),
    case(UPDATE, {"experiment_id": "EXP", "new_name": "n" * 501}, "name 500"),
    case(UPDATE, {"experiment_id": "9999999", "new_name": "x"}, "9999999", MISSING),
    *(
        one
        for verb in ("experiments/delete", "experiments/restore")
        for one in (
            case(verb, {}, "experiment_id"),
            case(verb, {"experiment_id": 5}, "experiment_id"),
            case(verb, {"experiment_id": "abc"}, "abc"),
            case(verb, {"experiment_id": "9999999"}, "9999999", MISSING),
            ours(verb, {"experiment_id": "9" * 25}, "9" * 25),
        )
    ),
    case(ETAG, {}, "experiment_id"),
    case(ETAG, {"experiment_id": "EXP"}, "key"),
    case(ETAG, {"experiment_id": "EXP", "key": LONG, "value": "x"}, "250"),
    case(ETAG, {"experiment_id": "EXP", "key": "k", "value": "v" * 20_001}, "20000"),
    case(ETAG, {"experiment_id": "EXP", "key": "k", "value": 5}, "value"),
    case(ETAG, {"experiment_id": "EXP", "key": "../k", "value": "v"}, "../k"),
    case(ETAG, {"experiment_id": "9999999", "key": "k", "value": "v"}, "9999999", MISSING),
    case("experiments/delete-experiment-tag", {"experiment_id": "EXP"}, "key"),
    case("experiments/delete-experiment-tag", {"experiment_id": "EXP", "key": "gone"}, "gone", MISSING),
    # runs
    case("runs/create", {"experiment_id": "9999999"}, "9999999", MISSING),
    case("runs/create", {"experiment_id": "abc"}, "abc"),
    case("runs/create", {"experiment_id": 7}, "experiment_id"),
    case("runs/create", {"experiment_id": "EXP", "start_time": "soon"}, "start_time"),
    case("runs/create", {"experiment_id": "EXP", "run_name": 5}, "run_name"),
    ours("runs/create", {"experiment_id": "EXP", "user_id": "u" * 257}, "user_id 257 256"),
    ours("runs/create", {"experiment_id": "EXP", "tags": "x"}, "tags"),
    ours("runs/create", {"experiment_id": "EXP", "tags": [{"key": LONG, "value": "v"}]}, "250"),
    ours("runs/create", {"experiment_id": "EXP", "tags": [{"key": "a//b", "value": "v"}]}, "a//b"),
    ours("runs/create", {"experiment_id": "EXP", "start_time": 1.5}, "start_time"),
    ours("runs/create", {"experiment_id": "EXP", "start_time": BIG}, "start_time"),
    *(
        one
        for verb in ("runs/delete", "runs/restore", "runs/update")
        for one in (
            case(verb, {}, "run_id"),
            case(verb, {"run_id": ""}, "run_id"),
            case(verb, {"run_id": 5}, "run_id"),
            case(verb, {"run_id": NOWHERE}, NOWHERE, MISSING),
        )
    ),
    case("runs/update", {"run_id": "RUN", "status": 99}, "status 99"),
    case("runs/update", {"run_id": "RUN", "status": []}, "status"),
    case("runs/update", {"run_id": "RUN", "end_time": "late"}, "end_time"),
    case("runs/update", {"run_id": "RUN", "run_name": 5}, "run_name"),
    ours("runs/update", {"run_id": "RUN", "status": "DONE"}, "status DONE"),
    ours("runs/update", {"run_id": "RUN", "status": "finished"}, "status finished"),
    # metrics
    case(METRIC, {**POINT}, "run_id"),
    case(METRIC, {"run_id": 5, **POINT}, "run_id"),
    case(METRIC, {"run_id": NOWHERE, **POINT}, NOWHERE, MISSING),
    case(METRIC, {"run_id": "../x", **POINT}, "../x", MISSING),
    case(METRIC, {"run_id": "RUN", "value": 1, "timestamp": 1}, "key"),
    case(METRIC, {"run_id": "RUN", "key": "m", "timestamp": 1}, "value"),
    case(METRIC, {"run_id": "RUN", "key": "m", "value": 1}, "timestamp"),
    *(case(METRIC, {"run_id": "RUN", **POINT, "key": key}, "key") for key in ("", None, 5, True, [])),
    *(
        case(METRIC, {"run_id": "RUN", **POINT, "key": key}, key)
        for key in ("a;b", "a//b", "..", "a/../b", "./a", "a/", "/a", "a\\b", "a?b", "a#b", "a%b")
        if "\\" not in key
    ),
    case(METRIC, {"run_id": "RUN", **POINT, "key": LONG}, "250"),
    *(case(METRIC, {"run_id": "RUN", **POINT, "value": v}, "value") for v in ("x", None, "", "0x1")),
    *(ours(METRIC, {"run_id": "RUN", **POINT, "value": v}, "value") for v in ([], {}, True)),
    *(case(METRIC, {"run_id": "RUN", **POINT, "timestamp": v}, "timestamp") for v in ("x", None, -1)),
    *(ours(METRIC, {"run_id": "RUN", **POINT, "timestamp": v}, "timestamp") for v in (1.5, True, [])),
    *(ours(METRIC, {"run_id": "RUN", **POINT, "timestamp": v}, "time") for v in (1e30, BIG)),
    case(METRIC, {"run_id": "RUN", **POINT, "step": "x"}, "step x"),
    *(ours(METRIC, {"run_id": "RUN", **POINT, "step": v}, "step") for v in (1.5, BIG, -BIG - 1, True, [], str(BIG))),
    # params and tags
    case(PARAM, {"run_id": "RUN", "value": "x"}, "key"),
    case(PARAM, {"run_id": NOWHERE, "key": "k", "value": "x"}, NOWHERE, MISSING),
    case(PARAM, {"run_id": "RUN", "key": LONG, "value": "x"}, "250"),
    case(PARAM, {"run_id": "RUN", "key": "../k", "value": "x"}, "../k"),
    case(PARAM, {"run_id": "RUN", "key": "a;b", "value": "x"}, "a;b"),
    *(case(PARAM, {"run_id": "RUN", "key": "k", "value": v}, "value") for v in (5, True, [])),
    case(PARAM, {"run_id": "RUN", "key": "p", "value": "2"}, "'p' '1' '2'"),
    case(TAG, {"run_id": "RUN", "value": "x"}, "key"),
    case(TAG, {"run_id": NOWHERE, "key": "k", "value": "x"}, NOWHERE, MISSING),
    case(TAG, {"run_id": "RUN", "key": LONG, "value": "x"}, "250"),
    case(TAG, {"run_id": "RUN", "key": "a;b", "value": "x"}, "a;b"),
    *(case(TAG, {"run_id": "RUN", "key": "k", "value": v}, "value") for v in (5, True, [])),
    case("runs/delete-tag", {"run_id": "RUN"}, "key"),
    case("runs/delete-tag", {"run_id": "RUN", "key": "gone"}, "gone", MISSING),
    case("runs/delete-tag", {"run_id": NOWHERE, "key": "t"}, NOWHERE, MISSING),
    # batches
    case(BATCH, {}, "run_id"),
    case(BATCH, {"run_id": NOWHERE}, NOWHERE, MISSING),
    case(BATCH, {"run_id": "RUN", "metrics": points(1001)}, "1000 metrics 1001"),
    case(BATCH, {"run_id": "RUN", "params": pairs(101)}, "100 params 101"),
    case(BATCH, {"run_id": "RUN", "tags": pairs(101)}, "100 tags 101"),
    case(BATCH, {"run_id": "RUN", "metrics": points(900), "params": pairs(100), "tags": pairs(1)}, "1000 1001"),
    case(BATCH, {"run_id": "RUN", "metrics": {}}, "metrics"),
    case(BATCH, {"run_id": "RUN", "params": "x"}, "params"),
    case(BATCH, {"run_id": "RUN", "tags": 5}, "tags"),
    case(BATCH, {"run_id": "RUN", "metrics": [POINT, {**POINT, "key": "a//b"}]}, "a//b"),
    case(BATCH, {"run_id": "RUN", "metrics": [{"key": "m", "timestamp": 1}]}, "metrics[0].value"),
    case(BATCH, {"run_id": "RUN", "metrics": [POINT, {"key": "m", "value": 1}]}, "metrics[1].timestamp"),
    case(BATCH, {"run_id": "RUN", "metrics": [{"value": 1, "timestamp": 1}]}, "metrics[0].key"),
    case(BATCH, {"run_id": "RUN", "params": [*pairs(2), {"value": "1"}]}, "params[2]"),
    case(BATCH, {"run_id": "RUN", "tags": [*pairs(2), {"value": "1"}]}, "tags[2]"),
    case(BATCH, {"run_id": "RUN", "params": [*pairs(1), *pairs(1)]}, "k0"),
    ours(BATCH, {"run_id": "RUN", "tags": ["x"]}, "tags"),
    ours(BATCH, {"run_id": "RUN", "metrics": [{**POINT, "value": "one"}]}, "value"),
    ours(BATCH, {"run_id": "RUN", "metrics": [{**POINT, "step": BIG}]}, "step"),
    # inputs
    case(INPUTS, {"datasets": []}, "run_id"),
    case(INPUTS, {"run_id": "RUN", "datasets": "x"}, "datasets"),
    ours(INPUTS, {"run_id": "RUN", "datasets": [{}] * 1_001}, "1000 1001"),
    case(INPUTS, {"run_id": NOWHERE, "datasets": []}, NOWHERE, MISSING),
    ours(INPUTS, {"run_id": "RUN", "datasets": ["x"]}, "datasets"),
    ours(INPUTS, {"run_id": "RUN", "datasets": [{}]}, "dataset"),
    # searches
    *(case("runs/search", {"experiment_ids": ["EXP"], "max_results": v}, "max_results") for v in (0, -1, 50_001, "x")),
    *(ours("runs/search", {"experiment_ids": ["EXP"], "max_results": v}, "max_results") for v in (1.5, [], True)),
    *(case("runs/search", {"experiment_ids": ["EXP"], "page_token": v}, "token") for v in ("x", "e30=", "x" * 999)),
    ours("runs/search", {"experiment_ids": ["EXP"], "page_token": "é"}, "token"),
    ours("runs/search", {"experiment_ids": ["EXP"], "page_token": "eyJvZmZzZXQiOiAtMX0="}, "token"),
    ours("runs/search", {"experiment_ids": ["EXP"], "page_token": 5}, "page_token"),
    case("runs/search", {"experiment_ids": "x"}, "experiment_ids"),
    case("runs/search", {"experiment_ids": ["abc"]}, "abc"),
    ours("runs/search", {"experiment_ids": [5]}, "experiment_ids"),
    case("runs/search", {"experiment_ids": ["EXP"], "filter": 5}, "filter"),
    case("runs/search", {"experiment_ids": ["EXP"], "order_by": "start_time"}, "order_by"),
    case("runs/search", {"experiment_ids": ["EXP"], "order_by": [5]}, "order_by"),
    ours("runs/search", {"experiment_ids": ["EXP"], "run_view_type": "SOME"}, "view_type SOME"),
    ours("runs/search", {"experiment_ids": ["EXP"], "run_view_type": 9}, "view_type 9"),
    *(
        case("runs/search", {"experiment_ids": ["EXP"], "order_by": [text]}, word)
        for text, word in {
            "metrics.m up": "up",
            "metrics.m desc desc": "desc",
            "nope": "nope",
            "nope.x": "nope",
            "dataset.name": "dataset",
            "metrics.m, start_time": "metrics.m,",
            ";": ";",
            "lifecycle_stage": "lifecycle_stage",
            "metrics.m = 1": "metrics.m",
            "metrics.m DESC NULLS FIRST": "NULLS",
            "'": "'",
            "metrics.a b": "metrics.a",
        }.items()
    ),
    ours("runs/search", {"experiment_ids": ["EXP"], "order_by": ["metrics.m", "metric.m desc"]}, "order_by"),
    *(case("experiments/search", {"max_results": v}, "max_results") for v in (0, -1, 50_001, "x")),
    case("experiments/search", {"max_results": 5, "page_token": "x"}, "token"),
    case("experiments/search", {"max_results": 5, "order_by": "name"}, "order_by"),
    case("experiments/search", {"max_results": 5, "order_by": ["nope"]}, "nope"),
    case("experiments/search", {"max_results": 5, "order_by": ["name up"]}, "up"),
    case("experiments/search", {"max_results": 5, "order_by": ["tags.x"]}, "tag"),
    *(
        case("experiments/search", {"max_results": 5, "filter": text}, word)
        for text, word in {
            "nope = 'x'": "nope",
            "name > 'a'": ">",
            "experiment_id LIKE '1'": "LIKE",
            "experiment_id = 'x'": "x",
            "creation_time = 'x'": "creation_time",
            "metrics.x > 1": "metrics",
            "name IN ('a')": "in",
            "name = 'a' OR name = 'b'": "OR",
            "name = 5": "5",
            "tags.x > 'a'": ">",
            "name = 'a": "'",
        }.items()
    ),
    case(AJAX + "experiments/search-datasets", {}, "experiment_id"),
]


@pytest.mark.parametrize(("path", "body", "words", "kind"), POSTS)
def test_what_is_refused(
    wire: Wire, made: dict[str, str], path: str, body: dict[str, Any], words: list[str], kind: tuple[int, str]
) -> None:
    given = filled(body, {**made, "NEW": fresh()})
    status, code, message = wire.refused(path, given)
    assert (status, code) == kind, message
    for word in words:
        assert word.lower() in message.lower()


FILTERS = [
    ("metrics.m > 'x'", "x"),
    ("metrics.m > '1'", "1"),
    ("metrics.m > nan", "nan"),
    ("metrics.m > inf", "inf"),
    ("metrics.m > 0x10", "x10"),
    ("metrics.m > - 1", "-"),
    ("metrics.m > +1", "+"),
    ("metrics.m > 1e", "1e"),
    ("metrics.m LIKE 'x'", "metric"),
    ("metrics.m IS NULL", "metric"),
    ("metrics.m IN (1, 2)", "metric"),
    ("metrics.m == 1", "=="),
    ("metrics.m <> 1", "<>"),
    ("metrics.m BETWEEN 1 AND 2", "BETWEEN"),
    ("NOT metrics.m > 1", "NOT"),
    ("(metrics.m > 1)", "("),
    ("metrics.m", "metrics.m"),
    ("metrics.m >", ">"),
    ("> 1", ">"),
    ("metrics.m > 1;", ";"),
    ("metrics.m > 1; metrics.m < 2", ";"),
    ("metrics.m > 1, params.p = 'x'", ","),
    ("metrics.m > 1 metrics", "metrics"),
    ("metrics.m > 1 -- why", "--"),
    ("params.p = 5", "5"),
    ("params.p > '1'", ">"),
    ("params.p IN ('a')", "param"),
    ("params.p = 'a' OR params.q = 'b'", "OR"),
    ("params.p = 'x", "'"),
    ("params.p = `x`", "x"),
    ("tags.t < 'a'", "<"),
    ("tags.t IN ('a')", "tag"),
    ("tags.t = tags.u", "tags.u"),
    ("status > 'A'", ">"),
    ("status = FINISHED", "FINISHED"),
    ("status IS NULL", "status"),
    ("start_time = 'x'", "start_time"),
    ("start_time LIKE 'x'", "start_time"),
    ("user_id IN ('a')", "_id"),
    ("run_id IN ()", "list"),
    ("run_id IN (1)", "list"),
    ("run_id IN ('a'", "("),
    ("lifecycle_stage = 'active'", "lifecycle_stage"),
    ("experiment_id = '1'", "experiment_id"),
    ("nope = 'a'", "nope"),
    ("nope.x = 'a'", "nope"),
    ("dataset.nope = 'x'", "nope"),
    ("dataset.name IS NULL", "dataset"),
    ("dataset.name > 'x'", ">"),
    ("1 = 1", "1"),
    ("'m' = 'm'", "m"),
    ("params.p = 'x' AND 5", "5"),
    ("'", "'"),
    ('"', '"'),
    ("`", "`"),
]


@pytest.mark.parametrize(("text", "word"), FILTERS)
def test_filters_that_are_refused(wire: Wire, made: dict[str, str], text: str, word: str) -> None:
    body = {"experiment_ids": [made["EXP"]], "filter": text}
    status, code, message = wire.refused("runs/search", body)
    assert (status, code) == INVALID, message
    assert word.lower() in message.lower()


@pytest.mark.parametrize("text", ["tags.t = '1' AND", "AND tags.t = '1'", "tags.t = '1' AND AND params.p = '1'"])
def test_filters_with_too_many_ands_are_taken(wire: Wire, made: dict[str, str], text: str) -> None:
    found = wire.post("runs/search", experiment_ids=[made["EXP"]], filter=text)["runs"]
    assert [r["info"]["run_id"] for r in found] == [made["RUN"]]


@pytest.mark.ours
@pytest.mark.parametrize(
    "text",
    [
        "run_id = ('a')",
        "params.p = 'x' AND " * 500 + "params.p = 'x'",
        "params.p = '" + "x" * 200_000 + "'",
    ],
)
def test_filters_that_only_noria_refuses(wire: Wire, made: dict[str, str], text: str) -> None:
    body = {"experiment_ids": [made["EXP"]], "filter": text}
    assert wire.refused("runs/search", body)[:2] == INVALID


GETS = [
    ("experiments/get", {}, "experiment_id", INVALID),
    ("experiments/get", {"experiment_id": ""}, "experiment_id", INVALID),
    ("experiments/get", {"experiment_id": "abc"}, "abc", INVALID),
    ("experiments/get", {"experiment_id": "1.5"}, "1.5", INVALID),
    ("experiments/get", {"experiment_id": "9999999"}, "9999999", MISSING),
    ("experiments/get-by-name", {}, "experiment_name", INVALID),
    ("experiments/get-by-name", {"experiment_name": ""}, "experiment_name", INVALID),
    ("experiments/get-by-name", {"experiment_name": "no such"}, "no such", MISSING),
    ("experiments/search", {"max_results": "x"}, "max_results", INVALID),
    ("runs/get", {}, "run_id", INVALID),
    ("runs/get", {"run_id": ""}, "run_id", INVALID),
    ("runs/get", {"run_id": NOWHERE}, NOWHERE, MISSING),
    ("runs/get", {"run_id": "../../etc/passwd"}, "../../etc/passwd", MISSING),
    ("runs/get", {"run_id": "x" * 300}, "x" * 50, MISSING),
]


@pytest.mark.parametrize(("path", "query", "word", "kind"), GETS)
def test_questions_that_are_refused(
    wire: Wire, path: str, query: dict[str, str], word: str, kind: tuple[int, str]
) -> None:
    for prefix in (API, AJAX):
        status, code, message = wire.refused(prefix + path, None, "GET", query)
        assert (status, code) == kind
        assert word in message


@pytest.mark.parametrize(
    "path",
    [
        "/api/2.0/mlflow/nope", "/api/2.0/mlflow/runs/nope", "/api/2.0/mlflow", "/api/2.0/mlflow/",
        "/api/9.0/mlflow/runs/get", "/api/2.0/mlflow/runs/get/", "/ajax-api/2.0/mlflow/nope", "/api/3.0/mlflow/runs/get",
        "/api/2.0/preview/mlflow/runs/get", "/api/2.0/mlflow/../mlflow/nope",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_path_that_is_not_there(wire: Wire, path: str, method: str) -> None:
    assert wire.call(method, path, {} if method == "POST" else None).status == 404


@pytest.mark.ours  # MLflow's own server answers a page of HTML
def test_a_path_that_is_not_there_is_refused_in_the_form_of_an_error(wire: Wire) -> None:
    status, code, message = wire.refused("runs/nope", {})
    assert (status, code) == (404, "ENDPOINT_NOT_FOUND")
    assert "runs/nope" in message


@pytest.mark.parametrize(
    ("path", "right"),
    [
        *((path, "POST") for path in ("runs/create", "runs/log-batch", "runs/search", CREATE, METRIC)),
        *((path, "GET") for path in ("runs/get", "experiments/get", "metrics/get-history")),
    ],
)
def test_a_wrong_method(wire: Wire, path: str, right: str) -> None:
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE"} - {right}:
        found = wire.call(method, path, None if method == "GET" else {})
        assert found.status == 405, method
        assert right in found.headers["allow"]


BODIES = [b"{", b"", b"null", b"\xff\xfe", b'{"name": "a"', b"{'name': 'a'}", b'{"name": NaN}', b'{"name": "\\ud800"}']
ONLY_OURS = [b"[]", b"5", b'"x"', b"[" * 5000, b'{"a":' * 5000, b'{"name": ' + b"[" * 200 + b"]" * 200 + b"}"]


@pytest.mark.parametrize("body", [*BODIES, *(pytest.param(b, marks=OURS, id=str(b[:12])) for b in ONLY_OURS)])
@pytest.mark.parametrize("path", [CREATE, METRIC, pytest.param(BATCH, marks=OURS)])
def test_bodies_that_are_no_object(wire: Wire, path: str, body: bytes) -> None:
    assert wire.call("POST", path, body).error[:2] == INVALID


def test_a_body_of_another_type_is_refused(wire: Wire) -> None:
    """What a page of another site may send without asking first."""
    name = fresh()
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        found = wire.call("POST", CREATE, f'{{"name": "{name}"}}'.encode(), Content_Type=kind)
        assert found.status in (400, 415)
    wire.refused("experiments/get-by-name", None, "GET", {"experiment_name": name})
    found = wire.call("POST", CREATE, {"name": name}, Content_Type="application/json; charset=utf-8")
    assert found.status == 200


def test_unknown_fields_are_ignored(wire: Wire, made: dict[str, str]) -> None:
    wire.post(TAG, run_id=made["RUN"], key="t", value="1", more={"deep": [1]}, run_idd="x")
    wire.post(BATCH, run_id=made["RUN"], tags=[{"key": "t", "value": "1", "why": None}], traces=[1])
    assert wire.get("runs/get", run_id=made["RUN"], more="x")["run"]["info"]["run_id"] == made["RUN"]


def test_fields_may_be_null(wire: Wire, made: dict[str, str]) -> None:
    body = {"experiment_ids": [made["EXP"]], "filter": None, "order_by": None, "page_token": None}
    assert len(wire.post("runs/search", **body)["runs"]) == 1
    run = wire.post("runs/create", experiment_id=made["EXP"], run_name=None, tags=None, start_time=5)["run"]
    wire.post(METRIC, run_id=run["info"]["run_id"], key="m", value=1, timestamp=1, step=None, model_id=None)
    assert wire.data(run["info"]["run_id"])["metrics"] == {"m": 1.0}
    wire.post("runs/delete", run_id=run["info"]["run_id"])


@pytest.mark.ours  # MLflow's own server answers 500 to it
def test_values_in_a_batch_may_be_null(wire: Wire, experiment: str) -> None:
    run, nothing = wire.run(experiment), [{"key": "k", "value": None}]
    wire.post(BATCH, run_id=run, metrics=None, params=nothing, tags=nothing)
    assert wire.data(run) == {"metrics": {}, "params": {"k": ""}, "tags": {"k": ""}}


def test_numbers_may_be_words(wire: Wire) -> None:
    run = wire.run(experiment := wire.experiment(), start_time="77")
    wire.post(METRIC, run_id=run, key="m", value="0.5", timestamp="3", step="-4")
    wire.post(BATCH, run_id=run, metrics=[{"key": "m", "value": "1e3", "timestamp": "4", "step": "5"}])
    wire.post(METRIC, run_id=run, key="m", value=2, timestamp=5.0, step=6.0)
    assert wire.history(run, "m") == [(0.5, 3, -4), (1000.0, 4, 5), (2.0, 5, 6)]
    assert wire.get("runs/get", run_id=run)["run"]["info"]["start_time"] == 77
    assert len(wire.post("runs/search", experiment_ids=[experiment], max_results="1")["runs"]) == 1


def test_long_values_are_cut(wire: Wire, client: MlflowClient, experiment: str) -> None:
    run = wire.run(experiment)
    wire.post(PARAM, run_id=run, key="p", value="x" * 6001)
    wire.post(TAG, run_id=run, key="t", value="x" * 8001)
    wire.post(BATCH, run_id=run, params=[{"key": "q", "value": "y" * 7000}], tags=[{"key": "u", "value": "y" * 9000}])
    client.log_param(run, "c", "z" * 6500)
    found = wire.data(run)
    assert {k: len(v) for k, v in found["params"].items()} == {"p": 6000, "q": 6000, "c": 6000}
    assert {k: len(v) for k, v in found["tags"].items()} == {"t": 8000, "u": 8000}


def test_a_batch_of_the_longest_values_is_taken(wire: Wire, experiment: str) -> None:
    run = wire.run(experiment)
    params = [{"key": f"p{i}".ljust(250, "p"), "value": "x" * 6000} for i in range(100)]
    tags = [{"key": f"t{i}".ljust(250, "t"), "value": "é" * 8000} for i in range(100)]
    wire.post(BATCH, run_id=run, params=params, tags=tags)
    found = wire.data(run)
    assert found["params"] == {p["key"]: p["value"] for p in params}
    assert found["tags"] == {t["key"]: t["value"] for t in tags}


def test_the_client_makes_its_errors_of_the_answers(client: MlflowClient, experiment: str) -> None:
    with pytest.raises(RestException) as caught:
        client.get_run(NOWHERE)
    assert (caught.value.error_code, caught.value.get_http_status_code()) == ("RESOURCE_DOES_NOT_EXIST", 404)
    with pytest.raises(RestException) as caught:
        client.create_experiment(client.get_experiment(experiment).name)
    assert (caught.value.error_code, caught.value.get_http_status_code()) == ("RESOURCE_ALREADY_EXISTS", 400)
    with pytest.raises(RestException) as caught:
        client.search_runs([experiment], "metrics.m = 'x'")
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"


# ---- who asks


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:5000", "evil:80"])
def test_a_foreign_host_is_refused(wire: Wire, made: dict[str, str], host: str) -> None:
    name = fresh()
    for method, path, body, query in (
        ("GET", "runs/get", None, {"run_id": made["RUN"]}),
        ("POST", CREATE, {"name": name}, None),
        ("GET", AJAX + "runs/get", None, {"run_id": made["RUN"]}),
    ):
        found = wire.call(method, path, body, query, Host=host)
        assert found.status in (400, 403)
        assert made["RUN"].encode() not in found.body
    wire.refused("experiments/get-by-name", None, "GET", {"experiment_name": name})


@pytest.mark.parametrize("origin", ["http://evil.example", "http://127.0.0.1.evil.example", "null", "https://evil:443"])
def test_a_foreign_page_may_not_write(wire: Wire, origin: str) -> None:
    name = fresh()
    found = wire.call("POST", CREATE, {"name": name}, Origin=origin)
    assert found.status in (400, 401, 403)
    wire.refused("experiments/get-by-name", None, "GET", {"experiment_name": name})


@pytest.mark.ours
@pytest.mark.parametrize("origin", ["http://evil.example", "null"])
def test_a_foreign_page_may_not_read(wire: Wire, made: dict[str, str], origin: str) -> None:
    found = wire.call("GET", "runs/get", query={"run_id": made["RUN"]}, Origin=origin)
    assert found.status in (401, 403)
    assert found.json["error_code"] in ("PERMISSION_DENIED", "UNAUTHENTICATED")


def test_the_probes(wire: Wire) -> None:
    found = wire.call("GET", "/version")
    assert (found.status, found.body.split(b".")[0]) == (200, b"3")
    found = wire.call("GET", "/api/3.0/mlflow/server-info")
    assert found.status == 200
    assert {"store_type", "workspaces_enabled", "multipart_uploads_enabled"} <= set(found.json)
    assert wire.call("GET", "/ajax-api/3.0/mlflow/server-info").json == found.json
    assert wire.call("GET", "/health").status == 200
