from __future__ import annotations

from sqlalchemy import Boolean, Column, ForeignKey, Index, Integer, Table, UniqueConstraint

from noria.db.metadata import metadata
from noria.db.types import BigId, Json, Ms, Str

webhooks = Table(
    "webhooks",
    metadata,
    Column("no", BigId, primary_key=True),
    Column("id", Str, nullable=False),
    Column("project_id", BigId, ForeignKey("projects.id"), nullable=False),
    Column("name", Str, nullable=False),
    Column("url", Str, nullable=False),
    Column("events", Json, nullable=False),
    Column("kinds", Json, nullable=False),
    Column("secret", Str),
    Column("description", Str, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("created_at", Ms, nullable=False),
    Column("updated_at", Ms, nullable=False),
    Column("sent", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("last_at", Ms),
    Column("last_status", Integer),
    Column("last_error", Str, nullable=False),
    UniqueConstraint("id"),
    Index(None, "project_id", "no"),
    sqlite_autoincrement=True,
)
