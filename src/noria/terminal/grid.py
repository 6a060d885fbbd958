"""A table that fits the terminal: soft columns are cut first, then columns that matter less are left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from noria.terminal.shell import Shell

_GAP: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of plain texts.

    Attributes:
        right: its cells are numbers.
        least: it may be cut to so many characters; None: never.
        drop: columns with the greatest number go first where there is no room; 0: never.
    """

    title: str
    cells: Sequence[Any]
    right: bool = False
    least: int | None = None
    drop: int = 0


def grid(shell: Shell, columns: Sequence[Column]) -> list[str]:
    """Prints the columns beside each other; returns the titles of those that had no room."""
    from rich.cells import cell_len, set_cell_size
    from rich.markup import escape

    room = shell.console.width
    texts = [["" if cell is None else _plain(str(cell)) for cell in column.cells] for column in columns]
    natural = [
        max([cell_len(column.title), *map(cell_len, cells)]) for column, cells in zip(columns, texts, strict=True)
    ]
    kept = list(range(len(columns)))
    while (widths := _widths([columns[n] for n in kept], [natural[n] for n in kept], room)) is None:
        worst = max(kept, key=lambda n: columns[n].drop)
        if not columns[worst].drop:
            widths = [natural[n] for n in kept]
            break
        kept.remove(worst)

    def line(cells: list[str]) -> str:
        shown: list[str] = []
        for n, width, cell in zip(kept, widths, cells, strict=True):
            if cell_len(cell) > width:
                cell = set_cell_size(cell, width - 1) + "…"
            space = " " * (width - cell_len(cell))
            shown.append(space + cell if columns[n].right else cell + space)
        return (" " * _GAP).join(shown).rstrip()

    shell.say(f"[bold]{escape(line([columns[n].title for n in kept]))}[/bold]")
    for row in range(max((len(texts[n]) for n in kept), default=0)):
        shell.say(escape(line([texts[n][row] for n in kept])))
    return [column.title for n, column in enumerate(columns) if n not in kept]


def _widths(columns: Sequence[Column], natural: Sequence[int], room: int) -> list[int] | None:
    """Widths that fit into the room, or None: the widest soft columns give way first."""
    widths = list(natural)
    over = sum(widths) + _GAP * (len(widths) - 1) - room
    while over > 0:
        soft = [n for n, c in enumerate(columns) if c.least is not None and widths[n] > c.least]
        if not soft:
            return None
        widest = max(soft, key=lambda n: widths[n])
        least = columns[widest].least
        assert least is not None
        next_one = max((widths[n] for n in soft if n != widest and widths[n] < widths[widest]), default=least)
        cut = min(over, widths[widest] - max(least, min(next_one, widths[widest] - 1)))
        widths[widest] -= max(cut, 1)
        over -= max(cut, 1)
    return widths


def _plain(text: str) -> str:
    """One line, without characters that would move the cursor."""
    return "".join(char if char.isprintable() else " " for char in text)
