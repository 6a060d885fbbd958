"""Open commits, remotes, producers, erasures, moves of branches; marks of commits; versions whose content is gone."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

from noria.db.types import BigId, Json

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("versions", sa.Column("gone_at", sa.BigInteger(), nullable=True))
    op.add_column("quarantine", sa.Column("mode", sa.Text(), nullable=False, server_default="append"))
    op.add_column("quarantine", sa.Column("verdict", Json(), nullable=True))
    op.add_column("packs", sa.Column("merged", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("packs", sa.Column("doomed_at", sa.BigInteger(), nullable=True))
    op.add_column("packs", sa.Column("removed_at", sa.BigInteger(), nullable=True))
    # Up to now packs were condemned when all that they hold had been copied into another one, and for nothing else.
    op.execute(sa.text("UPDATE packs SET merged = true WHERE condemned_epoch IS NOT NULL"))
    op.create_table(
        "retired",
        sa.Column("id", BigId, nullable=False),
        sa.Column("kind", sa.Integer(), nullable=False),
        sa.Column("object", sa.Text(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_retired")),
    )
    op.create_index(op.f("ix_retired_epoch"), "retired", ["epoch"], unique=False)
    op.create_table(
        "drafts",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("repository_id", BigId, nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("base", sa.Text(), nullable=True),
        sa.Column("layout", sa.Text(), nullable=True),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("commit_id", sa.Text(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("meta", Json(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("state IN ('open', 'finished', 'dropped')", name=op.f("ck_drafts_state")),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["repositories.id"], name=op.f("fk_drafts_repository_id_repositories")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_drafts")),
    )
    op.create_index(op.f("ix_drafts_repository_id_state"), "drafts", ["repository_id", "state"], unique=False)
    op.create_table(
        "remotes",
        sa.Column("repository_id", BigId, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("repository", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("partial", sa.Boolean(), nullable=False),
        sa.Column("heads", Json(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["repositories.id"], name=op.f("fk_remotes_repository_id_repositories")
        ),
        sa.PrimaryKeyConstraint("repository_id", "name", name=op.f("pk_remotes")),
    )
    op.create_table(
        "producers",
        sa.Column("repository_id", BigId, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("commit_id", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("answer", Json(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["commit_id"], ["commits.id"], name=op.f("fk_producers_commit_id")),
        sa.ForeignKeyConstraint(["repository_id"], ["repositories.id"], name=op.f("fk_producers_repository_id")),
        sa.PrimaryKeyConstraint("repository_id", "name", "commit_id", name=op.f("pk_producers")),
    )
    op.create_index(
        op.f("ix_producers_repository_id_name_sequence"), "producers", ["repository_id", "name", "sequence"]
    )
    op.create_index(op.f("ix_producers_commit_id"), "producers", ["commit_id"], unique=False)
    _marks_of_commits()
    op.create_table(
        "moves",
        sa.Column("id", BigId, nullable=False),
        sa.Column("repository_id", BigId, nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("before", sa.Text(), nullable=True),
        sa.Column("after", sa.Text(), nullable=True),
        sa.Column("verb", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["repository_id"], ["repositories.id"], name=op.f("fk_moves_repository_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_moves")),
    )
    op.create_index(op.f("ix_moves_repository_id_branch_at"), "moves", ["repository_id", "branch", "at"])
    op.create_table(
        "erasures",
        sa.Column("id", BigId, nullable=False),
        sa.Column("project_id", BigId, nullable=False),
        sa.Column("repository", sa.Text(), nullable=False),
        sa.Column("what", Json(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("counts", Json(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("done_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("state IN ('running', 'done')", name=op.f("ck_erasures_state")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_erasures_project_id_projects")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_erasures")),
    )


def _marks_of_commits() -> None:
    """Marks were kept for a repository; now they say as of which commit. Each branch goes on from what it is now."""
    op.create_table(
        "refusals",
        sa.Column("repository_id", BigId, nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("contract", sa.Integer(), nullable=False),
        sa.Column("batch", BigId, nullable=False),
        sa.Column("mark", Json(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["repository_id"], ["repositories.id"], name=op.f("fk_refusals_repository_id")),
        sa.PrimaryKeyConstraint("repository_id", "branch", "source", name=op.f("pk_refusals")),
    )
    bind = op.get_bind()
    marks = bind.execute(sa.text("SELECT repository_id, source, mark, at FROM collected")).all()
    op.drop_table("collected")
    op.create_table(
        "collected",
        sa.Column("repository_id", BigId, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("commit_id", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("mark", Json(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["commit_id"], ["commits.id"], name=op.f("fk_collected_commit_id")),
        sa.ForeignKeyConstraint(["repository_id"], ["repositories.id"], name=op.f("fk_collected_repository_id")),
        sa.PrimaryKeyConstraint("repository_id", "source", "commit_id", name=op.f("pk_collected")),
    )
    op.create_index(
        op.f("ix_collected_repository_id_source_generation"), "collected", ["repository_id", "source", "generation"]
    )
    op.create_index(op.f("ix_collected_commit_id"), "collected", ["commit_id"], unique=False)
    heads = bind.execute(
        sa.text("SELECT b.repository_id, b.name, b.head, c.generation FROM branches b JOIN commits c ON c.id = b.head")
    ).all()
    keep = sa.text(
        "INSERT INTO collected (repository_id, source, commit_id, generation, mark, at) "
        "VALUES (:repository_id, :source, :commit_id, :generation, :mark, :at) ON CONFLICT DO NOTHING"
    )
    refuse = sa.text(
        "INSERT INTO refusals (repository_id, branch, source, contract, batch, mark, at) "
        "VALUES (:repository_id, :branch, :source, :contract, :batch, :mark, :at)"
    )
    for row in marks:
        mark = json.loads(row.mark)
        refused = mark.pop("refused", None)
        place = {"repository_id": row.repository_id, "source": row.source, "at": row.at}
        for head in (head for head in heads if head.repository_id == row.repository_id):
            if mark:
                value = {"commit_id": head.head, "generation": head.generation, "mark": json.dumps(mark)}
                bind.execute(keep, {**place, **value})
            if refused is not None and "batch" in refused:
                value = {"contract": refused["contract"], "batch": refused["batch"]}
                bind.execute(refuse, {**place, **value, "branch": head.name, "mark": json.dumps(refused["mark"])})


def downgrade() -> None:
    op.drop_table("erasures")
    op.drop_table("moves")
    op.drop_table("refusals")
    op.drop_table("collected")
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
    op.drop_table("producers")
    op.drop_table("remotes")
    op.drop_index(op.f("ix_drafts_repository_id_state"), table_name="drafts")
    op.drop_table("drafts")
    op.drop_column("quarantine", "verdict")
    op.drop_column("quarantine", "mode")
    op.drop_index(op.f("ix_retired_epoch"), table_name="retired")
    op.drop_table("retired")
    for name in ("removed_at", "doomed_at", "merged"):
        op.drop_column("packs", name)
    op.drop_column("versions", "gone_at")
