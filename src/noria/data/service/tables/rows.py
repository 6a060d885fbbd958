"""The verbs of tables: append, overwrite, delete, read, row diff."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import blake3
import msgspec

from noria.assets import Change
from noria.assets.records import Content
from noria.base.actor import Actor
from noria.base.digest import Digest
from noria.base.errors import Invalid
from noria.base.ids import ProjectId, RunId
from noria.base.once import Once
from noria.data import queries
from noria.data.errors import HeadMoved, WrongRepositoryKind
from noria.data.records import MAIN, Commit, Repository, RepositoryKind
from noria.data.rows import Layout, RowsChange, alter
from noria.data.rows.encoding import hash_rows, sum_hashes
from noria.data.service.landing import Facts, Landing, LostRaceError, again
from noria.data.service.tables.incoming import Incoming, Rows, to_frame
from noria.data.service.tables.rowhistory import stats_of
from noria.store import Writer

if TYPE_CHECKING:
    import polars as pl
    from sqlalchemy import Connection

VERB = "data.append"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """One call of ``append_many``."""

    project_id: ProjectId
    batches: Mapping[str, tuple[Repository, Rows]]
    actor: Actor
    branch: str
    message: str
    mode: str
    expected: str | None
    meta: dict[str, Any]
    run_id: RunId | None
    source: str
    also: Callable[[Change], None] | None
    once: Once | None
    evolve: bool


class RowVerbs(Incoming):
    def append(
        self,
        repository: Repository,
        rows: Rows,
        *,
        actor: Actor,
        branch: str = MAIN,
        message: str = "",
        mode: str = "append",
        expected: str | None = None,
        meta: dict[str, Any] | None = None,
        key: str | None = None,
        run_id: RunId | None = None,
        source: str = "",
        also: Callable[[Change], None] | None = None,
        evolve: bool = False,
    ) -> Commit:
        """Commits rows; one commit for all of them, or none. Returns the head where nothing changed.

        Args:
            mode: ``append`` (rows with a known key replace the old ones), ``insert`` (they are dropped),
                ``overwrite`` or ``delete`` (by key).
            expected: the commit at which the branch has to be; without it a lost race is tried again.
            key: idempotency key.
            source: where the rows came from, for the report of a refused batch.
            also: runs inside the transaction of the commit, for what must land with it.
            evolve: columns that the table lacks are added, narrower ones widened, and columns that the rows lack are
                null (or their default); without it such rows are refused.

        Raises:
            ContractBroken: the rows do not keep the repository's contract; they lie in quarantine.
            HeadMoved: ``expected`` was given and the branch stands elsewhere.
        """
        batches = {repository.name: (repository, rows)}
        done = self.append_many(
            repository.project_id,
            batches,
            actor=actor,
            branch=branch,
            message=message,
            mode=mode,
            expected=expected,
            meta=meta,
            key=key,
            run_id=run_id,
            source=source,
            also=also,
            evolve=evolve,
        )
        return done[repository.name]

    def append_many(
        self,
        project_id: ProjectId,
        batches: Mapping[str, tuple[Repository, Rows]],
        *,
        actor: Actor,
        branch: str = MAIN,
        message: str = "",
        mode: str = "append",
        expected: str | None = None,
        meta: dict[str, Any] | None = None,
        key: str | None = None,
        run_id: RunId | None = None,
        source: str = "",
        also: Callable[[Change], None] | None = None,
        evolve: bool = False,
    ) -> dict[str, Commit]:
        """Commits rows to several repositories in one transaction: all of them or none."""
        if not batches:
            raise Invalid("No repository is named.", hint="Name at least one, with its rows.")
        batches = {name: (self._fresh(repository), rows) for name, (repository, rows) in batches.items()}
        check_mode(mode)
        work = _Work(
            project_id=project_id,
            batches=batches,
            actor=actor,
            branch=branch,
            message=message,
            mode=mode,
            expected=expected,
            meta=meta or {},
            run_id=run_id,
            source=source,
            also=also,
            once=None if key is None else Once(key, _request(batches, mode, branch)),
            evolve=evolve and mode in ("append", "insert"),
        )
        for repository, _ in batches.values():
            if repository.kind != RepositoryKind.TABLE:
                raise WrongRepositoryKind(repository.name, repository.kind.value, RepositoryKind.TABLE.value)

        def attempt() -> dict[str, Commit]:
            nonlocal work
            try:
                with self._alone(work):
                    return self._try(work)
            except LostRaceError:  # another contract may have been set, too
                fresh = {name: (self._fresh(repository), rows) for name, (repository, rows) in work.batches.items()}
                work = replace(work, batches=fresh)
                raise

        return again(self._s.clock, next(iter(batches)), branch, attempt)

    @contextmanager
    def _alone(self, work: _Work) -> Generator[None]:
        """One writer of this process at a time on each branch; other processes are met by compare-and-swap."""
        with ExitStack() as stack:
            for repository_id in sorted(repository.id for repository, _ in work.batches.values()):
                stack.enter_context(self._locks[repository_id, work.branch])
            yield

    def _try(self, work: _Work) -> dict[str, Commit]:
        earlier = self._s.changes.answered(VERB, work.project_id, work.once)
        if earlier is not None:  # before anything is checked: a retry gets its answer, whatever has changed since
            with self._db.read() as conn:
                return _answered(conn, earlier)
        landings: dict[str, Landing] = {}
        same: dict[str, Commit] = {}
        heads = self._heads(work)
        event_ms = self._s.event_clock.event_ms(work.project_id)
        frames = {name: self._frame(repository, rows, work.mode, self._layout_of(heads[name]), evolve=work.evolve)
                  for name, (repository, rows) in work.batches.items()}  # fmt: skip
        with self._s.sessions.writer() as writer:
            for name, (repository, _) in work.batches.items():
                head, frame = heads[name], frames[name]
                if work.mode != "delete":
                    self._keep_contract(repository, work.branch, frame, work.actor, work.source, event_ms, work.mode)
                change = self._change(writer, repository, head, frame, work.mode, event_ms, evolve=work.evolve)
                if not change.nothing:
                    how = (work.actor, work.source, event_ms, work.mode)
                    self._keep_whole(repository, work.branch, frame, head, change.layout, *how)
                digest = change.layout.digest
                if head is not None and (change.nothing or digest == head.digest):
                    same[name] = head
                else:
                    landings[name] = self._landing(writer, work, repository, head, change, digest, event_ms)
            if not landings and work.once is None:
                return same
            packs = writer.flush()
            landing = self._s.changes.begin(VERB, work.project_id, work.actor, once=work.once)
            with self._naming(packs), landing as change:
                if change.earlier is not None:
                    return _answered(change.tx.conn, change.earlier)
                self._s.sessions.seal(change.tx, packs)
                done = self._land_all(change, landings, same, work.run_id)
                if landings and work.also is not None:
                    work.also(change)
                return done

    def _heads(self, work: _Work) -> dict[str, Commit | None]:
        """The heads of all tables, of one moment.

        Raises:
            HeadMoved: a branch is not where the caller expects it.
        """
        with self._db.read() as conn:
            found = {name: queries.head(conn, repository.id, work.branch)
                     for name, (repository, _) in work.batches.items()}  # fmt: skip
        for name, (there, head) in found.items():
            if not there:
                self.head(work.batches[name][0], work.branch)  # says which branches there are
            if work.expected is not None and work.expected != (None if head is None else head.id):
                raise HeadMoved(name, work.branch, work.expected, None if head is None else head.id)
        return {name: head for name, (_, head) in found.items()}

    def _landing(
        self,
        writer: Writer,
        work: _Work,
        repository: Repository,
        head: Commit | None,
        change: RowsChange,
        digest: Digest,
        event_ms: int,
    ) -> Landing:
        layout = change.layout
        facts = Facts(digest=digest, content=Content.TABLE, size=layout.size, rows=layout.rows, stats=stats_of(change))
        told = {"actor": work.actor, "message": work.message, "meta": work.meta, "stats": facts.stats}
        self._s.hooks.before(repository, work.branch, head, change.layout_id, change, merge=False, **told)
        return self._prepare(
            writer,
            repository,
            work.branch,
            head,
            change.layout_id,
            facts,
            actor=work.actor,
            message=work.message,
            meta=work.meta,
            event_ms=event_ms,
            change=change,
        )

    def _land_all(
        self, change: Change, landings: dict[str, Landing], same: dict[str, Commit], run_id: RunId | None
    ) -> dict[str, Commit]:
        done = dict(same)
        for name, landing in landings.items():
            commit = self._land(change, landing, run_id)
            if commit is None:
                raise LostRaceError
            done[name] = commit
            self._kept(change, landing.repository, landing.change.added if landing.change is not None else 0)
        change.note(", ".join(landings or same), rows={name: landing.facts.stats for name, landing in landings.items()})
        change.answer({"commits": {name: commit.id for name, commit in done.items()}})
        return done

    def _change(
        self,
        writer: Writer,
        repository: Repository,
        head: Commit | None,
        frame: pl.DataFrame,
        mode: str,
        event_ms: int,
        *,
        evolve: bool = False,
    ) -> RowsChange:
        seq = 1 if head is None else head.generation + 1
        base = self._layout_of(head)
        return self._written(writer, repository, base, frame, mode, seq, event_ms, evolve=evolve)

    def _layout_of(self, head: Commit | None) -> Layout | None:
        return None if head is None else self.layout(head)

    def _written(
        self,
        writer: Writer,
        repository: Repository,
        base: Layout | None,
        frame: pl.DataFrame,
        mode: str,
        seq: int,
        event_ms: int,
        *,
        evolve: bool = False,
    ) -> RowsChange:
        known_us = event_ms * 1000
        if base is None or mode == "overwrite":
            schema = self._schema(repository, frame, base)
            return self.writer.replace(writer, schema, frame, seq=seq, known_us=known_us, base=base)
        if mode == "delete":
            return self.writer.delete(writer, base, frame)
        start = base
        if evolve:
            start, frame = alter.evolve(self.reader, base, frame, seq=seq)
        change = self.writer.append(writer, start, frame, seq=seq, known_us=known_us, keep=mode == "insert")
        return change if start is base else replace(change, altered=True)


def check_mode(mode: str) -> None:
    if mode not in ("append", "insert", "overwrite", "delete"):
        raise Invalid(f"{mode!r} is not a way to write rows.", hint="append, insert, overwrite or delete")


def _sum(rows: Rows) -> str:
    """What an idempotency key remembers of rows. Rows of JSON as they came; a frame by its canonical row hashes."""
    if isinstance(rows, list | tuple):
        return blake3.blake3(msgspec.json.encode(rows, enc_hook=str)).hexdigest()
    return hex(sum_hashes(hash_rows(to_frame(rows))))


def _request(batches: Mapping[str, tuple[Repository, Rows]], mode: str, branch: str) -> dict[str, Any]:
    return {"rows": {name: _sum(rows) for name, (_, rows) in batches.items()}, "mode": mode, "branch": branch}


def _answered(conn: Connection, earlier: Any) -> dict[str, Commit]:
    """The commits that a repeated request made the first time."""
    ids = earlier["commits"]
    found = {c.id: c for c in queries.commits_by_ids(conn, list(ids.values()))}
    return {name: found[commit_id] for name, commit_id in ids.items()}
