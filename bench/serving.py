"""One-row predictions over HTTP: our endpoint against bare Starlette with the same model, in turns."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from bench import shop
from bench.client import drive, posts
from bench.places import ME, project
from bench.result import Result
from noria.server import launch
from noria.serving import link
from noria.serving.records import Arm
from noria.workspace import Workspace

if TYPE_CHECKING:
    import polars as pl

_CONNECTIONS = (1, 16)
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(slots=True)
class _Target:
    """A server under load, and what was found: (requests a second, CPU microseconds a request) by connections."""

    url: str
    requests: list[bytes]
    process: psutil.Process
    found: dict[int, list[tuple[float, float]]] = field(default_factory=dict[int, list[tuple[float, float]]])

    def load(self, connections: int, seconds: float) -> None:
        before = _cpu(self.process)
        answers, taken = drive(self.url, self.requests, connections, seconds)
        used = _cpu(self.process) - before
        self.found.setdefault(connections, []).append((answers / taken, 1e6 * used / answers))

    def median(self, connections: int, which: int) -> float:
        return statistics.median(values[which] for values in self.found[connections])


def _cpu(process: psutil.Process) -> float:
    """CPU seconds that a process and all below it have used."""
    times = [p.cpu_times() for p in (process, *process.children(recursive=True))]
    return sum(t.user + t.system for t in times)


def _package(ws: Workspace, model: str) -> tuple[Path, Any]:
    version = ws.registry.resolve(ws.project.id, model)
    return ws.pipelines.values.materialise(ws.training.version_of(version)), ws.training.package_of(version)


@contextmanager
def _bare(ws: Workspace, model: str, rows: Sequence[dict[str, Any]]) -> Generator[_Target]:
    """The peer, sent the finished features of the same rows."""
    folder, package = _package(ws, model)
    given = {
        "file": str(folder / package.stored.file),
        "columns": package.columns.names,
        "levels": package.columns.levels,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.bare_server", json.dumps(given)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
        env={**os.environ, **dict.fromkeys(_THREADS, "1")},
    )
    try:
        assert process.stdout is not None
        url = f"http://127.0.0.1:{int(process.stdout.readline())}/predict"
        sent = [{"row": {name: row[name] for name in package.columns.names}} for row in rows]
        yield _Target(url, posts(url, sent), psutil.Process(process.pid))
    finally:
        process.terminate()
        process.wait()


def _deploy(ws: Workspace, socket: str, model: str) -> None:
    """All traffic of an endpoint of the model's name to the model, as ``noria deploy`` does it."""
    endpoint = ws.serving.ensure(model, model, {}, actor=ME)
    deployment = ws.serving.deploy(endpoint, ws.registry.resolve(ws.project.id, model), actor=ME)
    link.call(socket, "sync", 120)
    arms = [Arm(deployment=deployment.id, role="champion", weight=1.0)]
    with ws.changes.begin("serving.route", ws.project.id, ME) as change:
        ws.serving.route(change, ws.serving.get(model), arms, salt="bench", paired=False, reason="bench")
    link.call(socket, "sync", 120)


@contextmanager
def _ours(ws: Workspace, models: Sequence[str], rows: list[dict[str, Any]]) -> Generator[list[_Target]]:
    """A supervisor with one worker that serves all the models."""
    running = launch.start(ws, host="127.0.0.1", port=0, workers=1)
    process = psutil.Process(running["pid"])
    try:
        for model in models:
            _deploy(ws, running["socket"], model)
        urls = [f"{running['url']}/endpoints/{model}/predict" for model in models]
        yield [_Target(url, posts(url, [{"row": row} for row in rows]), process) for url in urls]
    finally:
        process.terminate()
        process.wait(30)


def _features(ws: Workspace, name: str, rows: pl.DataFrame) -> list[dict[str, Any]]:
    made = ws.pipelines.value(name)
    return rows.select("id").join(made, on="id", how="inner").drop("_at").to_dicts()


def measure(*, quick: bool = False) -> list[Result]:
    """Both servers have one process that answers; the client shares the machine with them."""
    seconds, rounds = (0.5, 1) if quick else (1.5, 5)
    models = {shop.PLAIN: "basket", shop.LOOKED_UP: "basket_and_staff"}
    words = {shop.PLAIN: "columns passed through", shop.LOOKED_UP: "one nr.asof"}
    results: list[Result] = []
    with project(shop.MODULES) as ws:
        orders = shop.newest(shop.fill(ws)["orders"])
        with _ours(ws, list(models), shop.requests(orders)) as ours:
            for target, (model, features) in zip(ours, models.items(), strict=True):
                with _bare(ws, model, _features(ws, features, orders)) as peer:
                    for _ in range(rounds + 1):
                        for connections in _CONNECTIONS:
                            target.load(connections, seconds)
                            peer.load(connections, seconds)
                results += _results(words[model], target, peer)
    return results


def _results(words: str, ours: _Target, peer: _Target) -> list[Result]:
    made: list[Result] = []
    for connections in _CONNECTIONS:
        for target in (ours, peer):
            del target.found[connections][0]  # the first round warms up
        name = f"prediction, {words}, {connections} connection{'s' if connections > 1 else ''}"
        rate, cpu = ({"ours": ours.median(connections, n), "peer": peer.median(connections, n)} for n in (0, 1))
        made.append(Result(name=name, unit="/s", peer_name="bare Starlette", **rate))
        made.append(
            Result(
                name=f"{name}, CPU",
                unit="us",
                peer_name="bare Starlette",
                goal=1.0 if words.startswith("columns") else None,
                compare="ratio",
                **cpu,
            )
        )
    return made
