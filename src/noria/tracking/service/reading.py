"""Verbs that read what runs said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from noria.base.ids import ProjectId, RunId
from noria.base.pages import Page, position, token
from noria.base.search import Clause, Order, parse, parse_order
from noria.db import Tx
from noria.db.paging import PageWrong
from noria.tracking import queries, sampling, search, series, told
from noria.tracking.blocks import Mark
from noria.tracking.errors import KeyInvalid
from noria.tracking.grammar import RUNS
from noria.tracking.records import DatasetInput, Point, RunData, Told, Tracked
from noria.tracking.service.base import Base
from noria.tracking.service.experiments import Experiments


class Reading(Base):
    def tracked(self, run_id: RunId) -> Tracked | None:
        """The run as this room knows it; None for one that said nothing so far."""
        with self._db.read() as conn:
            return queries.tracked(conn, run_id)

    def location(self, run_id: RunId) -> str | None:
        """Where a run's artifacts lie ("": here), if that is not what its experiment says."""
        with self._db.read() as conn:
            return queries.location(conn, run_id)

    def data(self, run_id: RunId) -> RunData:
        return self.data_of([run_id])[run_id]

    def data_of(self, ids: Sequence[RunId], tx: Tx | None = None) -> dict[RunId, RunData]:
        with self._db.read(tx) as conn:
            return told.run_data(conn, ids)

    def whole(self, ids: Sequence[RunId]) -> dict[RunId, Told]:
        """Runs with all that they said, read and made; without those that are not there."""
        with self._db.read() as conn:
            return told.whole(conn, ids)

    def inputs_of(self, ids: Sequence[RunId]) -> dict[RunId, list[DatasetInput]]:
        """The datasets that clients said these runs read, for those that have any."""
        with self._db.read() as conn:
            return queries.inputs(conn, ids)

    def datasets(self, experiment_ids: Sequence[int], limit: int = 1_000) -> list[tuple[int, str, str, str | None]]:
        """Experiment, name, digest and context of datasets that runs read."""
        with self._db.read() as conn:
            return queries.datasets_of(conn, experiment_ids, limit)

    def history(self, run_id: RunId, key: str, *, limit: int = 1_000, after: str | None = None) -> Page[Point]:
        """The points of a metric in the order of time, step and value; at most 25,000 a page."""
        marks, following = self.marks(run_id, key, limit=limit, after=after)
        return Page(items=[Point(key=key, at=at, step=step, value=value) for at, step, value in marks], next=following)

    def marks(
        self, run_id: RunId, key: str, *, limit: int = 1_000, after: str | None = None
    ) -> tuple[list[Mark], str | None]:
        """``history`` as (time, step, value), for those who read many."""
        if not 1 <= limit <= 25_000:
            raise KeyInvalid(f"A page of {limit} points is refused.", hint="Ask for 1 to 25000 points.")
        before = _mark(after)
        with self._db.read(still=True) as conn:
            at = self._place(conn, run_id, key)
            found = [] if at is None else series.history(conn, *at, before, limit + 1)
        more = len(found) > limit
        found = found[:limit]
        return found, token([found[-1][0], found[-1][1], found[-1][2].hex()]) if more else None

    def sample(
        self, run_id: RunId, key: str, *, limit: int = 500, start: int | None = None, end: int | None = None
    ) -> list[Point]:
        """A curve in at most ``limit`` points, in the order of steps: first, last, and the extremes in between.

        Args:
            start, end: only points whose steps lie between them, both included.
        """
        with self._db.read(still=True) as conn:
            at = self._place(conn, run_id, key)
            found = [] if at is None else sampling.sample(conn, *at, limit, start, end)
        return [Point(key=key, at=when, step=step, value=value) for when, step, value in found]

    def _place(self, conn: Any, run_id: RunId, key: str) -> tuple[int, int] | None:
        run = queries.tracked(conn, run_id)
        key_id = self._keys.find(conn, [key]).get(key)
        return None if run is None or key_id is None else (run.no, key_id)


class Searching(Reading, Experiments):
    def search(
        self,
        project_id: ProjectId,
        text: str = "",
        *,
        experiment: str | None = None,
        order_by: str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Page[RunId]:
        """Runs that fit a filter (see ``grammar.RUNS``). ``order_by``: for instance ``metrics.log_loss asc``."""
        return self.find(
            project_id,
            experiments=None if experiment is None else [self.experiment(project_id, experiment).id],
            clauses=parse(text, RUNS),
            order=[parse_order(one, RUNS) for one in ([] if order_by is None else [order_by])],
            limit=limit,
            after=after,
        )

    def find(
        self,
        project_id: ProjectId,
        *,
        experiments: Sequence[int] | None = None,
        clauses: Sequence[Clause] = (),
        order: Sequence[Order] = (),
        deleted: bool | None = False,
        limit: int = 100,
        after: str | None = None,
        root: str = "",
    ) -> Page[RunId]:
        """Runs that fit clauses that were read before.

        Args:
            experiments: ids of this project; None for all, () for none.
            deleted: only those in the bin; None for all.
            root: what the caller calls the place of artifacts whose experiment names none, for ``artifact_uri``.
        """
        if experiments is not None and not experiments:
            return Page(items=[])
        asked = search.Asked(
            project_id=project_id,
            experiments=experiments,
            clauses=clauses,
            order=order,
            deleted=deleted,
            limit=limit,
            after=after,
            root=root,
        )
        with self._db.read() as conn:
            items, following = search.runs(conn, self._keys, asked)
        return Page(items=items, next=following)

    def count(
        self, project_id: ProjectId, text: str = "", *, experiments: Sequence[int] | None = None, deleted: bool = False
    ) -> int:
        """How many runs fit a filter."""
        asked = search.Asked(project_id=project_id, experiments=experiments, clauses=parse(text, RUNS), deleted=deleted)
        with self._db.read() as conn:
            return search.count(conn, self._keys, asked)


def _mark(after: str | None) -> Mark | None:
    found: Any = position(after)
    if found is None:
        return None
    try:
        at, step, value = found
        if isinstance(at, int) and isinstance(step, int) and max(map(abs, (at, step))) < 1 << 63:
            return at, step, float.fromhex(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise PageWrong(f"{after!r:.60} is no page token of this list.", hint="Send the one that came with the page.")
