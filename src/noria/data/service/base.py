"""What the verbs of the room stand on."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from noria.assets import Assets, Change, Changes, EvidenceLog, ProjectClock, StoreSessions
from noria.base.clock import Clock
from noria.base.faults import Faults
from noria.data.below import Histories
from noria.data.records import Commit, Repository
from noria.data.service.hooks import Hooks
from noria.db import Database

if TYPE_CHECKING:
    from noria.data.rows import RowsChange


class RowsListener(Protocol):
    """Hears of new rows inside the transaction that lands them (the online store fills itself this way)."""

    def __call__(self, change: Change, repository: Repository, rows: RowsChange, commit: Commit) -> None: ...


def _locks() -> dict[tuple[int, str], threading.RLock]:
    return defaultdict(threading.RLock)


@dataclass(slots=True, kw_only=True)
class Services:
    """What the room stands on."""

    db: Database
    assets: Assets
    changes: Changes
    sessions: StoreSessions
    evidence: EvidenceLog
    clock: Clock
    event_clock: ProjectClock
    faults: Faults
    home: Path
    hooks: Hooks
    listeners: list[RowsListener] = field(default_factory=list[RowsListener])
    online: list[Callable[[Change, Repository], list[str]]] = field(default_factory=list[Any])
    """Say which endpoints' features are made from a repository."""
    forgetters: list[Callable[[Change, Repository], None]] = field(default_factory=list[Any])
    """Remove what later rooms keep of a repository that is deleted, in the transaction that deletes it."""
    histories: Histories = field(default_factory=Histories)
    """What branches hold, as far as it was asked for."""
    locks: dict[tuple[int, str], threading.RLock] = field(default_factory=_locks)
    """One writer of this process at a time lands on a branch; other processes are met by compare-and-swap."""
