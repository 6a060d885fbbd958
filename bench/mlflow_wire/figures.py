"""What was measured: rounds in turns, medians, the table and the JSON."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.mlflow_wire.servers import Server

HEAD = ("what", "mlflow", "noria", "better", "reach", "met", "CPU mlflow", "CPU noria")


@dataclass(slots=True)
class Figure:
    """One line of the table.

    Attributes:
        name: what was measured.
        unit: of the values.
        rate: whether more is better.
        times: how many times better than MLflow it shall be; None without such a goal.
        limit: what ours shall not exceed; None without such a goal.
        rounds: server -> the value of each round.
        p50: server -> milliseconds of the median call of each round, for rates.
        cpu: server -> CPU milliseconds a call of all its processes, of each round. Other work on the machine moves
            them less than it moves times. Those of a PostgreSQL server are nobody's.
    """

    name: str
    unit: str
    rate: bool = False
    times: float | None = None
    limit: float | None = None
    rounds: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    p50: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    cpu: dict[str, list[float]] = field(default_factory=dict[str, list[float]])

    def add(self, server: Server, value: float, p50: float | None = None, cpu: float | None = None) -> None:
        """One round's value."""
        self.rounds.setdefault(server.name, []).append(value)
        if cpu is not None:
            self.cpu.setdefault(server.name, []).append(cpu)
        if p50 is not None:
            self.p50.setdefault(server.name, []).append(p50)

    def median(self, server: str) -> float | None:
        """Of the rounds; None where the server was not measured."""
        values = self.rounds.get(server)
        return statistics.median(values) if values else None

    @property
    def better(self) -> float | None:
        """How many times better noria is; below 1 it is worse."""
        theirs, ours = self.median("mlflow"), self.median("noria")
        if not theirs or not ours:
            return None
        return ours / theirs if self.rate else theirs / ours

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None without one, or where it cannot be said."""
        ours = self.median("noria")
        if self.limit is not None and ours is not None:
            return ours <= self.limit
        if self.times is not None and self.better is not None:
            return self.better >= self.times
        return None

    def words(self) -> tuple[str, ...]:
        """A line of the table."""
        reach = "-"
        if self.times is not None:
            reach = f"{self.times:g} x"
        if self.limit is not None:
            reach = f"under {self.limit:g} {self.unit}"
        better = "-" if self.better is None else f"{_number(self.better)} x"
        met = {True: "yes", False: "no", None: "-"}[self.met]
        cells = (self._cell("mlflow"), self._cell("noria"), better, reach, met)
        return (self.name, *cells, self._cpu("mlflow"), self._cpu("noria"))

    def _cpu(self, server: str) -> str:
        values = self.cpu.get(server)
        return f"{_number(statistics.median(values))} ms" if values else "-"

    def _cell(self, server: str) -> str:
        value = self.median(server)
        if value is None:
            return "-"
        p50 = self.p50.get(server)
        tail = f" (p50 {_number(statistics.median(p50))} ms)" if p50 else ""
        return f"{_number(value)} {self.unit}{tail}".rstrip()


def aligned(figures: Sequence[Figure]) -> str:
    """For a terminal."""
    lines = [HEAD, *(figure.words() for figure in figures)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEAD))]
    return "\n".join("  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)) for line in lines)


def markdown(figures: Sequence[Figure]) -> str:
    """For a page."""
    lines = ["| " + " | ".join(HEAD) + " |", "|---|--:|--:|--:|--:|---|--:|--:|"]
    return "\n".join([*lines, *("| " + " | ".join(figure.words()) + " |" for figure in figures)])


def plain(figure: Figure) -> dict[str, Any]:
    """For JSON: every round is in it."""
    return {
        "name": figure.name,
        "unit": figure.unit,
        "mlflow": figure.median("mlflow"),
        "noria": figure.median("noria"),
        "better": figure.better,
        "reach_times": figure.times,
        "reach_limit": figure.limit,
        "met": figure.met,
        "rounds": figure.rounds,
        "p50_ms": figure.p50,
        "cpu_ms_a_call": figure.cpu,
    }


def machine() -> dict[str, Any]:
    """What the times depend on."""
    return {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "load": [round(value, 2) for value in os.getloadavg()],
    }


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
