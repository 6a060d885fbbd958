"""The metadata database: one engine, explicit transactions, SQLite and PostgreSQL behind one strategy."""

from __future__ import annotations

from noria.db.engine import Database
from noria.db.metadata import metadata
from noria.db.tx import Tx

__all__ = ["Database", "Tx", "metadata"]
