"""Deletion for good, in steps that may be interrupted anywhere.

    mark    a transaction writes down up to 200 runs as being deleted, under their locks: nobody logs to them from
            now on, and nobody brings them back
    delete  what belongs to them goes, at most 100,000 rows in a transaction
    end     the runs' own rows go where nothing names them; a row that something names stays and says what happened

A run that was marked is deleted by whoever comes next: the same command, another one, or a server once a day. Bytes
become garbage for the collector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import Final

from sqlalchemy import Connection, delete, exists, func, select, update

from noria.assets import Assets, Changes
from noria.assets import tables as at
from noria.assets.records import Run, RunState
from noria.assets.sessions import StoreSessions
from noria.base.actor import Actor
from noria.base.errors import Invalid
from noria.base.faults import Faults, NoFaults
from noria.base.ids import ProjectId, RunId
from noria.base.once import Once
from noria.base.search import Clause, parse
from noria.db import Database, Tx
from noria.tracking import compared, logged, naming
from noria.tracking import tables as t
from noria.tracking.belonging import OWN, Belonging, Doomed
from noria.tracking.errors import NotInBin, RunPurged, RunUnended
from noria.tracking.grammar import RUNS
from noria.tracking.records import Owner, OwnerKind, Purged, Tombstone
from noria.tracking.service.artifacts import lock_of_files
from noria.tracking.service.base import lock_of
from noria.tracking.service.listing import Listing
from noria.tracking.service.organizing import Organizing
from noria.tracking.traces import tables as tt
from noria.tracking.traces.removal import delete_traces

RUNS_AT_ONCE: Final = 200
ROWS_AT_ONCE: Final = 100_000

Advance = Callable[..., None]
Holders = Callable[[Connection, Sequence[RunId], Sequence[str]], tuple[set[RunId], set[str]]]
"""(runs, logged models) -> those of them whose files others need."""


class Purging(Organizing, Listing):
    def __init__(
        self, db: Database, assets: Assets, changes: Changes, sessions: StoreSessions, faults: Faults | None = None
    ) -> None:
        super().__init__(db, assets, changes, sessions)
        self._faults = faults or NoFaults()
        self._referring: dict[str, list[tuple[str, str]]] = {}
        self.belongings: list[Belonging] = list(OWN)
        """What goes with a run; ``workspace`` adds what other rooms keep of it."""
        self.holders: list[Holders] = []
        """Say which runs' files and logged models others are loaded from: those stay."""

    def purge(
        self,
        project_id: ProjectId,
        *,
        runs: Sequence[RunId] | None = None,
        experiment: str | None = None,
        text: str = "",
        older_than: int | None = None,
        now: bool = False,
        dry_run: bool = True,
        actor: Actor,
        once: Once | None = None,
        advance: Advance | None = None,
    ) -> Purged:
        """Deletes runs of the bin for good, with all that they said; experiments of the bin go with their last run.

        Without ``runs``, ``experiment`` and ``text`` it is the whole bin. What an interrupted deletion left is
        finished first.

        Args:
            runs: only these; those that are gone already are passed over, so that the same command goes on.
            older_than: milliseconds; only what has been in the bin for longer, with ``now`` what began before.
            now: also what is not in the bin.
            dry_run: only counts.

        Raises:
            NotInBin, RunUnended: one of ``runs`` cannot go.
            RunNotFound, ExperimentNotFound, SearchInvalid: a part of the question does not fit.
            Invalid: ``now`` for everything is refused.
        """
        if now and not (runs is not None or experiment or text or older_than is not None):
            raise Invalid(
                "All runs of the project would go, those outside of the bin too.",
                hint="Say which: RUN..., --experiment, --filter or --older-than.",
            )
        earlier = self._changes.answered("tracking.purge_asked", project_id, once)
        if earlier is not None:
            return Purged(**earlier)
        step = advance or _silent
        chosen = _Chosen(self, project_id, runs, experiment, text, older_than, now)
        if dry_run:
            return self._counted(project_id, chosen, step)
        done = self._finish(project_id, actor, step)
        if chosen.whole is not None and now:
            found = self.experiment_by_id(project_id, chosen.whole)
            if not found.deleted and not found.is_default:
                self.delete_experiment(project_id, found.id, actor=actor)
        unended = 0
        for ready, busy in chosen.pages():
            unended += busy
            self._mark(project_id, ready, actor)
            done = _sum(done, self._finish(project_id, actor, step))
        gone = self._purge_experiments(project_id, chosen, actor)
        done = replace(done, unended=unended, experiments=gone)
        if once is not None:
            with self._changes.begin("tracking.purge_asked", project_id, actor, once=once) as change:
                change.note("runs", runs=done.runs)
                change.answer(asdict(done))
        return done

    def purge_bin(self, project_id: ProjectId, before: int, *, actor: Actor) -> int:
        """Empties the bin of what was put into it before a time; says how many runs went. For the daily round."""
        older = max(self._assets.now_ms() - before, 0)
        return self.purge(project_id, older_than=older, dry_run=False, actor=actor).runs

    def tombstone(self, run_id: RunId) -> Tombstone | None:
        """What became of a run, if its content was deleted for good."""
        with self._db.read() as conn:
            row = conn.execute(select(t.purged_runs).where(t.purged_runs.c.run_id == run_id)).one_or_none()
        return None if row is None else Tombstone(at=row.at, actor=row.actor, done=bool(row.done))

    # ---- dry run

    def _counted(self, project_id: ProjectId, chosen: _Chosen, step: Advance) -> Purged:
        made = Purged(dry_run=True)
        for ready, busy in chosen.pages():
            with self._db.read() as conn:
                doomed = self._doomed(conn, ready)
                kept = len(self._named(conn, ready))
                rows = dict(made.rows)
                size = made.size
                for one in self.belongings:
                    count, held = one.count(conn, doomed)
                    rows[one.what] = rows.get(one.what, 0) + count
                    size += held
            made = replace(
                made,
                runs=made.runs + len(ready),
                kept=made.kept + kept,
                unended=made.unended + busy,
                rows=rows,
                size=size,
            )
            step(len(ready))
        return replace(made, experiments=len(self._empty_experiments(project_id, chosen, dry_run=True)))

    def _doomed(self, conn: Connection, ids: Sequence[RunId]) -> Doomed:
        models = logged.made_by(conn, ids)
        held: set[RunId] = set()
        for holder in self.holders:
            runs, names = holder(conn, ids, list(models))
            held |= runs | {models[name] for name in names}
        return Doomed(ids, list(compared.numbers(conn, ids).values()), frozenset(held))

    # ---- mark

    def _mark(self, project_id: ProjectId, ids: Sequence[RunId], actor: Actor) -> None:
        if not ids:
            return
        with self._changes.begin("tracking.purge", project_id, actor) as change:
            tx = change.tx
            names = [lock_of(id) for id in ids] + [lock_of_files(Owner(OwnerKind.RUN, id)) for id in ids]
            for name in sorted(names):  # who logs to them now ends first
                tx.lock(name)
            rows = [
                {"run_id": id, "project_id": project_id, "at": tx.now_ms, "actor": actor.name, "done": False}
                for id in ids
            ]
            tx.insert_new_many(t.purged_runs, rows)
            c = at.runs.c
            mark = func.coalesce(c.deleted_at, tx.now_ms)
            tx.execute(update(at.runs).where(c.id.in_(list(ids))).values(deleted_at=mark))
            tx.execute(update(t.tracked_runs).where(t.tracked_runs.c.run_id.in_(list(ids))).values(deleted=True))
            change.note(f"{len(ids)} runs", runs=list(ids))

    # ---- delete

    def _finish(self, project_id: ProjectId, actor: Actor, step: Advance) -> Purged:
        """Deletes what belongs to runs that are marked, the newest first: children before their parents."""
        made = Purged(dry_run=False)
        while True:
            with self._db.read() as conn:
                c = t.purged_runs.c
                found = select(c.run_id).where(c.project_id == project_id, ~c.done)
                ids = [RunId(id) for id in conn.execute(found.order_by(c.run_id.desc()).limit(RUNS_AT_ONCE)).scalars()]
                doomed = self._doomed(conn, ids)
            if not ids:
                return made
            rows, size = self._delete(project_id, doomed, dict(made.rows))
            kept = self._end(project_id, doomed, actor)
            step(len(ids))
            made = replace(made, runs=made.runs + len(ids), kept=made.kept + kept, rows=rows, size=made.size + size)

    def _delete(self, project_id: ProjectId, doomed: Doomed, rows: dict[str, int]) -> tuple[dict[str, int], int]:
        size = 0
        with self._db.read() as conn:
            for one in self.belongings:
                count, held = one.count(conn, doomed)
                rows[one.what] = rows.get(one.what, 0) + count
                size += held
        left = list(self.belongings)
        while left:
            with self._db.write() as tx:
                tx.lock(f"purge:{project_id}")
                room = ROWS_AT_ONCE
                while left and room > 0:
                    gone = left[0].delete(tx, doomed, room)
                    if gone < room:
                        left.pop(0)
                    room -= gone
                self._faults.at("purge.rows")
        return rows, size

    def _end(self, project_id: ProjectId, doomed: Doomed, actor: Actor) -> int:
        """The rows of the runs themselves; returns how many stay."""
        with self._changes.begin("tracking.purged", project_id, actor) as change:
            tx = change.tx
            tx.lock(f"purge:{project_id}")
            held = naming.named(tx.conn, self._refer("tracked_runs"), doomed.numbers)
            free = [no for no in doomed.numbers if no not in held]
            tx.execute(delete(t.tracked_runs).where(t.tracked_runs.c.no.in_(free)))
            kept = self._named(tx.conn, doomed.ids, ended=True)
            gone = [id for id in doomed.ids if id not in kept]
            tx.execute(delete(t.purged_runs).where(t.purged_runs.c.run_id.in_(gone)))
            tx.execute(delete(at.runs).where(at.runs.c.id.in_(gone)))
            marked = t.purged_runs.c.run_id.in_(list(kept))
            tx.execute(update(t.purged_runs).where(marked).values(done=True, at=tx.now_ms))
            change.note(f"{len(doomed.ids)} runs", runs=list(gone), kept=sorted(kept))
            self._faults.at("purge.runs")
        return len(kept)

    def _named(self, conn: Connection, ids: Sequence[RunId], *, ended: bool = False) -> set[RunId]:
        """Those of the runs whose rows something names that is not deleted with them.

        Args:
            ended: their rows in this room are deleted; one that is there still is needed.
        """
        with_them = ("runs", "purged_runs") if ended else ("runs", "purged_runs", "tracked_runs")
        other = [pair for pair in self._refer("runs") if pair[0] not in with_them]
        needed = {RunId(id) for id in naming.named(conn, other, ids)}
        left = [id for id in ids if id not in needed]
        c = at.runs.c
        children = [(id, parent) for id, parent in conn.execute(select(c.id, c.parent_id).where(c.parent_id.in_(left)))]
        while True:  # a parent stays for a child that stays
            more = {RunId(parent) for id, parent in children if id not in left} & set(left)
            if not more:
                return needed
            needed |= more
            left = [id for id in left if id not in more]

    def _refer(self, target: str) -> list[tuple[str, str]]:
        found = self._referring.get(target)
        if found is None:
            with self._db.read() as conn:
                found = self._referring[target] = naming.foreign_keys(conn, target)
        return found

    # ---- experiments

    def _empty_experiments(self, project_id: ProjectId, chosen: _Chosen, *, dry_run: bool) -> list[int]:
        """Experiments of the bin that hold no run any more, or would hold none."""
        if chosen.picky:
            return []
        e, r = t.experiments.c, t.tracked_runs.c
        where = [e.project_id == project_id, ~e.is_default]
        if not (dry_run and chosen.now):
            where.append(e.deleted_at.is_not(None))
        if chosen.before is not None and not chosen.now:
            where.append(e.deleted_at < chosen.before)
        if chosen.whole is not None:
            where.append(e.id == chosen.whole)
        used = exists().where(r.experiment_id == e.id)
        if dry_run:  # runs in the bin would be gone by then, if all of them are asked for
            used = exists().where(r.experiment_id == e.id, ~r.deleted) if not chosen.now else None
        with self._db.read() as conn:
            found = select(e.id).where(*where, *(() if used is None else (~used,))).order_by(e.id)
            return list(conn.execute(found).scalars())

    def _purge_experiments(self, project_id: ProjectId, chosen: _Chosen, actor: Actor) -> int:
        gone = 0
        for id in self._empty_experiments(project_id, chosen, dry_run=False):
            self._delete_traces_of(project_id, id)
            with self._changes.begin("tracking.purge_experiment", project_id, actor) as change:
                tx = change.tx
                name = tx.execute(select(t.experiments.c.name).where(t.experiments.c.id == id)).scalar_one_or_none()
                own = (t.experiment_tags, t.datasets)
                others = [pair for pair in self._refer("experiments") if pair[0] not in {one.name for one in own}]
                datasets = list(tx.execute(select(t.datasets.c.id).where(t.datasets.c.experiment_id == id)).scalars())
                if (
                    name is None
                    or naming.named(tx.conn, others, [id])
                    or naming.named(tx.conn, self._refer("run_datasets"), datasets)
                ):
                    change.note(str(id), name=name, kept=True)
                    continue
                for table in own:
                    tx.execute(delete(table).where(table.c.experiment_id == id))
                tx.execute(delete(t.experiments).where(t.experiments.c.id == id))
                change.note(name, id=id)
                gone += 1
        return gone

    def _delete_traces_of(self, project_id: ProjectId, experiment_id: int) -> None:
        c = tt.traces.c
        while True:
            with self._db.write() as tx:
                tx.lock(f"purge:{project_id}")
                found = tx.execute(select(c.id, c.trace_id).where(c.experiment_id == experiment_id).limit(500)).all()
                delete_traces(tx, [(row.id, row.trace_id) for row in found])
                self._faults.at("purge.traces")
            if not found:
                return

    def _check_whole(self, tx: Tx, ids: Sequence[RunId]) -> None:
        c = t.purged_runs.c
        for start in range(0, len(ids), 500):
            part = list(ids[start : start + 500])
            gone = tx.execute(select(c.run_id).where(c.run_id.in_(part)).limit(1)).scalar_one_or_none()
            if gone is not None:
                raise RunPurged(gone)


