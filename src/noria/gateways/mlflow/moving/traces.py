"""Traces on their way in, with their spans, tags, assessments and files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec

from noria.assets.errors import RunNotFound
from noria.base.digest import Digest
from noria.base.errors import NoriaError
from noria.base.ids import ProjectId, RunId
from noria.db import Tx
from noria.gateways.mlflow.moving.filed import FILE
from noria.gateways.mlflow.moving.files import files_to_take
from noria.gateways.mlflow.moving.models import RUN
from noria.gateways.mlflow.moving.records import Moved, Source, SourceExperiment, SourceTrace, Unreachable
from noria.gateways.mlflow.tracewire import SOURCE_RUN
from noria.tracking.records import Experiment, Known, Owner, OwnerKind
from noria.tracking.traces.records import Span, SpanBatch, Trace, TraceState
from noria.tracking.traces.service import lock_of
from noria.workspace import Workspace

TRACE: Final = "trace"
_SPANS: Final = 5_000
"""Spans that are held at once."""
_UNKNOWN: Final = Known("", "")


class MoveTraces:
    def __init__(self, ws: Workspace, source: Source, report: Moved, *, again: bool) -> None:
        self._ws = ws
        self._tracking = ws.tracking
        self._traces = ws.tracking.traces
        self._project_id: ProjectId = ws.project.id
        self._source = source
        self._report = report
        self._again = again

    def traces(self, theirs: SourceExperiment, ours: Experiment | None, *, dry_run: bool) -> None:
        """The traces of an experiment, after its runs; without ``ours``, or with ``dry_run``, they are counted."""
        for page in self._source.traces(theirs):
            known = self._tracking.known(self._project_id, TRACE, [one.said.trace_id for one in page])
            todo: list[tuple[SourceTrace, str]] = []
            for one in page:
                before, mark = known.get(one.said.trace_id, _UNKNOWN), _mark(one)
                if before.mark == mark and not self._again:
                    self._report.traces_same += 1
                elif dry_run or ours is None:
                    self._report.traces_new += not before.ours
                    self._report.traces_updated += bool(before.ours)
                else:
                    todo.append((one, mark))
            if todo and ours is not None:
                self._page(todo, ours)

    def _page(self, todo: Sequence[tuple[SourceTrace, str]], ours: Experiment) -> None:
        held: list[tuple[SourceTrace, str, list[Span]]] = []
        for one, mark in todo:
            held.append((one, mark, self._spans(one)))
            if sum(len(spans) for _, _, spans in held) >= _SPANS:
                self._write(held, ours)
                held = []
        if held:
            self._write(held, ours)

    def _spans(self, one: SourceTrace) -> list[Span]:
        try:
            return one.spans()
        except Unreachable as error:
            self._report.leave(f"spans of trace {one.said.trace_id}", str(error))
        except (ValueError, OSError) as error:
            self._report.leave(f"spans of trace {one.said.trace_id}", f"they cannot be read: {error!s:.200}")
        return []

    def _write(self, held: Sequence[tuple[SourceTrace, str, list[Span]]], ours: Experiment) -> None:
        ids = [one.said.trace_id for one, _, _ in held]
        runs = self._runs([one for one, _, _ in held])
        before = {one.trace_id: one for one in self._traces.some(self._project_id, ids)}
        stored = self._traces.spans(self._project_id, list(before))
        whole: dict[str, str] = {}
        with self._ws.db.write() as tx:
            tx.lock(lock_of(ours.id))
            for one, mark, spans in held:
                id = one.said.trace_id
                have = {span.span_id: span for span in stored.get(id, ())}
                fresh = [span for span in spans if have.get(span.span_id) != span]
                try:
                    with tx.savepoint():
                        self._tell(tx, _at(one.said, ours.id, runs), one, fresh, runs)
                except NoriaError as error:
                    self._report.leave(f"trace {id}", error.message)
                    continue
                self._report.spans += len(fresh)
                whole[id] = mark
        after = self._traces.some(self._project_id, list(whole))
        changed = {one.trace_id for one in after if one != before.get(one.trace_id)}
        changed |= self._files([one for one, _, spans in held if one.said.trace_id in whole and one.attached(spans)])
        with self._ws.db.write() as tx:
            # One that runs is looked at again: its source may not show that spans have come.
            marks = {one.said.trace_id: whole.get(one.said.trace_id, "") for one, _, _ in held if _ended(one.said)}
            self._tracking.note_brought(tx, self._project_id, TRACE, {id: id for id in whole}, marks)
        for id in whole:
            if id not in before:
                self._report.traces_new += 1
            elif id in changed:
                self._report.traces_updated += 1
            else:
                self._report.traces_same += 1

    def _tell(self, tx: Tx, said: Trace, one: SourceTrace, fresh: list[Span], runs: dict[str, RunId]) -> None:
        self._traces.tell(tx, self._project_id, said)
        if fresh:
            batch = SpanBatch(trace_id=said.trace_id, spans=fresh)
            self._traces.add_spans(tx, self._project_id, said.experiment_id, [batch])
        for run in one.linked:
            try:
                self._traces.link_run(tx, self._project_id, [said.trace_id], runs.get(run, RunId(run)))
            except RunNotFound:
                continue  # it was deleted there, or its experiment was not asked for
        if one.said.prompts:
            self._traces.link_prompts(tx, self._project_id, said.trace_id, one.said.prompts)

    def _runs(self, traces: Sequence[SourceTrace]) -> dict[str, RunId]:
        """The ids that runs of these traces have here, where they are other ones."""
        named = {run for one in traces for run in (*one.linked, *one.said.runs)}
        known = self._tracking.known(self._project_id, RUN, sorted(named))
        return {theirs: RunId(found.ours) for theirs, found in known.items()}

    def _files(self, traces: Sequence[SourceTrace]) -> set[str]:
        def given() -> Iterator[tuple[Owner, str, Any]]:
            for one in traces:
                owner = Owner(OwnerKind.TRACE, one.said.trace_id)
                for found in files_to_take(self._tracking, self._source, self._report, owner, one.place):
                    if found[1] != FILE:  # its spans are rows here
                        yield found

        done = self._tracking.bring_files(self._project_id, given())
        self._report.files += done.files
        self._report.size += done.size
        for owner, path, why in done.left:
            self._report.leave(f"file {path!r:.200} of {owner.id}", why)
        return {owner.id for owner in done.owners}


def _ended(said: Trace) -> bool:
    return said.state is not TraceState.RUNNING


def _at(said: Trace, experiment_id: int, runs: dict[str, RunId]) -> Trace:
    """A trace as it stands here: in this experiment, and of runs by the ids that they have here."""
    metadata = dict(said.metadata)
    if SOURCE_RUN in metadata:
        metadata[SOURCE_RUN] = runs.get(metadata[SOURCE_RUN], metadata[SOURCE_RUN])
    here = [runs.get(run, run) for run in said.runs]
    return replace(said, experiment_id=experiment_id, runs=here, metadata=metadata)


def _mark(one: SourceTrace) -> str:
    whole = [msgspec.to_builtins(one.said), one.extent, sorted(one.linked)]
    return Digest.of(json.dumps(whole, sort_keys=True).encode()).hex
