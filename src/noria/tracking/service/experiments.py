"""Verbs of experiments: sets of runs to compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import delete, select, update

from noria.assets import tables as at
from noria.base.actor import Actor
from noria.base.ids import ProjectId
from noria.base.names import nearest
from noria.base.once import Once
from noria.base.pages import Page
from noria.base.search import Clause, Order
from noria.db import Tx
from noria.tracking import queries, search
from noria.tracking import tables as t
from noria.tracking.errors import ExperimentDeleted, ExperimentExists, ExperimentNotFound, KeyInvalid
from noria.tracking.records import Experiment
from noria.tracking.service.base import Base, check_key

_NAME = 500
_TAG_KEY = 250
_TAG_VALUE = 20_000


class Experiments(Base):
    def create_experiment(
        self,
        project_id: ProjectId,
        name: str,
        *,
        actor: Actor,
        tags: Mapping[str, str] | None = None,
        location: str | None = None,
        created_at: int | None = None,
        once: Once | None = None,
        tx: Tx | None = None,
    ) -> Experiment:
        """Makes an experiment.

        Args:
            created_at: milliseconds, of one that comes from another server; default now.
            location: where clients keep the artifacts of its runs; only remembered, never opened. Default: here.

        Raises:
            ExperimentExists: there is one of this name, maybe in the bin.
        """
        _check_name(name)
        for key, value in (tags or {}).items():
            _check_tag(key, value)
        with self._changes.begin("tracking.experiment", project_id, actor, once=once, tx=tx) as change:
            if change.earlier is not None:
                return self.experiment_by_id(project_id, change.earlier["id"], change.tx)
            now = change.tx.now_ms if created_at is None else created_at
            row = {"project_id": project_id, "name": name, "created_at": now, "updated_at": now, "location": location}
            made = change.tx.insert_new_key(t.experiments, row)
            if made is None:
                raise self._taken(change.tx, project_id, name)
            for key, value in (tags or {}).items():
                change.tx.insert(t.experiment_tags, {"experiment_id": made, "key": key, "value": value})
            change.note(name)
            change.answer({"id": made})
            found = queries.experiment(change.tx.conn, project_id, id=made)
        assert found is not None
        return found

    def _taken(self, tx: Tx, project_id: ProjectId, name: str) -> ExperimentExists:
        found = queries.experiment(tx.conn, project_id, name=name)
        deleted = found is not None and found.deleted
        return ExperimentExists(
            f"There is an experiment {name!r:.100} already" + (", in the bin." if deleted else "."),
            hint="Restore it, or delete it for good." if deleted else "Log to it, or take another name.",
        )

    def experiment(self, project_id: ProjectId, name: str) -> Experiment:
        with self._db.read() as conn:
            found = queries.experiment(conn, project_id, name=name)
            if found is None:
                known = (e.name for e in queries.experiments(conn, project_id, limit=1_000))
                raise ExperimentNotFound(f"There is no experiment {name!r:.100}.", hint=nearest(name, known))
            return found

    def experiment_by_id(self, project_id: ProjectId, id: int, tx: Tx | None = None) -> Experiment:
        """The experiment with this number; 0 is the default one, which is made with its first use."""
        with self._db.read(tx) as conn:
            if id == 0:
                found = queries.default_experiment(conn, project_id)
            else:
                found = queries.experiment(conn, project_id, id=id)
        if found is None and id == 0:
            with self._db.write(tx) as open_tx:
                self.ensure_default(open_tx, project_id)
                found = queries.default_experiment(open_tx.conn, project_id)
        if found is None:
            raise ExperimentNotFound(f"There is no experiment with the id {id}.", hint="noria runs experiments")
        return found

    def ensure_experiment(self, tx: Tx, project_id: ProjectId, name: str) -> int:
        found = queries.experiment_id(tx.conn, project_id, name)
        if found is None:
            row = {"project_id": project_id, "name": name, "created_at": tx.now_ms, "updated_at": tx.now_ms}
            default = queries.default_id(tx.conn, project_id) is None and name == "Default"
            tx.insert_new(t.experiments, {**row, "is_default": default})
            found = queries.experiment_id(tx.conn, project_id, name)
        assert found is not None
        return found

    def experiments(self, project_id: ProjectId) -> list[Experiment]:
        with self._db.read() as conn:
            return queries.experiments(conn, project_id)

    def search_experiments(
        self,
        project_id: ProjectId,
        *,
        clauses: Sequence[Clause] = (),
        order: Sequence[Order] = (),
        deleted: bool | None = False,
        folder: str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Page[Experiment]:
        """Experiments that fit; those changed last come first, if nothing else is asked for.

        Args:
            deleted: only those in the bin; None for all.
            folder: only those below it: their names begin with it and a ``/``.
        """
        with self._db.read() as conn:
            items, following = search.experiments(
                conn,
                project_id,
                clauses=clauses,
                order=order,
                deleted=deleted,
                folder=folder,
                limit=limit,
                after=after,
            )
        return Page(items=items, next=following)

    def rename_experiment(
        self, project_id: ProjectId, id: int, name: str, *, actor: Actor, once: Once | None = None
    ) -> None:
        """Gives an experiment another name; a name with another folder in it moves it there.

        Raises:
            ExperimentExists, ExperimentDeleted: the name is taken; it is in the bin.
        """
        _check_name(name)
        if self._changes.answered("tracking.rename", project_id, once) is not None:
            return
        found = self._active(project_id, id)
        with self._changes.begin("tracking.rename", project_id, actor, once=once) as change:
            if change.earlier is not None:
                return
            holder = queries.experiment_id(change.tx.conn, project_id, name)
            if holder is not None and holder != found.id:
                raise self._taken(change.tx, project_id, name)
            changed = update(t.experiments).where(t.experiments.c.id == found.id)
            change.tx.execute(changed.values(name=name, updated_at=change.tx.now_ms))
            change.note(found.name, name=name)
            change.answer({"id": found.id})

    def delete_experiment(
        self, project_id: ProjectId, id: int, *, actor: Actor, restore: bool = False, once: Once | None = None
    ) -> None:
        """Puts an experiment into the bin with all its runs, or brings it back with them.

        Raises:
            ExperimentNotFound, ExperimentDeleted: it is not there; it is in the bin already, or not in it.
        """
        verb = "tracking.restore_experiment" if restore else "tracking.delete_experiment"
        if self._changes.answered(verb, project_id, once) is not None:
            return
        found = self.experiment_by_id(project_id, id)
        if found.deleted != restore:
            raise ExperimentDeleted(found.name, deleted=found.deleted)
        with self._changes.begin(verb, project_id, actor, once=once) as change:
            if change.earlier is not None:
                return
            tx = change.tx
            mark = None if restore else tx.now_ms
            changed = update(t.experiments).where(t.experiments.c.id == found.id)
            tx.execute(changed.values(deleted_at=mark, updated_at=tx.now_ms))
            # What is deleted for good, or is about to be, does not come back.
            whole = t.tracked_runs.c.run_id.not_in(select(t.purged_runs.c.run_id))
            its = select(t.tracked_runs.c.run_id).where(
                t.tracked_runs.c.experiment_id == found.id, t.tracked_runs.c.deleted == restore, whole
            )
            tx.execute(update(at.runs).where(at.runs.c.id.in_(its)).values(deleted_at=mark))
            runs = update(t.tracked_runs).where(t.tracked_runs.c.experiment_id == found.id, whole)
            tx.execute(runs.values(deleted=not restore))
            change.note(found.name)

    def set_experiment_tag(
        self, project_id: ProjectId, id: int, key: str, value: str, *, actor: Actor, tx: Tx | None = None
    ) -> None:
        _check_tag(key, value)
        found = self._active(project_id, id, tx)
        with self._changes.begin("tracking.experiment_tag", project_id, actor, tx=tx) as change:
            row = {"experiment_id": found.id, "key": key, "value": value}
            change.tx.upsert(t.experiment_tags, row, key=["experiment_id", "key"])
            self._touch(change.tx, found.id)
            change.note(found.name, key=key)

    def delete_experiment_tag(
        self, project_id: ProjectId, id: int, key: str, *, actor: Actor, tx: Tx | None = None
    ) -> None:
        """Takes a tag away.

        Raises:
            TagNotFound: the experiment has no such tag.
        """
        found = self._active(project_id, id, tx)
        with self._changes.begin("tracking.experiment_tag", project_id, actor, tx=tx) as change:
            c = t.experiment_tags.c
            gone = change.tx.execute(delete(t.experiment_tags).where(c.experiment_id == found.id, c.key == key))
            if not gone.rowcount:
                raise ExperimentNotFound(f"The experiment {found.name!r:.100} has no tag {key!r:.100}.")
            self._touch(change.tx, found.id)
            change.note(found.name, key=key, removed=True)

    @staticmethod
    def _touch(tx: Tx, id: int) -> None:
        tx.execute(update(t.experiments).where(t.experiments.c.id == id).values(updated_at=tx.now_ms))

    def _active(self, project_id: ProjectId, id: int, tx: Tx | None = None) -> Experiment:
        found = self.experiment_by_id(project_id, id, tx)
        if found.deleted:
            raise ExperimentDeleted(found.name, deleted=True)
        return found


def _check_name(name: str) -> None:
    if not 0 < len(name) <= _NAME or "\0" in name:
        raise KeyInvalid(f"The name of an experiment has 1 to {_NAME} characters, not {len(name)}.")


def _check_tag(key: str, value: str) -> None:
    if not 0 < len(key) <= _TAG_KEY:
        raise KeyInvalid(f"The name of an experiment's tag has 1 to {_TAG_KEY} characters, not {len(key)}.")
    check_key(key, "an experiment's tag")
    if len(value) > _TAG_VALUE:
        raise KeyInvalid(f"The tag {key!r} has {len(value)} characters; {_TAG_VALUE} are allowed.")
