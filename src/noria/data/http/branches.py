"""Routes of what moves branches: tags, merge, revert, cherry-pick, reset, squash, drop; and of who touched a path."""

from __future__ import annotations

from collections.abc import Callable

from noria.base.ids import ProjectId
from noria.data import wire as w
from noria.data.http.shared import ONE, Handlers
from noria.data.records import Commit, RepositoryKind
from noria.data.service import Data
from noria.data.wire import history as h
from noria.http import Call, Route

_SHOWN = 1000


class BranchRoutes(Handlers):
    def tags(self, call: Call) -> h.TagPage:
        return h.TagPage([h.TagOut(name, at) for name, at in self._data.tags(self._repository(call)).items()])

    def tag(self, call: Call) -> h.TagOut:
        body: h.TagBody = call.body
        at = self._data.tag(self._repository(call), body.tag, at=body.at, actor=call.actor, once=call.once)
        return h.TagOut(body.tag, at)

    def delete_tag(self, call: Call) -> h.Deleted:
        name = call.path["tag"]
        self._data.delete_tag(self._repository(call), name, actor=call.actor, once=call.once)
        return h.Deleted(name)

    def delete_branch(self, call: Call) -> h.Deleted:
        name = call.path["branch"]
        return h.Deleted(name, self._data.delete_branch(self._repository(call), name, actor=call.actor, once=call.once))

    def commit(self, call: Call) -> h.CommitDetail:
        repository = self._repository(call)
        commit = self._data.resolve(repository, call.path["ref"])
        files = repository.kind == RepositoryKind.FILES
        changes = self._data.changes_of(repository, commit) if files else []
        shown = [w.path_change_out(c) for c in changes[:_SHOWN]]
        return h.CommitDetail(w.commit_out(commit), shown, len(changes))

    def merge(self, call: Call) -> w.CommitOut:
        body: h.MergeBody = call.body
        done = self._data.merge(
            self._repository(call),
            body.source,
            into=body.into,
            actor=call.actor,
            strategy=body.strategy,
            resolve=body.resolve,
            message=body.message,
            fast_forward=body.fast_forward,
            once=call.once,
        )
        return w.commit_out(done)

    def preview(self, call: Call) -> h.MergePreviewOut:
        body: h.MergeBody = call.body
        how = {"into": body.into, "fast_forward": body.fast_forward}
        found = self._data.preview_merge(
            self._repository(call), body.source, strategy=body.strategy, resolve=body.resolve, **how
        )
        return h.preview_out(found, _SHOWN)

    def revert(self, call: Call) -> w.CommitOut:
        return self._replay(call, self._data.revert)

    def cherry_pick(self, call: Call) -> w.CommitOut:
        return self._replay(call, self._data.cherry_pick)

    def _replay(self, call: Call, verb: Callable[..., Commit]) -> w.CommitOut:
        body: h.ReplayBody = call.body
        done = verb(
            self._repository(call),
            body.ref,
            branch=body.branch,
            actor=call.actor,
            strategy=body.strategy,
            resolve=body.resolve,
            message=body.message,
            once=call.once,
        )
        return w.commit_out(done)

    def reset(self, call: Call) -> w.CommitOut:
        body: h.ResetBody = call.body
        how = {"branch": body.branch, "expected": body.expected}
        return w.commit_out(self._data.reset(self._repository(call), body.to, actor=call.actor, once=call.once, **how))

    def squash(self, call: Call) -> w.CommitOut:
        body: h.SquashBody = call.body
        how = {"branch": body.branch, "message": body.message}
        return w.commit_out(
            self._data.squash(self._repository(call), body.since, actor=call.actor, once=call.once, **how)
        )

    def drop(self, call: Call) -> w.CommitOut:
        body: h.DropBody = call.body
        done = self._data.drop(
            self._repository(call),
            branch=body.branch,
            count=body.count,
            expected=body.expected,
            actor=call.actor,
            once=call.once,
        )
        return w.commit_out(done)

    def prune(self, call: Call) -> h.Pruned:
        return h.Pruned(list(self._data.prune(self._repository(call), actor=call.actor, once=call.once)))

    def touched(self, call: Call) -> h.TouchedPage:
        query: h.TouchedQuery = call.query
        repository = self._repository(call)
        page = self._data.touched(repository, query.path, query.ref, limit=query.limit, after=query.after)
        names = self._data.names(repository, [touched.commit for touched in page.items])
        return h.TouchedPage([h.touched_out(t, names.get(t.commit.id)) for t in page.items], page.next)


