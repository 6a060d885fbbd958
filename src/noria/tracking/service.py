"""The verbs of tracking. Runs themselves belong to the asset graph; this room adds what they say by run id."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from noria.assets import Assets, Changes
from noria.base.actor import Actor
from noria.base.ids import ProjectId, RunId
from noria.base.names import nearest
from noria.base.pages import Page, check_limit, number_position, token
from noria.base.search import parse, parse_order
from noria.db import Database, Tx
from noria.tracking import queries
from noria.tracking import tables as t
from noria.tracking.errors import ExperimentExists, ExperimentNotFound, KeyInvalid, ParamChanged
from noria.tracking.grammar import RUNS
from noria.tracking.records import Artifact, Experiment, Point, RunData

DEFAULT: Final = "Default"
_KEY: Final = re.compile(r"[\w\-. :/]{1,250}")
_MAX_PARAM: Final = 6_000
_MAX_TAG: Final = 8_000
_INT64: Final = 1 << 63


class Tracking:
    """One per workspace."""

    def __init__(self, db: Database, assets: Assets, changes: Changes) -> None:
        self._db = db
        self._assets = assets
        self._changes = changes

    # ---- experiments

    def create_experiment(
        self, project_id: ProjectId, name: str, *, actor: Actor, tags: Mapping[str, str] | None = None
    ) -> Experiment:
        """Makes an experiment.

        Raises:
            ExperimentExists: there is one of this name.
        """
        if not 0 < len(name) <= 500:
            raise KeyInvalid("The name of an experiment has 1 to 500 characters.")
        with self._changes.begin("tracking.experiment", project_id, actor) as change:
            now = change.tx.now_ms
            row = {"project_id": project_id, "name": name, "created_at": now, "updated_at": now}
            if not change.tx.insert_new(t.experiments, row):
                raise ExperimentExists(f"There is an experiment {name!r} already.")
            made = queries.experiment(change.tx.conn, project_id, name=name)
            assert made is not None
            for key, value in (tags or {}).items():
                change.tx.insert(t.experiment_tags, {"experiment_id": made.id, "key": key, "value": value})
            change.note(name)
            found = queries.experiment(change.tx.conn, project_id, id=made.id)
        assert found is not None
        return found

    def experiment(self, project_id: ProjectId, name: str) -> Experiment:
        with self._db.read() as conn:
            found = queries.experiment(conn, project_id, name=name)
            if found is None:
                known = (e.name for e in queries.experiments(conn, project_id))
                raise ExperimentNotFound(f"There is no experiment {name!r}.", hint=nearest(name, known))
            return found

    def ensure_experiment(self, tx: Tx, project_id: ProjectId, name: str) -> int:
        found = queries.experiment_id(tx.conn, project_id, name)
        if found is None:
            row = {"project_id": project_id, "name": name, "created_at": tx.now_ms, "updated_at": tx.now_ms}
            tx.insert_new(t.experiments, row)
            found = queries.experiment_id(tx.conn, project_id, name)
        assert found is not None
        return found

    def experiments(self, project_id: ProjectId) -> list[Experiment]:
        with self._db.read() as conn:
            return queries.experiments(conn, project_id)

    def track(self, tx: Tx, project_id: ProjectId, run_id: RunId, *, experiment: str = DEFAULT, user: str = "") -> None:
        """Puts a run into an experiment, so that it is found and compared."""
        row = {"run_id": run_id, "experiment_id": self.ensure_experiment(tx, project_id, experiment), "user": user}
        tx.upsert(t.tracked_runs, row, key=["run_id"])

    def begin(
        self, tx: Tx, project_id: ProjectId, run_id: RunId, *, experiment: str, user: str, params: Mapping[str, str]
    ) -> None:
        """``track`` and ``log`` for a run that this transaction made: nothing has to be looked up.

        Raises:
            KeyInvalid: a name or value is not allowed.
        """
        for key, value in params.items():
            _check_key(key)
            _check_param(key, value)
        self.track(tx, project_id, run_id, experiment=experiment, user=user)
        tx.insert_new_many(t.params, [{"run_id": run_id, "key": k, "value": v} for k, v in params.items()])

    # ---- what a run says

    def log(
        self,
        run_id: RunId,
        *,
        params: Mapping[str, str] | None = None,
        points: Iterable[Point] = (),
        tags: Mapping[str, str] | None = None,
        tx: Tx | None = None,
    ) -> None:
        """Adds parameters, metric points and tags: all of them or none (promise 2).

        A run may be over already: clients log late. A point that is sent twice is one point; a parameter may come
        again with the same value only; a tag takes the newest value.

        Raises:
            ParamChanged: a parameter is there with another value.
            KeyInvalid: a name or value is not allowed.
        """
        found = list(points)
        for key in (*(params or ()), *(p.key for p in found), *(tags or ())):
            _check_key(key)
        for point in found:
            if not (-_INT64 <= point.step < _INT64 and -_INT64 <= point.at < _INT64):
                raise KeyInvalid(f"The step or time of {point.key!r} does not fit into 64 bits.")
        with self._db.write(tx) as open_tx:
            self._assets.run(run_id, open_tx)
            self._log_params(open_tx, run_id, params or {})
            self._log_points(open_tx, run_id, found)
            for key, value in (tags or {}).items():
                row = {"run_id": run_id, "key": key, "value": value[:_MAX_TAG]}
                open_tx.upsert(t.tags, row, key=["run_id", "key"])

    def _log_params(self, tx: Tx, run_id: RunId, params: Mapping[str, str]) -> None:
        if not params:
            return
        have = queries.params(tx.conn, run_id)
        for key, value in params.items():
            _check_param(key, value)
            if key in have:
                if have[key] != value:
                    raise ParamChanged(run_id, key, have[key], value)
            else:
                tx.insert(t.params, {"run_id": run_id, "key": key, "value": value})

    def _log_points(self, tx: Tx, run_id: RunId, points: list[Point]) -> None:
        if not points:
            return
        tx.execute(tx.dialect.insert_new(t.points), [queries.point_row(run_id, point) for point in points])
        newest: dict[str, Point] = {}
        for point in points:
            before = newest.get(point.key)
            if before is None or queries.order_of(point) >= queries.order_of(before):
                newest[point.key] = point
        have = queries.latest(tx.conn, run_id, newest)
        rows = [
            queries.point_row(run_id, point)
            for key, point in newest.items()
            if key not in have or queries.order_of(point) >= queries.order_of(have[key])
        ]
        tx.upsert_many(t.latest, rows, key=["run_id", "key"])

    def delete_tag(self, run_id: RunId, key: str) -> None:
        with self._db.write() as tx:
            tx.execute(t.tags.delete().where(t.tags.c.run_id == run_id, t.tags.c.key == key))

    def add_artifact(self, tx: Tx, run_id: RunId, artifact: Artifact) -> None:
        """Names a stored file as an artifact of a run; the same path again replaces it."""
        row = {
            "run_id": run_id,
            "path": artifact.path,
            "size": artifact.size,
            "content_kind": artifact.content_kind,
            "content": artifact.content,
            "at": tx.now_ms,
        }
        tx.upsert(t.artifacts, row, key=["run_id", "path"])

    def artifacts(self, run_id: RunId) -> list[Artifact]:
        with self._db.read() as conn:
            return queries.artifacts(conn, run_id)

    # ---- reading

    def data(self, run_id: RunId) -> RunData:
        return self.data_of([run_id])[run_id]

    def data_of(self, ids: list[RunId]) -> dict[RunId, RunData]:
        with self._db.read() as conn:
            return queries.run_data(conn, ids)

    def history(self, run_id: RunId, key: str, *, limit: int = 1_000, after: str | None = None) -> Page[Point]:
        """The points of a metric in the order in which they arrived."""
        mark = number_position(after) or 0
        with self._db.read() as conn:
            found = queries.history(conn, run_id, key, mark, check_limit(limit))
        return Page(items=[p for _, p in found], next=token(found[-1][0]) if len(found) == limit else None)

    def search(
        self,
        project_id: ProjectId,
        text: str = "",
        *,
        experiment: str | None = None,
        order_by: str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Page[RunId]:
        """Runs that fit a filter (see ``grammar``). ``order_by``: for instance ``metrics.log_loss asc``.

        Raises:
            SearchInvalid: the filter or the order is not understood.
        """
        clauses = parse(text, RUNS)
        order = None if order_by is None else parse_order(order_by, RUNS)
        offset = number_position(after) or 0
        experiment_id = None if experiment is None else self.experiment(project_id, experiment).id
        with self._db.read() as conn:
            found = queries.search(
                conn,
                project_id,
                clauses,
                experiment_id=experiment_id,
                order=order,
                offset=offset,
                limit=check_limit(limit),
            )
        return Page(items=found, next=token(offset + limit) if len(found) == limit else None)

    def delete_run(self, run_id: RunId, *, actor: Actor, restore: bool = False) -> None:
        """Hides a run, or shows it again. What it said stays (deletion for good comes with the MLflow room)."""
        run = self._assets.run(run_id)
        with self._changes.begin("tracking.restore" if restore else "tracking.delete", run.project_id, actor) as change:
            self._assets.mark_deleted(change.tx, run_id, deleted=not restore)
            change.note(run_id)


def _check_key(key: str) -> None:
    bad = not _KEY.fullmatch(key) or ".." in key or "//" in key or key.startswith("/")
    if bad:
        raise KeyInvalid(
            f"{key!r:.80} cannot name a metric, parameter or tag.",
            hint="Up to 250 letters, digits, _ - . : / and spaces; no .. and no // and no / in front.",
        )


def _check_param(key: str, value: str) -> None:
    if len(value) > _MAX_PARAM:
        raise KeyInvalid(f"The parameter {key!r} has {len(value)} characters; {_MAX_PARAM} are allowed.")
