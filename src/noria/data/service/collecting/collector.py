"""Collection: reads what is new in a source and commits it, piece by piece, idempotent and resumable."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from threading import Event
from typing import Any

from noria.assets import Assets, Change, Changes, StoreSessions
from noria.assets.records import AssetKind
from noria.base.actor import Actor
from noria.base.clock import Clock
from noria.base.errors import Invalid, NoriaError
from noria.base.ids import CommitId, ProjectId
from noria.data import queries, taken
from noria.data.collectors.protocol import Misfits, Piece, Source
from noria.data.errors import ContractBroken, LinesSetAside, SourceFailed
from noria.data.records import MAIN, QuarantineState, Repository, RepositoryKind
from noria.data.service import Data
from noria.data.service.collecting.folders import FolderCollector
from noria.data.service.collecting.ledger import Before, Ledger, TakenError
from noria.data.service.collecting.opening import Sources
from noria.data.service.collecting.runs import CollectionRuns
from noria.data.service.collecting.sources import Collected, SourceSpec, spec_from
from noria.data.service.collecting.watch import Watch
from noria.db import Database


class Collector:
    """One per workspace."""

    def __init__(
        self,
        db: Database,
        data: Data,
        sessions: StoreSessions,
        assets: Assets,
        changes: Changes,
        clock: Clock,
        root: Path,
        cache: Path,
        environment: Mapping[str, str],
    ) -> None:
        self._data = data
        self._sessions = sessions
        self._root = root
        self._runs = CollectionRuns(db, assets, changes)
        self._sources = Sources(data, root, cache, environment)
        self.ledger = Ledger(db, data, changes)
        self.folders = FolderCollector(data, sessions, self._runs, clock, root, self._sources.downloads, environment)

    def collect(
        self,
        repository: Repository,
        spec: SourceSpec,
        *,
        actor: Actor,
        branch: str = MAIN,
        advance: Callable[..., None] | None = None,
        settle: float | None = None,
        only: Collection[Path] | None = None,
    ) -> Collected:
        """Commits what is new. A batch that its contract refuses is set aside, and the rest goes on.

        Interrupted and called again, it goes on after the last piece that landed: the mark of a piece is written in
        the transaction of its commit. Where nothing is new it leaves no run and writes nothing.

        Args:
            settle: seconds after which a last line without an end counts as one; default: at once for a file that is
                new, two seconds for one that grew.
            only: of files, the full paths of those that are looked at.

        Raises:
            SourceFailed: the source cannot be read.
        """
        if repository.kind != RepositoryKind.TABLE:
            self._data.get(repository.project_id, repository.name, RepositoryKind.TABLE)
        source = self._sources.open(
            lambda: repository, bool(repository.key), spec, branch, settle=settle, only=only, advance=advance
        )
        return self._collect(repository, spec, source, actor, branch, advance)

    def _collect(
        self,
        repository: Repository,
        spec: SourceSpec,
        source: Source,
        actor: Actor,
        branch: str,
        advance: Callable[..., None] | None,
    ) -> Collected:
        done = Collected()
        with self._runs.ending(done):
            try:
                while not self._take(repository, source, spec, actor, branch, advance, done):
                    pass
                done.held = self.ledger.held(repository, done.waiting)
            except NoriaError:
                self._runs.begin(repository, actor, done)  # that it failed is worth a run
                raise
        return done

    def collect_from(
        self,
        project_id: ProjectId,
        name: str,
        spec: SourceSpec,
        *,
        actor: Actor,
        key: tuple[str, ...] = (),
        time: str | None = None,
        known: str | None = None,
        folder: bool = False,
        branch: str = MAIN,
        advance: Callable[..., None] | None = None,
    ) -> Collected:
        """Collects from a source that no project declares; only its marks are remembered.

        Args:
            name: of a repository; it is made where there is none and the source has something, with ``key``, ``time``
                and ``known``.
            folder: the files are kept as they are, in a repository of files.

        Raises:
            SourceFailed: the source cannot be read, or lacks a column of the key; a repository that is new is not made.
        """
        if folder and spec.files is None:
            raise Invalid(f"{name} is a repository of files: it takes a folder or a prefix of a bucket.")
        found, source = self._data.find(project_id, name), None
        if found is None:
            if branch != MAIN:
                raise Invalid(f"There is no repository {name!r} with a branch {branch!r}.", hint="Leave out --branch.")
            if folder:
                there = self._sources.is_something(spec.files or "")
            else:
                source = self._sources.begun(project_id, name, spec, key=key, time=time, known=known, advance=advance)
                there = source is not None
            if not there:
                return Collected(notes=[f"The source has nothing yet; {name} was not made."])
        if found is None or key or time or known or (folder and found.kind != RepositoryKind.FILES):
            kind = RepositoryKind.FILES if folder else RepositoryKind.TABLE
            how: dict[str, Any] = {"key": key, "time": time, "known": known}
            found = self._data.ensure(project_id, name, kind, actor=actor, asset_kind=AssetKind.SOURCE, **how)
        if found.kind == RepositoryKind.TABLE:
            if source is None:
                source = self._sources.open(lambda: found, bool(found.key), spec, branch, advance=advance)
            return self._collect(found, spec, source, actor, branch, advance)
        if spec.files is None:
            raise Invalid(f"{name} is a repository of files: it takes a folder or a prefix of a bucket.")
        return self.folders.collect(found, spec.files, actor=actor, branch=branch, advance=advance)

    def watch(
        self,
        repository: Repository,
        place: str,
        *,
        actor: Actor,
        branch: str = MAIN,
        every: float = 2.0,
        once: bool = False,
        stop: Event | None = None,
        tell: Callable[[Collected | NoriaError], None] | None = None,
    ) -> None:
        """Takes what comes into a folder, a pattern of files or of objects, until ``stop`` is set.

        A file is taken when it stood still from one look to the next. Of a CSV or JSON-lines file that is known, the
        complete lines are taken while it grows.

        Args:
            every: seconds between two looks; longer where a look itself takes long.
            once: ends after everything that stands still is taken.
            tell: hears of each collection that did something, and of errors that the next look may not meet.
        """
        how = (repository, self._root, place, branch, actor)
        watch = Watch(self.collect, self.folders, self.ledger, self._data, self._sessions, *how)
        watch.run(every=every, once=once, stop=stop or Event(), tell=tell)

    def _take(
        self,
        repository: Repository,
        source: Source,
        spec: SourceSpec,
        actor: Actor,
        branch: str,
        advance: Callable[..., None] | None,
        done: Collected,
    ) -> bool:
        """Commits every piece; False where somebody else collects the source too and was faster: look again."""
        done.refused.clear()
        done.notes.clear()
        marks = self.ledger.marks(repository, branch)
        seen, done.waiting = self.ledger.seen(repository, branch, marks)
        for piece in source.pieces(seen):
            try:
                before = {source: marks.get(source) for source in piece.marks}
                self._land(repository, piece, before, spec, branch, actor, done)
            except TakenError:
                return False
            if piece.note is not None:
                done.notes.append(piece.note)
            done.waiting = [name for name in done.waiting if name not in piece.marks]
            if done.refused and spec.watermark is not None:
                break  # a watermark never moves past rows that did not land
            marks.update(piece.marks)
            if advance is not None and spec.files is None:
                advance(1)
        return True

    def pending_files(self, repository: Repository, pattern: str) -> list[str]:
        """Which files or objects a collection would read, and why, in words. Nothing is written."""
        seen, _ = self.ledger.seen(repository, MAIN, self.ledger.marks(repository))
        return self._sources.pending(pattern, seen)

    def _land(
        self,
        repository: Repository,
        piece: Piece,
        before: Before,
        spec: SourceSpec,
        branch: str,
        actor: Actor,
        done: Collected,
    ) -> None:
        if piece.frame is None:
            self.ledger.mark_alone(repository, branch, piece, before, actor)
            return
        run_id = self._runs.begin(repository, actor, done)
        if piece.misfits is not None:
            # First: where the process dies in between they come again, and are the same batch.
            self._set_aside(repository, piece, piece.misfits, spec, branch, actor, done)
            if not len(piece.frame):
                self.ledger.mark_alone(repository, branch, piece, before, actor)
                return
        made = ""

        def mark(change: Change) -> None:
            nonlocal made
            conn = change.tx.conn
            _, landed = queries.head(conn, repository.id, branch)
            assert landed is not None
            stood = queries.commit(conn, landed.parents[0]) if landed.parents else None
            self.ledger.check(conn, repository, branch, stood, before)
            if piece.whole and stood is not None:
                holds = self._data.holds(conn, repository, branch, stood)
                found = taken.by_hand(conn, repository.id, holds, stood.generation)
                if found is not None:
                    raise _would_lose(repository, piece, *found)
            self.ledger.mark(change, repository, branch, piece, landed)
            made = landed.id

        try:
            commit = self._data.append(
                repository,
                piece.frame,
                actor=actor,
                branch=branch,
                message=f"collected {piece.source}",
                mode="overwrite" if piece.whole else spec.mode,
                meta={"source": piece.meta},
                run_id=run_id,
                source=piece.source,
                also=mark,
            )
        except ContractBroken as refused:
            refused.details["source"] = piece.source
            done.refused.append(refused)
            if spec.watermark is None:  # a watermark never moves past rows that did not land
                self.ledger.mark_refused(repository, branch, piece, before, refused.details["quarantine"], actor)
            return
        except Invalid as error:  # say which piece it was
            raise SourceFailed(f"{piece.source}: {error.message}", hint=error.hint, details=error.details) from error
        if commit.id != made:  # nothing new in it
            self.ledger.mark_alone(repository, branch, piece, before, actor, commit)
            return
        done.commits.append(commit)
        done.rows += commit.stats["added"] + commit.stats["updated"]

    def _set_aside(
        self,
        repository: Repository,
        piece: Piece,
        misfits: Misfits,
        spec: SourceSpec,
        branch: str,
        actor: Actor,
        done: Collected,
    ) -> None:
        """Keeps lines that do not fit the table; tells of them unless that was decided before.

        They are offered as the others are written, but never in the place of these.
        """
        mode = "insert" if spec.mode == "insert" else "append"
        first = min((row["line"] for finding in misfits.report for row in finding.rows), default=None)
        batch = self._data.set_aside(
            repository, branch, misfits.rows, misfits.report, actor, piece.source, mode, line=first
        )
        if batch.state == QuarantineState.OPEN:
            about = (piece.source, misfits.count, misfits.lines, batch.report)
            done.refused.append(LinesSetAside(repository.name, *about, batch.id))


def _would_lose(repository: Repository, piece: Piece, commit: CommitId, message: str) -> SourceFailed:
    said = f" ({message:.80})" if message else ""
    return SourceFailed(
        f"{piece.source} changed. {repository.name} has no key, so its rows would be made anew from the source, "
        f"without what the commit {commit[:12]}{said} did, which no collection made. Nothing was changed.",
        hint='Give the source a key, under another name: key="COLUMN"; or keep the appended rows in a repository of '
        "their own.",
        details={"repository": repository.name, "source": piece.source, "commit": commit},
    )


__all__ = ["Collected", "Collector", "SourceSpec", "spec_from"]
