"""Ids have types, so that a wrong argument is found before it runs."""

from __future__ import annotations

import re
import secrets
import threading
from typing import NewType

ProjectId = NewType("ProjectId", int)
AssetId = NewType("AssetId", int)
VersionId = NewType("VersionId", int)
EventId = NewType("EventId", int)
JobId = NewType("JobId", int)
SessionId = NewType("SessionId", str)
RunId = NewType("RunId", str)
"""32 lower-case hexadecimal digits: a UUIDv7, and the MLflow run id at the same time (decision 1)."""
CommitId = NewType("CommitId", str)
"""64 hexadecimal digits: the digest of the commit object."""


_DIGITS = re.compile(r"[0-9a-f]+")


def begins_id(text: str, length: int) -> bool:
    """Whether a text can be the beginning of an id of ``length`` hexadecimal digits, or the whole of it.

    Nothing else may get into a LIKE pattern: ``%`` and ``_`` would match anything.
    """
    return len(text) <= length and _DIGITS.fullmatch(text) is not None


class IdMaker:
    """Makes UUIDv7 (RFC 9562): 48 bits of milliseconds, then random bits; strictly increasing in one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def next(self, now_ms: int) -> str:
        with self._lock:
            # 74 random bits; a repeat within one millisecond counts up, so that ids keep the order of their making.
            stamp = (now_ms & ((1 << 48) - 1)) << 74
            self._last = max(self._last + 1, stamp | secrets.randbits(74))
            value = self._last
        high, low = value >> 62, value & ((1 << 62) - 1)
        time_part, rand_a = high >> 12, high & 0xFFF
        number = (time_part << 80) | (0x7 << 76) | (rand_a << 64) | (0b10 << 62) | low
        return f"{number:032x}"
