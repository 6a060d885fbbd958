"""The verbs of tracking. Runs themselves belong to the asset graph; this room adds what they say by run id."""

from __future__ import annotations

from noria.tracking.service.artifacts import Artifacts, Receiving
from noria.tracking.service.base import DEFAULT, MOST_PARAM, MOST_TAG, lock_of
from noria.tracking.service.reading import Searching
from noria.tracking.service.saying import Saying

__all__ = ["DEFAULT", "MOST_PARAM", "MOST_TAG", "Receiving", "Tracking", "lock_of"]


class Tracking(Saying, Searching, Artifacts):
    """One per workspace."""
