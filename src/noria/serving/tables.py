from __future__ import annotations

from sqlalchemy import Boolean, CheckConstraint, Column, ForeignKey, Index, Integer, Table, UniqueConstraint

from noria.db.metadata import metadata
from noria.db.types import BigId, Json, Ms, Str

endpoints = Table(
    "endpoints",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("project_id", BigId, ForeignKey("projects.id"), nullable=False),
    Column("name", Str, nullable=False),
    Column("model", Str, nullable=False),
    Column("contract", Json, nullable=False),
    Column("policy", Json, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("created_at", Ms, nullable=False),
    UniqueConstraint("project_id", "name"),
)

deployments = Table(
    "deployments",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("endpoint_id", BigId, ForeignKey("endpoints.id"), nullable=False),
    Column("model", Str, nullable=False),
    Column("version_id", BigId, ForeignKey("versions.id"), nullable=False),
    Column("package", Str, nullable=False),
    Column("code", Str, nullable=False),
    Column("state", Str, nullable=False),
    Column("error", Str, nullable=False),
    Column("run_id", Str, ForeignKey("runs.id")),
    Column("created_at", Ms, nullable=False),
    Column("ready_at", Ms),
    UniqueConstraint("endpoint_id", "model"),
    Index(None, "version_id"),
    CheckConstraint("state IN ('starting', 'ready', 'failed', 'retired')", name="state"),
    sqlite_autoincrement=True,
)

routing = Table(
    "routing",
    metadata,
    Column("endpoint_id", BigId, ForeignKey("endpoints.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("arms", Json, nullable=False),
    Column("salt", Str, nullable=False),
    Column("paired", Boolean, nullable=False),
    Column("reason", Str, nullable=False),
    Column("actor", Str, nullable=False),
    Column("at", Ms, nullable=False),
)

capture_segments = Table(
    "capture_segments",
    metadata,
    Column("name", Str, primary_key=True),
    Column("project_id", BigId, ForeignKey("projects.id"), nullable=False),
    Column("taken", Ms, nullable=False),
    Column("updated_at", Ms, nullable=False),
)
