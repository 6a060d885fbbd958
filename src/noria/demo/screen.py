"""What a person sees while the demo runs: a line for each stage, and a live line for the replay."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from rich.status import Status

_WORDS: Final = {
    "promoted": "[green]promoted[/]",
    "refused": "[yellow]refused[/]",
    "thrown_out": "[red]thrown out[/]",
    "inconclusive": "[yellow]inconclusive[/]",
    "failed": "[red]failed[/]",
    "cancelled": "[yellow]cancelled[/]",
    "releasing": "[cyan]on its way[/]",
}


class Screen:
    """Writes to the error stream, so that the result on the output stays clean."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(stderr=True, highlight=False, quiet=quiet)
        self._bar: Progress | None = None
        self._waiting: Status | None = None
        self._task: Any = None
        self._seen: dict[int, str] = {}
        self._start = self._end = datetime(2013, 1, 1, tzinfo=UTC)
        self._begun = 0.0
        self._first = 0

    def stage(self, title: str) -> None:
        self._console.print(f"[bold]{title}[/]")
        self._waiting = self._console.status("working")
        self._waiting.start()

    def done(self, seconds: float) -> None:
        self.rest()
        if seconds >= 1:
            self._console.print(f"  [dim]{seconds:.1f} s[/]")

    def say(self, text: str) -> None:
        self._console.print("  " + text.replace("[", "\\["))

    def rest(self) -> None:
        """Nothing moves any more, whether a stage ended or was interrupted: the terminal gets its cursor back."""
        if self._waiting is not None:
            self._waiting.stop()
            self._waiting = None
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    # ---- the replay

    def begin_replay(self, start: datetime, end: datetime) -> None:
        self.rest()
        self._start, self._end, self._begun = start, end, time.monotonic()
        if self._console.is_terminal:
            columns = (TextColumn("  {task.description}"), BarColumn(bar_width=30), TimeRemainingColumn())
            self._bar = Progress(*columns, TextColumn("{task.fields[served]:,} predictions"), console=self._console)
            self._bar.start()
            self._task = self._bar.add_task(f"{start:%d %b}", total=(end - start).days, served=0)

    def day(self, day: datetime, candidates: list[dict[str, Any]], served: int) -> None:
        """A day begins; tells what became of candidates since the last one."""
        self._tell(day, candidates)
        if self._bar is not None:
            text = f"{day:%d %b}"
            self._bar.update(self._task, completed=(day - self._start).days, description=text, served=served)
        elif day.day == 1:
            self.say(f"{day:%d %b}: {served:,} predictions so far")

    def _tell(self, day: datetime, candidates: list[dict[str, Any]]) -> None:
        for found in candidates:
            before = self._seen.get(found["id"])
            if before == found["state"]:
                continue
            self._seen[found["id"]] = found["state"]
            if len(self._seen) == len(candidates) == 1 or found["state"] not in _WORDS:
                continue
            name = f"{found['model']}/{found['number']}" if found["number"] else found["model"]
            drill = " (drill)" if found["drill"] else ""
            why = found["verdict"].get("text", "") or "; ".join(g["text"] for g in found["gates"] if not g["passed"])
            trigger = found["trigger"] if before is None else ""
            parts = [f"  {day:%d %b}", name + drill, _WORDS[found["state"]]]
            line = "  ".join(parts) + (f"  [dim]{trigger}[/]" if trigger else "") + f"  [dim]{why}[/]"
            self._console.print(line)

    def end_replay(self) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=(self._end - self._start).days)
        self.rest()
