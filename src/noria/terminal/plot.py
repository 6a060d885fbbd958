"""Curves as a picture of Braille characters: each holds two by four dots."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

_DOTS: Final = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
COLOURS: Final = ("cyan", "yellow", "magenta", "green", "red", "blue", "white")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """One curve: finite numbers in the order in which they are joined."""

    label: str
    x: Sequence[float]
    y: Sequence[float]


def picture(
    curves: Sequence[Drawn],
    *,
    width: int,
    height: int,
    x_text: Callable[[float], str],
    y_text: Callable[[float], str],
    log: bool = False,
) -> list[str]:
    """Lines with rich mark-up: the curves with a scale at the left and one below, and their labels.

    Args:
        width, height: characters for everything but the labels.
        log: the vertical scale is logarithmic; values of 0 and below are left out.
    """
    points = [
        [
            (x, math.log10(y) if log else y)
            for x, y in zip(c.x, c.y, strict=True)
            if math.isfinite(y) and (y > 0 or not log)
        ]
        for c in curves
    ]
    there = [point for curve in points for point in curve]
    if not there:
        return ["No finite values."]
    left, right = min(x for x, _ in there), max(x for x, _ in there)
    low, high = min(y for _, y in there), max(y for _, y in there)
    scale = [y_text(_power(y) if log else y) for y in (high, high / 2 + low / 2, low)]
    margin = max(map(len, scale))
    canvas = _Canvas(max(width - margin - 1, 8), max(height, 3))
    for n, curve in enumerate(points):
        canvas.join([(_place(x, left, right, canvas.wide), _place(y, low, high, canvas.high)) for x, y in curve], n)
    marks = {0: scale[0], canvas.rows // 2: scale[1], canvas.rows - 1: scale[2]}
    lines = [f"{marks.get(row, ''):>{margin}} {canvas.line(row, len(curves) > 1)}" for row in range(canvas.rows)]
    ends = x_text(left), x_text(right)
    lines.append(" " * (margin + 1) + ends[0] + ends[1].rjust(canvas.columns - len(ends[0])))
    return lines


def _power(exponent: float) -> float:
    return 10**exponent if exponent < 308 else sys.float_info.max


def _place(value: float, low: float, high: float, dots: int) -> int:
    if high <= low:
        return dots // 2
    share = value / 2 - low / 2  # halves: the whole range of doubles has no difference
    return min(round(share / (high / 2 - low / 2) * (dots - 1)), dots - 1)


class _Canvas:
    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self.wide, self.high = columns * 2, rows * 4
        self._cells = [[0] * columns for _ in range(rows)]
        self._owner = [[-1] * columns for _ in range(rows)]

    def join(self, points: Sequence[tuple[int, int]], owner: int) -> None:
        for (x0, y0), (x1, y1) in zip(points, points[1:] or points, strict=False):
            steps = max(abs(x1 - x0), abs(y1 - y0), 1)
            for n in range(steps + 1):
                self._dot(x0 + round((x1 - x0) * n / steps), y0 + round((y1 - y0) * n / steps), owner)

    def _dot(self, x: int, y: int, owner: int) -> None:
        y = self.high - 1 - y
        self._cells[y // 4][x // 2] |= _DOTS[y % 4][x % 2]
        self._owner[y // 4][x // 2] = owner

    def line(self, row: int, coloured: bool) -> str:
        cells = [(chr(0x2800 + dots) if dots else " ", self._owner[row][n]) for n, dots in enumerate(self._cells[row])]
        if not coloured:
            return "".join(char for char, _ in cells).rstrip()
        made, last = "", -1
        for char, owner in cells:
            owner = -1 if char == " " else owner
            if owner != last:
                made += ("[/]" if last >= 0 else "") + (f"[{COLOURS[owner % len(COLOURS)]}]" if owner >= 0 else "")
                last = owner
            made += char
        return made + ("[/]" if last >= 0 else "")
