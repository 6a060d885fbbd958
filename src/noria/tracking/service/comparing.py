"""Verbs that put runs beside each other: what differs, and curves."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

from noria.base.errors import Invalid
from noria.base.ids import ProjectId, RunId
from noria.base.pages import Page, check_limit, position, token
from noria.db.paging import PageWrong
from noria.tracking import compared, sampling, series
from noria.tracking.direction import best, lower_is_better
from noria.tracking.records import Curve, Line, Point
from noria.tracking.service.base import Base

MOST_RUNS: Final = 1_000
MOST_CURVES: Final = 100
MOST_POINTS: Final = 10_000


class Comparing(Base):
    def compare(
        self,
        ids: Sequence[RunId],
        *,
        everything: bool = False,
        lower: Collection[str] = (),
        higher: Collection[str] = (),
        limit: int = 100,
        after: str | None = None,
    ) -> Page[Line]:
        """The keys whose values differ between runs: parameters, then metrics (newest points), then tags.

        Args:
            ids: up to 1,000 runs.
            everything: also what is equal in all of them, and the tags of clients (``mlflow.``).
            lower, higher: metrics of which the least or the greatest is best, whatever their names say.
            limit: keys of a page, up to 1,000.

        Raises:
            Invalid, PageWrong: too many runs; no token of this comparison.
        """
        if not 1 <= len(ids) <= MOST_RUNS:
            raise Invalid(f"{len(ids)} runs cannot be compared.", hint=f"Name 1 to {MOST_RUNS} runs.")
        check_limit(limit)
        first, behind = _begin(after)
        found: list[Line] = []
        with self._db.read() as conn:
            numbers = compared.numbers(conn, ids)
            order = [numbers.get(id) for id in ids]
            known = list(numbers.values())
            for part in compared.PARTS[first:]:
                room = limit + 1 - len(found)
                if room <= 0 or not known:
                    break
                keys = compared.keys(conn, part, known, len(set(ids)), after=behind, limit=room, everything=everything)
                behind = None
                values = compared.values(conn, part, known, [id for id, _ in keys]) if keys else {}
                for key_id, name in keys:
                    row = tuple(None if no is None else values.get((no, key_id)) for no in order)
                    found.append(Line(part=part, key=name, values=row, best=self._best(part, name, row, lower, higher)))
        if len(found) <= limit:
            return Page(items=found)
        last = found[limit - 1]
        return Page(items=found[:limit], next=token([compared.PARTS.index(last.part), last.key]))

    @staticmethod
    def _best(
        part: str, name: str, row: tuple[Any, ...], lower: Collection[str], higher: Collection[str]
    ) -> tuple[int, ...]:
        if part != "metrics" or len(row) < 2:
            return ()
        way = True if name in lower else False if name in higher else lower_is_better(name)
        return tuple(best(row, lower=way))

    def curves(
        self, ids: Sequence[RunId], key: str, *, points: int = 500, start: int | None = None, end: int | None = None
    ) -> list[Curve]:
        """A metric of several runs, for a plot: of each at most ``points`` points in the order of steps. The first, the
        last, and the extremes in between are among them. Runs without the metric are left out.

        Args:
            ids: up to 100 runs.
            points: 1 to 10,000.
            start, end: only points whose steps lie between them, both included.

        Raises:
            Invalid: too many runs or points.
        """
        if not 1 <= len(ids) <= MOST_CURVES:
            raise Invalid(f"{len(ids)} runs cannot be plotted.", hint=f"Name 1 to {MOST_CURVES} runs.")
        if not 1 <= points <= MOST_POINTS:
            raise Invalid(f"A curve of {points} points is refused.", hint=f"Ask for 1 to {MOST_POINTS} points.")
        for step in (start, end):
            if step is not None and not -(1 << 63) <= step < 1 << 63:
                raise Invalid(f"The step {step} does not fit into 64 bits.")
        made: list[Curve] = []
        with self._db.read(still=True) as conn:
            numbers = compared.numbers(conn, ids)
            key_id = self._keys.find(conn, [key]).get(key)
            for id in ids:
                no = numbers.get(id)
                if no is None or key_id is None:
                    continue
                total = series.size(conn, no, key_id)
                if not total:
                    continue
                marks = sampling.sample(conn, no, key_id, points, start, end)
                found = [Point(key=key, at=at, step=step, value=value) for at, step, value in marks]
                made.append(Curve(run_id=id, key=key, total=total, points=found))
        return made

    def experiment_names(self, project_id: ProjectId, ids: Sequence[int]) -> dict[int, str]:
        with self._db.read() as conn:
            return compared.experiment_names(conn, project_id, ids)


def _begin(after: str | None) -> tuple[int, str | None]:
    found: Any = position(after)
    if found is None:
        return 0, None
    if isinstance(found, list) and len(found) == 2:
        part, key = found
        if type(part) is int and 0 <= part < len(compared.PARTS) and isinstance(key, str) and "\0" not in key:
            return part, key
    raise PageWrong(
        f"{after!r:.60} is no page token of a comparison.", hint="Send the one that came with the last page."
    )
