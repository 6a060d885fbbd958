"""Times as protobuf writes them in JSON."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from noria.base.errors import Invalid
from noria.base.times import from_datetime, to_text

FAR: Final = 253_402_300_799_999
"""The last millisecond that a time in protobuf's JSON can say."""
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")
_TOOK: Final = re.compile(r"(-?)(\d{1,12})(?:\.(\d{1,9}))?s")


def time_in(value: str | None, field: str) -> int | None:
    """Milliseconds since 1970; what is finer is cut."""
    if not value:
        return None
    found = _TIME.fullmatch(value)
    try:
        if found is None:
            raise ValueError
        whole = from_datetime(datetime.fromisoformat(found.group(1) + found.group(3).replace("Z", "+00:00")))
    except (ValueError, OverflowError):
        raise Invalid(f"Invalid value {value!r:.60} for parameter '{field}'.", hint="2026-01-31T12:00:00.5Z") from None
    return whole + int(f"{(found.group(2) or '.')[1:]:0<3}"[:3])


def time_out(ms: int) -> str:
    return to_text(min(max(ms, 0), FAR))


def took_in(value: str | None) -> int | None:
    if not value:
        return None
    found = _TOOK.fullmatch(value)
    if found is None:
        raise Invalid(f"Invalid value {value!r:.60} for parameter 'execution_duration'.", hint="0.125s")
    ms = int(found.group(2)) * 1000 + int(f"{found.group(3) or '':0<3}"[:3])
    return -ms if found.group(1) else ms


def took_out(ms: int) -> str:
    whole, rest = divmod(abs(ms), 1000)
    return f"{'-' if ms < 0 else ''}{whole}{f'.{rest:03d}' if rest else ''}s"
