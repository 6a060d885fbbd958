"""Routes of the room, one module for each group of verbs."""

from __future__ import annotations

from noria.assets import Assets
from noria.base.ids import ProjectId
from noria.http import Route
from noria.tracking import Tracking
from noria.tracking.http import changing, runs, traces


def routes(tracking: Tracking, assets: Assets, project_id: ProjectId) -> list[Route]:
    return [
        *changing.routes(tracking, assets, project_id),
        *runs.routes(tracking, assets, project_id),
        *traces.routes(tracking, project_id),
    ]
