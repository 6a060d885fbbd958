"""MLflow's database in a file of SQLite as a source."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from noria.gateways.mlflow.door import STATES
from noria.gateways.mlflow.moving import places
from noria.gateways.mlflow.moving.database_models import ModelSheets
from noria.gateways.mlflow.moving.database_traces import TraceSheets
from noria.gateways.mlflow.moving.records import (
    SourceExperiment,
    SourceFile,
    SourceRun,
    Unreachable,
)
from noria.gateways.mlflow.moving.sheets import PAGE, mark_of, marks_of, quoted
from noria.tracking.blocks import Mark
from noria.tracking.records import Dataset, DatasetInput, ForeignRun

_PIECE: Final = 10_000
"""Points that are read at once."""
_BESIDE: Final = ("mlruns", "mlartifacts")
"""Folders beside a database that MLflow puts files into unless it is told otherwise."""
_OTHERS: Final = {
    "evaluation_datasets": "evaluation datasets",
    "scorers": "scorers",
    "issues": "issues",
    "webhooks": "webhooks",
}


class DatabaseSource(ModelSheets, TraceSheets):
    """What a server writes meanwhile may be seen or not; the next import brings it."""

    near = True

    def __init__(self, path: Path, artifacts: Path | None = None) -> None:
        super().__init__(path)
        self._artifacts = artifacts
        self._base = path.resolve().parent
        own = [self._base / name for name in _BESIDE]
        self._roots = own if artifacts is None else [artifacts, *own]

    # ---- experiments and runs

    def experiments(self) -> Iterator[SourceExperiment]:
        tags: dict[Any, dict[str, str]] = defaultdict(dict)
        for id, key, value in self._rows("experiment_tags", {"experiment_id": 0, "key": "", "value": ""}):
            tags[id][key] = value or ""
        columns = {
            "experiment_id": 0,
            "name": "",
            "artifact_location": "",
            "lifecycle_stage": "active",
            "creation_time": None,
        }
        for id, name, place, stage, created in self._rows("experiments", columns, "ORDER BY experiment_id"):
            yield SourceExperiment(
                id=str(id),
                name=name,
                place=place or "",
                deleted=stage == "deleted",
                created_at=created,
                tags=dict(tags.get(id, {})),
            )

    def count(self, experiment: SourceExperiment) -> int | None:
        return self._read("SELECT count(*) FROM runs WHERE experiment_id = ?", (int(experiment.id),))[0][0]

    def runs(self, experiment: SourceExperiment) -> Iterator[list[SourceRun]]:
        after = ""
        columns = {
            "run_uuid": "",
            "name": "",
            "user_id": "",
            "status": "",
            "start_time": None,
            "end_time": None,
            "lifecycle_stage": "active",
            "artifact_uri": "",
        }
        rest = "WHERE experiment_id = ? AND run_uuid > ? ORDER BY run_uuid LIMIT ?"
        while True:
            rows = self._rows("runs", columns, rest, (int(experiment.id), after, PAGE))
            if not rows:
                return
            after = rows[-1][0]
            yield self._page(rows)

    def _page(self, rows: Sequence[Any]) -> list[SourceRun]:
        ids = [row[0] for row in rows]
        params, tags = self._texts("params", ids), self._texts("tags", ids)
        latest, counts = self._latest(ids), self._counts(ids)
        inputs = self._inputs(ids)
        read, made = self._models_of(ids)
        return [
            SourceRun(
                said=ForeignRun(
                    id=id,
                    name=name or tags[id].get("mlflow.runName", ""),
                    user=user or "",
                    state=STATES.get(status, STATES["FAILED"]),
                    started_at=start,
                    ended_at=end,
                    params=params[id],
                    tags=tags[id],
                    inputs=inputs[id],
                ),
                deleted=stage == "deleted",
                latest=latest[id],
                extent=str(counts.get(id, 0)),
                place=place or "",
                read=read[id],
                made=made[id],
            )
            for id, name, user, status, start, end, stage, place in rows
        ]

    def _texts(self, table: str, ids: list[str]) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = defaultdict(dict)
        columns = {"run_uuid": "", "key": "", "value": ""}
        for id, key, value in self._rows(table, columns, f"WHERE run_uuid IN ({marks_of(ids)})", ids):
            found[id][key] = value or ""
        return found

    def _latest(self, ids: list[str]) -> dict[str, dict[str, Mark]]:
        found: dict[str, dict[str, Mark]] = defaultdict(dict)
        columns = {"run_uuid": "", "key": "", "timestamp": 0, "step": 0, "value": 0.0, "is_nan": 0}
        for id, key, *mark in self._rows("latest_metrics", columns, f"WHERE run_uuid IN ({marks_of(ids)})", ids):
            found[id][key] = mark_of(*mark)
        return found

    def _counts(self, ids: list[str]) -> dict[str, int]:
        rest = f"WHERE run_uuid IN ({marks_of(ids)}) GROUP BY run_uuid"
        return dict(self._read(f"SELECT run_uuid, count(*) FROM metrics {rest}", ids))

    def _inputs(self, ids: list[str]) -> dict[str, list[DatasetInput]]:
        found: dict[str, list[DatasetInput]] = defaultdict(list)
        if not {"inputs", "input_tags", "datasets"} <= self._columns.keys():
            return found
        rows = self._read(
            "SELECT i.destination_id, i.input_uuid, d.name, d.digest, d.dataset_source_type, d.dataset_source,"
            " d.dataset_schema, d.dataset_profile FROM inputs i JOIN datasets d ON d.dataset_uuid = i.source_id"
            f" WHERE i.source_type = 'DATASET' AND i.destination_type = 'RUN' AND i.destination_id IN ({marks_of(ids)})"
            " ORDER BY i.input_uuid",
            ids,
        )
        uuids = [row[1] for row in rows]
        tags: dict[str, dict[str, str]] = defaultdict(dict)
        for start in range(0, len(uuids), 500):
            part = uuids[start : start + 500]
            columns = {"input_uuid": "", "name": "", "value": ""}
            for uuid, key, value in self._rows("input_tags", columns, f"WHERE input_uuid IN ({marks_of(part)})", part):
                tags[uuid][key] = value
        for run, uuid, name, digest, kind, source, schema, profile in rows:
            data = Dataset(
                name=name, digest=digest, source_type=kind or "", source=source or "", schema=schema, profile=profile
            )
            found[run].append(DatasetInput(dataset=data, tags=dict(tags[uuid])))
        return found

    def _models_of(self, ids: list[str]) -> tuple[dict[str, list[str]], dict[str, list[tuple[str, int]]]]:
        read: dict[str, list[str]] = defaultdict(list)
        made: dict[str, list[tuple[str, int]]] = defaultdict(list)
        columns = {"source_type": "", "source_id": "", "destination_type": "", "destination_id": "", "step": 0}
        rest = (
            f"WHERE source_type IN ('RUN_INPUT', 'RUN_OUTPUT') AND source_id IN ({marks_of(ids)}) ORDER BY input_uuid"
        )
        for how, run, what, model, step in self._rows("inputs", columns, rest, ids):
            if how == "RUN_OUTPUT" and what == "MODEL_OUTPUT":
                made[run].append((model, step or 0))
            elif how == "RUN_INPUT" and what == "MODEL_INPUT":
                read[run].append(model)
        return read, made

    def history(self, run: SourceRun) -> Iterator[tuple[str, list[Mark]]]:
        columns = {"rowid": 0, "key": "", "timestamp": 0, "step": 0, "value": 0.0, "is_nan": 0}
        # By the rowid, which the index of runs holds: in the order of logging, and without sorting.
        rest = f"WHERE run_uuid = ? AND rowid > ? ORDER BY rowid LIMIT {_PIECE}"
        after = -1
        while rows := self._rows("metrics", columns, rest, (run.said.id, after)):
            after = rows[-1][0]
            piece: dict[str, list[Mark]] = defaultdict(list)
            for _, key, *mark in rows:
                piece[key].append(mark_of(*mark))
            yield from piece.items()

    # ---- files

    def files(self, place: str) -> Iterator[SourceFile]:
        if place.startswith("mlflow-artifacts:"):
            if self._artifacts is None:
                raise Unreachable("they lie in the server's artifact folder: name it with --artifacts")
            inner = [part for part in place.partition(":")[2].split("/") if part]
            if ".." in inner:
                raise Unreachable("its place leads elsewhere")
            found = places.inside(self._artifacts.joinpath(*inner), [self._artifacts])
            if found is None:
                raise Unreachable("its place leads elsewhere")
            return places.walk(*found)
        return places.files_in(place, self._roots, places.OUTSIDE, base=self._base)

    def others(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for table, what in _OTHERS.items():
            if table in self._columns:
                count = self._read(f"SELECT count(*) FROM {quoted(table)}")[0][0]
                if count:
                    found[what] = count
        return found
