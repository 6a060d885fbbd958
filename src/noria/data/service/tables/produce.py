"""Appending by many producers, each record exactly once, many requests in one commit.

Requests that come while a commit is made wait, and land together in the next one: nobody waits for a clock, and many
small requests cost few commits. Each is judged by itself; one that is refused takes nobody with it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import blake3
import msgspec
import polars as pl

from noria.assets import Change
from noria.base.actor import Actor
from noria.base.errors import Conflict, Invalid, NoriaError
from noria.base.ids import CommitId
from noria.base.names import check_name
from noria.data import queries, taken
from noria.data.records import MAIN, Commit, Producer, Repository, RepositoryKind
from noria.data.rows.write import check_keys
from noria.data.service.base import Services
from noria.data.service.landing import LostRaceError
from noria.data.service.tables.log import LogVerbs, Offset
from noria.data.service.tables.rows import RowVerbs, _Work

if TYPE_CHECKING:
    from sqlalchemy import Connection

VERB: Final = "data.produce"
_ROWS: Final = 100_000
"""Rows that are gathered into one commit at most."""


class SequenceWrong(Conflict):
    """A producer's batch does not follow the one that was taken last."""

    code = "sequence_wrong"

    def __init__(self, producer: str, sequence: int, expected: int, why: str) -> None:
        super().__init__(
            f"The producer {producer!r} sent the batch {sequence}, and {expected} is expected: {why}.",
            hint=f"Send the batch {expected}.",
            details={"producer": producer, "sequence": sequence, "expected": expected},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Produced:
    """What became of a request.

    Attributes:
        first, last: the offsets of its records; None where all were in the table already, exactly so.
        repeated: it had been taken before; this is what was answered then.
    """

    commit: CommitId
    rows: int
    first: Offset | None
    last: Offset | None
    repeated: bool = False


@dataclass(eq=False, slots=True, kw_only=True)
class _Request:
    rows: Sequence[dict[str, Any]]
    producer: str | None
    sequence: int
    actor: Actor
    digest: str
    future: Future[Produced] = field(default_factory=Future[Produced])
    frame: pl.DataFrame | None = None
    contract: int | None = None


class _Queue:
    """The requests that wait for one branch of one repository."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.waiting: deque[_Request] = deque()
        self.working = False


class ProduceVerbs(RowVerbs, LogVerbs):
    def __init__(self, services: Services) -> None:
        super().__init__(services)
        self._queues: dict[tuple[int, str], _Queue] = {}
        self._queues_lock = threading.Lock()

    def produce(
        self,
        repository: Repository,
        records: Sequence[dict[str, Any]],
        *,
        actor: Actor,
        producer: str | None = None,
        sequence: int | None = None,
        branch: str = MAIN,
    ) -> Produced:
        """Appends records; requests that come at the same time land in one commit.

        Args:
            producer, sequence: who sends, and the number of this batch: 1, 2, 3 and so on, of each branch. A batch that
                is sent again is answered as it was the first time and taken once. A branch goes on with the numbers of
                the commits that it holds.

        Raises:
            SequenceWrong: the batch before is missing, or it was taken with other records.
            ContractBroken: these records do not keep the contract; they lie in quarantine.
        """
        sent = self.produce_soon(repository, records, actor=actor, producer=producer, sequence=sequence, branch=branch)
        return sent.result()

    def produce_soon(
        self,
        repository: Repository,
        records: Sequence[dict[str, Any]],
        *,
        actor: Actor,
        producer: str | None = None,
        sequence: int | None = None,
        branch: str = MAIN,
    ) -> Future[Produced]:
        """Like ``produce``, without waiting: the result holds the answer or the error."""
        if repository.kind != RepositoryKind.TABLE:
            self.get(repository.project_id, repository.name, RepositoryKind.TABLE)
        if (producer is None) != (sequence is None):
            raise Invalid("A producer numbers its batches: producer and sequence come together.", hint='"sequence": 1')
        if producer is not None:
            check_name(producer, "a producer")
        if not records:
            raise Invalid("There are no records to append.", hint='{"records": [{...}]}')
        if not all(records):
            raise Invalid("A record without any column is none.", hint='{"records": [{"id": 1}]}')
        digest = blake3.blake3(msgspec.json.encode(records, enc_hook=str)).hexdigest()
        request = _Request(rows=records, producer=producer, sequence=sequence or 0, actor=actor, digest=digest)
        with self._queues_lock:
            queue = self._queues.setdefault((repository.id, branch), _Queue())
        with queue.lock:
            queue.waiting.append(request)
            if not queue.working:
                queue.working = True
                name = f"noria-produce-{repository.id}"
                threading.Thread(target=self._work, args=(queue, repository, branch), name=name, daemon=True).start()
        return request.future

    def produce_once(
        self, repository: Repository, records: Sequence[dict[str, Any]], *, actor: Actor, key: str, branch: str = MAIN
    ) -> Produced:
        """Appends records under an idempotency key, in a commit of their own."""
        before = self.head(repository, branch)
        commit = self.append(repository, list(records), actor=actor, key=key, branch=branch, source="records")
        repeated = before is not None and commit.generation <= before.generation
        written = commit.stats.get("added", 0) + commit.stats.get("updated", 0)
        first, last = self.offsets_of(commit, 0, written) or (None, None)
        return Produced(commit=commit.id, rows=len(records), first=first, last=last, repeated=repeated)

    def producers(self, repository: Repository, branch: str | None = None) -> list[Producer]:
        """Who appends in numbered batches, to which branch, and the last number taken of each."""
        with self._db.read() as conn:
            names = taken.producer_names(conn, repository.id)
            found = list[Producer]()
            for one in queries.branches(conn, repository.id):
                if branch in (None, one.name):
                    head = None if one.head is None else queries.commit(conn, one.head)
                    found += self._known(conn, repository, one.name, head, names).values()
        return found

    def _known(
        self, conn: Connection, repository: Repository, branch: str, head: Commit | None, names: Sequence[str]
    ) -> dict[str, Producer]:
        """Those of the producers from whom a branch, standing at ``head``, holds a batch."""
        if head is None:
            return {}
        holds, top = self.holds(conn, repository, branch, head), head.generation
        found = [taken.producer(conn, repository.id, branch, holds, top, name) for name in names]
        return {producer.name: producer for producer in found if producer is not None}

    # ---- one thread for each branch that is written to, as long as something waits

    def _work(self, queue: _Queue, repository: Repository, branch: str) -> None:
        while True:
            with queue.lock:
                if not queue.waiting:
                    queue.working = False
                    return
                batch: list[_Request] = []
                rows = 0
                while queue.waiting and (not batch or rows + len(queue.waiting[0].rows) <= _ROWS):
                    batch.append(queue.waiting.popleft())
                    rows += len(batch[-1].rows)
            try:
                self._land_requests(repository, branch, batch)
            except BaseException as error:  # noqa: BLE001 - each of those that wait hears of it
                for request in batch:
                    if not request.future.done():
                        request.future.set_exception(error)

    def _land_requests(self, repository: Repository, branch: str, requests: list[_Request]) -> None:
        """Lands all of them, in as few commits as their keys and their producers allow."""
        rest = requests
        while rest:
            rest = self._again(repository, branch, partial(self._land_some, repository, branch, rest))

    def _land_some(self, repository: Repository, branch: str, requests: list[_Request]) -> list[_Request]:
        """One commit of as many requests as go together; returns those that have to wait for the next one."""
        current = self.get(repository.project_id, repository.name, RepositoryKind.TABLE)
        head = self.head(current, branch)
        with self._db.read() as conn:
            named = sorted({r.producer for r in requests if r.producer is not None})
            known = self._known(conn, current, branch, head, named)
        together, rest = self._choose(current, branch, head, known, requests)
        if not together:
            return rest
        try:
            self._commit(current, branch, head, known, together)
        except LostRaceError:
            raise
        except NoriaError as error:
            if len(together) == 1:
                together[0].future.set_exception(error)
                return rest
            for request in together:  # what refuses them all may be the fault of one
                self._land_requests(current, branch, [request])
        return rest

    def _choose(
        self,
        repository: Repository,
        branch: str,
        head: Commit | None,
        known: dict[str, Producer],
        requests: list[_Request],
    ) -> tuple[list[_Request], list[_Request]]:
        """(requests that are good and go together, those for later); the others are answered."""
        base = self._layout_of(head)
        event_ms = self._s.event_clock.event_ms(repository.project_id)
        together: list[_Request] = []
        rest: list[_Request] = []
        expected = {name: producer.sequence + 1 for name, producer in known.items()}
        seen = _Keys(repository.key if base is None else base.key)
        held: set[str] = set()
        for request in requests:
            if request.producer in held or (together and base is None):
                rest.append(request)  # in a producer's order; and the first rows give a new table its columns
                held.add(request.producer or "")
                continue
            try:
                if self._answered_before(request, known, expected):
                    continue
                if request.frame is None or base is None or request.contract != repository.contract:
                    frame = self._frame(repository, request.rows, "append", base)
                    schema = self._schema(repository, frame) if base is None else base.schema
                    check_keys(schema, frame)
                    self._keep_contract(repository, branch, frame, request.actor, _source(request), event_ms)
                    request.frame, request.contract = frame, repository.contract
            except NoriaError as error:
                request.future.set_exception(error)
                continue
            if not seen.add(request.frame):
                rest.append(request)
                held.add(request.producer or "")
                continue
            if request.producer is not None:
                expected[request.producer] = request.sequence + 1
            together.append(request)
        return together, rest

    def _answered_before(self, request: _Request, known: dict[str, Producer], expected: dict[str, int]) -> bool:
        """Answers a batch that was taken before.

        Raises:
            SequenceWrong: it is neither the next one nor the last one.
        """
        if request.producer is None:
            return False
        wanted = expected.get(request.producer, 1)
        if request.sequence == wanted:
            return False
        if request.sequence > wanted:
            raise SequenceWrong(request.producer, request.sequence, wanted, "a batch in between is missing")
        before = known.get(request.producer)
        if before is None or before.sequence != request.sequence:
            raise SequenceWrong(request.producer, request.sequence, wanted, "it was taken, and others after it")
        if before.answer["digest"] != request.digest:
            raise SequenceWrong(request.producer, request.sequence, wanted, "it was taken with other records")
        request.future.set_result(_from_answer(before.answer))
        return True

    def _commit(
        self,
        repository: Repository,
        branch: str,
        head: Commit | None,
        known: dict[str, Producer],
        requests: list[_Request],
    ) -> None:
        frames = [r.frame for r in requests if r.frame is not None]
        frame = frames[0] if len(frames) == 1 else pl.concat(frames, how="vertical")
        event_ms = self._s.event_clock.event_ms(repository.project_id)
        named = sorted({r.producer for r in requests if r.producer is not None})
        work = _Work(
            project_id=repository.project_id,
            batches={repository.name: (repository, frame)},
            actor=requests[0].actor,
            branch=branch,
            message="",
            mode="append",
            expected=None,
            meta={"source": {"kind": "records", "requests": len(requests), "producers": named[:100]}},
            run_id=None,
            source="records",
            also=None,
            once=None,
            evolve=False,
        )
        with self._s.sessions.writer() as writer:
            change = self._change(writer, repository, head, frame, "append", event_ms)
            if not change.nothing:
                how = (work.actor, work.source, event_ms, "append")
                self._keep_whole(repository, branch, frame, head, change.layout, *how)
            same = head is not None and change.nothing
            landings = {}
            if not same:
                digest = change.layout.digest
                landings[repository.name] = self._landing(writer, work, repository, head, change, digest, event_ms)
            packs = writer.flush()
            with self._s.changes.begin(VERB, repository.project_id, work.actor) as opened:
                self._check_producers(opened, repository, branch, head, known, named)
                self._s.sessions.seal(opened.tx, packs)
                done = self._land_all(
                    opened, landings, {} if head is None or not same else {repository.name: head}, None
                )
                commit = done[repository.name]
                places = _places(change.layout.key, requests, None if same else change.new_rows)
                answers = [
                    self._answer(commit, request, place) for request, place in zip(requests, places, strict=True)
                ]
                self._remember(opened, repository, commit, requests, answers)
                opened.note(
                    f"{repository.name}@{branch}", commit=commit.id, requests=len(requests), producers=named[:100]
                )
        for request, answer in zip(requests, answers, strict=True):
            request.future.set_result(answer)

    def _check_producers(
        self,
        change: Change,
        repository: Repository,
        branch: str,
        head: Commit | None,
        known: dict[str, Producer],
        named: list[str],
    ) -> None:
        """What was decided on must still be so: another process may have taken a batch of the same producer."""
        change.tx.lock(f"produce:{repository.id}")
        conn = change.tx.conn
        _, found = queries.head(conn, repository.id, branch)
        if (None if found is None else found.id) != (None if head is None else head.id):
            raise LostRaceError
        if head is not None:  # what its ancestors say does not change any more
            now = taken.sequences_at(conn, repository.id, head.id, named)
            if now != {name: p.sequence for name, p in known.items() if p.commit == head.id}:
                raise LostRaceError

    def _answer(self, commit: Commit, request: _Request, place: tuple[int, int] | None) -> Produced:
        found = None if place is None else self.offsets_of(commit, place[0], place[1])
        first, last = found if found is not None else (None, None)
        return Produced(commit=commit.id, rows=len(request.rows), first=first, last=last)

    def _remember(
        self,
        change: Change,
        repository: Repository,
        commit: Commit,
        requests: list[_Request],
        answers: list[Produced],
    ) -> None:
        last: dict[str, tuple[_Request, Produced]] = {}
        for request, answer in zip(requests, answers, strict=True):
            if request.producer is not None:
                last[request.producer] = request, answer
        rows = [
            {"name": name, "sequence": request.sequence, "answer": _to_answer(request, answer)}
            for name, (request, answer) in last.items()
        ]
        taken.keep_sequences(change.tx, repository.id, commit, rows)


class _Keys:
    """The keys of the rows of one commit: no two may be the same."""

    def __init__(self, key: Sequence[str]) -> None:
        self._key = list(key)
        self._seen: set[Any] = set()

    def add(self, frame: pl.DataFrame | None) -> bool:
        """Takes the keys of a frame; False, and none taken, where one is there already."""
        if not self._key or frame is None:
            return True
        columns = frame.select(self._key)
        if any(dtype.is_nested() for dtype in columns.dtypes):
            keys = {repr(row) for row in columns.rows()}
        else:
            keys = set(columns.to_series().to_list() if len(self._key) == 1 else columns.rows())
        if self._seen & keys:
            return False
        self._seen |= keys
        return True


def _places(key: Sequence[str], requests: list[_Request], written: pl.DataFrame | None) -> list[tuple[int, int] | None]:
    """Of each request the first of its rows among those written, and how many they are."""
    if written is None:
        return [None] * len(requests)
    total = sum(len(r.frame) for r in requests if r.frame is not None)
    found: list[tuple[int, int] | None] = []
    if len(written) == total:
        first = 0
        for request in requests:
            size = 0 if request.frame is None else len(request.frame)
            found.append((first, size))
            first += size
        return found
    numbered = written.select(key).with_row_index("__place")  # rows that were there already were not written
    for request in requests:
        assert request.frame is not None
        mine = numbered.join(request.frame.select(key), on=list(key), how="semi")["__place"]
        low = mine.min()
        found.append((int(low), len(mine)) if isinstance(low, int) else None)
    return found


def _source(request: _Request) -> str:
    return "records" if request.producer is None else f"records:{request.producer}:{request.sequence}"


def _to_answer(request: _Request, produced: Produced) -> dict[str, Any]:
    first, last = (None if o is None else str(o) for o in (produced.first, produced.last))
    return {"digest": request.digest, "commit": produced.commit, "rows": produced.rows, "first": first, "last": last}


def _from_answer(answer: dict[str, Any]) -> Produced:
    first, last = (None if answer[n] is None else Offset.parse(answer[n]) for n in ("first", "last"))
    return Produced(commit=CommitId(answer["commit"]), rows=answer["rows"], first=first, last=last, repeated=True)
