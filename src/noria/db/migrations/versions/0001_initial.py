"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from noria.db.types import BigId, Json

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("info", Json(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )
    op.create_table(
        "packs",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("condemned_epoch", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_packs")),
    )
    op.create_index(op.f("ix_packs_condemned_epoch"), "packs", ["condemned_epoch"], unique=False)
    op.create_table(
        "projects",
        sa.Column("id", BigId, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("settings", Json(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_projects")),
        sa.UniqueConstraint("name", name=op.f("uq_projects_name")),
    )
    op.create_table(
        "store_sessions",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("lease_until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_store_sessions")),
    )
    op.create_table(
        "workspace",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("store_url", sa.Text(), nullable=False),
        sa.Column("formats", Json(), nullable=False),
        sa.Column("gc_epoch", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workspace")),
    )
    op.create_table(
        "alerts",
        sa.Column("id", BigId, nullable=False),
        sa.Column("project_id", BigId, nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("details", Json(), nullable=False),
        sa.Column("opened", sa.BigInteger(), nullable=False),
        sa.Column("closed", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_alerts_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alerts")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_alerts_project_id_closed_id"), "alerts", ["project_id", "closed", "id"], unique=False)
    op.create_index(
        op.f("ix_alerts_project_id_endpoint_kind_subject"),
        "alerts",
        ["project_id", "endpoint", "kind", "subject"],
        unique=False,
    )
    op.create_table(
        "assets",
        sa.Column("id", BigId, nullable=False),
        sa.Column("project_id", BigId, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("current_id", BigId, nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_assets_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_assets")),
        sa.UniqueConstraint("project_id", "name", name=op.f("uq_assets_project_id_name")),
    )
    op.create_table(
        "audit",
        sa.Column("seq", BigId, nullable=False),
        sa.Column("project_id", BigId, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("verb", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("detail", Json(), nullable=False),
        sa.Column("prev", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_audit_project_id")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_audit")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_audit_project_id_seq"), "audit", ["project_id", "seq"], unique=False)
    op.create_table(
        "candidates",
        sa.Column("id", BigId, nullable=False),
        sa.Column("project_id", BigId, nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("trigger", sa.Text(), nullable=False),
        sa.Column("reason", Json(), nullable=False),
        sa.Column("params", Json(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=True),
        sa.Column("gates", Json(), nullable=False),
        sa.Column("verdict", Json(), nullable=False),
        sa.Column("error", Json(), nullable=True),
        sa.Column("drill", sa.Boolean(), nullable=False),
        sa.Column("forced", sa.Boolean(), nullable=False),
        sa.Column("opened", sa.BigInteger(), nullable=False),
        sa.Column("ended", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_candidates_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_candidates")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_candidates_project_id_model_id"), "candidates", ["project_id", "model", "id"], unique=False
    )
    op.create_table(
        "capture_segments",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("project_id", BigId, nullable=False),
        sa.Column("taken", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_capture_segments_project_id")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_capture_segments")),
    )
    op.create_table(
        "definitions",
        sa.Column("project_id", BigId, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("entry", sa.Text(), nullable=False),
        sa.Column("spec", Json(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_definitions_project_id")),
        sa.PrimaryKeyConstraint("project_id", "name", name=op.f("pk_definitions")),
    )
    op.create_table(
        "endpoints",
        sa.Column("id", BigId, nullable=False),
        sa.Column("project_id", BigId, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("contract", Json(), nullable=False),
        sa.Column("policy", Json(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_endpoints_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_endpoints")),
        sa.UniqueConstraint("project_id", "name", name=op.f("uq_endpoints_project_id_name")),
    )
    op.create_table(
        "event_clocks",
        sa.Column("project_id", BigId, nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("watermark", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("mode IN ('wall', 'replay')", name=op.f("ck_event_clocks_mode")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_event_clocks_project_id")),
        sa.PrimaryKeyConstraint("project_id", name=op.f("pk_event_clocks")),
    )
    op.create_table(
        "events",
        sa.Column("id", BigId, nullable=False),
        sa.Column("project_id", BigId, nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("payload", Json(), nullable=False),
        sa.Column("event_ms", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_events_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_events_project_id_type_id"), "events", ["project_id", "type", "id"], unique=False)
    op.create_table(
        "experiments",
        sa.Column("id", BigId, nullable=False),
        sa.Column("project_id", BigId, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_experiments_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_experiments")),
        sa.UniqueConstraint("project_id", "name", name=op.f("uq_experiments_project_id_name")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "idempotency",
        sa.Column("project_id", BigId, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("verb", sa.Text(), nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("answer", Json(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_idempotency_project_id")),
        sa.PrimaryKeyConstraint("project_id", "key", name=op.f("pk_idempotency")),
    )
    op.create_index(op.f("ix_idempotency_created_at"), "idempotency", ["created_at"], unique=False)
    op.create_table(
        "jobs",
        sa.Column("id", BigId, nullable=False),
        sa.Column("project_id", BigId, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("payload", Json(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("unique_key", sa.Text(), nullable=True),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.BigInteger(), nullable=True),
        sa.Column("result", Json(), nullable=True),
        sa.Column("error", Json(), nullable=True),
        sa.Column("event_ms", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "state IN ('waiting', 'running', 'done', 'failed', 'cancelled')", name=op.f("ck_jobs_state")
        ),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_jobs_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_jobs_state_due_at"), "jobs", ["state", "due_at"], unique=False)
    op.create_index(
        "uq_jobs_single_flight",
        "jobs",
        ["project_id", "unique_key"],
        unique=True,
        sqlite_where=sa.text("state IN ('waiting', 'running')"),
        postgresql_where=sa.text("state IN ('waiting', 'running')"),
    )
    op.create_table(
        "online_counter",
        sa.Column("project_id", BigId, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_online_counter_project_id")),
        sa.PrimaryKeyConstraint("project_id", name=op.f("pk_online_counter")),
    )
    op.create_table(
        "registered_models",
        sa.Column("id", BigId, nullable=False),
        sa.Column("project_id", BigId, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_registered_models_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_registered_models")),
        sa.UniqueConstraint("project_id", "name", name=op.f("uq_registered_models_project_id_name")),
    )
    op.create_table(
        "retention",
        sa.Column("project_id", BigId, nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("keep_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_retention_project_id")),
        sa.PrimaryKeyConstraint("project_id", "what", name=op.f("pk_retention")),
    )
    op.create_table(
        "trigger_marks",
        sa.Column("project_id", BigId, nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_trigger_marks_project_id")),
        sa.PrimaryKeyConstraint("project_id", "model", "name", name=op.f("pk_trigger_marks")),
    )
    op.create_table(
        "deliveries",
        sa.Column("event_id", BigId, nullable=False),
        sa.Column("subscriber", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("token", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.CheckConstraint("state IN ('waiting', 'leased', 'done', 'dead')", name=op.f("ck_deliveries_state")),
        sa.ForeignKeyConstraint(["event_id"], ["events.id"], name=op.f("fk_deliveries_event_id")),
        sa.PrimaryKeyConstraint("event_id", "subscriber", name=op.f("pk_deliveries")),
    )
    op.create_index("ix_deliveries_due", "deliveries", ["state", "due_at"], unique=False)
    op.create_table(
        "experiment_tags",
        sa.Column("experiment_id", BigId, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["experiment_id"], ["experiments.id"], name=op.f("fk_experiment_tags_experiment_id")),
        sa.PrimaryKeyConstraint("experiment_id", "key", name=op.f("pk_experiment_tags")),
    )
    op.create_table(
        "model_aliases",
        sa.Column("model_id", BigId, nullable=False),
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["registered_models.id"], name=op.f("fk_model_aliases_model_id")),
        sa.PrimaryKeyConstraint("model_id", "alias", name=op.f("pk_model_aliases")),
    )
    op.create_table(
        "model_tags",
        sa.Column("model_id", BigId, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["registered_models.id"], name=op.f("fk_model_tags_model_id")),
        sa.PrimaryKeyConstraint("model_id", "number", "key", name=op.f("pk_model_tags")),
    )
    op.create_table(
        "monitor_marks",
        sa.Column("endpoint_id", BigId, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["endpoint_id"], ["endpoints.id"], name=op.f("fk_monitor_marks_endpoint_id")),
        sa.PrimaryKeyConstraint("endpoint_id", "name", name=op.f("pk_monitor_marks")),
    )
    op.create_table(
        "monitor_windows",
        sa.Column("endpoint_id", BigId, nullable=False),
        sa.Column("deployment_id", BigId, nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("answered", sa.Integer(), nullable=False),
        sa.Column("errors", sa.Integer(), nullable=False),
        sa.Column("slow", sa.Integer(), nullable=False),
        sa.Column("labelled", sa.Integer(), nullable=False),
        sa.Column("values", Json(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["endpoint_id"], ["endpoints.id"], name=op.f("fk_monitor_windows_endpoint_id")),
        sa.PrimaryKeyConstraint("endpoint_id", "deployment_id", "start", name=op.f("pk_monitor_windows")),
    )
    op.create_table(
        "repositories",
        sa.Column("id", BigId, nullable=False),
        sa.Column("project_id", BigId, nullable=False),
        sa.Column("asset_id", BigId, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key", Json(), nullable=False),
        sa.Column("time", sa.Text(), nullable=True),
        sa.Column("known", sa.Text(), nullable=True),
        sa.Column("contract", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("kind IN ('files', 'table')", name=op.f("ck_repositories_kind")),
        sa.ForeignKeyConstraint(["asset_id"], ["assets.id"], name=op.f("fk_repositories_asset_id")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_repositories_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_repositories")),
        sa.UniqueConstraint("asset_id", name=op.f("uq_repositories_asset_id")),
    )
    op.create_table(
        "routing",
        sa.Column("endpoint_id", BigId, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("arms", Json(), nullable=False),
        sa.Column("salt", sa.Text(), nullable=False),
        sa.Column("paired", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["endpoint_id"], ["endpoints.id"], name=op.f("fk_routing_endpoint_id")),
        sa.PrimaryKeyConstraint("endpoint_id", "number", name=op.f("pk_routing")),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project_id", BigId, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("parent_id", sa.Text(), nullable=True),
        sa.Column("asset_id", BigId, nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("trigger", sa.Text(), nullable=True),
        sa.Column("identity", sa.Text(), nullable=True),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("event_ms", sa.BigInteger(), nullable=False),
        sa.Column("error", Json(), nullable=True),
        sa.Column("cost", Json(), nullable=False),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
        sa.Column("lease_until", sa.BigInteger(), nullable=True),
        sa.Column("fence", sa.Integer(), server_default="0", nullable=False),
        sa.Column("holder", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["asset_id"], ["assets.id"], name=op.f("fk_runs_asset_id")),
        sa.ForeignKeyConstraint(["parent_id"], ["runs.id"], name=op.f("fk_runs_parent_id")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_runs_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
    )
    op.create_index(
        op.f("ix_runs_asset_id_state_started_at"), "runs", ["asset_id", "state", "started_at"], unique=False
    )
    op.create_index("ix_runs_leases", "runs", ["state", "lease_until"], unique=False)
    op.create_index(op.f("ix_runs_parent_id"), "runs", ["parent_id"], unique=False)
    op.create_index(
        op.f("ix_runs_project_id_kind_started_at"), "runs", ["project_id", "kind", "started_at"], unique=False
    )
    op.create_table(
        "versions",
        sa.Column("id", BigId, nullable=False),
        sa.Column("asset_id", BigId, nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("layout", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=True),
        sa.Column("meta", Json(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["asset_id"], ["assets.id"], name=op.f("fk_versions_asset_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_versions")),
        sa.UniqueConstraint("asset_id", "digest", name=op.f("uq_versions_asset_id_digest")),
    )
    op.create_index(op.f("ix_versions_digest"), "versions", ["digest"], unique=False)
    op.create_table(
        "artifacts",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("content_kind", sa.Integer(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_artifacts_run_id")),
        sa.PrimaryKeyConstraint("run_id", "path", name=op.f("pk_artifacts")),
    )
    op.create_table(
        "commits",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("repository_id", BigId, nullable=False),
        sa.Column("version_id", BigId, nullable=False),
        sa.Column("layout", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("parents", Json(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("event_ms", sa.BigInteger(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("contract", sa.Integer(), nullable=True),
        sa.Column("stats", Json(), nullable=False),
        sa.Column("meta", Json(), nullable=False),
        sa.ForeignKeyConstraint(["repository_id"], ["repositories.id"], name=op.f("fk_commits_repository_id")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_commits_run_id")),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name=op.f("fk_commits_version_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_commits")),
    )
    op.create_index(
        op.f("ix_commits_repository_id_generation"), "commits", ["repository_id", "generation"], unique=False
    )
    op.create_index(op.f("ix_commits_version_id"), "commits", ["version_id"], unique=False)
    op.create_table(
        "contracts",
        sa.Column("id", BigId, nullable=False),
        sa.Column("repository_id", BigId, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("spec", Json(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["repository_id"], ["repositories.id"], name=op.f("fk_contracts_repository_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_contracts")),
        sa.UniqueConstraint("repository_id", "number", name=op.f("uq_contracts_repository_id_number")),
    )
    op.create_table(
        "deployments",
        sa.Column("id", BigId, nullable=False),
        sa.Column("endpoint_id", BigId, nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version_id", BigId, nullable=False),
        sa.Column("package", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("ready_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("state IN ('starting', 'ready', 'failed', 'retired')", name=op.f("ck_deployments_state")),
        sa.ForeignKeyConstraint(["endpoint_id"], ["endpoints.id"], name=op.f("fk_deployments_endpoint_id")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_deployments_run_id")),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name=op.f("fk_deployments_version_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deployments")),
        sa.UniqueConstraint("endpoint_id", "model", name=op.f("uq_deployments_endpoint_id_model")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_deployments_version_id"), "deployments", ["version_id"], unique=False)
    op.create_table(
        "edges",
        sa.Column("id", BigId, nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("version_id", BigId, nullable=False),
        sa.Column("direction", sa.Text(), nullable=False),
        sa.Column("slot", sa.Text(), nullable=False),
        sa.CheckConstraint("direction IN ('in', 'out', 'reused', 'code', 'about')", name=op.f("ck_edges_direction")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_edges_run_id")),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name=op.f("fk_edges_version_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_edges")),
        sa.UniqueConstraint(
            "run_id", "direction", "slot", "version_id", name=op.f("uq_edges_run_id_direction_slot_version_id")
        ),
    )
    op.create_index(op.f("ix_edges_version_id_direction"), "edges", ["version_id", "direction"], unique=False)
    op.create_table(
        "evidence",
        sa.Column("id", BigId, nullable=False),
        sa.Column("project_id", BigId, nullable=False),
        sa.Column("test", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("version_id", BigId, nullable=True),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("passed", sa.Boolean(), nullable=False),
        sa.Column("automatic", sa.Boolean(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("evaluator", sa.Text(), nullable=False),
        sa.Column("details", Json(), nullable=False),
        sa.Column("event_ms", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_evidence_project_id")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_evidence_run_id")),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name=op.f("fk_evidence_version_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evidence")),
    )
    op.create_index(op.f("ix_evidence_project_id_test_id"), "evidence", ["project_id", "test", "id"], unique=False)
    op.create_table(
        "latest_metrics",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.Float(precision=53), nullable=False),
        sa.Column("is_nan", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_latest_metrics_run_id")),
        sa.PrimaryKeyConstraint("run_id", "key", name=op.f("pk_latest_metrics")),
    )
    op.create_index(op.f("ix_latest_metrics_key_value"), "latest_metrics", ["key", "value"], unique=False)
    op.create_table(
        "metric_points",
        sa.Column("id", BigId, nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.Float(precision=53), nullable=False),
        sa.Column("is_nan", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_metric_points_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_metric_points")),
        sa.UniqueConstraint(
            "run_id",
            "key",
            "step",
            "at",
            "value",
            "is_nan",
            name=op.f("uq_metric_points_run_id_key_step_at_value_is_nan"),
        ),
    )
    op.create_table(
        "model_versions",
        sa.Column("model_id", BigId, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("version_id", BigId, nullable=True),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["registered_models.id"], name=op.f("fk_model_versions_model_id")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_model_versions_run_id")),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name=op.f("fk_model_versions_version_id")),
        sa.PrimaryKeyConstraint("model_id", "number", name=op.f("pk_model_versions")),
    )
    op.create_index(op.f("ix_model_versions_run_id"), "model_versions", ["run_id"], unique=False)
    op.create_index(op.f("ix_model_versions_version_id"), "model_versions", ["version_id"], unique=False)
    op.create_table(
        "params",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_params_run_id")),
        sa.PrimaryKeyConstraint("run_id", "key", name=op.f("pk_params")),
    )
    op.create_index(op.f("ix_params_key_value"), "params", ["key", "value"], unique=False)
    op.create_table(
        "quarantine",
        sa.Column("id", BigId, nullable=False),
        sa.Column("repository_id", BigId, nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("contract", sa.Integer(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("report", Json(), nullable=False),
        sa.Column("object", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["repository_id"], ["repositories.id"], name=op.f("fk_quarantine_repository_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_quarantine")),
        sa.UniqueConstraint(
            "repository_id", "contract", "object", name=op.f("uq_quarantine_repository_id_contract_object")
        ),
    )
    op.create_table(
        "run_tags",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_run_tags_run_id")),
        sa.PrimaryKeyConstraint("run_id", "key", name=op.f("pk_run_tags")),
    )
    op.create_index(op.f("ix_run_tags_key_value"), "run_tags", ["key", "value"], unique=False)
    op.create_table(
        "step_results",
        sa.Column("project_id", BigId, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("asset_id", BigId, nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("outputs", Json(), nullable=False),
        sa.Column("manifest", Json(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["asset_id"], ["assets.id"], name=op.f("fk_step_results_asset_id")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_step_results_project_id")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_step_results_run_id")),
        sa.PrimaryKeyConstraint("project_id", "key", name=op.f("pk_step_results")),
    )
    op.create_index(
        op.f("ix_step_results_asset_id_created_at"), "step_results", ["asset_id", "created_at"], unique=False
    )
    op.create_table(
        "tracked_runs",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("experiment_id", BigId, nullable=False),
        sa.Column("user", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["experiment_id"], ["experiments.id"], name=op.f("fk_tracked_runs_experiment_id")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_tracked_runs_run_id")),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_tracked_runs")),
    )
    op.create_index(
        op.f("ix_tracked_runs_experiment_id_run_id"), "tracked_runs", ["experiment_id", "run_id"], unique=False
    )
    op.create_table(
        "branches",
        sa.Column("repository_id", BigId, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("head", sa.Text(), nullable=True),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["head"], ["commits.id"], name=op.f("fk_branches_head")),
        sa.ForeignKeyConstraint(["repository_id"], ["repositories.id"], name=op.f("fk_branches_repository_id")),
        sa.PrimaryKeyConstraint("repository_id", "name", name=op.f("pk_branches")),
    )
    op.create_table(
        "collected",
        sa.Column("repository_id", BigId, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("mark", Json(), nullable=False),
        sa.Column("commit_id", sa.Text(), nullable=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["commit_id"], ["commits.id"], name=op.f("fk_collected_commit_id")),
        sa.ForeignKeyConstraint(["repository_id"], ["repositories.id"], name=op.f("fk_collected_repository_id")),
        sa.PrimaryKeyConstraint("repository_id", "source", name=op.f("pk_collected")),
    )
    op.create_table(
        "online_uses",
        sa.Column("id", BigId, nullable=False),
        sa.Column("project_id", BigId, nullable=False),
        sa.Column("use_id", sa.Text(), nullable=False),
        sa.Column("repository_id", BigId, nullable=False),
        sa.Column("spec", Json(), nullable=False),
        sa.Column("commit_id", sa.Text(), nullable=True),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["commit_id"], ["commits.id"], name=op.f("fk_online_uses_commit_id")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_online_uses_project_id")),
        sa.ForeignKeyConstraint(["repository_id"], ["repositories.id"], name=op.f("fk_online_uses_repository_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_online_uses")),
        sa.UniqueConstraint("project_id", "use_id", name=op.f("uq_online_uses_project_id_use_id")),
    )
    op.create_index(op.f("ix_online_uses_repository_id"), "online_uses", ["repository_id"], unique=False)
    op.create_table(
        "rollouts",
        sa.Column("id", BigId, nullable=False),
        sa.Column("endpoint_id", BigId, nullable=False),
        sa.Column("candidate_id", BigId, nullable=False),
        sa.Column("deployment_id", BigId, nullable=False),
        sa.Column("champion_id", BigId, nullable=True),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("policy", Json(), nullable=False),
        sa.Column("blocks", Json(), nullable=False),
        sa.Column("started", sa.BigInteger(), nullable=False),
        sa.Column("step_from", sa.BigInteger(), nullable=False),
        sa.Column("looked", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["candidate_id"], ["candidates.id"], name=op.f("fk_rollouts_candidate_id")),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployments.id"], name=op.f("fk_rollouts_deployment_id")),
        sa.ForeignKeyConstraint(["endpoint_id"], ["endpoints.id"], name=op.f("fk_rollouts_endpoint_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rollouts")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_rollouts_endpoint_id_phase"), "rollouts", ["endpoint_id", "phase"], unique=False)
    op.create_table(
        "tags",
        sa.Column("repository_id", BigId, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("commit_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["commit_id"], ["commits.id"], name=op.f("fk_tags_commit_id")),
        sa.ForeignKeyConstraint(["repository_id"], ["repositories.id"], name=op.f("fk_tags_repository_id")),
        sa.PrimaryKeyConstraint("repository_id", "name", name=op.f("pk_tags")),
    )
    op.create_table(
        "online_rows",
        sa.Column("online_use", BigId, nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=True),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["online_use"], ["online_uses.id"], name=op.f("fk_online_rows_online_use")),
        sa.PrimaryKeyConstraint("online_use", "key", name=op.f("pk_online_rows")),
    )
    op.create_index(op.f("ix_online_rows_seq"), "online_rows", ["seq"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_online_rows_seq"), table_name="online_rows")
    op.drop_table("online_rows")
    op.drop_table("tags")
    op.drop_index(op.f("ix_rollouts_endpoint_id_phase"), table_name="rollouts")
    op.drop_table("rollouts")
    op.drop_index(op.f("ix_online_uses_repository_id"), table_name="online_uses")
    op.drop_table("online_uses")
    op.drop_table("collected")
    op.drop_table("branches")
    op.drop_index(op.f("ix_tracked_runs_experiment_id_run_id"), table_name="tracked_runs")
    op.drop_table("tracked_runs")
    op.drop_index(op.f("ix_step_results_asset_id_created_at"), table_name="step_results")
    op.drop_table("step_results")
    op.drop_index(op.f("ix_run_tags_key_value"), table_name="run_tags")
    op.drop_table("run_tags")
    op.drop_table("quarantine")
    op.drop_index(op.f("ix_params_key_value"), table_name="params")
    op.drop_table("params")
    op.drop_index(op.f("ix_model_versions_version_id"), table_name="model_versions")
    op.drop_index(op.f("ix_model_versions_run_id"), table_name="model_versions")
    op.drop_table("model_versions")
    op.drop_table("metric_points")
    op.drop_index(op.f("ix_latest_metrics_key_value"), table_name="latest_metrics")
    op.drop_table("latest_metrics")
    op.drop_index(op.f("ix_evidence_project_id_test_id"), table_name="evidence")
    op.drop_table("evidence")
    op.drop_index(op.f("ix_edges_version_id_direction"), table_name="edges")
    op.drop_table("edges")
    op.drop_index(op.f("ix_deployments_version_id"), table_name="deployments")
    op.drop_table("deployments")
    op.drop_table("contracts")
    op.drop_index(op.f("ix_commits_version_id"), table_name="commits")
    op.drop_index(op.f("ix_commits_repository_id_generation"), table_name="commits")
    op.drop_table("commits")
    op.drop_table("artifacts")
    op.drop_index(op.f("ix_versions_digest"), table_name="versions")
    op.drop_table("versions")
    op.drop_index(op.f("ix_runs_project_id_kind_started_at"), table_name="runs")
    op.drop_index(op.f("ix_runs_parent_id"), table_name="runs")
    op.drop_index("ix_runs_leases", table_name="runs")
    op.drop_index(op.f("ix_runs_asset_id_state_started_at"), table_name="runs")
    op.drop_table("runs")
    op.drop_table("routing")
    op.drop_table("repositories")
    op.drop_table("monitor_windows")
    op.drop_table("monitor_marks")
    op.drop_table("model_tags")
    op.drop_table("model_aliases")
    op.drop_table("experiment_tags")
    op.drop_index("ix_deliveries_due", table_name="deliveries")
    op.drop_table("deliveries")
    op.drop_table("trigger_marks")
    op.drop_table("retention")
    op.drop_table("registered_models")
    op.drop_table("online_counter")
    op.drop_index(
        "uq_jobs_single_flight",
        table_name="jobs",
        sqlite_where=sa.text("state IN ('waiting', 'running')"),
        postgresql_where=sa.text("state IN ('waiting', 'running')"),
    )
    op.drop_index(op.f("ix_jobs_state_due_at"), table_name="jobs")
    op.drop_table("jobs")
    op.drop_index(op.f("ix_idempotency_created_at"), table_name="idempotency")
    op.drop_table("idempotency")
    op.drop_table("experiments")
    op.drop_index(op.f("ix_events_project_id_type_id"), table_name="events")
    op.drop_table("events")
    op.drop_table("event_clocks")
    op.drop_table("endpoints")
    op.drop_table("definitions")
    op.drop_table("capture_segments")
    op.drop_index(op.f("ix_candidates_project_id_model_id"), table_name="candidates")
    op.drop_table("candidates")
    op.drop_index(op.f("ix_audit_project_id_seq"), table_name="audit")
    op.drop_table("audit")
    op.drop_table("assets")
    op.drop_index(op.f("ix_alerts_project_id_endpoint_kind_subject"), table_name="alerts")
    op.drop_index(op.f("ix_alerts_project_id_closed_id"), table_name="alerts")
    op.drop_table("alerts")
    op.drop_table("workspace")
    op.drop_table("store_sessions")
    op.drop_table("projects")
    op.drop_index(op.f("ix_packs_condemned_epoch"), table_name="packs")
    op.drop_table("packs")
    op.drop_table("leases")
