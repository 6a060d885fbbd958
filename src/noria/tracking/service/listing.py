"""Lists of runs as people and programs ask for them: what they are, what they said, in pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from noria.assets.records import RunState
from noria.base.errors import Invalid
from noria.base.ids import ProjectId, RunId
from noria.base.pages import Page, check_limit
from noria.base.search import Clause, Order, parse, parse_order
from noria.tracking import compared, queries
from noria.tracking.grammar import RUNS
from noria.tracking.records import Listed, Point, RunData
from noria.tracking.service.comparing import Comparing
from noria.tracking.service.reading import Searching

TOLD: Final = (
    "pipeline", "step", "sweep", "trial", "collection", "deployment", "gate", "check", "mlflow", "score",
)  # fmt: skip
"""Kinds of runs that are listed unasked: a table that is fed every minute would bury them under its commits."""
MOST_COLUMNS: Final = 200
_PARTS: Final = {"metric": "metrics", "param": "params", "tag": "tags"}
_FOLDER: Final = 1_000
"""Experiments of a folder that are looked into."""


class Listing(Searching, Comparing):
    def list_runs(
        self,
        project_id: ProjectId,
        text: str = "",
        *,
        experiments: Sequence[str] = (),
        under: str | None = None,
        kinds: Sequence[str] = (),
        states: Sequence[RunState] = (),
        name: str | None = None,
        parent: RunId | None = None,
        order_by: Sequence[str] = (),
        columns: Sequence[str] | None = None,
        deleted: bool | None = False,
        limit: int = 100,
        after: str | None = None,
    ) -> Page[Listed]:
        """Runs, newest first if nothing else is asked for, with what they said.

        Args:
            text: a filter (see ``grammar.RUNS``).
            experiments: their names; with ``under``, also all experiments of that folder.
            columns: what to read of each run, for instance ``metrics.loss`` or ``params.lr``; default everything.
            deleted: only those in the bin; None for all.

        Raises:
            ExperimentNotFound, SearchInvalid, PageWrong: a part of the question does not fit.
        """
        check_limit(limit)
        chosen = None if columns is None else columns_of(columns)
        clauses = [*parse(text, RUNS), *_clauses(kinds, states, name, parent)]
        order = [parse_order(one, RUNS) for one in order_by]
        ids = self._experiments_of(project_id, experiments, under)
        if not text and not order and ids is None and deleted is False:
            page = self._assets.list_runs(
                project_id,
                kinds=list(kinds) or None,
                name=name,
                parent_id=parent,
                states=list(states) or None,
                limit=limit,
                after=after,
            )
            runs, following = page.items, page.next
        else:
            found = self.find(
                project_id,
                experiments=ids,
                clauses=clauses,
                order=order,
                deleted=deleted,
                limit=limit,
                after=after,
            )
            by_id = self._assets.runs_by_ids(found.items)
            runs, following = [by_id[id] for id in found.items if id in by_id], found.next
        wanted = [run.id for run in runs]
        data = self.data_of(wanted) if chosen is None else self._some_of(wanted, chosen)
        names = self.experiment_names(project_id, [d.experiment_id for d in data.values() if d.experiment_id])
        made = [
            Listed(run=run, data=data[run.id], experiment=names.get(data[run.id].experiment_id or 0)) for run in runs
        ]
        return Page(items=made, next=following)

    def _experiments_of(self, project_id: ProjectId, named: Sequence[str], under: str | None) -> list[int] | None:
        if not named and under is None:
            return None
        ids = [self.experiment(project_id, name).id for name in named]
        if under is not None:
            page = self.search_experiments(project_id, folder=under, deleted=None, limit=_FOLDER)
            if page.next is not None:
                raise Invalid(
                    f"The folder {under!r:.100} holds more than {_FOLDER} experiments.", hint="Name a folder in it."
                )
            ids += [one.id for one in page.items]
        return ids

    def _some_of(self, ids: Sequence[RunId], chosen: Sequence[Order]) -> dict[RunId, RunData]:
        """What several runs said under a few keys; times and steps of metrics are left out."""
        with self._db.read() as conn:
            rows = queries.homes(conn, ids)
            keys = self._keys.find(conn, {one.key for one in chosen if one.kind in _PARTS})
            names = {number: name for name, number in keys.items()}
            runs = {no: id for id, (no, _, _) in rows.items()}
            made = {
                id: RunData(
                    run_id=id,
                    experiment_id=rows[id][1] if id in rows else None,
                    user=rows[id][2] if id in rows else "",
                    params={},
                    metrics={},
                    tags={},
                )
                for id in ids
            }
            for kind, part in _PARTS.items():
                key_ids = [keys[one.key] for one in chosen if one.kind == kind and one.key in keys]
                found = compared.values(conn, part, list(runs), key_ids) if key_ids and runs else {}
                for (no, key_id), value in found.items():
                    given: Any = Point(key=names[key_id], value=value, at=0) if kind == "metric" else value
                    getattr(made[runs[no]], part)[names[key_id]] = given
        return made

    def counts(self, project_id: ProjectId, experiments: Sequence[int]) -> dict[int, int]:
        """How many runs experiments hold, without those in the bin; for those that hold any."""
        with self._db.read() as conn:
            return queries.counts(conn, project_id, experiments)


def columns_of(names: Sequence[str]) -> list[Order]:
    """Names like ``metrics.loss`` as what they mean.

    Raises:
        SearchInvalid, Invalid: one of them means nothing; there are too many.
    """
    if len(names) > MOST_COLUMNS:
        raise Invalid(f"{len(names)} columns are too many.", hint=f"Choose up to {MOST_COLUMNS}.")
    return [parse_order(name, RUNS) for name in names]


def _clauses(kinds: Sequence[str], states: Sequence[RunState], name: str | None, parent: RunId | None) -> list[Clause]:
    made: list[Clause] = []
    if kinds:
        made.append(Clause(kind="attribute", key="kind", op="in", value=tuple(kinds)))
    if states:
        made.append(Clause(kind="attribute", key="state", op="in", value=tuple(s.value for s in states)))
    if name is not None:
        made.append(Clause(kind="attribute", key="name", op="=", value=name))
    if parent is not None:
        made.append(Clause(kind="attribute", key="parent", op="=", value=parent))
    return made
