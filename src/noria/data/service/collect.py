"""Collection: reads what is new in a source and commits it, piece by piece, idempotent and resumable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select

from noria.assets import Assets, Change, Changes
from noria.assets.records import RunState
from noria.base.actor import Actor
from noria.base.clock import Clock
from noria.base.errors import Invalid, NoriaError
from noria.data import tables as t
from noria.data.collectors import FileSource, SqlSource, UrlSource
from noria.data.collectors.protocol import Piece, Source
from noria.data.errors import ContractBroken
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
    """What a collection did."""

    commits: list[Commit] = field(default_factory=list[Commit])
    rows: int = 0
    refused: list[ContractBroken] = field(default_factory=list[ContractBroken])


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
        the transaction of its commit.
        """
        with self._changes.begin("data.collect", repository.project_id, actor) as change:
            name = f"collect {repository.name}"
            run = self._assets.start_run(change.tx, repository.project_id, kind="collection", name=name, actor=actor)
            change.note(repository.name, run=run.id)
        done = Collected()
        error: NoriaError | None = None
        try:
            for piece in self._source(spec).pieces(self._marks(repository)):
                self._land(repository, piece, spec, branch, actor, run.id, done)
                if advance is not None:
                    advance(1)
        except NoriaError as failed:
            error = failed
        state = RunState.FAILED if error is not None else RunState.DONE
        with self._db.write() as tx:
            self._assets.end_run(tx, run.id, state, error=None if error is None else error.as_dict()["error"])
        if error is not None:
            raise error
        return done

    def collect_folder(
        self, repository: Repository, folder: Path, *, actor: Actor, branch: str = MAIN, message: str = ""
    ) -> Commit:
        """Commits a folder of files as it is now."""
        if repository.kind != RepositoryKind.FILES:
            self._data.get(repository.project_id, repository.name, RepositoryKind.FILES)
        meta = {"source": {"kind": "folder", "path": str(folder)}}
        return self._data.commit(repository, folder, actor=actor, branch=branch, message=message, meta=meta)

    def _land(
        self,
        repository: Repository,
        piece: Piece,
        spec: SourceSpec,
        branch: str,
        actor: Actor,
        run_id: Any,
        done: Collected,
    ) -> None:
        head = self._data.head(repository, branch)

        def mark(change: Change) -> None:
            self._mark(change, repository, piece)

        try:
            commit = self._data.append(
                repository,
                piece.frame,
                actor=actor,
                branch=branch,
                message=f"collected {piece.source}",
                mode=spec.mode,
                meta={"source": piece.meta},
                run_id=run_id,
                source=piece.source,
                also=mark,
            )
        except ContractBroken as refused:
            done.refused.append(refused)
            return
        if head is not None and commit.id == head.id:  # nothing new in it: the mark alone is written
            with self._changes.begin("data.collect", repository.project_id, actor) as change:
                mark(change)
                change.note(repository.name, source=piece.source, rows=0)
            return
        done.commits.append(commit)
        done.rows += commit.stats["added"] + commit.stats["updated"]

    def _mark(self, change: Change, repository: Repository, piece: Piece) -> None:
        row = {"repository_id": repository.id, "source": piece.source, "mark": piece.mark, "at": change.tx.now_ms}
        change.tx.upsert(t.collected, row, key=["repository_id", "source"])

    def _marks(self, repository: Repository) -> dict[str, dict[str, Any]]:
        with self._db.read() as conn:
            found = conn.execute(select(t.collected).where(t.collected.c.repository_id == repository.id))
            return {row.source: row.mark for row in found}

    def _source(self, spec: SourceSpec) -> Source:
        if spec.files is not None:
            return FileSource(self._root, spec.files)
        if spec.sql is not None and spec.url is not None:
            return SqlSource(spec.url, spec.sql, spec.watermark)
        if spec.url is not None:
            return UrlSource(spec.url, self._cache / "downloads", spec.checksum)
        raise Invalid(
            "The source says neither files= nor sql= nor url=: its rows are posted.", hint="noria data append"
        )
