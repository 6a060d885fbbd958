"""The server's own loop: event time, jobs, releases, triggers. One thread, one at a time in each workspace.

Everything that it does may be repeated: a day of event time is processed as a whole before the mark moves on, and
whatever a crash left half done is done again (decision 11).
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any, Final

from noria.assets.retention import PRUNE
from noria.base.errors import Conflict, NoriaError
from noria.base.times import DAY, SECOND, to_datetime, to_text
from noria.delivery.records import JOB, SYSTEM
from noria.jobs.cron import due_after
from noria.jobs.records import Job
from noria.jobs.work import JobControl, Worker
from noria.serving import link
from noria.workspace import Workspace

log = logging.getLogger("noria.loop")

LEASE: Final = "scheduler"
GC: Final = "store.gc"
"""Kind of the job that collects garbage, once a day."""
COLLECT: Final = "data.collect"
"""Kind of the job that collects a source which says how often (``every=``)."""
LEASE_MS: Final = 15 * SECOND
_TURN: Final = 1.0
_PAUSE: Final = 0.2
_MINUTE_TURNS: Final = 60
_FOLDING: Final = 0.2
"""Seconds of a turn in which the points of runs that ended are folded."""


class NoScheduler(Conflict):
    """Another server's loop works on this workspace."""

    code = "no_scheduler"


