"""From two trees to what a person is told of them."""

from __future__ import annotations

from noria.data.records import PathChange
from noria.store import tree


def path_change(change: tree.Change) -> PathChange:
    kind = "added" if change.before is None else "removed" if change.after is None else "changed"
    before = 0 if change.before is None else change.before.size
    after_ = 0 if change.after is None else change.after.size
    return PathChange(path=change.path, kind=kind, size_before=before, size_after=after_)
