"""The verb that goes through all traces of a frame of time, for sums over them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from noria.base.ids import ProjectId
from noria.base.search import parse
from noria.tracking.grammar import TRACES
from noria.tracking.traces.records import Span, Trace
from noria.tracking.traces.service.reading import Reading

_PAGE: Final = 500


class Walking(Reading):
    def walk(
        self,
        project_id: ProjectId,
        experiments: Sequence[int],
        *,
        since: int | None = None,
        until: int | None = None,
        spans: bool = False,
    ) -> Iterator[list[tuple[Trace, list[Span]]]]:
        """All traces of experiments that began in a frame of time, page by page.

        Args:
            since, until: milliseconds since 1970, both inclusive.
            spans: with their spans; without, the lists are empty.
        """
        frame = [(">=", since), ("<=", until)]
        text = " AND ".join(f"timestamp_ms {sign} {at}" for sign, at in frame if at is not None)
        clauses, after = parse(text, TRACES), None
        while True:
            page = self.find(project_id, experiments, clauses=clauses, limit=_PAGE, after=after)
            its = self.spans(project_id, [one.trace_id for one in page.items]) if spans else {}
            yield [(one, its.get(one.trace_id, [])) for one in page.items]
            after = page.next
            if after is None:
                return
