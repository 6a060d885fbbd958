"""Routes of files that are read where they lie."""

from __future__ import annotations

from noria.base.ids import ProjectId
from noria.data.http.shared import ONE, Handlers
from noria.data.service import Data
from noria.data.service.access import etag
from noria.data.wire import access as w
from noria.http import Call, Content, Route


class AccessRoutes(Handlers):
    def files(self, call: Call) -> w.FilePage:
        query: w.FilesQuery = call.query
        repository = self._repository(call)
        how = {"pattern": query.pattern, "after": query.after, "limit": query.limit}
        return w.files_page_out(self._data.page(repository, query.ref, **how))

    def file(self, call: Call) -> Content:
        query: w.FileQuery = call.query
        found = self._data.entry(self._repository(call), call.path["path"], query.ref)
        return Content(size=found.size, etag=etag(found), open=lambda: self._data.open_entry(found))


def routes(data: Data, project_id: ProjectId) -> list[Route]:
    r = AccessRoutes(data, project_id)
    return [
        Route(
            method="GET",
            path=ONE + "/files",
            handler=r.files,
            permission="data.read",
            summary="List the files of a commit whose path fits a pattern.",
            query=w.FilesQuery,
            answer=w.FilePage,
            cli="noria data ls NAME PATTERN",
        ),
        Route(
            method="GET",
            path=ONE + "/files/{path:path}",
            handler=r.file,
            permission="data.read",
            summary="Read the bytes of a file, or a range of them.",
            query=w.FileQuery,
            answer=Content,
            cli="noria data cat NAME PATH",
        ),
    ]
