from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    Table,
    UniqueConstraint,
    text,
)

from noria.db.metadata import metadata
from noria.db.types import BigId, Json, Ms, Real, Str

# What a run says is many small rows. They name their run by a number of their own (tracked_runs.no) and their key by a
# number too (tracked_keys.id), and lie in the order (run, key): a batch touches few pages, and a run is read in one go.
# SQLite keeps such a table as its primary key alone (WITHOUT ROWID).

experiments = Table(
    "experiments",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("project_id", BigId, ForeignKey("projects.id"), nullable=False),
    Column("name", Str, nullable=False),
    Column("deleted_at", Ms),
    Column("created_at", Ms, nullable=False),
    Column("updated_at", Ms, nullable=False),
    # The one that runs go to when nothing else is said.
    Column("is_default", Boolean, nullable=False, server_default="0"),
    # Where clients keep the artifacts of its runs; None: here.
    Column("location", Str),
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

keys = Table(
    "tracked_keys",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("name", Str, nullable=False),
    UniqueConstraint("name"),
)
"""Names of metrics, parameters and tags. A row stays for good, so a process may remember it."""

tracked_runs = Table(
    "tracked_runs",
    metadata,
    Column("no", BigId, primary_key=True),
    Column("run_id", Str, ForeignKey("runs.id"), nullable=False),
    Column("experiment_id", BigId, ForeignKey("experiments.id"), nullable=False),
    Column("user", Str, nullable=False),
    # Copies of what `runs` says, for the order in which runs are listed; written in the same transactions.
    Column("started_at", Ms, nullable=False),
    Column("deleted", Boolean, nullable=False),
    # Where its artifacts lie ("": here), if it was moved out of an experiment with another place; None: as that says.
    Column("location", Str),
    UniqueConstraint("run_id"),
    Index("ix_tracked_runs_newest", "experiment_id", "deleted", "started_at", "run_id"),
    sqlite_autoincrement=True,
)

params = Table(
    "params",
    metadata,
    Column("run_no", BigId, ForeignKey("tracked_runs.no"), primary_key=True),
    Column("key_id", BigId, ForeignKey("tracked_keys.id"), primary_key=True),
    Column("value", Str, nullable=False),
    sqlite_with_rowid=False,
)

tags = Table(
    "run_tags",
    metadata,
    Column("run_no", BigId, ForeignKey("tracked_runs.no"), primary_key=True),
    Column("key_id", BigId, ForeignKey("tracked_keys.id"), primary_key=True),
    Column("value", Str, nullable=False),
    sqlite_with_rowid=False,
)

latest = Table(
    "latest_metrics",
    metadata,
    Column("run_no", BigId, ForeignKey("tracked_runs.no"), primary_key=True),
    Column("key_id", BigId, ForeignKey("tracked_keys.id"), primary_key=True),
    Column("at", Ms, nullable=False),
    Column("step", Ms, nullable=False),
    # SQLite has no NaN: the flag says so, and the value is 0 then.
    Column("value", Real, nullable=False),
    Column("is_nan", Boolean, nullable=False),
    # Points of the whole history, and how many of them are rows of metric_tail.
    Column("count", Ms, nullable=False),
    Column("tail", Integer, nullable=False),
    # A search reads the newest points of one metric; without it PostgreSQL goes through those of the whole workspace.
    # SQLite looks each up beside the others of its run, and does not need it.
    Index("ix_latest_metrics_key_id_run_no", "key_id", "run_no").ddl_if(dialect="postgresql"),
    sqlite_with_rowid=False,
)

tail = Table(
    "metric_tail",
    metadata,
    Column("run_no", BigId, primary_key=True),
    Column("part", BigId, primary_key=True),
    Column("key_id", BigId, primary_key=True),
    Column("seq", Ms, primary_key=True),
    Column("at", Ms, nullable=False),
    Column("step", Ms, nullable=False),
    Column("value", Real, nullable=False),
    Column("is_nan", Boolean, nullable=False),
    sqlite_with_rowid=False,
)
"""The points that were logged last, one row each; folded into a block when they are many.

``part`` is ``seq // 8``: a batch of many metrics falls into one part of the run, and changes the pages of the last few
batches instead of a page for each metric. The tail of a metric is its last points without a gap: its parts are known.

Without a foreign key: PostgreSQL asks for each row by itself, which costs as much as the rows. They are written with
their row of ``latest_metrics``, and go with it."""

blocks = Table(
    "metric_blocks",
    metadata,
    Column("run_no", BigId, primary_key=True),
    Column("key_id", BigId, primary_key=True),
    Column("seq", Ms, primary_key=True),
    Column("count", Integer, nullable=False),
    Column("min_at", Ms, nullable=False),
    Column("max_at", Ms, nullable=False),
    Column("min_step", Ms, nullable=False),
    Column("max_step", Ms, nullable=False),
    # Least and greatest value, NaN left out; NULL where there is nothing else.
    Column("low", Real),
    Column("high", Real),
    Column("data", LargeBinary, nullable=False),
    ForeignKeyConstraint(["run_no", "key_id"], ["latest_metrics.run_no", "latest_metrics.key_id"]),
    # Which blocks a page of a history needs is read from here alone: the rows themselves lie far apart.
    Index("ix_metric_blocks_times", "run_no", "key_id", "min_at", "min_step", "seq", "max_at", "max_step"),
)
"""Many points of one metric as one value; the form is in ``blocks.py``."""

bundles = Table(
    "metric_bundles",
    metadata,
    Column("run_no", BigId, ForeignKey("tracked_runs.no"), primary_key=True),
    Column("last_key", BigId, primary_key=True),
    Column("first_key", BigId, nullable=False),
    Column("count", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False),
)
"""The few points of each of many metrics as one value: what was the tails of a run that ended (``folding.py``).

The bundles of a run do not overlap: a metric can only be in the first whose ``last_key`` is not below its own."""

datasets = Table(
    "run_datasets",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("experiment_id", BigId, ForeignKey("experiments.id"), nullable=False),
    Column("name", Str, nullable=False),
    Column("digest", Str, nullable=False),
    Column("source_type", Str, nullable=False),
    Column("source", Str, nullable=False),
    Column("schema", Str),
    Column("profile", Str),
    UniqueConstraint("experiment_id", "name", "digest"),
)
"""Data that clients say their runs read; what noria holds itself stands in the graph."""

inputs = Table(
    "run_inputs",
    metadata,
    Column("run_no", BigId, ForeignKey("tracked_runs.no"), primary_key=True),
    Column("dataset_id", BigId, ForeignKey("run_datasets.id"), primary_key=True),
    Column("tags", Json, nullable=False),
    # The tag mlflow.data.context, by which runs are searched.
    Column("context", Str),
    Index(None, "dataset_id"),
)

_WAITING = text("content_kind = 0 AND size > 64")

artifacts = Table(
    "artifacts",
    metadata,
    # What it belongs to: a run, a logged model, a trace; each by its id.
    Column("owner_kind", Str, primary_key=True),
    Column("owner", Str, primary_key=True),
    # Folders are rows too (content_kind is NULL): a folder is listed by its key, and no name is both.
    Column("folder", Str, primary_key=True),
    Column("name", Str, primary_key=True),
    Column("size", Ms, nullable=False),
    # The object; where the kind is 0, the bytes lie in ``data`` and the object is what they will be.
    Column("content_kind", Integer),
    Column("content", Str),
    Column("data", LargeBinary),
    Column("at", Ms, nullable=False),
    # Those that wait for a pack.
    Index("ix_artifacts_waiting", "owner_kind", "owner", sqlite_where=_WAITING, postgresql_where=_WAITING),
    sqlite_with_rowid=False,
)
"""Files by owner and path; ``folder`` is empty at the top, and has no slash at its end."""

logged_models = Table(
    "logged_models",
    metadata,
    Column("no", BigId, primary_key=True),
    Column("id", Str, nullable=False),
    Column("project_id", BigId, ForeignKey("projects.id"), nullable=False),
    Column("experiment_id", BigId, ForeignKey("experiments.id"), nullable=False),
    Column("name", Str, nullable=False),
    Column("kind", Str, nullable=False),
    Column("state", Str, nullable=False),
    Column("status_message", Str, nullable=False),
    # What the client said; the run need not be here.
    Column("source_run", Str, nullable=False),
    Column("version_id", BigId, ForeignKey("versions.id")),
    Column("created_at", Ms, nullable=False),
    Column("updated_at", Ms, nullable=False),
    Column("deleted", Boolean, nullable=False),
    UniqueConstraint("id"),
    Index("ix_logged_models_newest", "experiment_id", "deleted", "created_at", "id"),
    Index(None, "source_run"),
    Index(None, "version_id"),
    sqlite_autoincrement=True,
)

logged_params = Table(
    "logged_model_params",
    metadata,
    Column("model_no", BigId, ForeignKey("logged_models.no"), primary_key=True),
    Column("key_id", BigId, ForeignKey("tracked_keys.id"), primary_key=True),
    Column("value", Str, nullable=False),
    sqlite_with_rowid=False,
)

logged_tags = Table(
    "logged_model_tags",
    metadata,
    Column("model_no", BigId, ForeignKey("logged_models.no"), primary_key=True),
    Column("key_id", BigId, ForeignKey("tracked_keys.id"), primary_key=True),
    Column("value", Str, nullable=False),
    sqlite_with_rowid=False,
)

logged_metrics = Table(
    "logged_model_metrics",
    metadata,
    Column("model_no", BigId, ForeignKey("logged_models.no"), primary_key=True),
    Column("key_id", BigId, ForeignKey("tracked_keys.id"), primary_key=True),
    Column("at", Ms, primary_key=True),
    Column("step", Ms, primary_key=True),
    Column("run_no", BigId, ForeignKey("tracked_runs.no"), primary_key=True),
    Column("dataset", Str, primary_key=True),
    Column("digest", Str, primary_key=True),
    Column("value", Real, nullable=False),
    Column("is_nan", Boolean, nullable=False),
    Index(None, "run_no"),
    sqlite_with_rowid=False,
)

run_models = Table(
    "run_models",
    metadata,
    Column("run_no", BigId, ForeignKey("tracked_runs.no"), primary_key=True),
    # The run made it (True) or read it.
    Column("made", Boolean, primary_key=True),
    # As the client said; it need not be here.
    Column("model_id", Str, primary_key=True),
    Column("step", Ms),
    sqlite_with_rowid=False,
)

brought = Table(
    "brought",
    metadata,
    Column("project_id", BigId, ForeignKey("projects.id"), primary_key=True),
    # run, logged or experiment.
    Column("kind", Str, primary_key=True),
    # Its id where it came from, and here.
    Column("theirs", Str, primary_key=True),
    Column("ours", Str, nullable=False),
    # What it said when all of it was here; empty before.
    Column("mark", Str, nullable=False),
    sqlite_with_rowid=False,
)
"""What came from other servers, so that the same again is seen at a glance."""

purged_runs = Table(
    "purged_runs",
    metadata,
    Column("run_id", Str, ForeignKey("runs.id"), primary_key=True),
    Column("project_id", BigId, ForeignKey("projects.id"), nullable=False),
    Column("at", Ms, nullable=False),
    Column("actor", Str, nullable=False),
    # False: what it said is being deleted, or was when the process died.
    Column("done", Boolean, nullable=False),
    Index(None, "project_id", "done", "run_id"),
)
"""Runs whose content is deleted for good, and whose row stays since something names it."""

quotas = Table(
    "quotas",
    metadata,
    Column("project_id", BigId, ForeignKey("projects.id"), primary_key=True),
    Column("what", Str, primary_key=True),
    Column("most", Ms, nullable=False),
)

uploads = Table(
    "artifact_uploads",
    metadata,
    Column("id", Str, primary_key=True),
    Column("project_id", BigId, ForeignKey("projects.id"), nullable=False),
    Column("owner_kind", Str, nullable=False),
    Column("owner", Str, nullable=False),
    Column("path", Str, nullable=False),
    # It was joined; the row stays for a while, so that the same request again is answered alike.
    Column("done", Boolean, nullable=False),
    Column("expires_at", Ms, nullable=False),
    Index(None, "expires_at"),
)
"""Files that are uploaded in parts."""

upload_parts = Table(
    "artifact_parts",
    metadata,
    Column("upload_id", Str, ForeignKey("artifact_uploads.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("size", Ms, nullable=False),
    Column("content_kind", Integer, nullable=False),
    Column("content", Str, nullable=False),
    sqlite_with_rowid=False,
)
