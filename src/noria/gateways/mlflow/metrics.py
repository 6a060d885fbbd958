"""MLflow's calls that log metrics and read their histories."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from msgspec.json import encode
from starlette.responses import Response, StreamingResponse

from noria.base.errors import Invalid
from noria.base.ids import RunId
from noria.db import Tx
from noria.gateways.mlflow import door as d
from noria.gateways.mlflow import wire as w
from noria.gateways.mlflow.errors import Required
from noria.gateways.mlflow.routes import Asked, Route
from noria.gateways.mlflow.runs import NAME_TAG
from noria.tracking.blocks import Mark
from noria.tracking.records import Said
from noria.tracking.service import MOST_PARAM, MOST_TAG, lock_of

MOST: Final = {"metrics": 1_000, "params": 100, "tags": 100}
MOST_TOGETHER: Final = 1_000
_MOST_RUNS: Final = 100
_MOST_POINTS: Final = 25_000
_PAGE: Final = 5_000
"""Points of a whole history that are held at once."""
_HEADERS: Final = {"x-content-type-options": "nosniff", "cache-control": "no-store", "x-frame-options": "DENY"}
_CURVE: Final = 2_500
_BATCH: Final = 8 << 20
"""Bytes of one batch: 100 parameters of 6,000 characters and 100 tags of 8,000, each of up to 4 bytes, fit."""


class MetricCalls:
    """Handlers; each is one call."""

    def __init__(self, door: d.Door) -> None:
        self._door = door
        self._tracking = door.ws.tracking
        self._assets = door.ws.assets
        self._project_id = door.project_id

    async def log_metric(self, asked: Asked) -> None:
        message: w.LogMetric = asked.message
        id = d.run_id_of(message.run_id, message.run_uuid)
        await self._write(id, _marks([message], single=True), [message])

    async def log_batch(self, asked: Asked) -> None:
        message: w.LogBatch = asked.message
        id = d.run_id_of(message.run_id, message.run_uuid)
        metrics, params, tags = message.metrics or [], message.params or [], message.tags or []
        _check_counts(len(metrics), len(params), len(tags))
        marks = _marks(metrics)
        given: dict[str, str] = {}
        for param in params:
            if param.key in given:
                raise Invalid(f"Duplicate parameter keys: {param.key!r:.100} comes twice.")
            given[param.key] = d.cut(param.value, MOST_PARAM)
        await self._write(id, marks, metrics, given, {tag.key: d.cut(tag.value, MOST_TAG) for tag in tags})

    async def _write(
        self,
        id: RunId,
        marks: dict[str, list[Mark]],
        metrics: Iterable[w.MetricIn],
        params: dict[str, str] | None = None,
        tags: dict[str, str] | None = None,
    ) -> None:
        of_models = [metric for metric in metrics if metric.model_id]
        name = None if tags is None else tags.get(NAME_TAG) or None
        if marks and not (of_models or params or tags):  # the call that comes most often
            item = Said(id, self._project_id, marks)
            await self._door.write_item(self._tracking.log_together, item, lock=lock_of(id))
            return

        code = await self._door.code_of(tags or {}, id)

        def write(tx: Tx) -> None:
            run = self._tracking.log(
                id, marks=marks, params=params, tags=tags, project_id=self._project_id, tx=tx, locked=True, code=code
            )
            if name is not None:
                self._assets.amend_run(tx, id, name=name)
            if of_models:
                self._door.model_metrics(tx, run, of_models)

        await self._door.write(write, lock=lock_of(id))

    # ---- reading

    def history(self, asked: Asked) -> w.Json | Response:
        message: w.GetHistory = asked.message
        id, key = d.run_id_of(message.run_id, message.run_uuid), d.need(message.metric_key, "metric_key")
        limit = min(_MOST_POINTS, d.page_size(message.max_results, _PAGE, 1 << 62))
        self._door.run(id)
        marks, after = self._tracking.marks(id, key, limit=limit, after=message.page_token or None)
        if message.max_results is not None or after is None:
            return w.page("metrics", _shown(key, marks), after)
        return StreamingResponse(self._rest(id, key, marks, after), media_type="application/json", headers=_HEADERS)

    def _rest(self, id: RunId, key: str, marks: list[Mark], after: str | None) -> Iterator[bytes]:
        """A history without a page size: all of it is wanted, so its pages are read while it is sent."""
        before = b'{"metrics":['
        while True:
            yield before + encode(_shown(key, marks))[1:-1]
            if after is None:
                break
            before = b","
            with self._door.ws.db.limited():
                marks, after = self._tracking.marks(id, key, limit=_PAGE, after=after)
        yield b"]}"

    def bulk(self, asked: Asked) -> w.Json:
        message: w.GetBulk = asked.message
        ids, key = _run_ids(message.run_id, "run_id"), d.need(message.metric_key, "metric_key")
        limit = min(_MOST_POINTS, d.page_size(message.max_results, _MOST_POINTS, 1 << 31))
        points: list[w.MetricOut] = []
        for id in sorted(self._door.known(ids)):
            if len(points) < limit:
                marks, _ = self._tracking.marks(id, key, limit=limit - len(points))
                points += [w.MetricOut(key, w.number_out(value), at, step, id) for at, step, value in marks]
        return {"metrics": points}

    def interval(self, asked: Asked) -> w.Json:
        message: w.GetInterval = asked.message
        ids, key = _run_ids(message.run_ids, "run_ids"), d.need(message.metric_key, "metric_key")
        limit = d.page_size(message.max_results, _CURVE, _CURVE)
        start, end = message.start_step, message.end_step
        if (start is None) != (end is None):
            raise Invalid("Only one of start_step and end_step is given.", hint="Send both, or none.")
        if start is not None and end is not None and start > end:
            raise Invalid(f"end_step {end} lies before start_step {start}.")
        points: list[w.MetricOut] = []
        for id in ids:
            self._door.run(id)
            found = self._tracking.sample(id, key, limit=limit, start=start, end=end)
            points += [w.MetricOut(key, w.number_out(p.value), p.at, p.step, id) for p in found]
        return {"metrics": points} if points else {}


def _shown(key: str, marks: Sequence[Mark]) -> list[w.MetricOut]:
    return [w.MetricOut(key, w.number_out(value), at, step) for at, step, value in marks]


def _marks(metrics: Sequence[w.MetricIn], *, single: bool = False) -> dict[str, list[Mark]]:
    """The points of a request by metric."""
    made: dict[str, list[Mark]] = {}
    for n, metric in enumerate(metrics):
        key, value, at = metric.key, metric.value, metric.timestamp
        if not key or value is None or at is None:
            missing = "key" if not key else "value" if value is None else "timestamp"
            raise Required(missing if single else f"metrics[{n}].{missing}")
        if at < 0:
            where = "timestamp" if single else f"metrics[{n}].timestamp"
            raise Invalid(f"Invalid value {at} for parameter '{where}'.", hint="It is 0 or later.")
        mark = (at, metric.step or 0, value)
        if key in made:
            made[key].append(mark)
        else:
            made[key] = [mark]
    return made


def _check_counts(metrics: int, params: int, tags: int) -> None:
    for name, count in (("metrics", metrics), ("params", params), ("tags", tags)):
        if count > MOST[name]:
            raise Invalid(f"A batch logging request can contain at most {MOST[name]} {name}; this one has {count}.")
    if metrics + params + tags > MOST_TOGETHER:
        raise Invalid(
            f"A batch logging request can contain at most {MOST_TOGETHER} metrics, params, and tags in total;"
            f" this one has {metrics + params + tags}."
        )


def _run_ids(given: list[str] | None, field: str) -> list[RunId]:
    ids = [d.run_id_of(one) for one in d.need(given or None, field)]
    if len(ids) > _MOST_RUNS:
        raise Invalid(f"The request names {len(ids)} runs in {field}.", hint=f"{_MOST_RUNS} at most.")
    return ids


def routes(door: d.Door) -> list[Route]:
    c = MetricCalls(door)
    at = "2.0/mlflow/"
    return [
        Route(method="POST", path=at + "runs/log-metric", handler=c.log_metric, message=w.LogMetric),
        Route(method="POST", path=at + "runs/log-batch", handler=c.log_batch, message=w.LogBatch, most=_BATCH),
        Route(method="GET", path=at + "metrics/get-history", handler=c.history, message=w.GetHistory),
        Route(method="GET", path=at + "metrics/get-history-bulk", handler=c.bulk, message=w.GetBulk),
        Route(method="GET", path=at + "metrics/get-history-bulk-interval", handler=c.interval, message=w.GetInterval),
    ]
