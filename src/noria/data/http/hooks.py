"""Routes of hooks."""

from __future__ import annotations

from noria.base.ids import ProjectId
from noria.data.http.shared import Handlers
from noria.data.service import Data
from noria.data.wire import hooks as w
from noria.http import Call, Route


class HooksRoutes(Handlers):
    def hooks(self, _: Call) -> w.HookPage:
        return w.HookPage([w.hook_out(one) for one in self._data.hooks.applied(self._project_id)])


def routes(data: Data, project_id: ProjectId) -> list[Route]:
    r = HooksRoutes(data, project_id)
    return [
        Route(
            method="GET",
            path="/v1/hooks",
            handler=r.hooks,
            permission="data.read",
            summary="List the hooks of the project that was applied last.",
            answer=w.HookPage,
            cli="noria data hooks",
        ),
    ]
