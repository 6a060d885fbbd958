"""The one way in which a commit lands: its objects first, then one transaction that names them and moves the head."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from noria.assets import Change
from noria.assets.records import Content, Direction, Version
from noria.base import canonical
from noria.base.actor import Actor
from noria.base.clock import Clock
from noria.base.digest import Digest
from noria.base.ids import CommitId, RunId
from noria.base.once import Once
from noria.data import files_contract, queries
from noria.data import tables as t
from noria.data.errors import FilesBroken, HeadMovesOn
from noria.data.moves import move_head
from noria.data.records import MAIN, Commit, Repository, RepositoryKind
from noria.data.service.repositories import RepositoryVerbs
from noria.store import Entry, Kind, PackInfo, Writer, merging, tree

if TYPE_CHECKING:
    from noria.data.rows import RowsChange

T = TypeVar("T")
TRIES: Final = 20
"""How often a commit is built anew after another writer was faster, before it gives up."""
_COMMIT_MAGIC: Final = b"NCMT\x01"


@dataclass(frozen=True, slots=True, kw_only=True)
class Landing:
    """A commit that is ready to land: its objects are durable, its rows are not written yet.

    Attributes:
        head, base: where the branch has to stand, and the content that it has to have there.
        contract: that it was checked against; the repository's, or None where it was not checked.
    """

    repository: Repository
    branch: str
    head: CommitId | None
    base: Digest | None
    id: CommitId
    layout: Digest
    facts: Facts
    ancestry: Ancestry
    author: str
    contract: int | None
    at: int
    event_ms: int
    message: str
    meta: dict[str, Any]
    change: RowsChange | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """Content that is ready to be committed: a tree, or a table.

    Attributes:
        layout: the tree's root, or the table's layout.
        change: of a table, how it differs from the head.
        conflicts: what two sides changed differently; paths, or keys as text. Nothing may land while there are any.
        taken: of a merge of files, what it takes over; see ``TreeMerge``.
    """

    layout: Digest
    change: RowsChange | None = None
    conflicts: tuple[str, ...] = ()
    taken: dict[str, Entry | None] = field(default_factory=dict[str, "Entry | None"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the graph says of a content.

    Attributes:
        size: bytes as a reader sees it.
        rows: of a table.
        stats: how it differs from the head.
    """

    digest: Digest
    content: Content
    size: int
    rows: int | None
    stats: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ancestry:
    """Where a commit stands in the history."""

    parents: tuple[CommitId, ...]
    generation: int


def after(*commits: Commit | None) -> Ancestry:
    """The place right behind these commits."""
    known = [commit for commit in commits if commit is not None]
    return Ancestry(
        parents=tuple(commit.id for commit in known),
        generation=1 + max((commit.generation for commit in known), default=0),
    )


def again(clock: Clock, name: str, branch: str, attempt: Callable[[], T]) -> T:
    """Repeats what lost a race, with jitter.

    Raises:
        HeadMovesOn: it was lost too often.
    """
    for number in range(TRIES):
        try:
            return attempt()
        except LostRaceError:
            clock.sleep(random.uniform(0.001, 0.01) * (number + 1))  # noqa: S311 - jitter, not a secret
    raise HeadMovesOn(name, branch)


class LostRaceError(Exception):
    """The head moved while the commit was built: the transaction rolls back, and the commit is built anew."""


