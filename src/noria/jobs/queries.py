from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, delete, func, select, update

from noria.base.ids import JobId, ProjectId
from noria.db import Tx
from noria.jobs import tables as t
from noria.jobs.records import Job, JobState, sources_of

_OPEN = ("waiting", "running")


def job(conn: Connection, job_id: JobId) -> Job | None:
    row = conn.execute(select(t.jobs).where(t.jobs.c.id == job_id)).one_or_none()
    return None if row is None else job_of(row)


def open_job(conn: Connection, project_id: ProjectId, unique: str) -> Job | None:
    where = (t.jobs.c.project_id == project_id, t.jobs.c.unique_key == unique, t.jobs.c.state.in_(_OPEN))
    row = conn.execute(select(t.jobs).where(*where)).one_or_none()
    return None if row is None else job_of(row)


def jobs(
    conn: Connection, project_id: ProjectId, kinds: list[str] | None, states: list[JobState] | None, limit: int
) -> list[Job]:
    statement = select(t.jobs).where(t.jobs.c.project_id == project_id)
    if kinds is not None:
        statement = statement.where(t.jobs.c.kind.in_(kinds))
    if states is not None:
        statement = statement.where(t.jobs.c.state.in_([state.value for state in states]))
    return [job_of(row) for row in conn.execute(statement.order_by(t.jobs.c.id.desc()).limit(limit))]


def open_count(conn: Connection) -> int:
    return int(conn.execute(select(func.count()).select_from(t.jobs).where(t.jobs.c.state.in_(_OPEN))).scalar_one())


def due_exists(conn: Connection, kinds: list[str], now: int) -> bool:
    return conn.execute(select(t.jobs.c.id).where(_due(kinds, now)).limit(1)).one_or_none() is not None


def claim(tx: Tx, kinds: list[str], holder: str, until: int) -> Job | None:
    """Takes the job that is due for longest: a waiting one, or one whose worker fell silent."""
    statement = select(t.jobs).where(_due(kinds, tx.now_ms)).order_by(t.jobs.c.due_at, t.jobs.c.id).limit(1)
    locking = tx.dialect.skip_locked()
    if locking is not None:
        statement = statement.with_for_update(**locking)
    row = tx.execute(statement).one_or_none()
    if row is None:
        return None
    values = {"state": "running", "holder": holder, "lease_until": until, "attempts": row.attempts + 1}
    where = (t.jobs.c.id == row.id, t.jobs.c.fence == row.fence)
    tx.execute(update(t.jobs).where(*where).values(fence=row.fence + 1, **values))
    return job(tx.conn, JobId(row.id))


def _due(kinds: list[str], now: int) -> Any:
    c = t.jobs.c
    waiting = (c.state == "waiting") & (c.due_at <= now)
    silent = (c.state == "running") & (c.lease_until < now)
    return c.kind.in_(kinds) & (waiting | silent)


def move(conn: Connection, job_id: JobId, to: JobState, fence: int | None, values: dict[str, Any]) -> bool:
    where = [t.jobs.c.id == job_id, t.jobs.c.state.in_(sources_of(to))]
    if fence is not None:
        where.append(t.jobs.c.fence == fence)
    return conn.execute(update(t.jobs).where(*where).values(state=to.value, **values)).rowcount == 1


def extend(conn: Connection, job_id: JobId, fence: int, until: int) -> bool:
    where = (t.jobs.c.id == job_id, t.jobs.c.fence == fence, t.jobs.c.state == "running")
    return conn.execute(update(t.jobs).where(*where).values(lease_until=until)).rowcount == 1


def prune(conn: Connection, project_id: ProjectId, before: int) -> int:
    where = (t.jobs.c.project_id == project_id, t.jobs.c.ended_at < before, ~t.jobs.c.state.in_(_OPEN))
    return conn.execute(delete(t.jobs).where(*where)).rowcount


def job_of(row: Row[Any]) -> Job:
    return Job(
        id=JobId(row.id),
        project_id=ProjectId(row.project_id),
        kind=row.kind,
        payload=row.payload,
        state=JobState(row.state),
        unique=row.unique_key,
        due_at=row.due_at,
        attempts=row.attempts,
        max_attempts=row.max_attempts,
        fence=row.fence,
        lease_until=row.lease_until,
        result=row.result,
        error=row.error,
        event_ms=row.event_ms,
        created_at=row.created_at,
        ended_at=row.ended_at,
    )


def running(conn: Connection) -> list[tuple[JobId, str | None]]:
    found = select(t.jobs.c.id, t.jobs.c.holder).where(t.jobs.c.state == "running")
    return [(JobId(row.id), row.holder) for row in conn.execute(found)]


def let_go(conn: Connection, job_id: JobId, holder: str | None, now: int) -> int:
    """Ends the lease of a running job, where it still has this holder."""
    where = (t.jobs.c.id == job_id, t.jobs.c.state == "running", t.jobs.c.holder == holder)
    return conn.execute(update(t.jobs).where(*where).values(lease_until=now)).rowcount
