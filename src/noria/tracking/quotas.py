"""How much a project may hold. A check is a look at a counter of this process that is counted anew now and then, so it
costs the hot paths a look-up; several processes together may go over a limit by what they write in that time."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final

from sqlalchemy import Connection, delete, func, select

from noria.assets import tables as at
from noria.base.errors import Invalid
from noria.base.ids import ProjectId
from noria.base.times import MINUTE, SECOND
from noria.db import Tx
from noria.tracking import tables as t
from noria.tracking.errors import QuotaReached
from noria.tracking.records import OwnerKind, Tracked

WHAT: Final = {
    "runs": "runs of the project, those in the bin too",
    "points": "points of one run",
    "keys": "names of metrics in one experiment",
    "bytes": "bytes of files of runs and logged models",
}
_LIMITS: Final = 5 * SECOND
"""So long the limits are remembered; counters of runs and points twice as long, costly ones for a minute."""
_MOST: Final = 10_000


class Quotas:
    """Limits and counters as this process knows them. One per workspace; thread-safe by being only a memory."""

    def __init__(self) -> None:
        self._limits: dict[ProjectId, tuple[int, dict[str, int]]] = {}
        self._counted: dict[tuple[str, int], tuple[int, int]] = {}
        self._names: dict[int, tuple[int, set[str]]] = {}

    def forget(self) -> None:
        self._limits, self._counted, self._names = {}, {}, {}

    def limits(self, conn: Connection, project_id: ProjectId, now: int) -> dict[str, int]:
        """What -> the most of it, for what has a limit."""
        found = self._limits.get(project_id)
        if found is None or not 0 <= now - found[0] < _LIMITS:
            rows = conn.execute(select(t.quotas.c.what, t.quotas.c.most).where(t.quotas.c.project_id == project_id))
            found = self._limits[project_id] = (now, {row.what: row.most for row in rows})
        return found[1]

    def run(self, tx: Tx, project_id: ProjectId) -> None:
        """One more run.

        Raises:
            QuotaReached: there are as many as there may be.
        """
        most = self.limits(tx.conn, project_id, tx.now_ms).get("runs")
        if most is not None:
            self._more("runs", project_id, 1, most, tx, lambda: runs_of(tx.conn, project_id), 2 * _LIMITS)

    def points(self, tx: Tx, run: Tracked, metrics: dict[str, list[Any]]) -> None:
        """More points of a run.

        Raises:
            QuotaReached: the run, or the names of metrics of its experiment, would be too many.
        """
        limits = self.limits(tx.conn, run.project_id, tx.now_ms)
        if not limits:
            return
        most = limits.get("keys")
        if most is not None:
            self._check_names(tx, run, metrics, most)
        most = limits.get("points")
        if most is not None:
            many = sum(map(len, metrics.values()))
            self._more("points", run.no, many, most, tx, lambda: points_of(tx.conn, run.no), 2 * _LIMITS)

    def size(self, tx: Tx, project_id: ProjectId, size: int) -> None:
        """A file more.

        Raises:
            QuotaReached: it has no room.
        """
        most = self.limits(tx.conn, project_id, tx.now_ms).get("bytes")
        if most is not None and size:
            self._more("bytes", project_id, size, most, tx, lambda: bytes_of(tx.conn, project_id), MINUTE)

    def _more(self, what: str, of: int, more: int, most: int, tx: Tx, count: Callable[[], int], fresh: int) -> None:
        key = (what, of)
        found = self._counted.get(key)
        if found is None or not 0 <= tx.now_ms - found[0] < fresh or found[1] + more > most:
            if len(self._counted) > _MOST:
                self._counted = {}
            found = (tx.now_ms, count())  # before a refusal always: something may have gone meanwhile
        if found[1] + more > most:
            self._counted[key] = found
            raise QuotaReached(what, most, f"{found[1] + more:,} {WHAT[what]} would be more than {most:,}.")
        self._counted[key] = (found[0], found[1] + more)

    def _check_names(self, tx: Tx, run: Tracked, metrics: Collection[str], most: int) -> None:
        found = self._names.get(run.experiment_id)
        if found is None or not 0 <= tx.now_ms - found[0] < MINUTE:
            if len(self._names) > 100:
                self._names = {}
            found = self._names[run.experiment_id] = (tx.now_ms, names_of(tx.conn, run.experiment_id))
        known = found[1]
        fresh = [name for name in metrics if name not in known]
        if fresh and len(known) + len(fresh) > most:
            text = f"{len(known) + len(fresh):,} {WHAT['keys']} would be more than {most:,}: {fresh[0]!r:.80} is new."
            raise QuotaReached("keys", most, text)
        known.update(fresh)


def runs_of(conn: Connection, project_id: ProjectId) -> int:
    e = t.experiments.c
    join = t.tracked_runs.join(t.experiments, e.id == t.tracked_runs.c.experiment_id)
    return conn.execute(select(func.count()).select_from(join).where(e.project_id == project_id)).scalar_one()


def points_of(conn: Connection, run_no: int) -> int:
    total = func.coalesce(func.sum(t.latest.c.count), 0)
    return int(conn.execute(select(total).where(t.latest.c.run_no == run_no)).scalar_one())


def names_of(conn: Connection, experiment_id: int) -> set[str]:
    its = select(t.tracked_runs.c.no).where(t.tracked_runs.c.experiment_id == experiment_id)
    keys = select(t.latest.c.key_id).where(t.latest.c.run_no.in_(its)).distinct()
    return set(conn.execute(select(t.keys.c.name).where(t.keys.c.id.in_(keys))).scalars())


def bytes_of(conn: Connection, project_id: ProjectId) -> int:
    a = t.artifacts.c
    total = select(func.coalesce(func.sum(a.size), 0))
    runs = select(at.runs.c.id).where(at.runs.c.project_id == project_id)
    models = select(t.logged_models.c.id).where(t.logged_models.c.project_id == project_id)
    parts = ((OwnerKind.RUN, runs), (OwnerKind.MODEL, models))
    return sum(
        int(conn.execute(total.where(a.owner_kind == kind.value, a.owner.in_(ids))).scalar_one()) for kind, ids in parts
    )


def used(conn: Connection, project_id: ProjectId, limits: Collection[str]) -> dict[str, int]:
    """How much there is of each; points and keys of the run and experiment that have most, where they have a limit."""
    e, r, lt = t.experiments.c, t.tracked_runs.c, t.latest.c
    found = {"runs": runs_of(conn, project_id), "bytes": bytes_of(conn, project_id)}
    join = t.latest.join(t.tracked_runs, r.no == lt.run_no).join(t.experiments, e.id == r.experiment_id)
    if "points" in limits:
        each = select(func.sum(lt.count).label("n")).select_from(join).where(e.project_id == project_id)
        most = each.group_by(lt.run_no).subquery()
        found["points"] = int(conn.execute(select(func.coalesce(func.max(most.c.n), 0))).scalar_one())
    if "keys" in limits:
        each = select(func.count(lt.key_id.distinct()).label("n")).select_from(join).where(e.project_id == project_id)
        most = each.group_by(r.experiment_id).subquery()
        found["keys"] = int(conn.execute(select(func.coalesce(func.max(most.c.n), 0))).scalar_one())
    return found


def put(tx: Tx, project_id: ProjectId, what: str, most: int | None) -> None:
    """Sets a limit, or takes it away.

    Raises:
        Invalid: there is no such limit, or it is below 0.
    """
    if what not in WHAT:
        raise Invalid(f"{what!r:.60} has no quota.", hint=f"One of: {', '.join(WHAT)}.")
    if most is None:
        c = t.quotas.c
        tx.execute(delete(t.quotas).where(c.project_id == project_id, c.what == what))
        return
    if not 0 <= most < 1 << 62:
        raise Invalid(f"{most} is no limit.", hint="Write a number of 0 or more, or none.")
    tx.upsert(t.quotas, {"project_id": project_id, "what": what, "most": most}, key=["project_id", "what"])
