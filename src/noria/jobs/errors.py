from __future__ import annotations

from noria.base.errors import Conflict, NotFound
from noria.jobs.records import JobState


class JobNotFound(NotFound):
    """There is no such job."""

    code = "job_not_found"


class JobMove(Conflict):
    """A job cannot go from its state to the one asked for."""

    code = "job_move"

    def __init__(self, job_id: int, before: JobState, after: JobState) -> None:
        super().__init__(
            f"The job {job_id} is {before.value} and cannot become {after.value}.",
            hint="noria runs list",
            details={"job": job_id, "from": before.value, "to": after.value},
        )


class JobFenced(Conflict):
    """A worker that had lost its lease tried to finish a job."""

    code = "job_fenced"

    def __init__(self, job_id: int) -> None:
        super().__init__(
            f"The job {job_id} was given to another worker after this one had been silent.",
            hint="Nothing is to be done: the other worker's result counts.",
            details={"job": job_id},
        )
