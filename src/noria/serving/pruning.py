"""What happens to capture segments when their time is over."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from sqlalchemy import delete, select

from noria.db import Tx
from noria.serving import segments
from noria.serving import tables as t
from noria.serving.errors import SegmentDamaged


def prune_segments(tx: Tx, folder: Path, before: int) -> int:
    """Removes segments that were taken over as a whole before this wall time; returns how many.

    How far a segment was taken is known for as long as its file is there, so it is never taken again. One that a
    worker writes to, that is damaged, or that holds something nobody took is kept, however old.
    """
    rows = tx.execute(select(t.capture_segments.c.name, t.capture_segments.c.taken, t.capture_segments.c.updated_at))
    marks = {row.name: row for row in rows}
    there = {path.name: path for path in folder.glob("*.seg")}
    removed = 0
    for name, path in sorted(there.items()):
        mark = marks.get(name)
        end = len(segments.HEADER) if mark is None else mark.taken  # one without a record was never marked
        since = path.stat().st_mtime_ns // 1_000_000 if mark is None else mark.updated_at
        if since <= before and _remove(path, end):
            removed += 1
            del there[name]
    gone = [name for name, mark in marks.items() if name not in there and mark.updated_at <= before]
    for start in range(0, len(gone), 500):
        tx.execute(delete(t.capture_segments).where(t.capture_segments.c.name.in_(gone[start : start + 500])))
    return removed


def _remove(path: Path, end: int) -> bool:
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # A worker writes the header under its lock: without one, the file is being made just now.
        if os.fstat(handle).st_size < len(segments.HEADER) or next(segments.read(path, end), None) is not None:
            return False
        path.unlink()
    except (BlockingIOError, SegmentDamaged):
        return False  # its worker lives; or somebody will look into it
    finally:
        os.close(handle)
    return True
