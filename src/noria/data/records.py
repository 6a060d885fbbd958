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


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """A batch that a contract refused.

    Attributes:
        report: the findings of the check.
        object: hex id of the stored batch (a Parquet fragment).
        state: open, or accepted by which commit, or dropped.
    """

    id: int
    repository: str
    branch: str
    rows: int
    report: list[dict[str, Any]]
    object: str
    source: str
    state: str
    actor: str
    created_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PathChange:
    """A file that differs. ``kind`` is added, changed or removed."""

    path: str
    kind: str
    size_before: int
    size_after: int
