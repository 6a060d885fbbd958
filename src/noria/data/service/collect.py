"""Collection: reads what is new in a source and commits it, piece by piece, idempotent and resumable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from noria.assets import Assets, Change, Changes
from noria.assets.records import RunState
from noria.base.actor import Actor
from noria.base.clock import Clock
from noria.base.errors import Invalid, NoriaError
from noria.base.ids import RunId
from noria.data import queries
from noria.data import tables as t
from noria.data.collectors import FileSource, SqlSource, UrlSource
from noria.data.collectors.protocol import Piece, Source
from noria.data.errors import ContractBroken, SourceFailed
from noria.data.records import MAIN, Commit, Repository, RepositoryKind
from noria.data.service import Data
from noria.db import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSpec:
    """Where a source's rows come from; secrets are resolved already.

    Attributes:
        files: a pattern below the project's root, or a folder.
        sql, url: a query and the database's URL; ``url`` alone is a file behind HTTP.
        watermark: of an SQL source, a column that grows.
        mode: ``append``, or ``overwrite`` where each reading is the whole table.
    """

    files: str | None = None
    sql: str | None = None
    url: str | None = None
    watermark: str | None = None
    checksum: str | None = None
    mode: str = "append"


@dataclass(slots=True, kw_only=True)
class Collected:
    """What a collection did.

    Attributes:
        refused: batches that lie in quarantine; ``details["source"]`` says where each came from.
        run_id: the collection's run; None where nothing was new.
    """

    commits: list[Commit] = field(default_factory=list[Commit])
    rows: int = 0
    refused: list[ContractBroken] = field(default_factory=list[ContractBroken])
    run_id: RunId | None = None


_HAPPENED = {"added": "is new", "changed": "changed", "removed": "is gone"}


class TakenError(Exception):
    """Another collection landed this piece since its mark was read: the transaction rolls back."""


class Collector:
    """One per workspace."""

    def __init__(
        self, db: Database, data: Data, assets: Assets, changes: Changes, clock: Clock, root: Path, cache: Path
    ) -> None:
        self._db = db
        self._data = data
        self._assets = assets
        self._changes = changes
        self._clock = clock
        self._root = root
        self._cache = cache

    def collect(
        self,
        repository: Repository,
        spec: SourceSpec,
        *,
        actor: Actor,
        branch: str = MAIN,
        advance: Callable[..., None] | None = None,
    ) -> Collected:
        """Commits what is new. A batch that its contract refuses is set aside, and the rest goes on.

        Interrupted and called again, it goes on after the last piece that landed: the mark of a piece is written in
        the transaction of its commit. Where nothing is new it leaves no run and writes nothing.
        """
        done = Collected()
        error: NoriaError | None = None
        try:
            while not self._take(repository, spec, actor, branch, advance, done):
                pass
        except NoriaError as failed:
            error = failed
            self._begin(repository, actor, done)
        except BaseException as broken:  # interrupted, or a bug: nothing stays running
            if done.run_id is not None:
                state = RunState.CANCELLED if isinstance(broken, KeyboardInterrupt) else RunState.FAILED
                plain = {"code": "interrupted", "message": str(broken) or type(broken).__name__}
                with self._db.write() as tx:
                    self._assets.end_run(tx, done.run_id, state, error=plain)
            raise
        if done.run_id is not None:
            state = RunState.FAILED if error is not None else RunState.DONE
            with self._db.write() as tx:
                self._assets.end_run(tx, done.run_id, state, error=None if error is None else error.as_dict()["error"])
        if error is not None:
            raise error
        return done

    def _take(
        self,
        repository: Repository,
        spec: SourceSpec,
        actor: Actor,
        branch: str,
        advance: Callable[..., None] | None,
        done: Collected,
    ) -> bool:
        """Commits every piece; False where somebody else collects the source too and was faster: look again."""
        done.refused.clear()
        marks = self._marks(repository)
        for piece in self._source(spec, keyed=bool(repository.key)).pieces(dict(marks)):
            try:
                before = {source: marks.get(source) for source in piece.marks}
                self._land(repository, piece, before, spec, branch, actor, done)
            except TakenError:
                return False
            if done.refused and spec.watermark is not None:
                break  # a watermark never moves past rows that did not land
            marks.update(piece.marks)
            if advance is not None:
                advance(1)
        return True

    def pending_files(self, repository: Repository, pattern: str) -> list[str]:
        """Which files a collection would read, and why, in words. Nothing is written."""
        return FileSource(self._root, pattern).pending(self._marks(repository))

    def collect_folder(
        self, repository: Repository, folder: Path, *, actor: Actor, branch: str = MAIN, message: str = ""
    ) -> Collected:
        """Commits a folder of files as it is now; no commit where it is as it was."""
        if repository.kind != RepositoryKind.FILES:
            self._data.get(repository.project_id, repository.name, RepositoryKind.FILES)
        meta = {"source": {"kind": "folder", "path": str(folder)}}
        head = self._data.head(repository, branch)
        commit = self._data.commit(repository, folder, actor=actor, branch=branch, message=message, meta=meta)
        return Collected(commits=[] if head is not None and head.id == commit.id else [commit])

    def pending_folder(self, repository: Repository, folder: Path) -> list[str]:
        """What of a folder differs from what was committed, in words."""
        return [f"{c.path} {_HAPPENED[c.kind]}" for c in self._data.status(repository, folder).changes]

    def _begin(self, repository: Repository, actor: Actor, done: Collected) -> RunId:
        """The run of a collection; it begins with the first thing there is to say."""
        if done.run_id is None:
            with self._changes.begin("data.collect", repository.project_id, actor) as change:
                name, project_id = f"collect {repository.name}", repository.project_id
                run = self._assets.start_run(change.tx, project_id, kind="collection", name=name, actor=actor)
                change.note(repository.name, run=run.id)
            done.run_id = run.id
        return done.run_id

    def _land(
        self,
        repository: Repository,
        piece: Piece,
        before: dict[str, dict[str, Any] | None],
        spec: SourceSpec,
        branch: str,
        actor: Actor,
        done: Collected,
    ) -> None:
        if piece.frame is None:
            self._mark_alone(repository, piece, actor)
            return
        run_id = self._begin(repository, actor, done)
        head = self._data.head(repository, branch)

        def mark(change: Change) -> None:
            found = queries.marks(change.tx.conn, repository.id)
            if any(found.get(source) != seen for source, seen in before.items()):
                raise TakenError
            if piece.whole and queries.appended(change.tx.conn, repository.id):
                raise _would_lose(repository, piece)
            self._mark(change, repository, piece)

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
            return
        except Invalid as error:  # say which piece it was
            raise SourceFailed(f"{piece.source}: {error.message}", hint=error.hint, details=error.details) from error
        if head is not None and commit.id == head.id:  # nothing new in it
            self._mark_alone(repository, piece, actor)
            return
        done.commits.append(commit)
        done.rows += commit.stats["added"] + commit.stats["updated"]

    def _mark_alone(self, repository: Repository, piece: Piece, actor: Actor) -> None:
        with self._changes.begin("data.collect", repository.project_id, actor) as change:
            self._mark(change, repository, piece)
            change.note(repository.name, source=piece.source, rows=0)

    def _mark(self, change: Change, repository: Repository, piece: Piece) -> None:
        for source, mark in piece.marks.items():
            row = {"repository_id": repository.id, "source": source, "mark": mark, "at": change.tx.now_ms}
            change.tx.upsert(t.collected, row, key=["repository_id", "source"])

    def _marks(self, repository: Repository) -> dict[str, dict[str, Any]]:
        with self._db.read() as conn:
            return queries.marks(conn, repository.id)

    def _source(self, spec: SourceSpec, *, keyed: bool) -> Source:
        if spec.files is not None:
            return FileSource(self._root, spec.files, keyed=keyed)
        if spec.sql is not None and spec.url is not None:
            return SqlSource(spec.url, spec.sql, spec.watermark, keyed=keyed)
        if spec.url is not None:
            return UrlSource(spec.url, self._cache / "downloads", spec.checksum, keyed=keyed)
        raise Invalid(
            "The source says neither files= nor sql= nor url=: its rows are posted.", hint="noria data append"
        )


def _would_lose(repository: Repository, piece: Piece) -> SourceFailed:
    return SourceFailed(
        f"{piece.source} changed. {repository.name} has no key, so its rows would be made anew from the source, "
        "without those that were appended by hand or over HTTP. Nothing was changed.",
        hint='Give the source a key, under another name: key="COLUMN"; or keep the appended rows in a repository of '
        "their own.",
        details={"repository": repository.name, "source": piece.source},
    )
