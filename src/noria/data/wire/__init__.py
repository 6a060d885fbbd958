"""Wire shapes of versioned data: what HTTP sends and what ``--json`` prints."""

from __future__ import annotations

from typing import Any

import msgspec

from noria.base.times import to_text
from noria.data.records import MAIN, Branch, Commit, Names, PathChange, Quarantined, Repository
from noria.data.values import plain
from noria.data.wire.tables import ChangedRowOut, SchemaDiffOut


class RepositoryOut(msgspec.Struct):
    name: str
    kind: str
    key: list[str]
    time: str | None
    known: str | None
    contract: int | None


class BranchOut(msgspec.Struct):
    name: str
    head: str | None


class RepositoryDetail(msgspec.Struct):
    """``rows`` and ``columns`` of a table are those of ``main``; null and empty while it has no commit."""

    repository: RepositoryOut
    branches: list[BranchOut]
    columns: dict[str, str]
    rows: int | None = None
    tags: dict[str, str] = {}


class CommitOut(msgspec.Struct):
    id: str
    version: str
    parents: list[str]
    generation: int
    author: str
    message: str
    at: str
    event_time: str
    run: str
    contract: int | None
    stats: dict[str, int]
    meta: dict[str, Any]


class NamedCommitOut(CommitOut):
    """A commit of the history, with the branches that stand at it and its tags."""

    branches: list[str]
    tags: list[str]


class CommitPage(msgspec.Struct):
    items: list[NamedCommitOut]
    next: str | None = None


class RepositoryPage(msgspec.Struct):
    items: list[RepositoryOut]


class RowsPage(msgspec.Struct):
    commit: str
    total: int
    rows: list[dict[str, Any]]


class PathChangeOut(msgspec.Struct):
    path: str
    kind: str
    size_before: int
    size_after: int


class DiffOut(msgspec.Struct, kw_only=True):
    """``files`` of a repository of files; the rest is of tables."""

    files: list[PathChangeOut] = []
    added: int = 0
    removed: int = 0
    changed: int = 0
    samples: dict[str, list[dict[str, Any]]] = {}
    changes: list[ChangedRowOut] = []
    schema: SchemaDiffOut | None = None


class ContractOut(msgspec.Struct):
    number: int | None
    contract: dict[str, Any] | None


class QuarantinedOut(msgspec.Struct):
    id: int
    repository: str
    branch: str
    rows: int
    source: str
    state: str
    findings: list[dict[str, Any]]
    at: str
    verdict: dict[str, Any] | None
    earlier: list[dict[str, Any]]


class QuarantinePage(msgspec.Struct):
    items: list[QuarantinedOut]


class QuarantinedDetail(msgspec.Struct):
    """A refused batch with its first rows."""

    batch: QuarantinedOut
    rows: list[dict[str, Any]]


class QuarantineQuery(msgspec.Struct, forbid_unknown_fields=True):
    rows: int = 20


class BranchBody(msgspec.Struct, forbid_unknown_fields=True):
    """A new branch; ``at`` names the commit at which it begins."""

    branch: str
    at: str = MAIN


class CreateBody(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    kind: str = "table"
    key: list[str] = []
    time: str | None = None
    known: str | None = None


class AppendBody(msgspec.Struct, forbid_unknown_fields=True):
    """Rows to commit. ``mode`` is append, insert, overwrite or delete (by key).

    ``evolve``: columns that the table lacks are added, narrower ones widened, and those that the rows lack left empty.
    """

    rows: list[dict[str, Any]]
    branch: str = MAIN
    message: str = ""
    mode: str = "append"
    expected: str | None = None
    evolve: bool = False


class AppendManyBody(msgspec.Struct, forbid_unknown_fields=True):
    """Rows for several repositories, in one transaction."""

    repositories: dict[str, list[dict[str, Any]]]
    branch: str = MAIN
    message: str = ""


class CommitsByName(msgspec.Struct):
    commits: dict[str, CommitOut]


class LogQuery(msgspec.Struct):
    ref: str = MAIN
    limit: int = 50
    after: str | None = None


class RowsQuery(msgspec.Struct):
    ref: str = MAIN
    limit: int = 100
    offset: int = 0
    columns: str | None = None


class DiffQuery(msgspec.Struct):
    before: str
    after: str = MAIN


def commit_out(commit: Commit) -> CommitOut:
    return CommitOut(
        id=commit.id,
        version=str(commit.digest),
        parents=list(commit.parents),
        generation=commit.generation,
        author=commit.author,
        message=commit.message,
        at=to_text(commit.at),
        event_time=to_text(commit.event_ms),
        run=commit.run_id,
        contract=commit.contract,
        stats=commit.stats,
        meta=commit.meta,
    )


def named_commit_out(commit: Commit, names: Names | None) -> NamedCommitOut:
    known = names or Names()
    about = msgspec.structs.asdict(commit_out(commit))
    return NamedCommitOut(**about, branches=list(known.branches), tags=list(known.tags))


def repository_out(repository: Repository) -> RepositoryOut:
    return RepositoryOut(
        name=repository.name,
        kind=repository.kind.value,
        key=list(repository.key),
        time=repository.time,
        known=repository.known,
        contract=repository.contract,
    )


def quarantined_out(batch: Quarantined) -> QuarantinedOut:
    return QuarantinedOut(
        id=batch.id,
        repository=batch.repository,
        branch=batch.branch,
        rows=batch.rows,
        source=batch.source,
        state=batch.state.value,
        findings=batch.report,
        at=to_text(batch.created_at),
        verdict=None if batch.verdict is None else {**batch.verdict, "at": to_text(batch.verdict["at"])},
        earlier=[{**one, "at": to_text(one["at"])} for one in batch.earlier],
    )


def path_change_out(change: PathChange) -> PathChangeOut:
    return PathChangeOut(change.path, change.kind, change.size_before, change.size_after)


def branch_out(branch: Branch) -> BranchOut:
    return BranchOut(branch.name, branch.head)


def rows_out(frame: Any) -> list[dict[str, Any]]:
    return [{k: plain(v) for k, v in row.items()} for row in frame.to_dicts()]
