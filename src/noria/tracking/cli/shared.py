from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from noria.assets.records import Run
from noria.base.times import duration_text
from noria.terminal import Shell
from noria.tracking.wire import runs as w

WIDE = 110
"""Columns of a terminal from which on ids are written out."""


def get(shell: Shell, text: str) -> Run:
    return w.find_run(shell.ws.assets, shell.ws.project.id, text)


def get_all(shell: Shell, texts: Sequence[str]) -> list[Run]:
    return w.find_runs(shell.ws.assets, shell.ws.project.id, texts)


def plain(value: Any) -> Any:
    return msgspec.to_builtins(value)


def took(run: Run) -> str:
    return "" if run.ended_at is None else duration_text(run.ended_at - run.started_at)


def number(value: float | str | None) -> str:
    return "" if value is None else value if isinstance(value, str) else f"{value:.6g}"


def moment(ms: int | None, *, short: bool = False) -> str:
    """A time for people, in UTC, to the second; ``short``: without year and seconds."""
    if ms is None:
        return ""
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).strftime("%m-%d %H:%M" if short else "%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return str(ms)


def ids(shell: Shell, runs: Sequence[Run]) -> list[str]:
    """Ids of runs as long as there is room: the beginning is enough where it names one run."""
    if shell.console.width >= WIDE:
        return [run.id for run in runs]
    for digits in range(16, 32, 4):
        short = [run.id[:digits] for run in runs]
        if len(set(short)) == len({run.id for run in runs}):
            return short
    return [run.id for run in runs]


def size(count: int) -> str:
    """Bytes for people."""
    amount, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while amount >= 1024 and len(units) > 1:
        amount, _ = amount / 1024, units.pop(0)
    return f"{amount:.0f} {units[0]}" if units[0] == "B" else f"{amount:.1f} {units[0]}"
