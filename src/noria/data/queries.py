from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, delete, func, or_, select, update

from noria.assets import tables as at
from noria.base.digest import Digest
from noria.base.ids import AssetId, CommitId, ProjectId, RunId, VersionId, begins_id
from noria.data import tables as t
from noria.data.ancestry import Link
from noria.data.records import (
    Branch,
    Commit,
    Draft,
    Quarantined,
    QuarantineState,
    Remote,
    Repository,
    RepositoryKind,
)

ANCESTRY_PAGE: Final = 1000
"""Generations that are read at once when the history is followed."""

_REPOSITORIES = select(t.repositories, at.assets.c.name).join(at.assets, at.assets.c.id == t.repositories.c.asset_id)
_COMMITS = select(t.commits, at.versions.c.digest).join(at.versions, at.versions.c.id == t.commits.c.version_id)
_NAMED = _REPOSITORIES.where(at.assets.c.project_id == bindparam("project_id"), at.assets.c.name == bindparam("name"))
_COMMIT = _COMMITS.where(t.commits.c.id == bindparam("id"))
_LAYOUT = select(t.commits.c.layout).where(t.commits.c.id == bindparam("id"))
_BRANCH = select(t.branches).where(
    t.branches.c.repository_id == bindparam("repository_id"), t.branches.c.name == bindparam("name")
)
_HEAD = (
    select(t.branches.c.head, t.commits, at.versions.c.digest)
    .select_from(t.branches)
    .outerjoin(t.commits, t.commits.c.id == t.branches.c.head)
    .outerjoin(at.versions, at.versions.c.id == t.commits.c.version_id)
    .where(t.branches.c.repository_id == bindparam("repository_id"), t.branches.c.name == bindparam("branch"))
)
_DRAFTS = select(t.drafts)
_QUARANTINE = (
    select(t.quarantine, at.assets.c.name)
    .join(t.repositories, t.repositories.c.id == t.quarantine.c.repository_id)
    .join(at.assets, at.assets.c.id == t.repositories.c.asset_id)
)


def repository(conn: Connection, project_id: ProjectId, name: str) -> Repository | None:
    row = conn.execute(_NAMED, {"project_id": project_id, "name": name}).one_or_none()
    return None if row is None else _repository(row)


def repository_by_id(conn: Connection, repository_id: int) -> Repository | None:
    row = conn.execute(_REPOSITORIES.where(t.repositories.c.id == repository_id)).one_or_none()
    return None if row is None else _repository(row)


def repositories(conn: Connection, project_id: ProjectId) -> list[Repository]:
    found = _REPOSITORIES.where(at.assets.c.project_id == project_id).order_by(at.assets.c.name)
    return [_repository(row) for row in conn.execute(found)]


def has_repositories(conn: Connection, project_id: ProjectId) -> bool:
    found = select(t.repositories.c.id).where(t.repositories.c.project_id == project_id).limit(1)
    return conn.execute(found).first() is not None


def _repository(row: Row[Any]) -> Repository:
    return Repository(
        id=row.id,
        project_id=ProjectId(row.project_id),
        asset_id=AssetId(row.asset_id),
        name=row.name,
        kind=RepositoryKind(row.kind),
        key=tuple(row.key),
        time=row.time,
        known=row.known,
        contract=row.contract,
        created_at=row.created_at,
    )


def declare(conn: Connection, repository_id: int, key: tuple[str, ...], time: str | None, known: str | None) -> None:
    values = {"key": list(key), "time": time, "known": known}
    conn.execute(update(t.repositories).where(t.repositories.c.id == repository_id).values(**values))


def branch(conn: Connection, repository_id: int, name: str) -> Branch | None:
    row = conn.execute(_BRANCH, {"repository_id": repository_id, "name": name}).one_or_none()
    return None if row is None else _branch(row)


def head(conn: Connection, repository_id: int, name: str) -> tuple[bool, Commit | None]:
    """(whether there is such a branch, the commit at its head)."""
    row = conn.execute(_HEAD, {"repository_id": repository_id, "branch": name}).one_or_none()
    return row is not None, None if row is None or row.head is None else _commit(row)


def branches(conn: Connection, repository_id: int) -> list[Branch]:
    found = select(t.branches).where(t.branches.c.repository_id == repository_id).order_by(t.branches.c.name)
    return [_branch(row) for row in conn.execute(found)]


def _branch(row: Row[Any]) -> Branch:
    return Branch(name=row.name, head=None if row.head is None else CommitId(row.head), updated_at=row.updated_at)


