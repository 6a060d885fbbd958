"""One transfer between two workspaces: what has to move, the objects, then the receiver's transaction."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from noria.assets import Change
from noria.base.actor import Actor
from noria.base.errors import Invalid
from noria.base.ids import CommitId, RunId
from noria.base.names import check_branch, nearest
from noria.data import queries
from noria.data.errors import (
    BranchNotFound,
    ContractBroken,
    Diverged,
    FilesBroken,
    HeadMoved,
    HeadMovesOn,
    MoveBreaksContract,
    RepositoryExists,
)
from noria.data.records import MAIN, Branch, Moved, Repository, RepositoryKind, Transferred
from noria.data.service.base import Services
from noria.data.service.history import HistoryVerbs
from noria.data.service.landing import LostRaceError
from noria.data.service.transfer.meeting import ERASED, Meeting
from noria.data.service.transfer.receiving import (
    Parcel,
    Side,
    as_here,
    land_commits,
    land_tags,
    make_repository,
    move_heads,
    parcel_of,
)
from noria.data.service.transfer.sending import Sending
from noria.store import PackInfo, Writer

if TYPE_CHECKING:
    from sqlalchemy import Connection

TRIES: Final = 5
Advance = Callable[..., None]


@dataclass(slots=True, kw_only=True)
class _Plan:
    """What has to happen to the receiver's branches."""

    moves: list[Moved] = field(default_factory=list[Moved])
    diverged: list[str] = field(default_factory=list[str])
    tips: dict[str, CommitId] = field(default_factory=dict[str, CommitId])
    tags: dict[str, CommitId] = field(default_factory=dict[str, CommitId])
    tags_kept: list[str] = field(default_factory=list[str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One transfer: from where to where, and what is wanted of it.

    Attributes:
        target: the repository at the receiver; None where it is to be made under ``name``.
        branches: only these; empty for all.
        lease: branch -> head at which the receiver may be moved even where it does not follow.
        heads: move the receiver's heads. light: as a partial clone does it.
        also: runs in the receiver's transaction.
    """

    verb: str
    title: str
    remote: str
    sender: Side
    receiver: Side
    source: Repository
    target: Repository | None
    name: str
    actor: Actor
    branches: Sequence[str] = ()
    lease: dict[str, CommitId | None] | None = None
    heads: bool = True
    light: bool = False
    also: Callable[[Change, Repository], None] | None = None
    news: bool = False
    """Whether ``also`` has something to say even where nothing arrived."""
    advance: Advance | None = None


def exchange(way: Way) -> Transferred:
    for _ in range(TRIES):
        try:
            return _try(way)
        except LostRaceError:
            continue  # the objects are there by now: the second time costs rows only
    raise HeadMovesOn(way.name, next(iter(way.branches), "main"))


def _try(way: Way) -> Transferred:
    verbs = _verbs(way.receiver, way.source.kind)
    if way.target is not None:  # a contract that was set since the caller looked counts
        with way.receiver.services.db.read() as conn:
            way = replace(way, target=queries.repository_by_id(conn, way.target.id) or way.target)
        assert way.target is not None
        _check_form(way.source, way.target)
    plan = _plan(way)
    if plan.diverged and way.heads:
        raise Diverged(way.name, plan.diverged, _hint(way))
    target = way.receiver.services
    opened = (way.verb, way.receiver.project_id, way.actor)
    moves = plan.moves if way.heads else []
    with target.sessions.writer() as writer:
        source = way.sender.services.sessions.store
        source.refresh()
        target.sessions.store.refresh()
        how = {"light": way.light, "advance": way.advance}
        sending = Sending(source, target.sessions, target.db, writer, target.faults, **how)
        parcel = _send(way, plan, sending)
        if way.target is not None and not (parcel.commits or moves or parcel.tags or way.news):
            return _report(way, parcel, sending, writer)
        packs = sending.flush()
        _ask(way, verbs, parcel, moves)
        target.faults.at("transfer.land")
        with _packs_kept(target, packs), target.changes.begin(*opened) as change:
            target.sessions.seal(change.tx, packs)
            repository = way.target or make_repository(change, way.receiver, way.name, parcel)
            if moves and queries.contract_in_force(change.tx.conn, repository.id) != repository.contract:
                raise LostRaceError  # another one was set since the commits were checked
            run = land_commits(change, way.receiver, repository, parcel, way.title)
            land_tags(change, repository, parcel.tags)
            if not move_heads(change, way.receiver, repository, moves):
                raise LostRaceError
            if way.also is not None:
                way.also(change, repository)
            change.note(way.name, source=parcel.source, commits=len(parcel.commits), stored=writer.written)
    return _report(way, parcel, sending, writer, moves, run)


def _ask(way: Way, verbs: HistoryVerbs, parcel: Parcel, moves: Sequence[Moved]) -> None:
    """Contract and hooks of the receiver are asked before a branch moves there, as before a merge.

    A branch that is new there is only asked about by hooks, as one that is made there; ``main`` is never new. A
    repository that is new there has the contract of the sender.

    Raises:
        MoveBreaksContract: what comes does not keep the contract.
        HookRefused: a hook refused it.
    """
    services, repository = way.receiver.services, way.target
    if repository is None:
        repository = replace(parcel.repository, project_id=way.receiver.project_id, name=way.name, contract=None)
    with services.db.read() as conn:
        sent = as_here(conn, repository, parcel)
    for move in moves:
        with services.db.read() as conn:
            before = None if move.before is None else queries.commit(conn, move.before)
            after = sent.get(move.after) or queries.commit(conn, move.after)
        assert after is not None
        rows = None
        if repository.kind == RepositoryKind.TABLE:
            from noria.data.service.transfer.exchanged import exchanged  # Polars: only where a table is exchanged

            rows = exchanged(services.sessions.store, None if before is None else before.layout, after.layout)
        new = before is None and move.branch != MAIN
        asked = replace(repository, contract=None) if new else repository
        how = {"message": after.message, "meta": after.meta, "sent": sent, "aside": False}
        try:
            verbs.admit(asked, move.branch, before, after, rows, way.actor, parcel.source, **how)
        except (ContractBroken, FilesBroken) as broken:
            raise MoveBreaksContract(way.name, move.branch, after.id, way.remote, way.verb, broken.details) from broken


def _verbs(side: Side, kind: RepositoryKind) -> HistoryVerbs:
    if kind != RepositoryKind.TABLE:
        return HistoryVerbs(side.services)
    from noria.data.service.tables.tablehistory import TableHistory  # Polars: only where a table is exchanged

    return TableHistory(side.services)


@contextmanager
def _packs_kept(target: Services, packs: Sequence[PackInfo]) -> Generator[None]:
    """What was sent is named even where the race for a head was lost: the next try builds on it."""
    try:
        yield
    except LostRaceError:
        with target.db.write() as tx:
            target.sessions.seal(tx, packs)
        raise


def _report(
    way: Way, parcel: Parcel, sending: Sending, writer: Writer, moves: Sequence[Moved] = (), run: RunId | None = None
) -> Transferred:
    return Transferred(
        repository=way.name,
        remote=way.remote,
        commits=len(parcel.commits),
        objects=sending.objects,
        written=writer.written,
        reused=sending.reused,
        moved=tuple(moves),
        tags=tuple(parcel.tags),
        tags_kept=tuple(parcel.tags_kept),
        run=run,
    )


def _plan(way: Way) -> _Plan:
    """Which branches move, by what both sides hold now."""
    plan = _Plan(tips=_tips(way))
    with way.sender.services.db.read() as mine, way.receiver.services.db.read() as theirs:
        here: dict[str, Branch] = {}
        tags: dict[str, CommitId] = {}
        if way.target is not None:
            here = {branch.name: branch for branch in queries.branches(theirs, way.target.id)}
            tags = queries.tags(theirs, way.target.id)
        for name, commit in ({} if way.branches else queries.tags(mine, way.source.id)).items():
            if name not in tags:
                plan.tags[name] = commit
            elif tags[name] != commit:
                plan.tags_kept.append(name)
        for name, tip in plan.tips.items():
            before = here[name].head if name in here else None
            if before != tip:
                _plan_branch(plan, way, mine, theirs, Moved(branch=name, before=before, after=tip))
    return plan


def _tips(way: Way) -> dict[str, CommitId]:
    """The heads that the sender has and that were asked for."""
    tips = heads_of(way.sender, way.source)
    for name in way.branches:
        if name not in tips:
            hint = nearest(check_branch(name), tips) or f"Branches: {', '.join(sorted(tips))}."
            raise BranchNotFound(f"{way.source.name} has no commit on a branch {name!r} there.", hint=hint)
    return {name: tips[name] for name in way.branches} if way.branches else tips


def _plan_branch(plan: _Plan, way: Way, mine: Connection, theirs: Connection, move: Moved) -> None:
    if move.before is None or queries.reaches(mine, way.source.id, move.after, move.before):
        plan.moves.append(move)
    elif way.lease is not None:
        if way.lease.get(move.branch) != move.before:
            raise HeadMoved(way.name, move.branch, way.lease.get(move.branch), move.before)
        plan.moves.append(move)
    elif way.target is None or not queries.reaches(theirs, way.target.id, move.before, move.after):
        plan.diverged.append(move.branch)


def _send(way: Way, plan: _Plan, sending: Sending) -> Parcel:
    """Copies the objects of all commits that the receiver lacks, oldest first."""
    new, known = list[CommitId](), list[CommitId]()
    tips = list({*plan.tips.values(), *plan.tags.values()})
    with way.sender.services.db.read() as mine, way.receiver.services.db.read() as theirs:

        def there(ids: Sequence[CommitId]) -> Collection[CommitId]:
            found = queries.commits_present(theirs, ids)
            if any(way.target is None or number != way.target.id for number in found.values()):
                raise RepositoryExists(
                    f"The commits of {way.source.name} lie in another repository of that workspace already.",
                    hint="A repository lives once in a workspace: pull into the one that is there.",
                )
            return found

        for commit, is_known in queries.ancestry(mine, way.source.id, tips, there):
            (known if is_known else new).append(commit)
        meeting = Meeting(way.verb == "data.push", way.source, way.target, way.sender, way.receiver)
        layouts = meeting.standing(mine, theirs, known, news=bool(new))
    source = f"{way.sender.workspace[:12]} {way.sender.project}:{way.source.name}"
    parcel = parcel_of(way.sender, way.source, new[::-1], plan.tags, plan.tags_kept, source)
    meeting.refuse_returns(parcel)
    for layout in layouts.values():
        sending.stand_on(way.source.kind, layout)
    for commit in parcel.commits:
        base = next((layouts[parent] for parent in commit.parents if parent in layouts), None)
        erased = ERASED in parcel.versions[commit.version_id].meta
        sending.commit(way.source.kind, commit, base, erased=erased)
        layouts[commit.id] = commit.layout
    sending.send()
    return parcel


def heads_of(side: Side, repository: Repository) -> dict[str, CommitId]:
    return {branch.name: branch.head for branch in side.verbs.branches(repository) if branch.head is not None}


def _check_form(source: Repository, target: Repository) -> None:
    one = (source.kind, source.key, source.time, source.known)
    other = (target.kind, target.key, target.time, target.known)
    if one != other:
        raise Invalid(
            f"{source.name} there is a repository of {source.kind.value} with key {list(source.key)}, and "
            f"{target.name} one of {target.kind.value} with key {list(target.key)}.",
            hint="Clone it under another name: noria data clone URL NAME AS",
        )


def _hint(way: Way) -> str:
    if way.verb == "data.push":
        return f"noria data pull {way.source.name} {way.remote} --merge   then push again."
    return f"noria data pull {way.name} {way.remote} --merge   merges what went on there."
