"""The core: assets, versions, runs and the edges between them; events, audit and evidence beside every change."""

from __future__ import annotations

from noria.assets.changes import Change, Changes
from noria.assets.deliveries import Deliveries, Handler
from noria.assets.eventclock import ProjectClock
from noria.assets.evidence import EvidenceLog
from noria.assets.lineage import Lineage
from noria.assets.service import Assets
from noria.assets.sessions import StoreSessions

__all__ = [
    "Assets",
    "Change",
    "Changes",
    "Deliveries",
    "EvidenceLog",
    "Handler",
    "Lineage",
    "ProjectClock",
    "StoreSessions",
]
