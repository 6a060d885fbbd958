"""Computes captured predictions again, in bulk, in a worker process; and says which rows each look-up found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import polars as pl

from noria.data.values import plain
from noria.features import kernels
from noria.features.found import Found
from noria.features.function import FeatureFunction, FeatureSpec
from noria.features.kernels import Ints
from noria.features.slices import TableMeta
from noria.features.tables_seen import Use, WholeTable
from noria.pipelines.execute import JSON, Output, Task
from noria.serving.contract import MOST_ROWS, Contract
from noria.training import package
from noria.training.asis import as_they_are
from noria.training.rows import conform

EVALUATOR = "noria.trace.run:1"
_encode = msgspec.json.Encoder().encode


@dataclass(slots=True, kw_only=True)
class WatchedTable(WholeTable):
    """A whole table that remembers what was looked up in it: (use, spine, moments, what was found)."""

    asked: list[tuple[Use, pl.DataFrame, Ints, Found]] = field(default_factory=list[Any])

    def find(self, use: Use, spine: pl.DataFrame, at: Ints) -> Found:
        found = WholeTable.find(self, use, spine, at)
        self.asked.append((use, spine, at, found))
        return found


def run_replay(task: Task) -> list[Output]:
    """For each captured request: its features, its score, and the rows behind them.

    Inputs: ``model`` (the package), and one table for each parameter that was read, at its captured commit. ``spec``:
    requests (JSON, as captured), and how many rows of each look-up are wanted.
    """
    made, predict = package.load(task.load("model"))
    spec, wanted = made.features, int(task.spec.spec["rows"])
    contract = Contract(spec.spine, spec.columns, made.needed)
    requests: list[str] = task.spec.spec["requests"]
    function = None
    if spec.entry:
        function = FeatureFunction(spec.name, task.function, spec.spine_parameter, spec.spine.key)
    answers: list[dict[str, Any]] = []
    for start in range(0, len(requests), MOST_ROWS):
        part = requests[start : start + MOST_ROWS]
        rows, _, _ = contract.decode(('{"rows":[' + ",".join(part) + "]}").encode())
        spine = contract.frame(rows)
        tables = {name: _table(task, name, meta) for name, meta in spec.tables.items()}
        frame = as_they_are(spine, spec) if function is None else function.compute(spine, tables)
        scores = predict(conform(frame, made.columns)).tolist()
        features = pl.DataFrame([frame.get_column(name) for name in made.columns.names])
        used = _used(spec, tables, len(spine), wanted)
        answers += [
            {"features": _encode(values).decode(), "score": score, "used": u}
            for values, score, u in zip(features.iter_rows(named=True), scores, used, strict=True)
        ]
    return [Output(slot="", kind=JSON, value=answers)]


def _table(task: Task, name: str, meta: TableMeta) -> WatchedTable:
    if name in task.inputs():
        frame = task.load(name, hidden=True)
    else:  # it had no commit yet when the predictions were made, or nothing is looked up in it
        from noria.data.rows.schema import polars_type

        frame = pl.DataFrame(schema={n: polars_type(kind) for n, kind in meta.columns.items()})
    return WatchedTable(name=meta.name, frame=frame, time=meta.time, known=meta.known)


def _used(spec: FeatureSpec, tables: dict[str, WatchedTable], size: int, wanted: int) -> list[list[dict[str, Any]]]:
    """For each row of the spine, what each look-up found for it."""
    made: list[list[dict[str, Any]]] = [[] for _ in range(size)]
    for table in tables.values():
        for use, spine, at, found in table.asked:
            keys = spine.select(a for a, _ in use.on).to_dicts()
            for number, places in enumerate(_places(use, at, found)):
                newest = found.index.order[places[::-1][:wanted]] if len(places) else np.zeros(0, np.int64)
                made[number].append(
                    {
                        "table": use.table,
                        "how": use.kind,
                        "on": {b: plain(keys[number][a]) for a, b in use.on},
                        "span_us": use.span_us,
                        "count": len(places),
                        "rows": [_row(row) for row in table.frame[newest.tolist()].to_dicts()],
                    }
                )
    return made


def _places(use: Use, at: Ints, found: Found) -> list[Ints]:
    """For each row of the spine, the places (in the index' order) of the rows that counted for it, oldest first."""
    none = np.zeros(0, np.int64)
    places = [none] * len(at)
    if use.kind == "asof":
        for number, place in enumerate(kernels.last_known(found.index, at, use.span_us).tolist()):
            if place >= 0:
                places[number] = np.array([place], np.int64)
        return places
    spans = kernels.windows(found.index, at, use.span_us or 0)
    for rows, starts, seen in kernels.segments(found.index, spans, at):
        ends = np.append(starts[1:], len(seen))
        for row, start, end in zip(rows.tolist(), starts.tolist(), ends.tolist(), strict=True):
            places[row] = seen[start:end]
    return places


def _row(row: dict[str, Any]) -> dict[str, Any]:
    return {name.removeprefix("__"): plain(value) for name, value in row.items() if name != "__seq"}
