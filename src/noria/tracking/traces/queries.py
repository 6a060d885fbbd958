from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, delete, func, or_, select, update

from noria.base.ids import ProjectId, RunId
from noria.db import Tx
from noria.tracking import tables as tt
from noria.tracking.traces import packed
from noria.tracking.traces import tables as t
from noria.tracking.traces.records import Assessment, Source, Span, Trace, TraceState

_PART: Final = 400
"""Traces that one statement asks for."""

_T = t.traces.c
_IN_PROJECT: Any = select(_T.id, _T.trace_id, _T.experiment_id, _T.started_at, _T.took, _T.state, _T.told, _T.spans,
    _T.name, _T.session, _T.request, _T.response, tt.experiments.c.project_id).join(
    tt.experiments, tt.experiments.c.id == _T.experiment_id
)  # fmt: skip
_ONE: Any = _IN_PROJECT.where(_T.trace_id == bindparam("trace_id"))


def row(conn: Connection, trace_id: str) -> Row[Any] | None:
    """The row of a trace with the project that it is of."""
    return conn.execute(_ONE, {"trace_id": trace_id}).one_or_none()


def numbers(conn: Connection, project_id: ProjectId, trace_ids: Sequence[str]) -> dict[str, int]:
    """Id of a trace -> its number, for those of the project that are there."""
    found: dict[str, int] = {}
    for start in range(0, len(trace_ids), _PART):
        part = _IN_PROJECT.where(
            tt.experiments.c.project_id == project_id, _T.trace_id.in_(list(trace_ids[start : start + _PART]))
        )
        found.update((one.trace_id, one.id) for one in conn.execute(part))
    return found


def beginning(conn: Connection, project_id: ProjectId, text: str) -> list[int]:
    """Numbers of the trace of this id, or of at most two traces whose ids begin so."""
    of = _IN_PROJECT.where(tt.experiments.c.project_id == project_id)
    found = conn.execute(of.where(_T.trace_id.in_([text, f"tr-{text}"])).limit(1)).all()
    if not found:
        begins = or_(
            _T.trace_id.startswith(text, autoescape=True), _T.trace_id.startswith(f"tr-{text}", autoescape=True)
        )
        found = conn.execute(of.where(begins).limit(2)).all()
    return [one.id for one in found]


def traces(conn: Connection, numbers: Sequence[int]) -> list[Trace]:
    """Traces with all that is said of them, in this order."""
    made: dict[int, Trace] = {}
    for start in range(0, len(numbers), _PART):
        made |= _some(conn, list(numbers[start : start + _PART]))
    return [made[number] for number in numbers if number in made]


def _of(table: Any, *columns: Any) -> Any:
    """Rows of a table for some traces; made once, since making it costs more than asking it."""
    return select(table.c.trace, *columns).where(table.c.trace.in_(bindparam("numbers", expanding=True)))


_TAGS = _of(t.tags, tt.keys.c.name, t.tags.c.value).join(tt.keys, tt.keys.c.id == t.tags.c.key_id)
_FACTS = _of(t.facts, tt.keys.c.name, t.facts.c.value).join(tt.keys, tt.keys.c.id == t.facts.c.key_id)
_RUNS = _of(t.runs, t.runs.c.run_id).order_by(t.runs.c.own.desc(), t.runs.c.run_id)
_PROMPTS = _of(t.prompts, t.prompts.c.prompt).order_by(t.prompts.c.prompt)
_TRACES: Any = select(t.traces).where(_T.id.in_(bindparam("numbers", expanding=True)))


def _rows(conn: Connection, statement: Any, numbers: list[int]) -> Sequence[Any]:
    return conn.execute(statement, {"numbers": numbers}).all()


def _some(conn: Connection, numbers: list[int]) -> dict[int, Trace]:
    tags: dict[int, dict[str, str]] = {number: {} for number in numbers}
    for number, name, value in _rows(conn, _TAGS, numbers):
        tags[number][name] = value
    facts: dict[int, dict[str, str]] = {number: {} for number in numbers}
    for number, name, value in _rows(conn, _FACTS, numbers):
        facts[number][name] = value
    runs: dict[int, list[RunId]] = {}
    for number, run_id in _rows(conn, _RUNS, numbers):
        runs.setdefault(number, []).append(RunId(run_id))
    prompts: dict[int, list[str]] = {}
    for number, prompt in _rows(conn, _PROMPTS, numbers):
        prompts.setdefault(number, []).append(prompt)
    assessed: dict[int, list[Assessment]] = {}
    for number, one in assessments(conn, numbers):
        assessed.setdefault(number, []).append(one)
    return {
        found.id: Trace(
            trace_id=found.trace_id,
            experiment_id=found.experiment_id,
            started_at=found.started_at,
            took=found.took,
            state=TraceState(found.state),
            name=found.name,
            client_id=found.client_id,
            session=found.session,
            request=found.request,
            response=found.response,
            spans=found.spans,
            runs=runs.get(found.id, ()),
            prompts=prompts.get(found.id, ()),
            tags=tags[found.id],
            metadata=facts[found.id],
            assessments=assessed.get(found.id, ()),
        )
        for found in _rows(conn, _TRACES, numbers)
    }


