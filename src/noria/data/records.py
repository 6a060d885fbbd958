from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any

from noria.base.digest import Digest
from noria.base.ids import AssetId, CommitId, ProjectId, RunId, VersionId

MAIN = "main"


class RepositoryKind(enum.StrEnum):
    FILES = "files"
    TABLE = "table"


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """Versioned data of one asset.

    Attributes:
        key, time, known: of a table; see ``TableSchema``.
        contract: number of the contract in force, or None.
    """

    id: int
    project_id: ProjectId
    asset_id: AssetId
    name: str
    kind: RepositoryKind
    key: tuple[str, ...]
    time: str | None
    known: str | None
    contract: int | None
    created_at: int

    @property
    def mark(self) -> int:
        """Tells it from a deleted one, whose number a database may give out again."""
        return (self.created_at << 24) ^ self.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted:
    """What a deleted repository had.

    Attributes:
        versions: whose content is gone now. kept: that something else needs.
    """

    name: str
    commits: int
    versions: int
    kept: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """A version with its history (decision 2).

    Attributes:
        generation: one more than the largest of its parents'.
        contract: number of the contract that the data was checked against, or None where there was none.
        stats: added, updated, deleted, unchanged; rows or files; bytes stored.
        meta: the user's own, and under ``source`` where collected data came from.
    """

    id: CommitId
    repository_id: int
    version_id: VersionId
    digest: Digest
    layout: Digest
    generation: int
    parents: tuple[CommitId, ...]
    author: str
    message: str
    at: int
    event_ms: int
    run_id: RunId
    contract: int | None
    stats: dict[str, int]
    meta: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    name: str
    head: CommitId | None
    updated_at: int


@dataclass(frozen=True, slots=True)
class Names:
    """The branches that stand at a commit, and its tags."""

    branches: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """The same repository in another workspace.

    Attributes:
        url: a folder or a database, without a password.
        repository, project: what it is called there.
        partial: contents of files and fragments of tables may lie only there, and are read from there when needed.
        heads: branch -> commit, as last seen there.
    """

    name: str
    url: str
    repository: str
    project: str
    partial: bool
    heads: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """A branch that a transfer made or moved."""

    branch: str
    before: CommitId | None
    after: CommitId


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Where a branch went.

    Attributes:
        number: of the moves of a workspace, in their order.
        before, after: None for a branch that was empty, or not there. The commits may be gone since.
        verb: what moved it, for instance ``data.reset``.
    """

    number: int
    branch: str
    before: CommitId | None
    after: CommitId | None
    verb: str
    actor: str
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Transferred:
    """What a clone, push, pull or fetch did.

    Attributes:
        commits: how many arrived.
        objects, written: objects that were new there, and their bytes.
        reused: bytes that were asked for and were there already.
        tags: that arrived. tags_kept: that name another commit there and were left alone.
        run: of the receiving workspace; None where nothing arrived.
    """

    repository: str
    remote: str
    commits: int
    objects: int
    written: int
    reused: int
    moved: tuple[Moved, ...] = ()
    tags: tuple[str, ...] = ()
    tags_kept: tuple[str, ...] = ()
    run: RunId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractRecord:
    """A contract that a repository has or had."""

    number: int
    digest: str
    spec: dict[str, Any]
    actor: str
    created_at: int
    in_force: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractSet:
    """What setting a contract found.

    Attributes:
        number: of the contract that is in force now.
        commit: the head of ``main`` that was checked against it; None where there is none.
        rows: rows, or files, that were looked at.
        findings: what the head breaks: rule, column, count, message, and rows as examples.
    """

    number: int
    commit: CommitId | None = None
    rows: int = 0
    findings: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


class QuarantineState(enum.StrEnum):
    OPEN = "open"
    ACCEPTED = "accepted"
    """Its rows, as they were or mended, landed."""
    DROPPED = "dropped"
    """A person said that it is not wanted."""


QUARANTINE_MOVES = {
    QuarantineState.OPEN: (QuarantineState.ACCEPTED, QuarantineState.DROPPED),
    QuarantineState.DROPPED: (QuarantineState.ACCEPTED,),
    QuarantineState.ACCEPTED: (QuarantineState.OPEN,),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """A content of a foreign repository that could not be taken: where, named by which commit there, and why."""

    path: str
    commit: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedRepository:
    """What an import did to one repository. ``kept``: branches that went on here and were left alone."""

    name: str
    path: str
    commits: int
    branches: dict[str, CommitId]
    tags: tuple[str, ...]
    kept: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What an import from another tool did.

    Attributes:
        seen: commits of the foreign history that were looked at.
        files, read: contents that were read there, and their bytes.
        written: bytes that were new here.
        lost: contents that are missing or damaged there. left: outputs that were not to be taken, and why.
    """

    repositories: tuple[ImportedRepository, ...]
    seen: int
    files: int
    read: int
    written: int
    lost: tuple[Lost, ...]
    left: tuple[Lost, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An open commit: many writers change it, and it lands as one commit when it is finished.

    Attributes:
        branch, base: where it will land, and the commit it began at.
        layout: the tree or table so far; None while it is empty.
        number: how often it was changed.
        state: ``open``, ``finished`` (as ``commit_id``) or ``dropped``.
    """

    id: str
    repository_id: int
    branch: str
    base: CommitId | None
    layout: Digest | None
    number: int
    state: str
    commit_id: CommitId | None
    actor: str
    message: str
    meta: dict[str, Any]
    created_at: int
    updated_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """A batch that a contract refused.

    Attributes:
        report: the findings of the check.
        object: hex id of the stored batch (a Parquet fragment).
        mode: how its rows were to be written: append, insert or overwrite.
        verdict: by whom and when it was accepted (``commit``) or dropped (``reason``); None while it is open.
        earlier: verdicts of before, oldest first.
    """

    id: int
    repository: str
    branch: str
    rows: int
    report: list[dict[str, Any]]
    object: str
    source: str
    state: QuarantineState
    actor: str
    created_at: int
    mode: str = "append"
    verdict: dict[str, Any] | None = None
    earlier: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


@dataclass(frozen=True, slots=True, kw_only=True)
class Touched:
    """A commit with those of its changes that were asked for."""

    commit: Commit
    changes: list[PathChange]


@dataclass(frozen=True, slots=True, kw_only=True)
class MergePreview:
    """What a merge would do.

    Attributes:
        how: ``nothing`` (all of it is there), ``fast-forward`` (the branch would move) or ``merge`` (a commit is made).
        head, source, base: where the branch stands, what would come, and the youngest commit that both come from.
        commits: the newest 100 that would come; ``count`` has all.
        changes: of files, what the merge would do to the branch. With conflicts, what would come beside them.
        stats: paths or rows added, updated and deleted by it.
        conflicts: paths, or the first keys, that both sides changed and nothing decides.
    """

    how: str
    head: CommitId | None
    source: CommitId
    base: CommitId | None
    commits: list[Commit]
    count: int
    changes: list[PathChange]
    stats: dict[str, int]
    conflicts: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Producer:
    """Who appends in numbered batches to a branch.

    Attributes:
        sequence: of the batch that was taken last.
        answer: what was answered to it.
        commit: that says so; the one with the batch, or one that took its place.
    """

    branch: str
    name: str
    sequence: int
    answer: dict[str, Any]
    at: int
    commit: CommitId


@dataclass(frozen=True, slots=True, kw_only=True)
class PathChange:
    """A file that differs. ``kind`` is added, changed or removed."""

    path: str
    kind: str
    size_before: int
    size_after: int
