from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Integer, LargeBinary, Table, UniqueConstraint

from noria.db.metadata import metadata
from noria.db.types import BigId, Json, Ms, Str

online_uses = Table(
    "online_uses",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("project_id", BigId, ForeignKey("projects.id"), nullable=False),
    Column("use_id", Str, nullable=False),
    Column("repository_id", BigId, ForeignKey("repositories.id"), nullable=False),
    # the use, and what is known of its table
    Column("spec", Json, nullable=False),
    Column("commit_id", Str, ForeignKey("commits.id")),
    Column("generation", Integer, nullable=False),
    Column("seq", Ms, nullable=False),
    Column("created_at", Ms, nullable=False),
    UniqueConstraint("project_id", "use_id"),
    Index(None, "repository_id"),
)

online_rows = Table(
    "online_rows",
    metadata,
    Column("online_use", BigId, ForeignKey("online_uses.id"), primary_key=True),
    Column("key", LargeBinary, primary_key=True),
    Column("value", LargeBinary),
    Column("seq", Ms, nullable=False),
    Index(None, "seq"),
)

online_counter = Table(
    "online_counter",
    metadata,
    Column("project_id", BigId, ForeignKey("projects.id"), primary_key=True),
    Column("seq", Ms, nullable=False),
)
