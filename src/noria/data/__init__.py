"""Versioned data: repositories of files and of tables, with branches, commits, contracts and collectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from noria.data.service.base import RowsListener
    from noria.data.service.collecting.collector import Collector
    from noria.data.service.data import Data
    from noria.data.service.files import Files

_PLACES = {
    "Collector": "noria.data.service.collecting.collector",
    "Data": "noria.data.service.data",
    "Files": "noria.data.service.files",
    "RowsListener": "noria.data.service.base",
}


def __getattr__(name: str) -> Any:
    """Imports what is asked for: files and history need no Polars."""
    import importlib

    if name not in _PLACES:
        raise AttributeError(name)
    return getattr(importlib.import_module(_PLACES[name]), name)


__all__ = ["Collector", "Data", "Files", "RowsListener"]
