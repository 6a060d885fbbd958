"""Verbs by which runs say something: parameters, metric points, tags, datasets. Clients' own runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from sqlalchemy import update

from noria.assets.records import Direction, Run, RunState
from noria.base.actor import Actor
from noria.base.errors import NoriaError
from noria.base.ids import ProjectId, RunId, VersionId
from noria.db import Tx
from noria.tracking import queries, series
from noria.tracking import tables as t
from noria.tracking.blocks import Mark
from noria.tracking.codes import SLOT
from noria.tracking.errors import ExperimentDeleted, ExperimentNotFound, KeyInvalid, ParamChanged, TagNotFound
from noria.tracking.records import DatasetInput, Point, Said, Tracked
from noria.tracking.service.base import DEFAULT, check_key, check_param, check_tag, lock_of
from noria.tracking.service.coding import Coding
from noria.tracking.service.experiments import Experiments

_INT64: Final = 1 << 63
_CONTEXT: Final = "mlflow.data.context"


class Saying(Experiments, Coding):
    # ---- runs of clients

    def create_run(
        self,
        tx: Tx,
        project_id: ProjectId,
        experiment_id: int,
        *,
        name: str,
        actor: Actor,
        user: str = "",
        started_at: int | None = None,
        tags: Mapping[str, str] | None = None,
        code: VersionId | None = None,
    ) -> Run:
        """A run that a client executes: it has no lease, and ends when the client says so.

        Args:
            code: what ``code_version`` gave for its tags.
            experiment_id: of this project.
            started_at: milliseconds, by the client's clock; default now.

        Raises:
            ExperimentNotFound, ExperimentDeleted, KeyInvalid: a part of it is not there or not allowed.
        """
        found = queries.experiment_state(tx.conn, project_id, experiment_id)
        if found is None and experiment_id == 0:
            found = (self.ensure_default(tx, project_id), "", False)
        if found is None:
            raise ExperimentNotFound(f"There is no experiment with the id {experiment_id}.")
        if found[2]:
            raise ExperimentDeleted(found[1], deleted=True)
        for key, value in (tags or {}).items():
            check_key(key)
            check_tag(key, value)
        self._quotas.run(tx, project_id)
        run = self._assets.start_run(
            tx, project_id, kind="mlflow", name=name, actor=actor, leased=False, started_at=started_at
        )
        no = self._number(tx, run.id, found[0], user, run.started_at)
        self._set_tags(tx, no, tags or {})
        if code is not None:
            self._assets.link(tx, run.id, code, Direction.CODE, SLOT)
        return run

    def update_run(
        self,
        run_id: RunId,
        *,
        state: RunState | None = None,
        ended_at: int | None = None,
        name: str | None = None,
        project_id: ProjectId | None = None,
        tx: Tx | None = None,
        locked: bool = False,
    ) -> None:
        """What a client says of a run; the state and end of a run that noria executes are not its to say.

        Raises:
            RunNotFound, RunDeleted: it is not there, or in the bin.
        """
        with self._db.write(tx) as open_tx:
            if not locked:
                open_tx.lock(lock_of(run_id))
            self._tracked(open_tx, run_id, project_id)
            self._assets.amend_run(open_tx, run_id, state=state, ended_at=ended_at, name=name)

    def delete_run(self, run_id: RunId, *, actor: Actor, restore: bool = False, tx: Tx | None = None) -> None:
        """Puts a run into the bin, or brings it back. What it said stays until it is purged."""
        run = self._assets.run(run_id, tx)
        verb = "tracking.restore" if restore else "tracking.delete"
        with self._changes.begin(verb, run.project_id, actor, tx=tx) as change:
            if restore:
                self._check_whole(change.tx, [run_id])
            self._assets.mark_deleted(change.tx, run_id, deleted=not restore)
            where = t.tracked_runs.c.run_id == run_id
            change.tx.execute(update(t.tracked_runs).where(where).values(deleted=not restore))
            change.note(run_id)

    def _check_whole(self, tx: Tx, ids: Sequence[RunId]) -> None:
        """What was deleted for good does not come back; ``Purging`` knows."""

    def move_run(self, run_id: RunId, experiment: str, *, actor: Actor) -> None:
        """Puts a run into another experiment of its project, which is made if it is new. Its files stay where they are.

        Raises:
            RunNotFound, RunDeleted, ExperimentDeleted: it is not there; it, or the experiment, is in the bin.
        """
        run = self._assets.run(run_id)
        with self._changes.begin("tracking.move", run.project_id, actor) as change:
            found = self._tracked(change.tx, run_id)
            target = self.ensure_experiment(change.tx, run.project_id, experiment)
            state = queries.experiment_state(change.tx.conn, run.project_id, target)
            if state is not None and state[2]:
                raise ExperimentDeleted(state[1], deleted=True)
            queries.move(change.tx, [found], target)
            change.note(run_id, experiment=experiment, before=found.experiment_id)

    # ---- runs of noria

    def track(self, tx: Tx, project_id: ProjectId, run_id: RunId, *, experiment: str = DEFAULT, user: str = "") -> int:
        """Puts a run into an experiment, so that it is found and compared. Returns its number in this room."""
        target = self.ensure_experiment(tx, project_id, experiment)
        found = queries.tracked(tx.conn, run_id)
        if found is None:
            return self._number(tx, run_id, target, user, self._assets.run(run_id, tx).started_at)
        if found.experiment_id != target or user:
            queries.move(tx, [found], target, **({"user": user} if user else {}))
        return found.no

    def begin(
        self, tx: Tx, project_id: ProjectId, run_id: RunId, *, experiment: str, user: str, params: Mapping[str, str]
    ) -> None:
        """``track`` and ``log`` for a run that this transaction made: nothing has to be looked up.

        Raises:
            KeyInvalid: a name or value is not allowed.
        """
        for key, value in params.items():
            check_key(key)
            check_param(key, value)
        target = self.ensure_experiment(tx, project_id, experiment)
        no = self._number(tx, run_id, target, user, tx.now_ms)
        ids = self._keys.ids(tx, params)
        tx.write_rows(t.params, ("run_no", "key_id", "value"), [(no, ids[k], v) for k, v in params.items()])

    @staticmethod
    def _number(tx: Tx, run_id: RunId, experiment_id: int, user: str, started_at: int) -> int:
        row = {"run_id": run_id, "experiment_id": experiment_id, "user": user, "started_at": started_at}
        return tx.insert(t.tracked_runs, {**row, "deleted": False})

    # ---- what a run says

    def log(
        self,
        run_id: RunId,
        *,
        params: Mapping[str, str] | None = None,
        points: Iterable[Point] = (),
        marks: Mapping[str, list[Mark]] | None = None,
        tags: Mapping[str, str] | None = None,
        project_id: ProjectId | None = None,
        tx: Tx | None = None,
        locked: bool = False,
        counted: bool = True,
        code: VersionId | None = None,
    ) -> Tracked:
        """Adds parameters, metric points and tags: all of them or none (promise 2).

        A run may be over already: clients log late. A point that is sent twice is one point; a parameter may come
        again with the same value only; a tag takes the newest value.

        Args:
            marks: points too, as metric -> (time, step, value), for those who have them by the thousand.
            project_id: the project that the run has to be of, where a stranger names it.
            counted: whether the project's quotas bound it; they do not bind noria's own steps.
            locked: the transaction holds the run's lock (``lock_of``) already.
            code: what ``code_version`` gave for the tags of this run.

        Raises:
            ParamChanged: a parameter is there with another value.
            KeyInvalid: a name or value is not allowed.
            QuotaReached: the run, or the names in its experiment, would be too many.
            RunNotFound, RunDeleted: it is not there, or in the bin.
        """
        by_key: dict[str, list[Mark]] = dict(marks or {})
        for point in points:
            by_key.setdefault(point.key, []).append((point.at, point.step, float(point.value)))
        self._check(params or {}, by_key, tags or {})
        with self._db.write(tx) as open_tx:
            if not locked:
                open_tx.lock(lock_of(run_id))
            run = self._tracked(open_tx, run_id, project_id)
            if params:
                self._log_params(open_tx, run, params)
            if by_key:
                if counted:
                    self._quotas.points(open_tx, run, by_key)
                ids = self._keys.ids(open_tx, by_key)
                series.add(open_tx, {(run.no, ids[key]): marks for key, marks in by_key.items()})
            if tags:
                self._set_tags(open_tx, run.no, tags)
            if code is not None:
                self._link_code(open_tx, run_id, code)
            return run

    def log_together(self, tx: Tx, said: Sequence[Said]) -> list[Exception | None]:
        """The points that many clients log at once, in a handful of statements. Called under the locks of the runs.

        Returns:
            For each what ``log`` would have raised, or None; one that is refused leaves nothing and stops no other.
        """
        outcomes: list[Exception | None] = [None] * len(said)
        runs = queries.tracked_runs(tx.conn, list({one.run_id for one in said}))
        points: dict[tuple[int, str], list[Mark]] = {}
        for n, one in enumerate(said):
            try:
                self._check({}, one.marks, {})
                if one.run_id not in runs:
                    runs[one.run_id] = self._first(tx, one.run_id)
                run = self._open(runs[one.run_id], one.project_id)
                self._quotas.points(tx, run, one.marks)
            except NoriaError as error:
                outcomes[n] = error
                continue
            for key, marks in one.marks.items():
                there = points.get((run.no, key))
                points[run.no, key] = marks if there is None else [*there, *marks]
        if points:
            ids = self._keys.ids(tx, {key for _, key in points})
            series.add(tx, {(no, ids[key]): marks for (no, key), marks in points.items()})
        return outcomes

    def _check(self, params: Mapping[str, str], points: Mapping[str, list[Mark]], tags: Mapping[str, str]) -> None:
        for key in (*params, *points, *tags):
            if not self._keys.knows(key):  # what is stored was checked
                check_key(key)
        for key, found in points.items():
            for at, step, _ in found:
                if not (-_INT64 <= step < _INT64 and -_INT64 <= at < _INT64):
                    raise KeyInvalid(f"The step {step} or time {at} of {key!r} does not fit into 64 bits.")
        for key, value in params.items():
            check_param(key, value)
        for key, value in tags.items():
            check_tag(key, value)

    def _log_params(self, tx: Tx, run: Tracked, params: Mapping[str, str]) -> None:
        ids = self._keys.ids(tx, params)
        have = queries.stored_params(tx.conn, run.no, list(ids.values()))
        rows: list[tuple[int, int, str]] = []
        for key, value in params.items():
            before = have.get(ids[key])
            if before is None:
                rows.append((run.no, ids[key], value))
            elif before != value:
                raise ParamChanged(run.run_id, key, before, value)
        tx.write_rows(t.params, ("run_no", "key_id", "value"), rows)

    def _set_tags(self, tx: Tx, run_no: int, tags: Mapping[str, str]) -> None:
        if tags:
            ids = self._keys.ids(tx, tags)
            rows = [(run_no, ids[key], value) for key, value in tags.items()]
            tx.write_rows(t.tags, ("run_no", "key_id", "value"), rows, key=("run_no", "key_id"))

    def delete_tag(self, run_id: RunId, key: str, *, project_id: ProjectId | None = None, tx: Tx | None = None) -> None:
        """Takes a tag away.

        Raises:
            TagNotFound: the run has no such tag.
        """
        with self._db.write(tx) as open_tx:
            run = self._tracked(open_tx, run_id, project_id)
            key_id = self._keys.find(open_tx.conn, [key]).get(key)
            if key_id is None or not queries.delete_tag(open_tx, run.no, key_id):
                raise TagNotFound(f"The run {run_id} has no tag {key!r:.300}.")
            self._tag_gone(open_tx, run_id, key)

    def log_inputs(
        self,
        run_id: RunId,
        inputs: Iterable[DatasetInput],
        *,
        project_id: ProjectId | None = None,
        tx: Tx | None = None,
    ) -> None:
        """Says which datasets a run read; of the same one twice, the first and its tags stay.

        A dataset that is a commit of ours becomes an edge of the graph too.
        """
        with self._db.write(tx) as open_tx:
            run = self._tracked(open_tx, run_id, project_id)
            for one in inputs:
                self._add_input(open_tx, run.no, run.experiment_id, one)
                version = self.origin(run.project_id, one.dataset)
                if version is not None:
                    self._assets.link(open_tx, run_id, version, Direction.IN, one.dataset.name[:100])

    @staticmethod
    def _add_input(tx: Tx, run_no: int, experiment_id: int, one: DatasetInput) -> bool:
        dataset_id = queries.dataset_id(tx, experiment_id, one.dataset)
        row = {"run_no": run_no, "dataset_id": dataset_id, "tags": one.tags, "context": one.tags.get(_CONTEXT)}
        return tx.insert_new(t.inputs, row)
