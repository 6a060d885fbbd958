from __future__ import annotations

from sqlalchemy import Boolean, CheckConstraint, Column, ForeignKey, Index, Integer, Table, UniqueConstraint

from noria.db.metadata import metadata
from noria.db.types import BigId, Json, Ms, Str

workspace = Table(
    "workspace",
    metadata,
    Column("id", Str, primary_key=True),
    Column("created_at", Ms, nullable=False),
    Column("store_url", Str, nullable=False),
    Column("formats", Json, nullable=False),
    Column("gc_epoch", Integer, nullable=False),
)

projects = Table(
    "projects",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("name", Str, nullable=False, unique=True),
    Column("created_at", Ms, nullable=False),
    Column("settings", Json, nullable=False),
)

assets = Table(
    "assets",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("project_id", BigId, ForeignKey("projects.id"), nullable=False),
    Column("name", Str, nullable=False),
    Column("kind", Str, nullable=False),
    Column("current_id", BigId),
    Column("created_at", Ms, nullable=False),
    UniqueConstraint("project_id", "name"),
)

versions = Table(
    "versions",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("asset_id", BigId, ForeignKey("assets.id"), nullable=False),
    Column("digest", Str, nullable=False),
    Column("content", Str, nullable=False),
    Column("layout", Str, nullable=False),
    Column("size", Ms, nullable=False),
    Column("rows", Ms),
    Column("meta", Json, nullable=False),
    Column("created_at", Ms, nullable=False),
    Column("gone_at", Ms),
    UniqueConstraint("asset_id", "digest"),
    Index(None, "digest"),
)

runs = Table(
    "runs",
    metadata,
    Column("id", Str, primary_key=True),
    Column("project_id", BigId, ForeignKey("projects.id"), nullable=False),
    Column("kind", Str, nullable=False),
    Column("name", Str, nullable=False),
    Column("state", Str, nullable=False),
    Column("parent_id", Str, ForeignKey("runs.id")),
    Column("asset_id", BigId, ForeignKey("assets.id")),
    Column("actor", Str, nullable=False),
    Column("trigger", Str),
    Column("identity", Str),
    Column("started_at", Ms, nullable=False),
    Column("ended_at", Ms),
    Column("event_ms", Ms, nullable=False),
    Column("error", Json),
    Column("cost", Json, nullable=False),
    Column("deleted_at", Ms),
    Column("lease_until", Ms),
    Column("fence", Integer, nullable=False, server_default="0"),
    Column("holder", Str),
    Index(None, "project_id", "kind", "started_at"),
    Index(None, "parent_id"),
    Index(None, "asset_id", "state", "started_at"),
    Index("ix_runs_leases", "state", "lease_until"),
    Index("ix_runs_newest", "project_id", "started_at"),
)

edges = Table(
    "edges",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("run_id", Str, ForeignKey("runs.id"), nullable=False),
    Column("version_id", BigId, ForeignKey("versions.id"), nullable=False),
    Column("direction", Str, nullable=False),
    Column("slot", Str, nullable=False),
    UniqueConstraint("run_id", "direction", "slot", "version_id"),
    Index(None, "version_id", "direction"),
    CheckConstraint("direction IN ('in', 'out', 'reused', 'code', 'about')", name="direction"),
)

events = Table(
    "events",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("project_id", BigId, ForeignKey("projects.id"), nullable=False),
    Column("type", Str, nullable=False),
    Column("subject", Str, nullable=False),
    Column("payload", Json, nullable=False),
    Column("event_ms", Ms, nullable=False),
    Column("created_at", Ms, nullable=False),
    Index(None, "project_id", "type", "id"),
    sqlite_autoincrement=True,
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("event_id", BigId, ForeignKey("events.id"), primary_key=True),
    Column("subscriber", Str, primary_key=True),
    Column("state", Str, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_at", Ms, nullable=False),
    Column("token", Integer, nullable=False),
    Column("error", Str),
    Index("ix_deliveries_due", "state", "due_at"),
    CheckConstraint("state IN ('waiting', 'leased', 'done', 'dead')", name="state"),
)

audit = Table(
    "audit",
    metadata,
    Column("seq", BigId, primary_key=True),
    Column("project_id", BigId, ForeignKey("projects.id"), nullable=False),
    Column("at", Ms, nullable=False),
    Column("actor", Str, nullable=False),
    Column("verb", Str, nullable=False),
    Column("subject", Str, nullable=False),
    Column("detail", Json, nullable=False),
    Column("prev", Str, nullable=False),
    Column("hash", Str, nullable=False),
    Index(None, "project_id", "seq"),
    sqlite_autoincrement=True,
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("project_id", BigId, ForeignKey("projects.id"), primary_key=True),
    Column("key", Str, primary_key=True),
    Column("verb", Str, nullable=False),
    Column("request", Str, nullable=False),
    Column("answer", Json, nullable=False),
    Column("created_at", Ms, nullable=False),
    Index(None, "created_at"),
)

store_sessions = Table(
    "store_sessions",
    metadata,
    Column("id", Str, primary_key=True),
    Column("epoch", Integer, nullable=False),
    Column("owner", Str, nullable=False),
    Column("started_at", Ms, nullable=False),
    Column("lease_until", Ms, nullable=False),
)

packs = Table(
    "packs",
    metadata,
    Column("id", Str, primary_key=True),
    Column("size", Ms, nullable=False),
    Column("count", Integer, nullable=False),
    Column("created_at", Ms, nullable=False),
    Column("condemned_epoch", Integer),
    Column("merged", Boolean, nullable=False, server_default="0"),
    Column("doomed_at", Ms),
    Column("removed_at", Ms),
    Index(None, "condemned_epoch"),
)
"""A pack is live, then condemned (writers that begin later do not count on it), then doomed (its file is deleted, and
nothing brings it back), then removed: the row stays for a while, so that no stale cache takes the pack for real.
``merged``: everything that it held was copied when it was condemned."""

retired = Table(
    "retired",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("kind", Integer, nullable=False),
    Column("object", Str, nullable=False),
    Column("epoch", Integer, nullable=False),
    Index(None, "epoch"),
)
"""What a row named until lately: kept from garbage collection while a writer is at work that may have seen that row."""

event_clocks = Table(
    "event_clocks",
    metadata,
    Column("project_id", BigId, ForeignKey("projects.id"), primary_key=True),
    Column("mode", Str, nullable=False),
    Column("watermark", Ms, nullable=False),
    CheckConstraint("mode IN ('wall', 'replay')", name="mode"),
)

evidence = Table(
    "evidence",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("project_id", BigId, ForeignKey("projects.id"), nullable=False),
    Column("test", Str, nullable=False),
    Column("subject", Str, nullable=False),
    Column("version_id", BigId, ForeignKey("versions.id")),
    Column("run_id", Str, ForeignKey("runs.id")),
    Column("passed", Boolean, nullable=False),
    Column("automatic", Boolean, nullable=False),
    Column("actor", Str, nullable=False),
    Column("evaluator", Str, nullable=False),
    Column("details", Json, nullable=False),
    Column("event_ms", Ms, nullable=False),
    Column("created_at", Ms, nullable=False),
    Index(None, "project_id", "test", "id"),
    Index(None, "run_id"),
)

retention = Table(
    "retention",
    metadata,
    Column("project_id", BigId, ForeignKey("projects.id"), primary_key=True),
    Column("what", Str, primary_key=True),
    Column("keep_ms", Ms, nullable=False),
)
