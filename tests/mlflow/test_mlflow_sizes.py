"""How much is answered when nobody says how much, and how much is taken."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from mlflow_wire import AJAX, Wire, fresh, number

from mlflow import MlflowClient

INVALID = (400, "INVALID_PARAMETER_VALUE")


def test_a_history_of_more_than_a_page(wire: Wire, client: MlflowClient, experiment: str) -> None:
    run = wire.run(experiment)
    count = 25_003
    for start in range(0, count, 1000):
        metrics = [{"key": "m", "value": n, "timestamp": n, "step": n} for n in range(start, min(start + 1000, count))]
        wire.post("runs/log-batch", run_id=run, metrics=metrics)
    bulk = wire.get(AJAX + "metrics/get-history-bulk", run_id=run, metric_key="m")["metrics"]
    assert [number(m["value"]) for m in bulk] == [float(n) for n in range(25_000)]
    found: list[dict[str, Any]] = []
    query: dict[str, Any] = {"run_id": run, "metric_key": "m", "max_results": 1_000_000}
    while True:
        page = wire.get("metrics/get-history", **query)
        found += page["metrics"]
        if "next_page_token" not in page:
            break
        query["page_token"] = page["next_page_token"]
    assert [m.get("step", 0) for m in found] == list(range(count))
    assert len(client.get_metric_history(run, "m")) == count
    sample = wire.get(AJAX + "metrics/get-history-bulk-interval", run_ids=run, metric_key="m")["metrics"]
    assert 2_500 <= len(sample) <= 2_501


def test_a_search_answers_1000_runs_unless_it_says_more(wire: Wire, server: str, experiment: str) -> None:
    def some(_: int) -> None:
        with contextlib.closing(Wire(server)) as own:
            for n in range(251):
                own.run(experiment, start_time=n)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(some, range(4)))
    first = wire.post("runs/search", experiment_ids=[experiment])
    assert len(first["runs"]) == 1000
    rest = wire.post("runs/search", experiment_ids=[experiment], page_token=first["next_page_token"])
    assert len(rest["runs"]) == 4
    assert "next_page_token" not in rest
    every = {r["info"]["run_id"] for r in first["runs"] + rest["runs"]}
    assert len(every) == 1004
    whole = wire.post("runs/search", experiment_ids=[experiment], max_results=50_000)["runs"]
    assert {r["info"]["run_id"] for r in whole} == every


def test_a_search_answers_100_models(wire: Wire) -> None:
    prefix = fresh("many")
    for n in range(101):
        wire.post("registered-models/create", name=f"{prefix}-{n:03}")
    first = wire.get("registered-models/search", filter=f"name LIKE '{prefix}%'")
    assert [m["name"] for m in first["registered_models"]] == [f"{prefix}-{n:03}" for n in range(100)]
    token = first["next_page_token"]
    rest = wire.get("registered-models/search", filter=f"name LIKE '{prefix}%'", page_token=token)
    assert [m["name"] for m in rest["registered_models"]] == [f"{prefix}-100"]


@pytest.mark.ours  # MLflow's own server answers 50
def test_a_search_answers_100_logged_models(wire: Wire, experiment: str) -> None:
    for n in range(101):
        wire.post("logged-models", experiment_id=experiment, name=f"m{n}")
    first = wire.post("logged-models/search", experiment_ids=[experiment])
    assert len(first["models"]) == 100
    rest = wire.post("logged-models/search", experiment_ids=[experiment], page_token=first["next_page_token"])
    assert len(rest["models"]) == 1
    assert len({m["info"]["model_id"] for m in first["models"] + rest["models"]}) == 101


def test_a_search_answers_100_traces(wire: Wire, experiment: str) -> None:
    where = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment}}
    for n in range(101):
        info = {"trace_id": fresh("tr"), "request_time": f"2026-11-26T02:33:13.{n:03}Z", "state": "OK"}
        wire.post("/api/3.0/mlflow/traces", trace={"trace_info": {**info, "trace_location": where}})
    first = wire.post("/api/3.0/mlflow/traces/search", locations=[where])
    assert len(first["traces"]) == 100
    token = first["next_page_token"]
    rest = wire.post("/api/3.0/mlflow/traces/search", locations=[where], page_token=token)
    assert len(rest["traces"]) == 1
    assert len({t["trace_id"] for t in first["traces"] + rest["traces"]}) == 101


def test_the_profile_of_data_has_a_limit(wire: Wire, experiment: str) -> None:
    run = wire.run(experiment)
    for size in (16_777_216, 1_000_000):
        one = {"name": "d", "digest": "x", "source_type": "local", "source": "s", "profile": "p" * size}
        found = wire.call("POST", "runs/log-inputs", {"run_id": run, "datasets": [{"dataset": one}]})
        assert (found.status == 200) == (size == 1_000_000)
        if found.status != 200:
            status, code, message = found.error
            assert (status, code) == INVALID
            assert "profile" in message
            assert "16777215" in message


@pytest.mark.ours  # MLflow's own server reads whatever comes
def test_a_body_without_end_is_refused_and_the_server_goes_on(wire: Wire, experiment: str) -> None:
    run = wire.run(experiment)
    huge = b'{"run_id": "' + run.encode() + b'", "tags": [{"key": "k", "value": "' + b"x" * 40_000_000 + b'"}]}'
    found = wire.call("POST", "runs/log-batch", huge)
    assert found.status in (400, 413)
    assert found.error[1] in ("BAD_REQUEST", "INVALID_PARAMETER_VALUE", "REQUEST_LIMIT_EXCEEDED")
    assert wire.data(run)["tags"] == {}
