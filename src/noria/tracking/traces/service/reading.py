"""Verbs that find and read traces."""

from __future__ import annotations

from collections.abc import Sequence

from noria.base.ids import ProjectId
from noria.base.pages import Page
from noria.base.search import Clause, Order, parse, parse_order
from noria.db import Tx
from noria.tracking.grammar import TRACES
from noria.tracking.traces import queries, search
from noria.tracking.traces.errors import TraceInvalid, TraceNotFound
from noria.tracking.traces.records import Span, Trace
from noria.tracking.traces.service.base import Base


class Reading(Base):
    def get(self, project_id: ProjectId, trace_id: str) -> Trace:
        """One trace, without its spans.

        Raises:
            TraceNotFound: there is none in this project.
        """
        found = self.some(project_id, [trace_id])
        if not found:
            raise TraceNotFound(trace_id)
        return found[0]

    def check(self, project_id: ProjectId, trace_id: str, tx: Tx | None = None) -> None:
        """Whether a trace is there.

        Raises:
            TraceNotFound: there is none in this project.
        """
        with self._db.read(tx) as conn:
            found = queries.row(conn, trace_id)
        if found is None or found.project_id != project_id:
            raise TraceNotFound(trace_id)

    def resolve(self, project_id: ProjectId, text: str) -> Trace:
        """A trace by its id or by the beginning of it, also without ``tr-``.

        Raises:
            TraceNotFound: there is none, or several begin so.
        """
        with self._db.read() as conn:
            numbers = queries.beginning(conn, project_id, text) if text and text.isprintable() else []
            if len(numbers) > 1:
                raise TraceNotFound(text, hint="Several traces begin so; write more of the id.")
            found = queries.traces(conn, numbers)
        if not found:
            raise TraceNotFound(text)
        return found[0]

    def some(
        self, project_id: ProjectId, trace_ids: Sequence[str], *, experiments: Sequence[int] | None = None
    ) -> list[Trace]:
        """Those of the traces that are there, each once, in this order; ``experiments``: only of them."""
        with self._db.read() as conn:
            numbers = queries.numbers(conn, project_id, list(dict.fromkeys(trace_ids)))
            found = queries.traces(conn, [numbers[id] for id in dict.fromkeys(trace_ids) if id in numbers])
        return [one for one in found if experiments is None or one.experiment_id in experiments]

    def spans(self, project_id: ProjectId, trace_ids: Sequence[str]) -> dict[str, list[Span]]:
        """The spans of traces, roots first, then by their start. Traces without spans here are left out."""
        with self._db.read() as conn:
            numbers = queries.numbers(conn, project_id, list(dict.fromkeys(trace_ids)))
            found = queries.spans(conn, list(numbers.values()))
        return {id: found[number] for id, number in numbers.items() if number in found}

    def find(
        self,
        project_id: ProjectId,
        experiments: Sequence[int] | None,
        *,
        clauses: Sequence[Clause] = (),
        order: Sequence[Order] = (),
        limit: int = 100,
        after: str | None = None,
    ) -> Page[Trace]:
        """Traces that fit clauses that were read before, the newest first unless ``order`` says otherwise.

        A page about the content of spans may hold fewer than ``limit`` and still have a next one.

        Args:
            experiments: their numbers, of this project; None for all of them.
        """
        if experiments is not None and not experiments:
            return Page(items=[])
        asked = search.Asked(
            project_id=project_id, experiments=experiments, clauses=clauses, order=order, limit=limit, after=after
        )
        with self._db.read() as conn:
            numbers, following = search.traces(conn, self._keys, asked)
            return Page(items=queries.traces(conn, numbers), next=following)

    def search(
        self,
        project_id: ProjectId,
        experiments: Sequence[int] | None,
        text: str = "",
        *,
        order_by: str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Page[Trace]:
        """Traces that fit a filter (see ``grammar.TRACES``). ``order_by``: for instance ``timestamp_ms asc``."""
        order = [] if order_by is None else [parse_order(order_by, TRACES)]
        return self.find(project_id, experiments, clauses=parse(text, TRACES), order=order, limit=limit, after=after)

    def count(
        self,
        project_id: ProjectId,
        experiments: Sequence[int],
        clauses: Sequence[Clause] = (),
        also: Sequence[Clause] = (),
    ) -> int:
        """How many traces fit both lists of clauses.

        Raises:
            TraceInvalid: a clause is about the attributes or the content of spans, which are not counted.
        """
        if not experiments:
            return 0
        asked = search.Asked(project_id=project_id, experiments=experiments, clauses=clauses)
        other = search.Asked(project_id=project_id, experiments=experiments, clauses=also)
        if asked.fits is not None or other.fits is not None:
            raise TraceInvalid(
                "Traces are not counted by what stands in their spans.", hint="Search for them, page by page."
            )
        with self._db.read() as conn:
            return search.count(conn, self._keys, asked, also)
