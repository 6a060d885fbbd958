"""The table of results, for the terminal and for the page."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.result import Result

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
BEGIN = "<!-- results: written by python -m bench.run --write -->"
END = "<!-- end of results -->"
HEAD = ("what", "ours", "peer", "ratio", "goal", "met")


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 0.001 else f"{value:.1e}"


def _goal(result: Result) -> str:
    if result.goal is None:
        return "-"
    sign = "at least " if result.more_is_better else ""
    if result.compare == "ratio":
        return f"{sign}{result.goal:g} x"
    over = "peer + " if result.compare == "difference" else ""
    return f"{sign}{over}{result.goal:g} {result.unit}"


def rows(results: Sequence[Result]) -> list[tuple[str, ...]]:
    """The head and one tuple of words for each result."""
    found: list[tuple[str, ...]] = [HEAD]
    for result in results:
        peer = "-" if result.peer is None else f"{_number(result.peer)} {result.unit} ({result.peer_name})"
        ratio = "-" if result.ratio is None else f"{_number(result.ratio)} x"
        met = {True: "yes", False: "no", None: "-"}[result.met]
        found.append((result.name, f"{_number(result.ours)} {result.unit}", peer, ratio, _goal(result), met))
    return found


def aligned(results: Sequence[Result]) -> str:
    """For a terminal: columns of equal width."""
    lines = rows(results)
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEAD))]
    return "\n".join("  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)) for line in lines)


def markdown(results: Sequence[Result], load: float) -> str:
    """For the page: what was measured, when and on what."""
    head, *body = rows(results)
    day = datetime.now(UTC).date().isoformat()
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()}"
    cores = os.cpu_count() or 1
    remark = " The machine was busy with other work: take the times with caution." if load > cores / 2 else ""
    lines = [f"{day}, {machine}; load average before the start {load:.1f}.{remark}", ""]
    lines += ["| " + " | ".join(head) + " |", "|---|--:|--:|--:|--:|---|"]
    lines += ["| " + " | ".join(line) + " |" for line in body]
    return "\n".join(lines)


def write(results: Sequence[Result], load: float) -> None:
    """Replaces what stands between the two markers of the page; ``load`` was that of the machine before the start."""
    text = PAGE.read_text(encoding="utf-8")
    before, found, rest = text.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not found or not ended:
        raise SystemExit(f"{PAGE.name} lacks the line {BEGIN} or {END}.")
    PAGE.write_text(f"{before}{BEGIN}\n\n{markdown(results, load)}\n\n{END}{after}", encoding="utf-8")
