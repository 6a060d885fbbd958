from __future__ import annotations

from sqlalchemy import Connection, select

from noria.assets import queries as asset_queries
from noria.assets import tables as at
from noria.assets.records import Direction
from noria.base.ids import CommitId, ProjectId, RunId, VersionId
from noria.data import queries as data_queries
from noria.data import tables as dt
from noria.data.records import Commit


def commits_of(conn: Connection, version_id: VersionId) -> list[Commit]:
    """The commits that hold exactly this content."""
    return data_queries.commits_of_version(conn, version_id)


def runs_like(conn: Connection, project_id: ProjectId, prefix: str) -> list[RunId]:
    return asset_queries.runs_like(conn, project_id, prefix, 3)


def commits_like(conn: Connection, project_id: ProjectId, prefix: str) -> list[CommitId]:
    return data_queries.any_commits_like(conn, project_id, prefix)


def later_commits(conn: Connection, commit: Commit) -> dict[CommitId, VersionId]:
    """The commits that build on one, by their parents, and the one itself: commit -> version."""
    c = dt.commits.c
    where = (c.repository_id == commit.repository_id, c.generation > commit.generation)
    found: dict[CommitId, VersionId] = {commit.id: commit.version_id}
    for row in conn.execute(select(c.id, c.parents, c.version_id).where(*where).order_by(c.generation)):
        if any(parent in found for parent in row.parents):
            found[CommitId(row.id)] = VersionId(row.version_id)
    return found


def readers(conn: Connection, commit: Commit) -> dict[VersionId, list[RunId]]:
    """Version of this commit or a later one of its repository -> the runs that read it."""
    c, e = dt.commits.c, at.edges.c
    where = (
        c.repository_id == commit.repository_id,
        c.generation >= commit.generation,
        e.direction == Direction.IN.value,
    )
    joined = at.edges.join(dt.commits, c.version_id == e.version_id)
    found: dict[VersionId, list[RunId]] = {}
    for row in conn.execute(select(e.version_id, e.run_id).select_from(joined).where(*where).distinct()):
        found.setdefault(VersionId(row.version_id), []).append(RunId(row.run_id))
    return found
