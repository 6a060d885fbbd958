"""MLflow's database in a file of SQLite as a source. It is opened for reading only and never migrated.

Tables and columns came to MLflow over the years, so each is asked for only where it is; what a database lacks, its
server did not know.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from noria.gateways.mlflow.door import STATES
from noria.gateways.mlflow.moving import places
from noria.gateways.mlflow.moving.errors import SourceInvalid, SourceMissing
from noria.gateways.mlflow.moving.records import (
    SourceExperiment,
    SourceFile,
    SourceLogged,
    SourceModel,
    SourcePoint,
    SourceRun,
    SourceVersion,
    Unreachable,
)
from noria.gateways.mlflow.moving.words import stage_of
from noria.tracking.blocks import Mark
from noria.tracking.records import Dataset, DatasetInput, ForeignRun

_PAGE: Final = 200
"""Runs that are read at once."""
_PIECE: Final = 10_000
"""Points that are read at once."""
_NEEDED: Final = ("experiments", "runs", "metrics", "params", "tags")
_MODEL_STATES: Final = {1: "PENDING", 2: "READY", 3: "FAILED"}
_GONE: Final = "Deleted_Internal"


class DatabaseSource:
    """One connection in one long reading transaction: what the server writes meanwhile is not seen."""

    near = True

    def __init__(self, path: Path, artifacts: Path | None = None) -> None:
        if not path.is_file():
            raise SourceMissing(f"There is no file {path}.", hint="noria import mlflow sqlite:///path/to/mlflow.db")
        self.name = f"sqlite:///{path.resolve()}"
        self._artifacts = artifacts
        self._conn = sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True, isolation_level=None)
        try:
            self._look(path)
        except sqlite3.DatabaseError as error:
            self._conn.close()
            raise SourceInvalid(f"{path} is no database of SQLite: {error}.", hint="Name MLflow's mlflow.db.") from None
        except BaseException:
            self._conn.close()
            raise

    def _look(self, path: Path) -> None:
        self._conn.execute("BEGIN")
        tables = [name for (name,) in self._conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        self._columns = {
            name: {row[1] for row in self._conn.execute(f"PRAGMA table_info({_quoted(name)})")} for name in tables
        }
        missing = [name for name in _NEEDED if name not in self._columns]
        if missing:
            raise SourceInvalid(
                f"{path} is not MLflow's database: it has no table {missing[0]!r}.",
                hint="Name the file that mlflow server has as --backend-store-uri.",
            )
        wanted = {"runs": ("run_uuid", "experiment_id", "status"), "metrics": ("run_uuid", "key", "value", "timestamp")}
        for table, columns in wanted.items():
            for column in columns:
                if column not in self._columns[table]:
                    raise SourceInvalid(
                        f"{path}: the table {table!r} has no column {column!r}: this is no version of MLflow that"
                        " can be read.",
                        hint="mlflow db upgrade sqlite:///PATH   on a copy of it, and import that.",
                    )

    def close(self) -> None:
        self._conn.close()

    def _rows(self, table: str, columns: dict[str, Any], rest: str = "", given: Sequence[Any] = ()) -> Iterator[Any]:
        """Rows of a table as tuples; for a column that is not there, what ``columns`` says instead. None: no table."""
        there = self._columns.get(table)
        if there is None:
            return iter(())
        chosen = ", ".join(_quoted(c) if c in there else f"{_literal(instead)}" for c, instead in columns.items())
        return iter(self._conn.execute(f"SELECT {chosen} FROM {_quoted(table)} {rest}", given))

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
        found = self._conn.execute("SELECT count(*) FROM runs WHERE experiment_id = ?", (experiment.id,))
        return found.fetchone()[0]

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
            rows = list(self._rows("runs", columns, rest, (int(experiment.id), after, _PAGE)))
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
        for id, key, value in self._rows(table, columns, f"WHERE run_uuid IN ({_marks(ids)})", ids):
            found[id][key] = value or ""
        return found

    def _latest(self, ids: list[str]) -> dict[str, dict[str, Mark]]:
        found: dict[str, dict[str, Mark]] = defaultdict(dict)
        columns = {"run_uuid": "", "key": "", "timestamp": 0, "step": 0, "value": 0.0, "is_nan": 0}
        for id, key, *mark in self._rows("latest_metrics", columns, f"WHERE run_uuid IN ({_marks(ids)})", ids):
            found[id][key] = _mark(*mark)
        return found

    def _counts(self, ids: list[str]) -> dict[str, int]:
        rest = f"WHERE run_uuid IN ({_marks(ids)}) GROUP BY run_uuid"
        return dict(self._conn.execute(f"SELECT run_uuid, count(*) FROM metrics {rest}", ids).fetchall())

    def _inputs(self, ids: list[str]) -> dict[str, list[DatasetInput]]:
        found: dict[str, list[DatasetInput]] = defaultdict(list)
        if not {"inputs", "input_tags", "datasets"} <= self._columns.keys():
            return found
        rows = self._conn.execute(
            "SELECT i.destination_id, i.input_uuid, d.name, d.digest, d.dataset_source_type, d.dataset_source,"
            " d.dataset_schema, d.dataset_profile FROM inputs i JOIN datasets d ON d.dataset_uuid = i.source_id"
            f" WHERE i.source_type = 'DATASET' AND i.destination_type = 'RUN' AND i.destination_id IN ({_marks(ids)})"
            " ORDER BY i.input_uuid",
            ids,
        ).fetchall()
        uuids = [row[1] for row in rows]
        tags: dict[str, dict[str, str]] = defaultdict(dict)
        for start in range(0, len(uuids), 500):
            part = uuids[start : start + 500]
            columns = {"input_uuid": "", "name": "", "value": ""}
            for uuid, key, value in self._rows("input_tags", columns, f"WHERE input_uuid IN ({_marks(part)})", part):
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
        rest = f"WHERE source_type IN ('RUN_INPUT', 'RUN_OUTPUT') AND source_id IN ({_marks(ids)}) ORDER BY input_uuid"
        for how, run, what, model, step in self._rows("inputs", columns, rest, ids):
            if how == "RUN_OUTPUT" and what == "MODEL_OUTPUT":
                made[run].append((model, step or 0))
            elif how == "RUN_INPUT" and what == "MODEL_INPUT":
                read[run].append(model)
        return read, made

    def history(self, run: SourceRun) -> Iterator[tuple[str, list[Mark]]]:
        columns = {"key": "", "timestamp": 0, "step": 0, "value": 0.0, "is_nan": 0}
        # By the rowid: in the order of logging, and without sorting.
        rows = self._rows("metrics", columns, "WHERE run_uuid = ?", (run.said.id,))
        piece: dict[str, list[Mark]] = defaultdict(list)
        held = 0
        for key, *mark in rows:
            piece[key].append(_mark(*mark))
            held += 1
            if held == _PIECE:
                yield from piece.items()
                piece, held = defaultdict(list), 0
        yield from piece.items()

    # ---- files

    def files(self, place: str) -> Iterator[SourceFile]:
        if place.startswith("mlflow-artifacts:"):
            if self._artifacts is None:
                raise Unreachable("they lie in the server's artifact folder: name it with --artifacts")
            inner = [part for part in place.partition(":")[2].split("/") if part]
            if ".." in inner:
                raise Unreachable("its place leads elsewhere")
            return places.walk(self._artifacts.joinpath(*inner), self._artifacts)
        folder = places.local(place)
        if folder is None:
            raise Unreachable(f"they stay at {places.named(place)}")
        return places.walk(folder)

    # ---- models

    def logged(self, experiment: SourceExperiment) -> Iterator[SourceLogged]:
        columns = {
            "model_id": "",
            "name": "",
            "model_type": "",
            "status": 2,
            "source_run_id": "",
            "artifact_location": "",
            "creation_timestamp_ms": 0,
            "last_updated_timestamp_ms": 0,
            "lifecycle_stage": "active",
        }
        after = ""
        rest = f"WHERE experiment_id = ? AND model_id > ? ORDER BY model_id LIMIT {_PAGE}"
        while True:
            rows = list(self._rows("logged_models", columns, rest, (int(experiment.id), after)))
            if not rows:
                return
            for row in rows:
                yield self._logged(*row)
            after = rows[-1][0]

    def _logged(self, id: str, name: str, kind: str, status: int, run: str, place: str, *more: Any) -> SourceLogged:
        created, updated, stage = more
        texts = [
            dict(self._rows(table, {key: "", value: ""}, "WHERE model_id = ?", (id,)))
            for table, key, value in (
                ("logged_model_params", "param_key", "param_value"),
                ("logged_model_tags", "tag_key", "tag_value"),
            )
        ]
        columns = {
            "run_id": "",
            "metric_name": "",
            "metric_timestamp_ms": 0,
            "metric_step": 0,
            "metric_value": None,
            "dataset_name": "",
            "dataset_digest": "",
        }
        points = [
            SourcePoint(
                run=of, key=key, mark=_mark(at, step, value, value is None), dataset=data or "", digest=digest or ""
            )
            for of, key, at, step, value, data, digest in self._rows(
                "logged_model_metrics", columns, "WHERE model_id = ?", (id,)
            )
        ]
        return SourceLogged(
            id=id,
            name=name,
            kind=kind or "",
            status=_MODEL_STATES.get(status, "UNSPECIFIED"),
            run=run or "",
            place=place or "",
            created_at=created,
            updated_at=updated,
            deleted=stage == "deleted",
            params=texts[0],
            tags=texts[1],
            points=points,
        )

    def models(self) -> Iterator[SourceModel]:
        columns = {"name": "", "description": "", "creation_time": 0, "last_updated_time": 0}
        after = ""
        while True:
            rows = list(
                self._rows("registered_models", columns, f"WHERE name > ? ORDER BY name LIMIT {_PAGE}", (after,))
            )
            if not rows:
                return
            for name, description, created, updated in rows:
                tags = dict(self._rows("registered_model_tags", {"key": "", "value": ""}, "WHERE name = ?", (name,)))
                aliases = dict(
                    self._rows("registered_model_aliases", {"alias": "", "version": 0}, "WHERE name = ?", (name,))
                )
                yield SourceModel(
                    name=name,
                    description=description or "",
                    created_at=created,
                    updated_at=updated or created,
                    tags={key: value or "" for key, value in tags.items()},
                    aliases=aliases,
                    versions=self._versions(name),
                )
            after = rows[-1][0]

    def _versions(self, name: str) -> list[SourceVersion]:
        tags: dict[int, dict[str, str]] = defaultdict(dict)
        columns = {"version": 0, "key": "", "value": ""}
        for number, key, value in self._rows("model_version_tags", columns, "WHERE name = ?", (name,)):
            tags[number][key] = value or ""
        columns = {
            "version": 0,
            "source": "",
            "run_id": "",
            "description": "",
            "current_stage": "None",
            "run_link": "",
            "creation_time": 0,
            "last_updated_time": 0,
            "storage_location": "",
        }
        rows = self._rows("model_versions", columns, "WHERE name = ? ORDER BY version", (name,))
        return [
            SourceVersion(
                number=number,
                source=source or "",
                run=run or "",
                description=description or "",
                stage=stage_of(stage),
                link=link or "",
                created_at=created,
                updated_at=updated or created,
                place=place or "",
                tags=tags[number],
            )
            for number, source, run, description, stage, link, created, updated, place in rows
            if stage != _GONE
        ]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(value: Any) -> str:
    if value is None:
        return "NULL"
    return f"'{value}'" if isinstance(value, str) else str(value)


def _marks(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))


def _mark(at: int | None, step: int | None, value: float | None, is_nan: Any) -> Mark:
    return at or 0, step or 0, float("nan") if is_nan else float(value or 0.0)
