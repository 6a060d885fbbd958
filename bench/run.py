"""Runs the benchmarks and prints one table: ``python -m bench.run [NAME...] [--quick] [--write]``."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence

from bench import table
from bench.result import Result

MODULES = ("imports", "files", "data", "steps", "rows", "bigtable", "features", "serving")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0 also where a goal is missed, since a busy machine is no mistake."""
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which ones (all of {', '.join(MODULES)})")
    parser.add_argument("--quick", action="store_true", help="smaller sizes and fewer rounds: does it work at all")
    parser.add_argument("--write", action="store_true", help=f"put the table into {table.PAGE.name}")
    given = parser.parse_args(arguments)
    unknown = set(given.names) - set(MODULES)
    if unknown:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(MODULES)}")
    if given.write and (given.quick or given.names):
        parser.error("--write is for the whole run only: a page that mixes runs compares nothing")
    load = os.getloadavg()[0]
    results: list[Result] = []
    for name in given.names or MODULES:
        print(f"{name} ...", file=sys.stderr, flush=True)
        measure: Callable[..., list[Result]] = importlib.import_module(f"bench.{name}").measure
        results += measure(quick=given.quick)
    print(table.aligned(results))
    if given.write:
        table.write(results, load)
    return 0


if __name__ == "__main__":
    sys.exit(main())
