"""Durable background work: one queue, leases with fencing, one transition table."""

from __future__ import annotations

from noria.jobs.records import Job, JobState
from noria.jobs.service import Jobs
from noria.jobs.work import JobControl, JobHandler, Worker

__all__ = ["Job", "JobControl", "JobHandler", "JobState", "Jobs", "Worker"]
