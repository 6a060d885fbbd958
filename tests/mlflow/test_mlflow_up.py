"""A real ``noria up``: unmodified clients in processes of their own, many at once, and a server that is killed."""

from __future__ import annotations

import http.client
import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow_wire import Wire, fresh
from tracking_process import Up, said, started, workspace_folder

from mlflow import MlflowClient

OTHER = os.environ.get("NORIA_TEST_MLFLOW_URI")


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that a command started."""
    if OTHER:
        yield OTHER
        return
    with workspace_folder(tmp_path_factory.mktemp("up") / "shop") as folder:
        server = Up(folder)
        try:
            yield server.url
        finally:
            assert server.end() == 0


PLAIN = """
import os
import mlflow
mlflow.set_experiment(os.environ["EXPERIMENT"])
with mlflow.start_run(run_name="one") as run:
    mlflow.log_param("depth", 3)
    for step in range(5):
        mlflow.log_metric("loss", 1 / (step + 1), step=step)
print("run:" + run.info.run_id)
"""


def test_the_address_in_the_environment_is_the_whole_migration(up: str) -> None:
    name = fresh("moved")
    run = said(started(PLAIN, MLFLOW_TRACKING_URI=up, EXPERIMENT=name)).split("run:")[-1].strip()
    client = MlflowClient(up)
    found = client.get_run(run)
    assert (found.info.run_name, found.info.status, found.data.params) == ("one", "FINISHED", {"depth": "3"})
    assert [m.value for m in client.get_metric_history(run, "loss")] == [1 / (step + 1) for step in range(5)]
    made = client.get_experiment_by_name(name)
    assert made is not None
    assert made.experiment_id == found.info.experiment_id


# ---- many clients

RAW = """
import sys
from mlflow_wire import Wire
uri, experiment, shared, me, calls = sys.argv[1:]
wire, me = Wire(uri), int(me)
own = wire.run(experiment, run_name=f"client {me}")
for n in range(1, int(calls)):
    kind, step = n % 5, n
    if kind == 0:
        points = [{"key": f"b{k}", "value": n, "timestamp": n, "step": n} for k in range(3)]
        wire.post("runs/log-batch", run_id=own, metrics=points, params=[{"key": f"p{n}", "value": str(n)}])
    elif kind == 1:
        wire.post("runs/log-metric", run_id=own, key="m", value=n, timestamp=n, step=n)
    elif kind == 2:
        wire.post("runs/log-metric", run_id=shared, key="all", value=me, timestamp=n, step=n)
    elif kind == 3:
        wire.post("runs/set-tag", run_id=shared, key=f"last.{me}", value=str(n))
    else:
        wire.post("runs/log-parameter", run_id=shared, key=f"p.{me}.{n}", value=str(n))
print(own)
"""
REAL = """
import sys
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
uri, experiment, shared, me, calls = sys.argv[1:]
client, me = MlflowClient(uri), int(me)
own = client.create_run(experiment, run_name=f"client {me}").info.run_id
for n in range(1, int(calls)):
    kind = n % 5
    if kind == 0:
        points = [Metric(f"b{k}", n, n, n) for k in range(3)]
        client.log_batch(own, points, [Param(f"p{n}", str(n))])
    elif kind == 1:
        client.log_metric(own, "m", n, timestamp=n, step=n)
    elif kind == 2:
        client.log_metric(shared, "all", me, timestamp=n, step=n)
    elif kind == 3:
        client.set_tag(shared, f"last.{me}", n)
    else:
        client.log_param(shared, f"p.{me}.{n}", n)
print(own)
"""


def many(up: str, programs: list[str], calls: int) -> None:
    """All of what several processes log at once is there, once."""
    clients = len(programs)
    wire = Wire(up)
    experiment = wire.experiment()
    shared = wire.run(experiment, run_name="shared")
    processes = [started(one, up, experiment, shared, str(me), str(calls)) for me, one in enumerate(programs)]
    runs = [said(process).split()[-1] for process in processes]
    steps = {kind: [n for n in range(1, calls) if n % 5 == kind] for kind in range(5)}
    for run in runs:
        assert wire.history(run, "m") == [(float(n), n, n) for n in steps[1]]
        for k in range(3):
            assert wire.history(run, f"b{k}") == [(float(n), n, n) for n in steps[0]]
        assert wire.data(run)["params"] == {f"p{n}": str(n) for n in steps[0]}
    points = wire.history(shared, "all")
    assert Counter(points) == {(float(me), n, n): 1 for me in range(clients) for n in steps[2]}
    found = wire.data(shared)
    assert found["params"] == {f"p.{me}.{n}": str(n) for me in range(clients) for n in steps[4]}
    assert found["tags"] == {f"last.{me}": str(steps[3][-1]) for me in range(clients)}
    listed = wire.post("runs/search", experiment_ids=[experiment], max_results=1000)["runs"]
    assert sorted(r["info"]["run_id"] for r in listed) == sorted([shared, *runs])
    wire.close()


def test_processes_that_log_at_once_lose_nothing(up: str) -> None:
    many(up, [RAW] * 4, 120)


@pytest.mark.slow
def test_eight_clients_with_2000_calls_each(up: str) -> None:
    """Two are MLflow's own; the others send the same calls with less work between them, so more meet at the server."""
    many(up, [REAL] * 2 + [RAW] * 6, 2000)


