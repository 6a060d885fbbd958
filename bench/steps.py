"""What it costs to record a step that does nothing, and to find out that it need not run."""

from __future__ import annotations

import itertools
import json
import os
import time
from contextlib import ExitStack
from pathlib import Path

from bench.places import ME, folder, project
from bench.result import Result, in_turns, seconds
from noria.workspace import Workspace, connect

_SIZE = 200
"""Numbers in an output: about 1 KiB of JSON, far below the 64 KiB of the goal."""


def _source(count: int) -> str:
    """A chain: each step takes the output of the one before."""
    lines = ["import noria as nr", "", ""]
    for number in range(count):
        before = f"s{number - 1:04d}" if number else ""
        lines += ["@nr.dataset", f"def s{number:04d}({before}):"]
        lines += [f"    return {{'step': {number}, 'values': list(range({_SIZE}))}}", "", ""]
    return "\n".join(lines)


def _recorded(ws: Workspace, count: int) -> float:
    """Milliseconds a step, in a new workspace."""
    return 1000 * seconds(lambda: ws.pipelines.run(actor=ME)) / count


def _cached(root: Path, count: int) -> float:
    """Milliseconds a step, in a workspace in which all is up to date; opened anew each time."""
    with connect(root) as ws:
        start = time.perf_counter()
        done = ws.pipelines.run(actor=ME)
        taken = time.perf_counter() - start
    assert all(step.action == "reused" for step in done.steps.values())
    return 1000 * taken / count


def _bare(here: Path, count: int) -> float:
    """Milliseconds a step: call it, write its output as JSON, make that durable."""

    def steps() -> None:
        for number in range(count):
            value = {"step": number, "values": list(range(_SIZE))}
            with (here / f"{number}.json").open("w") as file:
                json.dump(value, file)
                file.flush()
                os.fsync(file.fileno())

    return 1000 * seconds(steps) / count


def measure(*, quick: bool = False) -> list[Result]:
    """A run of many steps over their number: what the run itself costs is shared out among them."""
    count, rounds = (40, 1) if quick else (250, 5)
    with ExitStack() as stack:  # deleted at the end only: see files.measure
        numbers = itertools.count()

        def opened(steps: int) -> Workspace:
            return stack.enter_context(project({f"chain{next(numbers)}": _source(steps)}))

        recorded, bare = in_turns(
            rounds,
            lambda: _recorded(opened(count), count),
            lambda: _bare(stack.enter_context(folder()), count),
        )
        roots: dict[int, Path] = {}
        for steps in (count, 1):
            ws = opened(steps)
            ws.pipelines.run(actor=ME)
            roots[steps] = ws.home.parent
        cached, one = in_turns(rounds, lambda: _cached(roots[count], count), lambda: _cached(roots[1], 1))
    return [
        Result(
            name=f"recorded step (of {count}, inline)",
            unit="ms",
            ours=recorded,
            peer=bare,
            peer_name="call, JSON, fsync",
            goal=2,
        ),
        Result(name=f"cached step (of {count})", unit="ms", ours=cached, goal=1),
        Result(name="run of one cached step, whole", unit="ms", ours=one),
    ]
