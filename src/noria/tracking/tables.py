from __future__ import annotations

from sqlalchemy import Boolean, Column, ForeignKey, Index, Integer, Table, UniqueConstraint

from noria.db.metadata import metadata
from noria.db.types import BigId, Ms, Real, Str

experiments = Table(
    "experiments",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("project_id", BigId, ForeignKey("projects.id"), nullable=False),
    Column("name", Str, nullable=False),
    Column("deleted_at", Ms),
    Column("created_at", Ms, nullable=False),
    Column("updated_at", Ms, nullable=False),
    UniqueConstraint("project_id", "name"),
    sqlite_autoincrement=True,
)

experiment_tags = Table(
    "experiment_tags",
    metadata,
    Column("experiment_id", BigId, ForeignKey("experiments.id"), primary_key=True),
    Column("key", Str, primary_key=True),
    Column("value", Str, nullable=False),
)

tracked_runs = Table(
    "tracked_runs",
    metadata,
    Column("run_id", Str, ForeignKey("runs.id"), primary_key=True),
    Column("experiment_id", BigId, ForeignKey("experiments.id"), nullable=False),
    Column("user", Str, nullable=False),
    Index(None, "experiment_id", "run_id"),
)

params = Table(
    "params",
    metadata,
    Column("run_id", Str, ForeignKey("runs.id"), primary_key=True),
    Column("key", Str, primary_key=True),
    Column("value", Str, nullable=False),
    Index(None, "key", "value"),
)

points = Table(
    "metric_points",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("run_id", Str, ForeignKey("runs.id"), nullable=False),
    Column("key", Str, nullable=False),
    Column("at", Ms, nullable=False),
    Column("step", Ms, nullable=False),
    # SQLite has no NaN: the flag says so, and the value is 0 then.
    Column("value", Real, nullable=False),
    Column("is_nan", Boolean, nullable=False),
    # A point that is sent twice is the same point: a retry after a lost answer does not double.
    UniqueConstraint("run_id", "key", "step", "at", "value", "is_nan"),
)

latest = Table(
    "latest_metrics",
    metadata,
    Column("run_id", Str, ForeignKey("runs.id"), primary_key=True),
    Column("key", Str, primary_key=True),
    Column("at", Ms, nullable=False),
    Column("step", Ms, nullable=False),
    Column("value", Real, nullable=False),
    Column("is_nan", Boolean, nullable=False),
    Index(None, "key", "value"),
)

tags = Table(
    "run_tags",
    metadata,
    Column("run_id", Str, ForeignKey("runs.id"), primary_key=True),
    Column("key", Str, primary_key=True),
    Column("value", Str, nullable=False),
    Index(None, "key", "value"),
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("run_id", Str, ForeignKey("runs.id"), primary_key=True),
    Column("path", Str, primary_key=True),
    Column("size", Ms, nullable=False),
    Column("content_kind", Integer, nullable=False),
    Column("content", Str, nullable=False),
    Column("at", Ms, nullable=False),
)
