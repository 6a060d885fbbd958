"""What runs say, by numbers instead of names: points in blocks, keys once. Default experiments, datasets of runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from noria.db.types import BigId, Json

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_OLD = ("tracked_runs", "params", "run_tags", "latest_metrics", "metric_points")
_INDEXES = (
    ("ix_tracked_runs_experiment_id_run_id", "tracked_runs"),
    ("ix_params_key_value", "params"),
    ("ix_run_tags_key_value", "run_tags"),
    ("ix_latest_metrics_key_value", "latest_metrics"),
)


def upgrade() -> None:
    op.add_column("experiments", sa.Column("is_default", sa.Boolean(), server_default="0", nullable=False))
    op.add_column("experiments", sa.Column("location", sa.Text(), nullable=True))
    op.execute("UPDATE experiments SET is_default = true WHERE name = 'Default'")
    for name, table in _INDEXES:
        op.drop_index(op.f(name), table_name=table)
    for table in _OLD:  # copied and not renamed: the names of their constraints are needed again
        op.execute(f"CREATE TABLE old_{table} AS SELECT * FROM {table}")
        op.drop_table(table)
    _tracking()
    _move()
    for table in _OLD:
        op.drop_table(f"old_{table}")
    _registry()
    _logged()
    _artifacts()
    _traces()
    _webhooks()
    _brought()
    _limits()


def _tracking() -> None:
    op.create_table(
        "tracked_keys",
        sa.Column("id", BigId, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tracked_keys")),
        sa.UniqueConstraint("name", name=op.f("uq_tracked_keys_name")),
    )
    op.create_table(
        "tracked_runs",
        sa.Column("no", BigId, nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("experiment_id", BigId, nullable=False),
        sa.Column("user", sa.Text(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        sa.Column("location", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["experiment_id"], ["experiments.id"], name=op.f("fk_tracked_runs_experiment_id")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_tracked_runs_run_id")),
        sa.PrimaryKeyConstraint("no", name=op.f("pk_tracked_runs")),
        sa.UniqueConstraint("run_id", name=op.f("uq_tracked_runs_run_id")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_runs_newest", "runs", ["project_id", "started_at"])
    op.create_index("ix_tracked_runs_newest", "tracked_runs", ["experiment_id", "deleted", "started_at", "run_id"])
    for table in ("params", "run_tags"):
        op.create_table(
            table,
            sa.Column("run_no", BigId, nullable=False),
            sa.Column("key_id", BigId, nullable=False),
            sa.Column("value", sa.Text(), nullable=False),
            sa.ForeignKeyConstraint(["run_no"], ["tracked_runs.no"], name=op.f(f"fk_{table}_run_no")),
            sa.ForeignKeyConstraint(["key_id"], ["tracked_keys.id"], name=op.f(f"fk_{table}_key_id")),
            sa.PrimaryKeyConstraint("run_no", "key_id", name=op.f(f"pk_{table}")),
            sqlite_with_rowid=False,
        )
    op.create_table(
        "latest_metrics",
        sa.Column("run_no", BigId, nullable=False),
        sa.Column("key_id", BigId, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.Float(53), nullable=False),
        sa.Column("is_nan", sa.Boolean(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("tail", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["run_no"], ["tracked_runs.no"], name=op.f("fk_latest_metrics_run_no")),
        sa.ForeignKeyConstraint(["key_id"], ["tracked_keys.id"], name=op.f("fk_latest_metrics_key_id")),
        sa.PrimaryKeyConstraint("run_no", "key_id", name=op.f("pk_latest_metrics")),
        sqlite_with_rowid=False,
    )
    if op.get_bind().dialect.name == "postgresql":
        op.create_index(op.f("ix_latest_metrics_key_id_run_no"), "latest_metrics", ["key_id", "run_no"])
    op.create_table(
        "metric_tail",
        sa.Column("run_no", BigId, nullable=False),
        sa.Column("part", BigId, nullable=False),
        sa.Column("key_id", BigId, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.Float(53), nullable=False),
        sa.Column("is_nan", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("run_no", "part", "key_id", "seq", name=op.f("pk_metric_tail")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "metric_blocks",
        sa.Column("run_no", BigId, nullable=False),
        sa.Column("key_id", BigId, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("min_at", sa.BigInteger(), nullable=False),
        sa.Column("max_at", sa.BigInteger(), nullable=False),
        sa.Column("min_step", sa.BigInteger(), nullable=False),
        sa.Column("max_step", sa.BigInteger(), nullable=False),
        sa.Column("low", sa.Float(53), nullable=True),
        sa.Column("high", sa.Float(53), nullable=True),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_no", "key_id"],
            ["latest_metrics.run_no", "latest_metrics.key_id"],
            name=op.f("fk_metric_blocks_run_no_key_id"),
        ),
        sa.PrimaryKeyConstraint("run_no", "key_id", "seq", name=op.f("pk_metric_blocks")),
    )
    op.create_index(
        "ix_metric_blocks_times",
        "metric_blocks",
        ["run_no", "key_id", "min_at", "min_step", "seq", "max_at", "max_step"],
    )
    op.create_table(
        "metric_bundles",
        sa.Column("run_no", BigId, nullable=False),
        sa.Column("last_key", BigId, nullable=False),
        sa.Column("first_key", BigId, nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["run_no"], ["tracked_runs.no"], name=op.f("fk_metric_bundles_run_no")),
        sa.PrimaryKeyConstraint("run_no", "last_key", name=op.f("pk_metric_bundles")),
    )
    op.create_table(
        "run_datasets",
        sa.Column("id", BigId, nullable=False),
        sa.Column("experiment_id", BigId, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("source_type", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("schema", sa.Text(), nullable=True),
        sa.Column("profile", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["experiment_id"], ["experiments.id"], name=op.f("fk_run_datasets_experiment_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run_datasets")),
        sa.UniqueConstraint("experiment_id", "name", "digest", name=op.f("uq_run_datasets_experiment_id_name_digest")),
    )
    op.create_table(
        "run_inputs",
        sa.Column("run_no", BigId, nullable=False),
        sa.Column("dataset_id", BigId, nullable=False),
        sa.Column("tags", Json(), nullable=False),
        sa.Column("context", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["run_no"], ["tracked_runs.no"], name=op.f("fk_run_inputs_run_no")),
        sa.ForeignKeyConstraint(["dataset_id"], ["run_datasets.id"], name=op.f("fk_run_inputs_dataset_id")),
        sa.PrimaryKeyConstraint("run_no", "dataset_id", name=op.f("pk_run_inputs")),
    )
    op.create_index(op.f("ix_run_inputs_dataset_id"), "run_inputs", ["dataset_id"], unique=False)


def _registry() -> None:
    """Stages, what clients say of versions, and deletion that keeps the rows."""
    op.add_column("registered_models", sa.Column("deleted_at", sa.BigInteger(), nullable=True))
    for column in (
        sa.Column("stage", sa.Text(), server_default="none", nullable=False),
        sa.Column("stray_run", sa.Text(), nullable=True),
        sa.Column("link", sa.Text(), server_default="", nullable=False),
        sa.Column("logged_model", sa.Text(), nullable=True),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
    ):
        op.add_column("model_versions", column)


def _logged() -> None:
    """Models as clients log them."""
    op.create_table(
        "logged_models",
        sa.Column("no", BigId, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project_id", BigId, nullable=False),
        sa.Column("experiment_id", BigId, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("status_message", sa.Text(), nullable=False),
        sa.Column("source_run", sa.Text(), nullable=False),
        sa.Column("version_id", BigId, nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_logged_models_project_id")),
        sa.ForeignKeyConstraint(["experiment_id"], ["experiments.id"], name=op.f("fk_logged_models_experiment_id")),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name=op.f("fk_logged_models_version_id")),
        sa.PrimaryKeyConstraint("no", name=op.f("pk_logged_models")),
        sa.UniqueConstraint("id", name=op.f("uq_logged_models_id")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_logged_models_newest", "logged_models", ["experiment_id", "deleted", "created_at", "id"])
    op.create_index(op.f("ix_logged_models_source_run"), "logged_models", ["source_run"])
    op.create_index(op.f("ix_logged_models_version_id"), "logged_models", ["version_id"])
    for table in ("logged_model_params", "logged_model_tags"):
        op.create_table(
            table,
            sa.Column("model_no", BigId, nullable=False),
            sa.Column("key_id", BigId, nullable=False),
            sa.Column("value", sa.Text(), nullable=False),
            sa.ForeignKeyConstraint(["model_no"], ["logged_models.no"], name=op.f(f"fk_{table}_model_no")),
            sa.ForeignKeyConstraint(["key_id"], ["tracked_keys.id"], name=op.f(f"fk_{table}_key_id")),
            sa.PrimaryKeyConstraint("model_no", "key_id", name=op.f(f"pk_{table}")),
            sqlite_with_rowid=False,
        )
    op.create_table(
        "logged_model_metrics",
        sa.Column("model_no", BigId, nullable=False),
        sa.Column("key_id", BigId, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("run_no", BigId, nullable=False),
        sa.Column("dataset", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("value", sa.Float(53), nullable=False),
        sa.Column("is_nan", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["model_no"], ["logged_models.no"], name=op.f("fk_logged_model_metrics_model_no")),
        sa.ForeignKeyConstraint(["key_id"], ["tracked_keys.id"], name=op.f("fk_logged_model_metrics_key_id")),
        sa.ForeignKeyConstraint(["run_no"], ["tracked_runs.no"], name=op.f("fk_logged_model_metrics_run_no")),
        sa.PrimaryKeyConstraint(
            "model_no", "key_id", "at", "step", "run_no", "dataset", "digest", name=op.f("pk_logged_model_metrics")
        ),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_logged_model_metrics_run_no"), "logged_model_metrics", ["run_no"])
    op.create_table(
        "run_models",
        sa.Column("run_no", BigId, nullable=False),
        sa.Column("made", sa.Boolean(), nullable=False),
        sa.Column("model_id", sa.Text(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["run_no"], ["tracked_runs.no"], name=op.f("fk_run_models_run_no")),
        sa.PrimaryKeyConstraint("run_no", "made", "model_id", name=op.f("pk_run_models")),
        sqlite_with_rowid=False,
    )


def _move() -> None:
    """Every run that said anything gets a number; who was in no experiment is in the project's default one."""
    said = " UNION ".join(f"SELECT run_id FROM old_{table}" for table in ("metric_points", "params", "run_tags"))
    strays = f"SELECT run_id FROM ({said}) AS said WHERE run_id NOT IN (SELECT run_id FROM old_tracked_runs)"
    homeless = (
        f"SELECT DISTINCT r.project_id FROM runs r JOIN ({strays}) s ON s.run_id = r.id WHERE r.project_id NOT IN"
        " (SELECT project_id FROM experiments WHERE is_default)"
    )
    op.execute(
        "INSERT INTO experiments (project_id, name, created_at, updated_at, is_default)"
        f" SELECT p.id, 'Default', p.created_at, p.created_at, true FROM projects p WHERE p.id IN ({homeless})"
    )
    op.execute(
        'INSERT INTO tracked_runs (run_id, experiment_id, "user", started_at, deleted)'
        ' SELECT * FROM (SELECT o.run_id, o.experiment_id, o."user", r.started_at, r.deleted_at IS NOT NULL AS deleted'
        " FROM old_tracked_runs o JOIN runs r ON r.id = o.run_id"
        " UNION ALL SELECT s.run_id, e.id, '', r.started_at, r.deleted_at IS NOT NULL"
        f" FROM ({strays}) s JOIN runs r ON r.id = s.run_id"
        " JOIN experiments e ON e.project_id = r.project_id AND e.is_default) AS found ORDER BY started_at, run_id"
    )
    keys = " UNION ".join(f"SELECT key FROM old_{table}" for table in ("metric_points", "params", "run_tags"))
    op.execute(f"INSERT INTO tracked_keys (name) SELECT key FROM ({keys}) AS found ORDER BY key")
    join = "JOIN tracked_runs r ON r.run_id = o.run_id JOIN tracked_keys k ON k.name = o.key"
    for table in ("params", "run_tags"):
        op.execute(f"INSERT INTO {table} (run_no, key_id, value) SELECT r.no, k.id, o.value FROM old_{table} o {join}")
    count = "(SELECT count(*) FROM old_metric_points p WHERE p.run_id = o.run_id AND p.key = o.key)"
    op.execute("CREATE INDEX ix_old_points ON old_metric_points (run_id, key)")
    op.execute(
        "INSERT INTO latest_metrics (run_no, key_id, at, step, value, is_nan, count, tail)"
        f" SELECT r.no, k.id, o.at, o.step, o.value, o.is_nan, {count}, {count} FROM old_latest_metrics o {join}"
    )
    op.execute(
        "INSERT INTO metric_tail (run_no, part, key_id, seq, at, step, value, is_nan)"
        " SELECT no, seq / 8, id, seq, at, step, value, is_nan FROM (SELECT r.no, k.id,"
        " row_number() OVER (PARTITION BY r.no, k.id ORDER BY o.id) - 1 AS seq, o.at, o.step, o.value, o.is_nan"
        f" FROM old_metric_points o {join}) AS numbered"
    )


