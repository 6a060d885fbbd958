"""The run of a collection: it begins with the first thing there is to say, and ends however that ends."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from noria.assets import Assets, Changes
from noria.assets.records import RunState
from noria.base.actor import Actor
from noria.base.errors import NoriaError
from noria.base.ids import RunId
from noria.data.records import Repository
from noria.data.service.collecting.sources import Collected
from noria.db import Database


class CollectionRuns:
    """One per workspace."""

    def __init__(self, db: Database, assets: Assets, changes: Changes) -> None:
        self._db = db
        self._assets = assets
        self._changes = changes

    def begin(self, repository: Repository, actor: Actor, done: Collected) -> RunId:
        """The run of a collection; it begins with the first thing there is to say."""
        if done.run_id is None:
            with self._changes.begin("data.collect", repository.project_id, actor) as change:
                name, project_id = f"collect {repository.name}", repository.project_id
                run = self._assets.start_run(change.tx, project_id, kind="collection", name=name, actor=actor)
                change.note(repository.name, run=run.id)
            done.run_id = run.id
        return done.run_id

    @contextmanager
    def ending(self, done: Collected) -> Generator[None]:
        """Ends the run of a collection, however that ends: nothing stays running."""
        try:
            yield
        except NoriaError as error:
            self._end(done, RunState.FAILED, error.as_dict()["error"])
            raise
        except BaseException as broken:  # interrupted, or a bug
            state = RunState.CANCELLED if isinstance(broken, KeyboardInterrupt) else RunState.FAILED
            self._end(done, state, {"code": "interrupted", "message": str(broken) or type(broken).__name__})
            raise
        self._end(done, RunState.DONE, None)

    def _end(self, done: Collected, state: RunState, error: dict[str, Any] | None) -> None:
        if done.run_id is not None:
            with self._db.write() as tx:
                self._assets.end_run(tx, done.run_id, state, error=error)
