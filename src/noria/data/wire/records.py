"""Wire shapes of a table as a log."""

from __future__ import annotations

from typing import Any

import msgspec

from noria.data.records import MAIN, Producer
from noria.data.service.tables.log import LogPage
from noria.data.service.tables.produce import Produced
from noria.data.values import plain


class ProduceQuery(msgspec.Struct):
    """With a body of JSON lines, what the body of JSON says besides the records."""

    producer: str | None = None
    sequence: int | None = None
    branch: str | None = None


class ProduceBody(msgspec.Struct, forbid_unknown_fields=True):
    """Records to append. A producer numbers its batches 1, 2, 3; each is taken exactly once."""

    records: list[dict[str, Any]]
    producer: str | None = None
    sequence: int | None = None
    branch: str = MAIN


class ProducedOut(msgspec.Struct):
    """Where the records are; without offsets where all of them were there already, exactly so."""

    commit: str
    rows: int
    first_offset: str | None
    last_offset: str | None
    repeated: bool


class RecordsQuery(msgspec.Struct, rename={"start": "from"}):
    """``from`` is an offset, earliest or latest; ``wait`` seconds (30 at most) where nothing is there yet."""

    start: str = "earliest"
    limit: int = 1000
    wait: float = 0.0
    branch: str = MAIN


class RecordOut(msgspec.Struct):
    offset: str
    value: dict[str, Any]


class RecordsPage(msgspec.Struct):
    """Records in order; ``next`` is where to go on."""

    records: list[RecordOut]
    next: str
    head: str | None


class ProducerOut(msgspec.Struct):
    branch: str
    name: str
    sequence: int
    at: int


class ProducerPage(msgspec.Struct):
    items: list[ProducerOut]


def produced_out(found: Produced) -> ProducedOut:
    first, last = (None if o is None else str(o) for o in (found.first, found.last))
    return ProducedOut(found.commit, found.rows, first, last, found.repeated)


def records_out(page: LogPage) -> RecordsPage:
    made = [RecordOut(str(o), {name: plain(v) for name, v in row.items()}) for o, row in page.records]
    return RecordsPage(made, str(page.next), page.head)


def producer_out(found: Producer) -> ProducerOut:
    return ProducerOut(found.branch, found.name, found.sequence, found.at)
