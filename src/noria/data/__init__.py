"""Versioned data: repositories of files and of tables, with branches, commits, contracts and collectors."""

from __future__ import annotations

from noria.data.service import Data, RowsListener
from noria.data.service.collect import Collector

__all__ = ["Collector", "Data", "RowsListener"]
