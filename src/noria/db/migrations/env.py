"""Alembic runs inside the caller's own transaction: the connection comes in through the configuration."""

from __future__ import annotations

from alembic import context

from noria.db.metadata import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