# ---- spans


def spans(conn: Connection, numbers: Sequence[int]) -> dict[int, list[Span]]:
    """Spans of several traces, roots first, then by their start; of one that came twice, what came last."""
    found: dict[int, dict[str, Span]] = {}
    c = t.spans.c
    for start in range(0, len(numbers), _PART):
        part = select(c.trace, c.data).where(c.trace.in_(list(numbers[start : start + _PART])))
        for number, data in conn.execute(part.order_by(c.trace, c.seq)):
            of = found.setdefault(number, {})
            for span in packed.unpack(data):
                of[span.span_id] = span
    return {
        number: sorted(of.values(), key=lambda span: (span.parent_id is not None, span.started))
        for number, of in found.items()
    }


def next_seq(conn: Connection, number: int) -> int:
    return conn.execute(
        select(func.coalesce(func.max(t.spans.c.seq) + 1, 0)).where(t.spans.c.trace == number)
    ).scalar_one()


def change(tx: Tx, number: int, values: Mapping[str, Any]) -> None:
    if values:
        tx.execute(update(t.traces).where(_T.id == number).values(dict(values)))


# ---- tags and metadata


def present(conn: Connection, table: Any, number: int, key_ids: Iterable[int]) -> set[int]:
    """Those of the keys that the trace has."""
    wanted = list(key_ids)
    if not wanted:
        return set()
    return set(
        conn.execute(select(table.c.key_id).where(table.c.trace == number, table.c.key_id.in_(wanted))).scalars()
    )


def delete_tag(tx: Tx, number: int, key_id: int) -> bool:
    return tx.execute(delete(t.tags).where(t.tags.c.trace == number, t.tags.c.key_id == key_id)).rowcount > 0


# ---- assessments

_A = t.assessments.c


_ASSESSMENTS: Any = (
    select(t.assessments, _T.trace_id)
    .join(t.traces, _T.id == _A.trace)
    .where(_A.trace.in_(bindparam("numbers", expanding=True)))
    .order_by(_A.created_at, _A.id)
)


def assessments(conn: Connection, numbers: Sequence[int], *, id: str | None = None) -> list[tuple[int, Assessment]]:
    """Number of the trace and assessment, in the order in which they were made."""
    found = _ASSESSMENTS if id is None else _ASSESSMENTS.where(_A.id == id)
    return [(one.trace, _assessment(one)) for one in conn.execute(found, {"numbers": list(numbers)}).all()]


def _assessment(one: Row[Any]) -> Assessment:
    return Assessment(
        id=one.id,
        trace_id=one.trace_id,
        name=one.name,
        kind=one.kind,
        value=one.value,
        source=Source(kind=one.source_kind, id=one.source_id),
        created_at=one.created_at,
        updated_at=one.updated_at,
        error=one.error,
        span_id=one.span_id,
        rationale=one.rationale,
        overrides=one.overrides,
        valid=bool(one.valid),
        metadata=one.metadata,
        whole_session=bool(one.whole_session),
    )


def set_valid(tx: Tx, number: int, id: str, *, valid: bool) -> bool:
    changed = update(t.assessments).where(_A.trace == number, _A.id == id)
    return tx.execute(changed.values(valid=valid)).rowcount > 0


def delete_assessment(tx: Tx, number: int, id: str) -> None:
    tx.execute(delete(t.assessments).where(_A.trace == number, _A.id == id))


# ---- the end of traces

_CHILDREN: Final = (t.tags, t.facts, t.runs, t.prompts, t.spans, t.kinds, t.assessments)


def oldest(
    conn: Connection,
    experiment_id: int,
    *,
    trace_ids: Sequence[str] | None = None,
    until: int | None = None,
    limit: int,
) -> dict[int, str]:
    """Numbers and ids of traces of an experiment, the oldest first; ``until`` is the last start that counts."""
    found = select(_T.id, _T.trace_id).where(_T.experiment_id == experiment_id)
    if trace_ids is not None:
        found = found.where(_T.trace_id.in_(list(trace_ids)))
    if until is not None:
        found = found.where(_T.started_at <= until)
    rows = conn.execute(found.order_by(_T.started_at, _T.trace_id).limit(limit)).all()
    return {row.id: row.trace_id for row in rows}


def delete_traces(tx: Tx, numbers: Sequence[int]) -> None:
    for start in range(0, len(numbers), _PART):
        part = list(numbers[start : start + _PART])
        for table in _CHILDREN:
            tx.execute(delete(table).where(table.c.trace.in_(part)))
        tx.execute(delete(t.traces).where(_T.id.in_(part)))
