from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row, and_, bindparam, delete, func, select, update

from noria.base.ids import ProjectId, RunId
from noria.db import Tx
from noria.tracking import tables as t
from noria.tracking.records import Dataset, DatasetInput, Experiment, Tracked

_PART: Final = 400
"""Runs that one statement asks for."""


def experiment(
    conn: Connection, project_id: ProjectId, *, name: str | None = None, id: int | None = None
) -> Experiment | None:
    where = [t.experiments.c.project_id == project_id]
    where.append(t.experiments.c.name == name if name is not None else t.experiments.c.id == id)
    row = conn.execute(select(t.experiments).where(*where)).one_or_none()
    return None if row is None else with_tags(conn, [row])[0]


def default_experiment(conn: Connection, project_id: ProjectId) -> Experiment | None:
    where = (t.experiments.c.project_id == project_id, t.experiments.c.is_default)
    row = conn.execute(select(t.experiments).where(*where)).one_or_none()
    return None if row is None else with_tags(conn, [row])[0]


_EXPERIMENT_ID = select(t.experiments.c.id).where(
    t.experiments.c.project_id == bindparam("project_id"), t.experiments.c.name == bindparam("name")
)
_DEFAULT_ID = select(t.experiments.c.id).where(
    t.experiments.c.project_id == bindparam("project_id"), t.experiments.c.is_default
)


def experiment_id(conn: Connection, project_id: ProjectId, name: str) -> int | None:
    return conn.execute(_EXPERIMENT_ID, {"project_id": project_id, "name": name}).scalar_one_or_none()


def default_id(conn: Connection, project_id: ProjectId) -> int | None:
    return conn.execute(_DEFAULT_ID, {"project_id": project_id}).scalar_one_or_none()


def experiments(
    conn: Connection, project_id: ProjectId, *, after: int = 0, limit: int | None = None
) -> list[Experiment]:
    """In the order in which they were made."""
    found = select(t.experiments).where(t.experiments.c.project_id == project_id, t.experiments.c.id > after)
    return with_tags(conn, conn.execute(found.order_by(t.experiments.c.id).limit(limit)).all())


def with_tags(conn: Connection, rows: Sequence[Row[Any]]) -> list[Experiment]:
    tags: dict[int, dict[str, str]] = {row.id: {} for row in rows}
    ids = list(tags)
    for start in range(0, len(ids), _PART):
        part = select(t.experiment_tags).where(t.experiment_tags.c.experiment_id.in_(ids[start : start + _PART]))
        for tag in conn.execute(part.order_by(t.experiment_tags.c.key)):
            tags[tag.experiment_id][tag.key] = tag.value
    return [
        Experiment(
            id=row.id,
            project_id=ProjectId(row.project_id),
            name=row.name,
            deleted=row.deleted_at is not None,
            created_at=row.created_at,
            updated_at=row.updated_at,
            is_default=bool(row.is_default),
            location=row.location,
            tags=tags[row.id],
        )
        for row in rows
    ]


_STATE = select(t.experiments.c.id, t.experiments.c.name, t.experiments.c.deleted_at).where(
    t.experiments.c.project_id == bindparam("project_id")
)
_STATE_BY_ID = _STATE.where(t.experiments.c.id == bindparam("id"))
_STATE_OF_DEFAULT = _STATE.where(t.experiments.c.is_default)


def experiment_state(conn: Connection, project_id: ProjectId, id: int) -> tuple[int, str, bool] | None:
    """Id, name and whether it is in the bin; 0 is the default experiment."""
    if id == 0:
        row = conn.execute(_STATE_OF_DEFAULT, {"project_id": project_id}).one_or_none()
    else:
        row = conn.execute(_STATE_BY_ID, {"project_id": project_id, "id": id}).one_or_none()
    return None if row is None else (row[0], row[1], row[2] is not None)


