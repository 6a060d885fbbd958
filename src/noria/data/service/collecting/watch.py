"""Watching a folder: what came in is taken when it stands still.

By looking again and again (``scandir`` and ``stat``), not by messages of the system: that works on every file system,
network shares and containers too, needs no package, and what happened while nobody watched is found the same way.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Final, Protocol

from noria.base.actor import Actor
from noria.base.errors import Invalid, NoriaError, NotFound
from noria.data.collectors import lines
from noria.data.collectors.files import find, no_folder
from noria.data.errors import SourceFailed
from noria.data.ignoring import Ignored
from noria.data.records import Commit, Repository, RepositoryKind
from noria.data.service.collecting.sources import Collected, SourceSpec
from noria.store import Entry, Writer, folders, tree
from noria.store.buckets import is_bucket_url
from noria.store.errors import FileChanged

if TYPE_CHECKING:
    from noria.assets import StoreSessions
    from noria.data.service import Data
    from noria.data.service.collecting.folders import FolderCollector
    from noria.data.service.collecting.ledger import Ledger

OPEN_END: Final = 60.0
"""Seconds after which the last line of a watched file counts as complete without an end."""
_STARVING: Final = 5
"""Looks after which the complete lines of a new file are taken although it never stands still."""
_SHARE: Final = 5
"""A look takes at most a fifth of the time."""

Tell = Callable[[Collected | NoriaError], None]
_Seen = tuple[int, int, int]


class Collect(Protocol):
    """``Collector.collect``, as far as a watch needs it."""

    def __call__(
        self,
        repository: Repository,
        spec: SourceSpec,
        *,
        actor: Actor,
        branch: str,
        settle: float | None = None,
        only: Collection[Path] | None = None,
    ) -> Collected: ...


@dataclass(slots=True)
class _State:
    """What was seen at the last look, and what of it is taken."""

    seen: dict[str, _Seen] = field(default_factory=dict[str, _Seen])
    taken: dict[str, _Seen] = field(default_factory=dict[str, _Seen])
    restless: dict[str, int] = field(default_factory=dict[str, int])


class Watch:
    """One watched place and one repository."""

    def __init__(
        self,
        collect: Collect,
        folders: FolderCollector,
        ledger: Ledger,
        data: Data,
        sessions: StoreSessions,
        repository: Repository,
        root: Path,
        place: str,
        branch: str,
        actor: Actor,
    ) -> None:
        self._collect = collect
        self._folders = folders
        self._ledger = ledger
        self._data = data
        self._sessions = sessions
        self._repository = repository
        self._root = root
        self._place = place
        self._branch = branch
        self._actor = actor
        self._state = _State()
        self._known: tuple[str, set[str]] = ("", set())
        self._stood: Commit | None = None
        """A commit that holds all that was taken."""

    def run(self, *, every: float, once: bool, stop: Event, tell: Tell | None) -> None:
        if not 0.05 <= every <= 86_400:
            raise Invalid(f"Looking every {every} seconds is not possible.", hint="--every 2s")
        last_error, last_notes = "", list[str]()
        while True:
            began = time.monotonic()
            waits = False
            try:
                done, waits = self._look()
                last_error = ""
                if tell is not None and (done.commits or done.refused or done.notes not in ([], last_notes)):
                    tell(done)
                last_notes = done.notes
            except NoriaError as error:
                if once:
                    raise
                if tell is not None and error.message != last_error:
                    tell(error)
                last_error = error.message
            if once and not waits:
                return
            if stop.wait(max(every, _SHARE * (time.monotonic() - began))):
                return

    def _look(self) -> tuple[Collected, bool]:
        """(what was taken, whether something waits to stand still)."""
        if is_bucket_url(self._place):  # objects appear whole
            return self._all(self._place), False
        if not self._went_on(self._stood, self._data.head(self._repository, self._branch)):
            self._state.taken.clear()  # it was reset, or commits were dropped: what they held may be missing
        return self._rows() if self._repository.kind == RepositoryKind.TABLE else self._files()

    def _went_on(self, before: Commit | None, head: Commit | None) -> bool:
        return self._ledger.went_on(self._repository, self._branch, before, head)

    def _stands(self, head: Commit | None) -> None:
        """After a look, before it is said what was taken: the branch may have been reset during the look, too."""
        if not self._went_on(self._stood, head):
            self._state.taken.clear()
        self._stood = head

    def _all(self, place: str) -> Collected:
        if self._repository.kind == RepositoryKind.TABLE:
            spec = SourceSpec(files=place)
            return self._collect(self._repository, spec, actor=self._actor, branch=self._branch)
        return self._folders.collect(self._repository, place, actor=self._actor, branch=self._branch)

    # ---- tables

    def _rows(self) -> tuple[Collected, bool]:
        state = self._state
        missing = no_folder(self._root, self._place)
        if missing is not None:
            raise SourceFailed(f"There is no folder {missing}.", hint="Give the folder that the files come into.")
        paths = {str(path): path for path in find(self._root, self._place)}
        now = {name: _seen(path.stat()) for name, path in paths.items()}
        due = {name for name in now if state.taken.get(name) != now[name]}
        if not due:
            state.seen = now
            return Collected(notes=[] if now else [f"Nothing fits {self._place!r} yet."]), False
        still = {name for name in due if state.seen.get(name) == now[name] or _old(now[name])}
        growing = {name for name in due - still if self._may_grow(name, paths[name])}
        state.seen = now
        ready = still | growing
        if not ready:
            return Collected(), True
        done, failed = self._take({paths[name] for name in ready})
        head, marks = self._ledger.stands(self._repository, self._branch)
        self._stands(head)
        for name in still:
            size, mtime_ns, _ = now[name]
            mark = marks.get(self._source(paths[name]))
            if (head is None) if mark is None else self._ledger.covers(mark, size, mtime_ns):
                state.taken[name] = now[name]
        if failed is not None:  # not read again before it changed
            name = failed.details["path"]
            state.taken[name] = now[name]
            raise failed
        return done, bool(due - still)

    def _take(self, ready: set[Path]) -> tuple[Collected, NoriaError | None]:
        """Takes these files; one that cannot be read is told, and does not hold up the others."""
        spec = SourceSpec(files=self._place)
        how: dict[str, Any] = {"actor": self._actor, "branch": self._branch, "settle": OPEN_END}
        try:
            return self._collect(self._repository, spec, only=ready, **how), None
        except NoriaError as error:
            bad = Path(error.details.get("path", ""))
            if bad not in ready:
                raise
            rest = ready - {bad}
            return (self._take(rest)[0] if rest else Collected()), error

    def _may_grow(self, name: str, path: Path) -> bool:
        """Whether complete lines may be taken although the file does not stand still."""
        self._state.restless[name] = self._state.restless.get(name, 0) + 1
        if not lines.grows(name):
            return False
        known = self._source(path) in self._ledger.marks(self._repository, self._branch)
        return known or self._state.restless[name] >= _STARVING

    def _source(self, path: Path) -> str:
        shown = path.relative_to(self._root).as_posix() if path.is_relative_to(self._root) else str(path)
        return f"file:{shown}"

    # ---- files

    def _files(self) -> tuple[Collected, bool]:
        folder = self._root / self._place
        if not folder.is_dir():
            raise SourceFailed(f"{folder} is not a folder.", hint="Give the folder that holds the files.")
        state = self._state
        head = self._data.head(self._repository, self._branch)
        now = dict(_scan(folder, self._ignored(folder, head)))
        due = [path for path in now if state.taken.get(path) != now[path]]
        still = [path for path in due if state.seen.get(path) == now[path] or _old(now[path])]
        gone = self._gone(head, now, set(due) - set(still))
        state.seen = now
        if not still and not gone:
            return Collected(), len(still) < len(due)
        notes: list[str] = []
        moved: set[str] = set()

        def changes(writer: Writer) -> dict[str, Entry | None]:
            notes.clear()
            moved.clear()
            made: dict[str, Entry | None] = dict.fromkeys(gone)
            for path in sorted(still, key=tree.key_of):
                try:
                    entry, _ = folders.read_entry(writer, folder, path)
                except (FileChanged, NotFound, FileNotFoundError):
                    moved.add(path)
                except (Invalid, OSError) as error:
                    notes.append(error.message if isinstance(error, NoriaError) else f"{path}: {error.strerror}")
                else:
                    made[path] = entry
            return made

        meta = {"kind": "folder", "path": str(folder)}
        done = self._folders.commit_entries(
            self._repository,
            changes,
            actor=self._actor,
            branch=self._branch,
            meta=meta,
            message=f"collected {self._place}",
        )
        done.notes += notes
        head = self._data.head(self._repository, self._branch)
        self._stands(head)
        if self._went_on(done.commits[-1] if done.commits else done.met, head):
            state.taken.update((path, now[path]) for path in still if path not in moved)
        for path in gone:
            state.taken.pop(path, None)
        return done, len(still) < len(due) or bool(moved)

    def _ignored(self, folder: Path, head: Commit | None) -> Ignored | None:
        return Ignored.of(folder, self._sessions.store, None if head is None else head.layout)

    def _gone(self, head: Commit | None, now: dict[str, _Seen], restless: set[str]) -> list[str]:
        """Paths of the head that the folder holds no more; hidden ones are nobody's business here.

        None while a new path does not stand still: a file that was moved is never gone from both places.
        """
        if head is None:
            return []
        if self._known[0] != head.id:
            self._known = head.id, {entry.path for entry in tree.walk(self._sessions.store, head.layout)}
        paths = self._known[1]
        if restless - paths:
            return []
        return [path for path in paths if path not in now and path not in self._state.seen and not _hidden(path)]


def _scan(folder: Path, ignored: Ignored | None) -> Iterator[tuple[str, _Seen]]:
    """What a look sees: files, links and empty folders, without hidden ones and those that are to be ignored."""
    pending = [""]
    while pending:
        prefix = pending.pop()
        listed = folders.list_folder(f"{folder}/{prefix}", prefix, stats=True)
        if listed is None and not prefix:  # taken away since: not a folder in which nothing is left
            raise SourceFailed(f"{folder} is not a folder.", hint="Give the folder that holds the files.")
        if listed is not None and ignored is not None:
            listed = ignored.sift(prefix, listed)
        if listed is None:
            continue
        names, below, odd, numbers = listed
        shown = [place for place, name in enumerate(names) if not name.startswith(".")]
        folders_below = [f"{prefix}{name}/" for name in below if not name.startswith(".")]
        pending += folders_below
        for place in shown:
            size, mtime, _, inode = numbers[4 * place : 4 * place + 4]
            if names[place] not in odd or not _is_pipe(folder / prefix / names[place]):
                yield prefix + names[place], (size, mtime, inode)
        if prefix and not shown and not folders_below:
            found = _stat(folder / prefix)
            if found is not None:
                yield prefix[:-1], _seen(found)


def _is_pipe(path: Path) -> bool:
    """Whether it is a pipe or a socket; or it is gone."""
    found = _stat(path)
    return found is None or stat.S_ISSOCK(found.st_mode) or stat.S_ISFIFO(found.st_mode)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat(follow_symlinks=False)
    except OSError:
        return None  # gone meanwhile


def _hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split("/"))


def _seen(found: os.stat_result) -> _Seen:
    return found.st_size, found.st_mtime_ns, found.st_ino


def _old(seen: _Seen) -> bool:
    """Whether nothing has changed for so long that a second look would tell nothing new."""
    return time.time_ns() - seen[1] > 10_000_000_000
