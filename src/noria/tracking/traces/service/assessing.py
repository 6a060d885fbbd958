"""Verbs of assessments: what people and judges say of a trace."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import update

from noria.base.ids import ProjectId
from noria.db import Tx
from noria.tracking.traces import queries
from noria.tracking.traces import tables as t
from noria.tracking.traces.errors import AssessmentNotFound, TraceInvalid, TraceNotFound
from noria.tracking.traces.records import Assessment, Trace
from noria.tracking.traces.service.base import kept
from noria.tracking.traces.service.telling import Telling
from noria.tracking.traces.spantext import plain

MOST_NAME: Final = 250
MOST_TEXT: Final = 1 << 20


class Assessing(Telling):
    def tell(self, tx: Tx, project_id: ProjectId, trace: Trace) -> Trace:
        """``Telling.tell``, with the assessments that come along."""
        made = super().tell(tx, project_id, trace)
        if not trace.assessments:
            return made
        number = self._row(tx, project_id, trace.trace_id).id
        for one in trace.assessments:
            self._write(tx, number, replace(one, id=one.id or _new_id(), trace_id=trace.trace_id))
        return queries.traces(tx.conn, [number])[0]

    def assess(self, tx: Tx, project_id: ProjectId, assessment: Assessment) -> Assessment:
        """Stores an assessment; its id is made here. One that it overrides is not valid any more.

        Raises:
            TraceNotFound, AssessmentNotFound: there is no such trace, or none to override.
            TraceInvalid: a part of it is not allowed.
        """
        number = self._row(tx, project_id, assessment.trace_id).id
        made = replace(assessment, id=assessment.id or _new_id())
        if made.overrides and not queries.set_valid(tx, number, made.overrides, valid=False):
            raise AssessmentNotFound(made.overrides, made.trace_id)
        if not tx.insert_new(t.assessments, _values(number, made)):
            raise TraceInvalid(f"There is an assessment {made.id!r:.80} already.")
        return made

    @staticmethod
    def _write(tx: Tx, number: int, assessment: Assessment) -> None:
        tx.upsert(t.assessments, _values(number, assessment), key=["id"])

    def assessment(self, project_id: ProjectId, trace_id: str, id: str, tx: Tx | None = None) -> Assessment:
        """One assessment.

        Raises:
            TraceNotFound, AssessmentNotFound: there is no such trace, or it has no such assessment.
        """
        with self._db.read(tx) as conn:
            row = queries.row(conn, trace_id)
            found = [] if row is None else queries.assessments(conn, [row.id], id=id)
        if row is None or row.project_id != project_id:
            raise TraceNotFound(trace_id)
        if not found:
            raise AssessmentNotFound(id, trace_id)
        return found[0][1]

    def amend_assessment(
        self,
        tx: Tx,
        project_id: ProjectId,
        trace_id: str,
        id: str,
        *,
        name: str | None = None,
        kind: str | None = None,
        value: Any = None,
        error: dict[str, Any] | None = None,
        rationale: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Assessment:
        """Changes an assessment. Who judged, and of which span, stays; metadata is added to what is there.

        Args:
            kind: of ``value`` and ``error``, where they are given: that of the assessment.

        Raises:
            TraceNotFound, AssessmentNotFound, TraceInvalid: it is not there, or cannot become this.
        """
        found = self.assessment(project_id, trace_id, id, tx)
        if kind is not None and kind != found.kind:
            raise TraceInvalid(f"The {found.kind} {found.name!r:.80} cannot get the value of a {kind}.")
        made = replace(
            found,
            name=found.name if name is None else name,
            value=found.value if kind is None else value,
            error=found.error if kind is None else error,
            rationale=found.rationale if rationale is None else rationale,
            metadata={**found.metadata, **(metadata or {})},
            updated_at=tx.now_ms,
        )
        values = _values(0, made)
        for key in ("id", "trace", "valid"):
            del values[key]
        tx.execute(update(t.assessments).where(t.assessments.c.id == id).values(values))
        return made

    def delete_assessment(self, tx: Tx, project_id: ProjectId, trace_id: str, id: str) -> None:
        """Deletes an assessment, if it is there; one that it has overridden is valid again.

        Raises:
            TraceNotFound: there is no such trace.
        """
        number = self._row(tx, project_id, trace_id).id
        for _, found in queries.assessments(tx.conn, [number], id=id):
            if found.overrides:
                queries.set_valid(tx, number, found.overrides, valid=True)
            queries.delete_assessment(tx, number, id)


def _new_id() -> str:
    return f"a-{secrets.token_hex(16)}"


def _values(number: int, one: Assessment) -> dict[str, Any]:
    if not 0 < len(one.name) <= MOST_NAME or len(one.id) > 100 or "\0" in one.id:
        raise TraceInvalid(f"The name of an assessment has 1 to {MOST_NAME} characters, not {len(one.name)}.")
    text = plain(one.value)
    if len(text) > MOST_TEXT:
        raise TraceInvalid(f"The value of {one.name!r} has {len(text)} characters; {MOST_TEXT} are allowed.")
    return {
        "id": one.id,
        "trace": number,
        "name": kept(one.name),
        "kind": one.kind,
        "value": one.value,
        "text": kept(text),
        "number": _number(one.value),
        "error": one.error,
        "source_kind": kept(one.source.kind),
        "source_id": None if one.source.id is None else kept(one.source.id),
        "span_id": one.span_id,
        "rationale": None if one.rationale is None else kept(one.rationale),
        "overrides": one.overrides,
        "valid": one.valid,
        "metadata": dict(one.metadata),
        "whole_session": one.whole_session,
        "created_at": one.created_at,
        "updated_at": one.updated_at,
    }


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None
