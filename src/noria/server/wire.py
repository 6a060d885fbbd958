"""Wire shapes of the server itself."""

from __future__ import annotations

import msgspec


class Health(msgspec.Struct):
    status: str
    version: str
    workspace: str
    project: str
    endpoints: str | None
    doing: str
    event_time: str


class ClockOut(msgspec.Struct):
    """``mode`` is wall or replay; ``processed`` is the day up to which everything was done."""

    mode: str
    watermark: str
    processed: str | None


class ClockBody(msgspec.Struct, forbid_unknown_fields=True):
    to: str


class Advanced(msgspec.Struct):
    watermark: str
    days: int


class Taken(msgspec.Struct):
    rows: dict[str, int]
