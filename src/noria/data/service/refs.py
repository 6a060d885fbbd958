"""Branches, tags and the names of commits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from noria.base.actor import Actor
from noria.base.errors import Invalid
from noria.base.ids import CommitId, ProjectId
from noria.base.names import check_branch, nearest
from noria.base.once import Once
from noria.base.pages import Page, check_limit, number_position, position, token
from noria.base.times import parse_time, to_text
from noria.data import ancestry, queries
from noria.data import moves as moved
from noria.data import tables as t
from noria.data.errors import BranchNotFound, CommitForgotten, CommitGone, HeadMovesOn, RepositoryExists, TagExists
from noria.data.moves import write_move
from noria.data.records import MAIN, Branch, Commit, Move, Names, Repository
from noria.data.service.landing import LandingVerbs
from noria.db import Tx

if TYPE_CHECKING:
    from sqlalchemy import Connection


class RefVerbs(LandingVerbs):
    def branches(self, repository: Repository) -> list[Branch]:
        with self._db.read() as conn:
            return queries.branches(conn, repository.id)

    def names(self, repository: Repository, commits: Iterable[Commit]) -> dict[CommitId, Names]:
        """The branches and tags of those of the commits that have some."""
        ids = [commit.id for commit in commits]
        with self._db.read() as conn:
            branches, tags = queries.names_of(conn, repository.id, ids)
        return {
            one: Names(tuple(branches.get(one, ())), tuple(tags.get(one, ())))
            for one in ids
            if one in branches or one in tags
        }

    def create_branch(
        self, repository: Repository, name: str, *, at: str = MAIN, actor: Actor, once: Once | None = None
    ) -> Branch:
        check_branch(name)
        start = self.resolve(repository, at)
        with self._s.changes.begin("data.branch", repository.project_id, actor, once=once) as change:
            if change.earlier is not None:
                return Branch(name=name, head=change.earlier["head"], updated_at=change.earlier["updated_at"])
            if queries.tag(change.tx.conn, repository.id, name) is not None:
                raise RepositoryExists(f"{repository.name} has a tag {name!r}.", hint="Take another name.")
            row = {"repository_id": repository.id, "name": name, "head": start.id, "updated_at": change.tx.now_ms}
            if not change.tx.insert_new(t.branches, row):
                raise RepositoryExists(f"{repository.name} has a branch {name!r} already.")
            write_move(change, repository.id, name, None, start.id)
            change.note(f"{repository.name}@{name}", at=start.id)
            change.answer({"head": start.id, "updated_at": row["updated_at"]})
        return Branch(name=name, head=start.id, updated_at=row["updated_at"])

    def head(self, repository: Repository, branch: str = MAIN, tx: Tx | None = None) -> Commit | None:
        """The newest commit of a branch; None while it is empty."""
        with self._db.read(tx) as conn:
            there, found = queries.head(conn, repository.id, branch)
            if not there:
                known = (b.name for b in queries.branches(conn, repository.id))
                hint = nearest(branch, known) or f"noria data branch {repository.name}   lists them."
                raise BranchNotFound(f"{repository.name} has no branch {branch!r}.", hint=hint)
            return found

    def resolve(self, repository: Repository, ref: str = MAIN) -> Commit:
        """A commit by branch, tag, id or the beginning of an id; ``~n`` goes back, ``@time`` looks back.

        ``@2013-04-01`` is what stood at that moment on ``main``, ``trial@2013-04-01`` what stood on ``trial``.

        Raises:
            BranchNotFound: nothing has this name, or the branch is empty, or was at that time.
            CommitForgotten: what a branch held at that time is gone.
            CommitGone: there is a gap on the way back.
        """
        base, _, back = ref.partition("~")
        commit = self._named(repository, base or MAIN)
        if commit is None:
            raise BranchNotFound(
                f"{repository.name} has no branch, tag or commit {ref!r}.",
                hint=f"noria data branch {repository.name}   or: noria data log {repository.name}",
            )
        for _ in range(_steps(back, ref)):
            if not commit.parents:
                raise BranchNotFound(f"{repository.name}@{ref} goes back further than its first commit.")
            with self._db.read() as conn:
                commit = _before(conn, repository.name, commit)
        return commit

    def _named(self, repository: Repository, name: str) -> Commit | None:
        with self._db.read() as conn:
            named, looks_back, moment = name.partition("@")
            if looks_back:
                return self._as_of(conn, repository, named or MAIN, parse_time(moment))
            branch = queries.branch(conn, repository.id, name)
            if branch is not None:
                if branch.head is None:
                    raise BranchNotFound(
                        f"{repository.name}@{name} has no commit yet.", hint=f"noria data commit {repository.name} ..."
                    )
                return queries.commit(conn, branch.head)
            tagged = queries.tag(conn, repository.id, name)
            if tagged is not None:
                return queries.commit(conn, tagged)
            if len(name) >= 4:
                found = queries.commits_like(conn, repository.id, name)
                if len(found) > 1:
                    raise BranchNotFound(f"Several commits begin with {name!r}.", hint="Write more digits.")
                return queries.commit(conn, found[0]) if found else None
        return None

    def _as_of(self, conn: Connection, repository: Repository, branch: str, moment: int) -> Commit:
        """What a branch held at a moment, by the record of its moves; also a branch that was removed since.

        Where a branch came from elsewhere, or stood before moves were written down, the moves of before are not known:
        then it is the newest commit of its line that was made by the moment.

        Raises:
            BranchNotFound: the branch was empty then, or not there.
            CommitForgotten: the commit at which it stood is gone.
        """
        last = moved.last_by(conn, repository.id, branch, moment)
        if last is not None and last.after is not None:
            found = queries.commit(conn, last.after)
            if found is None:
                kept = moved.first_kept_after(conn, repository.id, branch, last.number)
                raise CommitForgotten(repository.name, branch, last.after, None if kept is None else to_text(kept.at))
            return found
        following = moved.first_after(conn, repository.id, branch, moment)
        start: CommitId | None = None
        if following is None and last is None:  # of an older noria, and not moved since
            there, head = queries.head(conn, repository.id, branch)
            if not there:
                known = (b.name for b in queries.branches(conn, repository.id))
                hint = nearest(branch, known) or f"noria data moves {repository.name}"
                raise BranchNotFound(f"{repository.name} has no branch {branch!r}.", hint=hint)
            start = None if head is None else head.id
        elif last is None and following is not None:
            start = following.before or (following.after if following.verb in moved.FROM_ELSEWHERE else None)
        found = None if start is None else self._newest_by(conn, repository, start, moment)
        if found is None:
            raise _not_yet(
                repository, branch, moment, moved.first_after(conn, repository.id, branch, moment, held=True)
            )
        return found

    @staticmethod
    def _newest_by(conn: Connection, repository: Repository, start: CommitId, moment: int) -> Commit | None:
        """The newest commit of a line that was made by a moment."""
        graph = queries.graph(conn, repository.id)
        found = next((c for c in ancestry.first_parents(graph, start) if graph[c].at <= moment), None)
        return None if found is None else queries.commit(conn, found)

    def moves(
        self, repository: Repository, branch: str | None = None, *, limit: int = 50, after: str | None = None
    ) -> Page[Move]:
        """Where branches went, newest first: who moved them, when, by what, from where and to where.

        Args:
            branch: only this one; it need not be there any more.
            after: the ``next`` of the page before.
        """
        check_limit(limit)
        with self._db.read() as conn:
            found = moved.moves(conn, repository.id, branch, number_position(after), limit + 1)
        if not found and branch is not None and after is None:
            self.head(repository, branch)  # raises where there is no such branch
        more = len(found) > limit
        return Page(items=found[:limit], next=token(found[limit - 1].number) if more else None)

    def commit_by_id(self, commit_id: CommitId) -> tuple[Repository, Commit]:
        with self._db.read() as conn:
            found = queries.commit(conn, commit_id)
            repository = None if found is None else queries.repository_by_id(conn, found.repository_id)
        if found is None or repository is None:
            raise BranchNotFound(f"There is no commit {commit_id!r}.")
        return repository, found

    def find_commit(self, project_id: ProjectId, prefix: str) -> tuple[Repository, Commit] | None:
        """A commit of any repository by the beginning of its id."""
        with self._db.read() as conn:
            found = queries.any_commits_like(conn, project_id, prefix)
        return self.commit_by_id(found[0]) if len(found) == 1 else None

    def log(self, repository: Repository, ref: str = MAIN, limit: int = 50) -> list[Commit]:
        """The history, newest first, with what was merged; no commit comes before one of its descendants."""
        return self.log_page(repository, ref, limit=limit).items

    def log_page(
        self, repository: Repository, ref: str = MAIN, *, limit: int = 50, after: str | None = None
    ) -> Page[Commit]:
        """A page of the history; ``after`` is the ``next`` of the page before."""
        check_limit(limit)
        start = self.resolve(repository, ref)
        if len(start.parents) <= 1 and after is None:
            found = self._line(repository, start, limit + 1)
            if found is not None:
                return _page(found, limit)
        with self._db.read() as conn:
            graph = queries.graph(conn, repository.id)
            ids = list(islice(beyond(ancestry.newest_first(graph, start.id), after), limit + 1))
            return _page(queries.commits_in_order(conn, ids), limit)

    def _line(self, repository: Repository, start: Commit, count: int) -> list[Commit] | None:
        """The newest commits where nothing was merged among them; None where something was."""
        found = [start]
        with self._db.read() as conn:
            while len(found) < count and len(found[-1].parents) == 1:
                found.append(_before(conn, repository.name, found[-1]))
        return found if len(found[-1].parents) <= 1 else None

    # ---- tags

    def tags(self, repository: Repository) -> dict[str, CommitId]:
        with self._db.read() as conn:
            return queries.tags(conn, repository.id)

    def tag(
        self, repository: Repository, name: str, *, at: str = MAIN, actor: Actor, once: Once | None = None
    ) -> CommitId:
        """Gives a commit a name that does not move.

        Raises:
            TagExists: the name is a tag of another commit, or a branch.
        """
        check_branch(name)
        earlier = self._s.changes.answered("data.tag", repository.project_id, once)
        if earlier is not None:
            return CommitId(earlier["commit"])
        commit = self.resolve(repository, at)
        with self._s.changes.begin("data.tag", repository.project_id, actor, once=once) as change:
            if change.earlier is not None:
                return CommitId(change.earlier["commit"])
            conn = change.tx.conn
            if queries.branch(conn, repository.id, name) is not None:
                raise TagExists(f"{repository.name} has a branch {name!r}.", hint="Take another name for the tag.")
            row = {"repository_id": repository.id, "name": name, "commit_id": commit.id}
            if not change.tx.insert_new(t.tags, {**row, "created_at": change.tx.now_ms}):
                there = queries.tag(conn, repository.id, name)
                if there != commit.id:
                    raise TagExists(
                        f"{repository.name} has a tag {name!r} already, at {(there or '')[:12]}. Tags do not move.",
                        hint=f"noria data tag {repository.name} {name} --delete   removes it.",
                    )
            change.note(f"{repository.name}@{name}", at=commit.id)
            change.event("tag.created", repository.name, {"tag": name, "commit": commit.id})
            change.answer({"commit": commit.id})
        return commit.id

    def delete_tag(self, repository: Repository, name: str, *, actor: Actor, once: Once | None = None) -> None:
        """Removes a tag; the commit stays as long as a branch holds it.

        Raises:
            BranchNotFound: there is no such tag.
        """
        with self._s.changes.begin("data.untag", repository.project_id, actor, once=once) as change:
            if change.earlier is not None:
                return
            if not queries.delete_tag(change.tx.conn, repository.id, name):
                hint = nearest(name, queries.tags(change.tx.conn, repository.id))
                raise BranchNotFound(f"{repository.name} has no tag {name!r}.", hint=hint)
            change.note(f"{repository.name}@{name}")
            change.event("tag.deleted", repository.name, {"tag": name})

    def delete_branch(
        self, repository: Repository, name: str, *, actor: Actor, once: Once | None = None
    ) -> CommitId | None:
        """Removes a branch; returns where it stood. Its commits are found by their ids until they are pruned.

        Raises:
            BranchNotFound: there is no such branch.
            Invalid: it is ``main``.
            HeadMovesOn: somebody committed to it in between.
        """
        if name == MAIN:
            raise Invalid(f"{repository.name}@{MAIN} cannot be deleted.", hint=f"noria data delete {repository.name}")
        earlier = self._s.changes.answered("data.unbranch", repository.project_id, once)
        if earlier is not None:  # the branch is gone by now
            return earlier["head"]
        head = self.head(repository, name)
        stood = None if head is None else head.id
        with self._s.changes.begin("data.unbranch", repository.project_id, actor, once=once) as change:
            if change.earlier is not None:
                return change.earlier["head"]
            if not queries.delete_branch(change.tx.conn, repository.id, name, stood):
                raise HeadMovesOn(repository.name, name)
            write_move(change, repository.id, name, stood, None)
            change.note(f"{repository.name}@{name}", head=stood)
            change.event("branch.deleted", repository.name, {"branch": name, "head": stood})
            change.answer({"head": stood})
        return stood


def _before(conn: Connection, name: str, commit: Commit) -> Commit:
    found = queries.commit(conn, commit.parents[0])
    if found is None:
        raise CommitGone(name, commit.parents[0], commit.id)
    return found


def _not_yet(repository: Repository, branch: str, moment: int, first: Move | None) -> BranchNotFound:
    name = f"{repository.name}@{branch}"
    if first is None:
        return BranchNotFound(
            f"{name} held nothing at {to_text(moment)}, and holds nothing since.",
            hint=f"noria data moves {repository.name}   shows where branches went.",
        )
    return BranchNotFound(
        f"{name} held nothing at {to_text(moment)}; the first that is known of it after that is from "
        f"{to_text(first.at)}.",
        hint=f"noria data log {repository.name} --ref {branch}@{to_text(first.at)}",
        details={"repository": repository.name, "branch": branch, "first": to_text(first.at)},
    )


def _page(found: list[Commit], limit: int) -> Page[Commit]:
    more = len(found) > limit
    return Page(items=found[:limit], next=token(found[limit - 1].id) if more else None)


def beyond(ids: Iterator[CommitId], after: str | None) -> Iterator[CommitId]:
    last = position(after)
    if last is None:
        return ids
    for one in ids:
        if one == last:
            return ids
    raise Invalid(f"{after!r:.60} is not a page token of this history.", hint="Begin with the first page.")


def _steps(text: str, ref: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdecimal() and len(text) <= 5) or int(text) > 10_000:
        raise BranchNotFound(f"{ref!r} is not the name of a commit.", hint="Write for instance main~3.")
    return int(text)
