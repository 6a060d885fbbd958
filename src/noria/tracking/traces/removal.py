"""Traces deleted for good: by people, and with the run that they ran in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from noria.db import Tx
from noria.tracking import shelves
from noria.tracking.records import OwnerKind
from noria.tracking.traces import queries

_FILES: Final = 10_000
"""Files that are deleted together."""
_TRACES: Final = 500


def delete_traces(tx: Tx, found: Sequence[tuple[int, str]]) -> None:
    """Deletes traces (number, id) with their files, spans and assessments."""
    for start in range(0, len(found), _TRACES):
        part = [id for _, id in found[start : start + _TRACES]]
        while shelves.delete_files(tx, OwnerKind.TRACE, part, _FILES) == _FILES:
            pass
    queries.delete_traces(tx, [number for number, _ in found])
