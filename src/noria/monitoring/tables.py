from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Integer, Table

from noria.db.metadata import metadata
from noria.db.types import BigId, Json, Ms, Str

monitor_windows = Table(
    "monitor_windows",
    metadata,
    Column("endpoint_id", BigId, ForeignKey("endpoints.id"), primary_key=True),
    Column("deployment_id", BigId, primary_key=True),
    Column("start", Ms, primary_key=True),
    Column("n", Integer, nullable=False),
    Column("answered", Integer, nullable=False),
    Column("errors", Integer, nullable=False),
    Column("slow", Integer, nullable=False),
    Column("labelled", Integer, nullable=False),
    Column("values", Json, nullable=False),
    Column("updated_at", Ms, nullable=False),
)

monitor_marks = Table(
    "monitor_marks",
    metadata,
    Column("endpoint_id", BigId, ForeignKey("endpoints.id"), primary_key=True),
    Column("name", Str, primary_key=True),
    Column("value", Ms, nullable=False),
)

alerts = Table(
    "alerts",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("project_id", BigId, ForeignKey("projects.id"), nullable=False),
    Column("endpoint", Str, nullable=False),
    Column("kind", Str, nullable=False),
    Column("subject", Str, nullable=False),
    Column("message", Str, nullable=False),
    Column("details", Json, nullable=False),
    Column("opened", Ms, nullable=False),
    Column("closed", Ms),
    Column("created_at", Ms, nullable=False),
    Index(None, "project_id", "closed", "id"),
    Index(None, "project_id", "endpoint", "kind", "subject"),
    sqlite_autoincrement=True,
)
