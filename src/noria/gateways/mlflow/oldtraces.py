"""Traces as clients before version 3 tell them: begun, and ended later."""

from __future__ import annotations

from noria.base.errors import Invalid
from noria.gateways.mlflow import door as d
from noria.gateways.mlflow import tracewire as tw
from noria.gateways.mlflow import wire as w
from noria.gateways.mlflow import wire_traces as wt
from noria.gateways.mlflow.routes import Asked, Route
from noria.tracking.traces.service import lock_of


class OldTraceCalls:
    """Handlers; each is one call."""

    def __init__(self, door: d.Door) -> None:
        self._door = door
        self._traces = door.ws.tracking.traces
        self._project_id = door.project_id

    async def start(self, asked: Asked) -> w.Json:
        message: wt.OldStart = asked.message
        experiment_id = d.experiment_id_in(message.experiment_id)
        name, tags = tw.tags_in({tag.key: tag.value for tag in message.tags or ()})
        metadata = {pair.key: pair.value for pair in message.request_metadata or ()}
        made = await self._door.write(
            lambda tx: self._traces.begin(
                tx,
                self._project_id,
                experiment_id,
                started_at=message.timestamp_ms or 0,
                name=name,
                session=metadata.get(wt.SESSION),
                runs=tw.runs_in(metadata),
                tags=tags,
                metadata=metadata,
            ),
            lock=lock_of(experiment_id),
        )
        return {"trace_info": await self._door.in_thread(tw.old_info_out, self._door, made)}

    async def end(self, asked: Asked) -> w.Json:
        message: wt.OldEnd = asked.message
        if message.timestamp_ms is None:
            raise Invalid("Missing value for required parameter 'timestamp_ms'.")
        state, ended = tw.state_in(message.status), message.timestamp_ms
        name, tags = tw.tags_in({tag.key: tag.value for tag in message.tags or ()})
        metadata = {pair.key: pair.value for pair in message.request_metadata or ()}
        made = await self._door.write(
            lambda tx: self._traces.end(
                tx,
                self._project_id,
                asked.path["trace_id"],
                ended_at=ended,
                state=state,
                name=name,
                session=metadata.get(wt.SESSION),
                tags=tags,
                metadata=metadata,
            )
        )
        return {"trace_info": await self._door.in_thread(tw.old_info_out, self._door, made)}

    def info(self, asked: Asked) -> w.Json:
        trace = self._traces.get(self._project_id, asked.path["trace_id"])
        return {"trace_info": tw.old_info_out(self._door, trace)}


def routes(door: d.Door) -> list[Route]:
    c = OldTraceCalls(door)
    at = "2.0/mlflow/traces"
    return [
        Route(method="POST", path=at, handler=c.start, message=wt.OldStart),
        Route(method="PATCH", path=at + "/{trace_id}", handler=c.end, message=wt.OldEnd),
        Route(method="GET", path=at + "/{trace_id}/info", handler=c.info),
    ]
