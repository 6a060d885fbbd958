"""Applies the Alembic chain. Imported only by ``init`` and ``admin migrate``: opening needs no Alembic."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from noria.db.engine import HEAD_REVISION

if TYPE_CHECKING:
    from noria.db.engine import Database
    from noria.db.tx import Tx

SCRIPTS = Path(__file__).parent / "migrations"


def config() -> Config:
    settings = Config()
    settings.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    return settings


def head() -> str:
    found = ScriptDirectory.from_config(config()).get_current_head()
    assert found is not None
    return found


def upgrade(db: Database, tx: Tx | None = None) -> tuple[int, int]:
    """Brings the database to the newest revision in one transaction; returns (before, after)."""
    settings = config()
    with db.write(tx) as open_tx:
        before = db.dialect.revision(open_tx.conn)
        settings.attributes["connection"] = open_tx.conn
        command.upgrade(settings, "head")
        db.dialect.set_revision(open_tx.conn, HEAD_REVISION)
    return before, HEAD_REVISION
