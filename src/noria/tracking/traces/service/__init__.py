"""The verbs of traces."""

from __future__ import annotations

from noria.tracking.traces.service.assessing import Assessing
from noria.tracking.traces.service.base import lock_of
from noria.tracking.traces.service.walking import Walking

__all__ = ["Traces", "lock_of"]


class Traces(Assessing, Walking):
    """One per workspace, a part of ``Tracking``."""
