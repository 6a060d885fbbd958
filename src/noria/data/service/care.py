"""What keeps a store healthy: collecting garbage, and the record of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Final

from noria.assets import Changes
from noria.assets.gc import Collected, GarbageCollector
from noria.base.actor import Actor
from noria.base.ids import ProjectId
from noria.base.once import Once

_GC: Final = "store.gc"


class Care:
    """One per workspace."""

    def __init__(self, changes: Changes, gc: GarbageCollector, project_id: ProjectId) -> None:
        self._changes = changes
        self._gc = gc
        self._project_id = project_id

    def collect(
        self,
        *,
        dry_run: bool = True,
        wait: float = 0.0,
        actor: Actor,
        once: Once | None = None,
        advance: Callable[..., None] | None = None,
    ) -> Collected:
        """Removes what nothing in any project of the workspace needs; a dry run only says what would go.

        Args:
            wait: seconds to wait for writers that began before.

        Raises:
            StoreDamaged: something that is needed cannot be read; nothing was removed.
        """
        earlier = self._changes.answered(_GC, self._project_id, once)
        if earlier is not None:
            return Collected(**earlier)
        done = self._gc.run(dry_run=dry_run, wait=wait, advance=advance)
        if not dry_run:
            with self._changes.begin(_GC, self._project_id, actor, once=once) as change:
                change.note("store", removed=done.removed, bytes=done.removed_bytes, waiting=done.waiting)
                change.answer(asdict(done))
        return done
