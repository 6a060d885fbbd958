"""The loop that runs jobs: claim, keep the lease alive, record the end."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from noria.base.clock import Clock
from noria.base.errors import Bug, Failed, Invalid, NoriaError, NotFound
from noria.jobs.errors import JobFenced
from noria.jobs.records import Job
from noria.jobs.service import JOB_LEASE, Jobs


class JobControl:
    """What a handler knows of its job while it runs."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.lost = threading.Event()
        """Set when the lease was lost or the worker is to stop: give up as soon as you can."""


JobHandler = Callable[[Job, JobControl], "dict[str, Any] | None"]
"""Does the work and returns its result. Raises ``NoriaError``; kinds that trying again cannot mend end the job."""

_FINAL = (Invalid, Failed, NotFound, Bug)


class Worker:
    """Runs jobs of the kinds it has handlers for, one at a time, in the calling thread."""

    def __init__(self, jobs: Jobs, clock: Clock, handlers: Mapping[str, JobHandler]) -> None:
        self._jobs = jobs
        self._clock = clock
        self._handlers = handlers
        self._current: JobControl | None = None

    def run_one(self) -> bool:
        """Runs one due job to its end; False if there was none."""
        job = self._jobs.claim(list(self._handlers))
        if job is None:
            return False
        control = JobControl(job)
        self._current = control
        ended = threading.Event()
        keeper = threading.Thread(target=self._keep, args=(control, ended), name=f"lease-{job.id}", daemon=True)
        keeper.start()
        try:
            result = self._handlers[job.kind](job, control)
        except NoriaError as error:
            self._record(job, error.as_dict()["error"], retry=not isinstance(error, _FINAL))
        except Exception as error:  # noqa: BLE001 - whatever a handler raises ends as a record, not as a dead loop
            self._record(job, _bug(error), retry=True)
        else:
            self._finish(job, result)
        finally:
            ended.set()
            keeper.join()
            self._current = None
        return True

    def stop(self) -> None:
        """Asks the running handler to give up; its job goes back to the queue when the lease runs out."""
        if self._current is not None:
            self._current.lost.set()

    def _keep(self, control: JobControl, ended: threading.Event) -> None:
        while not ended.wait(JOB_LEASE / 3000):
            if not self._jobs.extend(control.job):
                control.lost.set()
                return

    def _finish(self, job: Job, result: dict[str, Any] | None) -> None:
        try:
            self._jobs.finish(job, result)
        except JobFenced:
            return  # another worker has it; handlers are safe to run twice

    def _record(self, job: Job, error: dict[str, Any], *, retry: bool) -> None:
        try:
            self._jobs.fail(job, error, retry=retry)
        except JobFenced:
            return


def _bug(error: Exception) -> dict[str, Any]:
    where = traceback.format_exception(error)[-3:]
    return {
        "code": "bug",
        "message": f"{type(error).__name__}: {error}",
        "hint": "This is a mistake of noria; the log has the whole trace.",
        "details": {"trace": "".join(where)[-2000:]},
    }
