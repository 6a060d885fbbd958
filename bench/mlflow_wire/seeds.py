"""The same runs for both servers: MLflow gets them by SQL into its own tables, noria through its wire."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from bench.mlflow_wire import databases
from bench.mlflow_wire.servers import Server
from bench.mlflow_wire.wire import API, Connection, Conversation, drive, post

BEGAN = 1_700_000_000_000
"""Milliseconds: the start of the first seeded run; each other one starts a second after the one before."""
METRICS, PARAMS, TAGS = 10, 5, 4
CONNECTIONS = 8

_RUNS = (
    "run_uuid",
    "name",
    "source_type",
    "source_name",
    "entry_point_name",
    "user_id",
    "status",
    "start_time",
    "end_time",
    "source_version",
    "lifecycle_stage",
    "artifact_uri",
    "experiment_id",
)
_POINT = ("run_uuid", "key", "value", "timestamp", "step", "is_nan")
_PAIR = ("run_uuid", "key", "value")


@dataclass(frozen=True, slots=True)
class Row:
    """A run to seed: its number says everything about it."""

    number: int
    metrics: list[float]
    params: list[str]
    tags: list[str]

    @property
    def name(self) -> str:
        return f"run-{self.number:06d}"

    @property
    def began(self) -> int:
        return BEGAN + 1000 * self.number


def row(number: int) -> Row:
    """The same each time."""
    draw = random.Random(number)
    metrics = [draw.random() for _ in range(METRICS)]
    params = [str(draw.choice((0.1, 0.01, 0.001))), *(f"value-{draw.randrange(50)}" for _ in range(PARAMS - 1))]
    return Row(number, metrics, params, [f"team-{draw.randrange(8)}" for _ in range(TAGS)])


def newest(runs: int, limit: int) -> list[str]:
    """The names that a search without a filter shall answer."""
    return [row(n).name for n in range(runs - 1, max(-1, runs - 1 - limit), -1)]


def filtered(runs: int, limit: int) -> list[str]:
    """The names that ``metrics.m0 > 0.5 ORDER BY metrics.m1 DESC`` shall answer."""
    made = (row(n) for n in range(runs))
    kept = [(r.metrics[1], r.name) for r in made if r.metrics[0] > 0.5]
    return [name for _, name in sorted(kept, reverse=True)[:limit]]


def experiment(server: Server, name: str) -> str:
    """The id of a new experiment of that name, made unique."""
    with server.connect() as connection:
        made = connection.json(post(f"{API}/experiments/create", {"name": f"{name} {uuid.uuid4().hex[:8]}"}))
    return str(made["experiment_id"])


def run(connection: Connection, experiment_id: str, **words: Any) -> str:
    """The id of a new run."""
    body = {"experiment_id": experiment_id, "start_time": int(time.time() * 1000), **words}
    return str(connection.json(post(f"{API}/runs/create", body))["run"]["info"]["run_id"])


def runs(server: Server, count: int, told: Callable[[str], None]) -> str:
    """The id of an experiment with so many seeded runs."""
    made = experiment(server, f"{count} runs")
    began = time.perf_counter()
    if server.name == "mlflow":
        databases.insert(server.database, _tables(server, made, count))
    else:
        drive(server.port, [_teller(made, range(n, count, CONNECTIONS)) for n in range(CONNECTIONS)])
    databases.analyze(server.database)
    told(f"{server.name}: {count:,} runs seeded in {time.perf_counter() - began:.1f} s")
    return made


def _tables(server: Server, experiment_id: str, count: int) -> databases.Rows:
    """What MLflow itself would have written for these runs."""
    ids = [uuid.uuid4().hex for _ in range(count)]
    place = server.folder / "artifacts" / experiment_id

    def heads() -> Iterator[tuple[Any, ...]]:
        for number, key in enumerate(ids):
            made = row(number)
            times = (made.began, made.began + 500)
            fixed = ("LOCAL", "train.py", "", "bench", "FINISHED")
            yield (key, made.name, *fixed, *times, "", "active", f"{place}/{key}/artifacts", int(experiment_id))

    def points() -> Iterator[tuple[Any, ...]]:
        for number, key in enumerate(ids):
            made = row(number)
            for n, value in enumerate(made.metrics):
                yield key, f"m{n}", value, made.began, 0, False

    def params() -> Iterator[tuple[Any, ...]]:
        for number, key in enumerate(ids):
            for n, value in enumerate(row(number).params):
                yield key, f"p{n}", value

    def tags() -> Iterator[tuple[Any, ...]]:
        for number, key in enumerate(ids):
            made = row(number)
            yield key, "mlflow.runName", made.name
            for n, value in enumerate(made.tags):
                yield key, f"t{n}", value

    return {
        "runs": (_RUNS, heads()),
        "metrics": (_POINT, points()),
        "latest_metrics": (_POINT, points()),
        "params": (_PAIR, params()),
        "tags": (_PAIR, tags()),
    }


def _teller(experiment_id: str, numbers: range) -> Conversation:
    """Three requests a run, as a client makes them."""
    for number in numbers:
        made = row(number)
        head = {"experiment_id": experiment_id, "run_name": made.name, "start_time": made.began, "user_id": "bench"}
        answer = yield post(f"{API}/runs/create", head)
        run_id = msgspec.json.decode(answer)["run"]["info"]["run_id"]
        at = {"timestamp": made.began, "step": 0}
        body = {
            "run_id": run_id,
            "metrics": [{"key": f"m{n}", "value": value, **at} for n, value in enumerate(made.metrics)],
            "params": [{"key": f"p{n}", "value": value} for n, value in enumerate(made.params)],
            "tags": [{"key": f"t{n}", "value": value} for n, value in enumerate(made.tags)],
        }
        yield post(f"{API}/runs/log-batch", body)
        yield post(f"{API}/runs/update", {"run_id": run_id, "status": "FINISHED", "end_time": made.began + 500})


def history(server: Server, points: int, told: Callable[[str], None]) -> str:
    """The id of a run with so many points of the metric ``loss``: value n / 2 at step n."""
    made = experiment(server, f"{points} points")
    with server.connect() as connection:
        run_id = run(connection, made)
        began = time.perf_counter()
        if server.name == "mlflow":
            rows = ((run_id, "loss", n / 2, BEGAN + n, n, False) for n in range(points))
            last = [(run_id, "loss", (points - 1) / 2, BEGAN + points - 1, points - 1, False)]
            databases.insert(server.database, {"metrics": (_POINT, rows), "latest_metrics": (_POINT, last)})
        else:
            for first in range(0, points, 1000):
                connection.exchange(batch(run_id, ["loss"], range(first, min(first + 1000, points))))
    databases.analyze(server.database)
    told(f"{server.name}: {points:,} points seeded in {time.perf_counter() - began:.1f} s")
    return run_id


def batch(run_id: str, keys: list[str], steps: range) -> bytes:
    """A log-batch of one point for each key and step; value n / 2 at step n."""
    points = ",".join(
        f'{{"key":"{key}","value":{n / 2},"timestamp":{BEGAN + n},"step":{n}}}' for n in steps for key in keys
    )
    return post(f"{API}/runs/log-batch", f'{{"run_id":"{run_id}","metrics":[{points}]}}'.encode())
