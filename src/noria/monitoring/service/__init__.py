"""The verbs of monitoring."""

from __future__ import annotations

from noria.monitoring.service.skewing import Skewing


class Monitoring(Skewing):
    """One per workspace. Works on what ``Ingest`` has taken over; every verb may be repeated."""