_TRACKED_RUNS = select(
    t.tracked_runs.c.no,
    t.tracked_runs.c.run_id,
    t.experiments.c.project_id,
    t.tracked_runs.c.experiment_id,
    t.tracked_runs.c.deleted,
).join(t.experiments, t.experiments.c.id == t.tracked_runs.c.experiment_id)
_TRACKED = _TRACKED_RUNS.where(t.tracked_runs.c.run_id == bindparam("run_id"))
_TRACKED_FEW = _TRACKED_RUNS.where(t.tracked_runs.c.run_id.in_(bindparam("runs", expanding=True)))


def tracked(conn: Connection, run_id: RunId) -> Tracked | None:
    row = conn.execute(_TRACKED, {"run_id": run_id}).one_or_none()
    return None if row is None else Tracked(row[0], RunId(row[1]), ProjectId(row[2]), row[3], bool(row[4]))


def tracked_runs(conn: Connection, run_ids: Sequence[RunId]) -> dict[RunId, Tracked]:
    """Those of some hundred runs that this room knows."""
    if len(run_ids) == 1:  # a list, even of one, is written out anew at each execution
        found = tracked(conn, run_ids[0])
        return {} if found is None else {found.run_id: found}
    rows = conn.execute(_TRACKED_FEW, {"runs": run_ids}).all()
    return {RunId(row[1]): Tracked(row[0], RunId(row[1]), ProjectId(row[2]), row[3], bool(row[4])) for row in rows}


def location(conn: Connection, run_id: RunId) -> str | None:
    """What a run keeps as the place of its artifacts; None where its experiment says it."""
    c = t.tracked_runs.c
    return conn.execute(select(c.location).where(c.run_id == run_id)).scalar_one_or_none()


def move(tx: Tx, runs: Sequence[Tracked], target: int, **more: Any) -> None:
    """Puts runs into another experiment. Their artifacts stay where they are: a run keeps its place if the new one has
    another."""
    c, e = t.tracked_runs.c, t.experiments.c
    by_experiment: dict[int, list[int]] = {}
    for one in runs:
        by_experiment.setdefault(one.experiment_id, []).append(one.no)
    ids = [target, *by_experiment]
    places: dict[int, str | None] = {}
    for start in range(0, len(ids), _PART):
        for row in tx.execute(select(e.id, e.location).where(e.id.in_(ids[start : start + _PART]))):
            places[row.id] = row.location
    for experiment, numbers in by_experiment.items():
        values: dict[str, Any] = {"experiment_id": target, **more}
        if places[experiment] != places[target]:
            values["location"] = func.coalesce(c.location, places[experiment] or "")
        for start in range(0, len(numbers), _PART):
            where = c.no.in_(numbers[start : start + _PART])
            tx.execute(update(t.tracked_runs).where(where).values(values))


# ---- what runs said

_P = t.params.c
_G = t.tags.c


def stored_params(conn: Connection, run_no: int, key_ids: Sequence[int]) -> dict[int, str]:
    """Number of key -> value, for those of ``key_ids`` that the run has."""
    found: dict[int, str] = {}
    for start in range(0, len(key_ids), _PART):
        part = select(_P.key_id, _P.value).where(
            _P.run_no == run_no, _P.key_id.in_(list(key_ids[start : start + _PART]))
        )
        found.update((key_id, value) for key_id, value in conn.execute(part))
    return found


_L = t.latest.c


def point_counts(conn: Connection, run_nos: Sequence[int]) -> dict[int, int]:
    """Number of a run -> points of all its metrics, for those that have any."""
    found: dict[int, int] = {}
    for start in range(0, len(run_nos), _PART):
        part = list(run_nos[start : start + _PART])
        counts = select(_L.run_no, func.sum(_L.count)).where(_L.run_no.in_(part)).group_by(_L.run_no)
        found.update((no, int(count)) for no, count in conn.execute(counts))
    return found


# ---- datasets and artifacts


def dataset_id(tx: Tx, experiment_id: int, dataset: Dataset) -> int:
    """The row of a dataset in an experiment, made if it is new."""
    row = {
        "experiment_id": experiment_id,
        "name": dataset.name,
        "digest": dataset.digest,
        "source_type": dataset.source_type,
        "source": dataset.source,
        "schema": dataset.schema,
        "profile": dataset.profile,
    }
    made = tx.insert_new_key(t.datasets, row)
    if made is not None:
        return made
    c = t.datasets.c
    where = (c.experiment_id == experiment_id, c.name == dataset.name, c.digest == dataset.digest)
    return tx.execute(select(c.id).where(*where)).scalar_one()


