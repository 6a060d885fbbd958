"""How much of the store repositories and commits need.

Each object is walked once, whoever names it: the first owner that reaches it descends, the others only note at the top
of what they share that it is shared. So the cost is one pass over all trees, and a few nodes for each further commit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection, func, select

from noria.assets import tables as at
from noria.assets.reach import Object, Reach, read_index
from noria.assets.records import Content
from noria.assets.roots import layout_kind
from noria.base.digest import Digest
from noria.base.errors import NoriaError
from noria.base.ids import ProjectId
from noria.data import tables as t
from noria.data.records import Repository, RepositoryKind
from noria.data.roots import layout_kind_of
from noria.db import Database
from noria.store import Kind, ObjectStore
from noria.store.packs import RECORD


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What one owner needs, in bytes.

    Attributes:
        name: of a repository, or the id of a commit.
        logical: what a reader sees: of a repository, all its commits together.
        stored: of the store, after deduplication and compression.
        added: of these, what no owner before it needed.
        exclusive: what would be freed without it.
    """

    name: str
    logical: int
    stored: int
    added: int
    exclusive: int
    commits: int = 1


class _Ownership:
    """Who needs which object."""

    def __init__(self, reach: Reach, store: ObjectStore) -> None:
        self._reach = reach
        self._store = store
        self._number: dict[bytes, int] = {}
        self._owner: list[int] = []
        self._below: dict[int, list[int]] = {}
        self._shared: set[int] = set()
        self._tops: list[set[int]] = []

    def add(self, roots: Iterable[Object], step: Callable[..., None]) -> None:
        """Takes one owner's roots in; owners are numbered from 0, in the order in which they are added."""
        owner = len(self._tops)
        tops = {self._walk(owner, root, step) for root in roots}
        self._tops.append(tops)

    def _walk(self, owner: int, root: Object, step: Callable[..., None]) -> int:
        pending: list[tuple[Object, int | None]] = [(root, None)]
        top = -1
        while pending:
            (kind, oid), parent = pending.pop()
            number = self._number.get(oid)
            if number is None:
                number = self._number[oid] = len(self._owner)
                self._owner.append(owner)
                follow = self._reach.children.get(kind)
                if follow is not None:
                    step()
                    self._below[number] = []
                    with contextlib.suppress(NoriaError):  # damaged or elsewhere: noria data check tells
                        pending += [(child, number) for child in follow(self._store, Digest(oid))]
            elif self._owner[number] != owner:
                self._shared.add(number)
            if parent is None:
                top = number
            else:
                self._below[parent].append(number)
        return top

    def totals(self, *, exact: bool) -> list[tuple[int, int, int]]:
        """(stored, added, exclusive) of each owner; not ``exact``: what an owner needs twice is counted twice."""
        owners, sizes = len(self._tops), self._sizes()
        owner = np.array(self._owner, np.int64)
        shared = np.zeros(len(owner), bool)
        pending = list(self._shared)
        while pending:
            number = pending.pop()
            if not shared[number]:
                shared[number] = True
                pending += self._below.get(number, ())
        added = np.bincount(owner, sizes, owners).astype(np.int64)
        exclusive = np.bincount(owner, np.where(shared, 0, sizes), owners).astype(np.int64)
        plain: list[int] = sizes.tolist()
        if exact:
            stored = [self._distinct(tops, plain) for tops in self._tops]
        else:
            whole = dict[int, int]()
            stored = [sum(self._whole(top, plain, whole) for top in tops) for tops in self._tops]
        return [(stored[n], int(added[n]), int(exclusive[n])) for n in range(owners)]

    def _distinct(self, tops: set[int], sizes: list[int]) -> int:
        seen, todo, total = set[int](), list(tops), 0
        while todo:
            number = todo.pop()
            if number not in seen:
                seen.add(number)
                total += sizes[number]
                todo += self._below.get(number, ())
        return total

    def _whole(self, top: int, sizes: list[int], done: dict[int, int]) -> int:
        """The bytes of everything below an object; each is added up once, whoever shares it."""
        todo = [top]
        while todo:
            number = todo[-1]
            inner = [n for n in self._below.get(number, ()) if n in self._below]
            open_ones = [n for n in inner if n not in done]
            if number in done or not open_ones:
                todo.pop()
                if number not in done:
                    below = self._below.get(number, ())
                    done[number] = sizes[number] + sum(done.get(n, sizes[n]) for n in below)
            else:
                todo += open_ones
        return done[top]

    def _sizes(self) -> Any:
        """The stored bytes of each object, with the head of its record."""
        keys, stored = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
        self._store.refresh()
        for pack in self._store.index.packs():
            try:
                rows = read_index(self._store, pack)
            except NoriaError:
                continue
            keys.append(rows["key"].astype(np.uint64))
            stored.append(rows["stored"].astype(np.int64) + RECORD.size)
        known, place = np.unique(np.concatenate(keys), return_index=True)
        size = np.concatenate(stored)[place]
        mine = np.array([int.from_bytes(oid[:8], "little") for oid in self._number], np.uint64)
        if not len(known):
            return np.zeros(len(mine), np.int64)
        found: Any = known.searchsorted(mine)
        found[found == len(known)] = 0
        return np.where(known[found] == mine, size[found], 0)