class LandingVerbs(RepositoryVerbs):
    def _again(
        self,
        repository: Repository,
        branch: str,
        attempt: Callable[[], T],
        *,
        apart: bool = False,
    ) -> T:
        """``again``, one writer of this process at a time on a branch.

        Args:
            apart: the first attempt writes data, for as long as that takes, and so is not made alone; others land
                meanwhile. Further attempts find the data there, and cannot lose to a writer of this process.
        """
        first = apart

        def turn() -> T:
            nonlocal first
            if first:
                first = False
                return attempt()
            with self._locks[repository.id, branch]:
                return attempt()

        return again(self._s.clock, repository.name, branch, turn)

    def _prepare(
        self,
        writer: Writer,
        repository: Repository,
        branch: str,
        head: Commit | None,
        layout: Digest,
        facts: Facts,
        *,
        actor: Actor,
        message: str,
        meta: dict[str, Any],
        event_ms: int,
        change: RowsChange | None = None,
        ancestry: Ancestry | None = None,
        checked: bool = True,
    ) -> Landing:
        """Writes the commit object. The caller flushes the writer, then lands.

        Args:
            head: where the branch has to be when the commit lands.
            ancestry: parents and generation where they are not the head's.
            checked: whether it was checked against the contract of ``repository``.
        """
        contract = repository.contract if checked else None
        line = ancestry or after(head)
        at = self._s.clock.now_ms()
        value = {
            "repository": repository.name,
            "version": str(facts.digest),
            "layout": str(layout),
            "parents": list(line.parents),
            "generation": line.generation,
            "author": actor.name,
            "message": message,
            "at": at,
            "event_ms": event_ms,
            "contract": contract,
            "meta": meta,
        }
        oid = writer.put(Kind.COMMIT, _COMMIT_MAGIC + canonical.encode(value))
        return Landing(
            repository=repository,
            branch=branch,
            head=None if head is None else head.id,
            base=None if head is None else head.layout,
            id=CommitId(oid.hex),
            layout=layout,
            facts=facts,
            ancestry=line,
            author=actor.name,
            contract=contract,
            at=at,
            event_ms=event_ms,
            message=message,
            meta=meta,
            change=change,
        )

    def _facts(self, writer: Writer, repository: Repository, head: Commit | None, made: Made) -> Facts:
        """What there is to say of a content whose objects are flushed."""
        store = self._s.sessions.store
        entries, size = tree.totals(store, made.layout)
        changes = tree.diff(store, head.layout, made.layout) if head is not None else []
        stats = {
            "files": entries,
            "added": entries if head is None else sum(c.before is None for c in changes),
            "updated": sum(c.before is not None and c.after is not None for c in changes),
            "deleted": sum(c.after is None for c in changes),
            "stored": writer.written,
        }
        digest = canonical.digest({"tree": made.layout.hex})
        return Facts(digest=digest, content=Content.TREE, size=size, rows=None, stats=stats)

    def _combine(
        self,
        writer: Writer,
        repository: Repository,
        base: Digest | None,
        ours: Commit | None,
        theirs: Digest | None,
        sides: merging.Sides,
        seq: int | None = None,
    ) -> Made:
        """Three-way merge of contents: what happened from ``base`` to ``theirs``, done to ``ours``.

        Args:
            seq: the generation of the commit that will hold it; None: the one after ``ours``.
        """
        store = self._s.sessions.store
        if ours is None:
            return Made(layout=tree.empty(writer) if theirs is None else theirs)
        found = merging.merge(store, writer, base, ours.layout, theirs, sides)
        return Made(layout=found.root, conflicts=tuple(found.conflicts), taken=found.taken)

    def _difference(self, repository: Repository, before: Commit | None, after: Commit) -> RowsChange | None:
        """Of a table, how its rows differ between two commits; None for files."""
        return None

    def _fresh(self, repository: Repository) -> Repository:
        """The repository as it is by now: a contract that was set since the caller looked counts."""
        with self._db.read() as conn:
            return queries.repository_by_id(conn, repository.id) or repository

    def _keep_files(self, repository: Repository, head: Commit | None, layout: Digest, actor: Actor) -> None:
        """Refuses a tree that does not keep the contract of its repository."""
        if repository.kind != RepositoryKind.FILES or repository.contract is None:
            return
        with self._db.read() as conn:
            found = queries.contract(conn, repository.id, repository.contract)
        assert found is not None
        kept = head.layout if head is not None and head.contract == repository.contract else None
        findings = files_contract.check(files_contract.parse(found.spec), self._s.sessions.store, kept, layout)
        if not findings:
            return
        details = {"contract": repository.contract, "rules": [f["rule"] for f in findings]}
        with self._s.changes.begin("data.refuse", repository.project_id, actor) as change:
            how = {"passed": False, "evaluator": files_contract.EVALUATOR, "details": details}
            self._s.evidence.record(change, "contract", repository.name, **how)
            change.note(repository.name, **details)
        raise FilesBroken(repository.name, repository.contract, findings)

    def _judge(
        self,
        repository: Repository,
        branch: str,
        head: Commit | None,
        made: Made,
        actor: Actor,
        source: str,
        *,
        again: bool = True,
        batch: bool = True,
        aside: bool = True,
    ) -> bool:
        """Refuses a content that does not keep the contract of ``repository``; True where it was checked.

        Args:
            made: its objects are flushed.
            source: where it comes from, for the report of refused rows.
            again: of a table, check its new rows too; False where they were checked when they were written.
            batch: the new rows have to keep what the contract says of a batch.
            aside: refused rows go to quarantine; False where they lie elsewhere anyway.
        """
        self._keep_files(repository, head, made.layout, actor)
        return True

    def _same_contract(self, change: Change, repository: Repository) -> None:
        """Inside a transaction that moves a branch: another contract may have been set since the content was checked.

        Raises:
            LostRaceError: it was.
        """
        if queries.contract_in_force(change.tx.conn, repository.id) != repository.contract:
            raise LostRaceError

    def _commit_made(
        self,
        writer: Writer,
        repository: Repository,
        branch: str,
        head: Commit | None,
        made: Made,
        *,
        verb: str,
        actor: Actor,
        message: str,
        meta: dict[str, Any] | None = None,
        once: Once | None = None,
        run_id: RunId | None = None,
        ancestry: Ancestry | None = None,
        also: Callable[[Change, Commit], None] | None = None,
        flushed: Sequence[PackInfo] = (),
        judge: Callable[[Repository], bool] | None = None,
    ) -> Commit:
        """Commits a content: makes it durable, then lands it in one transaction.

        Args:
            flushed: packs that the writer gave before, with objects that the commit needs.
            also: runs inside the transaction, for what must land with the commit.
            judge: checks the content against the contract of the repository as it is by now, instead of ``_judge``.

        Raises:
            LostRaceError: the head moved in between, or another contract was set; nothing was committed.
        """
        written = writer.flush()  # nodes must be readable for the facts below
        repository = self._fresh(repository)
        if judge is None:
            checked = self._judge(repository, branch, head, made, actor, message)
        else:
            checked = judge(repository)
        facts = self._facts(writer, repository, head, made)
        told = {"actor": actor, "message": message, "meta": meta or {}, "stats": facts.stats}
        self._s.hooks.before(repository, branch, head, made.layout, made.change, merge=verb == "data.merge", **told)
        landing = self._prepare(
            writer,
            repository,
            branch,
            head,
            made.layout,
            facts,
            actor=actor,
            message=message,
            meta=meta or {},
            event_ms=self._s.event_clock.event_ms(repository.project_id),
            change=made.change,
            ancestry=ancestry,
            checked=checked,
        )
        packs = [*flushed, *written, *writer.flush()]
        landing_change = self._s.changes.begin(verb, repository.project_id, actor, once=once)
        with self._locks[repository.id, branch], self._naming(packs), landing_change as change:
            if change.earlier is not None:
                found = queries.commit(change.tx.conn, change.earlier["commit"])
                assert found is not None
                return found
            self._s.sessions.seal(change.tx, packs)
            commit = self._land(change, landing, run_id)
            if commit is None:
                raise LostRaceError
            if also is not None:
                also(change, commit)
            change.note(f"{repository.name}@{branch}", commit=commit.id, **facts.stats)
            change.answer({"commit": commit.id})
        return commit

    @contextmanager
    def _naming(self, packs: list[PackInfo]) -> Generator[None]:
        """Names packs also where the transaction that needed them lost a race: the next try finds their objects there,
        and does not store them again."""
        try:
            yield
        except LostRaceError:
            with self._db.write() as tx:
                self._s.sessions.seal(tx, packs)
            raise

    def _land(self, change: Change, landing: Landing, run_id: RunId | None) -> Commit | None:
        """Writes the rows of a commit and moves the head; None where the head moved in between."""
        repository, tx = landing.repository, change.tx
        commit = self._record(change, landing, run_id)
        self._s.faults.at("data.head")
        if landing.head is not None and queries.layout_of(tx.conn, landing.head) != landing.base:
            return None  # something was erased from it, or it was compacted, since it was read
        if not move_head(change, repository.id, landing.branch, landing.head, landing.id):
            return None
        self._same_contract(change, repository)
        if landing.branch == MAIN:  # the graph follows main; other branches are work in progress
            self._s.assets.set_current(tx, repository.asset_id, commit.version_id)
        self._announce(change, landing, commit)
        return commit

    def _record(self, change: Change, landing: Landing, run_id: RunId | None) -> Commit:
        """Writes the rows of a commit; no branch stands at it yet."""
        repository, tx = landing.repository, change.tx
        facts = landing.facts
        version = self._s.assets.add_version(
            tx,
            repository.asset_id,
            digest=facts.digest,
            content=facts.content,
            layout=landing.layout,
            size=facts.size,
            rows=facts.rows,
            name=repository.name,
        )
        commit = Commit(
            id=landing.id,
            repository_id=repository.id,
            version_id=version.id,
            digest=facts.digest,
            layout=landing.layout,
            generation=landing.ancestry.generation,
            parents=landing.ancestry.parents,
            author=landing.author,
            message=landing.message,
            at=landing.at,
            event_ms=landing.event_ms,
            run_id=self._run(change, landing, version, run_id),
            contract=landing.contract,
            stats=facts.stats,
            meta=landing.meta,
        )
        if not tx.insert_new(t.commits, queries.commit_row(commit)):
            # The same content, place, author and message in the same millisecond, on another branch: the same commit.
            there = queries.commit(tx.conn, commit.id)
            assert there is not None
            return there
        return commit

    def _run(self, change: Change, landing: Landing, version: Version, run_id: RunId | None) -> RunId:
        """The run that made the commit: the caller's (a collection, a step), or one of its own."""
        tx, name = change.tx, landing.repository.name
        if run_id is None:
            full = f"{name}@{landing.branch}"
            project_id = landing.repository.project_id
            run_id = self._s.assets.record_run(
                tx, project_id, kind="commit", name=full, actor=change.actor, event_ms=change.event_ms
            )
        self._s.assets.link(tx, run_id, version.id, Direction.OUT, name)
        return run_id

    def _tell(self, change: Change, repository: Repository, rows: RowsChange | None, commit: Commit) -> None:
        """Tells who follows the rows of ``main`` what changed in them."""
        if rows is not None:
            for listener in self._s.listeners:
                listener(change, repository, rows, commit)

    def _announce(self, change: Change, landing: Landing, commit: Commit) -> None:
        if landing.branch == MAIN:
            self._tell(change, landing.repository, landing.change, commit)
        payload = {"branch": landing.branch, "commit": commit.id, "generation": commit.generation, **commit.stats}
        change.event("commit.created", landing.repository.name, payload)
        merge = len(commit.parents) > 1 and "merged" in commit.meta
        self._s.hooks.after(change, landing.repository, landing.branch, commit, merge=merge)
