"""The verbs of histories for tables, without those that write rows: what the receiver of a transfer needs."""

from __future__ import annotations

from noria.data.service.history import HistoryVerbs
from noria.data.service.tables.rowhistory import RowHistory


class TableHistory(RowHistory, HistoryVerbs):
    """See ``HistoryVerbs``."""
