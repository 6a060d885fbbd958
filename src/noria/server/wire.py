"""Wire shapes of the server itself."""

from __future__ import annotations

from typing import Any

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


class AuditQuery(msgspec.Struct, forbid_unknown_fields=True):
    limit: int = 100
    after: str | None = None


class AuditOut(msgspec.Struct):
    seq: int
    at: str
    actor: str
    verb: str
    subject: str
    detail: dict[str, Any]


class AuditPage(msgspec.Struct):
    items: list[AuditOut]
    next: str | None = None


class VerifyQuery(msgspec.Struct, forbid_unknown_fields=True):
    data: bool = False


class Faults(msgspec.Struct):
    """What does not hold, in words; empty where everything does."""

    faults: list[str]


class RetentionOut(msgspec.Struct):
    """What is pruned -> how long it is kept, for instance ``30d``."""

    keep: dict[str, str]


class QuotaOut(msgspec.Struct):
    """``most``: null where there is no limit; ``used``: of points and keys the most in one run or experiment."""

    most: int | None
    used: int | None


class Quotas(msgspec.Struct):
    quotas: dict[str, QuotaOut]


class QuotaBody(msgspec.Struct, forbid_unknown_fields=True):
    most: int | None


class RetentionBody(msgspec.Struct, forbid_unknown_fields=True):
    keep: str


class Pruned(msgspec.Struct):
    """Rows, or files for logs and segments."""

    removed: dict[str, int]


class ServingStatus(msgspec.Struct):
    """``routed``: endpoint -> the routing revision that every worker has."""

    url: str
    pid: int
    workers: int
    serving: int
    deaths: int
    routed: dict[str, int]
