"""The verbs of traces."""

from __future__ import annotations

from noria.tracking.traces.service.assessing import Assessing
from noria.tracking.traces.service.base import lock_of
from noria.tracking.traces.service.reading import Reading

__all__ = ["Traces", "lock_of"]


class Traces(Assessing, Reading):
    """One per workspace, a part of ``Tracking``."""
