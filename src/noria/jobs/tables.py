from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, Integer, Table, text

from noria.db.metadata import metadata
from noria.db.types import BigId, Json, Ms, Str

_OPEN = text("state IN ('waiting', 'running')")

jobs = Table(
    "jobs",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("project_id", BigId, ForeignKey("projects.id"), nullable=False),
    Column("kind", Str, nullable=False),
    Column("payload", Json, nullable=False),
    Column("state", Str, nullable=False),
    Column("unique_key", Str),
    Column("due_at", Ms, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("max_attempts", Integer, nullable=False),
    Column("fence", Integer, nullable=False),
    Column("holder", Str),
    Column("lease_until", Ms),
    Column("result", Json),
    Column("error", Json),
    Column("event_ms", Ms, nullable=False),
    Column("created_at", Ms, nullable=False),
    Column("ended_at", Ms),
    # The database itself keeps two of a kind from flying at once.
    Index(
        "uq_jobs_single_flight",
        "project_id",
        "unique_key",
        unique=True,
        sqlite_where=_OPEN,
        postgresql_where=_OPEN,
    ),
    Index(None, "state", "due_at"),
    CheckConstraint("state IN ('waiting', 'running', 'done', 'failed', 'cancelled')", name="state"),
    sqlite_autoincrement=True,
)

leases = Table(
    "leases",
    metadata,
    Column("name", Str, primary_key=True),
    Column("holder", Str, nullable=False),
    Column("fence", Integer, nullable=False),
    Column("until", Ms, nullable=False),
    Column("info", Json, nullable=False),
)
