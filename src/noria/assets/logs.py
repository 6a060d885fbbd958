"""Log files of this machine: one of each run, and one of each process that outlives a command."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from noria.assets import queries
from noria.base.ids import ProjectId, RunId
from noria.db import Tx

LARGEST: Final = 16 << 20
"""A process's log that is larger loses its beginning."""
_KEPT: Final = 1 << 20
_BATCH: Final = 500


def prune_logs(tx: Tx, project_id: ProjectId, folder: Path, before: int) -> int:
    """Removes the logs of runs that ended, last written before this wall time; returns how many files changed.

    Logs of processes are emptied after the same time, and cut to their end where they have grown large: their
    processes have them open, and go on writing at the end.
    """
    old = [path for path in (folder / "runs").glob("*.log") if _written(path) <= before]
    changed = 0
    for start in range(0, len(old), _BATCH):
        batch = old[start : start + _BATCH]
        runs = queries.runs_by_ids(tx.conn, [RunId(path.stem) for path in batch])
        for path in batch:
            run = runs.get(RunId(path.stem))
            if run is None or (run.project_id == project_id and run.ended_at is not None):
                path.unlink(missing_ok=True)
                changed += 1
    for path in folder.glob("*.log"):
        size = path.stat().st_size
        if size and _written(path) <= before:
            os.truncate(path, 0)
            changed += 1
        elif size > LARGEST:
            _cut(path, size)
            changed += 1
    return changed


def _written(path: Path) -> int:
    return path.stat().st_mtime_ns // 1_000_000


def _cut(path: Path, size: int) -> None:
    """Keeps the last whole lines. The file stays the same one: whoever has it open appends to it."""
    with path.open("r+b") as file:
        file.seek(size - _KEPT)
        rest = file.read().partition(b"\n")[2]
        file.seek(0)
        file.write(rest)
        file.truncate()