# ---- a server that is killed


class Writer(threading.Thread):
    """Logs until the server is gone; what it was told is in ``points``, ``params`` and ``runs``."""

    def __init__(self, name: str, run: str, experiment: str) -> None:
        super().__init__(daemon=True)
        self.key, self.run_id, self.experiment = name, run, experiment
        self.next = 0
        self.points: list[int] = []
        self.params: set[str] = set()
        self.runs: list[str] = []
        self.asked = 0
        self.error: AssertionError | None = None

    def again(self) -> Writer:
        """One that goes on after this one, with the call whose answer did not come."""
        other = Writer(self.key, self.run_id, self.experiment)
        other.next, other.points, other.params = self.next, self.points, self.params
        other.runs, other.asked = self.runs, self.asked
        return other

    def log(self, url: str) -> None:
        self.url = url
        self.start()

    def run(self) -> None:
        wire = Wire(self.url)
        try:
            while True:
                self.one(wire, self.next)
                self.next += 1
        except (OSError, http.client.HTTPException):
            pass  # it is gone
        except AssertionError as error:
            self.error = error
        finally:
            wire.close()

    def one(self, wire: Wire, n: int) -> None:
        point = {"key": self.key, "value": n, "timestamp": n, "step": n}
        if n % 3 == 0:
            wire.post("runs/log-metric", run_id=self.run_id, **point)
        elif n % 3 == 1:
            name = f"{self.key}.{n}"
            more = {**point, "key": f"{self.key}-b"}
            wire.post(
                "runs/log-batch", run_id=self.run_id, metrics=[point, more], params=[{"key": name, "value": str(n)}]
            )
            self.params.add(name)
        else:
            wire.post("runs/log-metric", run_id=self.run_id, **point)
            self.asked += 1
            self.runs.append(wire.run(self.experiment, run_name=f"{self.key} {n}"))
        self.points.append(n)


def kept(wire: Wire, writer: Writer) -> None:
    """What was acknowledged is there once; the call whose answer did not come is there whole or not at all."""
    steps = [p[2] for p in wire.history(writer.run_id, writer.key)]
    assert steps == list(range(len(steps)))
    assert len(writer.points) <= len(steps) <= len(writer.points) + 1
    params = {k for k in wire.data(writer.run_id)["params"] if k.startswith(writer.key + ".")}
    assert writer.params <= params
    batched = [p[2] for p in wire.history(writer.run_id, writer.key + "-b")]
    assert params == {f"{writer.key}.{n}" for n in batched}  # a batch is whole
    assert batched == [n for n in steps if n % 3 == 1]


def loop(folder: Path, rounds: int, count: int) -> None:
    draw = random.Random(9)
    server = Up(folder, "--role", "server")
    wire = Wire(server.url)
    experiment = wire.experiment(fresh())
    run = wire.run(experiment)
    writers = [Writer(f"w{k}", run, experiment) for k in range(4)]
    for _ in range(rounds):
        aim = [len(w.points) + draw.randint(3, count) for w in writers]
        for writer in writers:
            writer.log(server.url)
        for writer, least in zip(writers, aim, strict=True):
            while len(writer.points) < least and writer.is_alive():
                writer.join(0.005)
        server.end(signal.SIGKILL)
        wire.close()
        for writer in writers:
            writer.join()
            if writer.error is not None:
                raise writer.error
        server = Up(folder, "--role", "server")
        wire = Wire(server.url)
        for writer in writers:
            kept(wire, writer)
        writers = [w.again() for w in writers]
    acknowledged = [one for w in writers for one in w.runs]
    runs: list[str] = []
    body: dict[str, Any] = {"experiment_ids": [experiment], "max_results": 500}
    while True:
        page = wire.post("runs/search", **body)
        runs += [r["info"]["run_id"] for r in page["runs"]]
        if "next_page_token" not in page:
            break
        body["page_token"] = page["next_page_token"]
    assert len(runs) == len(set(runs))
    assert {run, *acknowledged} <= set(runs)
    assert len(runs) <= 1 + sum(w.asked for w in writers)
    for one in acknowledged[:: max(1, len(acknowledged) // 20)]:
        assert wire.get("runs/get", run_id=one)["run"]["info"]["status"] == "RUNNING"
    wire.close()
    assert server.end() == 0


@pytest.mark.ours
def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    with workspace_folder(tmp_path / "killed") as folder:
        loop(folder, 1, 40)


@pytest.mark.ours
@pytest.mark.slow
def test_twenty_rounds_of_kill_9(tmp_path: Path) -> None:
    with workspace_folder(tmp_path / "killed") as folder:
        loop(folder, 20, 60)


@pytest.mark.ours
@pytest.mark.postgres
def test_rounds_of_kill_9_beside_postgres(tmp_path: Path, postgres_url: str) -> None:
    """The database lives on: what is asked here is that a client's connection that breaks leaves nothing half."""
    with workspace_folder(tmp_path / "killed", postgres_url) as folder:
        loop(folder, 4, 60)
