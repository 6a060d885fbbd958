"""MLflow's calls about traces: told as a whole, read, searched, tagged, linked and deleted."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

from starlette.responses import Response

from noria.base.errors import Invalid
from noria.base.search import Clause, Order, parse, parse_order
from noria.db import Tx
from noria.gateways.mlflow import door as d
from noria.gateways.mlflow import tracewire as tw
from noria.gateways.mlflow import wire as w
from noria.gateways.mlflow import wire_traces as wt
from noria.gateways.mlflow.artifacts import ArtifactCalls
from noria.gateways.mlflow.errors import Required
from noria.gateways.mlflow.otlp import sent
from noria.gateways.mlflow.routes import Asked, Route
from noria.tracking.grammar import TRACES
from noria.tracking.records import Owner, OwnerKind
from noria.tracking.traces.errors import TraceNotFound
from noria.tracking.traces.records import Span, Trace
from noria.tracking.traces.service import lock_of

T = TypeVar("T")
_MOST: Final = 500
_MOST_IDS: Final = 1_000
_WAIT: Final = 3.0
"""Seconds that a reader waits for spans which are still on their way."""
_STEP: Final = 0.1
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class TraceCalls:
    """Handlers; each is one call."""

    def __init__(self, door: d.Door, files: ArtifactCalls) -> None:
        self._door = door
        self._files = files
        self._traces = door.ws.tracking.traces
        self._project_id = door.project_id

    async def write(self, work: Callable[[Tx], T], lock: str | None = None) -> T:
        return await self._door.write(work, lock=lock)

    def info(self, trace: Trace) -> w.Json:
        return tw.info_out(self._door, trace)

    def whole(self, trace: Trace, spans: Sequence[Span]) -> w.Json:
        return {"trace_info": self.info(trace), "spans": [sent.message(trace.trace_id, span) for span in spans]}

    # ---- told as a whole

    async def start(self, asked: Asked) -> w.Json:
        message: wt.StartTrace = asked.message
        given = d.need(d.need(message.trace, "trace").trace_info, "trace.trace_info")
        place = given.trace_location.mlflow_experiment if given.trace_location else None
        experiment_id = d.experiment_id_in(place.experiment_id if place else None, "experiment_id")
        trace = tw.trace_in(given, experiment_id, self._door.ws.clock.now_ms())
        made = await self.write(lambda tx: self._traces.tell(tx, self._project_id, trace), lock_of(experiment_id))
        return {"trace": {"trace_info": await self._door.in_thread(self.info, made)}}

    # ---- read

    def get_info(self, asked: Asked) -> w.Json:
        return {"trace": {"trace_info": self.info(self._traces.get(self._project_id, asked.path["trace_id"]))}}

    async def get(self, asked: Asked) -> w.Json:
        """A trace with its spans; those that are still on their way are waited for, unless a part is enough."""
        message: wt.GetTrace = asked.message
        trace_id = d.need(message.trace_id, "trace_id")
        waited = 0.0
        while True:
            trace, spans, ready = await self._door.in_thread(self._read, trace_id)
            if ready or message.allow_partial:
                return {"trace": await self._door.in_thread(self.whole, trace, spans)}
            if waited >= _WAIT:
                raise NotYet(trace_id)
            await asyncio.sleep(_STEP)
            waited += _STEP

    def _read(self, trace_id: str) -> tuple[Trace, list[Span], bool]:
        trace = self._traces.get(self._project_id, trace_id)
        spans = self._traces.spans(self._project_id, [trace_id]).get(trace_id, [])
        return trace, spans, _complete(trace, spans)

    def batch(self, asked: Asked) -> w.Json:
        """Several traces with their spans; those that are not complete are left out."""
        found = self._some(asked.message)
        spans = self._traces.spans(self._project_id, [one.trace_id for one in found])
        complete = [(one, spans.get(one.trace_id, [])) for one in found]
        made = [self.whole(one, its) for one, its in complete if its and _complete(one, its)]
        return {"traces": made} if made else {}

    def batch_infos(self, asked: Asked) -> w.Json:
        made = [self.info(one) for one in self._some(asked.message)]
        return {"trace_infos": made} if made else {}

    def _some(self, message: wt.TraceIds) -> list[Trace]:
        ids = d.need(message.trace_ids or None, "trace_ids")
        if len(ids) > _MOST_IDS:
            raise Invalid(f"{len(ids)} traces are too many for one request.", hint=f"Ask for {_MOST_IDS} at most.")
        known = None
        if message.experiment_ids:
            known = self._door.known_experiments([d.experiment_id_in(id) for id in message.experiment_ids])
        return self._traces.some(self._project_id, ids, experiments=known)

    def artifact(self, asked: Asked) -> Response:
        """The spans of a trace as the file that older clients keep them in, or one of its attachments."""
        trace_id = asked.query.get("request_id", [""])[-1]
        path = asked.query.get("path", [""])[-1]
        if not trace_id:
            raise Required("request_id")
        self._traces.check(self._project_id, trace_id)
        owner = Owner(OwnerKind.TRACE, trace_id)
        if path and not _UUID.fullmatch(path):
            raise Invalid(f"Invalid attachment path: {path!r:.80}.", hint="Attachments are named by a UUID.")
        if path:
            return self._files.sent(asked, owner, f"attachments/{path}")
        spans = self._traces.spans(self._project_id, [trace_id]).get(trace_id, [])
        if not spans:
            return self._files.sent(asked, owner, "traces.json")
        body = json.dumps({"spans": [sent.filed(trace_id, span) for span in spans]}, ensure_ascii=False).encode()
        headers = {"content-disposition": "attachment; filename=traces.json", "x-content-type-options": "nosniff"}
        return Response(body, media_type="application/octet-stream", headers=headers)

    # ---- search

    def search(self, asked: Asked) -> w.Json:
        message: wt.SearchTraces = asked.message
        places = [place.mlflow_experiment for place in d.need(message.locations or None, "locations")]
        ids = [place.experiment_id or "" for place in places if place is not None]
        return self._searched(ids, message, self.info)

    def old_search(self, asked: Asked) -> w.Json:
        message: wt.OldSearch = asked.message
        ids = d.need(message.experiment_ids or None, "experiment_ids")
        return self._searched(ids, message, lambda trace: tw.old_info_out(self._door, trace))

    def _searched(
        self, ids: Sequence[str], message: wt.SearchTraces | wt.OldSearch, shown: Callable[[Trace], w.Json]
    ) -> w.Json:
        page = self._traces.find(
            self._project_id,
            self._door.known_experiments([d.experiment_id_in(id) for id in dict.fromkeys(ids)]),
            clauses=[in_our_words(clause) for clause in parse(message.filter, TRACES)],
            order=_orders(message.order_by or ()),
            limit=d.page_size(message.max_results, 100, _MOST),
            after=message.page_token or None,
        )
        return w.page("traces", [shown(trace) for trace in page.items], page.next)

    def correlation(self, asked: Asked) -> w.Json:
        """How much more often two filters fit the same traces than chance would have it."""
        message: wt.Correlation = asked.message
        ids = d.need(message.experiment_ids or None, "experiment_ids")
        known = self._door.known_experiments([d.experiment_id_in(id) for id in ids])
        base = _clauses(message.base_filter)
        one = [*base, *_clauses(d.need(message.filter_string1, "filter_string1"))]
        two = [*base, *_clauses(d.need(message.filter_string2, "filter_string2"))]
        counts = [
            self._traces.count(self._project_id, known, *clauses) for clauses in ((base,), (one,), (two,), (one, two))
        ]
        total, first, second, both = counts
        made = {"filter1_count": first, "filter2_count": second, "joint_count": both, "total_count": total}
        plain, smooth = _npmi(total, first, second, both, 0.0), _npmi(total, first, second, both, 0.5)
        return {
            **made,
            **({} if plain is None else {"npmi": plain}),
            **({} if smooth is None else {"npmi_smoothed": smooth}),
        }

    # ---- tags, links, the end

    async def set_tag(self, asked: Asked) -> None:
        message: wt.Keyed = asked.message
        key, value, id = d.need(message.key, "key"), message.value or "", asked.path["trace_id"]
        _not_blocked(key)

        def write(tx: Tx) -> None:
            if key == tw.NAME:
                self._traces.rename(tx, self._project_id, id, value)
            else:
                self._traces.set_tag(tx, self._project_id, id, key, value)

        await self.write(write)

    async def delete_tag(self, asked: Asked) -> None:
        message: wt.Keyed = asked.message
        key, id = d.need(message.key, "key"), asked.path["trace_id"]
        _not_blocked(key)

        def write(tx: Tx) -> None:
            if key == tw.NAME:
                self._traces.rename(tx, self._project_id, id, None)
            else:
                self._traces.delete_tag(tx, self._project_id, id, key)

        await self.write(write)

    async def link_to_run(self, asked: Asked) -> None:
        message: wt.LinkToRun = asked.message
        ids = d.need(message.trace_ids or None, "trace_ids")
        run_id = d.run_id_of(message.run_id)
        await self.write(lambda tx: self._traces.link_run(tx, self._project_id, ids, run_id))

    async def link_prompts(self, asked: Asked) -> None:
        message: wt.LinkPrompts = asked.message
        id = d.need(message.trace_id, "trace_id")
        prompts = d.need(message.prompt_versions or None, "prompt_versions")
        names = [
            f"{d.need(p.name, 'prompt_versions.name')}/{d.need(p.version, 'prompt_versions.version')}" for p in prompts
        ]
        await self.write(lambda tx: self._traces.link_prompts(tx, self._project_id, id, names))

    def delete(self, asked: Asked) -> w.Json:
        message: wt.DeleteTraces = asked.message
        experiment_id = d.experiment_id_in(message.experiment_id)
        ids, until, most = message.request_ids or None, message.max_timestamp_millis, message.max_traces
        if (ids is None) == (until is None):
            raise Invalid("Either `max_timestamp_millis` or `trace_ids` must be specified, but not both.")
        if ids is not None and most is not None:
            raise Invalid("`max_traces` can't be specified if `trace_ids` is specified.")
        if most is not None and most <= 0:
            raise Invalid(f"`max_traces` must be a positive integer, received {most}.")
        deleted = self._traces.delete(
            self._project_id, experiment_id, actor=asked.actor, trace_ids=ids, until=until, most=most
        )
        return {"traces_deleted": deleted}


class NotYet(TraceNotFound):
    """A trace is there, but not all of its spans."""

    code = "trace_incomplete"

    def __init__(self, trace_id: str) -> None:
        super().__init__(trace_id)
        self.message = f"Trace with ID {trace_id:.120} is not fully exported yet, please try again later."


def _complete(trace: Trace, spans: Sequence[Span]) -> bool:
    """Whether all spans are here that the client says it has sent."""
    try:
        said = json.loads(trace.metadata.get("mlflow.trace.sizeStats", "{}"))
        return len(spans) >= max(int(said.get("num_spans", 0)), 1)
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return bool(spans)


def _npmi(total: int, first: int, second: int, both: int, smoothing: float) -> float | None:
    """Normalized pointwise mutual information, from -1 (never together) to 1 (always); None where it has no meaning."""
    if not (total and first and second):
        return None
    if not both and not smoothing:
        return -1.0
    if both == first == second == total:
        return 1.0
    whole = total + 4 * smoothing
    joint = (both + smoothing) / whole
    single = (first + 2 * smoothing) / whole * ((second + 2 * smoothing) / whole)
    return max(-1.0, min(1.0, math.log(joint / single) / -math.log(joint)))


def _not_blocked(key: str) -> None:
    if key in tw.BLOCKED:
        raise Invalid(f"The tag {key!r} is the server's own and cannot be changed on a trace.")


def _clauses(text: str | None) -> list[Clause]:
    return [in_our_words(clause) for clause in parse(text, TRACES)]


def in_our_words(clause: Clause) -> Clause:
    """A clause about what is a tag or metadata in MLflow's words, and something of its own here."""
    if clause.kind == "tag" and clause.key == tw.NAME:
        return replace(clause, kind="attribute", key="name")
    if clause.kind == "metadata" and clause.key == tw.SOURCE_RUN:
        return replace(clause, kind="attribute", key="run_id")
    if clause.kind == "attribute" and clause.key == "prompt" and str(clause.value).count("/") != 1:
        raise Invalid(f"{clause.value!r:.100} is no version of a prompt.", hint='prompt = "name/version"')
    return clause


