"""Verbs of people who put runs in order: several at once into the bin and back, other experiments, notes and tags."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from sqlalchemy import select, update

from noria.assets import tables as at
from noria.assets.errors import RunNotFound
from noria.base.actor import Actor
from noria.base.errors import Invalid
from noria.base.ids import ProjectId, RunId
from noria.base.once import Once
from noria.db import Tx
from noria.tracking import queries
from noria.tracking import tables as t
from noria.tracking.errors import ExperimentDeleted, ExperimentNotFound
from noria.tracking.records import Experiment
from noria.tracking.service.base import check_key, check_tag, lock_of
from noria.tracking.service.saying import Saying

NOTE: Final = "mlflow.note.content"
"""The tag that clients and pages of MLflow take for the description of a run or experiment."""
MOST_AT_ONCE: Final = 1_000
_PART: Final = 500


class Organizing(Saying):
    def delete_runs(
        self,
        project_id: ProjectId,
        ids: Sequence[RunId],
        *,
        actor: Actor,
        restore: bool = False,
        once: Once | None = None,
    ) -> list[RunId]:
        """Puts runs into the bin, or brings them back; returns those that were not there already.

        Raises:
            RunNotFound: one of them is not there; none was touched.
        """
        _check_many(ids)
        verb = "tracking.restore" if restore else "tracking.delete"
        with self._changes.begin(verb, project_id, actor, once=once) as change:
            if change.earlier is not None:
                return [RunId(id) for id in change.earlier["runs"]]
            tx = change.tx
            self._all_there(tx, project_id, ids)
            if restore:
                self._check_whole(tx, ids)
            c, changed = at.runs.c, list[RunId]()
            state = c.deleted_at.is_not(None) if restore else c.deleted_at.is_(None)
            mark = None if restore else tx.now_ms
            for start in range(0, len(ids), _PART):
                part = list(ids[start : start + _PART])
                fitting = tx.execute(select(c.id).where(c.id.in_(part), state)).scalars().all()
                tx.execute(update(at.runs).where(c.id.in_(fitting)).values(deleted_at=mark))
                its = t.tracked_runs.c.run_id.in_(fitting)
                tx.execute(update(t.tracked_runs).where(its).values(deleted=not restore))
                changed += [RunId(id) for id in fitting]
            change.note(_named(ids), runs=list(changed))
            change.answer({"runs": list(changed)})
        return changed

    def move_runs(
        self,
        project_id: ProjectId,
        ids: Sequence[RunId],
        experiment: str,
        *,
        actor: Actor,
        once: Once | None = None,
    ) -> None:
        """Puts runs into another experiment of their project, which is made if it is new. Their files stay where they
        are.

        Raises:
            RunNotFound, RunDeleted, ExperimentDeleted: a run is not there; it, or the experiment, is in the bin.
        """
        _check_many(ids)
        with self._changes.begin("tracking.move", project_id, actor, once=once) as change:
            if change.earlier is not None:
                return
            tx = change.tx
            found = [self._tracked(tx, id, project_id) for id in ids]
            target = self.ensure_experiment(tx, project_id, experiment)
            state = queries.experiment_state(tx.conn, project_id, target)
            if state is not None and state[2]:
                raise ExperimentDeleted(state[1], deleted=True)
            queries.move(tx, found, target)
            before = {one.run_id: one.experiment_id for one in found}
            change.note(_named(ids), experiment=experiment, before=before)

    def tag_run(
        self,
        project_id: ProjectId,
        run_id: RunId,
        tags: Mapping[str, str],
        *,
        actor: Actor,
        remove: Collection[str] = (),
        once: Once | None = None,
    ) -> None:
        """Sets tags of a run and takes others away, as a person does it: it is audited.

        Raises:
            KeyInvalid, TagNotFound, RunNotFound, RunDeleted: a name is not allowed; a tag to remove is not there;
                the run is not there, or in the bin.
        """
        for key, value in tags.items():
            check_key(key, "a tag")
            check_tag(key, value)
        code = self.code_version(project_id, tags, run_id=run_id) if self.names_code(tags) else None
        with self._changes.begin("tracking.tag", project_id, actor, once=once) as change:
            if change.earlier is not None:
                return
            change.tx.lock(lock_of(run_id))
            run = self._tracked(change.tx, run_id, project_id)
            self._set_tags(change.tx, run.no, tags)
            if code is not None:
                self._link_code(change.tx, run_id, code)
            for key in remove:
                self.delete_tag(run_id, key, project_id=project_id, tx=change.tx)
            change.note(run_id, set=sorted(tags), removed=sorted(remove))

    def named_experiment(self, project_id: ProjectId, text: str) -> Experiment:
        """An experiment by its name, or by its number where no name is like that.

        Raises:
            ExperimentNotFound: there is none.
        """
        try:
            return self.experiment(project_id, text)
        except ExperimentNotFound:
            if not (text.isascii() and text.isdecimal() and len(text) < 19 and int(text)):
                raise
            return self.experiment_by_id(project_id, int(text))

    def renamed(self, project_id: ProjectId, text: str, name: str, *, actor: Actor, once: Once | None = None) -> int:
        """``rename_experiment`` for who knows the name that it has; returns its number."""
        earlier = self._changes.answered("tracking.rename", project_id, once)
        if earlier is not None:  # it has another name by now
            return earlier["id"]
        id = self.named_experiment(project_id, text).id
        self.rename_experiment(project_id, id, name, actor=actor, once=once)
        return id

    def tag_experiment(
        self,
        project_id: ProjectId,
        id: int,
        tags: Mapping[str, str],
        *,
        actor: Actor,
        remove: Collection[str] = (),
        once: Once | None = None,
    ) -> None:
        """Sets tags of an experiment and takes others away, all or none.

        Raises:
            KeyInvalid, ExperimentNotFound, ExperimentDeleted: as the verbs for one tag.
        """
        with self._changes.begin("tracking.experiment_tags", project_id, actor, once=once) as change:
            if change.earlier is not None:
                return
            for key, value in tags.items():
                self.set_experiment_tag(project_id, id, key, value, actor=actor, tx=change.tx)
            for key in remove:
                self.delete_experiment_tag(project_id, id, key, actor=actor, tx=change.tx)
            change.note(str(id), set=sorted(tags), removed=sorted(remove))

    def _all_there(self, tx: Tx, project_id: ProjectId, ids: Sequence[RunId]) -> None:
        c = at.runs.c
        for start in range(0, len(ids), _PART):
            part = list(ids[start : start + _PART])
            there = set(tx.execute(select(c.id).where(c.project_id == project_id, c.id.in_(part))).scalars())
            missing = next((id for id in part if id not in there), None)
            if missing is not None:
                raise RunNotFound(f"There is no run {missing!r:.60} in this project.", hint="noria runs list")


def _check_many(ids: Sequence[RunId]) -> None:
    if not 1 <= len(ids) <= MOST_AT_ONCE:
        raise Invalid(f"{len(ids)} runs at once are refused.", hint=f"Name 1 to {MOST_AT_ONCE} runs.")


def _named(ids: Sequence[RunId]) -> str:
    return ids[0] if len(ids) == 1 else f"{len(ids)} runs"
