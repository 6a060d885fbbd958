"""What a command waits for before it does anything: ``import noria`` and ``noria --help``, over bare Python."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bench.places import folder
from bench.result import Result, in_turns, seconds


def measure(*, quick: bool = False) -> list[Result]:
    """Each time a fresh process; files are in the page cache, byte code is compiled (the first round does that)."""
    noria = Path(sys.executable).with_name("noria")
    commands = [
        [sys.executable, "-c", "pass"],
        [sys.executable, "-c", "import noria"],
        [str(noria), "--help"],
    ]
    with folder() as here:

        def run(command: list[str]) -> float:
            return 1000 * seconds(lambda: subprocess.run(command, cwd=here, stdout=subprocess.DEVNULL, check=True))

        bare, imported, helped = in_turns(5 if quick else 25, *(lambda c=c: run(c) for c in commands))
    peer = {"peer": bare, "peer_name": "python -c pass", "unit": "ms", "compare": "difference"}
    return [
        Result(name="import noria", ours=imported, goal=60, **peer),
        Result(name="noria --help", ours=helped, goal=150, **peer),
    ]
