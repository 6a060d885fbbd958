from __future__ import annotations

from sqlalchemy import Boolean, CheckConstraint, Column, ForeignKey, Index, Integer, Table, UniqueConstraint

from noria.db.metadata import metadata
from noria.db.types import BigId, Json, Ms, Str

repositories = Table(
    "repositories",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("project_id", BigId, ForeignKey("projects.id"), nullable=False),
    Column("asset_id", BigId, ForeignKey("assets.id"), nullable=False, unique=True),
    Column("kind", Str, nullable=False),
    Column("key", Json, nullable=False),
    Column("time", Str),
    Column("known", Str),
    Column("contract", Integer),
    Column("created_at", Ms, nullable=False),
    CheckConstraint("kind IN ('files', 'table')", name="kind"),
)

commits = Table(
    "commits",
    metadata,
    Column("id", Str, primary_key=True),
    Column("repository_id", BigId, ForeignKey("repositories.id"), nullable=False),
    Column("version_id", BigId, ForeignKey("versions.id"), nullable=False),
    Column("layout", Str, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("parents", Json, nullable=False),
    Column("author", Str, nullable=False),
    Column("message", Str, nullable=False),
    Column("at", Ms, nullable=False),
    Column("event_ms", Ms, nullable=False),
    Column("run_id", Str, ForeignKey("runs.id"), nullable=False),
    Column("contract", Integer),
    Column("stats", Json, nullable=False),
    Column("meta", Json, nullable=False),
    Index(None, "repository_id", "generation"),
    Index(None, "version_id"),
    Index(None, "run_id"),
)

branches = Table(
    "branches",
    metadata,
    Column("repository_id", BigId, ForeignKey("repositories.id"), primary_key=True),
    Column("name", Str, primary_key=True),
    Column("head", Str, ForeignKey("commits.id")),
    Column("updated_at", Ms, nullable=False),
)

moves = Table(
    "moves",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("repository_id", BigId, ForeignKey("repositories.id"), nullable=False),
    Column("branch", Str, nullable=False),
    Column("before", Str),
    Column("after", Str),
    Column("verb", Str, nullable=False),
    Column("actor", Str, nullable=False),
    Column("at", Ms, nullable=False),
    Index(None, "repository_id", "branch", "at"),
)
"""Where branches stood: each move of a head. Null is an empty branch, or none. The commits may be gone since.

The times of a branch never go back: a clock that was set back writes the time of the move before.
"""

tags = Table(
    "tags",
    metadata,
    Column("repository_id", BigId, ForeignKey("repositories.id"), primary_key=True),
    Column("name", Str, primary_key=True),
    Column("commit_id", Str, ForeignKey("commits.id"), nullable=False),
    Column("created_at", Ms, nullable=False),
)

contracts = Table(
    "contracts",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("repository_id", BigId, ForeignKey("repositories.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("digest", Str, nullable=False),
    Column("spec", Json, nullable=False),
    Column("actor", Str, nullable=False),
    Column("created_at", Ms, nullable=False),
    UniqueConstraint("repository_id", "number"),
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("repository_id", BigId, ForeignKey("repositories.id"), nullable=False),
    Column("branch", Str, nullable=False),
    Column("contract", Integer, nullable=False),
    Column("rows", Ms, nullable=False),
    Column("report", Json, nullable=False),
    Column("object", Str, nullable=False),
    Column("source", Str, nullable=False),
    Column("state", Str, nullable=False),
    Column("actor", Str, nullable=False),
    Column("created_at", Ms, nullable=False),
    Column("mode", Str, nullable=False, server_default="append"),
    Column("verdict", Json),
    UniqueConstraint("repository_id", "contract", "object"),
)
"""``state`` is open, accepted or dropped; ``verdict`` says by whom, when, by which commit or why."""

collected = Table(
    "collected",
    metadata,
    Column("repository_id", BigId, ForeignKey("repositories.id"), primary_key=True),
    Column("source", Str, primary_key=True),
    Column("commit_id", Str, ForeignKey("commits.id"), primary_key=True),
    Column("generation", Integer, nullable=False),
    Column("mark", Json, nullable=False),
    Column("at", Ms, nullable=False),
    Index(None, "repository_id", "source", "generation"),
    Index(None, "commit_id"),
)
"""What was taken of a part of a source, as of a commit. A branch has taken what the commits say that it holds."""

refusals = Table(
    "refusals",
    metadata,
    Column("repository_id", BigId, ForeignKey("repositories.id"), primary_key=True),
    Column("branch", Str, primary_key=True),
    Column("source", Str, primary_key=True),
    Column("contract", Integer, nullable=False),
    Column("batch", BigId, nullable=False),
    Column("mark", Json, nullable=False),
    Column("at", Ms, nullable=False),
)
"""What was seen of a part of a source when a contract refused it, and the batch in quarantine."""

drafts = Table(
    "drafts",
    metadata,
    Column("id", Str, primary_key=True),
    Column("repository_id", BigId, ForeignKey("repositories.id"), nullable=False),
    Column("branch", Str, nullable=False),
    Column("base", Str),
    Column("layout", Str),
    Column("number", Integer, nullable=False),
    Column("state", Str, nullable=False),
    Column("commit_id", Str),
    Column("actor", Str, nullable=False),
    Column("message", Str, nullable=False),
    Column("meta", Json, nullable=False),
    Column("created_at", Ms, nullable=False),
    Column("updated_at", Ms, nullable=False),
    Index(None, "repository_id", "state"),
    CheckConstraint("state IN ('open', 'finished', 'dropped')", name="state"),
)
"""Open commits. ``layout`` is the tree or table so far, ``number`` counts its changes (compare-and-swap)."""

remotes = Table(
    "remotes",
    metadata,
    Column("repository_id", BigId, ForeignKey("repositories.id"), primary_key=True),
    Column("name", Str, primary_key=True),
    Column("url", Str, nullable=False),
    Column("repository", Str, nullable=False),
    Column("project", Str, nullable=False),
    Column("partial", Boolean, nullable=False),
    Column("heads", Json, nullable=False),
    Column("created_at", Ms, nullable=False),
)
"""Other workspaces with the same repository. ``heads``: branch -> commit, as last seen there."""

producers = Table(
    "producers",
    metadata,
    Column("repository_id", BigId, ForeignKey("repositories.id"), primary_key=True),
    Column("name", Str, primary_key=True),
    Column("commit_id", Str, ForeignKey("commits.id"), primary_key=True),
    Column("generation", Integer, nullable=False),
    Column("sequence", Ms, nullable=False),
    Column("answer", Json, nullable=False),
    Column("at", Ms, nullable=False),
    Index(None, "repository_id", "name", "sequence"),
    Index(None, "commit_id"),
)
"""Who appends in numbered batches: the last number taken as of a commit, and what was answered to it."""

erasures = Table(
    "erasures",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("project_id", BigId, ForeignKey("projects.id"), nullable=False),
    Column("repository", Str, nullable=False),
    Column("what", Json, nullable=False),
    Column("reason", Str, nullable=False),
    Column("actor", Str, nullable=False),
    Column("state", Str, nullable=False),
    Column("counts", Json, nullable=False),
    Column("created_at", Ms, nullable=False),
    Column("done_at", Ms),
    CheckConstraint("state IN ('running', 'done')", name="state"),
)
"""What was erased from all history, by whom and why. Never what it held."""