def _artifacts() -> None:
    """Artifacts belong to runs, models and traces, and lie in folders."""
    op.execute("CREATE TABLE old_artifacts AS SELECT * FROM artifacts")
    op.drop_table("artifacts")
    op.create_table(
        "artifacts",
        sa.Column("owner_kind", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("folder", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("content_kind", sa.Integer(), nullable=True),
        sa.Column("content", sa.Text(), nullable=True),
        sa.Column("data", sa.LargeBinary(), nullable=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("owner_kind", "owner", "folder", "name", name=op.f("pk_artifacts")),
        sqlite_with_rowid=False,
    )
    waiting = sa.text("content_kind = 0 AND size > 64")
    op.create_index(
        "ix_artifacts_waiting",
        "artifacts",
        ["owner_kind", "owner"],
        unique=False,
        sqlite_where=waiting,
        postgresql_where=waiting,
    )
    op.create_table(
        "artifact_uploads",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project_id", BigId, nullable=False),
        sa.Column("owner_kind", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("done", sa.Boolean(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_artifact_uploads_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_artifact_uploads")),
    )
    op.create_index(op.f("ix_artifact_uploads_expires_at"), "artifact_uploads", ["expires_at"], unique=False)
    op.create_table(
        "artifact_parts",
        sa.Column("upload_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("content_kind", sa.Integer(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["upload_id"], ["artifact_uploads.id"], name=op.f("fk_artifact_parts_upload_id")),
        sa.PrimaryKeyConstraint("upload_id", "number", name=op.f("pk_artifact_parts")),
        sqlite_with_rowid=False,
    )
    conn = op.get_bind()
    insert = sa.text(
        "INSERT INTO artifacts (owner_kind, owner, folder, name, size, content_kind, content, data, at)"
        " VALUES ('run', :owner, :folder, :name, :size, :content_kind, :content, :data, :at) ON CONFLICT DO NOTHING"
    )
    found = conn.execute(sa.text("SELECT run_id, path, size, content_kind, content, at FROM old_artifacts")).all()
    for owner, path, size, content_kind, content, at in found:
        row = {"owner": owner, "size": size, "content_kind": content_kind, "content": content, "at": at}
        row["data"] = bytes.fromhex(content) if content_kind == 0 else None
        while path:
            folder, _, name = path.rpartition("/")
            conn.execute(insert, {**row, "folder": folder, "name": name})
            path, row = folder, {**row, "size": 0, "content_kind": None, "content": None, "data": None}
    op.drop_table("old_artifacts")


def _limits() -> None:
    """What is deleted for good, and how much a project may hold."""
    op.create_table(
        "purged_runs",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("project_id", BigId, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("done", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_purged_runs_run_id")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_purged_runs_project_id")),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_purged_runs")),
    )
    op.create_index(
        op.f("ix_purged_runs_project_id_done_run_id"), "purged_runs", ["project_id", "done", "run_id"], unique=False
    )
    op.create_table(
        "quotas",
        sa.Column("project_id", BigId, nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("most", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_quotas_project_id")),
        sa.PrimaryKeyConstraint("project_id", "what", name=op.f("pk_quotas")),
    )
    for table in ("commits", "evidence"):  # a run's row goes when nothing names it: these are asked
        op.create_index(op.f(f"ix_{table}_run_id"), table, ["run_id"], unique=False)


def _traces() -> None:
    op.create_table(
        "traces",
        sa.Column("id", BigId, nullable=False),
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column("experiment_id", BigId, nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("took", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("client_id", sa.Text(), nullable=True),
        sa.Column("session", sa.Text(), nullable=True),
        sa.Column("request", sa.Text(), nullable=True),
        sa.Column("response", sa.Text(), nullable=True),
        sa.Column("told", sa.Boolean(), nullable=False),
        sa.Column("spans", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["experiment_id"], ["experiments.id"], name=op.f("fk_traces_experiment_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_traces")),
        sa.UniqueConstraint("trace_id", name=op.f("uq_traces_trace_id")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_traces_newest", "traces", ["experiment_id", "started_at", "trace_id"])
    op.create_index("ix_traces_session", "traces", ["experiment_id", "session"])
    for table in ("trace_tags", "trace_metadata"):
        op.create_table(
            table,
            sa.Column("trace", BigId, nullable=False),
            sa.Column("key_id", BigId, nullable=False),
            sa.Column("value", sa.Text(), nullable=False),
            sa.ForeignKeyConstraint(["trace"], ["traces.id"], name=op.f(f"fk_{table}_trace")),
            sa.ForeignKeyConstraint(["key_id"], ["tracked_keys.id"], name=op.f(f"fk_{table}_key_id")),
            sa.PrimaryKeyConstraint("trace", "key_id", name=op.f(f"pk_{table}")),
            sqlite_with_rowid=False,
        )
    op.create_table(
        "trace_runs",
        sa.Column("trace", BigId, nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("own", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["trace"], ["traces.id"], name=op.f("fk_trace_runs_trace")),
        sa.PrimaryKeyConstraint("trace", "run_id", name=op.f("pk_trace_runs")),
    )
    op.create_index(op.f("ix_trace_runs_run_id"), "trace_runs", ["run_id"], unique=False)
    op.create_table(
        "trace_prompts",
        sa.Column("trace", BigId, nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["trace"], ["traces.id"], name=op.f("fk_trace_prompts_trace")),
        sa.PrimaryKeyConstraint("trace", "prompt", name=op.f("pk_trace_prompts")),
    )
    op.create_index(op.f("ix_trace_prompts_prompt"), "trace_prompts", ["prompt"], unique=False)
    op.create_table(
        "trace_spans",
        sa.Column("trace", BigId, nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["trace"], ["traces.id"], name=op.f("fk_trace_spans_trace")),
        sa.PrimaryKeyConstraint("trace", "seq", name=op.f("pk_trace_spans")),
    )
    op.create_table(
        "trace_span_kinds",
        sa.Column("trace", BigId, nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["trace"], ["traces.id"], name=op.f("fk_trace_span_kinds_trace")),
        sa.PrimaryKeyConstraint("trace", "seq", "n", name=op.f("pk_trace_span_kinds")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "trace_assessments",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("trace", BigId, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("value", Json(), nullable=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("number", sa.Float(53), nullable=True),
        sa.Column("error", Json(), nullable=True),
        sa.Column("source_kind", sa.Text(), nullable=False),
        sa.Column("source_id", sa.Text(), nullable=True),
        sa.Column("span_id", sa.Text(), nullable=True),
        sa.Column("rationale", sa.Text(), nullable=True),
        sa.Column("overrides", sa.Text(), nullable=True),
        sa.Column("valid", sa.Boolean(), nullable=False),
        sa.Column("metadata", Json(), nullable=False),
        sa.Column("whole_session", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["trace"], ["traces.id"], name=op.f("fk_trace_assessments_trace")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trace_assessments")),
    )
    op.create_index(op.f("ix_trace_assessments_trace"), "trace_assessments", ["trace"], unique=False)
    op.create_index(op.f("ix_trace_assessments_kind_name"), "trace_assessments", ["kind", "name"], unique=False)


def _webhooks() -> None:
    op.create_table(
        "webhooks",
        sa.Column("no", BigId, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project_id", BigId, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("events", Json(), nullable=False),
        sa.Column("kinds", Json(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("sent", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("last_at", sa.BigInteger(), nullable=True),
        sa.Column("last_status", sa.Integer(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_webhooks_project_id")),
        sa.PrimaryKeyConstraint("no", name=op.f("pk_webhooks")),
        sa.UniqueConstraint("id", name=op.f("uq_webhooks_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_webhooks_project_id_no"), "webhooks", ["project_id", "no"], unique=False)


def _brought() -> None:
    op.create_table(
        "brought",
        sa.Column("project_id", BigId, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("theirs", sa.Text(), nullable=False),
        sa.Column("ours", sa.Text(), nullable=False),
        sa.Column("mark", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_brought_project_id")),
        sa.PrimaryKeyConstraint("project_id", "kind", "theirs", name=op.f("pk_brought")),
        sqlite_with_rowid=False,
    )
