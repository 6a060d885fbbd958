"""The phases that read: each compares the answers with what is there before it takes the time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from bench.mlflow_wire import seeds
from bench.mlflow_wire.figures import Figure
from bench.mlflow_wire.servers import Server
from bench.mlflow_wire.turns import Bench, calls_in_turns, in_turns
from bench.mlflow_wire.wire import API, Calls, Connection, Conversation, drive, get, post, repeat

POINTS = 100_000
"""Of the long history."""
_POINTS_A_PAGE = 25_000
_LATEST = 100
_FIFTY = [f"metric_{n}" for n in range(50)]
_FILTER = {"filter": "metrics.m0 > 0.5", "order_by": ["metrics.m1 DESC"]}


def get_run(bench: Bench) -> list[Figure]:
    """A run with 50 metrics, each with two points."""
    figure = Figure("get_run, 50 metrics", "calls/s", rate=True, times=10.0)
    asked: dict[str, bytes] = {}
    for server in bench.servers:
        with server.connect() as connection:
            run_id = seeds.run(connection, seeds.experiment(server, "get_run"))
            connection.exchange(seeds.batch(run_id, _FIFTY, range(2)))
            asked[server.name] = get(f"{API}/runs/get", run_id=run_id)
            found = connection.json(asked[server.name])["run"]["data"]["metrics"]
        if sorted(m["key"] for m in found) != sorted(_FIFTY) or {m["value"] for m in found} != {0.5}:
            raise RuntimeError(f"{server.name} answers {len(found)} metrics of 50, or not their last values")
    calls_in_turns(
        bench.servers,
        bench.rounds,
        figure,
        lambda server: drive(server.port, [repeat(asked[server.name])], bench.seconds),
    )
    return [figure]


def search(bench: Bench) -> list[Figure]:
    """Over 10,000 runs of 10 metrics, 5 parameters, 4 tags."""
    return _search(bench, bench.servers, 10_000, times=(10.0, 70.0))


def search_large(bench: Bench) -> list[Figure]:
    """Over 100,000 of them."""
    servers = [server for server in bench.servers if server.name in bench.large]
    return _search(bench, servers, 100_000, times=(None, None), most=100.0) if servers else []


def _search(
    bench: Bench,
    servers: Sequence[Server],
    runs: int,
    times: tuple[float | None, float | None],
    most: float | None = None,
) -> list[Figure]:
    where = {server.name: seeds.runs(server, runs, bench.told) for server in servers}
    figures: list[Figure] = []
    questions = (
        (f"newest {_LATEST}", {}, seeds.newest(runs, _LATEST)),
        ("metric filter + order by metric", _FILTER, seeds.filtered(runs, _LATEST)),
    )
    for (words, asked, expected), reach in zip(questions, times, strict=True):
        figure = Figure(f"search {runs:,} runs: {words}", "ms", times=reach, limit=most)
        requests: dict[str, bytes] = {}
        for server in servers:
            body = {"experiment_ids": [where[server.name]], "max_results": _LATEST, **asked}
            requests[server.name] = post(f"{API}/runs/search", body)
            _same(server, requests[server.name], expected)
        calls_in_turns(
            servers,
            bench.rounds,
            figure,
            lambda server, asked=requests: drive(server.port, [repeat(asked[server.name])], bench.seconds),
        )
        figures.append(figure)
    return figures


def _same(server: Server, request: bytes, expected: Sequence[str]) -> None:
    """Raises if a search does not answer these runs in this order, each whole."""
    with server.connect() as connection:
        found = connection.json(request)["runs"]
    if [one["info"]["run_name"] for one in found] != list(expected):
        raise RuntimeError(f"{server.name} answers other runs than those asked for, or in another order")
    for one in found:
        data = one["data"]
        sizes = (len(data["metrics"]), len(data["params"]), len(data["tags"]))
        if sizes < (seeds.METRICS, seeds.PARAMS, seeds.TAGS):
            raise RuntimeError(f"{server.name} answers runs with {sizes} metrics, parameters, tags")


def pages(connection: Connection, run_id: str, key: str) -> Iterator[list[dict[str, Any]]]:
    """A whole history, page by page."""
    token = ""
    while True:
        page = connection.json(_page(run_id, key, token))
        yield page.get("metrics", [])
        token = page.get("next_page_token", "")
        if not token:
            return


def _page(run_id: str, key: str, token: str) -> bytes:
    query = {"run_id": run_id, "metric_key": key, "max_results": _POINTS_A_PAGE}
    return get(f"{API}/metrics/get-history", **query, **({"page_token": token} if token else {}))


class _Token(msgspec.Struct):
    """Only this is read when time is taken: the client shall not be what is measured."""

    next_page_token: str = ""


def _walk(run_id: str) -> Conversation:
    token = ""
    while True:
        answer = yield _page(run_id, "loss", token)
        token = msgspec.json.decode(answer, type=_Token).next_page_token
        if not token:
            return


def history(bench: Bench) -> list[Figure]:
    """100,000 points of one key: all of them in pages of 25,000, and sampled by the server."""
    paged = Figure(f"history of {POINTS:,} points, paged", "s", times=10.0)
    sampled = Figure(f"history of {POINTS:,} points, bulk interval of 2,500", "ms", times=10.0)
    runs = {server.name: seeds.history(server, POINTS, bench.told) for server in bench.servers}
    for server in bench.servers:
        with server.connect() as connection:
            values = [m["value"] for page in pages(connection, runs[server.name], "loss") for m in page]
        if sorted(values) != [n / 2 for n in range(POINTS)]:
            raise RuntimeError(f"{server.name} answers {len(values):,} points of {POINTS:,}, or not the right ones")

    def whole(server: Server, counts: bool) -> None:
        before = server.cpu()
        found = drive(server.port, [_walk(runs[server.name])])
        if counts:
            paged.add(server, found.elapsed, cpu=1e3 * (server.cpu() - before))

    def sample(server: Server) -> Calls:
        query = {"run_ids": runs[server.name], "metric_key": "loss", "max_results": 2500}
        asked = get("/ajax-api/2.0/mlflow/metrics/get-history-bulk-interval", **query)
        return drive(server.port, [repeat(asked)], bench.seconds)

    in_turns(bench.servers, bench.rounds, whole)
    calls_in_turns(bench.servers, bench.rounds, sampled, sample)
    return [paged, sampled]
