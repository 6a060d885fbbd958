"""Routes of the trace."""

from __future__ import annotations

from noria.data.values import parse_key
from noria.http import Call, Route
from noria.trace import wire as w
from noria.trace.service import Trace

_MOST_ROWS = 1_000


def routes(trace: Trace) -> list[Route]:
    def show(call: Call) -> w.TrailOut:
        query: w.TraceQuery = call.query
        if query.key:
            return w.trail_out(trace.row(query.thing, parse_key(query.key), ref=query.ref))
        return w.trail_out(trace.trace(query.thing, rows=max(0, min(query.rows, _MOST_ROWS))))

    return [
        Route(
            method="GET",
            path="/v1/trace",
            handler=show,
            permission="data.read",
            summary="Trace a thing back to its rows, and forth to what it touched.",
            query=w.TraceQuery,
            answer=w.TrailOut,
            cli="noria trace THING",
        )
    ]
