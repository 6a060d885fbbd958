"""Routes of versioned data."""

from __future__ import annotations

import msgspec

from noria.base.errors import NotFound
from noria.base.ids import ProjectId
from noria.data import wire as w
from noria.data.records import Repository, RepositoryKind
from noria.data.service import Data
from noria.http import Call, Route

_ROWS_BODY = 64 << 20


class DataRoutes:
    """Handlers of the room; each is one verb."""

    def __init__(self, data: Data, project_id: ProjectId) -> None:
        self._data = data
        self._project_id = project_id

    def _repository(self, call: Call) -> Repository:
        return self._data.get(self._project_id, call.path["name"])

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
        schema = self._data.schema(repository) if repository.kind == RepositoryKind.TABLE else None
        return w.RepositoryDetail(
            repository=w.repository_out(repository),
            branches=[w.branch_out(b) for b in self._data.branches(repository)],
            columns={} if schema is None else {c.name: c.type for c in schema.columns},
        )

    def log(self, call: Call) -> w.CommitPage:
        query: w.LogQuery = call.query
        return w.CommitPage([w.commit_out(c) for c in self._data.log(self._repository(call), query.ref, query.limit)])

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

    def diff(self, call: Call) -> w.DiffOut:
        query: w.DiffQuery = call.query
        repository = self._repository(call)
        if repository.kind == RepositoryKind.FILES:
            return w.DiffOut(
                files=[w.path_change_out(c) for c in self._data.diff(repository, query.before, query.after)]
            )
        parts = dict(
            zip(
                ("added", "removed", "changed"),
                self._data.diff_rows(repository, query.before, query.after),
                strict=True,
            )
        )
        return w.DiffOut(
            added=len(parts["added"]),
            removed=len(parts["removed"]),
            changed=len(parts["changed"]),
            samples={name: w.rows_out(frame.head(5)) for name, frame in parts.items()},
        )

    def contract(self, call: Call) -> w.ContractOut:
        repository = self._repository(call)
        found = self._data.contract(repository)
        return w.ContractOut(repository.contract, None if found is None else msgspec.to_builtins(found))

    def set_contract(self, call: Call) -> w.ContractOut:
        repository = self._repository(call)
        number = self._data.set_contract(repository, call.body.contract, actor=call.actor, once=call.once)
        return w.ContractOut(number, msgspec.to_builtins(self._data.contract_at(repository, number)))

    def create_branch(self, call: Call) -> w.BranchOut:
        body: w.BranchBody = call.body
        repository = self._repository(call)
        made = self._data.create_branch(repository, body.branch, at=body.at, actor=call.actor, once=call.once)
        return w.branch_out(made)

    def quarantined(self, call: Call) -> w.QuarantinedDetail:
        text, query = call.path["id"], call.query
        known = {str(q.id) for q in self._data.quarantine(self._project_id)}
        if text not in known:
            raise NotFound(f"There is no batch {text!r:.60} in quarantine.", hint="GET /v1/quarantine")
        found, frame = self._data.quarantined(int(text))
        rows = frame.head(max(0, min(query.rows, 1_000)))
        return w.QuarantinedDetail(w.quarantined_out(found), w.rows_out(rows))

    def quarantine(self, _: Call) -> w.QuarantinePage:
        return w.QuarantinePage([w.quarantined_out(q) for q in self._data.quarantine(self._project_id)])


def routes(data: Data, project_id: ProjectId) -> list[Route]:
    r = DataRoutes(data, project_id)
    one = "/v1/data/{name}"
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
            path="/v1/quarantine",
            handler=r.quarantine,
            permission="data.read",
            summary="List batches that a contract refused.",
            answer=w.QuarantinePage,
            cli="noria data quarantine list",
        ),
        Route(
            method="GET",
            path="/v1/quarantine/{id}",
            handler=r.quarantined,
            permission="data.read",
            summary="Show the findings and the first rows of a refused batch.",
            query=w.QuarantineQuery,
            answer=w.QuarantinedDetail,
            cli="noria data quarantine show NUMBER",
        ),
        Route(
            method="POST",
            path=one + "/branches",
            handler=r.create_branch,
            permission="data.write",
            summary="Make a branch.",
            body=w.BranchBody,
            answer=w.BranchOut,
            status=201,
            cli="noria data branch NAME BRANCH",
        ),
        Route(
            method="GET",
            path=one,
            handler=r.show,
            permission="data.read",
            summary="Show a repository: branches and columns.",
            answer=w.RepositoryDetail,
            cli="noria data show NAME",
        ),
        Route(
            method="GET",
            path=one + "/log",
            handler=r.log,
            permission="data.read",
            summary="List commits, newest first.",
            query=w.LogQuery,
            answer=w.CommitPage,
            cli="noria data log NAME",
        ),
        Route(
            method="GET",
            path=one + "/rows",
            handler=r.rows,
            permission="data.read",
            summary="Read rows of a table at a commit.",
            query=w.RowsQuery,
            answer=w.RowsPage,
            cli="noria data read NAME",
        ),
        Route(
            method="POST",
            path=one + "/rows",
            handler=r.append,
            permission="data.write",
            summary="Commit rows to a table.",
            body=w.AppendBody,
            answer=w.CommitOut,
            max_body=_ROWS_BODY,
            cli="noria data append NAME FILE",
        ),
        Route(
            method="GET",
            path=one + "/diff",
            handler=r.diff,
            permission="data.read",
            summary="Compare two commits.",
            query=w.DiffQuery,
            answer=w.DiffOut,
            cli="noria data diff NAME BEFORE AFTER",
        ),
        Route(
            method="GET",
            path=one + "/contract",
            handler=r.contract,
            permission="data.read",
            summary="Show the contract in force.",
            answer=w.ContractOut,
            cli="noria data contract show NAME",
        ),
        Route(
            method="PUT",
            path=one + "/contract",
            handler=r.set_contract,
            permission="data.write",
            summary="Put a contract in force.",
            body=w.ContractBody,
            answer=w.ContractOut,
            cli="noria data contract set NAME FILE",
        ),
    ]
