from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Integer, Table, UniqueConstraint

from noria.db.metadata import metadata
from noria.db.types import BigId, Ms, Str

registered_models = Table(
    "registered_models",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("project_id", BigId, ForeignKey("projects.id"), nullable=False),
    Column("name", Str, nullable=False),
    Column("description", Str, nullable=False),
    Column("created_at", Ms, nullable=False),
    Column("updated_at", Ms, nullable=False),
    # A deleted model keeps its rows for lineage; its name is free then, since it moved out of the way.
    Column("deleted_at", Ms),
    UniqueConstraint("project_id", "name"),
)

model_versions = Table(
    "model_versions",
    metadata,
    Column("model_id", BigId, ForeignKey("registered_models.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("version_id", BigId, ForeignKey("versions.id")),
    Column("run_id", Str, ForeignKey("runs.id")),
    Column("source", Str, nullable=False),
    Column("status", Str, nullable=False),
    Column("description", Str, nullable=False),
    Column("created_at", Ms, nullable=False),
    Column("updated_at", Ms, nullable=False),
    Column("stage", Str, nullable=False, server_default="none"),
    # A run that a client named and that is not here.
    Column("stray_run", Str),
    Column("link", Str, nullable=False, server_default=""),
    # The logged model that it was made of.
    Column("logged_model", Str),
    # The row of a deleted version stays: its number never comes again, and lineage keeps its name.
    Column("deleted_at", Ms),
    Index(None, "version_id"),
    Index(None, "run_id"),
)

model_aliases = Table(
    "model_aliases",
    metadata,
    Column("model_id", BigId, ForeignKey("registered_models.id"), primary_key=True),
    Column("alias", Str, primary_key=True),
    Column("number", Integer, nullable=False),
    Column("updated_at", Ms, nullable=False),
)

model_tags = Table(
    "model_tags",
    metadata,
    Column("model_id", BigId, ForeignKey("registered_models.id"), primary_key=True),
    # 0 for the model itself, else the number of one of its versions
    Column("number", Integer, primary_key=True),
    Column("key", Str, primary_key=True),
    Column("value", Str, nullable=False),
)
