"""Collection: reads what is new in a source and commits it, piece by piece, idempotent and resumable."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from noria.assets import Assets, Change, Changes, StoreSessions
from noria.assets.records import AssetKind, RunState
from noria.base.actor import Actor
from noria.base.clock import Clock
from noria.base.errors import Invalid, NoriaError, NotFound
from noria.base.ids import ProjectId, RunId
from noria.data import queries, taken
from noria.data import tables as t
from noria.data.collectors import BucketSource, FileSource, SqlSource, UrlSource
from noria.data.collectors.buckets import Listing
from noria.data.collectors.protocol import Columns, Marks, Misfits, Piece, Source
from noria.data.errors import ContractBroken, LinesSetAside, SourceFailed
from noria.data.records import MAIN, Commit, QuarantineState, Repository, RepositoryKind
from noria.data.rows import schema as schemas
from noria.data.service import Data
from noria.data.service.base import again
from noria.data.service.mirror import Mirror
from noria.data.service.sources import Collected, SourceSpec, spec_from
from noria.data.service.watch import Watch
from noria.db import Database
from noria.store import Entry, Writer, tree
from noria.store.buckets import is_bucket_url

if TYPE_CHECKING:
    from sqlalchemy import Connection

_REFUSED = "refused"
"""In the mark of a part that a contract refused: the contract's number and what was seen of the part."""
_HAPPENED = {"added": "is new", "changed": "changed", "removed": "is gone"}


class TakenError(Exception):
    """Another collection landed this piece since its mark was read: the transaction rolls back."""


