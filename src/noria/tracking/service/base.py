from __future__ import annotations

from collections.abc import Callable
from typing import Final

from noria.assets import Assets, Changes
from noria.assets.errors import RunNotFound
from noria.assets.sessions import StoreSessions
from noria.base.digest import Digest
from noria.base.ids import ProjectId, RunId, VersionId
from noria.db import Database, Tx
from noria.tracking import queries
from noria.tracking import tables as t
from noria.tracking.errors import KeyInvalid, RunDeleted
from noria.tracking.keys import Keys, check_key
from noria.tracking.quotas import Quotas
from noria.tracking.records import Dataset, Tracked

__all__ = ["DEFAULT", "MOST_PARAM", "MOST_TAG", "Base", "check_key", "check_param", "check_tag", "lock_of"]

DEFAULT: Final = "Default"
MOST_PARAM: Final = 6_000
MOST_TAG: Final = 8_000

Origin = Callable[[ProjectId, Dataset], VersionId | None]
"""The version of the graph that a dataset of a client is, where it is one of ours."""


class Base:
    """What all verbs of the room share."""

    def __init__(self, db: Database, assets: Assets, changes: Changes, sessions: StoreSessions) -> None:
        self._db = db
        self._assets = assets
        self._changes = changes
        self._sessions = sessions
        self._keys = Keys()
        self._quotas = Quotas()
        self._codes: dict[tuple[ProjectId, Digest], VersionId] = {}
        self.origins: list[Origin] = []
        """Who recognises datasets of clients as ours; ``workspace`` adds them."""

    def origin(self, project_id: ProjectId, dataset: Dataset) -> VersionId | None:
        """The version of the graph that a client's dataset is, where it is one of ours."""
        return next((found for of in self.origins if (found := of(project_id, dataset)) is not None), None)

    def ensure_default(self, tx: Tx, project_id: ProjectId) -> int:
        """The experiment that runs go to when nothing else is said."""
        found = queries.default_id(tx.conn, project_id)
        if found is None:
            row = {"project_id": project_id, "name": DEFAULT, "created_at": tx.now_ms, "updated_at": tx.now_ms}
            tx.insert_new(t.experiments, {**row, "is_default": True})
            found = queries.default_id(tx.conn, project_id)
        assert found is not None
        return found

    def _tracked(self, tx: Tx, run_id: RunId, project_id: ProjectId | None = None) -> Tracked:
        """The run with its number; one that said nothing so far gets a number now.

        Raises:
            RunNotFound, RunDeleted: it is not there, or in the bin.
        """
        found = queries.tracked(tx.conn, run_id)
        return self._open(self._first(tx, run_id) if found is None else found, project_id)

    def _first(self, tx: Tx, run_id: RunId) -> Tracked:
        """A run that says something for the first time."""
        run = self._assets.run(run_id, tx)
        row = {
            "run_id": run_id,
            "experiment_id": self.ensure_default(tx, run.project_id),
            "user": "",
            "started_at": run.started_at,
            "deleted": run.deleted_at is not None,
        }
        tx.insert_new(t.tracked_runs, row)
        found = queries.tracked(tx.conn, run_id)
        assert found is not None
        return found

    @staticmethod
    def _open(found: Tracked, project_id: ProjectId | None) -> Tracked:
        """``found``, if it may say something."""
        run_id = found.run_id
        if project_id is not None and found.project_id != project_id:
            raise RunNotFound(f"There is no run {run_id!r} in this project.", hint="noria runs list")
        if found.deleted:
            raise RunDeleted(run_id)
        return found


def lock_of(run_id: RunId) -> str:
    """The lock under which a run's points are written (see ``Tx.lock``)."""
    return f"tracked:{run_id}"


def check_param(key: str, value: str) -> None:
    if len(value) > MOST_PARAM:
        raise KeyInvalid(f"The parameter {key!r} has {len(value)} characters; {MOST_PARAM} are allowed.")


def check_tag(key: str, value: str) -> None:
    if len(value) > MOST_TAG:
        raise KeyInvalid(f"The tag {key!r} has {len(value)} characters; {MOST_TAG} are allowed.")
