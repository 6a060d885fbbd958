"""What is measured, in the order of the table."""

from __future__ import annotations

import time
from collections.abc import Callable

from bench.mlflow_wire.figures import Figure
from bench.mlflow_wire.reading import get_run, history, search, search_large
from bench.mlflow_wire.turns import Bench
from bench.mlflow_wire.writing import create_run, log_batch, log_metric


def start(bench: Bench) -> list[Figure]:
    """From nothing to healthy, then again with what is there."""
    new = Figure("start to healthy, new database", "s", limit=1.0)
    again = Figure("start to healthy, same database", "s", limit=1.0)
    for _ in range(min(bench.rounds, 3)):
        for make in bench.fresh:
            server = make()
            try:
                server.make()
                server.start()
                new.add(server, server.made + server.started)
                made = f" (noria init {server.made:.2f} s of it)" if server.made else ""
                bench.told(f"{server.name}: healthy after {server.made + server.started:.2f} s{made}")
                server.stop()
                server.start()
                again.add(server, server.started)
            finally:
                server.drop()
    return [new, again]


def memory(bench: Bench) -> list[Figure]:
    """What all processes of each server hold after what came before, and what they use when nobody asks."""
    held = Figure("memory, sum of PSS", "MB", limit=150.0)
    number = Figure("processes", "")
    idle = Figure("CPU of the idle server", "% of a core")
    for server in bench.servers:
        processes = server.memory()
        held.add(server, sum(size for size, _ in processes) / 1e6)
        number.add(server, len(processes))
        bench.told(f"{server.name}: " + ", ".join(f"{size / 1e6:.0f} MB {words}" for size, words in processes))
        before, began = server.cpu(), time.perf_counter()
        time.sleep(2)
        idle.add(server, 100 * (server.cpu() - before) / (time.perf_counter() - began))
    return [held, number, idle]


PHASES: dict[str, Callable[[Bench], list[Figure]]] = {
    "start": start,
    "log_metric": log_metric,
    "log_batch": log_batch,
    "create_run": create_run,
    "get_run": get_run,
    "search": search,
    "history": history,
    "search_large": search_large,
    "memory": memory,
}
