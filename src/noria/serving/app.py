"""The inference port of one worker, as a plain ASGI application: every layer less is time that a caller waits.

``door`` has its paths. A request keeps the routing that it started with; swapping is an assignment, so nothing fails by
it (decision 8).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

from noria.base.errors import NoriaError
from noria.http.access import Access
from noria.http.errors import RequestTooLarge
from noria.serving.door import Gone, InferenceDoor, encode
from noria.serving.errors import EndpointNotReady
from noria.serving.loaded import Computed, Loaded
from noria.serving.records import Arm, Routing
from noria.serving.router import choose
from noria.serving.segments import Captured, CapturedRow, SegmentWriter

log = logging.getLogger("noria.endpoint")

MAX_BODY: Final = 16 << 20
INLINE_ROWS: Final = 8
"""Up to so many rows are scored at once in the event loop; a hand-over to a thread costs more than they do."""
APART_THREADS: Final = 16
"""So many requests wait for models in processes of their own, each for its turn; a slow one delays no other model."""
_SHADOW_QUEUE: Final = 256


@dataclass(frozen=True, slots=True)
class Live:
    """An endpoint at one moment: its routing, and the deployments that it names. Replaced as a whole, never changed."""

    name: str
    routing: Routing
    arms: dict[int, Loaded]

    @property
    def first(self) -> Loaded:
        """The champion, or whoever answers where there is none."""
        chosen = self.routing.champion
        return self.arms[chosen if chosen is not None else self.routing.arms[0].deployment]


@dataclass(slots=True)
class Counts:
    """What a worker has done since it started."""

    requests: int = 0
    predictions: int = 0
    refused: int = 0
    failed: int = 0
    shadow_dropped: int = 0


@dataclass(slots=True)
class _Job:
    """Rows that one deployment answers, or scores in the shadow."""

    arm: Arm
    loaded: Loaded
    places: list[int]


@dataclass(slots=True)
class _Shadow:
    """What is left to do after an answer."""

    live: Live
    jobs: list[_Job]
    request: _Request
    computed: dict[Any, Computed]


@dataclass(slots=True)
class _Request:
    rows: list[Any]
    ids: list[str]
    frame: Any
    received: int
    started: float
    scores: list[Any] = field(default_factory=list[Any])


class InferenceApp(InferenceDoor):
    """One per worker.

    Attributes:
        endpoints: a ``Live`` for each name; assigned anew by the worker for each routing revision.
    """

    def __init__(
        self, capture: SegmentWriter, access: Access, now_ms: Callable[[], int], *, max_body: int = MAX_BODY
    ) -> None:
        super().__init__(access)
        self.counts = Counts()
        self._capture = capture
        self._now_ms = now_ms
        self._max_body = max_body
        self._shadows: asyncio.Queue[_Shadow] = asyncio.Queue(_SHADOW_QUEUE)
        self._threads = ThreadPoolExecutor(1, "predict")
        self._apart_threads = ThreadPoolExecutor(APART_THREADS, "apart")
        self._shadow_threads = ThreadPoolExecutor(1, "shadow")

    async def predict(self, name: str, receive: Any) -> bytes:
        return await self._predict(self._live(name), await self._body(receive))

    def about(self, name: str) -> dict[str, Any]:
        return self._about(self._live(name))

    def all(self) -> list[dict[str, Any]]:
        return [self._about(live) for live in self.endpoints.values() if live.arms]

    def _live(self, name: str) -> Live:
        found: Live | None = self.endpoints.get(name)
        if found is None:
            self.unknown(name)
        if not found.arms:
            raise EndpointNotReady(f"{name!r} has no deployment that answers yet.", hint=f"noria endpoints show {name}")
        return found

    @staticmethod
    def _about(live: Live) -> dict[str, Any]:
        return {
            "endpoint": live.name,
            "revision": live.routing.number,
            "contract": live.first.contract.describe(),
            "arms": [
                {"model": live.arms[a.deployment].model, "role": a.role, "weight": a.weight} for a in live.routing.arms
            ],
        }

    async def _body(self, receive: Any) -> bytes:
        parts: list[bytes] = []
        total = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Gone
            part = message.get("body", b"")
            total += len(part)
            if total > self._max_body:
                raise RequestTooLarge(
                    f"The body is larger than {self._max_body} bytes.", hint="Send it in several requests."
                )
            parts.append(part)
            if not message.get("more_body", False):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    # ---- predicting

    async def _predict(self, live: Live, body: bytes) -> bytes:
        started = time.perf_counter()
        self.counts.requests += 1
        single, request = self._decode(live, body, started)
        jobs, shadows = _share(live, request.ids)
        computed: dict[Any, Computed] = {}
        try:
            apart = any(job.loaded.apart for job in jobs)
            if len(request.rows) <= INLINE_ROWS and not apart:
                self._score(live, jobs, request, computed)
            else:
                threads = self._apart_threads if apart else self._threads
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(threads, self._score, live, jobs, request, computed)
        except NoriaError:
            self.counts.failed += 1
            raise
        self.counts.predictions += len(request.rows)
        if shadows:
            self._later(_Shadow(live, shadows, request, computed))
        answers = [{"id": i, "score": s, "model": m} for i, (s, m) in zip(request.ids, request.scores, strict=True)]
        if single:
            return encode({**answers[0], "revision": live.routing.number})
        return encode({"predictions": answers, "revision": live.routing.number})

    def _decode(self, live: Live, body: bytes, started: float) -> tuple[bool, _Request]:
        contract = live.first.contract
        try:
            rows, ids, single = contract.decode(body)
            frame = contract.frame(rows)
        except NoriaError as error:
            self.counts.refused += 1
            with contextlib.suppress(OSError):  # a full disk must not hide from a caller what is wrong with the request
                self._capture.write(_refused(live, error.code, self._now_ms(), started))
            raise
        made = ids or [uuid.uuid4().hex for _ in rows]
        return single, _Request(rows, made, frame, self._now_ms(), started, [None] * len(rows))

    def _score(self, live: Live, jobs: list[_Job], request: _Request, computed: dict[Any, Computed]) -> None:
        """Scores the rows of each arm and captures them, all in one write, before anything is answered."""
        records: list[Captured] = []
        for job in jobs:
            try:
                records.append(_scored(live, job, request, computed, answered=True))
            except NoriaError as error:
                self._capture.write(*records, _failed(live, job, error.code, request))
                raise
        self._capture.write(*records)

    # ---- the shadow

    def _later(self, shadow: _Shadow) -> None:
        try:
            self._shadows.put_nowait(shadow)
        except asyncio.QueueFull:
            self.counts.shadow_dropped += sum(len(job.places) for job in shadow.jobs)

    async def run_shadows(self) -> None:
        """Scores what the shadow has to score, one request after another; runs as long as the worker does."""
        loop = asyncio.get_running_loop()
        while True:
            shadow = await self._shadows.get()
            try:
                await loop.run_in_executor(self._shadow_threads, self._score_shadow, shadow)
            except Exception:  # whatever fails in the shadow, the next request is scored all the same
                self.counts.shadow_dropped += sum(len(job.places) for job in shadow.jobs)
                log.exception("the shadow of %s failed", shadow.live.name)
            finally:
                self._shadows.task_done()

    def _score_shadow(self, shadow: _Shadow) -> None:
        for job in shadow.jobs:
            try:
                record = _scored(shadow.live, job, shadow.request, shadow.computed, answered=False)
            except NoriaError as error:
                record = _failed(shadow.live, job, error.code, shadow.request, answered=False)
            try:
                self._capture.write(record)
            except OSError:
                self.counts.shadow_dropped += len(job.places)

    async def drain_shadows(self) -> None:
        await self._shadows.join()

    def close(self) -> None:
        self._threads.shutdown()
        self._apart_threads.shutdown()
        self._shadow_threads.shutdown()


def _share(live: Live, ids: list[str]) -> tuple[list[_Job], list[_Job]]:
    """(who answers which rows, who scores which rows in the shadow)."""
    routing = live.routing
    answering: dict[int, _Job] = {}
    taken: list[int] = []
    weighted = [arm for arm in routing.arms if arm.weight > 0]
    for number, key in enumerate(ids):
        arm = choose(weighted, routing.salt, key) if len(weighted) > 1 else weighted[0]
        taken.append(arm.deployment)
        job = answering.setdefault(arm.deployment, _Job(arm, live.arms[arm.deployment], []))
        job.places.append(number)
    shadows: list[_Job] = []
    for arm in routing.arms:
        if arm.role == "shadow" or routing.paired:
            places = [n for n, deployment in enumerate(taken) if deployment != arm.deployment]
            if places:
                shadows.append(_Job(arm, live.arms[arm.deployment], places))
    return list(answering.values()), shadows


def _scored(live: Live, job: _Job, request: _Request, computed: dict[Any, Computed], *, answered: bool) -> Captured:
    """Scores the rows of one job. Features are computed once for all deployments with the same features code."""
    loaded = job.loaded
    started = request.started if answered else time.perf_counter()
    all_rows = computed.get(loaded.features_key)
    if all_rows is None:
        all_rows = computed[loaded.features_key] = loaded.features(request.frame)
    whole = len(job.places) == len(request.rows)
    mine = all_rows if whole else Computed(frame=all_rows.frame[job.places], commits=all_rows.commits)
    scores = loaded.score(mine).tolist()
    values, moments = loaded.values(mine), loaded.moments(mine)
    contract = loaded.contract
    rows: list[CapturedRow] = []
    for place, score, at, features in zip(job.places, scores, moments, values, strict=True):
        row = request.rows[place]
        entity = contract.entity(row) if contract.keyed else named(request.ids[place])
        rows.append(CapturedRow(request.ids[place], entity, at, score, encode(row), features))
        if answered:
            request.scores[place] = (score, loaded.model)
    return Captured(
        endpoint=live.name,
        revision=live.routing.number,
        deployment=loaded.deployment,
        model=loaded.model,
        role=job.arm.role,
        answered=answered,
        received=request.received,
        latency=round((time.perf_counter() - started) * 1e6),
        commits=all_rows.commits,
        rows=rows,
    )


def named(prediction: str) -> str:
    """What a row without a key is called: by its prediction, which the caller may have named."""
    return encode([prediction]).decode()


def _failed(live: Live, job: _Job, code: str, request: _Request, *, answered: bool = True) -> Captured:
    return Captured(
        endpoint=live.name,
        revision=live.routing.number,
        deployment=job.loaded.deployment,
        model=job.loaded.model,
        role=job.arm.role,
        answered=answered,
        received=request.received,
        latency=round((time.perf_counter() - request.started) * 1e6),
        commits=[],
        rows=[],
        error=code,
        count=len(job.places),
    )


def _refused(live: Live, code: str, received: int, started: float) -> Captured:
    """A request that does not keep the contract: nobody's fault but the caller's, and counted all the same."""
    return Captured(
        endpoint=live.name,
        revision=live.routing.number,
        deployment=0,
        model="",
        role="",
        answered=False,
        received=received,
        latency=round((time.perf_counter() - started) * 1e6),
        commits=[],
        rows=[],
        error=code,
        count=1,
    )