class Storage:
    """Reports of what is needed by whom."""

    def __init__(self, db: Database, reach: Reach, store: ObjectStore) -> None:
        self._db = db
        self._reach = reach
        self._store = store

    def repositories(self, project_id: ProjectId, advance: Callable[..., None]) -> list[Needs]:
        """What each repository needs; exclusive is what no other repository, model, report or step needs."""
        with self._db.read() as conn:
            names = _names(conn)
            named = {number: list(_repository_roots(conn, number)) for number in names}
            rest = list(_other_roots(conn))
            logical, commits = _logical(conn)
        ownership = _Ownership(self._reach, self._store)
        for roots in named.values():
            ownership.add(roots, advance)
        ownership.add([*rest, *self._unowned(named, rest)], advance)
        totals = ownership.totals(exact=True)
        return [
            Needs(
                name=names[number].name,
                logical=logical.get(number, 0),
                stored=stored,
                added=added,
                exclusive=exclusive,
                commits=commits.get(number, 0),
            )
            for number, (stored, added, exclusive) in zip(named, totals[:-1], strict=True)
            if names[number].project_id == project_id
        ]

    def _unowned(self, named: dict[int, list[Object]], rest: list[Object]) -> list[Object]:
        """Roots of rooms that know no repositories."""
        known = {oid for roots in [*named.values(), rest] for _, oid in roots}
        return [root for root in self._reach.roots() if root[1] not in known]

    def commits(self, repository: Repository, advance: Callable[..., None]) -> list[Needs]:
        """What each commit of a repository needs, newest first; exclusive is what no other commit of it needs."""
        kind, c = layout_kind_of(repository.kind), t.commits.c
        with self._db.read() as conn:
            found = select(c.id, c.layout, at.versions.c.size).join(at.versions, at.versions.c.id == c.version_id)
            rows = conn.execute(found.where(c.repository_id == repository.id).order_by(c.generation, c.at, c.id)).all()
        ownership = _Ownership(self._reach, self._store)
        for row in rows:
            commit = (Kind.COMMIT, bytes.fromhex(row.id))
            ownership.add([commit, (kind, Digest.parse(row.layout).raw)], advance)
        totals = ownership.totals(exact=False)
        made = [
            Needs(name=row.id, logical=row.size, stored=stored, added=added, exclusive=exclusive)
            for row, (stored, added, exclusive) in zip(rows, totals, strict=True)
        ]
        return made[::-1]


@dataclass(frozen=True, slots=True)
class _Name:
    name: str
    project_id: int


def _names(conn: Connection) -> dict[int, _Name]:
    found = select(t.repositories.c.id, at.assets.c.name, at.assets.c.project_id)
    found = found.join(at.assets, at.assets.c.id == t.repositories.c.asset_id).order_by(t.repositories.c.id)
    return {row.id: _Name(row.name, row.project_id) for row in conn.execute(found)}


def _repository_roots(conn: Connection, repository_id: int) -> Iterable[Object]:
    r = t.repositories.c
    kind = layout_kind_of(RepositoryKind(conn.execute(select(r.kind).where(r.id == repository_id)).scalar_one()))
    commits = select(t.commits.c.id, t.commits.c.layout).where(t.commits.c.repository_id == repository_id)
    for row in conn.execute(commits):
        yield Kind.COMMIT, bytes.fromhex(row.id)
        yield kind, Digest.parse(row.layout).raw
    drafts = select(t.drafts.c.layout).where(t.drafts.c.repository_id == repository_id, t.drafts.c.state == "open")
    for (layout,) in conn.execute(drafts.where(t.drafts.c.layout.is_not(None))):
        yield kind, Digest.parse(layout).raw
    q = t.quarantine.c
    for (name,) in conn.execute(select(q.object).where(q.repository_id == repository_id, q.state != "accepted")):
        yield Kind.FRAGMENT, bytes.fromhex(name)
    versions = select(at.versions.c.content, at.versions.c.layout).join(
        t.repositories, r.asset_id == at.versions.c.asset_id
    )
    for row in conn.execute(versions.where(r.id == repository_id, at.versions.c.gone_at.is_(None))):
        yield layout_kind(Content(row.content)), Digest.parse(row.layout).raw


def _other_roots(conn: Connection) -> Iterable[Object]:
    """Versions of assets that are no repositories."""
    v, r = at.versions.c, t.repositories.c
    found = select(v.content, v.layout).outerjoin(t.repositories, r.asset_id == v.asset_id)
    for row in conn.execute(found.where(r.id.is_(None), v.gone_at.is_(None))):
        yield layout_kind(Content(row.content)), Digest.parse(row.layout).raw


def _logical(conn: Connection) -> tuple[dict[int, int], dict[int, int]]:
    """(bytes that a reader sees in all commits, number of commits) of each repository."""
    c = t.commits.c
    found = select(c.repository_id, func.sum(at.versions.c.size).label("size"), func.count().label("commits"))
    rows = conn.execute(found.join(at.versions, at.versions.c.id == c.version_id).group_by(c.repository_id)).all()
    return {row.repository_id: int(row.size) for row in rows}, {row.repository_id: int(row.commits) for row in rows}
