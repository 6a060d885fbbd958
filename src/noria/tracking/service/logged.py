"""Verbs of logged models: what a client makes of a run before anything is registered."""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import update

from noria.base.actor import Actor
from noria.base.ids import ProjectId, RunId
from noria.base.pages import Page
from noria.base.search import Clause
from noria.db import Tx
from noria.tracking import logged, queries
from noria.tracking import tables as t
from noria.tracking.errors import (
    ExperimentDeleted,
    ExperimentNotFound,
    LoggedModelInvalid,
    LoggedModelNotFound,
    ParamChanged,
    TagNotFound,
)
from noria.tracking.logged import LoggedOrder
from noria.tracking.records import LoggedModel, LoggedPoint, LoggedState, Tracked
from noria.tracking.service.base import Base

_FORBIDDEN: Final = re.compile(r"[/:.%\"'\x00-\x1f\x7f]")
_MOST_NAME: Final = 500
_MOST_KEY: Final = 250
_MOST_VALUE: Final = 100_000


class Logged(Base):
    def create_logged_model(
        self,
        project_id: ProjectId,
        experiment_id: int,
        *,
        name: str,
        actor: Actor,
        kind: str = "",
        source_run: str = "",
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        id: str | None = None,
        created_at: int | None = None,
    ) -> LoggedModel:
        """A new logged model; its files may follow.

        Args:
            experiment_id: of this project; 0 is the default one.
            kind: what sort of model a client calls it.
            source_run: the run that made it; it need not be here.
            id, created_at: of a model that comes from another server.

        Raises:
            ExperimentNotFound, ExperimentDeleted, LoggedModelInvalid: a part of it is not there or not allowed.
        """
        if not 0 < len(name) <= _MOST_NAME or _FORBIDDEN.search(name):
            raise LoggedModelInvalid(
                f"Invalid model name ({name!r:.300}) provided.",
                hint="It is not empty and holds none of / : . % and quotes.",
            )
        _check_texts(params or {}, "parameter")
        _check_texts(tags or {}, "tag")
        _check_texts({"type": kind, "run": source_run}, "field")
        with self._changes.begin("tracking.log_model", project_id, actor) as change:
            tx = change.tx
            found = queries.experiment_state(tx.conn, project_id, experiment_id)
            if found is None and experiment_id == 0:
                found = (self.ensure_default(tx, project_id), "", False)
            if found is None:
                raise ExperimentNotFound(f"No Experiment with id={experiment_id} exists")
            if found[2]:
                raise ExperimentDeleted(found[1], deleted=True)
            if id is not None and logged.model(tx.conn, id, full=False) is not None:
                raise LoggedModelInvalid(f"The id {id!r:.100} is another logged model's.", hint="Let one be made.")
            made = id or f"m-{uuid.uuid4().hex}"
            row = {
                "id": made,
                "project_id": project_id,
                "experiment_id": found[0],
                "name": name,
                "kind": kind,
                "state": LoggedState.PENDING.value,
                "status_message": "",
                "source_run": source_run,
                "created_at": tx.now_ms if created_at is None else created_at,
                "updated_at": tx.now_ms if created_at is None else created_at,
                "deleted": False,
            }
            no = tx.insert(t.logged_models, row)
            self._texts(tx, t.logged_params, no, params or {})
            self._texts(tx, t.logged_tags, no, tags or {})
            change.note(made, name=name, run=source_run)
            model = logged.model(tx.conn, made)
        assert model is not None
        return model

    def _texts(self, tx: Tx, table: Any, no: int, texts: Mapping[str, str], *, replace: bool = False) -> None:
        if texts:
            ids = self._keys.ids(tx, texts)
            rows = [(no, ids[key], value) for key, value in texts.items()]
            tx.write_rows(table, ("model_no", "key_id", "value"), rows, key=("model_no", "key_id") if replace else ())

    # ---- reading

    def logged_model(
        self, project_id: ProjectId, id: str, tx: Tx | None = None, *, deleted: bool = False, full: bool = True
    ) -> LoggedModel:
        """A logged model.

        Args:
            deleted: one in the bin will do.
            full: with parameters, tags and metrics.

        Raises:
            LoggedModelNotFound: there is none.
        """
        with self._db.read(tx) as conn:
            found = logged.model(conn, id, full=full)
        if found is None or found.project_id != project_id or (found.deleted and not deleted):
            raise LoggedModelNotFound(id)
        return found

    def search_logged_models(
        self,
        project_id: ProjectId,
        experiments: Sequence[int],
        *,
        clauses: Sequence[Clause] = (),
        order: Sequence[LoggedOrder] = (),
        datasets: Sequence[tuple[str, str]] = (),
        limit: int = 100,
        after: str | None = None,
        root: str = "",
    ) -> Page[LoggedModel]:
        """Logged models that fit; the newest first, if nothing else is asked for.

        Args:
            root: what the caller calls the place of files whose experiment names none, for ``artifact_location``.
            datasets: name and digest (empty: any); metrics count only where they were measured on one of them.
        """
        if not experiments:
            return Page(items=[])
        with self._db.read() as conn:
            items, following = logged.search(
                conn,
                self._keys,
                project_id,
                experiments,
                clauses=clauses,
                order=order,
                datasets=datasets,
                limit=limit,
                after=after,
                root=root,
            )
        return Page(items=items, next=following)

    def models_of(
        self, ids: Sequence[RunId]
    ) -> tuple[dict[RunId, list[str]], dict[RunId, list[tuple[str, int | None]]]]:
        """Run -> models that it read, and run -> models that it made, with the step."""
        read, made = dict[RunId, list[str]](), dict[RunId, list[tuple[str, int | None]]]()
        with self._db.read() as conn:
            rows = logged.of_runs(conn, ids)
        for run, wrote, model, step in rows:
            if wrote:
                made.setdefault(run, []).append((model, step))
            else:
                read.setdefault(run, []).append(model)
        return read, made

    # ---- changing

    def log_model_params(self, project_id: ProjectId, id: str, params: Mapping[str, str]) -> None:
        """Adds parameters; one that is there may come again with the same value only.

        Raises:
            ParamChanged, LoggedModelNotFound, LoggedModelInvalid: it is there with another value; see above.
        """
        _check_texts(params, "parameter")
        with self._db.write() as tx:
            tx.lock(f"logged:{id}")
            found = self.logged_model(project_id, id, tx)
            for key, value in params.items():
                if found.params.get(key, value) != value:
                    raise ParamChanged(id, key, found.params[key], value)
            fresh = {key: value for key, value in params.items() if key not in found.params}
            self._texts(tx, t.logged_params, found.no, fresh)

    def tag_logged_model(
        self, project_id: ProjectId, id: str, tags: Mapping[str, str], *, tx: Tx | None = None
    ) -> None:
        """Sets tags."""
        _check_texts(tags, "tag")
        with self._db.write(tx) as open_tx:
            found = self.logged_model(project_id, id, open_tx, full=False)
            self._texts(open_tx, t.logged_tags, found.no, tags, replace=True)

    def untag_logged_model(self, project_id: ProjectId, id: str, key: str) -> None:
        """Takes a tag away.

        Raises:
            TagNotFound: the model has no such tag.
        """
        with self._db.write() as tx:
            found = self.logged_model(project_id, id, tx, full=False)
            key_id = self._keys.find(tx.conn, [key]).get(key)
            if key_id is None or not logged.delete_tag(tx, found.no, key_id):
                raise TagNotFound(f"No tag with key {key!r:.300} found for model with ID {id!r}.")

    def delete_logged_model(self, project_id: ProjectId, id: str, *, actor: Actor) -> None:
        """Puts a logged model into the bin; one that is there already stays there."""
        with self._changes.begin("tracking.delete_logged_model", project_id, actor) as change:
            found = self.logged_model(project_id, id, change.tx, deleted=True, full=False)
            gone = update(t.logged_models).where(t.logged_models.c.no == found.no)
            change.tx.execute(gone.values(deleted=True, updated_at=change.tx.now_ms))
            change.note(id)

    def link_models(
        self,
        tx: Tx,
        run_id: RunId,
        models: Iterable[tuple[str, int | None]],
        *,
        made: bool,
        project_id: ProjectId | None = None,
    ) -> None:
        """Says which models a run read or made (with the step); the same one again takes the newest step."""
        run = self._tracked(tx, run_id, project_id)
        for model, step in models:
            row = {"run_no": run.no, "made": made, "model_id": model, "step": step}
            tx.upsert(t.run_models, row, key=["run_no", "made", "model_id"])

    def measure(self, tx: Tx, run: Tracked, points: Iterable[tuple[str, LoggedPoint]]) -> None:
        """Keeps what a run measured of models (id and point); the same point again is one point.

        Raises:
            LoggedModelNotFound: one of the models is not here.
        """
        given = list(points)
        known = logged.numbers(tx.conn, (id for id, _ in given))
        for id, _ in given:
            if known.get(id, (0, 0))[1] != run.project_id:
                raise LoggedModelNotFound(id)
        ids = self._keys.ids(tx, {point.key for _, point in given})
        rows = [
            {
                "model_no": known[id][0],
                "key_id": ids[point.key],
                "at": point.at,
                "step": point.step,
                "run_no": run.no,
                "dataset": point.dataset,
                "digest": point.digest,
                "value": 0.0 if math.isnan(point.value) else point.value,
                "is_nan": math.isnan(point.value),
            }
            for id, point in given
        ]
        tx.insert_new_many(t.logged_metrics, rows)


def _check_texts(texts: Mapping[str, str], what: str) -> None:
    for key, value in texts.items():
        if not 0 < len(key) <= _MOST_KEY:
            raise LoggedModelInvalid(f"The name of a {what} has 1 to {_MOST_KEY} characters, not {len(key)}.")
        if len(value) > _MOST_VALUE:
            raise LoggedModelInvalid(f"The {what} {key!r} has {len(value)} characters; {_MOST_VALUE} are allowed.")