def inputs(conn: Connection, ids: Sequence[RunId]) -> dict[RunId, list[DatasetInput]]:
    """The datasets of several runs, for those that have any."""
    found: dict[RunId, list[DatasetInput]] = {}
    for start in range(0, len(ids), _PART):
        part = list(ids[start : start + _PART])
        if len(part) == 1:
            rows = conn.execute(_INPUTS_OF_ONE, {"run": part[0]}).all()
        else:
            rows = conn.execute(_INPUTS_OF_FEW, {"runs": part}).all()
        for row in rows:
            made = DatasetInput(dataset=_dataset(row), tags=row.tags)
            found.setdefault(RunId(row.run_id), []).append(made)
    return found


_INPUTS = (
    select(t.tracked_runs.c.run_id, t.inputs.c.tags, t.datasets)
    .select_from(
        t.inputs.join(t.datasets, t.datasets.c.id == t.inputs.c.dataset_id).join(
            t.tracked_runs, t.tracked_runs.c.no == t.inputs.c.run_no
        )
    )
    .order_by(t.datasets.c.id)
)
_INPUTS_OF_ONE = _INPUTS.where(t.tracked_runs.c.run_id == bindparam("run"))
_INPUTS_OF_FEW = _INPUTS.where(t.tracked_runs.c.run_id.in_(bindparam("runs", expanding=True)))


def _dataset(row: Row[Any]) -> Dataset:
    return Dataset(
        name=row.name,
        digest=row.digest,
        source_type=row.source_type,
        source=row.source,
        schema=row.schema,
        profile=row.profile,
    )


def datasets_of(conn: Connection, experiment_ids: Iterable[int], limit: int) -> list[tuple[int, str, str, str | None]]:
    """Experiment, name, digest and context of datasets that runs read; each once."""
    join = t.datasets.outerjoin(t.inputs, t.inputs.c.dataset_id == t.datasets.c.id)
    c = t.datasets.c
    found = select(c.experiment_id, c.name, c.digest, t.inputs.c.context).select_from(join).distinct()
    found = found.where(c.experiment_id.in_(list(experiment_ids))).order_by(c.experiment_id, c.name, c.digest)
    return [(row[0], row[1], row[2], row[3]) for row in conn.execute(found.limit(limit))]


def counts(conn: Connection, project_id: ProjectId, experiments: Sequence[int]) -> dict[int, int]:
    """Experiment -> runs that are not in the bin."""
    c = t.tracked_runs.c
    found: dict[int, int] = {}
    for start in range(0, len(experiments), _PART):
        where = (
            t.experiments.c.project_id == project_id,
            c.experiment_id.in_(list(experiments[start : start + _PART])),
            ~c.deleted,
        )
        join = t.tracked_runs.join(t.experiments, t.experiments.c.id == c.experiment_id)
        rows = select(c.experiment_id, func.count()).select_from(join).where(*where).group_by(c.experiment_id)
        found.update((id, count) for id, count in conn.execute(rows))
    return found


def homes(conn: Connection, ids: Sequence[RunId]) -> dict[RunId, tuple[int, int, str]]:
    """Number, experiment and user of runs, for those that are in one."""
    c = t.tracked_runs.c
    found: dict[RunId, tuple[int, int, str]] = {}
    for start in range(0, len(ids), _PART):
        rows = select(c.run_id, c.no, c.experiment_id, c.user).where(c.run_id.in_(list(ids[start : start + _PART])))
        found.update((RunId(run_id), (no, at, user)) for run_id, no, at, user in conn.execute(rows))
    return found


def delete_tag(tx: Tx, run_no: int, key_id: int) -> bool:
    return tx.execute(delete(t.tags).where(and_(_G.run_no == run_no, _G.key_id == key_id))).rowcount > 0
