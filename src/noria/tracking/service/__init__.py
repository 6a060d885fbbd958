"""The verbs of tracking. Runs themselves belong to the asset graph; this room adds what they say by run id."""

from __future__ import annotations

from functools import cached_property

from noria.tracking.service.artifacts import Artifacts, Receiving
from noria.tracking.service.base import DEFAULT, MOST_PARAM, MOST_TAG, lock_of
from noria.tracking.service.listing import Listing
from noria.tracking.service.organizing import NOTE, Organizing
from noria.tracking.traces.service import Traces

__all__ = ["DEFAULT", "MOST_PARAM", "MOST_TAG", "NOTE", "Receiving", "Tracking", "lock_of"]


class Tracking(Organizing, Listing, Artifacts):
    """One per workspace."""

    @cached_property
    def traces(self) -> Traces:
        """What applications did for their requests."""
        return Traces(self._db, self._assets, self._changes, self._keys, self.ensure_default)
