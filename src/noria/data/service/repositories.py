"""Repositories: made, found, declared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from noria.assets.records import AssetKind, Version
from noria.base.actor import Actor
from noria.base.errors import Invalid
from noria.base.ids import ProjectId
from noria.base.names import nearest
from noria.base.once import Once
from noria.data import queries, taken
from noria.data import tables as t
from noria.data.below import Holds
from noria.data.errors import RepositoryExists, RepositoryNotFound, WrongRepositoryKind
from noria.data.moves import write_move
from noria.data.records import MAIN, Commit, Repository, RepositoryKind
from noria.data.service.base import Services
from noria.db import Tx

if TYPE_CHECKING:
    from sqlalchemy import Connection


class RepositoryVerbs:
    def __init__(self, services: Services) -> None:
        self._s = services
        self._db = services.db
        self._locks = services.locks
        self.hooks = services.hooks

    def create(
        self,
        project_id: ProjectId,
        name: str,
        kind: RepositoryKind,
        *,
        actor: Actor,
        key: tuple[str, ...] = (),
        time: str | None = None,
        known: str | None = None,
        asset_kind: AssetKind = AssetKind.DATASET,
        once: Once | None = None,
        tx: Tx | None = None,
    ) -> Repository:
        """Makes an empty repository with the branch ``main``.

        Raises:
            RepositoryExists: there is one of this name.
        """
        with self._s.changes.begin("data.create", project_id, actor, once=once, tx=tx) as change:
            if change.earlier is not None:
                return self.get(project_id, name)
            if queries.repository(change.tx.conn, project_id, name) is not None:
                raise RepositoryExists(f"There is a repository {name!r} already.", hint=f"noria data log {name}")
            asset = self._s.assets.define(change.tx, project_id, name, asset_kind)
            row = {"project_id": project_id, "asset_id": asset.id, "kind": kind.value, "key": list(key)}
            times = {"time": time, "known": known, "contract": None, "created_at": change.tx.now_ms}
            made = change.tx.insert(t.repositories, {**row, **times})
            head = {"repository_id": made, "name": MAIN, "head": None, "updated_at": change.tx.now_ms}
            change.tx.insert(t.branches, head)
            write_move(change, made, MAIN, None, None)
            change.note(name, kind=kind.value)
            change.event("repository.created", name, {"kind": kind.value})
            found = queries.repository(change.tx.conn, project_id, name)
        assert found is not None
        return found

    def ensure(
        self,
        project_id: ProjectId,
        name: str,
        kind: RepositoryKind,
        *,
        actor: Actor,
        key: tuple[str, ...] = (),
        time: str | None = None,
        known: str | None = None,
        asset_kind: AssetKind = AssetKind.DATASET,
    ) -> Repository:
        """The repository, made if it is new; refused where the one there is of another form."""
        found = self.find(project_id, name)
        if found is None:
            how = {"key": key, "time": time, "known": known}
            try:
                return self.create(project_id, name, kind, actor=actor, asset_kind=asset_kind, **how)
            except RepositoryExists:  # somebody else made it in between
                found = self.get(project_id, name)
        if found.kind != kind or (
            kind == RepositoryKind.TABLE and (found.key, found.time, found.known) != (key, time, known)
        ):
            if found.kind == kind and self._declare_again(found, key, time, known, actor):
                return self.get(project_id, name, kind)
            was, asked = _form(found.kind, found.key, found.time, found.known), _form(kind, key, time, known)
            raise Invalid(
                f"{name} was made with {was}; this asks for {asked}.",
                hint=f"Ask for {was} as well, or give the new one another name:\n"
                f"noria data create OTHER {asked.removeprefix('no --key')}".rstrip(),
            )
        return found

    def _declare_again(
        self, repository: Repository, key: tuple[str, ...], time: str | None, known: str | None, actor: Actor
    ) -> bool:
        """Gives a table that was never written to its new form; False where it holds a commit already."""
        with self._s.changes.begin("data.declare", repository.project_id, actor) as change:
            conn = change.tx.conn
            if any(branch.head is not None for branch in queries.branches(conn, repository.id)):
                return False
            queries.declare(conn, repository.id, key, time, known)
            change.note(repository.name, key=list(key), time=time, known=known)
        return True

    def find(self, project_id: ProjectId, name: str, tx: Tx | None = None) -> Repository | None:
        with self._db.read(tx) as conn:
            return queries.repository(conn, project_id, name)

    def get(self, project_id: ProjectId, name: str, kind: RepositoryKind | None = None) -> Repository:
        """The repository of this name.

        Raises:
            RepositoryNotFound: with the nearest name.
            WrongRepositoryKind: it is not of the ``kind`` asked for.
        """
        found = self.find(project_id, name)
        if found is None:
            hint = nearest(name, (r.name for r in self.repositories(project_id))) or "noria data list"
            raise RepositoryNotFound(f"There is no repository {name!r}.", hint=hint, details={"repository": name})
        if kind is not None and found.kind != kind:
            raise WrongRepositoryKind(name, found.kind.value, kind.value)
        return found

    def repositories(self, project_id: ProjectId) -> list[Repository]:
        with self._db.read() as conn:
            return queries.repositories(conn, project_id)

    def version(self, commit: Commit) -> Version:
        return self._s.assets.version(commit.version_id)

    def holds(self, conn: Connection, repository: Repository, branch: str, head: Commit | None) -> Holds:
        """Which commits a branch holds that stands at ``head``; it can be asked while the connection is open."""
        read = taken.span(conn, repository.id)
        return self._s.histories.of(repository.id, branch, taken.tip_of(head), read)


def _form(kind: RepositoryKind, key: tuple[str, ...], time: str | None, known: str | None) -> str:
    """How a repository was made, in the words of ``noria data create``."""
    if kind == RepositoryKind.FILES:
        return "--files"
    parts = [f"--key {column}" for column in key] or ["no --key"]
    parts += [f"--{what} {column}" for what, column in (("time", time), ("known", known)) if column is not None]
    return " ".join(parts)
