"""Times are integers of milliseconds, UTC, inside; text and ``datetime`` at the edges."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from noria.base.errors import Invalid

SECOND: Final = 1_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

_UNITS: Final = {"ms": 1, "s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")


_FIRST: Final = datetime(1, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def to_datetime(ms: int) -> datetime:
    """The moment; the first or the last one that a date can name where it lies beyond: clients send any number."""
    try:
        return _EPOCH + timedelta(milliseconds=ms)
    except OverflowError:
        return _LAST if ms > 0 else _FIRST


def from_datetime(value: datetime) -> int:
    if value.tzinfo is None:
        raise Invalid(f"The time {value.isoformat()} has no time zone.", hint="Write 2013-04-01T00:00:00Z.")
    return (value - _EPOCH) // timedelta(milliseconds=1)


def to_text(ms: int) -> str:
    """RFC 3339 in UTC, with milliseconds only where there are any."""
    value = to_datetime(ms)
    exact = "milliseconds" if value.microsecond else "seconds"
    return value.replace(tzinfo=None).isoformat(timespec=exact) + "Z"


def parse_time(text: str) -> int:
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        raise Invalid(f"{text!r} is not a time.", hint="Write 2013-04-01 or 2013-04-01T05:15:00Z.") from None
    if value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    return from_datetime(value)


def parse_duration(text: str) -> int:
    """``"90s"``, ``"2d"``, ``"1h30m"`` to milliseconds."""
    position, total = 0, 0.0
    for match in _DURATION.finditer(text):
        if match.start() != position:
            break
        total += float(match.group(1)) * _UNITS[match.group(2)]
        position = match.end()
    if not text or position != len(text):
        raise Invalid(f"{text!r} is not a duration.", hint='Write for instance "90s", "12h", "2d" or "1h30m".')
    return round(total)


def duration_text(ms: int) -> str:
    """The shortest exact form of a duration, read back by ``parse_duration``."""
    parts: list[str] = []
    for unit, size in (("d", DAY), ("h", HOUR), ("m", MINUTE), ("s", SECOND), ("ms", 1)):
        count, ms = divmod(ms, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
