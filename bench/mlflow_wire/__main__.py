"""The same raw HTTP against ``mlflow server`` and against ``noria up``, side by side: ``python -m bench.mlflow_wire``.

Both run at once, each with a database of its own in the same temporary folder (``TMPDIR`` says where; one PostgreSQL
server for both with ``--database postgresql``), and are measured in turns: a round of one, a round of the other. A
first round does not count; each figure is the median of the others. What is answered is checked, not only timed:
acknowledged points are counted afterwards, searches and histories are compared with what was seeded.

MLflow has to be installed somewhere, with ``psycopg2-binary`` for PostgreSQL; ``--mlflow`` says where.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from bench.mlflow_wire import figures as tables
from bench.mlflow_wire import servers, signals
from bench.mlflow_wire.databases import Databases, databases
from bench.mlflow_wire.figures import Figure
from bench.mlflow_wire.phases import PHASES, Bench
from bench.mlflow_wire.servers import Server
from bench.mlflow_wire.wire import get


def _read(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.mlflow_wire", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mlflow", default="mlflow", metavar="PATH", help="its command, or the Python that has it")
    parser.add_argument("--mlflow-workers", type=int, default=1, metavar="N", help="its web processes (1)")
    parser.add_argument("--noria", metavar="PATH", help="its command (that of this environment)")
    parser.add_argument("--only", choices=("mlflow", "noria"), help="one of them alone")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--phases", default=",".join(PHASES), help="some of %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="that count (5)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of a round of one server, at least one call (2)")
    parser.add_argument("--mlflow-large", action="store_true", help="search 100,000 runs in MLflow too: minutes")
    parser.add_argument("--json", metavar="FILE", help="every round, for machines; - is the standard output")
    parser.add_argument("--markdown", action="store_true", help="the table for a page")
    given = parser.parse_args(arguments)
    given.phases = [name for name in given.phases.split(",") if name]
    unknown = set(given.phases) - set(PHASES)
    if unknown:
        parser.error(f"no phase {', '.join(sorted(unknown))}; there are {', '.join(PHASES)}")
    if given.rounds < 1 or given.seconds <= 0:
        parser.error("at least one round of more than 0 seconds")
    return given


def _told(words: str) -> None:
    print(f"  {words}", file=sys.stderr, flush=True)


def _version(server: Server) -> str:
    with server.connect() as connection:
        try:
            return connection.exchange(get("/version")).decode(errors="replace").strip()
        except RuntimeError:
            return "without /version"


def _makers(given: argparse.Namespace, root: Path, places: Databases) -> list[Any]:
    made = {
        "mlflow": partial(servers.mlflow, given.mlflow, root, places, given.mlflow_workers),
        "noria": partial(servers.noria, given.noria, root, places),
    }
    return [make for name, make in made.items() if given.only in (None, name)]


def _measure(given: argparse.Namespace, stack: ExitStack) -> tuple[list[Figure], dict[str, str]]:
    root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="noria-bench-")))
    places = stack.enter_context(databases(given.database))
    makers = _makers(given, root, places)
    large = {"noria", "mlflow"} if given.mlflow_large else {"noria"}
    bench = Bench([], places.folder or root, given.rounds, given.seconds, sorted(large), makers, _told)
    found: list[Figure] = []
    versions: dict[str, str] = {}
    if "start" in given.phases:  # while nothing else runs
        found += _phase("start", bench)
    rest = [name for name in given.phases if name != "start"]
    if rest:
        for make in makers:
            server = make()
            stack.callback(server.drop)
            server.make()
            bench.servers.append(server.start())
            versions[server.name] = _version(server)
            _told(f"{server.name} {versions[server.name]} on port {server.port}")
        for server in bench.servers:
            server.settle()
    for name in rest:
        found += _phase(name, bench)
    return found, versions


def _phase(name: str, bench: Bench) -> list[Figure]:
    print(f"{name} ... (load {os.getloadavg()[0]:.2f})", file=sys.stderr, flush=True)
    figures = PHASES[name](bench)
    for figure in figures:
        _told(" | ".join(figure.words()))
    return figures


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0 also where a goal is missed, since a busy machine is no mistake."""
    given = _read(arguments)
    signals.obey()
    machine = tables.machine()
    with ExitStack() as stack:
        found, versions = _measure(given, stack)
    load = machine["load"][0]
    print(f"{given.database}, {machine['cores']} cores, Python {machine['python']}; load before the start {load:.2f};")
    print(f"{given.rounds} rounds of {given.seconds:g} s; versions {versions or '-'}\n")
    print(tables.markdown(found) if given.markdown else tables.aligned(found))
    if given.json:
        facts = {"machine": machine, "database": given.database, "versions": versions, "rounds": given.rounds}
        text = json.dumps({**facts, "figures": [tables.plain(figure) for figure in found]}, indent=1)
        if given.json == "-":
            print(text)
        else:
            Path(given.json).write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
