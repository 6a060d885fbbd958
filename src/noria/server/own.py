"""Routes of the server itself, and those of the rooms that every server needs from its first second on."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from typing import Any

from noria.base.once import Once
from noria.base.times import parse_time, to_text
from noria.delivery.records import SYSTEM
from noria.http import Call, Route
from noria.registry import http as registry_http
from noria.server import launch
from noria.server import wire as w
from noria.server.loop import Loop
from noria.tracking import http as tracking_http
from noria.webhooks import http as webhooks_http
from noria.workspace import Workspace


class ServerRoutes:
    """Handlers of the server; each is one verb."""

    def __init__(self, ws: Workspace, loop: Loop | None, endpoints: Callable[[], str | None]) -> None:
        self._ws = ws
        self._loop = loop
        self._endpoints = endpoints

    def health(self, _: Call) -> w.Health:
        ws = self._ws
        return w.Health(
            status="ok",
            version=importlib.metadata.version("noria"),
            workspace=ws.id,
            project=ws.project.name,
            endpoints=self._endpoints(),
            doing="" if self._loop is None else self._loop.state["doing"],
            event_time=to_text(ws.event_clock.event_ms(ws.project.id)),
        )

    def clock(self, _: Call) -> w.ClockOut:
        ws = self._ws
        done = ws.days.processed()
        return w.ClockOut(
            mode=ws.event_clock.mode(ws.project.id),
            watermark=to_text(ws.event_clock.event_ms(ws.project.id)),
            processed=None if done is None else to_text(done),
        )

    def advance(self, call: Call) -> w.Advanced:
        body: w.ClockBody = call.body
        to, loop, once = parse_time(body.to), self._loop, call.once
        assert loop is not None
        return w.Advanced(**loop.call(lambda: self._kept("clock.advance", once, lambda: loop.advance(to))))

    def take(self, call: Call) -> w.Taken:
        loop, once = self._loop, call.once
        assert loop is not None
        return w.Taken(**loop.call(lambda: self._kept("captures.take", once, lambda: {"rows": loop.take()})))

    def status(self, _: Call) -> w.ServingStatus:
        found = launch.find(self._ws)
        if found is None:
            raise launch.NothingServes("No endpoints of this workspace run.", hint="noria up")
        names = ("url", "pid", "workers", "serving", "deaths", "routed")
        return w.ServingStatus(**{name: found[name] for name in names})

    def prune(self, call: Call) -> w.Pruned:
        ws = self._ws
        done = self._kept("admin.prune", call.once, lambda: {"removed": ws.retention.prune(ws.project.id)})
        return w.Pruned(**done)

    def _kept(self, verb: str, once: Once | None, what: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Does what may be done again, and keeps its first answer for the key: it is many transactions, not one."""
        ws = self._ws
        earlier = ws.changes.answered(verb, ws.project.id, once)
        if earlier is not None:
            return earlier
        answer = what()
        if once is not None:
            with ws.changes.begin(verb, ws.project.id, SYSTEM, once=once) as change:
                if change.earlier is not None:
                    return change.earlier
                change.note("server", **answer)
                change.answer(answer)
        return answer


def own(ws: Workspace, loop: Loop | None, endpoints: Callable[[], str | None]) -> list[Route]:
    r = ServerRoutes(ws, loop, endpoints)
    return [
        Route(
            method="GET",
            path="/v1/health",
            handler=r.health,
            permission="server.read",
            summary="Say that the server is up, and what it does.",
            answer=w.Health,
        ),
        Route(
            method="GET",
            path="/v1/clock",
            handler=r.clock,
            permission="server.read",
            summary="Show event time.",
            answer=w.ClockOut,
        ),
        Route(
            method="POST",
            path="/v1/clock",
            handler=r.advance,
            permission="server.write",
            summary="Move event time on (replay), and do all that is due until then; answers when it is done.",
            body=w.ClockBody,
            answer=w.Advanced,
        ),
        Route(
            method="POST",
            path="/v1/captures/take",
            handler=r.take,
            permission="server.write",
            summary="Take over what the endpoints captured, without waiting for the end of the day.",
            answer=w.Taken,
        ),
        Route(
            method="POST",
            path="/v1/admin/prune",
            handler=r.prune,
            permission="admin.write",
            summary="Remove what is older than its retention, without waiting for the daily job.",
            answer=w.Pruned,
            cli="noria admin prune",
        ),
        Route(
            method="GET",
            path="/v1/serving",
            handler=r.status,
            permission="endpoints.read",
            summary="Show the processes that answer.",
            answer=w.ServingStatus,
            cli="noria endpoints status",
        ),
    ]


def light(ws: Workspace, loop: Loop | None, endpoints: Callable[[], str | None]) -> list[Route]:
    """Operations whose rooms work without Polars and NumPy: a server that clients only log to imports no others."""
    return [
        *own(ws, loop, endpoints),
        *tracking_http.routes(ws.tracking, ws.assets, ws.project.id),
        *registry_http.routes(ws.registry, ws.project.id),
        *webhooks_http.routes(ws.webhooks, ws.project.id),
    ]
