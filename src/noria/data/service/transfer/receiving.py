"""The rows of what another workspace sent: versions, commits, tags and heads, in one transaction of the receiver."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import update

from noria.assets import Change
from noria.assets import queries as asset_queries
from noria.assets.records import AssetKind, Direction, RunState, Version
from noria.base.ids import CommitId, ProjectId, RunId, VersionId
from noria.base.names import check_branch
from noria.data import queries, taken
from noria.data import tables as t
from noria.data.errors import TransferRefused
from noria.data.moves import move_head
from noria.data.records import MAIN, Commit, Moved, Repository, RepositoryKind
from noria.data.service.base import Services
from noria.data.service.refs import RefVerbs

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from noria.data.rows import RowsChange


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two workspaces of a transfer.

    Attributes:
        workspace: its id. project: the name of the project there.
    """

    services: Services
    workspace: str
    project_id: ProjectId
    project: str

    @property
    def verbs(self) -> RefVerbs:
        return RefVerbs(self.services)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """What is to arrive, read from the sender.

    Attributes:
        commits: oldest first. versions: of them, by the sender's numbers.
        tags: that are new there. tags_kept: that name another commit there and stay.
        contract: the row of the contract in force, for a repository that is new.
        facts: of the commits, what they took of sources and of producers: rows of the two tables.
        source: where it came from, in words.
    """

    repository: Repository
    asset_kind: AssetKind
    commits: list[Commit]
    versions: Mapping[VersionId, Version]
    tags: Mapping[str, CommitId]
    tags_kept: Sequence[str]
    contract: Mapping[str, Any] | None
    source: str
    facts: tuple[list[dict[str, Any]], list[dict[str, Any]]]


def make_repository(change: Change, side: Side, name: str, parcel: Parcel) -> Repository:
    """The repository of a clone or a first push, with the contract that is in force at the sender."""
    given = parcel.repository
    made = side.verbs.create(
        side.project_id,
        name,
        given.kind,
        actor=change.actor,
        key=given.key,
        time=given.time,
        known=given.known,
        asset_kind=parcel.asset_kind,
        tx=change.tx,
    )
    if parcel.contract is None:
        return made
    row = {**parcel.contract, "repository_id": made.id, "actor": change.actor.name, "created_at": change.tx.now_ms}
    change.tx.insert(t.contracts, row)
    number = parcel.contract["number"]
    change.tx.execute(update(t.repositories).where(t.repositories.c.id == made.id).values(contract=number))
    return replace(made, contract=number)


def land_commits(change: Change, side: Side, repository: Repository, parcel: Parcel, title: str) -> RunId | None:
    """Writes versions and commits; those that somebody else brought in between are left as they are.

    Returns the run of kind ``transfer`` that made them here; its trigger says from where.
    """
    if not parcel.commits:
        return None
    tx, assets = change.tx, side.services.assets
    how = {"kind": "transfer", "name": title, "actor": change.actor, "trigger": parcel.source}
    run_id = assets.start_run(tx, repository.project_id, leased=False, **how).id
    there = queries.commits_present(tx.conn, [c.id for c in parcel.commits])
    if any(number != repository.id for number in there.values()):
        raise TransferRefused(f"The commits of {repository.name} lie in another repository here already.")
    for commit in as_here(change.tx.conn, repository, parcel).values():
        if commit.id in there:
            continue
        given = parcel.versions[commit.version_id]
        version = assets.add_version(
            tx,
            repository.asset_id,
            digest=given.digest,
            content=given.content,
            layout=commit.layout,
            size=given.size,
            rows=given.rows,
            meta=given.meta,
            name=repository.name,
        )
        assets.link(tx, run_id, version.id, Direction.OUT, repository.name)
        here = replace(commit, repository_id=repository.id, version_id=version.id, run_id=run_id)
        tx.insert(t.commits, queries.commit_row(here))
    for table, rows in zip((t.collected, t.producers), parcel.facts, strict=True):
        new = [{**row, "repository_id": repository.id} for row in rows if row["commit_id"] not in there]
        tx.insert_new_many(table, new)
    assets.end_run(tx, run_id, RunState.DONE)
    return run_id