def routes(data: Data, project_id: ProjectId) -> list[Route]:
    r = BranchRoutes(data, project_id)

    def write(path: str, handler: Callable[[Call], w.CommitOut], summary: str, body: type, cli: str) -> Route:
        return Route(
            method="POST",
            path=ONE + path,
            handler=handler,
            permission="data.write",
            summary=summary,
            body=body,
            answer=w.CommitOut,
            cli=cli,
        )

    return [
        Route(
            method="GET",
            path=ONE + "/tags",
            handler=r.tags,
            permission="data.read",
            summary="List tags.",
            answer=h.TagPage,
            cli="noria data tag NAME",
        ),
        Route(
            method="POST",
            path=ONE + "/tags",
            handler=r.tag,
            permission="data.write",
            summary="Give a commit a name that does not move.",
            body=h.TagBody,
            answer=h.TagOut,
            status=201,
            cli="noria data tag NAME TAG",
        ),
        Route(
            method="DELETE",
            path=ONE + "/tags/{tag:path}",
            handler=r.delete_tag,
            permission="data.write",
            summary="Remove a tag.",
            answer=h.Deleted,
            cli="noria data tag NAME TAG --delete",
        ),
        Route(
            method="DELETE",
            path=ONE + "/branches/{branch:path}",
            handler=r.delete_branch,
            permission="data.write",
            summary="Remove a branch; its commits are found by their ids until they are pruned.",
            answer=h.Deleted,
            cli="noria data branch NAME BRANCH --delete",
        ),
        Route(
            method="GET",
            path=ONE + "/commits/{ref:path}",
            handler=r.commit,
            permission="data.read",
            summary="Show a commit and what it changed.",
            answer=h.CommitDetail,
            cli="noria data show NAME REF",
        ),
        Route(
            method="GET",
            path=ONE + "/touched",
            handler=r.touched,
            permission="data.read",
            summary="List the commits that changed a path, or paths that fit a pattern.",
            query=h.TouchedQuery,
            answer=h.TouchedPage,
            cli="noria data log NAME --path PATH",
        ),
        Route(
            method="POST",
            path=ONE + "/prune",
            handler=r.prune,
            permission="data.write",
            summary="Remove commits that no branch, tag or open commit leads to.",
            body=h.PruneBody,
            answer=h.Pruned,
            cli="noria data prune NAME",
        ),
        write(
            "/merge", r.merge, "Merge a branch, tag or commit into a branch.", h.MergeBody, "noria data merge NAME REF"
        ),
        Route(
            method="POST",
            path=ONE + "/merge/preview",
            handler=r.preview,
            permission="data.read",
            summary="Show what a merge would do: commits, changes, conflicts. Nothing is written.",
            body=h.MergeBody,
            answer=h.MergePreviewOut,
            cli="noria data merge NAME REF --dry-run",
        ),
        write("/revert", r.revert, "Take back what a commit did.", h.ReplayBody, "noria data revert NAME REF"),
        write(
            "/cherry-pick",
            r.cherry_pick,
            "Do on a branch what a commit did elsewhere.",
            h.ReplayBody,
            "noria data cherry-pick NAME REF",
        ),
        write("/reset", r.reset, "Move a branch to another commit.", h.ResetBody, "noria data reset NAME REF"),
        write("/squash", r.squash, "Make one commit of many.", h.SquashBody, "noria data squash NAME SINCE"),
        write("/drop", r.drop, "Take the newest commits away for good.", h.DropBody, "noria data drop NAME"),
    ]
