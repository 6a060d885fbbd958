"""Routes of rows."""

from __future__ import annotations

from dataclasses import asdict

from noria.base.ids import ProjectId
from noria.data import wire as w
from noria.data.http.shared import ONE, Handlers
from noria.data.records import RepositoryKind
from noria.data.rows.alter import Alterations, NewColumn
from noria.data.service import Data
from noria.data.values import parse_key
from noria.data.wire.tables import (
    AlterBody,
    CompactBody,
    CompactedOut,
    RowHistoryOut,
    RowHistoryQuery,
    row_event_out,
)
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
            evolve=body.evolve,
        )
        return w.commit_out(commit)

    def alter(self, call: Call) -> w.CommitOut:
        body: AlterBody = call.body
        changes = Alterations(
            add=tuple(NewColumn(name=c.name, type=c.type, default=c.default) for c in body.add),
            drop=tuple(body.drop),
            rename=body.rename,
            widen=body.widen,
            key=None if body.key is None else tuple(body.key),
        )
        commit = self._data.alter(
            self._repository(call),
            changes,
            actor=call.actor,
            branch=body.branch,
            message=body.message,
            expected=body.expected,
            contract=body.contract,
            once=call.once,
        )
        return w.commit_out(commit)

    def compact(self, call: Call) -> CompactedOut:
        body: CompactBody = call.body
        done = self._data.compact(self._repository(call), actor=call.actor, branch=body.branch, once=call.once)
        return CompactedOut(**asdict(done))

    def history(self, call: Call) -> RowHistoryOut:
        query: RowHistoryQuery = call.query
        repository, key = self._repository(call), parse_key(query.key)
        events = self._data.row_history(repository, key, query.ref)
        held = [] if events[0].after is None else self._data.versions_with_row(repository, key, query.ref)
        return RowHistoryOut([row_event_out(e) for e in events], [c.id for c in held])


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
        Route(
            method="POST",
            path=ONE + "/columns",
            handler=r.alter,
            permission="data.write",
            summary="Add, drop, rename or widen columns of a table, or give it a key.",
            body=AlterBody,
            answer=w.CommitOut,
            cli="noria data alter NAME",
        ),
        Route(
            method="POST",
            path=ONE + "/compact",
            handler=r.compact,
            permission="data.write",
            summary="Write the files of a table anew, in full size; its version stays.",
            body=CompactBody,
            answer=CompactedOut,
            cli="noria data compact NAME",
        ),
        Route(
            method="GET",
            path=ONE + "/row",
            handler=r.history,
            permission="data.read",
            summary="Show what happened to one row, by its key.",
            query=RowHistoryQuery,
            answer=RowHistoryOut,
            cli="noria data history NAME KEY=VALUE",
        ),
    ]
