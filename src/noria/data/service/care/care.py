"""What keeps a store healthy: garbage collection, storage used, check and repair."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

from noria.assets import Changes
from noria.assets.gc import Collected, GarbageCollector
from noria.base.actor import Actor
from noria.base.ids import ProjectId
from noria.base.once import Once
from noria.data.records import Repository
from noria.data.service.care.checking import Checked, Checking, Damage, Repaired
from noria.data.service.care.purge import Erase, Erased, Erasure, Purging
from noria.data.service.care.storage import Needs, Storage

_GC: Final = "store.gc"
_REPAIR: Final = "store.repair"


class Care:
    """One per workspace."""

    def __init__(
        self,
        changes: Changes,
        gc: GarbageCollector,
        checking: Checking,
        storage: Storage,
        purging: Purging,
        project_id: ProjectId,
    ) -> None:
        self._changes = changes
        self._gc = gc
        self._checking = checking
        self._storage = storage
        self._purging = purging
        self._project_id = project_id
        self.fetchers = checking.fetchers
        """Where else objects may lie; asked by ``repair`` for what is lost here. See ``checking.Fetcher``."""

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

    def storage(self, advance: Callable[..., None] | None = None) -> list[Needs]:
        """What each repository of the project needs of the store, in bytes."""
        return self._storage.repositories(self._project_id, advance or _silent)

    def storage_of_commits(self, repository: Repository, advance: Callable[..., None] | None = None) -> list[Needs]:
        """What each commit of a repository needs, newest first."""
        return self._storage.commits(repository, advance or _silent)

    def check(
        self,
        repository: Repository | None = None,
        *,
        full: bool = False,
        advance: Callable[..., None] | None = None,
    ) -> Checked:
        """Does every row have its bytes? Names pack, offset, and the commits and paths that use what is damaged.

        Args:
            repository: only damage that commits of it feel.
            full: read and hash every byte; else the structure, and that every object is there.
        """
        return self._checking.check(full, None if repository is None else repository.id, advance or _silent)

    def repair(self, *, actor: Actor, once: Once | None = None, advance: Callable[..., None] | None = None) -> Repaired:
        """Heals what can be healed and sets damaged packs aside; never makes anything up."""
        earlier: dict[str, Any] | None = self._changes.answered(_REPAIR, self._project_id, once)
        if earlier is not None:
            return Repaired(**{**earlier, "lost": [Damage(**one) for one in earlier["lost"]]})
        done = self._checking.repair(advance or _silent)
        with self._changes.begin(_REPAIR, self._project_id, actor, once=once) as change:
            change.note("store", healed=done.healed, quarantined=done.quarantined, lost=len(done.lost))
            change.answer(asdict(done))
        return done

    def look(self, repository: Repository, what: Erase, advance: Callable[..., None] | None = None) -> Erased:
        """What ``purge`` would take out; changes nothing."""
        return self._purging.look(repository, what, advance or _silent)

    def purge(
        self,
        repository: Repository,
        what: Erase,
        *,
        reason: str,
        actor: Actor,
        wait: float = 60.0,
        once: Once | None = None,
        advance: Callable[..., None] | None = None,
    ) -> Erased:
        """Erases paths or rows from all history of a repository, and their bytes from the store.

        Commits and versions keep their ids, so that history and lineage stay. The erasure is recorded, with its reason
        and never with what was erased. It may be killed anywhere: the same call goes on.

        Args:
            wait: seconds to wait for writers that began before; they may hold something of it. Where they take longer,
                the answer is not ``done``, and the same call again finishes it.

        Raises:
            Invalid: it is not said what to erase, or not why.
        """
        return self._purging.erase(
            repository, what, reason=reason, actor=actor, wait=wait, once=once, step=advance or _silent
        )

    def erasures(self, repository: str | None = None) -> list[Erasure]:
        """What was erased in the project, newest first; also of repositories that were deleted since."""
        return self._purging.erasures(repository, self._project_id)


def _silent(done: float = 1) -> None:
    return
