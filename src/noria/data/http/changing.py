"""Routes of change sets and open commits."""

from __future__ import annotations

from noria.base.errors import Invalid
from noria.base.ids import ProjectId
from noria.data import wire as w
from noria.data.http.shared import ONE, Handlers
from noria.data.service import Data
from noria.data.wire import history as h
from noria.http import Call, Route

_BODY = 64 << 20


class ChangeRoutes(Handlers):
    def change(self, call: Call) -> w.CommitOut:
        body: h.ChangeBody = call.body
        done = self._data.change(
            self._repository(call),
            h.edits_of(body.edits),
            actor=call.actor,
            branch=body.branch,
            message=body.message,
            meta=body.meta,
            expected=body.expected,
            once=call.once,
        )
        return w.commit_out(done)

    def drafts(self, call: Call) -> h.DraftPage:
        return h.DraftPage([h.draft_out(d) for d in self._data.drafts(self._repository(call))])

    def start(self, call: Call) -> h.DraftOut:
        body: h.StartBody = call.body
        how = {"branch": body.branch, "message": body.message, "meta": body.meta}
        return h.draft_out(self._data.start(self._repository(call), actor=call.actor, once=call.once, **how))

    def show(self, call: Call) -> h.DraftOut:
        return h.draft_out(self._data.draft(self._repository(call), call.path["draft"]))

    def edit(self, call: Call) -> h.DraftOut:
        body: h.DraftEditBody = call.body
        repository, draft_id = self._repository(call), call.path["draft"]
        if (body.rows is None) == (not body.edits):
            raise Invalid("An open commit takes edits of files or rows of a table.", hint='{"edits": [...]}')
        if body.rows is not None:
            done = self._data.edit_rows(
                repository, draft_id, body.rows, mode=body.mode, actor=call.actor, once=call.once
            )
        else:
            done = self._data.edit(repository, draft_id, h.edits_of(body.edits), actor=call.actor, once=call.once)
        return h.draft_out(done)

    def finish(self, call: Call) -> w.CommitOut:
        body: h.FinishBody = call.body
        done = self._data.finish(
            self._repository(call),
            call.path["draft"],
            actor=call.actor,
            message=body.message,
            strategy=body.strategy,
            resolve=body.resolve,
            once=call.once,
        )
        return w.commit_out(done)

    def drop(self, call: Call) -> h.Deleted:
        repository, draft_id = self._repository(call), call.path["draft"]
        self._data.drop_draft(repository, draft_id, actor=call.actor, once=call.once)
        return h.Deleted(draft_id)


def routes(data: Data, project_id: ProjectId) -> list[Route]:
    r = ChangeRoutes(data, project_id)
    one = ONE + "/drafts/{draft}"
    return [
        Route(
            method="POST",
            path=ONE + "/changes",
            handler=r.change,
            permission="data.write",
            summary="Commit a change set: put, append, delete, copy, move of single paths.",
            body=h.ChangeBody,
            answer=w.CommitOut,
            max_body=_BODY,
            cli="noria data put NAME PATH FILE",
        ),
        Route(
            method="GET",
            path=ONE + "/drafts",
            handler=r.drafts,
            permission="data.read",
            summary="List the commits that are open.",
            answer=h.DraftPage,
            cli="noria data drafts NAME",
        ),
        Route(
            method="POST",
            path=ONE + "/drafts",
            handler=r.start,
            permission="data.write",
            summary="Open a commit for many writers.",
            body=h.StartBody,
            answer=h.DraftOut,
            status=201,
            cli="noria data start NAME",
        ),
        Route(
            method="GET",
            path=one,
            handler=r.show,
            permission="data.read",
            summary="Show an open commit.",
            answer=h.DraftOut,
        ),
        Route(
            method="POST",
            path=one,
            handler=r.edit,
            permission="data.write",
            summary="Write edits or rows to an open commit.",
            body=h.DraftEditBody,
            answer=h.DraftOut,
            max_body=_BODY,
            cli="noria data put NAME PATH FILE --draft ID",
        ),
        Route(
            method="POST",
            path=one + "/finish",
            handler=r.finish,
            permission="data.write",
            summary="Land an open commit.",
            body=h.FinishBody,
            answer=w.CommitOut,
            cli="noria data finish NAME ID",
        ),
        Route(
            method="DELETE",
            path=one,
            handler=r.drop,
            permission="data.write",
            summary="Give an open commit up.",
            answer=h.Deleted,
            cli="noria data abandon NAME ID",
        ),
    ]
