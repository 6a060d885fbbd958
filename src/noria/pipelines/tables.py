from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Table

from noria.db.metadata import metadata
from noria.db.types import BigId, Json, Ms, Str

step_results = Table(
    "step_results",
    metadata,
    Column("project_id", BigId, ForeignKey("projects.id"), primary_key=True),
    Column("key", Str, primary_key=True),
    Column("asset_id", BigId, ForeignKey("assets.id"), nullable=False),
    Column("run_id", Str, ForeignKey("runs.id"), nullable=False),
    # output slot -> id of the version
    Column("outputs", Json, nullable=False),
    Column("manifest", Json, nullable=False),
    Column("created_at", Ms, nullable=False),
    Index(None, "asset_id", "created_at"),
)

definitions = Table(
    "definitions",
    metadata,
    Column("project_id", BigId, ForeignKey("projects.id"), primary_key=True),
    Column("name", Str, primary_key=True),
    Column("kind", Str, nullable=False),
    Column("entry", Str, nullable=False),
    Column("spec", Json, nullable=False),
    Column("code", Str, nullable=False),
    Column("updated_at", Ms, nullable=False),
)
