from __future__ import annotations

from noria.base.ids import ProjectId
from noria.data.records import Repository, RepositoryKind
from noria.data.service import Data
from noria.http import Call

ONE = "/v1/data/{name}"


class Handlers:
    """What the handlers of the room share; each handler is one verb."""

    def __init__(self, data: Data, project_id: ProjectId) -> None:
        self._data = data
        self._project_id = project_id

    def _repository(self, call: Call, kind: RepositoryKind | None = None) -> Repository:
        return self._data.get(self._project_id, call.path["name"], kind)
