"""Routes of history: log, diff, branches."""

from __future__ import annotations

import msgspec

from noria.base.ids import ProjectId
from noria.data import wire as w
from noria.data.http.shared import ONE, Handlers
from noria.data.records import RepositoryKind
from noria.data.service import Data
from noria.data.wire import history as h
from noria.data.wire.tables import rows_diff_out
from noria.http import Call, Route


class HistoryRoutes(Handlers):
    def log(self, call: Call) -> w.CommitPage:
        query: w.LogQuery = call.query
        repository = self._repository(call)
        page = self._data.log_page(repository, query.ref, limit=query.limit, after=query.after)
        names = self._data.names(repository, page.items)
        return w.CommitPage([w.named_commit_out(c, names.get(c.id)) for c in page.items], page.next)

    def moves(self, call: Call) -> h.MovePage:
        query: h.MovesQuery = call.query
        page = self._data.moves(self._repository(call), query.branch, limit=query.limit, after=query.after)
        return h.MovePage([h.move_out(move) for move in page.items], page.next)

    def diff(self, call: Call) -> w.DiffOut:
        query: w.DiffQuery = call.query
        repository = self._repository(call)
        if repository.kind == RepositoryKind.FILES:
            return w.DiffOut(
                files=[w.path_change_out(c) for c in self._data.diff(repository, query.before, query.after)]
            )
        found = rows_diff_out(self._data.compare_rows(repository, query.before, query.after))
        return w.DiffOut(**msgspec.structs.asdict(found))

    def create_branch(self, call: Call) -> w.BranchOut:
        body: w.BranchBody = call.body
        repository = self._repository(call)
        made = self._data.create_branch(repository, body.branch, at=body.at, actor=call.actor, once=call.once)
        return w.branch_out(made)


def routes(data: Data, project_id: ProjectId) -> list[Route]:
    r = HistoryRoutes(data, project_id)
    return [
        Route(
            method="GET",
            path=ONE + "/log",
            handler=r.log,
            permission="data.read",
            summary="List commits, newest first.",
            query=w.LogQuery,
            answer=w.CommitPage,
            cli="noria data log NAME",
        ),
        Route(
            method="GET",
            path=ONE + "/moves",
            handler=r.moves,
            permission="data.read",
            summary="List where branches went, newest first: who, when, by what, from and to.",
            query=h.MovesQuery,
            answer=h.MovePage,
            cli="noria data moves NAME",
        ),
        Route(
            method="GET",
            path=ONE + "/diff",
            handler=r.diff,
            permission="data.read",
            summary="Compare two commits.",
            query=w.DiffQuery,
            answer=w.DiffOut,
            cli="noria data diff NAME BEFORE AFTER",
        ),
        Route(
            method="POST",
            path=ONE + "/branches",
            handler=r.create_branch,
            permission="data.write",
            summary="Make a branch.",
            body=w.BranchBody,
            answer=w.BranchOut,
            status=201,
            cli="noria data branch NAME BRANCH",
        ),
    ]
