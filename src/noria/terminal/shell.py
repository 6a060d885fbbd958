"""The object that every command gets: the workspace, and the two ways to answer."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import IO, Any

from noria.base.errors import Refused


class NotConfirmed(Refused):
    """What cannot be undone was not confirmed."""

    code = "not_confirmed"


class Shell:
    """One command's surroundings.

    Attributes:
        json: answer with one JSON value instead of text for people.
        url: the workspace asked for with ``--workspace``, or None.
        project: the project asked for with ``--project``, or None.
    """

    def __init__(self, connect: Callable[..., Any], out: IO[str] | None = None) -> None:
        self._connect = connect
        self._ws: Any = None
        self._out = out or sys.stdout
        self.json = False
        self.url: str | None = None
        self.project: str | None = None

    @property
    def ws(self) -> Any:
        """The open workspace. Its type lies above the rooms, which is why it is not named here."""
        if self._ws is None:
            self._ws = self._connect(self.url, project=self.project)
        return self._ws

    @property
    def opened(self) -> Any:
        """The workspace if the command opened it, else None."""
        return self._ws

    def close(self) -> None:
        if self._ws is not None:
            self._ws.close()
            self._ws = None

    # ---- answers

    def emit(self, value: Any, human: Callable[[], None] | str) -> None:
        """Answers: ``value`` as JSON under ``--json``, otherwise the text or what ``human`` prints."""
        if self.json:
            self._out.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")
        elif isinstance(human, str):
            self.say(human)
        else:
            human()
        self._out.flush()

    def say(self, text: str = "") -> None:
        """A line for people; may hold rich mark-up where square brackets are escaped by the caller."""
        if self.json:
            return
        if text.isprintable() and "[" not in text:  # no mark-up: it takes no import to write that
            self._out.write(text + "\n")
        else:
            self.console.print(text, highlight=False, soft_wrap=True)

    def warn(self, message: str, hint: str = "") -> None:
        """Tells a person, on the error stream, of something that did not stop the command."""
        if self.json:
            return
        lines = [f"Warning: {message}", *(f"  {line}" for line in hint.splitlines())]
        sys.stderr.write("\n".join(lines) + "\n")

    def confirm(self, what: str, *, yes: bool, again: str, typed: str | None = None) -> None:
        """Asks before what cannot be undone. On a terminal a person answers; elsewhere only ``yes`` does.

        Args:
            what: what is about to happen, a sentence.
            again: the command with ``--yes``, for who is no person.
            typed: what has to be typed; None: a plain yes.

        Raises:
            NotConfirmed: somebody said no, or there is nobody to ask.
        """
        if yes:
            return
        if self.json or not sys.stdin.isatty():
            raise NotConfirmed(f"{what} Nothing was done: there is no terminal to ask on.", hint=again)
        sys.stderr.write(f"{what}\n{'Go on? [y/N]' if typed is None else f'Type {typed} to go on'}: ")
        sys.stderr.flush()
        said = sys.stdin.readline().strip()
        if said != typed and not (typed is None and said.lower() in ("y", "yes")):
            raise NotConfirmed("Nothing was done.", hint=f"{again}   does not ask.")

    @contextmanager
    def own_output(self) -> Iterator[None]:
        """Under ``--json``, what the project's code prints goes to the error stream: the answer is one value."""
        if not self.json:
            yield
            return
        with redirect_stdout(sys.stderr):
            yield

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Iterable[str] = ()) -> None:
        """An aligned table of plain texts (no mark-up); the columns in ``right`` are numbers."""
        from rich.markup import escape
        from rich.table import Table

        made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        numbers = set(right)
        for column in columns:
            justify = "right" if column in numbers else "left"
            made.add_column(escape(column), justify=justify, overflow="fold", no_wrap=column in _COPIED)
        for row in rows:
            made.add_row(*("" if cell is None else escape(str(cell)) for cell in row))
        self.console.print(made)

    @property
    def console(self) -> Any:
        from rich.console import Console

        wide = None if self._out.isatty() else 160
        return Console(file=self._out, highlight=False, width=wide, emoji=False)

    @contextmanager
    def progress(self, text: str, total: float | None = None) -> Iterator[Callable[..., None]]:
        """A bar on the error stream, on a terminal only. Call the result with how much was done since."""
        if self.json or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
            yield _nothing
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(text, total=total)

            def advance(done: float = 1, text: str | None = None, total: float | None = None) -> None:
                changes: dict[str, Any] = {} if text is None else {"description": text}
                if total is not None:
                    changes["total"] = total
                bar.update(task, advance=done, **changes)

            yield advance


_COPIED = ("run", "id", "commit")
"""Columns that people copy from: never broken over two lines."""


def _nothing(done: float = 1, text: str | None = None, total: float | None = None) -> None:
    return
