"""Routes of rows."""

from __future__ import annotations

from noria.base.ids import ProjectId
from noria.data import wire as w
from noria.data.http.shared import ONE, Handlers
from noria.data.records import RepositoryKind
from noria.data.service import Data
from noria.http import Call, Route

_ROWS_BODY = 64 << 20


class TablesRoutes(Handlers):
    def append_many(self, call: Call) -> w.CommitsByName:
        body: w.AppendManyBody = call.body
        batches = {
            name: (self._data.get(self._project_id, name, RepositoryKind.TABLE), rows)
            for name, rows in body.repositories.items()
        }
        done = self._data.append_many(
            self._project_id,
            batches,
            actor=call.actor,
            branch=body.branch,
            message=body.message,
            key=call.key,
            source="http",
        )
        return w.CommitsByName({name: w.commit_out(c) for name, c in done.items()})

    def rows(self, call: Call) -> w.RowsPage:
        query: w.RowsQuery = call.query
        repository = self._repository(call)
        commit = self._data.resolve(repository, query.ref)
        columns = query.columns.split(",") if query.columns else None
        frame = self._data.read(repository, commit.id, columns=columns)
        part = frame.slice(max(0, query.offset), max(0, min(query.limit, 10_000)))
        return w.RowsPage(commit=commit.id, total=len(frame), rows=w.rows_out(part))

    def append(self, call: Call) -> w.CommitOut:
        body: w.AppendBody = call.body
        commit = self._data.append(
            self._repository(call),
            body.rows,
            actor=call.actor,
            branch=body.branch,
            message=body.message,
            mode=body.mode,
            expected=body.expected,
            key=call.key,
            source="http",
        )
        return w.commit_out(commit)


def routes(data: Data, project_id: ProjectId) -> list[Route]:
    r = TablesRoutes(data, project_id)
    return [
        Route(
            method="POST",
            path="/v1/rows",
            handler=r.append_many,
            permission="data.write",
            summary="Commit rows to several repositories in one transaction.",
            body=w.AppendManyBody,
            answer=w.CommitsByName,
            max_body=_ROWS_BODY,
        ),
        Route(
            method="GET",
            path=ONE + "/rows",
            handler=r.rows,
            permission="data.read",
            summary="Read rows of a table at a commit.",
            query=w.RowsQuery,
            answer=w.RowsPage,
            cli="noria data read NAME",
        ),
        Route(
            method="POST",
            path=ONE + "/rows",
            handler=r.append,
            permission="data.write",
            summary="Commit rows to a table.",
            body=w.AppendBody,
            answer=w.CommitOut,
            max_body=_ROWS_BODY,
            cli="noria data append NAME FILE",
        ),
    ]
