"""Routes of repositories."""

from __future__ import annotations

import msgspec

from noria.base.ids import ProjectId
from noria.data import wire as w
from noria.data.http.shared import ONE, Handlers
from noria.data.records import RepositoryKind
from noria.data.service import Data
from noria.http import Call, Route


class RepositoriesRoutes(Handlers):
    def repositories(self, _: Call) -> w.RepositoryPage:
        return w.RepositoryPage([w.repository_out(r) for r in self._data.repositories(self._project_id)])

    def create(self, call: Call) -> w.RepositoryOut:
        body: w.CreateBody = call.body
        kind = msgspec.convert(body.kind, RepositoryKind)
        made = self._data.create(
            self._project_id,
            body.name,
            kind,
            actor=call.actor,
            key=tuple(body.key),
            time=body.time,
            known=body.known,
            once=call.once,
        )
        return w.repository_out(made)

    def show(self, call: Call) -> w.RepositoryDetail:
        repository = self._repository(call)
        head = self._data.head(repository) if repository.kind == RepositoryKind.TABLE else None
        layout = None if head is None else self._data.layout(head)
        return w.RepositoryDetail(
            repository=w.repository_out(repository),
            branches=[w.branch_out(b) for b in self._data.branches(repository)],
            columns={} if layout is None else {c.name: c.type for c in layout.schema.columns},
            rows=None if layout is None else layout.rows,
            tags=dict(self._data.tags(repository)),
        )


def routes(data: Data, project_id: ProjectId) -> list[Route]:
    r = RepositoriesRoutes(data, project_id)
    return [
        Route(
            method="GET",
            path="/v1/data",
            handler=r.repositories,
            permission="data.read",
            summary="List repositories.",
            answer=w.RepositoryPage,
            cli="noria data list",
        ),
        Route(
            method="POST",
            path="/v1/data",
            handler=r.create,
            permission="data.write",
            summary="Make a repository.",
            body=w.CreateBody,
            answer=w.RepositoryOut,
            status=201,
            cli="noria data create NAME",
        ),
        Route(
            method="GET",
            path=ONE,
            handler=r.show,
            permission="data.read",
            summary="Show a repository: branches, tags, key, columns, number of rows.",
            answer=w.RepositoryDetail,
            cli="noria data show NAME",
        ),
    ]