def move_branch(
    conn: Connection, repository_id: int, name: str, before: CommitId | None, after: CommitId | None, now: int
) -> bool:
    """Compare-and-swap of a head."""
    c = t.branches.c
    same = c.head.is_(None) if before is None else c.head == before
    where = (c.repository_id == repository_id, c.name == name, same)
    return conn.execute(update(t.branches).where(*where).values(head=after, updated_at=now)).rowcount == 1


def layout_of(conn: Connection, commit_id: CommitId) -> Digest | None:
    """How a commit lies in the store now; it may be another than it was, with the same rows or without erased ones."""
    found = conn.execute(_LAYOUT, {"id": commit_id}).scalar_one_or_none()
    return None if found is None else Digest.parse(found)


def commit(conn: Connection, commit_id: CommitId) -> Commit | None:
    row = conn.execute(_COMMIT, {"id": commit_id}).one_or_none()
    return None if row is None else _commit(row)


def commits_like(conn: Connection, repository_id: int, prefix: str) -> list[CommitId]:
    """Commits whose id begins with these hexadecimal digits; none for a text that is no such thing."""
    if not begins_id(prefix, 64):
        return []
    where = (t.commits.c.repository_id == repository_id, t.commits.c.id.like(f"{prefix}%"))
    return [CommitId(found) for (found,) in conn.execute(select(t.commits.c.id).where(*where).limit(2))]


def any_commits_like(conn: Connection, project_id: ProjectId, prefix: str) -> list[CommitId]:
    if not begins_id(prefix, 64):
        return []
    found = (
        select(t.commits.c.id)
        .join(t.repositories, t.repositories.c.id == t.commits.c.repository_id)
        .where(t.repositories.c.project_id == project_id, t.commits.c.id.like(f"{prefix}%"))
    )
    return [CommitId(one) for (one,) in conn.execute(found.limit(2))]


def commits_by_ids(conn: Connection, ids: list[CommitId]) -> list[Commit]:
    return [_commit(row) for row in conn.execute(_COMMITS.where(t.commits.c.id.in_(ids)))]


def commits_in_order(conn: Connection, ids: list[CommitId]) -> list[Commit]:
    """These commits, in the order of their ids given."""
    found = {c.id: c for start in range(0, len(ids), 500) for c in commits_by_ids(conn, ids[start : start + 500])}
    return [found[one] for one in ids if one in found]


def set_layout(conn: Connection, version_id: VersionId, before: Digest, after: Digest) -> None:
    """The commits of a version read it from another object with the same content."""
    where = (t.commits.c.version_id == version_id, t.commits.c.layout == str(before))
    conn.execute(update(t.commits).where(*where).values(layout=str(after)))


def commits_of_repository(conn: Connection, repository_id: int) -> list[Commit]:
    """All commits of all branches, by generation."""
    c = t.commits.c
    found = _COMMITS.where(c.repository_id == repository_id).order_by(c.generation, c.at, c.id)
    return [_commit(row) for row in conn.execute(found)]


def commits_of_version(conn: Connection, version_id: VersionId) -> list[Commit]:
    return [_commit(row) for row in conn.execute(_COMMITS.where(t.commits.c.version_id == version_id))]


def graph(conn: Connection, repository_id: int) -> dict[CommitId, Link]:
    """All commits of a repository, as nodes."""
    c = t.commits.c
    found = select(c.id, c.generation, c.parents, c.at).where(c.repository_id == repository_id)
    return {
        CommitId(row.id): Link(row.generation, tuple(CommitId(p) for p in row.parents), row.at)
        for row in conn.execute(found)
    }


def commits_with_layout(conn: Connection, repository_id: int, layout: Digest) -> list[CommitId]:
    c = t.commits.c
    found = select(c.id).where(c.repository_id == repository_id, c.layout == str(layout))
    return [CommitId(one) for (one,) in conn.execute(found.order_by(c.generation.desc()))]


def delete_commits(conn: Connection, ids: list[CommitId]) -> None:
    """Removes commits that nothing names any more, after their facts."""
    for start in range(0, len(ids), 500):
        conn.execute(delete(t.commits).where(t.commits.c.id.in_(ids[start : start + 500])))


def delete_branch(conn: Connection, repository_id: int, name: str, head: CommitId | None) -> bool:
    """Removes a branch that still stands where it was seen, and what was refused for it."""
    c, r = t.branches.c, t.refusals.c
    same = c.head.is_(None) if head is None else c.head == head
    done = conn.execute(delete(t.branches).where(c.repository_id == repository_id, c.name == name, same)).rowcount == 1
    if done:  # another branch of the same name begins anew
        conn.execute(delete(t.refusals).where(r.repository_id == repository_id, r.branch == name))
    return done


