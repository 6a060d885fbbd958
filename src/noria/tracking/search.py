"""Searches as SQL. Every page begins behind the last row of the one before, whatever the order is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    String,
    and_,
    case,
    cast,
    exists,
    false,
    func,
    literal,
    null,
    or_,
    select,
    true,
)

from noria.assets import tables as at
from noria.base.ids import ProjectId, RunId
from noria.base.search import Clause, Order
from noria.db.compare import compare
from noria.db.paging import Part, behind, mark, marked, ordered
from noria.tracking import queries
from noria.tracking import tables as t
from noria.tracking.grammar import STATUS
from noria.tracking.keys import Keys
from noria.tracking.records import Experiment

# ---- runs

_R = t.tracked_runs.c
_OWN: Final[Mapping[str, Any]] = {"run_id": _R.run_id, "start_time": _R.started_at, "user": _R.user}
"""What this room's rows say by themselves."""
_WIDE: Final[Mapping[str, Any]] = {"run_id": at.runs.c.id, "start_time": at.runs.c.started_at, "user": _R.user}
_OF_RUNS: Final[Mapping[str, Any]] = {
    "name": at.runs.c.name,
    "state": at.runs.c.state,
    "status": case({state.value: name for state, name in STATUS.items()}, value=at.runs.c.state),
    "kind": at.runs.c.kind,
    "parent": at.runs.c.parent_id,
    "deleted_at": at.runs.c.deleted_at,
    "end_time": at.runs.c.ended_at,
}
_APART: Final = 100
"""So many experiments are asked one by one for their newest runs."""
_MAYBE: Final = ("end_time", "user", "artifact_uri")
"""Attributes that a run may be without."""
_URI: Final = "artifact_uri"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A search of runs.

    Attributes:
        experiments: their ids; None for all runs of the project, those in no experiment too.
        deleted: only those in the bin, or only those that are not; None for both.
        order: decides first to last; then the newest run comes first.
        root: where artifacts lie whose experiment names no place; empty: ``artifact_uri`` is not searched.
    """

    project_id: ProjectId
    experiments: Sequence[int] | None = None
    clauses: Sequence[Clause] = ()
    order: Sequence[Order] = ()
    deleted: bool | None = False
    limit: int = 100
    after: str | None = None
    root: str = ""

    @property
    def apart(self) -> list[Asked]:
        """The same for each experiment: to merge their newest runs costs less than to sort all runs of several."""
        by_start = [(o.kind, o.key) for o in self.order] in ([], [("attribute", "start_time")])
        if not by_start or self.experiments is None or not 1 < len(self.experiments) <= _APART:
            return [self]
        return [replace(self, experiments=[one]) for one in dict.fromkeys(self.experiments)]

    @property
    def columns(self) -> Mapping[str, Any]:
        made = {**(_WIDE if self.experiments is None else _OWN), **_OF_RUNS}
        if self.root and any(one.key == _URI for one in (*self.clauses, *self.order)):
            made[_URI] = uri(self.root, _R.experiment_id, "/", _R.run_id, kept=_R.location)
        return made

    @property
    def source(self) -> Any:
        """The rows to look through: as few tables as the question needs."""
        if self.experiments is None:
            return at.runs.outerjoin(t.tracked_runs, _R.run_id == at.runs.c.id)
        named = [c.key for c in (*self.clauses, *self.order) if c.kind == "attribute"]
        if all(key in _OWN or key == _URI for key in named):
            return t.tracked_runs
        return t.tracked_runs.join(at.runs, at.runs.c.id == _R.run_id)

    @property
    def scope(self) -> list[ColumnElement[bool]]:
        if self.experiments is None:
            where: list[ColumnElement[bool]] = [at.runs.c.project_id == self.project_id]
            gone = at.runs.c.deleted_at
            return where if self.deleted is None else [*where, gone.is_not(None) if self.deleted else gone.is_(None)]
        few = len(self.experiments) == 1
        where = [_R.experiment_id == self.experiments[0] if few else _R.experiment_id.in_(list(self.experiments))]
        return where if self.deleted is None else [*where, _R.deleted == self.deleted]


def uri(root: str, experiment_id: Any, folder: str, id: Any, *, kept: Any = None) -> ColumnElement[str]:
    """Where clients are told to keep the files of something: as text, since it follows from what other rows say.

    Args:
        kept: the column with the place that it brought from another experiment.
    """
    own = _E.location if kept is None else func.coalesce(kept, _E.location)
    number = case((_E.is_default, literal("0")), else_=cast(_E.id, String))
    place = func.coalesce(func.nullif(own, ""), literal(f"{root}/") + number)
    return select(place + folder + id + "/artifacts").where(_E.id == experiment_id).scalar_subquery()


def runs(conn: Connection, keys: Keys, asked: Asked) -> tuple[list[RunId], str | None]:
    """Ids of the runs that fit, and the token of the next page."""
    apart = asked.apart
    rows = [row for one in apart for row in _page(conn, keys, one)]
    if len(apart) > 1:  # parts of the order: the start, and the id
        newest_first = not asked.order or asked.order[0].descending
        rows.sort(key=lambda row: (-row[1] if newest_first else row[1], row[2]))
    following = mark(rows[asked.limit - 1][1:]) if len(rows) > asked.limit else None
    return [RunId(row[0]) for row in rows[: asked.limit]], following


def _page(conn: Connection, keys: Keys, asked: Asked) -> Sequence[Any]:
    """Rows of id and parts of the order: those of a page and one more."""
    columns = asked.columns
    said = _Said(conn, keys, asked.source, [*asked.order, *asked.clauses])
    parts = [part for order in asked.order for part in _parts(order, columns, said)]
    if not any(o.kind == "attribute" and o.key == "start_time" for o in asked.order):
        parts.append(Part(columns["start_time"], descending=True))
    if not any(o.kind == "attribute" and o.key == "run_id" for o in asked.order):
        parts.append(Part(columns["run_id"]))
    # Named, since two parts may be one column.
    shown = (part.value.label(f"part_{n}") for n, part in enumerate(parts))
    found: Any = select(columns["run_id"].label("found"), *shown).select_from(said.source)
    found = found.where(*asked.scope, *(_condition(clause, columns, said) for clause in asked.clauses))
    values = marked(asked.after, parts)
    if values is not None:
        found = found.where(behind(parts, values))
    return conn.execute(found.order_by(*ordered(parts)).limit(asked.limit + 1)).all()


def count(conn: Connection, keys: Keys, asked: Asked) -> int:
    """How many runs fit, whatever the page is."""
    said = _Said(conn, keys, asked.source, asked.clauses)
    found = select(func.count()).select_from(said.source).where(*asked.scope)
    return conn.execute(found.where(*(_condition(c, asked.columns, said) for c in asked.clauses))).scalar_one()


class _Said:
    """The values that a search asks for, each one row or none beside each run.

    They are joined from the left, so that the database goes through the runs in their own order and finds each value
    beside the others of the same run; what comes after the twentieth is looked up, since databases bound joins.

    Attributes:
        source: the runs with the values joined.
    """

    def __init__(self, conn: Connection, keys: Keys, source: Any, asked: Sequence[Clause | Order]) -> None:
        wanted = list(dict.fromkeys((one.kind, one.key) for one in asked if one.kind in _TABLES))
        ids = keys.find(conn, {key for _, key in wanted}) if wanted else {}
        self.source = source
        self._rows: dict[tuple[str, str], Any] = {}
        for kind, key in wanted:
            if key in ids:
                self._rows[kind, key] = self._row(_TABLES[kind], ids[key])

    def _row(self, table: Any, key_id: int) -> Any:
        if len(self._rows) < _JOINED:
            row = table.alias(f"said_{len(self._rows)}")
            self.source = self.source.outerjoin(row, (row.c.run_no == _R.no) & (row.c.key_id == key_id))
            return row.c
        here = (table.c.run_no == _R.no, table.c.key_id == key_id)
        return {name: select(table.c[name]).where(*here).scalar_subquery() for name in table.c.keys()}  # noqa: SIM118

    def find(self, kind: str, key: str) -> Any:
        """The columns of the row; None where no run ever said such a thing."""
        return self._rows.get((kind, key))


_TABLES: Final[Mapping[str, Any]] = {"metric": t.latest, "param": t.params, "tag": t.tags}
_JOINED: Final = 20


def _parts(order: Order, columns: Mapping[str, Any], said: _Said) -> list[Part]:
    """What is missing comes last in either direction; so does NaN, before what is missing."""
    if order.kind == "attribute":
        column = columns.get(order.key)
        if column is None:
            return []
        if order.key not in _MAYBE:
            return [Part(column, order.descending)]
        return [Part(case((column.is_(None), 1), else_=0)), Part(column, order.descending, whole=False)]
    row = said.find(order.kind, order.key)
    if row is None:
        return []
    missing = row["run_no"].is_(None)
    if order.kind != "metric":
        return [Part(case((missing, 1), else_=0)), Part(row["value"], order.descending, whole=False)]
    rank = case((missing, 2), (row["is_nan"], 1), else_=0)
    value = case((row["is_nan"], null()), else_=row["value"])
    return [Part(rank), Part(value, order.descending, whole=False)]


def _condition(clause: Clause, columns: Mapping[str, Any], said: _Said) -> ColumnElement[bool]:
    if clause.kind == "attribute":
        column = columns.get(clause.key)
        return false() if column is None else compare(column, clause)
    if clause.kind == "dataset":
        return _dataset(clause)
    row = said.find(clause.kind, clause.key)
    if row is None:
        return true() if clause.op == "is_null" else false()
    if clause.op == "is_null":
        return row["run_no"].is_(None)
    if clause.op == "is_not_null":
        return row["run_no"].is_not(None)
    if clause.kind != "metric":
        return compare(row["value"], clause)
    if clause.op == "!=":  # NaN differs from every number, and has no other relation to one
        return or_(row["is_nan"], row["value"] != clause.value)
    return and_(compare(row["value"], clause), ~row["is_nan"])


def _dataset(clause: Clause) -> ColumnElement[bool]:
    column = {"name": t.datasets.c.name, "digest": t.datasets.c.digest, "context": t.inputs.c.context}[clause.key]
    join = t.inputs.join(t.datasets, t.datasets.c.id == t.inputs.c.dataset_id)
    chosen = select(literal(1)).select_from(join).where(t.inputs.c.run_no == _R.no)
    return exists(chosen.where(compare(column, clause)).correlate(t.tracked_runs))


# ---- experiments

_E = t.experiments.c
_EXPERIMENT: Final[Mapping[str, Any]] = {
    "experiment_id": case((_E.is_default, 0), else_=_E.id),
    "name": _E.name,
    "creation_time": _E.created_at,
    "last_update_time": _E.updated_at,
}


def experiments(
    conn: Connection,
    project_id: ProjectId,
    *,
    clauses: Sequence[Clause] = (),
    order: Sequence[Order] = (),
    deleted: bool | None = False,
    folder: str | None = None,
    limit: int = 100,
    after: str | None = None,
) -> tuple[list[Experiment], str | None]:
    """Experiments that fit, and the token of the next page; unasked, those changed last come first.

    Args:
        folder: only those whose names begin with it and a ``/``.
    """
    parts = [Part(_EXPERIMENT[o.key], o.descending) for o in order]
    if not parts:
        parts.append(Part(_E.updated_at, descending=True))
    parts.append(Part(_E.id))
    found: Select[Any] = select(t.experiments, *(part.value.label(f"part_{n}") for n, part in enumerate(parts)))
    found = found.where(_E.project_id == project_id, *(_of_experiment(clause) for clause in clauses))
    if deleted is not None:
        found = found.where(_E.deleted_at.is_not(None) if deleted else _E.deleted_at.is_(None))
    if folder is not None:
        found = found.where(_E.name.startswith(folder.rstrip("/") + "/", autoescape=True))
    values = marked(after, parts)
    if values is not None:
        found = found.where(behind(parts, values))
    rows = conn.execute(found.order_by(*ordered(parts)).limit(limit + 1)).all()
    following = mark(rows[limit - 1][-len(parts) :]) if len(rows) > limit else None
    return queries.with_tags(conn, rows[:limit]), following


def _of_experiment(clause: Clause) -> ColumnElement[bool]:
    if clause.kind == "attribute":
        value: Any = clause.value
        if clause.key == "experiment_id":  # a number here, a text in the filter
            texts = value if isinstance(value, tuple) else (value,)
            numbers = [int(text) for text in texts if text.isascii() and text.isdecimal() and len(text) < 19]
            value = tuple(numbers) if isinstance(value, tuple) else next(iter(numbers), -1)
        return compare(_EXPERIMENT[clause.key], replace(clause, value=value))
    c = t.experiment_tags.c
    here = (c.experiment_id == _E.id, c.key == clause.key)
    if clause.op in ("is_null", "is_not_null"):
        there = exists().where(*here)
        return there if clause.op == "is_not_null" else ~there
    return compare(select(c.value).where(*here).scalar_subquery(), clause)
