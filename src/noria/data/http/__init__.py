"""Routes of versioned data, one module for each group of verbs."""

from __future__ import annotations

from noria.base.ids import ProjectId
from noria.data.http import (
    access,
    branches,
    care,
    changing,
    contracts,
    history,
    hooks,
    records,
    repositories,
    tables,
    transfer,
)
from noria.data.service import Data
from noria.data.service.care.care import Care
from noria.data.service.transfer.verbs import Transfer
from noria.http import Route

_GROUPS = (repositories, tables, contracts, history, branches, changing, access, hooks, records)


def routes(
    data: Data, project_id: ProjectId, transfers: Transfer | None = None, keeper: Care | None = None
) -> list[Route]:
    found = [route for group in _GROUPS for route in group.routes(data, project_id)]
    if keeper is not None:
        found += care.routes(data, keeper, project_id)
    return found if transfers is None else [*found, *transfer.routes(data, project_id, transfers)]