def delete_tag(conn: Connection, repository_id: int, name: str) -> bool:
    c = t.tags.c
    return conn.execute(delete(t.tags).where(c.repository_id == repository_id, c.name == name)).rowcount == 1


def draft(conn: Connection, draft_id: str) -> Draft | None:
    row = conn.execute(_DRAFTS.where(t.drafts.c.id == draft_id)).one_or_none()
    return None if row is None else _draft(row)


def drafts(conn: Connection, repository_id: int) -> list[Draft]:
    """The open ones, oldest first."""
    c = t.drafts.c
    found = _DRAFTS.where(c.repository_id == repository_id, c.state == "open").order_by(c.created_at, c.id)
    return [_draft(row) for row in conn.execute(found)]


def _draft(row: Row[Any]) -> Draft:
    return Draft(
        id=row.id,
        repository_id=row.repository_id,
        branch=row.branch,
        base=None if row.base is None else CommitId(row.base),
        layout=None if row.layout is None else Digest.parse(row.layout),
        number=row.number,
        state=row.state,
        commit_id=None if row.commit_id is None else CommitId(row.commit_id),
        actor=row.actor,
        message=row.message,
        meta=row.meta,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def edit_draft(conn: Connection, draft: Draft, values: dict[str, Any]) -> bool:
    """Compare-and-swap of an open commit."""
    c = t.drafts.c
    same = (c.id == draft.id, c.number == draft.number, c.state == "open")
    return conn.execute(update(t.drafts).where(*same).values(number=draft.number + 1, **values)).rowcount == 1


def _commit(row: Row[Any]) -> Commit:
    return Commit(
        id=CommitId(row.id),
        repository_id=row.repository_id,
        version_id=VersionId(row.version_id),
        digest=Digest.parse(row.digest),
        layout=Digest.parse(row.layout),
        generation=row.generation,
        parents=tuple(CommitId(p) for p in row.parents),
        author=row.author,
        message=row.message,
        at=row.at,
        event_ms=row.event_ms,
        run_id=RunId(row.run_id),
        contract=row.contract,
        stats=row.stats,
        meta=row.meta,
    )


def commit_row(commit: Commit) -> dict[str, Any]:
    """The columns of a commit; its digest stands with its version."""
    return {
        "id": commit.id,
        "repository_id": commit.repository_id,
        "version_id": commit.version_id,
        "layout": str(commit.layout),
        "generation": commit.generation,
        "parents": list(commit.parents),
        "author": commit.author,
        "message": commit.message,
        "at": commit.at,
        "event_ms": commit.event_ms,
        "run_id": commit.run_id,
        "contract": commit.contract,
        "stats": commit.stats,
        "meta": commit.meta,
    }


def tag(conn: Connection, repository_id: int, name: str) -> CommitId | None:
    where = (t.tags.c.repository_id == repository_id, t.tags.c.name == name)
    found = conn.execute(select(t.tags.c.commit_id).where(*where)).scalar_one_or_none()
    return None if found is None else CommitId(found)


def tags(conn: Connection, repository_id: int) -> dict[str, CommitId]:
    found = select(t.tags).where(t.tags.c.repository_id == repository_id).order_by(t.tags.c.name)
    return {row.name: CommitId(row.commit_id) for row in conn.execute(found)}


def names_of(
    conn: Connection, repository_id: int, ids: Sequence[CommitId]
) -> tuple[dict[CommitId, list[str]], dict[CommitId, list[str]]]:
    """(commit -> branches that stand at it, commit -> tags), by name, of those of the commits that have some."""
    found: tuple[dict[CommitId, list[str]], dict[CommitId, list[str]]] = ({}, {})
    for named, table, column in zip(found, (t.branches, t.tags), (t.branches.c.head, t.tags.c.commit_id), strict=True):
        for start in range(0, len(ids), 500):
            where = (table.c.repository_id == repository_id, column.in_(ids[start : start + 500]))
            for name, commit in conn.execute(select(table.c.name, column).where(*where).order_by(table.c.name)):
                named.setdefault(CommitId(commit), []).append(name)
    return found


def ancestry(
    conn: Connection,
    repository_id: int,
    tips: Iterable[CommitId],
    known: Callable[[Sequence[CommitId]], Collection[CommitId]] | None = None,
    *,
    floor: int = 0,
) -> Iterator[tuple[CommitId, bool]]:
    """The commits that ``tips`` stand on, themselves included, from the highest generation down to ``floor``.

    Beside each: whether it is ``known``; what a known one stands on is not followed.
    """
    c, wanted = t.commits.c, set(tips)
    top = select(func.max(c.generation)).where(c.id.in_(list(wanted)))
    upper = (conn.execute(top).scalar_one_or_none() or 0) + 1
    while wanted and upper > floor:
        lower = max(floor, upper - ANCESTRY_PAGE)
        span = (c.repository_id == repository_id, c.generation < upper, c.generation >= lower)
        rows = conn.execute(select(c.id, c.parents).where(*span).order_by(c.generation.desc())).all()
        seen = () if known is None else known([CommitId(row.id) for row in rows])
        for row in rows:
            if row.id in wanted:
                wanted.discard(row.id)
                if row.id not in seen:
                    wanted.update(row.parents)
                yield CommitId(row.id), row.id in seen
        upper = lower


def reaches(conn: Connection, repository_id: int, tip: CommitId, wanted: CommitId) -> bool:
    """Whether ``tip`` stands on ``wanted``; False where one of the two is not here."""
    found = {c.id: c for c in commits_by_ids(conn, [tip, wanted])}
    if len({tip, wanted}) != len(found):
        return False
    return any(one == wanted for one, _ in ancestry(conn, repository_id, [tip], floor=found[wanted].generation))


def all_commits(conn: Connection, repository_id: int) -> Iterator[Commit]:
    """Every commit of a repository, in no order."""
    for row in conn.execute(_COMMITS.where(t.commits.c.repository_id == repository_id)):
        yield _commit(row)


def commits_present(conn: Connection, ids: Sequence[CommitId]) -> dict[CommitId, int]:
    """Those of the commits that this workspace holds: commit -> repository."""
    found: dict[CommitId, int] = {}
    for start in range(0, len(ids), 500):
        some = select(t.commits.c.id, t.commits.c.repository_id).where(t.commits.c.id.in_(ids[start : start + 500]))
        found.update({CommitId(row.id): row.repository_id for row in conn.execute(some)})
    return found


def remotes(conn: Connection, repository_id: int) -> list[Remote]:
    found = select(t.remotes).where(t.remotes.c.repository_id == repository_id).order_by(t.remotes.c.name)
    return [_remote(row) for row in conn.execute(found)]


def partial_remotes(conn: Connection) -> list[Remote]:
    """Where the contents of partial clones lie, of every repository."""
    found = select(t.remotes).where(t.remotes.c.partial).order_by(t.remotes.c.repository_id, t.remotes.c.name)
    return [_remote(row) for row in conn.execute(found)]


def all_remotes(conn: Connection) -> list[Remote]:
    """Of every repository, those of partial clones first."""
    found = select(t.remotes).order_by(t.remotes.c.partial.desc(), t.remotes.c.repository_id, t.remotes.c.name)
    return [_remote(row) for row in conn.execute(found)]


def _remote(row: Row[Any]) -> Remote:
    return Remote(
        name=row.name,
        url=row.url,
        repository=row.repository,
        project=row.project,
        partial=row.partial,
        heads=row.heads,
    )


def remove_remote(conn: Connection, repository_id: int, name: str) -> bool:
    where = (t.remotes.c.repository_id == repository_id, t.remotes.c.name == name)
    return conn.execute(delete(t.remotes).where(*where)).rowcount == 1


def set_remote(conn: Connection, repository_id: int, name: str, **values: Any) -> None:
    where = (t.remotes.c.repository_id == repository_id, t.remotes.c.name == name)
    conn.execute(update(t.remotes).where(*where).values(**values))


def contract(conn: Connection, repository_id: int, number: int) -> Row[Any] | None:
    where = (t.contracts.c.repository_id == repository_id, t.contracts.c.number == number)
    return conn.execute(select(t.contracts).where(*where)).one_or_none()


def contract_in_force(conn: Connection, repository_id: int) -> int | None:
    """The number as of now; it stays until the transaction ends."""
    c = t.repositories.c
    return conn.execute(select(c.contract).where(c.id == repository_id).with_for_update(read=True)).scalar()


def hold_repository(conn: Connection, repository_id: int) -> None:
    """Waits for transactions that read ``contract_in_force``, and keeps others from it until this one ends."""
    held = select(t.repositories.c.id).where(t.repositories.c.id == repository_id)
    conn.execute(held.with_for_update(key_share=True))  # what only names the repository goes on


def unchecked(conn: Connection, repository_id: int, number: int) -> set[CommitId]:
    """The commits that were not checked against this contract."""
    c = t.commits.c
    where = (c.repository_id == repository_id, or_(c.contract.is_(None), c.contract != number))
    return {CommitId(one) for one in conn.execute(select(c.id).where(*where)).scalars()}


def last_contract(conn: Connection, repository_id: int) -> int:
    found = select(func.max(t.contracts.c.number)).where(t.contracts.c.repository_id == repository_id)
    return conn.execute(found).scalar_one_or_none() or 0


def quarantined(conn: Connection, quarantine_id: int) -> Quarantined | None:
    row = conn.execute(_QUARANTINE.where(t.quarantine.c.id == quarantine_id)).one_or_none()
    return None if row is None else _quarantined(row)


def repository_of_quarantined(conn: Connection, quarantine_id: int) -> Repository | None:
    where = t.quarantine.c.id == quarantine_id
    found = conn.execute(select(t.quarantine.c.repository_id).where(where)).scalar_one_or_none()
    return None if found is None else repository_by_id(conn, found)


def quarantine_by_object(conn: Connection, repository_id: int, name: str) -> int:
    c = t.quarantine.c
    found = select(func.max(c.id)).where(c.repository_id == repository_id, c.object == name)
    return int(conn.execute(found).scalar_one())


def quarantine_list(conn: Connection, project_id: ProjectId, repository_id: int | None) -> list[Quarantined]:
    found = _QUARANTINE.where(at.assets.c.project_id == project_id).order_by(t.quarantine.c.id.desc())
    if repository_id is not None:
        found = found.where(t.quarantine.c.repository_id == repository_id)
    return [_quarantined(row) for row in conn.execute(found)]


def _quarantined(row: Row[Any]) -> Quarantined:
    verdict = dict(row.verdict or {})
    earlier = verdict.pop("earlier", [])
    return Quarantined(
        id=row.id,
        repository=row.name,
        branch=row.branch,
        rows=row.rows,
        report=row.report,
        object=row.object,
        source=row.source,
        state=QuarantineState(row.state),
        actor=row.actor,
        created_at=row.created_at,
        mode=row.mode,
        verdict=verdict or None,
        earlier=earlier,
    )


def contracts(conn: Connection, repository_id: int) -> Sequence[Row[Any]]:
    """All contracts of a repository, newest first."""
    where = t.contracts.c.repository_id == repository_id
    return conn.execute(select(t.contracts).where(where).order_by(t.contracts.c.number.desc())).all()


def move_quarantined(conn: Connection, quarantine_id: int, state: str, after: str, verdict: dict[str, Any]) -> bool:
    """Moves a refused batch from one state to another; False where it is not in that state any more."""
    here = (t.quarantine.c.id == quarantine_id, t.quarantine.c.state == state)
    return conn.execute(update(t.quarantine).where(*here).values(state=after, verdict=verdict)).rowcount == 1


def reopen_quarantined(conn: Connection, batch: Quarantined, branch: str) -> bool:
    """Opens a batch anew that was accepted once, for a branch that does not hold what came of it."""
    c = t.quarantine.c
    here = (c.id == batch.id, c.state == QuarantineState.ACCEPTED.value)
    verdict = {"earlier": [*batch.earlier, batch.verdict]}
    values = {"state": QuarantineState.OPEN.value, "branch": branch, "verdict": verdict}
    return conn.execute(update(t.quarantine).where(*here).values(**values)).rowcount == 1


def contract_verdicts(conn: Connection, project_id: ProjectId) -> list[tuple[str, int, int]]:
    """(repository, commits, commits that were checked against a contract)."""
    checked = func.count(t.commits.c.contract)
    found = (
        select(at.assets.c.name, func.count(), checked)
        .join(t.repositories, t.repositories.c.id == t.commits.c.repository_id)
        .join(at.assets, at.assets.c.id == t.repositories.c.asset_id)
        .where(at.assets.c.project_id == project_id)
        .group_by(at.assets.c.name)
        .order_by(at.assets.c.name)
    )
    return [(name, total, part) for name, total, part in conn.execute(found)]


def lineage(conn: Connection, repository_id: int, above: int) -> dict[str, Any]:
    """Commits above a generation by their ids: rows of generation, parents, stats."""
    c = t.commits.c
    found = select(c.id, c.generation, c.parents, c.stats).where(c.repository_id == repository_id, c.generation > above)
    return {row.id: row for row in conn.execute(found)}
