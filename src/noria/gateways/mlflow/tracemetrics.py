"""MLflow's call for sums over traces, their spans and assessments: by name, state, and time."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from noria.base.errors import Invalid
from noria.gateways.mlflow import door as d
from noria.gateways.mlflow import wire as w
from noria.gateways.mlflow.errors import Required
from noria.gateways.mlflow.names import COSTS, TOKENS
from noria.gateways.mlflow.routes import Asked, Route
from noria.gateways.mlflow.tracewire import SOURCE_RUN
from noria.gateways.mlflow.wire_times import FAR
from noria.tracking.grammar import TRACE_STATUS
from noria.tracking.traces.records import Assessment, Span, Trace
from noria.tracking.traces.summing import Groups, Key

_MOST: Final = 1_000
_VIEWS: Final = ("TRACES", "SPANS", "ASSESSMENTS")
_KINDS: Final = ("COUNT", "SUM", "AVG", "PERCENTILE", "MIN", "MAX")
_COUNT: Final = frozenset({"COUNT"})
_SPREAD: Final = frozenset({"AVG", "MIN", "MAX", "PERCENTILE"})
_ADDED: Final = _SPREAD | {"SUM"}
_FILTER: Final = re.compile(
    r"""\s*(?P<view>trace|span|assessment)\.(?P<entity>\w+)(?:\.(?:`(?P<ticks>[^`]+)`|"(?P<quotes>[^"]+)"|(?P<key>[\w.\-/]+)))?"""
    r"""\s*=\s*(?:'(?P<value>[^']*)'|"(?P<other>[^"]*)")\s*"""
)
_ENTITIES: Final = {
    "trace": {"status": False, "tag": True, "metadata": True},
    "span": {"name": False, "status": False, "type": False},
    "assessment": {"name": False, "type": False},
}


class Aggregation(w.In):
    aggregation_type: str | int | None = None
    percentile_value: float | None = None


class QueryMetrics(w.In):
    experiment_ids: list[str] | None = None
    view_type: str | int | None = None
    metric_name: str | None = None
    aggregations: list[Aggregation] | None = None
    dimensions: list[str] | None = None
    filters: list[str] | None = None
    time_interval_seconds: int | None = None
    start_time_ms: int | None = None
    end_time_ms: int | None = None
    max_results: int | None = None
    page_token: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """What is counted: a trace, a span of it, or an assessment."""

    trace: Trace
    span: Span | None = None
    assessment: Assessment | None = None


@dataclass(frozen=True, slots=True)
class Metric:
    """What can be asked of a metric, and the value of an item; None where it has none."""

    kinds: frozenset[str]
    dimensions: frozenset[str]
    value: Callable[[Item], float | None]


def _one(_: Item) -> float:
    return 1.0


def _took(item: Item) -> float | None:
    return item.trace.took


def _span_took(item: Item) -> float | None:
    span = item.span
    return None if span is None or span.ended is None else (span.ended - span.started) // 1_000_000


def _number(found: Any) -> float | None:
    if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
        return None
    return float(found)


def _tokens(name: str) -> Callable[[Item], float | None]:
    def value(item: Item) -> float | None:
        try:
            found = json.loads(item.trace.metadata.get("mlflow.trace.tokenUsage", "{}"))
        except (ValueError, RecursionError):
            return None
        return _number(found.get(name)) if isinstance(found, dict) else None

    return value


def _cost(name: str) -> Callable[[Item], float | None]:
    def value(item: Item) -> float | None:
        found = None if item.span is None else item.span.attributes.get("mlflow.llm.cost")
        return _number(found.get(name)) if isinstance(found, dict) else None

    return value


def _judged(item: Item) -> float | None:
    value = None if item.assessment is None else item.assessment.value
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        return {"yes": 1.0, "no": 0.0}.get(value.strip().lower())
    return _number(value)


_OF_MODEL: Final = frozenset({"span_model_name", "span_model_provider"})
_NAMED: Final = frozenset({"trace_name"})
_METRICS: Final[dict[str, dict[str, Metric]]] = {
    "TRACES": {
        "trace_count": Metric(_COUNT, _NAMED | {"trace_status"}, _one),
        "session_count": Metric(_COUNT, frozenset(), _one),
        "latency": Metric(_SPREAD, _NAMED, _took),
        **{name: Metric(_ADDED, _NAMED, _tokens(name)) for name in TOKENS},
    },
    "SPANS": {
        "span_count": Metric(_COUNT, _OF_MODEL | {"span_name", "span_type", "span_status"}, _one),
        "latency": Metric(_SPREAD, frozenset({"span_name", "span_status"}), _span_took),
        **{name: Metric(_ADDED, _OF_MODEL, _cost(name)) for name in COSTS},
    },
    "ASSESSMENTS": {
        "assessment_count": Metric(_COUNT, frozenset({"assessment_name", "assessment_value"}), _one),
        "assessment_value": Metric(_SPREAD, frozenset({"assessment_name"}), _judged),
    },
}


def _attribute(item: Item, key: str) -> str | None:
    found = None if item.span is None else item.span.attributes.get(key)
    return found if isinstance(found, str) else None


_DIMENSIONS: Final[dict[str, Callable[[Item], str | None]]] = {
    "trace_name": lambda item: item.trace.name,
    "trace_status": lambda item: TRACE_STATUS[item.trace.state],
    "span_name": lambda item: item.span and item.span.name,
    "span_type": lambda item: item.span and item.span.type,
    "span_status": lambda item: item.span and item.span.status.upper(),
    "span_model_name": lambda item: _attribute(item, "mlflow.llm.model"),
    "span_model_provider": lambda item: _attribute(item, "mlflow.llm.provider"),
    "assessment_name": lambda item: item.assessment and item.assessment.name,
    "assessment_value": lambda item: item.assessment and json.dumps(item.assessment.value),
}


class TraceMetricCalls:
    """The handler; it is one call. It goes through the traces of the frame, page by page."""

    def __init__(self, door: d.Door) -> None:
        self._door = door
        self._traces = door.ws.tracking.traces
        self._project_id = door.project_id

    def query(self, asked: Asked) -> w.Json:
        message: QueryMetrics = asked.message
        ids = d.need(message.experiment_ids or None, "experiment_ids")
        view = _name(message.view_type, _VIEWS, "view_type")
        name = d.need(message.metric_name, "metric_name")
        metric = _METRICS[view].get(name)
        if metric is None:
            raise Invalid(f"metric_name must be one of {', '.join(_METRICS[view])}, got {name!r:.80}.")
        wanted = _aggregations(message.aggregations, metric)
        dimensions = list(dict.fromkeys(message.dimensions or ()))
        wrong = [one for one in dimensions if one not in metric.dimensions]
        if wrong:
            raise Invalid(f"Found invalid dimension(s): {wrong!r:.200}.", hint=", ".join(sorted(metric.dimensions)))
        fits = [_filter(text, view) for text in message.filters or ()]
        step = message.time_interval_seconds or 0
        since, until = message.start_time_ms, message.end_time_ms
        if step < 0 or (step and (since is None or until is None)):
            raise Invalid("start_time_ms and end_time_ms are required if time_interval_seconds is set.")
        limit = d.page_size(message.max_results, _MOST, _MOST)
        groups = Groups(kept=any(kind == "PERCENTILE" for kind, _ in wanted))
        if not step and not dimensions and metric.kinds == _COUNT:
            groups.open(())
        known = self._door.known_experiments([d.experiment_id_in(id) for id in dict.fromkeys(ids)])
        own_time = view == "SPANS" and name in COSTS  # by when the span began, not its trace
        seen: set[tuple[Key, str]] = set()
        for page in self._traces.walk(
            self._project_id, known, since=None if own_time else since, until=until, spans=view == "SPANS"
        ):
            for item in _items(page, view):
                value = metric.value(item) if all(fit(item) for fit in fits) else None
                if value is None or (own_time and not _within(item, since, until)):
                    continue
                key = _key(item, step, dimensions)
                if key is None:
                    continue
                if name == "session_count":
                    mark = (key, item.trace.session or "")
                    if not mark[1] or mark in seen:
                        continue
                    seen.add(mark)
                groups.add(key, value)
        points = [_point(name, key, group, step, dimensions, wanted) for key, group in groups.sorted()]
        return {"data_points": [one for one in points if one["values"]][:limit]}


def _items(page: Sequence[tuple[Trace, list[Span]]], view: str) -> Iterator[Item]:
    for trace, spans in page:
        if view == "TRACES":
            yield Item(trace=trace)
        elif view == "SPANS":
            yield from (Item(trace=trace, span=span) for span in spans)
        else:
            yield from (Item(trace=trace, assessment=one) for one in trace.assessments if one.valid)


def _at(item: Item) -> int:
    return item.trace.started_at if item.span is None else item.span.started // 1_000_000


def _within(item: Item, since: int | None, until: int | None) -> bool:
    return (since is None or _at(item) >= since) and (until is None or _at(item) <= until)


def _key(item: Item, step: int, dimensions: Sequence[str]) -> Key | None:
    """The group of an item; None where it has not all that groups are made by."""
    made: list[int | str] = [_at(item) // (step * 1_000) * step * 1_000] if step else []
    for name in dimensions:
        found = _DIMENSIONS[name](item)
        if found is None:
            return None
        made.append(found)
    return tuple(made)


def _point(
    name: str, key: Key, group: Any, step: int, dimensions: Sequence[str], wanted: Sequence[tuple[str, float]]
) -> w.Json:
    names = (["time_bucket"] if step else []) + list(dimensions)
    said = dict(zip(names, map(str, key), strict=True))
    if step:
        said["time_bucket"] = datetime.fromtimestamp(min(int(key[0]), FAR) / 1_000, UTC).isoformat()
    values: dict[str, float] = {}
    for kind, share in wanted:
        if kind == "COUNT":
            values[kind] = group.count
        elif group.count and kind == "PERCENTILE":
            values[f"P{share}"] = group.percentiles([share / 100])[0]
        elif group.count:
            values[kind] = {
                "SUM": group.total,
                "AVG": group.total / group.count,
                "MIN": group.least,
                "MAX": group.most,
            }[kind]
    return {"metric_name": name, "dimensions": said, "values": values}


def _name(given: str | int | None, names: Sequence[str], field: str) -> str:
    """A word of an enumeration, which may come as its number."""
    if given is None:
        raise Required(field)
    if isinstance(given, int):
        given = names[given - 1] if 1 <= given <= len(names) else str(given)
    if given not in names:
        raise Invalid(f"Invalid value {given!r:.60} for parameter '{field}'.", hint=", ".join(names))
    return given


def _aggregations(given: Sequence[Aggregation] | None, metric: Metric) -> list[tuple[str, float]]:
    made: list[tuple[str, float]] = []
    for one in d.need(given or None, "aggregations"):
        kind, share = _name(one.aggregation_type, _KINDS, "aggregation_type"), one.percentile_value
        if kind not in metric.kinds:
            raise Invalid(f"Found invalid aggregation_type(s): {kind}.", hint=", ".join(sorted(metric.kinds)))
        if (kind == "PERCENTILE") != (share is not None) or (share is not None and not 0 <= share <= 100):
            raise Invalid(f"Invalid value {share!r} for parameter 'percentile_value'.", hint="0 to 100, of PERCENTILE.")
        made.append((kind, float(share or 0.0)))
    return made


def _filter(text: str, view: str) -> Callable[[Item], bool]:
    found = _FILTER.fullmatch(text)
    if found is None:
        raise Invalid(f"Invalid filter: {text!r:.200}.", hint="trace.status = 'OK'")
    of, entity = found["view"], found["entity"]
    key = found["ticks"] or found["quotes"] or found["key"]
    value = found["other"] if found["value"] is None else found["value"]
    if entity not in _ENTITIES[of] or _ENTITIES[of][entity] != (key is not None):
        raise Invalid(f"Invalid filter: {text!r:.200}.", hint=f"{of}: {', '.join(_ENTITIES[of])}")
    if (of, view) in (("span", "TRACES"), ("span", "ASSESSMENTS"), ("assessment", "TRACES"), ("assessment", "SPANS")):
        raise Invalid(f"Filtering by {of} is only supported for the view of that, got {view}.")
    return lambda item: _fits(item, of, entity, key or "", value)


def _fits(item: Item, of: str, entity: str, key: str, value: str) -> bool:
    trace = item.trace
    match of, entity:
        case "trace", "status":
            return TRACE_STATUS[trace.state] == value
        case "trace", "tag":
            return (trace.name if key == "mlflow.traceName" else trace.tags.get(key)) == value
        case "trace", _:
            return trace.metadata.get(key) == value or (key == SOURCE_RUN and value in trace.runs)
        case "span", _:
            return _DIMENSIONS[f"span_{entity}"](item) == value
        case _:
            one = item.assessment
            return one is not None and (one.name if entity == "name" else one.kind) == value


def routes(door: d.Door) -> list[Route]:
    c = TraceMetricCalls(door)
    return [Route(method="POST", path="3.0/mlflow/traces/metrics", handler=c.query, message=QueryMetrics)]
