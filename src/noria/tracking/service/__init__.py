"""The verbs of tracking. Runs themselves belong to the asset graph; this room adds what they say by run id."""

from __future__ import annotations

from noria.assets import Assets, Changes
from noria.db import Database
from noria.tracking.service.artifacts import Artifacts, Receiving
from noria.tracking.service.base import DEFAULT, MOST_PARAM, MOST_TAG, lock_of
from noria.tracking.service.reading import Searching
from noria.tracking.service.saying import Saying
from noria.tracking.traces.service import Traces

__all__ = ["DEFAULT", "MOST_PARAM", "MOST_TAG", "Receiving", "Tracking", "lock_of"]


class Tracking(Saying, Searching, Artifacts):
    """One per workspace.

    Attributes:
        traces: what applications did for their requests.
    """

    def __init__(self, db: Database, assets: Assets, changes: Changes) -> None:
        super().__init__(db, assets, changes)
        self.traces = Traces(db, assets, changes, self._keys, self.ensure_default)
