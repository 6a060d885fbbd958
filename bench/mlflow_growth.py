"""One workspace that grows to ten million metric points and more, through MLflow's wire: what each decade costs.

``python -m bench.mlflow_growth [--points 100000000]``. Nine runs of ten have 10 keys of 1,000 points, the tenth has one
key of 10,000; eight connections log them in batches of 1,000. At each power of ten the script stops and takes, one
request at a time: what the database weighs, and the time of log-batch, get-run, history, curves and search. A time
that does not grow with the points says that the next decade will cost the same. ``--server mlflow`` asks MLflow the
same.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from bench.mlflow_wire import databases, seeds, servers, signals
from bench.mlflow_wire.servers import Server
from bench.mlflow_wire.wire import API, Connection, Conversation, drive, get, post

_AJAX = "/ajax-api/2.0/mlflow"
_RUN = 10_000
"""Points of a run."""
_BATCH = 1000
_KEYS = [f"m{n}" for n in range(10)]
_MANY = [f"metric_{n}" for n in range(1000)]
_CONNECTIONS = 8
_PROBES = 20
_COLUMNS = {
    "points": "points",
    "runs": "runs",
    "fill": "filled, points/s",
    "database": "database, B/point",
    "folder": "whole folder, B/point",
    "memory": "memory, MB",
    "batch_key": "log_batch one key, ms",
    "batch_keys": "log_batch 1,000 keys, ms",
    "get_run": "get_run, ms",
    "short": "history of 1,000, ms",
    "long": "history of 10,000, ms",
    "curve": "curve of 10,000 in 320, ms",
    "interval": "curves of 10 runs in 320, ms",
    "newest": "search newest 100, ms",
    "filtered": "search filter + order, ms",
}


@dataclass(slots=True)
class _Growth:
    """What is there so far.

    Attributes:
        experiment: of all filled runs.
        probes: the experiment of the runs that the probes write.
        runs: ids of the filled runs by their number; every tenth has one long key.
        extra: points that the probes wrote.
    """

    server: Server
    experiment: str
    probes: str
    runs: list[str] = field(default_factory=list[str])
    extra: int = 0

    @property
    def points(self) -> int:
        return len(self.runs) * _RUN + self.extra

    def fill(self, target: int) -> float:
        """Adds whole runs until there are so many points; points a second."""
        first, until = len(self.runs), max(len(self.runs), -(-(target - self.extra) // _RUN))
        self.runs += [""] * (until - first)
        numbers = iter(range(first, until))
        began = time.perf_counter()
        drive(self.server.port, [self._teller(numbers) for _ in range(min(_CONNECTIONS, until - first))])
        return (until - first) * _RUN / (time.perf_counter() - began)

    def _teller(self, numbers: Iterator[int]) -> Conversation:
        for number in numbers:
            head = {"experiment_id": self.experiment, "run_name": f"run-{number}", "start_time": seeds.BEGAN + number}
            made = msgspec.json.decode((yield post(f"{API}/runs/create", head)))
            run_id = self.runs[number] = made["run"]["info"]["run_id"]
            for n in range(_RUN // _BATCH):
                key, first = ("m0", n * _BATCH) if number % 10 == 9 else (_KEYS[n], 0)
                yield _logged(run_id, key, first, number)
            yield post(f"{API}/runs/update", {"run_id": run_id, "status": "FINISHED"})


@lru_cache(maxsize=1024)
def _curve(key: str, first: int, variant: int) -> str:
    """All points of a batch but the last; made once, so that making them does not slow the filling.

    Values and the milliseconds of the times are noise: nothing that stores them shall gain from a pattern of ours.
    """
    draw = random.Random(variant)
    return "".join(_point(key, draw.random(), draw.randrange(1000), n) + "," for n in range(first, first + _BATCH - 1))


def _point(key: str, value: float, noise: int, step: int) -> str:
    return f'{{"key":"{key}","value":{value!r},"timestamp":{seeds.BEGAN + 1000 * step + noise},"step":{step}}}'


def _logged(run_id: str, key: str, first: int, number: int) -> bytes:
    """A batch of a run; its last value, which searches compare, is the run's own."""
    last = _point(key, random.Random(f"{number} {key}").random(), 0, first + _BATCH - 1)
    points = _curve(key, first, number % 16) + last
    return post(f"{API}/runs/log-batch", f'{{"run_id":"{run_id}","metrics":[{points}]}}'.encode())


def _median(connection: Connection, make: Callable[[int], bytes], check: Callable[[Any], bool]) -> float:
    """Milliseconds of the median of so many requests, made before the clock starts; the first is not counted."""
    times: list[float] = []
    for n in range(_PROBES + 1):
        request = make(n)
        began = time.perf_counter()
        answer = connection.exchange(request)
        times.append(1e3 * (time.perf_counter() - began))
        if n == 0 and not check(msgspec.json.decode(answer)):
            raise RuntimeError(f"not what was asked for: {answer[:400]!r}")
    return statistics.median(times[1:])


