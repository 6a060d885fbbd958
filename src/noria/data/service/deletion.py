"""Repositories are deleted: their history goes, their name stays in the lineage."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import delete, select, update

from noria.assets import Change
from noria.assets import tables as at
from noria.assets.records import Direction
from noria.assets.sessions import retire
from noria.base.actor import Actor
from noria.base.digest import Digest
from noria.base.ids import ProjectId, VersionId
from noria.base.once import Once
from noria.data import queries
from noria.data import tables as t
from noria.data.errors import RepositoryInUse
from noria.data.records import Deleted, Repository, RepositoryKind
from noria.data.roots import layout_kind_of
from noria.data.service.refs import RefVerbs
from noria.store import Kind

PARTS: Final = (
    t.branches,
    t.moves,
    t.tags,
    t.collected,
    t.refusals,
    t.producers,
    t.contracts,
    t.quarantine,
    t.drafts,
    t.remotes,
)
"""Rows of a repository, in an order in which they can go; its commits follow."""
_SHOWN: Final = 5
_VERB: Final = "data.delete"


class DeletionVerbs(RefVerbs):
    def delete(self, repository: Repository, *, actor: Actor, force: bool = False, once: Once | None = None) -> Deleted:
        """Removes a repository with branches, tags, commits, contracts, refused batches, open commits and remotes.

        Its asset and its versions stay as names, so that the lineage of what was made from them still reads. The
        stored bytes go with the next garbage collection. A new repository of the same name begins empty.

        Args:
            force: also where runs read versions of it; those can then not be traced to their rows any more.

        Raises:
            RepositoryInUse: runs read it, or an endpoint's features are made from it.
        """
        with self._s.changes.begin(_VERB, repository.project_id, actor, once=once) as change:
            if change.earlier is not None:
                return Deleted(**change.earlier)
            done = self._delete(change, repository, force)
            change.note(repository.name, commits=done.commits, versions=done.versions, kept=done.kept, forced=force)
            change.event("repository.deleted", repository.name, {"commits": done.commits})
            change.answer({name: getattr(done, name) for name in Deleted.__slots__})
        return done

    def delete_empty(self, repository: Repository, *, actor: Actor) -> bool:
        """Removes a repository that was made for a commit which was then refused; False where one landed meanwhile."""
        with self._s.changes.begin(_VERB, repository.project_id, actor) as change:
            if any(branch.head is not None for branch in queries.branches(change.tx.conn, repository.id)):
                return False
            self._delete(change, repository, False)
            change.note(repository.name, commits=0)
            change.event("repository.deleted", repository.name, {"commits": 0})
        return True

    def deleted(self, project_id: ProjectId, name: str, once: Once | None) -> Deleted | None:
        """The answer to the same request made before: the repository is not there to be looked up any more."""
        earlier = self._s.changes.answered(_VERB, project_id, once)
        return Deleted(**earlier) if earlier is not None and earlier["name"] == name else None

    def _delete(self, change: Change, repository: Repository, force: bool) -> Deleted:
        tx, mine = change.tx, t.commits.c.repository_id == repository.id
        commits = tx.execute(select(t.commits.c.id, t.commits.c.version_id, t.commits.c.layout).where(mine)).all()
        versions = list(dict.fromkeys(VersionId(row.version_id) for row in commits))
        if not force:
            self._refuse_used(change, repository, versions)
        kind = layout_kind_of(repository.kind)
        named = [(kind, Digest.parse(row.layout)) for row in commits]
        drafts = select(t.drafts.c.layout).where(t.drafts.c.repository_id == repository.id)
        named += [(kind, Digest.parse(layout)) for (layout,) in tx.execute(drafts) if layout]
        batches = select(t.quarantine.c.object).where(t.quarantine.c.repository_id == repository.id)
        named += [(Kind.FRAGMENT, Digest(bytes.fromhex(name))) for (name,) in tx.execute(batches)]
        retire(tx, named)
        if repository.kind == RepositoryKind.TABLE:
            for forget in self._s.forgetters:
                forget(change, repository)
        self._s.faults.at("data.delete")
        for part in PARTS:
            tx.execute(delete(part).where(part.c.repository_id == repository.id))
        tx.execute(delete(t.commits).where(mine))
        tx.execute(delete(t.repositories).where(t.repositories.c.id == repository.id))
        tx.execute(update(at.assets).where(at.assets.c.id == repository.asset_id).values(current_id=None))
        gone = self._s.assets.forget_versions(tx, versions, force=force)
        return Deleted(name=repository.name, commits=len(commits), versions=len(gone), kept=len(versions) - len(gone))

    def _refuse_used(self, change: Change, repository: Repository, versions: list[VersionId]) -> None:
        runs = _readers(change, versions)
        online = [use for find in self._s.online for use in find(change, repository)]
        if not runs and not online:
            return
        shown = ", ".join(f"{kind} {name} ({run[:8]})" for run, kind, name in runs[:_SHOWN])
        more = f" and {len(runs) - _SHOWN} more" if len(runs) > _SHOWN else ""
        read = f"{len(runs)} runs read it: {shown}{more}. " if runs else ""
        served = f"Features of endpoints are made from it: {', '.join(online)}. " if online else ""
        raise RepositoryInUse(
            f"{repository.name} was not deleted. {read}{served}Their data could not be shown again.",
            hint=f"noria data delete {repository.name} --force   deletes it nevertheless.",
            details={"repository": repository.name, "runs": [run for run, _, _ in runs[:1000]], "count": len(runs)},
        )


def _readers(change: Change, versions: list[VersionId]) -> list[tuple[str, str, str]]:
    """(run, kind, name) of what read versions as input, newest first."""
    found: dict[str, tuple[str, str]] = {}
    e, r = at.edges.c, at.runs.c
    for start in range(0, len(versions), 500):
        some = versions[start : start + 500]
        read: Any = select(r.id, r.kind, r.name).join(at.edges, e.run_id == r.id)
        read = read.where(e.version_id.in_(some), e.direction.in_([Direction.IN.value, Direction.REUSED.value]))
        found.update({row.id: (row.kind, row.name) for row in change.tx.execute(read)})
    return [(run, *found[run]) for run in sorted(found, reverse=True)]
