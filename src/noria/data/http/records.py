"""Routes of a table as a log: append, read on, wait for more."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.concurrency import run_in_threadpool

from noria.base.errors import Invalid
from noria.base.ids import ProjectId
from noria.data.http.shared import ONE, Handlers
from noria.data.records import RepositoryKind
from noria.data.service import Data
from noria.data.wire import records as w
from noria.http import Call, Route

_BODY: Final = 64 << 20
_WAIT: Final = 30.0
_LOOK: Final = 0.1
"""Seconds between two looks at the head while a reader waits; no thread is held in between."""


class RecordsRoutes(Handlers):
    async def produce(self, call: Call) -> w.ProducedOut:
        """Waits in the event loop: many producers at once hold no threads, and land in few commits."""
        body: w.ProduceBody = call.body
        query: w.ProduceQuery = call.query
        producer = body.producer if query.producer is None else query.producer
        sequence = body.sequence if query.sequence is None else query.sequence
        branch = body.branch if query.branch is None else query.branch
        repository = await run_in_threadpool(self._repository, call, RepositoryKind.TABLE)
        if call.key is not None:
            if producer is not None:
                raise Invalid(
                    "A batch has an Idempotency-Key or a producer's sequence, not both.", hint="Leave out the header."
                )
            how = {"actor": call.actor, "key": call.key, "branch": branch}
            return w.produced_out(await run_in_threadpool(self._data.produce_once, repository, body.records, **how))
        sent = self._data.produce_soon(
            repository, body.records, actor=call.actor, producer=producer, sequence=sequence, branch=branch
        )
        return w.produced_out(await asyncio.wrap_future(sent))

    async def records(self, call: Call) -> w.RecordsPage:
        query: w.RecordsQuery = call.query
        if not 0 <= query.wait <= _WAIT:
            raise Invalid(f"wait={query.wait} is not possible.", hint=f"0 to {_WAIT:.0f} seconds")
        repository = await run_in_threadpool(self._repository, call, RepositoryKind.TABLE)

        def read(start: str) -> w.RecordsPage:
            page = self._data.records(repository, start, limit=query.limit, branch=query.branch)
            return w.records_out(page)

        page = await run_in_threadpool(read, query.start)
        ends = asyncio.get_running_loop().time() + query.wait
        while not page.records and asyncio.get_running_loop().time() < ends:
            await asyncio.sleep(_LOOK)
            head = await run_in_threadpool(self._data.head, repository, query.branch)
            if head is not None and head.id != page.head:
                page = await run_in_threadpool(read, page.next)
        return page

    def producers(self, call: Call) -> w.ProducerPage:
        found = self._data.producers(self._repository(call, RepositoryKind.TABLE))
        return w.ProducerPage([w.producer_out(one) for one in found])


def routes(data: Data, project_id: ProjectId) -> list[Route]:
    r = RecordsRoutes(data, project_id)
    return [
        Route(
            method="POST",
            path=ONE + "/records",
            handler=r.produce,
            permission="data.write",
            summary="Append records; many requests land in one commit, a producer's batch exactly once.",
            body=w.ProduceBody,
            query=w.ProduceQuery,
            answer=w.ProducedOut,
            max_body=_BODY,
            lines="records",
            cli="noria data produce NAME FILE",
        ),
        Route(
            method="GET",
            path=ONE + "/records",
            handler=r.records,
            permission="data.read",
            summary="Read what was written to a table from an offset on, in order; waits for more where asked to.",
            query=w.RecordsQuery,
            answer=w.RecordsPage,
            cli="noria data records NAME",
        ),
        Route(
            method="GET",
            path=ONE + "/producers",
            handler=r.producers,
            permission="data.read",
            summary="List who appends in numbered batches, and the last number taken of each.",
            answer=w.ProducerPage,
        ),
    ]
