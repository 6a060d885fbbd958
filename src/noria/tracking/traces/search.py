"""Searches of traces. What rows say is asked in SQL; what only spans say is read from them, for traces that fit so far.

Every page begins behind the last trace that was looked at. One that has to look into many spans may end early, with a
token: nobody waits for the whole of a large experiment at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, case, exists, false, func, literal, or_, select, true

from noria.base.ids import ProjectId
from noria.base.search import Clause, Order
from noria.db.compare import compare
from noria.db.paging import Part, behind, mark, marked, ordered
from noria.tracking import tables as tt
from noria.tracking.grammar import TRACE_STATUS
from noria.tracking.keys import Keys
from noria.tracking.traces import queries
from noria.tracking.traces import tables as t
from noria.tracking.traces.spantext import Fits, fitting

_T = t.traces.c
_COLUMNS: Final[Mapping[str, Any]] = {
    "request_id": _T.trace_id,
    "client_request_id": _T.client_id,
    "experiment_id": _T.experiment_id,
    "state": _T.state,
    "status": case(TRACE_STATUS, value=_T.state),
    "name": _T.name,
    "timestamp_ms": _T.started_at,
    "execution_time_ms": _T.took,
    "end_time_ms": _T.started_at + func.coalesce(_T.took, 0),
}
_MAYBE: Final = ("client_request_id", "name", "execution_time_ms")
"""Attributes that a trace may be without."""
_KINDS: Final[Mapping[str, Any]] = {**dict(t.kinds.c.items()), "status": func.upper(t.kinds.c.status)}
_DEEP: Final = 256
"""Traces whose spans are read at once."""
MOST_READ: Final = 4_096
"""Traces whose spans one page reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A search of traces, the newest first unless ``order`` says otherwise.

    Attributes:
        experiments: their numbers, of this project; None for all of them.
    """

    project_id: ProjectId
    experiments: Sequence[int] | None = None
    clauses: Sequence[Clause] = ()
    order: Sequence[Order] = ()
    limit: int = 100
    after: str | None = None

    def scope(self, experiment_id: Any = _T.experiment_id) -> ColumnElement[bool]:
        if self.experiments is None:
            e = tt.experiments.c
            return experiment_id.in_(select(e.id).where(e.project_id == self.project_id))
        one = len(self.experiments) == 1
        return experiment_id == self.experiments[0] if one else experiment_id.in_(list(self.experiments))

    @property
    def fits(self) -> Fits | None:
        """Whether a span fits; None where rows know it."""
        of = [clause for clause in self.clauses if clause.kind in ("span", "span_attribute")]
        return fitting(of) if any(clause.kind != "span" or clause.key == "content" for clause in of) else None


def traces(conn: Connection, keys: Keys, asked: Asked) -> tuple[list[int], str | None]:
    """Numbers of the traces that fit, and the token of the next page."""
    ids = keys.find(conn, {c.key for c in (*asked.clauses, *asked.order) if c.kind in ("tag", "metadata")})
    parts = [part for order in asked.order for part in _parts(order, ids)]
    named = {o.key for o in asked.order if o.kind == "attribute"}
    if "timestamp_ms" not in named:
        parts.append(Part(_T.started_at, descending=True))
    if "request_id" not in named:
        parts.append(Part(_T.trace_id))
    shown = (part.value.label(f"part_{n}") for n, part in enumerate(parts))
    found: Any = select(_T.id.label("found"), *shown).where(asked.scope(), *_conditions(asked, ids))
    found = found.order_by(*ordered(parts))
    values = marked(asked.after, parts)
    if asked.fits is not None:
        return _deep(conn, asked, asked.fits, found, parts, values)
    if values is not None:
        found = found.where(behind(parts, values))
    rows = conn.execute(found.limit(asked.limit + 1)).all()
    following = mark(rows[asked.limit - 1][1:]) if len(rows) > asked.limit else None
    return [row[0] for row in rows[: asked.limit]], following


def _deep(
    conn: Connection, asked: Asked, fits: Fits, found: Any, parts: list[Part], values: Sequence[Any] | None
) -> tuple[list[int], str | None]:
    kept: list[tuple[Any, ...]] = []
    for _ in range(MOST_READ // _DEEP):
        rows = conn.execute((found if values is None else found.where(behind(parts, values))).limit(_DEEP)).all()
        spans = queries.spans(conn, [row[0] for row in rows])
        for row in rows:
            if any(fits(span) for span in spans.get(row[0], ())):
                if len(kept) == asked.limit:
                    return [one[0] for one in kept], mark(kept[-1][1:])
                kept.append(tuple(row))
        if len(rows) < _DEEP:
            return [one[0] for one in kept], None
        values = rows[-1][1:]
    return [one[0] for one in kept], mark(values or ())


def count(conn: Connection, keys: Keys, asked: Asked, also: Sequence[Clause] = ()) -> int:
    """How many traces fit ``asked`` and ``also``, each with spans of their own.

    Spans are not read for it: clauses about their attributes and content are not counted (see ``Asked.fits``).
    """
    both = (*asked.clauses, *also)
    ids = keys.find(conn, {c.key for c in both if c.kind in ("tag", "metadata")})
    conditions = [*_conditions(asked, ids), *_conditions(replace(asked, clauses=also), ids)]
    return conn.execute(select(func.count()).select_from(t.traces).where(asked.scope(), *conditions)).scalar_one()


def _parts(order: Order, ids: Mapping[str, int]) -> list[Part]:
    """What is missing comes last in either direction."""
    if order.kind == "attribute" and order.key != "run_id":
        column = _COLUMNS[order.key]
        if order.key not in _MAYBE:
            return [Part(column, order.descending)]
        return [Part(case((column.is_(None), 1), else_=0)), Part(column, order.descending, whole=False)]
    if order.kind == "attribute":
        value = select(func.min(t.runs.c.run_id)).where(t.runs.c.trace == _T.id, t.runs.c.own).scalar_subquery()
    else:
        key_id = ids.get(order.key)
        if key_id is None:
            return []
        table = {"tag": t.tags, "metadata": t.facts}[order.kind]
        value = select(table.c.value).where(table.c.trace == _T.id, table.c.key_id == key_id).scalar_subquery()
    return [Part(case((value.is_(None), 1), else_=0)), Part(value, order.descending, whole=False)]


def _conditions(asked: Asked, ids: Mapping[str, int]) -> list[ColumnElement[bool]]:
    made = [_condition(clause, asked, ids) for clause in asked.clauses if clause.kind not in ("span", "span_attribute")]
    of_spans = [clause for clause in asked.clauses if clause.kind in ("span", "span_attribute")]
    if of_spans:  # all of them about one span
        known = [compare(_KINDS[clause.key], clause) for clause in of_spans if _is_row(clause)]
        made.append(exists().where(t.kinds.c.trace == _T.id, *known))
    return made


def _is_row(clause: Clause) -> bool:
    return clause.kind == "span" and clause.key != "content"


def _condition(clause: Clause, asked: Asked, ids: Mapping[str, int]) -> ColumnElement[bool]:
    if clause.kind == "attribute":
        return _attribute(clause)
    if clause.kind in ("feedback", "expectation"):
        return _assessed(clause, asked)
    if clause.kind == "issue":
        a = t.assessments.c
        return exists().where(a.trace == _T.id, a.kind == "issue", a.name == clause.value)
    key_id = ids.get(clause.key)
    if key_id is None:
        return true() if clause.op == "is_null" else false()
    table = {"tag": t.tags, "metadata": t.facts}[clause.kind]
    here = [table.c.trace == _T.id, table.c.key_id == key_id]
    if clause.op in ("is_null", "is_not_null"):
        there = exists().where(*here)
        return there if clause.op == "is_not_null" else ~there
    return compare(select(table.c.value).where(*here).scalar_subquery(), clause)


def _attribute(clause: Clause) -> ColumnElement[bool]:
    if clause.key == "run_id":
        # "=" means every run that it belongs to; all else is about the one that it ran in.
        here = [t.runs.c.trace == _T.id, *([] if clause.op == "=" else [t.runs.c.own])]
        if clause.op in ("is_null", "is_not_null"):
            there = exists().where(*here)
            return there if clause.op == "is_not_null" else ~there
        return exists().where(*here, compare(t.runs.c.run_id, clause))
    if clause.key == "prompt":
        return exists().where(t.prompts.c.trace == _T.id, t.prompts.c.prompt == clause.value)
    column = _COLUMNS[clause.key]
    if clause.op == "is_null":
        return column.is_(None)
    return column.is_not(None) if clause.op == "is_not_null" else compare(column, clause)


def _assessed(clause: Clause, asked: Asked) -> ColumnElement[bool]:
    """A valid assessment of the trace, or one of its whole session, that fits."""
    a = t.assessments.c
    fits: list[ColumnElement[bool]] = [a.kind == clause.kind, a.name == clause.key, a.valid]
    if clause.op in ("<", "<=", ">", ">="):
        fits.append(compare(a.number, clause))
    elif clause.op not in ("is_null", "is_not_null"):
        fits.append(compare(a.text, clause))
    other = t.traces.alias("other")
    directly = exists().where(a.trace == _T.id, *fits)
    near = select(literal(1)).select_from(t.assessments.join(other, other.c.id == a.trace))
    scope = asked.scope(other.c.experiment_id)
    by_session = exists(near.where(other.c.session == _T.session, scope, a.whole_session, *fits).correlate(t.traces))
    found = or_(directly, and_(_T.session.is_not(None), by_session))
    return ~found if clause.op == "is_null" else found