class Loop:
    """Runs in a thread of its own; other threads ask it to do things through ``call``."""

    def __init__(self, ws: Workspace) -> None:
        self._ws = ws
        self._asked: queue.Queue[tuple[Callable[[], Any], Future[Any]] | None] = queue.Queue()
        handlers = {JOB: self._bring_on, PRUNE: self._prune, GC: self._collect, COLLECT: self._collect_source}
        self._worker = Worker(ws.jobs, ws.clock, handlers)
        self._queued_at: dict[str, int] = {}
        self._thread = threading.Thread(target=self._run, name="loop")
        self._keeper = threading.Thread(target=self._keep_lease, name="loop-lease")
        self._stopping = threading.Event()
        self._held = False
        self.state: dict[str, Any] = {"doing": "", "turns": 0}

    # ---- life

    def start(self) -> None:
        self._thread.start()
        self._keeper.start()

    def halt(self) -> None:
        """Asks the loop to end, and what runs to give up; whoever waits for it hears that soon."""
        self._stopping.set()
        self._worker.stop()
        self._asked.put(None)

    def stop(self) -> None:
        """Ends the loop; a training that runs is given up and taken on at the next start."""
        self.halt()
        while self._thread.is_alive():
            self._worker.stop()  # again: a job may just have been claimed
            self._thread.join(_PAUSE)
        self._keeper.join()
        self._ws.jobs.release_lease(LEASE)

    def call(self, what: Callable[[], Any]) -> Any:
        """Runs something in the loop's thread and waits for its answer."""
        future: Future[Any] = Future()
        self._asked.put((what, future))
        while not wait([future], _TURN).done:
            if not self._thread.is_alive() and not future.done():
                raise Conflict("The server is stopping.", hint="Ask again when it is up.")
        return future.result()

    def _run(self) -> None:
        self._tend()
        while not self._stopping.is_set():
            try:
                item = self._asked.get(timeout=_TURN)
            except queue.Empty:
                self._safely(self._turn)
                continue
            if item is None:
                break
            what, future = item
            try:
                future.set_result(what())
            except BaseException as error:  # noqa: BLE001 - it is raised where it was asked for
                future.set_exception(error)
        while not self._asked.empty():
            item = self._asked.get()
            if item is not None:
                item[1].set_exception(Conflict("The server is stopping.", hint="Ask again when it is up."))

    def _keep_lease(self) -> None:
        """Renews the lease beside the loop, which may be at a training for minutes."""
        while not self._stopping.wait(LEASE_MS / 3000):
            self._safely(lambda: setattr(self, "_held", self._lease()))
            self._tend()

    def _tend(self) -> None:
        """Nothing stays "running" whose process is dead (promise 5): every few seconds, also during a training."""
        self._safely(self._ws.jobs.free_dead)
        self._safely(self._ws.assets.reap)

    def _safely(self, what: Callable[[], Any]) -> None:
        try:
            what()
        except NoriaError as error:
            log.warning("%s: %s", error.code, error.message)
        except Exception:
            log.exception("the loop goes on after an error")

    # ---- turns

    def _lease(self) -> bool:
        return self._ws.jobs.take_lease(LEASE, LEASE_MS) is not None

    def _holds(self) -> bool:
        """Whether this loop has the lease; taken here the first time, renewed by the keeper."""
        if not self._held:
            self._held = self._lease()
        return self._held

    def _turn(self) -> None:
        """What happens every second: jobs and releases; every minute of wall time, event time."""
        if not self._holds():
            return
        self.state["turns"] += 1
        self._ws.rest()
        for kind in (PRUNE, GC):
            self._safely(lambda kind=kind: self._queue_daily(kind))
        self._safely(self._queue_sources)
        self._safely(lambda: self._ws.tracking.fold_ended(_FOLDING))
        self.settle()
        ws = self._ws
        if ws.event_clock.mode(ws.project.id) == "wall" and self.state["turns"] % _MINUTE_TURNS == 1:
            self._advance(ws.clock.now_ms(), replay=False)

    def _queue_daily(self, kind: str) -> None:
        """Queues work that is due once in a day of wall time: pruning of records, collecting of garbage."""
        ws, now = self._ws, self._ws.clock.now_ms()
        if now - self._queued_at.get(kind, 0) < DAY:
            return
        last = ws.jobs.list(ws.project.id, kinds=[kind], limit=1)
        if last and now - last[0].created_at < DAY:  # by the server before this one
            self._queued_at[kind] = last[0].created_at
            return
        with ws.db.write() as tx:
            ws.jobs.add(tx, ws.project.id, kind, {}, unique=kind, max_attempts=3)
        self._queued_at[kind] = now

    def _queue_sources(self) -> None:
        """Queues the sources whose time has come, by wall time; after a long sleep each of them once."""
        ws, now = self._ws, self._ws.clock.now_ms()
        schedules = ws.pipelines.schedules() if ws.glance.has_definitions() else {}
        for name, every in schedules.items():
            key = f"collect:{name}"
            if key not in self._queued_at:  # by the server before this one
                jobs = ws.jobs.list(ws.project.id, kinds=[COLLECT], limit=1000)
                self._queued_at[key] = max((j.created_at for j in jobs if j.payload["source"] == name), default=0)
            if now < due_after(every, self._queued_at[key]):
                continue
            with ws.db.write() as tx:  # an error waits for the next time
                ws.jobs.add(tx, ws.project.id, COLLECT, {"source": name}, unique=key, max_attempts=1)
            self._queued_at[key] = now

    def _collect_source(self, job: Job, _: JobControl) -> dict[str, Any]:
        done = self._ws.pipelines.collect_applied(job.payload["source"], actor=SYSTEM)
        refused = [error.details["quarantine"] for error in done.refused]
        return {"rows": done.rows, "commits": [c.id for c in done.commits], "refused": refused, "notes": done.notes}

    def _bring_on(self, job: Job, control: JobControl) -> dict[str, Any] | None:
        return self._ws.delivery.bring_on(job, control)

    def _prune(self, job: Job, _: JobControl) -> dict[str, Any]:
        return {"removed": self._ws.retention.prune(job.project_id)}

    def _collect(self, _: Job, __: JobControl) -> dict[str, Any]:
        done = self._ws.care.collect(dry_run=False, actor=SYSTEM)
        return {"removed": done.removed, "bytes": done.removed_bytes, "waiting": done.waiting}

    def advance(self, to_ms: int) -> dict[str, Any]:
        """Moves event time on to ``to_ms`` (replay), and does all that is due until then.

        Raises:
            ClockBackwards: event time does not go back.
            NoScheduler: another server has the loop.
        """
        if not self._holds():
            raise NoScheduler("Another server works on this workspace.", hint="Ask that one, or stop it.")
        days = self._advance(to_ms, replay=True)
        return {"watermark": to_text(self._ws.event_clock.event_ms(self._ws.project.id)), "days": days}

    def _advance(self, to_ms: int, *, replay: bool) -> int:
        ws = self._ws
        if replay and ws.event_clock.mode(ws.project.id) == "wall":  # a replay begins here, whatever was before
            ws.days.set_processed(to_ms // DAY * DAY)  # first: a crash in between begins the replay once more
            self._set_clock(to_ms)
            return 0
        done = ws.days.processed()
        if done is None:
            done = to_ms // DAY * DAY
            ws.days.set_processed(done)
        days = 0
        if not replay and to_ms // DAY * DAY > done + DAY:
            done = to_ms // DAY * DAY - DAY  # after a long sleep the days are processed together
        for boundary in range(done + DAY, to_ms + 1, DAY):
            if replay:
                self._set_clock(boundary)
            self.boundary()
            if self._stopping.is_set():
                raise Conflict("The server is stopping.", hint="Ask again when it is up.")
            ws.days.set_processed(boundary)
            days += 1
        if replay:
            self._set_clock(to_ms)
            if ws.deliveries.waiting() or ws.jobs.open_count() or self._loading():
                self.settle(
                    wait=True
                )  # what was asked for since is done at this moment of event time, not at some later
        return days

    def _set_clock(self, to_ms: int) -> None:
        ws = self._ws
        with ws.changes.begin("clock.set", ws.project.id, SYSTEM) as change:
            before = ws.event_clock.set(change.tx, ws.project.id, to_ms)
            change.note("clock", before=before, after=to_ms)

    def boundary(self) -> None:
        """A day is over: captures, truth, windows, releases, triggers, and the work that comes of them."""
        ws = self._ws
        served = ws.glance.has_endpoints()
        if served:
            self.take()
            for endpoint in ws.serving.endpoints():
                self.state["doing"] = f"{endpoint.name}: monitoring"
                ws.delivery.process(endpoint.name)
        self.settle(wait=True)
        self.state["doing"] = "merging small packs"
        self._safely(ws.packing.run)
        if served and to_datetime(ws.event_clock.event_ms(ws.project.id)).day == 1:
            self._prove()
        self.state["doing"] = ""

    def _prove(self) -> None:
        """Once a month: one random answer of each endpoint is traced to its rows and computed again."""
        for endpoint in self._ws.serving.endpoints():
            if self._ws.monitoring.champion(endpoint) is not None:
                self.state["doing"] = f"{endpoint.name}: tracing an answer"
                self._safely(lambda name=endpoint.name: self._ws.trace.prove(name, actor=SYSTEM))

    def take(self) -> dict[str, int]:
        """Takes over what was captured, the shadow's scores of the last requests too."""
        self._supervisor("flush")
        return self._ws.ingest.take(actor=SYSTEM)

    def settle(self, *, wait: bool = False) -> None:
        """Does all work that is due: trainings, gates, releases that wait for their deployment.

        With ``wait``, jobs that are to be tried again later are waited for.
        """
        ws = self._ws
        while not self._stopping.is_set():
            self.state["doing"] = "jobs"
            self._safely(ws.deliver)
            if self._worker.run_one():
                continue
            if wait and ws.jobs.open_count():
                self._stopping.wait(_PAUSE)
                continue
            if self._loading() and self._supervisor("sync") is not None and ws.delivery.begin_loaded():
                self._supervisor("sync")
                continue
            break
        self._supervisor_follows()
        self.state["doing"] = ""

    def _loading(self) -> bool:
        """Whether a release waits for its deployment; where no endpoint is, without importing what releases."""
        return self._ws.glance.has_endpoints() and self._ws.delivery.loading()

    def _supervisor_follows(self) -> None:
        """Brings the workers to the routing in force, if they are behind it."""
        found = self._supervisor("status") if self._ws.glance.has_endpoints() else None
        if found is None:
            return
        wanted = {n: r.number for n, r in self._ws.serving.plan().routings.items()}
        if found.get("routed") != wanted:
            self._supervisor("sync")

    def _supervisor(self, op: str) -> dict[str, Any] | None:
        info = self._ws.jobs.lease_info(link.LEASE)
        if info is None:
            return None
        try:
            return link.call(info["socket"], op, 180)
        except link.SupervisorGone:
            return None