def as_here(conn: Connection, repository: Repository, parcel: Parcel) -> dict[CommitId, Commit]:
    """The commits, oldest first, with the contract that they were checked against where it is the same one here.

    The numbers of the sender mean nothing else here.
    """
    given, known = parcel.contract, None
    if given is not None:
        here = queries.contract(conn, repository.id, given["number"])
        known = given["number"] if here is not None and here.digest == given["digest"] else None
    return {c.id: replace(c, contract=c.contract if c.contract == known else None) for c in parcel.commits}


def land_tags(change: Change, repository: Repository, tags: Mapping[str, CommitId]) -> None:
    """A tag that somebody else made in between stays as it is."""
    for name, commit in tags.items():
        row = {"repository_id": repository.id, "name": check_branch(name), "commit_id": commit}
        change.tx.insert_new(t.tags, {**row, "created_at": change.tx.now_ms})


def move_heads(change: Change, side: Side, repository: Repository, moves: Iterable[Moved]) -> bool:
    """Makes branches and moves heads; False where one is not where it was seen."""
    tx, services = change.tx, side.services
    for move in moves:
        row = {"repository_id": repository.id, "name": check_branch(move.branch), "head": None}
        tx.insert_new(t.branches, {**row, "updated_at": tx.now_ms})
        services.faults.at("transfer.head")
        if not move_head(change, repository.id, move.branch, move.before, move.after):
            return False
        commit = queries.commit(tx.conn, move.after)
        assert commit is not None
        if move.branch == MAIN:
            services.assets.set_current(tx, repository.asset_id, commit.version_id)
            _tell_listeners(change, side, repository, move, commit)
        payload = {"branch": move.branch, "commit": commit.id, "generation": commit.generation, **commit.stats}
        change.event("commit.created", repository.name, payload)
        services.hooks.after(change, repository, move.branch, commit, merge=True)
    return True


def _tell_listeners(change: Change, side: Side, repository: Repository, move: Moved, commit: Commit) -> None:
    if repository.kind != RepositoryKind.TABLE or not side.services.listeners:
        return
    before = None if move.before is None else queries.commit(change.tx.conn, move.before)
    for listener in side.services.listeners:
        listener(change, repository, _whole_table(side, before, commit), commit)


def _whole_table(side: Side, before: Commit | None, after: Commit) -> RowsChange:
    """A table that was exchanged as a whole. Its rows are read only if somebody asks for them."""
    from noria.data.service.transfer.exchanged import exchanged

    return exchanged(side.services.sessions.store, None if before is None else before.layout, after.layout)


def parcel_of(
    side: Side,
    repository: Repository,
    ids: list[CommitId],
    tags: Mapping[str, CommitId],
    tags_kept: Sequence[str],
    source: str,
) -> Parcel:
    """Reads what the sender has to say of these commits."""
    found: dict[CommitId, Commit] = {}
    with side.services.db.read() as conn:
        for start in range(0, len(ids), 500):
            found.update({c.id: c for c in queries.commits_by_ids(conn, ids[start : start + 500])})
        numbers = list({c.version_id for c in found.values()})
        versions: dict[VersionId, Version] = {}
        for start in range(0, len(numbers), 500):
            versions.update(asset_queries.versions_by_ids(conn, numbers[start : start + 500]))
        asset = asset_queries.asset_by_id(conn, repository.asset_id)
        row = None if repository.contract is None else queries.contract(conn, repository.id, repository.contract)
        facts = taken.of_commits(conn, ids)
    if asset is None or len(found) != len(ids):
        raise TransferRefused(f"{repository.name} changed in the other workspace while it was read.", hint="Repeat it.")
    contract = None if row is None else {"number": row.number, "digest": row.digest, "spec": row.spec}
    return Parcel(
        repository=repository,
        asset_kind=asset.kind,
        commits=[found[one] for one in ids],
        versions=versions,
        tags=tags,
        tags_kept=tags_kept,
        contract=contract,
        source=source,
        facts=facts,
    )
