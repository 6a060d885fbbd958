"""Features of one row, computed as an endpoint does, without HTTP and without a model."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from bench import shop
from bench.places import project
from bench.result import Result, in_turns
from noria.features.function import FeatureSpec
from noria.features.service import FeatureServer
from noria.workspace import Workspace

if TYPE_CHECKING:
    import polars as pl


def _server(ws: Workspace, name: str) -> FeatureServer:
    spec = FeatureSpec.of(ws.pipelines.current(name).meta["features"])
    ws.features.keep(spec)
    return ws.features.server(spec, ws.pipelines.graph().node(name).thing)


def _each(rows: list[pl.DataFrame], call: Callable[[pl.DataFrame], object]) -> Callable[[], float]:
    """Milliseconds a call, over all rows, one at a time."""

    def run() -> float:
        start = time.perf_counter()
        for row in rows:
            call(row)
        return 1000 * (time.perf_counter() - start) / len(rows)

    return run


def measure(*, quick: bool = False) -> list[Result]:
    """The peer is the Polars expression of the first function alone: what nobody can save who calls it."""
    with project(shop.MODULES) as ws:
        orders = shop.newest(shop.fill(ws)["orders"])
        rows = [orders[n : n + 1] for n in range(len(orders))] * (1 if quick else 4)
        servers = [_server(ws, name) for name in ("basket", "basket_and_staff")]
        calls = [server.compute for server in servers]
        bare = _each(rows, lambda row: row.lazy().select("id", "shop", "n", "price").collect())
        passed, looked_up, alone = in_turns(2 if quick else 7, *(_each(rows, call) for call in calls), bare)
        for server in servers:
            server.close()
    peer = {"peer": alone, "peer_name": "its select() alone", "unit": "ms"}
    return [
        Result(name="features of one row, columns passed through", ours=passed, **peer),
        Result(name="features of one row, one nr.asof", ours=looked_up, **peer),
    ]
