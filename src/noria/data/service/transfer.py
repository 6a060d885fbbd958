"""Moving repositories between workspaces: remotes, clone, push, pull, fetch.

A transfer has a sending and a receiving side. Objects first, in packs of the receiver that are named as they come;
then one transaction there: versions, commits, tags, and heads by compare-and-swap. A transfer that is killed leaves
nothing half visible, and repeated it sends only what had not arrived.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from noria.assets import Change
from noria.base.actor import Actor
from noria.base.errors import Invalid
from noria.base.ids import CommitId, RunId
from noria.base.names import check_branch, check_name, nearest
from noria.data import queries
from noria.data import tables as t
from noria.data.errors import BranchNotFound, Diverged, HeadMoved, RemoteExists, RemoteNotFound, RepositoryExists
from noria.data.records import Branch, Imported, Moved, Remote, Repository, Transferred
from noria.data.service.base import LostRaceError, Services
from noria.data.service.dvc import DvcImport
from noria.data.service.receiving import (
    Parcel,
    Side,
    land_commits,
    land_tags,
    make_repository,
    move_heads,
    parcel_of,
)
from noria.data.service.refs import RefVerbs
from noria.data.service.sending import Sending
from noria.data.values import shown_place
from noria.store import PackInfo, Writer

if TYPE_CHECKING:
    from sqlalchemy import Connection

ORIGIN: Final = "origin"
TRIES: Final = 5
OpenRemote = Callable[[str, str | None], AbstractContextManager[Side]]
"""From the URL of a workspace, and the name of a project there or None, to its services."""
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
class _Way:
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


class Transfer:
    """One per workspace."""

    def __init__(self, services: Services, side: Side, open_remote: OpenRemote) -> None:
        self._s = services
        self._db = services.db
        self._side = side
        self._open = open_remote
        self._data = RefVerbs(services)

    # ---- remotes

    def remotes(self, repository: Repository) -> list[Remote]:
        with self._db.read() as conn:
            return queries.remotes(conn, repository.id)

    def remote(self, repository: Repository, name: str = ORIGIN) -> Remote:
        """Raises RemoteNotFound, with the nearest name."""
        found = {remote.name: remote for remote in self.remotes(repository)}
        if name not in found:
            hint = nearest(name, found) or f"noria data remote add {repository.name} {name} URL"
            raise RemoteNotFound(f"{repository.name} has no remote {name!r}.", hint=hint, details={"remote": name})
        return found[name]

    def add_remote(
        self, repository: Repository, name: str, url: str, *, actor: Actor, there: str | None = None
    ) -> Remote:
        """Remembers another workspace. It is opened once, to see that it can be; nothing is sent.

        Args:
            url: a folder or ``postgresql://``; ``#PROJECT`` at its end names a project there. A password is not kept:
                set PGPASSWORD, or write ``~/.pgpass``.
            there: the repository's name there, where it is another one.

        Raises:
            RemoteExists: the name is taken.
        """
        check_name(name, "a remote")
        place, project = split_url(url)
        with self._open(place, project) as side:
            self._not_here(side, place)
            made = _remote(name, place, there or repository.name, side.project)
        with self._s.changes.begin("data.remote", repository.project_id, actor) as change:
            self._insert_remote(change, repository, made)
            change.note(repository.name, remote=name, url=shown_place(place))
        return made

    def remove_remote(self, repository: Repository, name: str, *, actor: Actor) -> None:
        """Forgets a remote.

        Raises:
            Refused: contents of a partial clone lie only there.
        """
        remote = self.remote(repository, name)
        with self._s.changes.begin("data.remote", repository.project_id, actor) as change:
            queries.remove_remote(change.tx.conn, repository.id, remote.name)
            change.note(repository.name, removed=name)

    @staticmethod
    def _insert_remote(change: Change, repository: Repository, remote: Remote) -> None:
        row = {"repository_id": repository.id, "name": remote.name, "url": remote.url, "heads": remote.heads}
        row |= {"repository": remote.repository, "project": remote.project, "partial": remote.partial}
        if not change.tx.insert_new(t.remotes, {**row, "created_at": change.tx.now_ms}):
            raise RemoteExists(
                f"{repository.name} has a remote {remote.name!r} already.",
                hint=f"noria data remote remove {repository.name} {remote.name}",
            )

    # ---- verbs

    def clone(
        self,
        url: str,
        name: str,
        *,
        actor: Actor,
        into: str | None = None,
        partial: bool = False,
        advance: Advance | None = None,
    ) -> Transferred:
        """Makes a repository here with the commits, branches and tags of one there, and the remote ``origin``.

        Raises:
            RepositoryExists: the name is taken here.
            RepositoryNotFound: there is none of this name there.
        """
        here = check_name(into or name, "a repository")
        if self._data.find(self._side.project_id, here) is not None:
            raise RepositoryExists(f"There is a repository {here!r} already.", hint=f"noria data pull {here}")
        place, project = split_url(url)
        with self._open(place, project) as there:
            self._not_here(there, place)
            source = there.verbs.get(there.project_id, name)
            heads = _heads(there, source)

            def remember(change: Change, repository: Repository) -> None:
                made = _remote(ORIGIN, place, name, there.project, partial=partial, heads=heads)
                self._insert_remote(change, repository, made)

            way = _Way(
                verb="data.clone",
                title=f"clone {here}",
                remote=ORIGIN,
                sender=there,
                receiver=self._side,
                source=source,
                target=None,
                name=here,
                actor=actor,
                light=partial,
                also=remember,
                advance=advance,
            )
            return self._transfer(way)

    def pull(
        self,
        repository: Repository,
        remote: str = ORIGIN,
        *,
        actor: Actor,
        branches: Sequence[str] = (),
        heads: bool = True,
        advance: Advance | None = None,
    ) -> Transferred:
        """Brings what is new there, and moves the branches here that the ones there go on from.

        Args:
            branches: only these; default all of the remote.
            heads: False brings commits and moves nothing (fetch).

        Raises:
            Diverged: a branch went on here and there.
        """
        known = self.remote(repository, remote)
        with self._open(known.url, known.project) as there:
            self._not_here(there, known.url)
            source = there.verbs.get(there.project_id, known.repository, repository.kind)
            seen = _heads(there, source)
            wanted = {b: h for b, h in seen.items() if not branches or b in branches}

            def remember(change: Change, repository: Repository) -> None:
                queries.set_remote(change.tx.conn, repository.id, remote, heads={**known.heads, **wanted})

            way = _Way(
                verb="data.pull" if heads else "data.fetch",
                title=f"{'pull' if heads else 'fetch'} {repository.name}",
                remote=remote,
                sender=there,
                receiver=self._side,
                source=source,
                target=repository,
                name=repository.name,
                actor=actor,
                branches=branches,
                heads=heads,
                light=known.partial,
                also=remember,
                news={**known.heads, **wanted} != known.heads,
                advance=advance,
            )
            return self._transfer(way)

    def push(
        self,
        repository: Repository,
        remote: str = ORIGIN,
        *,
        actor: Actor,
        branches: Sequence[str] = (),
        force_with_lease: bool = False,
        advance: Advance | None = None,
    ) -> Transferred:
        """Sends what is new here, and moves the branches there that the ones here go on from.

        Args:
            force_with_lease: move a branch there even where this one does not follow it, if it is where it was seen
                last by a pull, fetch or push.

        Raises:
            Diverged: a branch went on here and there.
            HeadMoved: with ``force_with_lease``, a branch there is not where it was seen last.
        """
        known = self.remote(repository, remote)
        with self._open(known.url, known.project) as there:
            self._not_here(there, known.url)
            way = _Way(
                verb="data.push",
                title=f"push {known.repository}",
                remote=remote,
                sender=self._side,
                receiver=there,
                source=repository,
                target=there.verbs.find(there.project_id, known.repository),
                name=known.repository,
                actor=actor,
                branches=branches,
                lease={b: CommitId(h) for b, h in known.heads.items()} if force_with_lease else None,
                advance=advance,
            )
            done = self._transfer(way)
            seen = _heads(there, there.verbs.get(there.project_id, known.repository))
        with self._s.changes.begin("data.push", repository.project_id, actor) as change:
            queries.set_remote(change.tx.conn, repository.id, remote, heads=seen)
            change.note(repository.name, remote=remote, commits=done.commits, written=done.written)
        return done

    def import_dvc(
        self,
        folder: Path,
        name: str | None = None,
        *,
        actor: Actor,
        targets: Sequence[str] = (),
        single: bool = False,
        branches: Sequence[str] = (),
        everything: bool = False,
        skip_missing: bool = False,
        advance: Advance | None = None,
    ) -> Imported:
        """Takes over a DVC repository with the history of what it tracks; see ``DvcImport.run``."""
        how = {"actor": actor, "skip_missing": skip_missing, "advance": advance}
        run = DvcImport(self._s, self._side, folder, **how).run
        return run(name, targets=targets, single=single, refs=branches, everything=everything)

    def _not_here(self, side: Side, url: str) -> None:
        if side.workspace == self._side.workspace:
            raise Invalid(
                f"{shown_place(url)} is this workspace.",
                hint="A repository lives once in a workspace; make a branch of it: noria data branch NAME BRANCH",
            )

    # ---- one transfer

    def _transfer(self, way: _Way) -> Transferred:
        for _ in range(TRIES):
            try:
                return self._try(way)
            except LostRaceError:
                continue  # the objects are there by now: the second time costs rows only
        raise HeadMoved(way.name, next(iter(way.branches), "main"), None, None)

    def _try(self, way: _Way) -> Transferred:
        if way.target is not None:
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
            target.faults.at("transfer.land")
            with _packs_kept(target, packs), target.changes.begin(*opened) as change:
                target.sessions.seal(change.tx, packs)
                repository = way.target or make_repository(change, way.receiver, way.name, parcel)
                run = land_commits(change, way.receiver, repository, parcel, way.title)
                land_tags(change, repository, parcel.tags)
                if not move_heads(change, way.receiver, repository, moves):
                    raise LostRaceError
                if way.also is not None:
                    way.also(change, repository)
                change.note(way.name, source=parcel.source, commits=len(parcel.commits), stored=writer.written)
        return _report(way, parcel, sending, writer, moves, run)


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
    way: _Way, parcel: Parcel, sending: Sending, writer: Writer, moves: Sequence[Moved] = (), run: RunId | None = None
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


def _plan(way: _Way) -> _Plan:
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


def _tips(way: _Way) -> dict[str, CommitId]:
    """The heads that the sender has and that were asked for."""
    tips = _heads(way.sender, way.source)
    for name in way.branches:
        if name not in tips:
            hint = nearest(check_branch(name), tips) or f"Branches: {', '.join(sorted(tips))}."
            raise BranchNotFound(f"{way.source.name} has no commit on a branch {name!r} there.", hint=hint)
    return {name: tips[name] for name in way.branches} if way.branches else tips


def _plan_branch(plan: _Plan, way: _Way, mine: Connection, theirs: Connection, move: Moved) -> None:
    if move.before is None or queries.reaches(mine, way.source.id, move.after, move.before):
        plan.moves.append(move)
    elif way.lease is not None:
        if way.lease.get(move.branch) != move.before:
            raise HeadMoved(way.name, move.branch, way.lease.get(move.branch), move.before)
        plan.moves.append(move)
    elif way.target is None or not queries.reaches(theirs, way.target.id, move.before, move.after):
        plan.diverged.append(move.branch)


def _send(way: _Way, plan: _Plan, sending: Sending) -> Parcel:
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
        layouts = {c.id: c.layout for start in range(0, len(known), 500)
                   for c in queries.commits_by_ids(mine, known[start : start + 500])}  # fmt: skip
    source = f"{way.sender.workspace[:12]} {way.sender.project}:{way.source.name}"
    parcel = parcel_of(way.sender, way.source, new[::-1], plan.tags, plan.tags_kept, source)
    for layout in layouts.values():
        sending.stand_on(way.source.kind, layout)
    for commit in parcel.commits:
        base = next((layouts[parent] for parent in commit.parents if parent in layouts), None)
        sending.commit(way.source.kind, commit, base)
        layouts[commit.id] = commit.layout
    sending.send()
    return parcel


def _heads(side: Side, repository: Repository) -> dict[str, CommitId]:
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


def _hint(way: _Way) -> str:
    name = way.source.name if way.verb == "data.push" else way.name
    return f"noria data fetch {name} {way.remote}   brings what went on there; merge it, then repeat this."


def _remote(
    name: str,
    url: str,
    repository: str,
    project: str,
    *,
    partial: bool = False,
    heads: dict[str, CommitId] | None = None,
) -> Remote:
    kept = without_password(url) if "://" in url else str(Path(url).expanduser().resolve())
    seen = {branch: str(head) for branch, head in (heads or {}).items()}
    return Remote(name=name, url=kept, repository=repository, project=project, partial=partial, heads=seen)


def split_url(url: str) -> tuple[str, str | None]:
    """(URL or folder, project or None) of ``URL#PROJECT``."""
    place, _, project = url.rpartition("#")
    if not place or Path(url).exists():
        return url, None
    return place, check_name(project, "a project")


def without_password(url: str) -> str:
    """A database's URL as it may be kept."""
    from sqlalchemy.engine import URL, make_url

    parsed = make_url(url)
    query = {key: value for key, value in parsed.query.items() if key.lower() != "password"}
    made = URL.create(parsed.drivername, parsed.username, None, parsed.host, parsed.port, parsed.database, query)
    return made.render_as_string(hide_password=False)


__all__ = ["ORIGIN", "OpenRemote", "Transfer"]
