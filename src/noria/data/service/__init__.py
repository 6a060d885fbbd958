"""The room's verbs, one file for each group of them."""

from __future__ import annotations

from noria.data.service.base import RowsListener, Services
from noria.data.service.files import FileVerbs, Status


class Data(FileVerbs):
    """Versioned data. One per workspace; thread-safe."""


__all__ = ["Data", "RowsListener", "Services", "Status"]
