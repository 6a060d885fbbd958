"""When schedules are due. Cron expressions and their daylight-saving rules are cronsim's."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from noria.base.errors import Invalid
from noria.base.times import SECOND, from_datetime, parse_duration, to_datetime

_WORDS: Final = {"hour": "0 * * * *", "day": "0 0 * * *", "week": "0 0 * * 1", "month": "0 0 1 * *"}
_AT: Final = re.compile(r"(day|week|month) at (\d{1,2}):(\d{2})")


def parse_schedule(text: str) -> tuple[str, str]:
    """``"month"``, ``"day at 18:00 America/New_York"`` or a cron expression, to (cron expression, time zone)."""
    words = text.strip()
    zone = "UTC"
    last = words.rsplit(" ", 1)
    if len(last) == 2 and (("/" in last[1] and last[1][0].isalpha()) or last[1] == "UTC"):
        words, zone = last
    _zone(zone)
    match = _AT.fullmatch(words)
    if words in _WORDS:
        expression = _WORDS[words]
    elif match is not None:
        minute, hour, rest = int(match[3]), int(match[2]), _WORDS[match[1]].split(" ", 2)[2]
        expression = f"{minute} {hour} {rest}"
    else:
        expression = words
    try:
        CronSim(expression, to_datetime(0))
    except CronSimError as error:
        raise Invalid(
            f"{text!r} is not a schedule: {error}.",
            hint='Write "hour", "day", "week", "month", "day at 18:00 America/New_York" or "0 18 * * 1-5".',
        ) from None
    return expression, zone


def next_after(expression: str, zone: str, after_ms: int) -> int:
    """The first time strictly after ``after_ms`` at which the schedule is due."""
    start: datetime = to_datetime(after_ms).astimezone(_zone(zone))
    return from_datetime(next(CronSim(expression, start)))


def check_every(text: str) -> str:
    """How often: a duration of a second or more (``"1h"``), or a schedule.

    Raises:
        Invalid: it is neither.
    """
    due_after(text, 0)
    return text


def due_after(every: str, last_ms: int) -> int:
    """When something that was done at ``last_ms`` is due again; at once where it never was."""
    try:
        length = parse_duration(every)
    except Invalid:
        expression, zone = parse_schedule(every)
        return next_after(expression, zone, last_ms)
    if length < SECOND:
        raise Invalid(f"{every!r} is too often.", hint='Write for instance "10s", "1h" or "day at 18:00".')
    return last_ms + length


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise Invalid(f"{name!r} is not a time zone.", hint="Write for instance America/New_York or UTC.") from None
