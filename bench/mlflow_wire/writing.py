"""The phases that write: each says first what the disk gives, and counts afterwards what was acknowledged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

from bench.mlflow_wire import seeds
from bench.mlflow_wire.figures import Figure
from bench.mlflow_wire.reading import pages
from bench.mlflow_wire.servers import Server
from bench.mlflow_wire.turns import Bench, bare, calls_in_turns
from bench.mlflow_wire.wire import API, Calls, Conversation, drive, limit, post

KEYS = [f"metric_{n}" for n in range(1000)]


@dataclass(slots=True)
class _Written:
    """A run, and how many requests were sent to it: all of them are answered before a round ends."""

    run_id: str
    sent: Iterator[int] = field(default_factory=count)


def _runs(bench: Bench, name: str, number: int) -> dict[str, list[_Written]]:
    made: dict[str, list[_Written]] = {}
    for server in bench.servers:
        where = seeds.experiment(server, name)
        with server.connect() as connection:
            made[server.name] = [_Written(seeds.run(connection, where)) for _ in range(number)]
    return made


def _counted(server: Server, runs: Sequence[_Written], key: str, each: int) -> None:
    """Raises if the history of a key has not every point that was acknowledged, once."""
    with server.connect() as connection:
        for written in runs:
            steps = sorted(int(p["step"]) for page in pages(connection, written.run_id, key) for p in page)
            sent = next(written.sent) * each
            if steps != list(range(sent)):
                raise RuntimeError(f"{server.name} acknowledged {sent} points and answers {len(steps)} of them")


def _points(written: _Written) -> Conversation:
    """log-metric with a step of its own each time."""
    for n in written.sent:
        body = f'{{"run_id":"{written.run_id}","key":"loss","value":{n / 2},"timestamp":{seeds.BEGAN + n},"step":{n}}}'
        yield post(f"{API}/runs/log-metric", body.encode())


def log_metric(bench: Bench) -> list[Figure]:
    """One point a call. Eight connections write to a run each."""
    bare(bench)
    figures: list[Figure] = []
    for connections, times in ((1, 20.0), (8, 30.0)):
        words = "1 connection" if connections == 1 else f"{connections} connections"
        bench.told(f"limit of this client, {words}: {limit(connections):,.0f} calls/s")
        figure = Figure(f"log_metric, {words}", "calls/s", rate=True, times=times)
        runs = _runs(bench, figure.name, connections)

        def measure(server: Server, runs: dict[str, list[_Written]] = runs) -> Calls:
            return drive(server.port, [_points(written) for written in runs[server.name]], bench.seconds)

        calls_in_turns(bench.servers, bench.rounds, figure, measure)
        for server in bench.servers:
            _counted(server, runs[server.name], "loss", 1)
        figures.append(figure)
    return figures


def _batches(written: _Written, keys: list[str]) -> Conversation:
    steps = 1000 // len(keys)
    for n in written.sent:
        yield seeds.batch(written.run_id, keys, range(n * steps, (n + 1) * steps))


def log_batch(bench: Bench) -> list[Figure]:
    """1,000 points a call: of one key, then of 1,000 keys."""
    bare(bench)
    figures: list[Figure] = []
    for name, keys in (("one key", ["loss"]), ("1,000 keys", KEYS)):
        figure = Figure(f"log_batch, 1,000 points of {name}", "points/s", rate=True, times=20.0)
        runs = _runs(bench, figure.name, 1)

        def measure(server: Server, runs: dict[str, list[_Written]] = runs, keys: list[str] = keys) -> Calls:
            return drive(server.port, [_batches(runs[server.name][0], keys)], bench.seconds)

        calls_in_turns(bench.servers, bench.rounds, figure, measure, each=1000)
        for server in bench.servers:
            _counted(server, runs[server.name], keys[-1], 1000 // len(keys))
        figures.append(figure)
    return figures


def create_run(bench: Bench) -> list[Figure]:
    """With the tags that the fluent client sends."""
    bare(bench)
    figure = Figure("create_run", "calls/s", rate=True, times=10.0)
    where = {server.name: seeds.experiment(server, "create_run") for server in bench.servers}
    tags = {"mlflow.user": "bench", "mlflow.source.name": "train.py", "mlflow.source.type": "LOCAL"}

    def creations(experiment_id: str) -> Conversation:
        for n in count():
            body = {
                "experiment_id": experiment_id,
                "user_id": "bench",
                "run_name": f"run-{n}",
                "start_time": seeds.BEGAN + n,
                "tags": [{"key": key, "value": value} for key, value in tags.items()],
            }
            yield post(f"{API}/runs/create", body)

    def measure(server: Server) -> Calls:
        return drive(server.port, [creations(where[server.name])], bench.seconds)

    calls_in_turns(bench.servers, bench.rounds, figure, measure)
    return [figure]
