"""Runs and what they log, by the fluent API, the client API and raw HTTP."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow_wire import AJAX, Wire, fresh, huge

from mlflow import MlflowClient

FAR = 2**63 - 1


def own_tags(run: Any) -> dict[str, str]:
    """Tags that no client sets by itself."""
    return {k: v for k, v in run.data.tags.items() if not k.startswith("mlflow.")}


def test_a_run_from_start_to_end(fluent, experiment: str) -> None:
    before = int(time.time() * 1000)
    with fluent.start_run(run_name="first", tags={"t": "1"}, description="why") as active:
        seen = fluent.get_run(active.info.run_id)
        assert (seen.info.status, seen.info.end_time) == ("RUNNING", None)
        fluent.log_param("depth", 3)
        fluent.log_params({"rate": 0.1, "none": None, "text": "ä ü", "flag": True})
        fluent.log_metric("loss", 0.5)
        fluent.log_metrics({"acc": 0.9, "f1": 1}, step=2)
        fluent.set_tag("n", 7)
        fluent.set_tags({"a/b": "x", "t": "2"})
    run = fluent.get_run(active.info.run_id)
    assert (run.info.experiment_id, run.info.run_name) == (experiment, "first")
    assert (run.info.status, run.info.lifecycle_stage) == ("FINISHED", "active")
    assert before <= run.info.start_time <= run.info.end_time <= int(time.time() * 1000)
    assert run.info.artifact_uri.startswith("mlflow-artifacts:/")
    assert run.info.artifact_uri.endswith(f"{experiment}/{run.info.run_id}/artifacts")
    assert run.data.params == {"depth": "3", "rate": "0.1", "none": "None", "text": "ä ü", "flag": "True"}
    assert run.data.metrics == {"loss": 0.5, "acc": 0.9, "f1": 1.0}
    assert own_tags(run) == {"t": "2", "n": "7", "a/b": "x"}
    assert run.data.tags["mlflow.runName"] == "first"
    assert run.data.tags["mlflow.note.content"] == "why"
    assert run.data.tags["mlflow.user"]
    assert run.data.tags["mlflow.source.type"]


def test_a_run_without_a_name_gets_one(fluent, wire: Wire, experiment: str) -> None:
    with fluent.start_run() as active:
        pass
    assert len(active.info.run_name.split("-")) == 3
    assert fluent.get_run(active.info.run_id).data.tags["mlflow.runName"] == active.info.run_name
    made = wire.post("runs/create", experiment_id=experiment, start_time=5)["run"]
    assert made["info"]["run_name"]
    assert {"key": "mlflow.runName", "value": made["info"]["run_name"]} in made["data"]["tags"]


def test_a_name_may_come_as_the_tag_of_it(wire: Wire, experiment: str) -> None:
    tag = {"key": "mlflow.runName", "value": "by tag"}
    made = wire.post("runs/create", experiment_id=experiment, start_time=5, tags=[tag])["run"]
    assert made["info"]["run_name"] == "by tag"
    both = {"experiment_id": experiment, "start_time": 5, "tags": [tag], "run_name": "by field"}
    status, code, message = wire.refused("runs/create", both)
    assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
    assert "by tag" in message
    assert "by field" in message


def test_the_wire_form_of_a_run(wire: Wire, experiment: str) -> None:
    made = wire.post(
        "runs/create", experiment_id=experiment, start_time=1234, run_name="w", user_id="ann",
        tags=[{"key": "a", "value": "b"}], unknown={"ignored": 1},
    )["run"]  # fmt: skip
    run = made["info"]["run_id"]
    assert made["info"] == {
        "run_id": run,
        "run_uuid": run,
        "run_name": "w",
        "experiment_id": experiment,
        "user_id": "ann",
        "status": "RUNNING",
        "start_time": 1234,
        "artifact_uri": made["info"]["artifact_uri"],
        "lifecycle_stage": "active",
    }
    assert len(run) == 32
    assert set(run) <= set("0123456789abcdef")
    found = wire.get("runs/get", run_id=run)["run"]
    assert found["info"] == made["info"]
    assert sorted(t["key"] for t in found["data"]["tags"]) == ["a", "mlflow.runName"]
    assert "metrics" not in found["data"]
    assert "params" not in found["data"]
    assert wire.get("runs/get", run_uuid=run)["run"] == found
    assert wire.get(AJAX + "runs/get", run_id=run)["run"] == found
    updated = wire.post("runs/update", run_uuid=run, status="FINISHED", end_time="9000")["run_info"]
    assert (updated["status"], updated["end_time"], updated["start_time"]) == ("FINISHED", 9000, 1234)


def test_run_uuid_is_taken_wherever_run_id_is(wire: Wire, experiment: str) -> None:
    run = wire.run(experiment)
    wire.post("runs/log-metric", run_uuid=run, key="m", value=1.5, timestamp=1, step=1)
    wire.post("runs/log-parameter", run_uuid=run, key="p", value="v")
    wire.post("runs/set-tag", run_uuid=run, key="t", value="v")
    assert wire.data(run) == {"metrics": {"m": 1.5}, "params": {"p": "v"}, "tags": {"t": "v"}}
    found = wire.get("metrics/get-history", run_uuid=run, metric_key="m")
    assert found["metrics"][0]["value"] == 1.5


def test_nested_runs_know_their_parent(fluent) -> None:
    with fluent.start_run(run_name="outer") as outer:
        for i in range(2):
            with fluent.start_run(nested=True, run_name=f"inner {i}") as inner:
                fluent.log_param("i", i)
                with fluent.start_run(nested=True) as deepest:
                    pass
                assert fluent.get_run(deepest.info.run_id).data.tags["mlflow.parentRunId"] == inner.info.run_id
            assert fluent.get_run(inner.info.run_id).data.tags["mlflow.parentRunId"] == outer.info.run_id
        with pytest.raises(Exception, match="already active"):
            fluent.start_run()
    parent = fluent.get_parent_run(inner.info.run_id)
    assert parent.info.run_id == outer.info.run_id
    assert fluent.get_parent_run(outer.info.run_id) is None
    children = fluent.search_runs(
        filter_string=f"tags.mlflow.parentRunId = '{outer.info.run_id}'", output_format="list"
    )
    assert sorted(r.info.run_name for r in children) == ["inner 0", "inner 1"]


@pytest.mark.parametrize("how", ["FINISHED", "FAILED", "KILLED", "SCHEDULED", "RUNNING"])
def test_a_run_ends_as_it_is_told(fluent, how: str) -> None:
    run = fluent.start_run().info.run_id
    fluent.end_run(status=how)
    found = fluent.get_run(run).info
    assert found.status == how
    assert found.end_time is not None


def test_an_error_in_the_block_fails_the_run(fluent) -> None:
    with pytest.raises(ZeroDivisionError), fluent.start_run() as active:
        fluent.log_metric("m", 1)
        _ = 1 / 0
    found = fluent.get_run(active.info.run_id)
    assert found.info.status == "FAILED"
    assert found.data.metrics == {"m": 1.0}


def test_a_run_is_taken_up_again(fluent) -> None:
    with fluent.start_run() as first:
        fluent.log_metric("m", 1, step=0)
    ended = fluent.get_run(first.info.run_id).info.end_time
    with fluent.start_run(run_id=first.info.run_id) as again:
        assert again.info.run_id == first.info.run_id
        assert fluent.get_run(first.info.run_id).info.status == "RUNNING"
        fluent.log_metric("m", 2, step=1)
        fluent.log_param("late", 1)
    found = fluent.get_run(first.info.run_id)
    assert (found.info.status, found.data.metrics, found.data.params) == ("FINISHED", {"m": 2.0}, {"late": "1"})
    assert found.info.end_time >= ended


def test_what_has_ended_can_still_be_logged_to(client: MlflowClient, experiment: str) -> None:
    run = client.create_run(experiment).info.run_id
    client.set_terminated(run, end_time=99)
    client.log_metric(run, "m", 1)
    client.log_param(run, "p", 1)
    client.set_tag(run, "t", 1)
    found = client.get_run(run)
    assert found.info.end_time == 99
    assert (found.data.metrics, found.data.params, found.data.tags["t"]) == ({"m": 1.0}, {"p": "1"}, "1")


def test_a_run_gets_a_new_name_and_status(client: MlflowClient, wire: Wire, experiment: str) -> None:
    run = client.create_run(experiment, run_name="old").info.run_id
    client.update_run(run, status="FAILED", name="new")
    found = client.get_run(run)
    assert (found.info.run_name, found.info.status, found.data.tags["mlflow.runName"]) == ("new", "FAILED", "new")
    client.set_tag(run, "mlflow.runName", "by tag")
    found = client.get_run(run)
    assert (found.info.run_name, found.data.tags["mlflow.runName"]) == ("by tag", "by tag")
    wire.post("runs/update", run_id=run)  # changes nothing
    assert wire.get("runs/get", run_id=run)["run"]["info"]["status"] == "FAILED"
    for status in ("1", "3", "FINISHED", 3):
        assert wire.post("runs/update", run_id=run, status=status)["run_info"]["status"] in ("RUNNING", "FINISHED")


def test_a_deleted_run_is_read_but_not_written(client: MlflowClient, wire: Wire, experiment: str) -> None:
    run = client.create_run(experiment).info.run_id
    client.log_metric(run, "m", 1)
    client.delete_run(run)
    found = client.get_run(run)
    assert (found.info.lifecycle_stage, found.data.metrics) == ("deleted", {"m": 1.0})
    for path, body in (
        ("runs/log-metric", {"key": "m", "value": 1, "timestamp": 1}),
        ("runs/log-parameter", {"key": "p", "value": "1"}),
        ("runs/set-tag", {"key": "t", "value": "1"}),
        ("runs/delete-tag", {"key": "t"}),
        ("runs/log-batch", {"tags": [{"key": "t", "value": "1"}]}),
        ("runs/update", {"status": "FINISHED"}),
        ("runs/log-inputs", {"datasets": []}),
    ):
        status, code, message = wire.refused(path, {"run_id": run, **body})
        assert (status, code) == (400, "INVALID_PARAMETER_VALUE"), path
        assert run in message, path
    assert client.search_runs([experiment]) == []
    client.delete_run(run)  # a second time is no error
    client.restore_run(run)
    client.restore_run(run)
    assert client.get_run(run).info.lifecycle_stage == "active"
    client.log_metric(run, "m", 2, step=1)
    assert client.get_run(run).data.metrics == {"m": 2.0}


def test_tags_are_deleted(client: MlflowClient, wire: Wire, experiment: str) -> None:
    run = client.create_run(experiment, tags={"a": "1", "b": "2"}).info.run_id
    client.delete_tag(run, "a")
    assert own_tags(client.get_run(run)) == {"b": "2"}
    status, code, message = wire.refused("runs/delete-tag", {"run_id": run, "key": "a"})
    assert (status, code) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert "a" in message
    assert run in message


# ---- metrics


def test_values_of_every_kind_come_back(client: MlflowClient, wire: Wire, experiment: str) -> None:
    run = client.create_run(experiment).info.run_id
    values = {
        "zero": 0.0, "minus": -1.5, "tiny": 5e-324, "big": 1.7e308, "third": 1 / 3, "int": 2**53, "nan": math.nan,
    }  # fmt: skip
    for key, value in values.items():
        client.log_metric(run, key, value)
    found = client.get_run(run).data.metrics
    assert set(found) == set(values)
    assert math.isnan(found.pop("nan"))
    assert found == {k: v for k, v in values.items() if k != "nan"}
    client.log_metric(run, "inf", math.inf)
    client.log_metric(run, "-inf", -math.inf)
    found = client.get_run(run).data.metrics
    assert huge(found["inf"])
    assert huge(found["-inf"])
    assert found["inf"] > 0 > found["-inf"]
    raw = {m["key"]: m.get("value", 0) for m in wire.get("runs/get", run_id=run)["run"]["data"]["metrics"]}
    assert raw["nan"] == "NaN"
    assert math.isnan(client.get_metric_history(run, "nan")[0].value)


@pytest.mark.ours
def test_infinities_stay_infinite(client: MlflowClient, wire: Wire, experiment: str) -> None:
    run = client.create_run(experiment).info.run_id
    wire.post("runs/log-metric", run_id=run, key="a", value="Infinity", timestamp=1)
    wire.post("runs/log-metric", run_id=run, key="b", value="-Infinity", timestamp=1)
    assert client.get_run(run).data.metrics == {"a": math.inf, "b": -math.inf}
    raw = {m["key"]: m["value"] for m in wire.get("runs/get", run_id=run)["run"]["data"]["metrics"]}
    assert raw == {"a": "Infinity", "b": "-Infinity"}


def test_int64_goes_to_its_ends(client: MlflowClient, wire: Wire, experiment: str) -> None:
    last = 253_402_300_799_000  # the end of the year 9999
    run = wire.run(experiment, start_time=last)
    for step, at in ((FAR, FAR), (-FAR - 1, 0), (0, FAR), (2**53 + 1, 2**53 + 1)):
        wire.post("runs/log-metric", run_id=run, key="m", value=1, timestamp=at, step=step)
        wire.post("runs/log-metric", run_id=run, key="words", value="1", timestamp=str(at), step=str(step))
    want = sorted([(1.0, FAR, FAR), (1.0, 0, -FAR - 1), (1.0, FAR, 0), (1.0, 2**53 + 1, 2**53 + 1)])
    assert sorted(wire.history(run, "m")) == want
    assert sorted(wire.history(run, "words")) == want
    assert [p.step for p in client.get_metric_history(run, "m") if p.timestamp == 0] == [-FAR - 1]
    raw = wire.get("runs/get", run_id=run)["run"]
    assert raw["info"]["start_time"] == last  # numbers, not words
    assert {m["step"] for m in raw["data"]["metrics"]} == {FAR}
    wire.post("runs/update", run_id=run, end_time=str(last))
    assert client.get_run(run).info.end_time == last


def test_the_latest_point_is_by_step_then_time_then_value(client: MlflowClient, experiment: str) -> None:
    run = client.create_run(experiment).info.run_id
    for value, at, step in [(1.0, 10, 5), (2.0, 99, 4), (3.0, 10, 5), (2.5, 10, 5), (0.5, 11, 5), (9.0, 12, -1)]:
        client.log_metric(run, "m", value, timestamp=at, step=step)
    assert client.get_run(run).data.metrics == {"m": 0.5}
    client.log_metric(run, "m", 0.25, timestamp=11, step=5)
    assert client.get_run(run).data.metrics == {"m": 0.5}
    client.log_metric(run, "m", 0.75, timestamp=11, step=5)
    assert client.get_run(run).data.metrics == {"m": 0.75}


def test_the_same_point_twice_is_one(client: MlflowClient, wire: Wire, experiment: str) -> None:
    run = client.create_run(experiment).info.run_id
    for _ in range(3):
        client.log_metric(run, "m", 1.0, timestamp=7, step=1)
        client.log_metric(run, "n", math.nan, timestamp=7, step=1)
    twice = [Metric("m", 1.0, 7, 1), Metric("m", 1.0, 7, 1), Metric("m", 2.0, 7, 1), Metric("k", 1.0, 7, 1)]
    for _ in range(2):
        client.log_batch(run, metrics=twice)
    assert wire.history(run, "m") == [(1.0, 7, 1), (2.0, 7, 1)]
    assert wire.history(run, "k") == [(1.0, 7, 1)]
    assert len(wire.history(run, "n")) == 1


def test_log_metric_takes_what_the_fluent_api_takes(fluent) -> None:
    with fluent.start_run() as active:
        fluent.log_metric("np", np.float32(0.5))
        fluent.log_metric("int", 3, step=np.int64(4).item(), timestamp=17)
        fluent.log_metric("frame", pd.Series([1.25]).iloc[0])
    found = fluent.get_run(active.info.run_id).data.metrics
    assert found == {"np": 0.5, "int": 3.0, "frame": 1.25}


def test_logging_without_waiting_arrives(fluent) -> None:
    with fluent.start_run() as active:
        for i in range(50):
            fluent.log_metric("m", i, step=i, synchronous=False)
        fluent.log_params({f"p{i}": i for i in range(30)}, synchronous=False)
        fluent.set_tags({"a": "1"}, synchronous=False)
        fluent.flush_async_logging()
    points = fluent.MlflowClient().get_metric_history(active.info.run_id, "m")
    assert sorted(p.value for p in points) == [float(i) for i in range(50)]
    found = fluent.get_run(active.info.run_id)
    assert len(found.data.params) == 30
    assert found.data.tags["a"] == "1"


# ---- params


def test_params_stay_as_they_are(client: MlflowClient, wire: Wire, experiment: str) -> None:
    run = client.create_run(experiment).info.run_id
    client.log_param(run, "p", "1")
    client.log_param(run, "p", "1")  # the same again is no change
    status, code, message = wire.refused("runs/log-parameter", {"run_id": run, "key": "p", "value": "2"})
    assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
    for word in ("p", "'1'", "'2'"):
        assert word in message, message
    with pytest.raises(MlflowException, match="param"):
        client.log_batch(run, params=[Param("q", "1"), Param("p", "2")])
    assert client.get_run(run).data.params == {"p": "1"}
    client.log_batch(run, params=[Param("q", "1"), Param("p", "1")])
    assert client.get_run(run).data.params == {"p": "1", "q": "1"}


def test_empty_params_and_tags_are_kept(client: MlflowClient, wire: Wire, experiment: str) -> None:
    run = client.create_run(experiment, tags={"empty": ""}).info.run_id
    wire.post("runs/log-parameter", run_id=run, key="a", value="")
    wire.post("runs/log-parameter", run_id=run, key="b")
    wire.post("runs/set-tag", run_id=run, key="c", value="")
    assert wire.data(run)["params"] == {"a": "", "b": ""}
    assert wire.data(run)["tags"] == {"empty": "", "c": ""}


def test_the_longest_values_are_kept(client: MlflowClient, wire: Wire, experiment: str) -> None:
    run = wire.run(experiment)
    key, param, tag = "k" * 250, "p" * 6000, "t" * 8000
    wire.post("runs/log-parameter", run_id=run, key=key, value=param)
    wire.post("runs/set-tag", run_id=run, key=key, value=tag)
    wire.post("runs/log-metric", run_id=run, key=key, value=1, timestamp=1)
    found = wire.data(run)
    assert found == {"metrics": {key: 1.0}, "params": {key: param}, "tags": {key: tag}}


def test_keys_may_hold_the_signs_that_are_allowed(client: MlflowClient, experiment: str) -> None:
    run = client.create_run(experiment).info.run_id
    keys = ["a b", "a..b", ".a", "a-b", "a_b", "a.b", "a/b", "a:b", "ä", "Δx", "0", "val/loss: 1.5-x_y"]
    client.log_batch(
        run, [Metric(k, 1.0, 1, 0) for k in keys], [Param(k, "v") for k in keys], [RunTag(k, "v") for k in keys]
    )
    found = client.get_run(run).data
    assert set(found.metrics) == set(found.params) == set(keys)
    assert set(keys) <= set(found.tags)
    for key in keys:
        assert len(client.get_metric_history(run, key)) == 1, key


# ---- batches


def test_a_batch_of_the_greatest_size(client: MlflowClient, wire: Wire, experiment: str) -> None:
    run = wire.run(experiment)
    metrics = [{"key": f"m{i}", "value": i, "timestamp": 1, "step": 0} for i in range(800)]
    params = [{"key": f"p{i}", "value": str(i)} for i in range(100)]
    tags = [{"key": f"t{i}", "value": str(i)} for i in range(100)]
    assert wire.post("runs/log-batch", run_id=run, metrics=metrics, params=params, tags=tags) == {}
    found = wire.data(run)
    assert found["metrics"] == {f"m{i}": float(i) for i in range(800)}
    assert found["params"] == {f"p{i}": str(i) for i in range(100)}
    assert found["tags"] == {f"t{i}": str(i) for i in range(100)}
    points = [{"key": "one", "value": i, "timestamp": i, "step": i} for i in range(1000)]
    wire.post("runs/log-batch", run_id=run, metrics=points)
    assert wire.history(run, "one") == [(float(i), i, i) for i in range(1000)]


def test_a_client_splits_what_is_too_much_for_one_batch(fluent) -> None:
    with fluent.start_run() as active:
        fluent.log_params({f"p{i}": i for i in range(250)})
        fluent.log_metrics({f"m{i}": i for i in range(1200)})
        fluent.set_tags({f"t{i}": i for i in range(130)})
    found = fluent.get_run(active.info.run_id)
    assert (len(found.data.params), len(found.data.metrics), len(own_tags(found))) == (250, 1200, 130)


GOOD = {
    "metrics": [{"key": "m", "value": 1, "timestamp": 1, "step": 1}],
    "params": [{"key": "p", "value": "1"}],
    "tags": [{"key": "t", "value": "1"}],
}
BAD: list[dict[str, Any]] = [
    {"metrics": [{"key": "a//b", "value": 1, "timestamp": 1}]},
    {"metrics": [{"value": 1, "timestamp": 1}]},
    {"metrics": [{"key": "m2", "timestamp": 1}]},
    {"metrics": [{"key": "m2", "value": 1}]},
    {"metrics": [{"key": "m2", "value": 1, "timestamp": -1}]},
    {"metrics": [{"key": "k" * 251, "value": 1, "timestamp": 1}]},
    {"params": [{"key": "../p", "value": "1"}]},
    {"params": [{"value": "1"}]},
    {"params": [{"key": "had", "value": "other"}]},
    {"params": [{"key": "k" * 251, "value": "1"}]},
    {"tags": [{"key": "/t", "value": "1"}]},
    {"tags": [{"value": "1"}]},
    {"tags": [{"key": "k" * 251, "value": "1"}]},
]


OURS: list[dict[str, Any]] = [  # MLflow's own server answers 200 and keeps a part of these
    {"metrics": [{"key": "m2", "value": "one", "timestamp": 1}]},
    {"metrics": [{"key": "m2", "value": 1, "timestamp": "soon"}]},
    {"metrics": [{"key": "m2", "value": 1, "timestamp": 1, "step": 1.5}]},
    {"metrics": [{"key": "m2", "value": 1, "timestamp": 1, "step": 2**63}]},
    {"params": [{"key": "p2", "value": 5}]},
    {"tags": [{"key": 5, "value": "5"}]},
]
CASES = [*BAD, *(pytest.param(case, marks=pytest.mark.ours) for case in OURS)]


@pytest.mark.parametrize("bad", CASES)
def test_one_bad_entry_leaves_nothing_of_a_batch(wire: Wire, experiment: str, bad: dict[str, Any]) -> None:
    run = wire.run(experiment)
    wire.post("runs/log-parameter", run_id=run, key="had", value="before")
    body = {name: GOOD[name] + bad.get(name, []) for name in GOOD}
    status, code, _ = wire.refused("runs/log-batch", {"run_id": run, **body})
    assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
    assert wire.data(run) == {"metrics": {}, "params": {"had": "before"}, "tags": {}}
    assert wire.history(run, "m") == []
    wire.post("runs/log-batch", run_id=run, **GOOD)
    assert wire.data(run) == {"metrics": {"m": 1.0}, "params": {"had": "before", "p": "1"}, "tags": {"t": "1"}}


def test_the_last_of_two_tags_in_a_batch_counts_and_of_two_params_none(wire: Wire, experiment: str) -> None:
    run = wire.run(experiment)
    wire.post("runs/log-batch", run_id=run, tags=[{"key": "t", "value": "1"}, {"key": "t", "value": "2"}])
    assert wire.data(run)["tags"] == {"t": "2"}
    for value in ("1", "2"):
        params = [{"key": "p", "value": "1"}, {"key": "p", "value": value}]
        status, code, message = wire.refused("runs/log-batch", {"run_id": run, "params": params})
        assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
        assert "p" in message
    assert wire.data(run)["params"] == {}


def test_an_empty_batch_is_no_error(wire: Wire, experiment: str) -> None:
    run = wire.run(experiment)
    assert wire.post("runs/log-batch", run_id=run) == {}
    assert wire.post("runs/log-batch", run_id=run, metrics=[], params=[], tags=[]) == {}


# ---- inputs


def test_data_that_a_run_used_is_told(fluent) -> None:
    frame = pd.DataFrame({"x": [1, 2, 3], "y": [0.5, 0.25, 0.125]})
    one = fluent.data.from_pandas(frame, source="https://example.org/x.csv", name="flights", targets="y")
    two = fluent.data.from_numpy(np.arange(12).reshape(3, 4), name="grid")
    with fluent.start_run() as active:
        fluent.log_input(one, context="training", tags={"split": "a"})
        fluent.log_input(two)
        fluent.log_input(one, context="training")  # known already
    found = fluent.get_run(active.info.run_id).inputs.dataset_inputs
    assert sorted(i.dataset.name for i in found) == ["flights", "grid"]
    flights = next(i for i in found if i.dataset.name == "flights")
    assert flights.dataset.digest == one.digest
    assert flights.dataset.source_type == "http"
    assert json.loads(flights.dataset.source) == {"url": "https://example.org/x.csv"}
    assert json.loads(flights.dataset.schema)["mlflow_colspec"][0]["name"] == "x"
    assert json.loads(flights.dataset.profile) == {"num_rows": 3, "num_elements": 6}
    assert {t.key: t.value for t in flights.tags} == {"split": "a", "mlflow.data.context": "training"}
    grid = next(i for i in found if i.dataset.name == "grid")
    assert {t.key: t.value for t in grid.tags} == {}
    source = fluent.data.get_source(flights)
    assert source.url == "https://example.org/x.csv"


def test_several_inputs_at_once(fluent) -> None:
    sets = [fluent.data.from_numpy(np.full(3, i), name=f"d{i}") for i in range(4)]
    with fluent.start_run() as active:
        fluent.log_inputs(sets, contexts=["train", "eval", None, "train"], tags_list=[None, {"k": "v"}, None, None])
    found = fluent.get_run(active.info.run_id).inputs.dataset_inputs
    assert {i.dataset.name: {t.key: t.value for t in i.tags} for i in found} == {
        "d0": {"mlflow.data.context": "train"},
        "d1": {"mlflow.data.context": "eval", "k": "v"},
        "d2": {},
        "d3": {"mlflow.data.context": "train"},
    }
    listed = fluent.search_runs(output_format="list")[0]
    assert sorted(i.dataset.name for i in listed.inputs.dataset_inputs) == ["d0", "d1", "d2", "d3"]


def test_the_data_of_experiments_is_listed(wire: Wire, experiment: str) -> None:
    other = wire.experiment()
    runs = [wire.run(experiment), wire.run(experiment), wire.run(other)]
    for i, run in enumerate(runs):
        wire.post("runs/log-inputs", run_id=run, datasets=[dataset("same", context="train" if i < 2 else None)])
    wire.post("runs/log-inputs", run_id=runs[0], datasets=[dataset("more", context="eval")])
    found = wire.post(AJAX + "experiments/search-datasets", experiment_ids=[experiment, other])["dataset_summaries"]
    key = {"digest": "d1"}
    assert sorted(found, key=lambda s: (s["experiment_id"] != experiment, s["name"])) == [
        {"experiment_id": experiment, "name": "more", "context": "eval", **key},
        {"experiment_id": experiment, "name": "same", "context": "train", **key},
        {"experiment_id": other, "name": "same", **key},
    ]
    status, code, message = wire.refused(AJAX + "experiments/search-datasets", {"experiment_ids": []})
    assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
    assert "experiment_id" in message
    many = [experiment] * 21
    status, code, message = wire.refused(AJAX + "experiments/search-datasets", {"experiment_ids": many})
    assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
    assert "20" in message


def dataset(name: str, digest: str = "d1", context: str | None = None, **more: str) -> dict[str, Any]:
    tags = [{"key": "mlflow.data.context", "value": context}] if context else []
    return {"tags": tags, "dataset": {"name": name, "digest": digest, "source_type": "local", "source": "s", **more}}


@pytest.mark.parametrize(
    ("field", "limit"),
    [
        ("name", 500),
        ("digest", 36),
        ("schema", 1_048_575),
        ("source", 65_535),
        ("key", 255),
        ("value", 500),
        pytest.param("source_type", 36, marks=pytest.mark.ours),
    ],
)
def test_limits_of_inputs(wire: Wire, experiment: str, field: str, limit: int) -> None:
    run = wire.run(experiment)
    for size in (limit, limit + 1):
        one = dataset(fresh(), context="c")
        (one["dataset"] if field not in ("key", "value") else one["tags"][0])[field] = "x" * size
        body = {"run_id": run, "datasets": [dataset("kept"), one]}
        if size == limit:
            wire.post("runs/log-inputs", **body)
        else:
            status, code, message = wire.refused("runs/log-inputs", {**body, "datasets": [dataset("lost"), one]})
            assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
            assert field in message
            assert str(limit) in message
    inputs = wire.get("runs/get", run_id=run)["run"]["inputs"]["dataset_inputs"]
    assert len(inputs) == 2
    assert "lost" not in {i["dataset"]["name"] for i in inputs}


def test_a_run_may_begin_at_0(wire: Wire, experiment: str) -> None:
    """It is a time like others; MLflow keeps it too."""
    run = wire.run(experiment, start_time=0)
    assert int(wire.get("runs/get", run_id=run)["run"]["info"].get("start_time", 0)) == 0


@pytest.mark.ours  # MLflow's own server keeps data without a name
@pytest.mark.parametrize("missing", ["name", "digest", "source_type", "source"])
def test_inputs_must_say_what_they_are(wire: Wire, experiment: str, missing: str) -> None:
    run = wire.run(experiment)
    one = dataset("x")
    del one["dataset"][missing]
    status, code, message = wire.refused("runs/log-inputs", {"run_id": run, "datasets": [one]})
    assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
    assert missing in message
    assert "inputs" not in wire.get("runs/get", run_id=run)["run"] or not wire.get("runs/get", run_id=run)["run"][
        "inputs"
    ].get("dataset_inputs")


# ---- several at once


def test_runs_of_one_process_that_go_on_in_threads(fluent, server: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    client = MlflowClient(server)
    with fluent.start_run() as active:
        run = active.info.run_id
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda i: client.log_metric(run, f"m{i % 4}", i, step=i, timestamp=i), range(80)))
    for k in range(4):
        points = client.get_metric_history(run, f"m{k}")
        assert [p.step for p in points] == list(range(k, 80, 4))
    assert client.get_run(run).data.metrics == {f"m{k}": float(76 + k) for k in range(4)}


def test_a_parameter_that_two_log_at_once_has_one_value(server: str, experiment: str, wire: Wire) -> None:
    from concurrent.futures import ThreadPoolExecutor

    run = wire.run(experiment)

    def log(value: int) -> int:
        own = Wire(server)
        body = {"run_id": run, "key": "p", "value": str(value)}
        status = own.call("POST", "runs/log-parameter", body).status
        own.close()
        return status if status != 200 else -value

    with ThreadPoolExecutor(6) as pool:
        told = list(pool.map(log, range(1, 7)))
    kept = [-t for t in told if t < 0]
    assert len(kept) == 1
    assert {t for t in told if t > 0} == {400}
    assert wire.data(run)["params"] == {"p": str(kept[0])}
