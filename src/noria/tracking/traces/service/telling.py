"""Verbs by which applications tell their traces: as a whole, begun and ended, or span by span."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from noria.assets.errors import RunNotFound
from noria.base.actor import Actor
from noria.base.ids import ProjectId, RunId
from noria.db import Tx
from noria.tracking.errors import KeyInvalid, TagNotFound
from noria.tracking.keys import check_key
from noria.tracking.traces import packed, queries
from noria.tracking.traces import tables as t
from noria.tracking.traces.errors import TraceInvalid
from noria.tracking.traces.records import Span, SpanBatch, Trace, TraceState
from noria.tracking.traces.removal import delete_traces
from noria.tracking.traces.service.base import MOST_METADATA, MOST_PREVIEW, MOST_TAG, Base, check_id, kept

if TYPE_CHECKING:
    from sqlalchemy import Row

_INT64 = 1 << 63
_MOST_LINKS = 100
_MOST_DELETED = 10_000


class Telling(Base):
    def tell(self, tx: Tx, project_id: ProjectId, trace: Trace) -> Trace:
        """Stores all that is known of a trace but its spans; told again, the newest words count.

        Spans of it may be here already. Times and state that the client says are kept from then on.

        Args:
            trace: with the number of its experiment, 0 for the default one. Its ``runs`` are those it ran in.

        Raises:
            ExperimentNotFound, ExperimentDeleted, TraceInvalid: a part of it is not there or not allowed.
        """
        check_id(trace.trace_id)
        if not 0 <= trace.started_at < _INT64 or not -_INT64 <= (trace.took or 0) < _INT64:
            raise TraceInvalid(f"The times of trace {trace.trace_id!r} do not fit into 64 bits.")
        experiment_id = self._experiment(tx, project_id, trace.experiment_id)
        before = queries.row(tx.conn, trace.trace_id)
        values: dict[str, Any] = {
            "experiment_id": experiment_id,
            "started_at": trace.started_at,
            "took": trace.took,
            "state": trace.state.value,
            "client_id": trace.client_id,
            "told": True,
        }
        texts = {"name": trace.name, "session": trace.session, "request": trace.request, "response": trace.response}
        if before is None:
            values |= {key: _short(value) for key, value in texts.items()}
            made = tx.insert_new_key(t.traces, {"trace_id": trace.trace_id, "spans": 0, **values})
            if made is None:  # another process was faster
                return self.tell(tx, project_id, trace)
            number = made
        else:
            self._own(before, project_id, trace.trace_id)
            number = before.id
            queries.change(
                tx, number, values | {key: _short(value) for key, value in texts.items() if value is not None}
            )
        self._keyed(tx, t.tags, number, trace.tags, MOST_TAG, new=before is None)
        self._keyed(tx, t.facts, number, trace.metadata, MOST_METADATA, new=before is None)
        self._ran_in(tx, number, trace.runs)
        return queries.traces(tx.conn, [number])[0]

    @staticmethod
    def _own(row: Row[Any], project_id: ProjectId, trace_id: str) -> None:
        if row.project_id != project_id:
            raise TraceInvalid(f"The trace {trace_id!r} belongs to another project of this workspace.")

    @staticmethod
    def _ran_in(tx: Tx, number: int, runs: Sequence[str]) -> None:
        for run_id in runs:
            tx.upsert(t.runs, {"trace": number, "run_id": kept(run_id), "own": True}, key=["trace", "run_id"])

    def begin(
        self,
        tx: Tx,
        project_id: ProjectId,
        experiment_id: int,
        *,
        started_at: int,
        name: str | None = None,
        session: str | None = None,
        runs: Sequence[RunId] = (),
        tags: Mapping[str, str] | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Trace:
        """A trace whose end is told later; its id is made here."""
        made = Trace(
            trace_id=f"tr-{secrets.token_hex(16)}",
            experiment_id=experiment_id,
            started_at=started_at,
            took=None,
            state=TraceState.RUNNING,
            name=name,
            session=session,
            runs=runs,
            tags=tags or {},
            metadata=metadata or {},
        )
        return self.tell(tx, project_id, made)

    def end(
        self,
        tx: Tx,
        project_id: ProjectId,
        trace_id: str,
        *,
        ended_at: int,
        state: TraceState,
        name: str | None = None,
        session: str | None = None,
        tags: Mapping[str, str] | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Trace:
        """Says how a trace ended that was begun.

        Raises:
            TraceNotFound: there is no such trace.
        """
        found = self._row(tx, project_id, trace_id)
        took = ended_at - found.started_at
        if not -_INT64 <= took < _INT64:
            raise TraceInvalid(f"The end of trace {trace_id!r} does not fit into 64 bits.")
        texts = {"name": name, "session": session}
        said = {key: _short(value) for key, value in texts.items() if value is not None}
        queries.change(tx, found.id, {"took": took, "state": state.value, **said})
        self._keyed(tx, t.tags, found.id, tags or {}, MOST_TAG, new=False)
        self._keyed(tx, t.facts, found.id, metadata or {}, MOST_METADATA, new=False)
        return queries.traces(tx.conn, [found.id])[0]

    # ---- spans

    def add_spans(self, tx: Tx, project_id: ProjectId, experiment_id: int, batches: Sequence[SpanBatch]) -> None:
        """Stores spans, and makes the traces that nobody told of so far; a span that comes again replaces itself.

        Raises:
            ExperimentNotFound, ExperimentDeleted, TraceInvalid: a part of it is not there or not allowed.
        """
        target = self._experiment(tx, project_id, experiment_id)
        for batch in batches:
            check_id(batch.trace_id)
            if batch.spans:
                self._add(tx, project_id, target, batch)

    def _add(self, tx: Tx, project_id: ProjectId, experiment_id: int, batch: SpanBatch) -> None:
        before = queries.row(tx.conn, batch.trace_id)
        texts = {"name": batch.name, "session": batch.session, "request": batch.request, "response": batch.response}
        started = min(span.started for span in batch.spans) // 1_000_000
        ends = [span.ended for span in batch.spans if span.ended is not None]
        ended = max(ends) // 1_000_000 if ends else None
        state = next((_state(span) for span in batch.spans if span.parent_id is None), None)
        if before is None:
            values = {
                "trace_id": batch.trace_id,
                "experiment_id": experiment_id,
                "started_at": started,
                "took": None if ended is None else ended - started,
                "state": (state or TraceState.RUNNING).value,
                "told": False,
                "spans": len(batch.spans),
            }
            made = tx.insert_new_key(t.traces, values | {key: _short(value) for key, value in texts.items()})
            if made is None:  # another process was faster
                self._add(tx, project_id, experiment_id, batch)
                return
            number, seq = made, 0
        else:
            self._own(before, project_id, batch.trace_id)
            number = before.id
            seq = queries.next_seq(tx.conn, number)
            said = {k: _short(v) for k, v in texts.items() if v is not None and getattr(before, k) is None}
            values = {"spans": before.spans + len(batch.spans), **said}
            if not before.told:
                values |= _times(before, started, ended)
            if state is not None and before.state in (TraceState.RUNNING.value, TraceState.UNKNOWN.value):
                values["state"] = state.value
            queries.change(tx, number, values)
        self._put(tx, number, seq, batch.spans)
        self._keyed(tx, t.tags, number, batch.tags, MOST_TAG, new=before is None)
        if batch.metadata:
            ids = self._keys.ids(tx, batch.metadata)
            there = set[int]() if before is None else queries.present(tx.conn, t.facts, number, ids.values())
            missing = {key: value for key, value in batch.metadata.items() if ids[key] not in there}
            self._keyed(tx, t.facts, number, missing, MOST_METADATA, new=True)

    @staticmethod
    def _put(tx: Tx, number: int, seq: int, spans: Sequence[Span]) -> None:
        row = {"trace": number, "seq": seq, "count": len(spans), "data": packed.pack(spans)}
        tx.execute(t.spans.insert(), row)
        kinds = dict.fromkeys((kept(s.name), None if s.type is None else kept(s.type), s.status) for s in spans)
        rows = [(number, seq, n, *kind) for n, kind in enumerate(kinds)]
        tx.write_rows(t.kinds, ("trace", "seq", "n", "name", "type", "status"), rows)

    # ---- what is said later

    def set_tag(self, tx: Tx, project_id: ProjectId, trace_id: str, key: str, value: str) -> None:
        """Sets a tag; a value that is too long is cut.

        Raises:
            TraceNotFound, KeyInvalid: there is no such trace, or no such name is allowed.
        """
        check_key(key, "a tag")
        self._keyed(tx, t.tags, self._row(tx, project_id, trace_id).id, {key: value}, MOST_TAG, new=False)

    def rename(self, tx: Tx, project_id: ProjectId, trace_id: str, name: str | None) -> None:
        """Gives a trace another name, or takes it away.

        Raises:
            TraceNotFound, TagNotFound: there is no such trace, or it has no name.
        """
        found = self._row(tx, project_id, trace_id)
        if name is None and found.name is None:
            raise TagNotFound(f"The trace {trace_id} has no name.")
        queries.change(tx, found.id, {"name": _short(name)})

    def delete_tag(self, tx: Tx, project_id: ProjectId, trace_id: str, key: str) -> None:
        """Takes a tag away.

        Raises:
            TraceNotFound, TagNotFound: there is no such trace, or it has no such tag.
        """
        found = self._row(tx, project_id, trace_id)
        key_id = self._keys.find(tx.conn, [key]).get(key)
        if key_id is None or not queries.delete_tag(tx, found.id, key_id):
            raise TagNotFound(f"No trace tag with key {key!r:.300} for trace {trace_id}.")

    def link_run(self, tx: Tx, project_id: ProjectId, trace_ids: Sequence[str], run_id: RunId) -> None:
        """Says that traces belong to a run; those that are not there are left out.

        Raises:
            RunNotFound, TraceInvalid: there is no such run in this project; there are more than 100 traces.
        """
        if len(trace_ids) > _MOST_LINKS:
            raise TraceInvalid(f"{len(trace_ids)} traces cannot be linked at once.", hint=f"{_MOST_LINKS} at most.")
        if self._assets.run(run_id, tx).project_id != project_id:
            raise RunNotFound(f"There is no run {run_id!r} in this project.", hint="noria runs list")
        for number in queries.numbers(tx.conn, project_id, trace_ids).values():
            tx.insert_new(t.runs, {"trace": number, "run_id": run_id, "own": False})

    def link_prompts(self, tx: Tx, project_id: ProjectId, trace_id: str, prompts: Sequence[str]) -> None:
        """Says which prompts (``name/version``) a trace used.

        Raises:
            TraceNotFound: there is no such trace.
        """
        number = self._row(tx, project_id, trace_id).id
        for prompt in prompts:
            if not 0 < len(prompt) <= 600 or "\0" in prompt:
                raise KeyInvalid(f"{prompt!r:.100} is no prompt.", hint="name/version")
            tx.insert_new(t.prompts, {"trace": number, "prompt": prompt})

    def delete(
        self,
        project_id: ProjectId,
        experiment_id: int,
        *,
        actor: Actor,
        trace_ids: Sequence[str] | None = None,
        until: int | None = None,
        most: int | None = None,
    ) -> int:
        """Deletes traces of an experiment for good, with their spans and assessments; the oldest first.

        Args:
            until: only those that started then or before, in milliseconds since 1970.
            most: at most so many.

        Returns:
            How many there were.
        """
        deleted = 0
        while most is None or deleted < most:
            part = _MOST_DELETED if most is None else min(_MOST_DELETED, most - deleted)
            with self._changes.begin("tracking.delete_traces", project_id, actor) as change:
                target = self._experiment(change.tx, project_id, experiment_id)
                found = queries.oldest(change.tx.conn, target, trace_ids=trace_ids, until=until, limit=part)
                delete_traces(change.tx, list(found.items()))
                change.note(str(experiment_id), traces=len(found))
            deleted += len(found)
            if len(found) < part:
                break
        return deleted


def _short(text: str | None) -> str | None:
    return None if text is None else kept(text)[:MOST_PREVIEW]


def _state(root: Span) -> TraceState:
    if root.ended is None:
        return TraceState.RUNNING
    return TraceState.ERROR if root.status == "error" else TraceState.OK


def _times(before: Row[Any], started: int, ended: int | None) -> dict[str, int]:
    """The span of time that a trace takes when more of its spans are known."""
    first = min(before.started_at, started)
    last = [] if before.took is None else [before.started_at + before.took]
    last += [] if ended is None else [ended]
    return {"started_at": first, **({"took": max(last) - first} if last else {})}
