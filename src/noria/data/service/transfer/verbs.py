"""Moving repositories between workspaces: remotes, clone, push, pull, fetch.

A transfer has a sending and a receiving side. Objects first, in packs of the receiver that are named as they come;
then one transaction there: versions, commits, tags, and heads by compare-and-swap. A transfer that is killed leaves
nothing half visible, and repeated it sends only what had not arrived.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from noria.assets import Change
from noria.base.actor import Actor
from noria.base.digest import Digest
from noria.base.errors import Invalid, Refused
from noria.base.ids import CommitId
from noria.base.names import check_name, nearest
from noria.data import queries
from noria.data import tables as t
from noria.data.errors import RemoteExists, RemoteNotFound, RepositoryExists
from noria.data.records import MAIN, Imported, Moved, Remote, Repository, RepositoryKind, Transferred
from noria.data.service.base import Services
from noria.data.service.history import HistoryVerbs
from noria.data.service.refs import RefVerbs
from noria.data.service.transfer.dvc import DvcImport
from noria.data.service.transfer.exchange import Advance, Way, exchange, heads_of
from noria.data.service.transfer.promised import Promised
from noria.data.service.transfer.receiving import (
    Side,
)
from noria.data.service.transfer.sending import Sending
from noria.data.values import shown_place
from noria.store import Kind, ObjectStore, files, tree

ORIGIN: Final = "origin"
OpenRemote = Callable[[str, str | None], AbstractContextManager[Side]]
"""From the URL of a workspace, and the name of a project there or None, to its services."""


class Transfer:
    """One per workspace."""

    def __init__(
        self,
        services: Services,
        side: Side,
        open_remote: OpenRemote,
        promised: Callable[[], Promised],
        merging: Callable[[RepositoryKind], HistoryVerbs],
    ) -> None:
        self._s = services
        self._db = services.db
        self._side = side
        self._open = open_remote
        self._promised = promised
        self._merging = merging
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
        if remote.partial and self._lacks(repository):
            raise Refused(
                f"Contents of {repository.name} lie only in {shown_place(remote.url)}.",
                hint=f"noria data fetch {repository.name} --path '*' --ref COMMIT   brings those of a commit.",
            )
        with self._s.changes.begin("data.remote", repository.project_id, actor) as change:
            queries.remove_remote(change.tx.conn, repository.id, remote.name)
            change.note(repository.name, removed=name)

    def _lacks(self, repository: Repository) -> bool:
        """Whether a content of any commit is not here."""
        store = self._s.sessions.store
        with self._db.read() as conn:
            layouts = {commit.layout for commit in queries.all_commits(conn, repository.id)}
        return any(store.index.missing(some) for layout in layouts for some in _below(store, repository.kind, layout))

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
            heads = heads_of(there, source)

            def remember(change: Change, repository: Repository) -> None:
                made = _remote(ORIGIN, place, name, there.project, partial=partial, heads=heads)
                self._insert_remote(change, repository, made)

            way = Way(
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
            return exchange(way)

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
            seen = heads_of(there, source)
            wanted = {b: h for b, h in seen.items() if not branches or b in branches}

            def remember(change: Change, repository: Repository) -> None:
                queries.set_remote(change.tx.conn, repository.id, remote, heads={**known.heads, **wanted})

            way = Way(
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
            return exchange(way)

    def pull_merged(
        self,
        repository: Repository,
        remote: str = ORIGIN,
        *,
        actor: Actor,
        branches: Sequence[str] = (),
        strategy: str = "conflict",
        advance: Advance | None = None,
    ) -> Transferred:
        """Like ``pull``; a branch that went on here and there is merged.

        Raises:
            MergeConflict: both sides changed the same. The commits of the other one are here by then.
        """
        done = self.pull(repository, remote, actor=actor, branches=branches, heads=False, advance=advance)
        tips = self.remote(repository, remote).heads
        verbs = self._merging(repository.kind)
        here = {branch.name: branch.head for branch in verbs.branches(repository)}
        moved = list[Moved]()
        for name in branches or sorted(tips):
            if name not in here:
                verbs.create_branch(repository, name, at=tips[name], actor=actor)
                moved.append(Moved(branch=name, before=None, after=CommitId(tips[name])))
                continue
            message = f"merge of {name} from {remote}"
            head = verbs.merge(repository, tips[name], into=name, actor=actor, strategy=strategy, message=message)
            if head.id != here[name]:
                moved.append(Moved(branch=name, before=here[name], after=head.id))
        return replace(done, moved=tuple(moved))

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
            way = Way(
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
            done = exchange(way)
            seen = heads_of(there, there.verbs.get(there.project_id, known.repository))
        with self._s.changes.begin("data.push", repository.project_id, actor) as change:
            here = queries.commits_present(change.tx.conn, list(seen.values()))
            # A head that others moved to what was never brought here is not seen: no lease may overwrite it.
            heads = {b: h if here.get(h) == repository.id else known.heads.get(b) for b, h in seen.items()}
            kept = {branch: str(head) for branch, head in heads.items() if head is not None}
            queries.set_remote(change.tx.conn, repository.id, remote, heads=kept)
            change.note(repository.name, remote=remote, commits=done.commits, written=done.written)
        return done

    def fill(
        self, repository: Repository, pattern: str = "*", *, ref: str = MAIN, advance: Advance | None = None
    ) -> Transferred:
        """Brings contents of a commit that a partial clone left where they are: files whose path fits, or a table.

        Raises:
            Unavailable: the remote cannot be opened.
        """
        commit = self._data.resolve(repository, ref)
        store = self._s.sessions.store

        def ask(sending: Sending) -> None:
            if repository.kind == RepositoryKind.TABLE:
                sending.table(commit.layout)
                return
            for entry in tree.walk(store, commit.layout):
                if entry.content is not None and fnmatchcase(entry.path, pattern):
                    sending.content(entry.content)

        objects, written, reused = self._promised().bring(ask, advance)
        return Transferred(
            repository=repository.name, remote="", commits=0, objects=objects, written=written, reused=reused
        )

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


def _below(store: ObjectStore, kind: RepositoryKind, layout: Digest) -> Iterator[list[bytes]]:
    """Ids of the contents of a tree or table, some at a time."""
    if kind == RepositoryKind.TABLE:
        from noria.data.rows import load_layout

        yield [fragment.id for fragment in load_layout(store, layout).fragments]
        return
    for entry in tree.walk(store, layout):
        if entry.content is not None:
            yield [entry.content.id.raw]
            if entry.content.kind == Kind.RECIPE:
                yield [chunk.raw for chunk, _ in files.recipe_parts(store, entry.content.id)]


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
