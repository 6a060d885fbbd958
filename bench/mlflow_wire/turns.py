"""Rounds in turns, and what a phase is given."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.mlflow_wire.figures import Figure
from bench.mlflow_wire.servers import Server
from bench.mlflow_wire.wire import Calls


@dataclass(frozen=True, slots=True)
class Bench:
    """What every phase needs.

    Attributes:
        servers: running, in the order of their turns.
        folder: where they write.
        rounds: that count.
        seconds: a round of one server lasts, at least one call long.
        large: names of the servers that are asked for the search over 100,000 runs.
        fresh: makes another server of each kind, not started, in a folder of its own.
        told: takes a remark.
    """

    servers: list[Server]
    folder: Path
    rounds: int
    seconds: float
    large: Sequence[str]
    fresh: Sequence[Callable[[], Server]]
    told: Callable[[str], None]


def bare(bench: Bench) -> None:
    """Tells what one fsync of 4 KiB at the end of a file in the same folder takes: no durable call can be faster
    unless it shares the fsync with others."""
    file = bench.folder / "bare"
    times: list[float] = []
    with file.open("ab", buffering=0) as out:
        until = time.perf_counter() + 0.5
        while (began := time.perf_counter()) < until:
            out.write(b"\0" * 4096)
            os.fsync(out.fileno())
            times.append(1e3 * (time.perf_counter() - began))
    file.unlink()
    times.sort()
    middle, high = times[len(times) // 2], times[len(times) * 9 // 10]
    words = f"p50 {middle:.3g} ms, p90 {high:.3g} ms, {1e3 * len(times) / sum(times):,.0f} /s"
    bench.told(f"bare limit, fsync of a 4 KiB append: {words}")


def in_turns(servers: Sequence[Server], rounds: int, measure: Callable[[Server, bool], None]) -> None:
    """Measures the servers in turns, so that a busy moment hits both. One more round comes first and does not count:
    ``measure`` is told whether this one does."""
    for number in range(rounds + 1):
        for server in servers:
            measure(server, number > 0)


def calls_in_turns(
    servers: Sequence[Server], rounds: int, figure: Figure, measure: Callable[[Server], Calls], each: int = 1
) -> None:
    """Rates (``each`` of the unit a call) or, for a figure that is no rate, milliseconds of the median call."""

    def once(server: Server, counts: bool) -> None:
        before = server.cpu()
        found = measure(server)
        used = 1e3 * (server.cpu() - before) / found.count
        if not counts:
            return
        if figure.rate:
            figure.add(server, found.rate * each, found.median, used)
        else:
            figure.add(server, found.median, cpu=used)

    in_turns(servers, rounds, once)