class _Begun:
    """A source of which the first piece was read; asked again it looks anew."""

    def __init__(self, source: Source, first: Piece, rest: Iterator[Piece]) -> None:
        self._source = source
        self._begun: tuple[Piece, Iterator[Piece]] | None = first, rest

    def pieces(self, marks: Marks) -> Iterator[Piece]:
        if self._begun is None:
            yield from self._source.pieces(marks)
            return
        (first, rest), self._begun = self._begun, None
        yield first
        yield from rest


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
        self._db = db
        self._data = data
        self._sessions = sessions
        self._assets = assets
        self._changes = changes
        self._clock = clock
        self._root = root
        self._cache = cache
        self._environment = environment

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
        source = self._source(
            lambda: repository, bool(repository.key), spec, branch, settle=settle, only=only, advance=advance
        )
        return self._collect(repository, spec, source, actor, branch, advance)

    def _collect(
        self,
        repository: Repository,
        spec: SourceSpec,
        source: Source | None,
        actor: Actor,
        branch: str,
        advance: Callable[..., None] | None,
    ) -> Collected:
        if source is None:
            source = self._source(lambda: repository, bool(repository.key), spec, branch, advance=advance)
        done = Collected()
        with self._ending(done):
            try:
                while not self._take(repository, source, spec, actor, branch, advance, done):
                    pass
                done.held = self._held(repository, done.waiting)
            except NoriaError:
                self._begin(repository, actor, done)  # that it failed is worth a run
                raise
        return done

    @contextmanager
    def _ending(self, done: Collected) -> Generator[None]:
        """Ends the run of a collection, however that ends: nothing stays running."""
        try:
            yield
        except NoriaError as error:
            self._end(done, RunState.FAILED, error.as_dict()["error"])
            raise
        except BaseException as broken:  # interrupted, or a bug
            state = RunState.CANCELLED if isinstance(broken, KeyboardInterrupt) else RunState.FAILED
            self._end(done, state, {"code": "interrupted", "message": str(broken) or type(broken).__name__})
            raise
        self._end(done, RunState.DONE, None)

    def _end(self, done: Collected, state: RunState, error: dict[str, Any] | None) -> None:
        if done.run_id is not None:
            with self._db.write() as tx:
                self._assets.end_run(tx, done.run_id, state, error=error)

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
                there = self._is_something(spec.files or "")
            else:
                source = self._begun(project_id, name, spec, key=key, time=time, known=known, advance=advance)
                there = source is not None
            if not there:
                return Collected(notes=[f"The source has nothing yet; {name} was not made."])
        if found is None or key or time or known or (folder and found.kind != RepositoryKind.FILES):
            kind = RepositoryKind.FILES if folder else RepositoryKind.TABLE
            how: dict[str, Any] = {"key": key, "time": time, "known": known}
            found = self._data.ensure(project_id, name, kind, actor=actor, asset_kind=AssetKind.SOURCE, **how)
        if found.kind == RepositoryKind.TABLE:
            return self._collect(found, spec, source, actor, branch, advance)
        if spec.files is None:
            raise Invalid(f"{name} is a repository of files: it takes a folder or a prefix of a bucket.")
        return self.collect_folder(found, spec.files, actor=actor, branch=branch, advance=advance)

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
        Watch(self, self._data, self._sessions, repository, self._root, place, branch, actor).run(
            every=every, once=once, stop=stop or Event(), tell=tell
        )

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
        marks = self.marks(repository, branch)
        seen, done.waiting = self._seen(repository, branch, marks)
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

    def _held(self, repository: Repository, waiting: list[str]) -> list[ContractBroken]:
        """Why parts were refused before, from what lies in quarantine; nothing of batches that were settled since."""
        if not waiting:
            return []
        found: dict[str, ContractBroken] = {}
        for batch in self._data.quarantine(repository.project_id, repository):  # newest first
            if batch.state == "open" and batch.source in waiting and batch.source not in found:
                held = ContractBroken(repository.name, repository.contract or 0, batch.report, batch.id)
                held.details["source"] = batch.source
                found[batch.source] = held
        return list(found.values())

    def _seen(
        self, repository: Repository, branch: str, marks: Mapping[str, dict[str, Any]]
    ) -> tuple[Marks, list[str]]:
        """(what a source is to compare with, parts that wait in quarantine).

        A part that the contract in force refused counts as seen as it was then: it is offered again when it changed, or
        when the contract did, but not where the batch was dropped. Where it was accepted, the commit says what was
        taken; a branch that does not hold that commit is offered the part. Of refused lines those that follow are.
        Of a table without any rows everything is offered, so that the reason is told again.
        """
        empty = self._data.head(repository, branch) is None
        decided: dict[int, QuarantineState] = {}
        if any(_REFUSED in mark for mark in marks.values()):
            for batch in self._data.quarantine(repository.project_id, repository):
                if batch.state != QuarantineState.OPEN:
                    decided[batch.id] = batch.state
        seen: dict[str, dict[str, Any]] = {}
        never: list[str] = []
        waiting: list[str] = []
        for source, mark in marks.items():
            accepted = {name: value for name, value in mark.items() if name != _REFUSED}
            refused = mark.get(_REFUSED)
            state = None if refused is None else decided.get(refused["batch"])
            if refused is not None and state == QuarantineState.DROPPED:  # its rows are not wanted
                seen[source] = refused["mark"]
            elif state is None and refused is not None and refused["contract"] == repository.contract and not empty:
                waiting.append(source)
                seen[source] = refused["mark"]
                if not accepted:
                    never.append(source)
            elif accepted:
                seen[source] = accepted
        return Marks(seen, waiting, never), waiting

    def marks(self, repository: Repository, branch: str = MAIN) -> dict[str, dict[str, Any]]:
        """What the commits of a branch say that was taken of each part of a source, and what was refused for it."""
        with self._db.read() as conn:
            _, head = queries.head(conn, repository.id, branch)
            return self._marks(conn, repository, branch, head)

    def went_on(self, repository: Repository, branch: str, before: Commit | None) -> bool:
        """Whether a branch holds the commit at which it stood before."""
        with self._db.read() as conn:
            _, head = queries.head(conn, repository.id, branch)
            if before is None or (head is not None and head.id == before.id):
                return True
            return self._data.holds(conn, repository, branch, head)(before.id, before.generation)

    def commit_entries(
        self,
        repository: Repository,
        changes: Callable[[Writer], dict[str, Entry | None]],
        *,
        actor: Actor,
        branch: str,
        meta: dict[str, Any],
        message: str,
    ) -> Collected:
        """Commits some paths beside the others, under a run of a collection; none where nothing changes.

        Args:
            changes: path -> entry, or None for one that goes. It is called again where others committed meanwhile.

        Raises:
            HeadMoved: others committed faster, again and again.
        """
        done = Collected()

        def attempt() -> None:
            head = self._data.head(repository, branch)
            with self._sessions.writer() as writer:
                made = changes(writer)
                root = tree.apply(self._sessions.store, writer, head and head.layout, made)
                if (head is not None and root == head.layout) or not made:
                    return
                run_id = self._begin(repository, actor, done)
                how: dict[str, Any] = {"message": message, "meta": {"source": meta}, "run_id": run_id, "expected": head}
                commit = self._data.commit_tree(writer, repository, root, actor=actor, branch=branch, **how)
                done.commits.append(commit)

        with self._ending(done):
            again(self._clock, repository.name, branch, attempt)
        return done

    def pending_files(self, repository: Repository, pattern: str) -> list[str]:
        """Which files or objects a collection would read, and why, in words. Nothing is written."""
        seen, _ = self._seen(repository, MAIN, self.marks(repository))
        if is_bucket_url(pattern):
            return BucketSource(pattern, self._environment, self._downloads).pending(seen)
        return FileSource(self._root, pattern).pending(seen)

    def collect_folder(
        self,
        repository: Repository,
        place: Path | str,
        *,
        actor: Actor,
        branch: str = MAIN,
        message: str = "",
        advance: Callable[..., None] | None = None,
    ) -> Collected:
        """Commits a folder, or a prefix of a bucket, as it is now; no commit where it is as it was.

        Args:
            place: a folder below the project's root, or ``s3://bucket/prefix/``, with a pattern where not all of it
                is wanted.

        Raises:
            SourceFailed: the bucket does not answer, or what it holds cannot be files of a repository.
        """
        if repository.kind != RepositoryKind.FILES:
            self._data.get(repository.project_id, repository.name, RepositoryKind.FILES)
        if isinstance(place, str) and is_bucket_url(place):
            return self._mirror(repository, place, actor, branch, message, advance)
        folder = self._root / place
        meta = {"source": {"kind": "folder", "path": str(folder)}}
        head = self._data.head(repository, branch)
        commit = self._data.commit(
            repository, folder, actor=actor, branch=branch, message=message, meta=meta, snapshot=True
        )
        return Collected(commits=[] if head is not None and head.id == commit.id else [commit])

    def pending_folder(self, repository: Repository, place: Path | str) -> list[str]:
        """What of a folder, or of a prefix of a bucket, differs from what was committed, in words."""
        if isinstance(place, str) and is_bucket_url(place):
            mirror = Mirror(self._data, self._sessions, place, self._environment, self._downloads)
            found = mirror.compare(repository, MAIN)
            return [*(f"{p} is new or changed" for p in found.changed), *(f"{p} is gone" for p in found.gone)]
        return [f"{c.path} {_HAPPENED[c.kind]}" for c in self._data.status(repository, self._root / place).changes]

    def _mirror(
        self,
        repository: Repository,
        url: str,
        actor: Actor,
        branch: str,
        message: str,
        advance: Callable[..., None] | None,
    ) -> Collected:
        mirror = Mirror(self._data, self._sessions, url, self._environment, self._downloads)
        done = Collected()

        def attempt() -> None:
            found = mirror.compare(repository, branch)
            if not found.changed and not found.gone:
                return
            run_id = self._begin(repository, actor, done)
            commit = mirror.commit(
                repository, branch, found, actor=actor, message=message, run_id=run_id, advance=advance
            )
            done.commits.append(commit)

        with self._ending(done):
            again(self._clock, repository.name, branch, attempt)
        return done

    @property
    def _downloads(self) -> Path:
        return self._cache / "downloads" / "objects"

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
            self._mark_alone(repository, branch, piece, self._data.head(repository, branch), actor)
            return
        run_id = self._begin(repository, actor, done)
        if piece.misfits is not None:
            # First: where the process dies in between they come again, and are the same batch.
            self._set_aside(repository, piece, piece.misfits, branch, actor, done)
            if not len(piece.frame):
                self._mark_alone(repository, branch, piece, self._data.head(repository, branch), actor)
                return
        head = self._data.head(repository, branch)

        def mark(change: Change) -> None:
            conn = change.tx.conn
            _, landed = queries.head(conn, repository.id, branch)
            assert landed is not None
            stood = queries.commit(conn, landed.parents[0]) if landed.parents else None
            found = self._marks(conn, repository, branch, stood, list(before))
            if any(found.get(source) != seen for source, seen in before.items()):
                raise TakenError
            if piece.whole and taken.appended(conn, repository.id, self._data.holds(conn, repository, branch, stood)):
                raise _would_lose(repository, piece)
            self._mark(change, repository, branch, piece, landed)

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
                self._mark_refused(repository, branch, piece, refused.details["quarantine"], actor)
            return
        except Invalid as error:  # say which piece it was
            raise SourceFailed(f"{piece.source}: {error.message}", hint=error.hint, details=error.details) from error
        if head is not None and commit.id == head.id:  # nothing new in it
            self._mark_alone(repository, branch, piece, commit, actor)
            return
        done.commits.append(commit)
        done.rows += commit.stats["added"] + commit.stats["updated"]

    def _set_aside(
        self, repository: Repository, piece: Piece, misfits: Misfits, branch: str, actor: Actor, done: Collected
    ) -> None:
        """Keeps lines that do not fit the table; tells of them unless that was decided before."""
        batch = self._data.set_aside(repository, branch, misfits.rows, misfits.report, actor, piece.source)
        if batch.state == QuarantineState.OPEN:
            about = (piece.source, misfits.count, misfits.lines, batch.report)
            done.refused.append(LinesSetAside(repository.name, *about, batch.id))

    def _mark_alone(self, repository: Repository, branch: str, piece: Piece, seen: Commit | None, actor: Actor) -> None:
        """Remembers a part that brought no rows, as of the commit that holds all that there is of it.

        Nothing is remembered where there is no such commit: nothing was taken, and the next look reads the part again.
        """
        with self._changes.begin("data.collect", repository.project_id, actor) as change:
            if seen is not None and queries.commit(change.tx.conn, seen.id) is not None:
                self._mark(change, repository, branch, piece, seen)
            change.note(repository.name, source=piece.source, rows=0)

    def _mark_refused(self, repository: Repository, branch: str, piece: Piece, batch: int, actor: Actor) -> None:
        """Remembers under which contract a part was refused, beside what was taken of it before."""
        with self._changes.begin("data.collect", repository.project_id, actor) as change:
            row = {"repository_id": repository.id, "branch": branch, "source": piece.source, "mark": piece.mark}
            row |= {"contract": repository.contract, "batch": batch, "at": change.tx.now_ms}
            change.tx.upsert(t.refusals, row, key=["repository_id", "branch", "source"])
            change.note(repository.name, source=piece.source, refused=repository.contract)

    def _mark(self, change: Change, repository: Repository, branch: str, piece: Piece, commit: Commit) -> None:
        taken.keep_marks(change.tx, repository.id, commit, piece.marks)
        taken.settle_refusals(change.tx.conn, repository.id, branch, piece.marks)

    def _marks(
        self,
        conn: Connection,
        repository: Repository,
        branch: str,
        head: Commit | None,
        sources: list[str] | None = None,
    ) -> dict[str, dict[str, Any]]:
        """Of a branch that stands at ``head``: of all parts, or of these."""
        holds = self._data.holds(conn, repository, branch, head)
        found = taken.marks(conn, repository.id, holds, sources)
        for source, row in taken.refusals(conn, repository.id, branch).items():
            if sources is None or source in sources:
                refused = {"contract": row.contract, "batch": row.batch, "mark": row.mark}
                found[source] = {**found.get(source, {}), _REFUSED: refused}
        return found

    def _source(
        self,
        repository: Callable[[], Repository | None],
        keyed: bool,
        spec: SourceSpec,
        branch: str,
        *,
        settle: float | None = None,
        only: Collection[Path] | None = None,
        advance: Callable[..., None] | None = None,
    ) -> Source:
        def known() -> Columns | None:
            found = repository()
            return None if found is None else self._columns(found, branch)

        if spec.files is not None and is_bucket_url(spec.files):
            how = {"keyed": keyed, "known": known, "advance": advance}
            return BucketSource(spec.files, self._environment, self._downloads, **how)
        if spec.files is not None:
            waits = {} if settle is None else {"settle": settle, "first_settle": settle}
            return FileSource(self._root, spec.files, keyed=keyed, known=known, only=only, **waits)
        if spec.sql is not None and spec.url is not None:
            return SqlSource(spec.url, spec.sql, spec.watermark, keyed=keyed)
        if spec.url is not None:
            return UrlSource(spec.url, self._cache / "downloads", spec.checksum, keyed=keyed, known=known)
        raise Invalid(
            "The source says neither files= nor sql= nor url=: its rows are posted.", hint="noria data append"
        )

    def _begun(
        self,
        project_id: ProjectId,
        name: str,
        spec: SourceSpec,
        *,
        key: tuple[str, ...],
        time: str | None,
        known: str | None,
        advance: Callable[..., None] | None,
    ) -> Source | None:
        """A source whose first piece was read before there is a repository for it; None where it has none.

        Raises:
            SourceFailed: it cannot be read, or its rows cannot be those of such a table.
        """
        source = self._source(lambda: self._data.find(project_id, name), bool(key), spec, MAIN, advance=advance)
        pieces = iter(source.pieces(Marks({})))
        first = next(pieces, None)
        if first is None:
            return None
        if first.frame is not None:
            try:
                schemas.infer(first.frame, key=key, time=time, known=known)
            except Invalid as error:
                raise SourceFailed(
                    f"{first.source}: {error.message}", hint=error.hint, details=error.details
                ) from error
        return _Begun(source, first, pieces)

    def _is_something(self, place: str) -> bool:
        """Whether a folder, or a prefix of a bucket, holds anything.

        Raises:
            SourceFailed: the bucket does not answer. NotFound: there is no such folder.
        """
        if is_bucket_url(place):
            return bool(Listing(place, self._environment).objects())
        folder = self._root / place
        if not folder.is_dir():
            raise NotFound(f"{folder} is not a folder.", hint="Give the folder that holds the files.")
        return any(folder.iterdir())

    def _columns(self, repository: Repository, branch: str) -> Columns | None:
        """What lines are compared with: the table as it stands, else its contract."""
        schema = self._data.schema(repository, branch)
        if schema is not None:
            return Columns(types=schema.polars(), key=schema.key)
        contract = self._data.contract(repository)
        return None if contract is None else Columns(types=contract.types, key=repository.key)


def _would_lose(repository: Repository, piece: Piece) -> SourceFailed:
    return SourceFailed(
        f"{piece.source} changed. {repository.name} has no key, so its rows would be made anew from the source, "
        "without those that were appended by hand or over HTTP. Nothing was changed.",
        hint='Give the source a key, under another name: key="COLUMN"; or keep the appended rows in a repository of '
        "their own.",
        details={"repository": repository.name, "source": piece.source},
    )


__all__ = ["Collected", "Collector", "SourceSpec", "spec_from"]
