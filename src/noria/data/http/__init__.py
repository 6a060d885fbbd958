"""Routes of versioned data, one module for each group of verbs."""

from __future__ import annotations

from noria.base.ids import ProjectId
from noria.data.http import access, contracts, history, repositories, tables
from noria.data.service import Data
from noria.http import Route

_GROUPS = (repositories, tables, contracts, history, access)


def routes(data: Data, project_id: ProjectId) -> list[Route]:
    return [route for group in _GROUPS for route in group.routes(data, project_id)]
