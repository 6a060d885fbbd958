"""Calls hooks: those of this workspace object in place, those of the applied project in a process of their own.

Before a commit, outside of any transaction: a hook may take its time. After it, an event that was written with the
commit is delivered, at least once; a hook that fails then is called again, and at last given up and kept as such.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from noria.assets import Change, Changes
from noria.assets.records import Event
from noria.base.actor import Actor
from noria.base.digest import Digest
from noria.base.errors import Invalid, NoriaError
from noria.base.ids import ProjectId
from noria.data import hooks as h
from noria.data.errors import HookFailed, HookRefused
from noria.data.hooks import AppliedHook, HookChange
from noria.data.pathchange import path_change
from noria.data.records import Commit, PathChange, Repository, RepositoryKind
from noria.db import Tx
from noria.store import EntryKind, ObjectStore, files, folders, tree

if TYPE_CHECKING:
    import polars as pl

    from noria.data.rows import RowsChange

DUE = "hooks.due"
"""The event that says which hooks have to be called after a commit; and the name of its subscriber."""


class ProjectHooks(Protocol):
    """The hooks of the applied project; they live in a room above, which runs users' code in a process of its own."""

    def find(self, project_id: ProjectId, tx: Tx | None = None) -> list[AppliedHook]: ...

    def run(self, hook: AppliedHook, change: HookChange) -> None:
        """Calls a hook.

        Raises:
            NoriaError: it raised; with what it said.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Own:
    """A hook that was added by hand."""

    event: str
    function: Callable[[HookChange], Any]
    on: tuple[str, ...]
    branch: str

    @property
    def name(self) -> str:
        return getattr(self.function, "__name__", "?")


class Hooks:
    """One per workspace object."""

    def __init__(self, store: Callable[[], ObjectStore], changes: Changes, project: ProjectHooks | None = None) -> None:
        self._store = store
        self._changes = changes
        self._project = project
        self._own: list[_Own] = []

    def add(self, event: str, function: Callable[[HookChange], Any], *, on: Any = "*", branch: str = "*") -> None:
        """Calls ``function`` for changes through this workspace object, until it is closed (for notebooks).

        Args:
            event: ``before-commit``, ``after-commit``, ``before-merge`` or ``after-merge``.
            on: repository, or several; wildcards are allowed. ``branch``: the same for branches.
        """
        self._own.append(_Own(h.check_event(event), function, h.names_of(on), branch))

    def remove(self, function: Callable[[HookChange], Any]) -> None:
        """Calls it no more."""
        self._own = [one for one in self._own if one.function is not function]

    def applied(self, project_id: ProjectId, tx: Tx | None = None) -> list[AppliedHook]:
        """The hooks of the project that was applied last."""
        return [] if self._project is None else self._project.find(project_id, tx)

    # ---- before

    def before(
        self,
        repository: Repository,
        branch: str,
        head: Commit | None,
        layout: Digest,
        rows: RowsChange | None,
        *,
        merge: bool,
        actor: Actor,
        message: str,
        meta: dict[str, Any],
        stats: dict[str, int],
    ) -> None:
        """Asks every hook whether a change may land.

        Raises:
            HookRefused: one of them raised.
        """
        event = h.BEFORE_MERGE if merge else h.BEFORE_COMMIT
        own = [one for one in self._own if one.event == event and h.fits(one.on, one.branch, repository.name, branch)]
        applied = [one for one in self.applied(repository.project_id) if one.fits(event, repository.name, branch)]
        if not own and not applied:
            return
        value = _described(event, repository, branch, actor.name, message, meta, stats, None)
        change = _visible(self._store(), value, repository, None if head is None else head.layout, layout, rows)
        for one in own:
            try:
                one.function(change)
            except Exception as error:
                raise HookRefused(one.name, event, repository.name, branch, *_said(error)) from error
        for one in applied:
            assert self._project is not None
            try:
                self._project.run(one, change)
            except NoriaError as error:
                raise HookRefused(one.name, event, repository.name, branch, error.message, error.hint) from error

    # ---- after

    def after(self, change: Change, repository: Repository, branch: str, commit: Commit, *, merge: bool) -> None:
        """Inside the transaction of a commit: writes down which hooks it has to be told to."""
        event = h.AFTER_MERGE if merge else h.AFTER_COMMIT
        own = [one for one in self._own if one.event == event and h.fits(one.on, one.branch, repository.name, branch)]
        due = [
            one for one in self.applied(repository.project_id, change.tx) if one.fits(event, repository.name, branch)
        ]
        if not own and not due:
            return
        author, message, meta, stats = commit.author, commit.message, commit.meta, commit.stats
        value = _described(event, repository, branch, author, message, meta, stats, commit.id)
        if due:
            change.event(DUE, repository.name, {"hooks": [one.name for one in due], "change": value})
        if own:
            change.tx.after_commit(partial(self._tell, own, value, repository.project_id, change.actor))

    def _tell(self, own: list[_Own], value: dict[str, Any], project_id: ProjectId, actor: Actor) -> None:
        for one in own:
            try:
                one.function(HookChange(value))
            except Exception as error:  # noqa: BLE001 - the commit has landed: a hook can change nothing of it
                self._failed(one.name, value, _said(error)[0], project_id, actor)

    def _failed(self, name: str, value: dict[str, Any], said: str, project_id: ProjectId, actor: Actor) -> None:
        with self._changes.begin("data.hook", project_id, actor) as change:
            what = {"hook": name, "event": value["event"], "commit": value["commit"], "error": said[:2000]}
            change.note(value["repository"], **what)
            change.event("hook.failed", value["repository"], what)

    def deliver(self, event: Event) -> None:
        """Calls the hooks of the project that an event names; called again where one of them failed.

        Raises:
            HookFailed: one did not end well; those behind it were called.
        """
        known = {one.name: one for one in self.applied(event.project_id)}
        value = event.payload["change"]
        failed: list[str] = []
        for name in event.payload["hooks"]:
            hook = known.get(name)
            if hook is None or self._project is None:
                continue  # another project was applied since, and it has no such hook
            try:
                self._project.run(hook, HookChange(value))
            except NoriaError as error:
                failed.append(f"{name}: {error.message}")
        if failed:
            raise HookFailed("; ".join(failed), hint=f"It is tried again. Commit {value['commit'][:12]} has landed.")


def _described(
    event: str,
    repository: Repository,
    branch: str,
    author: str,
    message: str,
    meta: dict[str, Any],
    stats: dict[str, int],
    commit: str | None,
) -> dict[str, Any]:
    return {
        "event": event,
        "repository": repository.name,
        "kind": repository.kind.value,
        "branch": branch,
        "author": author,
        "message": message,
        "meta": meta,
        "stats": stats,
        "commit": commit,
    }


def _visible(
    store: ObjectStore,
    value: dict[str, Any],
    repository: Repository,
    before: Digest | None,
    after: Digest,
    rows: RowsChange | None,
) -> HookChange:
    """A change with what it holds, which is read when the hook asks for it."""
    if repository.kind == RepositoryKind.TABLE:
        if rows is None:
            return HookChange(value)
        return HookChange(value, rows=lambda: _shown(rows.new_rows), old_rows=lambda: _shown(rows.old_rows))

    def paths() -> list[PathChange]:
        return [path_change(one) for one in tree.diff(store, before, after)]

    def read(path: str) -> BinaryIO:
        entry = tree.find(store, after, path)
        if entry is None or entry.kind != EntryKind.FILE:
            raise Invalid(f"There is no file {path!r:.200} in this change.", hint="change.paths lists what there is.")
        if entry.content is not None:
            return files.open_file(store, entry.content)
        import io

        return io.BytesIO(folders.entry_bytes(store, entry))

    return HookChange(value, paths=paths, read=read)


def _shown(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.select([name for name in frame.columns if not name.startswith("__")])


def _said(error: Exception) -> tuple[str, str]:
    """What a hook said, and the line that said it."""
    if isinstance(error, NoriaError):
        return error.message, error.hint
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}: {frames[-1].line}" if frames else ""
    return f"{type(error).__name__}: {error}", place
