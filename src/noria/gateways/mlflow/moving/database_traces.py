"""Traces in MLflow's database. Their spans are rows since 3.7; before that they lay in files."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Final

from noria.base.ids import RunId
from noria.gateways.mlflow import tracewire as tw
from noria.gateways.mlflow import wire_traces as wt
from noria.gateways.mlflow.moving.filed import span_of
from noria.gateways.mlflow.moving.records import SourceExperiment, SourceFile, SourceTrace, spans_in_file
from noria.gateways.mlflow.moving.sheets import Sheets, marks_of
from noria.gateways.mlflow.names import COSTS, TOKENS
from noria.tracking.traces.records import Assessment, Source, Span, Trace, TraceState

_PAGE: Final = 100
_TOKENS: Final = (*TOKENS, "cache_creation_input_tokens_above_1hr")
_STATES: Final = {"OK": TraceState.OK, "ERROR": TraceState.ERROR, "IN_PROGRESS": TraceState.RUNNING}


class TraceSheets(Sheets, ABC):
    def traces(self, experiment: SourceExperiment) -> Iterator[list[SourceTrace]]:
        after = ""
        columns = {
            "request_id": "",
            "timestamp_ms": 0,
            "execution_time_ms": None,
            "status": "",
            "client_request_id": None,
            "request_preview": None,
            "response_preview": None,
            "trace_name": None,
            "session_id": None,
            **dict.fromkeys((*_TOKENS, *COSTS)),
        }
        rest = "WHERE experiment_id = ? AND request_id > ? ORDER BY request_id LIMIT ?"
        while rows := self._rows("trace_info", columns, rest, (int(experiment.id), after, _PAGE)):
            after = rows[-1][0]
            yield self._traces(rows)

    def _traces(self, rows: Sequence[Any]) -> list[SourceTrace]:
        ids = [row[0] for row in rows]
        tags, facts = self._pairs("trace_tags", ids), self._pairs("trace_request_metadata", ids)
        judged, counts = self._judged(ids), self._span_counts(ids)
        runs, prompts = self._linked(ids, "run"), self._linked(ids, "prompt_version")
        made: list[SourceTrace] = []
        for id, started, took, state, client, request, response, name, session, *counted in rows:
            facts[id] |= _own_columns(session, counted)
            tagged, own = tw.tags_in(tags[id])
            said = Trace(
                trace_id=id,
                experiment_id=0,
                started_at=started or 0,
                took=took,
                state=_STATES.get(state, TraceState.UNKNOWN),
                name=tagged if name is None else name,
                client_id=client,
                session=facts[id].get(wt.SESSION),
                request=request,
                response=response,
                runs=tw.runs_in(facts[id]),
                prompts=prompts[id],
                tags=own,
                metadata=facts[id],
                assessments=judged[id],
            )
            place = tags[id].get(tw.PLACE, "")
            reads = partial(self._spans, id) if counts.get(id) else partial(spans_in_file, self, place)
            linked = [RunId(run) for run in runs[id]]
            made.append(SourceTrace(said=said, place=place, extent=str(counts.get(id, 0)), spans=reads, linked=linked))
        return made

    @abstractmethod
    def files(self, place: str) -> Iterator[SourceFile]:
        """All files below a place; the source says which places it reads."""

    def _pairs(self, table: str, ids: list[str]) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = defaultdict(dict)
        columns = {"request_id": "", "key": "", "value": ""}
        for id, key, value in self._rows(table, columns, f"WHERE request_id IN ({marks_of(ids)})", ids):
            found[id][key] = value or ""
        return found

    def _span_counts(self, ids: list[str]) -> dict[str, int]:
        if "spans" not in self._columns:
            return {}
        rest = f"WHERE trace_id IN ({marks_of(ids)}) GROUP BY trace_id"
        return dict(self._read(f"SELECT trace_id, count(*) FROM spans {rest}", ids))

    def _spans(self, id: str) -> list[Span]:
        rest = "WHERE trace_id = ? ORDER BY start_time_unix_nano, span_id"
        return [span_of(content) for (content,) in self._rows("spans", {"content": ""}, rest, (id,)) if content]

    def _linked(self, ids: list[str], what: str) -> dict[str, list[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        columns = {"source_id": "", "destination_id": ""}
        rest = f"WHERE source_type = 'trace' AND destination_type = ? AND source_id IN ({marks_of(ids)}) ORDER BY 1, 2"
        for id, other in self._rows("entity_associations", columns, rest, [what, *ids]):
            found[id].append(other)
        return found

    def _judged(self, ids: list[str]) -> dict[str, list[Assessment]]:
        found: dict[str, list[Assessment]] = defaultdict(list)
        columns = {
            "trace_id": "",
            "assessment_id": "",
            "name": "",
            "assessment_type": "feedback",
            "value": "null",
            "error": None,
            "source_type": "",
            "source_id": None,
            "span_id": None,
            "rationale": None,
            "overrides": None,
            "valid": 1,
            "assessment_metadata": None,
            "created_timestamp": 0,
            "last_updated_timestamp": 0,
        }
        rest = f"WHERE trace_id IN ({marks_of(ids)}) ORDER BY created_timestamp, assessment_id"
        for row in self._rows("assessments", columns, rest, ids):
            found[row[0]].append(_assessment(*row))
        return found


def _own_columns(session: str | None, counted: list[Any]) -> dict[str, str]:
    """Metadata that newer versions keep in columns, as clients are told it."""
    found = {} if session is None else {wt.SESSION: session}
    tokens = {key: int(n) for key, n in zip(_TOKENS, counted, strict=False) if n is not None}
    costs = {key: n for key, n in zip(COSTS, counted[len(_TOKENS) :], strict=True) if n is not None}
    told = {"mlflow.trace.tokenUsage": tokens, "mlflow.trace.cost": costs}
    return found | {key: json.dumps(value) for key, value in told.items() if value}


def _assessment(
    trace: str, id: str, name: str, kind: str, value: str, error: str | None, by: str, who: str | None,
    span: str | None, why: str | None, overrides: str | None, valid: int, metadata: str | None, made: int, changed: int,
) -> Assessment:  # fmt: skip
    facts = {str(key): str(one) for key, one in (_read(metadata) or {}).items()}
    return Assessment(
        id=id,
        trace_id=trace,
        name=name,
        kind=kind,
        value=_read(value),
        error=_read(error),
        source=Source(kind=by, id=who or None),
        span_id=span or None,
        rationale=why or None,
        overrides=overrides or None,
        valid=bool(valid),
        metadata=facts,
        whole_session=wt.SESSION in facts,
        created_at=made,
        updated_at=changed,
    )


def _read(text: str | None) -> Any:
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError):
        return text