def _orders(texts: Sequence[str]) -> list[Order]:
    made: list[Order] = []
    for text in texts:
        order = parse_order(text, TRACES)
        if order.kind == "tag" and order.key == tw.NAME:
            order = replace(order, kind="attribute", key="name")
        if any((one.kind, one.key) == (order.kind, order.key) for one in made):
            raise Invalid(f"order_by names {order.key!r:.100} twice.")
        made.append(order)
    return made


def routes(door: d.Door) -> list[Route]:
    c = TraceCalls(door, ArtifactCalls(door))
    new, old = "3.0/mlflow/traces", "2.0/mlflow/traces"

    def both(method: str, path: str, handler: Any, message: Any) -> list[Route]:
        return [Route(method=method, path=at + path, handler=handler, message=message) for at in (new, old)]

    return [
        Route(method="POST", path=new, handler=c.start, message=wt.StartTrace),
        Route(method="GET", path=new + "/get", handler=c.get, message=wt.GetTrace),
        Route(method="GET", path=new + "/batchGet", handler=c.batch, message=wt.TraceIds),
        Route(method="POST", path=new + "/batchGetInfos", handler=c.batch_infos, message=wt.TraceIds),
        Route(method="POST", path=new + "/search", handler=c.search, message=wt.SearchTraces),
        Route(method="POST", path=new + "/calculate-filter-correlation", handler=c.correlation, message=wt.Correlation),
        Route(method="GET", path=new + "/{trace_id}", handler=c.get_info),
        Route(method="GET", path=old, handler=c.old_search, message=wt.OldSearch),
        *both("POST", "/delete-traces", c.delete, wt.DeleteTraces),
        *both("PATCH", "/{trace_id}/tags", c.set_tag, wt.Keyed),
        *both("DELETE", "/{trace_id}/tags", c.delete_tag, wt.Keyed),
        *both("POST", "/link-to-run", c.link_to_run, wt.LinkToRun),
        *both("POST", "/link-prompts", c.link_prompts, wt.LinkPrompts),
        Route(method="GET", path="2.0/mlflow/get-trace-artifact", handler=c.artifact),
        Route(method="GET", path="3.0/mlflow/get-trace-artifact", handler=c.artifact),
    ]