def _probe(growth: _Growth) -> dict[str, float]:
    draw = random.Random(growth.points)
    short = [run for n, run in enumerate(growth.runs) if n % 10 != 9]
    long = [run for n, run in enumerate(growth.runs) if n % 10 == 9]
    found: dict[str, float] = {}

    def history(runs: Sequence[str]) -> Callable[[int], bytes]:
        return lambda n: get(
            f"{API}/metrics/get-history", run_id=draw.choice(runs), metric_key="m0", max_results=25_000
        )

    def curves(runs: Sequence[str], count: int) -> Callable[[int], bytes]:
        asked = {"metric_key": "m0", "max_results": 320}
        return lambda n: get(
            f"{_AJAX}/metrics/get-history-bulk-interval", run_ids=draw.sample(runs, min(count, len(runs))), **asked
        )

    def search(**words: Any) -> bytes:
        return post(f"{API}/runs/search", {"experiment_ids": [growth.experiment], "max_results": 100, **words})

    size = min(100, len(growth.runs))
    order = {"filter": "metrics.m0 > 0.5", "order_by": ["metrics.m1 DESC"]}
    with growth.server.connect() as connection:
        one, many = (seeds.run(connection, growth.probes) for _ in range(2))
        found["batch_key"] = _median(
            connection, lambda n: seeds.batch(one, ["loss"], range(n * 1000, n * 1000 + 1000)), lambda _: True
        )
        found["batch_keys"] = _median(connection, lambda n: seeds.batch(many, _MANY, range(n, n + 1)), lambda _: True)
        growth.extra += 2 * (_PROBES + 1) * _BATCH
        found["get_run"] = _median(
            connection,
            lambda n: get(f"{API}/runs/get", run_id=draw.choice(short)),
            lambda found: len(found["run"]["data"]["metrics"]) == len(_KEYS),
        )
        found["short"] = _median(connection, history(short), lambda found: len(found["metrics"]) == _BATCH)
        found["long"] = _median(connection, history(long), lambda found: len(found["metrics"]) == _RUN)
        found["curve"] = _median(connection, curves(long, 1), lambda found: 320 <= len(found["metrics"]) <= 330)
        found["interval"] = _median(connection, curves(short, 10), lambda found: len(found["metrics"]) >= 320)
        newest = growth.runs[-1]
        found["newest"] = _median(
            connection,
            lambda n: search(),
            lambda found: len(found["runs"]) == size and found["runs"][0]["info"]["run_id"] == newest,
        )
        found["filtered"] = _median(connection, lambda n: search(**order), lambda found: 0 < len(found["runs"]) <= size)
    return found


def _folder(root: Path) -> int:
    return sum(file.lstat().st_size for file in root.rglob("*") if file.is_file() and file.name != "server.log")


def _decade(growth: _Growth, target: int) -> dict[str, float]:
    fill = growth.fill(target)
    probed = _probe(growth)
    database = databases.size(growth.server.database)
    whole = _folder(growth.server.folder) + (database if growth.server.url else 0)
    return {
        "points": growth.points,
        "runs": len(growth.runs),
        "fill": fill,
        "database": database / growth.points,
        "folder": whole / growth.points,
        "memory": sum(held for held, _ in growth.server.memory()) / 1e6,
        **probed,
    }


def _read(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.mlflow_growth", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--points", type=int, default=10_000_000, help="to grow to (10000000)")
    parser.add_argument("--from", dest="first", type=int, default=100_000, metavar="POINTS", help="first stop (100000)")
    parser.add_argument("--server", choices=("noria", "mlflow"), default="noria")
    parser.add_argument("--mlflow", default="mlflow", metavar="PATH", help="its command, or the Python that has it")
    parser.add_argument("--noria", metavar="PATH", help="its command (that of this environment)")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--json", metavar="FILE", help="for machines; - is the standard output")
    given = parser.parse_args(arguments)
    if not 10 * _RUN <= given.first <= given.points:
        parser.error(f"the first stop lies between {10 * _RUN} and --points")
    return given


def _stops(first: int, last: int) -> list[int]:
    """Powers of ten times the first, and the last."""
    made: list[int] = []
    at = first
    while at < last:
        made.append(at)
        at *= 10
    return [*made, last]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    given = _read(arguments)
    signals.obey()
    print(f"{given.server}, {given.database}, {os.cpu_count()} cores; load before the start {os.getloadavg()[0]:.2f}")
    lines: list[dict[str, float]] = []
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="noria-bench-")))
        places = stack.enter_context(databases.databases(given.database))
        if given.server == "mlflow":
            server = servers.mlflow(given.mlflow, root, places, 1)
        else:
            server = servers.noria(given.noria, root, places)
        stack.callback(server.drop)
        server.make()
        server.start()
        server.settle()
        growth = _Growth(server, seeds.experiment(server, "growth"), seeds.experiment(server, "probes"))
        for target in _stops(given.first, given.points):
            lines.append(_decade(growth, target))
            print(_line(lines[-1]), flush=True)
    print()
    print(_table(lines))
    if given.json:
        text = json.dumps({"server": given.server, "database": given.database, "decades": lines}, indent=1)
        if given.json == "-":
            print(text)
        else:
            Path(given.json).write_text(text + "\n", encoding="utf-8")
    return 0


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _line(found: dict[str, float]) -> str:
    return "; ".join(f"{words} {_number(found[key])}" for key, words in _COLUMNS.items())


def _table(lines: Sequence[dict[str, float]]) -> str:
    """What is measured downwards, decades across."""
    rows = [[words, *(_number(found[key]) for found in lines)] for key, words in _COLUMNS.items()]
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    return "\n".join(
        "  ".join(word.ljust(width) if n == 0 else word.rjust(width) for n, (word, width) in enumerate(pairs))
        for pairs in ([*zip(row, widths, strict=True)] for row in rows)
    )


if __name__ == "__main__":
    sys.exit(main())