class _Chosen:
    """Which runs are asked for."""

    def __init__(
        self,
        service: Purging,
        project_id: ProjectId,
        runs: Sequence[RunId] | None,
        experiment: str | None,
        text: str,
        older_than: int | None,
        now: bool,
    ) -> None:
        self._service = service
        self._project_id = project_id
        self._runs = runs
        self._clauses = list(parse(text, RUNS))
        self.now = now
        self.before = None if older_than is None else service._assets.now_ms() - older_than
        self.whole = None if experiment is None else service.named_experiment(project_id, experiment).id
        self.picky = bool(runs is not None or text or (now and older_than is not None))
        if self.before is not None:
            key = "start_time" if now else "deleted_at"
            self._clauses.append(Clause(kind="attribute", key=key, op="<", value=self.before))

    def pages(self) -> Iterator[tuple[list[RunId], int]]:
        """The runs, a few hundred at a time, and how many more noria still executes. Those that were deleted for good
        already are left out."""
        if self._runs is not None:
            yield from self._by_id(self._runs)
            return
        after = None
        while True:
            page = self._service.find(
                self._project_id,
                experiments=None if self.whole is None else [self.whole],
                clauses=self._clauses,
                deleted=None if self.now else True,
                limit=RUNS_AT_ONCE,
                after=after,
            )
            left, busy = self._left(page.items)
            ready = [run.id for run in left if run.id not in busy]
            if left:
                yield ready, len(busy)
            after = page.next
            if after is None:
                return

    def _by_id(self, runs: Sequence[RunId]) -> Iterator[tuple[list[RunId], int]]:
        for start in range(0, len(runs), RUNS_AT_ONCE):
            left, busy = self._left(runs[start : start + RUNS_AT_ONCE])
            for run in left:
                if run.deleted_at is None and not self.now:
                    raise NotInBin(run.id)
                if run.id in busy:
                    raise RunUnended(run.id)
            yield [run.id for run in left], 0

    def _left(self, ids: Sequence[RunId]) -> tuple[list[Run], set[RunId]]:
        """Those that are not deleted for good, and which of them noria executes just now. What a client left running
        is the client's to forget."""
        c, r = t.purged_runs.c, at.runs.c
        states = [RunState.RUNNING.value, RunState.QUEUED.value]
        at_work = select(r.id).where(r.id.in_(list(ids)), r.holder.is_not(None), r.state.in_(states))
        with self._service._db.read() as conn:
            done = set(conn.execute(select(c.run_id).where(c.run_id.in_(list(ids)), c.done)).scalars())
            busy = {RunId(id) for id in conn.execute(at_work).scalars()}
        wanted = [id for id in ids if id not in done]
        found = self._service._assets.runs_by_ids(wanted)
        return [found[id] for id in wanted if id in found], busy.difference(done)


def _sum(a: Purged, b: Purged) -> Purged:
    rows = {name: a.rows.get(name, 0) + b.rows.get(name, 0) for name in {**a.rows, **b.rows}}
    return replace(a, runs=a.runs + b.runs, kept=a.kept + b.kept, rows=rows, size=a.size + b.size)


def _silent(done: float = 1) -> None:
    return
