"""Branches, tags and the names of commits."""

from __future__ import annotations

from noria.base.actor import Actor
from noria.base.ids import CommitId, ProjectId
from noria.base.names import check_branch, nearest
from noria.base.once import Once
from noria.base.times import parse_time
from noria.data import queries
from noria.data import tables as t
from noria.data.errors import BranchNotFound, RepositoryExists
from noria.data.records import MAIN, Branch, Commit, Repository
from noria.data.service.base import DataBase
from noria.db import Tx


class RefVerbs(DataBase):
    def branches(self, repository: Repository) -> list[Branch]:
        with self._db.read() as conn:
            return queries.branches(conn, repository.id)

    def create_branch(
        self, repository: Repository, name: str, *, at: str = MAIN, actor: Actor, once: Once | None = None
    ) -> Branch:
        check_branch(name)
        start = self.resolve(repository, at)
        with self._s.changes.begin("data.branch", repository.project_id, actor, once=once) as change:
            if change.earlier is not None:
                return Branch(name=name, head=change.earlier["head"], updated_at=change.earlier["updated_at"])
            row = {"repository_id": repository.id, "name": name, "head": start.id, "updated_at": change.tx.now_ms}
            if not change.tx.insert_new(t.branches, row):
                raise RepositoryExists(f"{repository.name} has a branch {name!r} already.")
            change.note(f"{repository.name}@{name}", at=start.id)
            change.answer({"head": start.id, "updated_at": row["updated_at"]})
        return Branch(name=name, head=start.id, updated_at=row["updated_at"])

    def head(self, repository: Repository, branch: str = MAIN, tx: Tx | None = None) -> Commit | None:
        """The newest commit of a branch; None while it is empty."""
        with self._db.read(tx) as conn:
            there, found = queries.head(conn, repository.id, branch)
            if not there:
                known = (b.name for b in queries.branches(conn, repository.id))
                hint = nearest(branch, known) or f"noria data log {repository.name}"
                raise BranchNotFound(f"{repository.name} has no branch {branch!r}.", hint=hint)
            return found

    def resolve(self, repository: Repository, ref: str = MAIN) -> Commit:
        """A commit by branch, tag, id or the beginning of an id; ``~n`` goes back, ``@time`` looks back.

        Raises:
            BranchNotFound: nothing has this name, or the branch is empty.
        """
        base, _, back = ref.partition("~")
        commit = self._named(repository, base or MAIN)
        if commit is None:
            raise BranchNotFound(
                f"{repository.name} has no branch, tag or commit {ref!r}.", hint=f"noria data log {repository.name}"
            )
        for _ in range(_steps(back, ref)):
            if not commit.parents:
                raise BranchNotFound(f"{repository.name}@{ref} goes back further than its first commit.")
            with self._db.read() as conn:
                before = queries.commit(conn, commit.parents[0])
            assert before is not None
            commit = before
        return commit

    def _named(self, repository: Repository, name: str) -> Commit | None:
        with self._db.read() as conn:
            if name.startswith("@"):
                return queries.commit_at(conn, repository.id, parse_time(name[1:]), by_wall=True)
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
        """The first-parent history, newest first."""
        commit: Commit | None = self.resolve(repository, ref)
        found: list[Commit] = []
        with self._db.read() as conn:
            while commit is not None and len(found) < limit:
                found.append(commit)
                commit = queries.commit(conn, commit.parents[0]) if commit.parents else None
        return found


def _steps(text: str, ref: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdecimal() and len(text) <= 5) or int(text) > 10_000:
        raise BranchNotFound(f"{ref!r} is not the name of a commit.", hint="Write for instance main~3.")
    return int(text)
