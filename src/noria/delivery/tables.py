from __future__ import annotations

from sqlalchemy import Boolean, Column, ForeignKey, Index, Integer, Table

from noria.db.metadata import metadata
from noria.db.types import BigId, Json, Ms, Str

candidates = Table(
    "candidates",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("project_id", BigId, ForeignKey("projects.id"), nullable=False),
    Column("model", Str, nullable=False),
    Column("endpoint", Str, nullable=False),
    Column("trigger", Str, nullable=False),
    Column("reason", Json, nullable=False),
    Column("params", Json, nullable=False),
    Column("state", Str, nullable=False),
    Column("number", Integer),
    Column("gates", Json, nullable=False),
    Column("verdict", Json, nullable=False),
    Column("error", Json),
    Column("drill", Boolean, nullable=False),
    Column("forced", Boolean, nullable=False),
    Column("opened", Ms, nullable=False),
    Column("ended", Ms),
    Column("created_at", Ms, nullable=False),
    Index(None, "project_id", "model", "id"),
    sqlite_autoincrement=True,
)

rollouts = Table(
    "rollouts",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("endpoint_id", BigId, ForeignKey("endpoints.id"), nullable=False),
    Column("candidate_id", BigId, ForeignKey("candidates.id"), nullable=False),
    Column("deployment_id", BigId, ForeignKey("deployments.id"), nullable=False),
    Column("champion_id", BigId),
    Column("phase", Str, nullable=False),
    Column("step", Integer, nullable=False),
    Column("policy", Json, nullable=False),
    Column("blocks", Json, nullable=False),
    Column("started", Ms, nullable=False),
    Column("step_from", Ms, nullable=False),
    Column("looked", Ms, nullable=False),
    Index(None, "endpoint_id", "phase"),
    sqlite_autoincrement=True,
)

trigger_marks = Table(
    "trigger_marks",
    metadata,
    Column("project_id", BigId, ForeignKey("projects.id"), primary_key=True),
    Column("model", Str, primary_key=True),
    Column("name", Str, primary_key=True),
    Column("value", Ms, nullable=False),
)
