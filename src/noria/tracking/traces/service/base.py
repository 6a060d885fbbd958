from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from noria.assets import Assets, Changes
from noria.base.ids import ProjectId
from noria.db import Database, Tx
from noria.tracking import queries as tracking_queries
from noria.tracking.errors import ExperimentDeleted, ExperimentNotFound
from noria.tracking.keys import Keys
from noria.tracking.traces import queries
from noria.tracking.traces.errors import TraceInvalid, TraceNotFound

if TYPE_CHECKING:
    from sqlalchemy import Row

MOST_ID: Final = 100
MOST_KEY: Final = 250
MOST_TAG: Final = 8_000
MOST_METADATA: Final = 250
MOST_PREVIEW: Final = 10_000

EnsureDefault = Callable[[Tx, ProjectId], int]


class Base:
    """What all verbs of traces share."""

    def __init__(self, db: Database, assets: Assets, changes: Changes, keys: Keys, ensure: EnsureDefault) -> None:
        self._db = db
        self._assets = assets
        self._changes = changes
        self._keys = keys
        self._ensure_default = ensure

    def _experiment(self, tx: Tx, project_id: ProjectId, id: int) -> int:
        """The number of an experiment that takes traces; 0 is the default one.

        Raises:
            ExperimentNotFound, ExperimentDeleted: it is not there, or in the bin.
        """
        found = tracking_queries.experiment_state(tx.conn, project_id, id)
        if found is None and id == 0:
            return self._ensure_default(tx, project_id)
        if found is None:
            raise ExperimentNotFound(f"There is no experiment with the id {id}.", hint="noria runs experiments")
        if found[2]:
            raise ExperimentDeleted(found[1], deleted=True)
        return found[0]

    @staticmethod
    def _row(tx: Tx, project_id: ProjectId, trace_id: str) -> Row[Any]:
        """The row of a trace.

        Raises:
            TraceNotFound: there is none in this project.
        """
        found = queries.row(tx.conn, trace_id)
        if found is None or found.project_id != project_id:
            raise TraceNotFound(trace_id)
        return found

    def _keyed(self, tx: Tx, table: Any, number: int, pairs: Mapping[str, str], most: int, *, new: bool) -> None:
        """Writes tags or metadata; ``new``: the trace has none so far."""
        if not pairs:
            return
        pairs = {kept(key)[:MOST_KEY]: kept(value)[:most] for key, value in pairs.items()}
        ids = self._keys.ids(tx, pairs)
        rows = [(number, ids[key], value) for key, value in pairs.items()]
        tx.write_rows(table, ("trace", "key_id", "value"), rows, key=() if new else ("trace", "key_id"))


def lock_of(experiment_id: int | str) -> str:
    """The lock under which traces of an experiment are written (see ``Tx.lock``)."""
    return f"traces:{experiment_id}"


def kept(text: str) -> str:
    """A text that a database takes. What programs log is never refused for a character."""
    return text.replace("\0", "\ufffd")


def check_id(trace_id: str) -> None:
    if not 0 < len(trace_id) <= MOST_ID or "\0" in trace_id:
        raise TraceInvalid(f"{trace_id!r:.120} is no id of a trace.", hint=f"It has 1 to {MOST_ID} characters.")
