from __future__ import annotations

from sqlalchemy import Boolean, Column, ForeignKey, Index, Integer, LargeBinary, Table, UniqueConstraint

from noria.db.metadata import metadata
from noria.db.types import BigId, Json, Ms, Real, Str

# What is searched how:
# - attributes of a trace: columns of `traces`; the index gives the newest of an experiment without a look at others
# - tags and metadata: one row each, beside the others of their trace (see tracking/tables.py for keys as numbers)
# - runs and prompts that a trace belongs to, assessments: rows, found from either side
# - name, type and status of spans: rows of `trace_span_kinds`, each combination once in a batch
# - everything else in spans: is read from the batches themselves, for the traces that fit all the rest
# Spans are written by the batch as they came: one compressed value, however many there are.

traces = Table(
    "traces",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("trace_id", Str, nullable=False),
    Column("experiment_id", BigId, ForeignKey("experiments.id"), nullable=False),
    Column("started_at", Ms, nullable=False),
    Column("took", Ms),
    Column("state", Str, nullable=False),
    Column("name", Str),
    Column("client_id", Str),
    Column("session", Str),
    Column("request", Str),
    Column("response", Str),
    # The client has told all of it: spans that come later do not change times and state any more.
    Column("told", Boolean, nullable=False),
    Column("spans", Integer, nullable=False),
    UniqueConstraint("trace_id"),
    Index("ix_traces_newest", "experiment_id", "started_at", "trace_id"),
    Index("ix_traces_session", "experiment_id", "session"),
    sqlite_autoincrement=True,
)

tags = Table(
    "trace_tags",
    metadata,
    Column("trace", BigId, ForeignKey("traces.id"), primary_key=True),
    Column("key_id", BigId, ForeignKey("tracked_keys.id"), primary_key=True),
    Column("value", Str, nullable=False),
    sqlite_with_rowid=False,
)

facts = Table(
    "trace_metadata",
    metadata,
    Column("trace", BigId, ForeignKey("traces.id"), primary_key=True),
    Column("key_id", BigId, ForeignKey("tracked_keys.id"), primary_key=True),
    Column("value", Str, nullable=False),
    sqlite_with_rowid=False,
)

runs = Table(
    "trace_runs",
    metadata,
    Column("trace", BigId, ForeignKey("traces.id"), primary_key=True),
    # As the client says it: the run may be elsewhere, or gone.
    Column("run_id", Str, primary_key=True),
    # The one that it ran in, and not one that it was linked with later.
    Column("own", Boolean, nullable=False),
    Index(None, "run_id"),
)

prompts = Table(
    "trace_prompts",
    metadata,
    Column("trace", BigId, ForeignKey("traces.id"), primary_key=True),
    Column("prompt", Str, primary_key=True),
    Index(None, "prompt"),
)

spans = Table(
    "trace_spans",
    metadata,
    Column("trace", BigId, ForeignKey("traces.id"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("count", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False),
)
"""Batches of spans; the form is in ``packed.py``."""

kinds = Table(
    "trace_span_kinds",
    metadata,
    Column("trace", BigId, ForeignKey("traces.id"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("n", Integer, primary_key=True),
    Column("name", Str, nullable=False),
    Column("type", Str),
    Column("status", Str, nullable=False),
    sqlite_with_rowid=False,
)

assessments = Table(
    "trace_assessments",
    metadata,
    Column("id", Str, primary_key=True),
    Column("trace", BigId, ForeignKey("traces.id"), nullable=False),
    Column("name", Str, nullable=False),
    Column("kind", Str, nullable=False),
    Column("value", Json),
    # What it is searched by: the value as plain text, and as a number where it is one.
    Column("text", Str, nullable=False),
    Column("number", Real),
    Column("error", Json),
    Column("source_kind", Str, nullable=False),
    Column("source_id", Str),
    Column("span_id", Str),
    Column("rationale", Str),
    Column("overrides", Str),
    Column("valid", Boolean, nullable=False),
    Column("metadata", Json, nullable=False),
    Column("whole_session", Boolean, nullable=False),
    Column("created_at", Ms, nullable=False),
    Column("updated_at", Ms, nullable=False),
    Index(None, "trace"),
    Index(None, "kind", "name"),
)
