"""Runs for other programs: rows by the page, so that any number of them flows through."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from noria.base.ids import ProjectId
from noria.tracking import compared
from noria.tracking.exporting import ATTRIBUTES, point_row, run_row
from noria.tracking.records import Listed
from noria.tracking.service.listing import Listing

_PAGE = 500
_POINTS = 25_000
_VALUES = 200_000


class Exporting(Listing):
    def export_pages(
        self,
        project_id: ProjectId,
        text: str = "",
        *,
        experiments: Sequence[str] = (),
        under: str | None = None,
        columns: Sequence[str] | None = None,
        kinds: Sequence[str] = (),
        deleted: bool | None = False,
        size: int = _PAGE,
    ) -> Iterator[list[Listed]]:
        """Runs that fit, a few hundred at a time, the newest first (see ``list_runs``)."""
        after = None
        while True:
            page = self.list_runs(
                project_id,
                text,
                experiments=experiments,
                under=under,
                columns=columns,
                kinds=kinds,
                order_by=("start_time desc",),
                deleted=deleted,
                limit=size,
                after=after,
            )
            yield page.items
            after = page.next
            if after is None:
                return

    def export_columns(self, project_id: ProjectId, text: str = "", **chosen: Any) -> tuple[list[str], int]:
        """The columns of a table of the runs that fit, with everything that any of them said; and how many runs."""
        found: dict[str, set[str]] = {part: set() for part in compared.PARTS}
        total = 0
        for page in self.export_pages(project_id, text, columns=(), **chosen):
            total += len(page)
            with self._db.read() as conn:
                numbers = list(compared.numbers(conn, [one.run.id for one in page]).values())
                for part, names in found.items():
                    names |= compared.names_used(conn, part, numbers)
        made = [f"{part}.{name}" for part, names in found.items() for name in sorted(names)]
        return [*ATTRIBUTES, *made], total

    def export_rows(
        self, project_id: ProjectId, names: Sequence[str], text: str = "", **chosen: Any
    ) -> Iterator[tuple[list[list[Any]], int]]:
        """One row a run, by the page; of wide tables a page is short. And how many runs that were."""
        size = max(10, min(_PAGE, _VALUES // max(len(names), 1)))
        for page in self.export_pages(project_id, text, size=size, **chosen):
            yield [run_row(one, names) for one in page], len(page)

    def export_history(
        self, project_id: ProjectId, keys: Collection[str] = (), text: str = "", **chosen: Any
    ) -> Iterator[tuple[list[list[Any]], int]]:
        """One row a point, a few thousand at a time; and how many runs are done with it.

        Args:
            keys: only these metrics; default all.
        """
        for page in self.export_pages(project_id, text, columns=(), **chosen):
            for one in page:
                with self._db.read() as conn:
                    numbers = list(compared.numbers(conn, [one.run.id]).values())
                    names = sorted(compared.names_used(conn, "metrics", numbers))
                for key in names:
                    if keys and key not in keys:
                        continue
                    after = None
                    while True:
                        found = self.history(one.run.id, key, limit=_POINTS, after=after)
                        yield [point_row(one.run.id, point) for point in found.items], 0
                        after = found.next
                        if after is None:
                            break
                yield [], 1
