"""The queue's verbs, and named leases for things of which there may be one only."""

from __future__ import annotations

import os
from typing import Any

from sqlalchemy import select, update

from noria.assets import ProjectClock
from noria.base.clock import Clock
from noria.base.faults import Faults, NoFaults
from noria.base.ids import JobId, ProjectId
from noria.base.times import MINUTE, SECOND
from noria.db import Database, Tx
from noria.jobs import queries
from noria.jobs import tables as t
from noria.jobs.errors import JobFenced, JobMove, JobNotFound
from noria.jobs.records import Job, JobState

JOB_LEASE = 30 * SECOND


class Jobs:
    def __init__(
        self, db: Database, clock: Clock, event_clock: ProjectClock, holder: str, faults: Faults | None = None
    ) -> None:
        self._db = db
        self._clock = clock
        self._event_clock = event_clock
        self._holder = holder
        self._faults = faults or NoFaults()

    def add(
        self,
        tx: Tx,
        project_id: ProjectId,
        kind: str,
        payload: dict[str, Any],
        *,
        unique: str | None = None,
        delay_ms: int = 0,
        max_attempts: int = 5,
    ) -> Job | None:
        """Queues work in the transaction of the change that wants it; None where one with this key is open."""
        values = {
            "project_id": project_id,
            "kind": kind,
            "payload": payload,
            "state": JobState.WAITING.value,
            "unique_key": unique,
            "due_at": tx.now_ms + delay_ms,
            "attempts": 0,
            "max_attempts": max_attempts,
            "fence": 0,
            "event_ms": self._event_clock.event_ms_in(tx, project_id),
            "created_at": tx.now_ms,
        }
        if unique is not None and queries.open_job(tx.conn, project_id, unique) is not None:
            return None
        made = queries.job(tx.conn, JobId(tx.insert(t.jobs, values)))
        assert made is not None
        return made

    def get(self, job_id: JobId) -> Job:
        with self._db.read() as conn:
            found = queries.job(conn, job_id)
        if found is None:
            raise JobNotFound(f"There is no job {job_id}.")
        return found

    def list(
        self,
        project_id: ProjectId,
        *,
        kinds: list[str] | None = None,
        states: list[JobState] | None = None,
        limit: int = 100,
    ) -> list[Job]:
        with self._db.read() as conn:
            return queries.jobs(conn, project_id, kinds, states, limit)

    def open_count(self) -> int:
        """How many jobs wait or run."""
        with self._db.read() as conn:
            return queries.open_count(conn)

    def claim(self, kinds: list[str]) -> Job | None:
        with self._db.read() as conn:
            if not queries.due_exists(conn, kinds, self._clock.now_ms()):
                return None
        with self._db.write() as tx:
            return queries.claim(tx, kinds, self._holder, tx.now_ms + JOB_LEASE)

    def free_dead(self) -> int:
        """Gives back the jobs of processes of this machine that are dead, before their leases run out."""
        with self._db.read() as conn:
            held = queries.running(conn)
        freed = 0
        for job_id, holder in held:
            if is_dead(holder):
                with self._db.write() as tx:
                    freed += queries.let_go(tx.conn, job_id, holder, tx.now_ms)
        return freed

    def extend(self, job: Job) -> bool:
        """Renews the lease; False if it was lost."""
        with self._db.write() as tx:
            return queries.extend(tx.conn, job.id, job.fence, tx.now_ms + JOB_LEASE)

    def finish(self, job: Job, result: dict[str, Any] | None, tx: Tx | None = None) -> None:
        """Records the result under the job's fence; pass ``tx`` to do it in the transaction of its effect."""
        self._move(job, JobState.DONE, {"result": result}, tx)

    def fail(self, job: Job, error: dict[str, Any], *, retry: bool) -> None:
        """Records a failure; tries again later, with growing pauses, while attempts are left."""
        if retry and job.attempts < job.max_attempts:
            due = self._clock.now_ms() + min(10 * MINUTE, SECOND * 2 ** (job.attempts - 1))
            self._move(job, JobState.WAITING, {"error": error, "due_at": due, "holder": None}, None)
        else:
            self._move(job, JobState.FAILED, {"error": error}, None)

    def cancel(self, tx: Tx, job_id: JobId) -> None:
        if not queries.move(tx.conn, job_id, JobState.CANCELLED, None, {"ended_at": tx.now_ms}):
            raise JobMove(job_id, self.get(job_id).state, JobState.CANCELLED)

    def again(self, tx: Tx, job_id: JobId) -> None:
        """Queues a failed or cancelled job once more."""
        values: dict[str, Any] = {"due_at": tx.now_ms, "attempts": 0, "ended_at": None, "error": None}
        if not queries.move(tx.conn, job_id, JobState.WAITING, None, values):
            raise JobMove(job_id, self.get(job_id).state, JobState.WAITING)

    def _move(self, job: Job, to: JobState, values: dict[str, Any], tx: Tx | None) -> None:
        self._faults.at(f"job.{to.value}")
        with self._db.write(tx) as open_tx:
            ended = None if to == JobState.WAITING else open_tx.now_ms
            full = {**values, "ended_at": ended, "lease_until": None}
            if queries.move(open_tx.conn, job.id, to, job.fence, full):
                return
            found = queries.job(open_tx.conn, job.id)
            assert found is not None
            if found.fence != job.fence:
                raise JobFenced(job.id)
            raise JobMove(job.id, found.state, to)

    # ---- leases

    def take_lease(
        self, name: str, length_ms: int, info: dict[str, Any] | None = None, *, after: str | None = None
    ) -> int | None:
        """Takes or renews a named lease for this process; returns its fence, or None if another holds it.

        Args:
            after: a holder that gives the lease to this process, so that at no moment nobody holds it.
        """
        with self._db.write() as tx:
            tx.lock(f"lease:{name}")
            row = tx.execute(select(t.leases).where(t.leases.c.name == name)).one_or_none()
            alive = row is not None and row.until > tx.now_ms and not is_dead(row.holder)
            if row is not None and alive and row.holder not in (self._holder, after):
                return None
            mine = row is not None and row.holder == self._holder
            fence = 1 if row is None else row.fence if mine else row.fence + 1
            values = {"name": name, "holder": self._holder, "fence": fence, "until": tx.now_ms + length_ms}
            tx.upsert(t.leases, {**values, "info": info or {}}, key=["name"])
        return fence

    def release_lease(self, name: str) -> None:
        with self._db.write() as tx:
            where = (t.leases.c.name == name, t.leases.c.holder == self._holder)
            tx.execute(update(t.leases).where(*where).values(until=0))

    def held(self, name: str) -> bool:
        """Whether a process that lives holds a named lease."""
        with self._db.read() as conn:
            row = conn.execute(select(t.leases).where(t.leases.c.name == name)).one_or_none()
        return row is not None and row.until > self._clock.now_ms() and not is_dead(row.holder)

    def lease_info(self, name: str) -> dict[str, Any] | None:
        """What the present holder said of itself; None where nobody holds the lease."""
        with self._db.read() as conn:
            row = conn.execute(select(t.leases).where(t.leases.c.name == name)).one_or_none()
        if row is None or row.until <= self._clock.now_ms() or is_dead(row.holder):
            return None
        return row.info


def pid_of(holder: str) -> int:
    """The process that a holder (``machine:pid:...``) is."""
    return int(holder.split(":")[1])


def is_dead(holder: str | None) -> bool:
    """Whether a holder (``machine:pid:...``) was a process of this machine that is gone. Not sure means no."""
    machine, _, rest = (holder or "").partition(":")
    pid = rest.partition(":")[0]
    if machine != os.uname().nodename or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
