"""The room's verbs, one file for each group of them.

``Files`` needs no Polars: commands that touch only files and history start in a third of the time. ``Data`` is all of
it; it is imported when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from noria.data.service.base import RowsListener, Services
from noria.data.service.files import Files, Status

if TYPE_CHECKING:
    from noria.data.service.data import Data


def __getattr__(name: str) -> Any:
    if name == "Data":
        from noria.data.service.data import Data

        return Data
    raise AttributeError(name)


__all__ = ["Data", "Files", "RowsListener", "Services", "Status"]
