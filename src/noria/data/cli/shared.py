from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any

import click
import msgspec

from noria.base.errors import Invalid
from noria.data.records import Repository, RepositoryKind
from noria.data.wire import commit_out
from noria.data.wire.tables import RowsDiffOut
from noria.terminal import Shell


def get(shell: Shell, name: str, kind: RepositoryKind | None = None) -> Repository:
    return shell.ws.files.get(shell.ws.project.id, name, kind)


def by_path(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options that decide conflicts of files path by path; the command gets them as ``resolve``."""

    @wraps(function)
    def together(*args: Any, ours: tuple[str, ...], theirs: tuple[str, ...], **how: Any) -> Any:
        both = set(ours) & set(theirs)
        if both:
            raise click.UsageError(f"--ours and --theirs both name {min(both)!r}.")
        resolve = {**dict.fromkeys(ours, "ours"), **dict.fromkeys(theirs, "theirs")}
        return function(*args, resolve=resolve, **how)

    for side, text in (("theirs", "what comes in"), ("ours", "the branch's side")):
        about = f"Take {text} where both changed this path, folder or pattern; the most exact one decides; repeatable."
        together = click.option(f"--{side}", multiple=True, metavar="PATTERN", help=about)(together)
    return together


def counted(count: int, what: str) -> str:
    """A number with its noun: 1 commit, 2 commits, 1 batch, 2 batches."""
    return f"{count} {what}" if count == 1 else f"{count} {what}{'es' if what.endswith('ch') else 's'}"


def told_stats(stats: Mapping[str, int]) -> str:
    """What a commit did, in numbers, for people."""
    parts = [(count, what) for what, count in stats.items() if count and what not in ("stored", "folded")]
    nouns = {"rows": "row", "files": "file"}
    told = [counted(n, nouns[what]) if what in nouns else f"{n} {what}" for n, what in parts]
    return ", ".join(told) or "nothing new"


def plain(value: Any) -> Any:
    return msgspec.to_builtins(value)


def write_rows(frame: Any, out: str, *, force: bool = True) -> None:
    """Writes a Polars frame to a file, in the form that its name says.

    Raises:
        Invalid: the name has another ending, its folder is not there, or the file is and ``force`` is off.
    """
    place = Path(out)
    if place.suffix not in (".csv", ".parquet"):
        raise Invalid(f"{out} ends neither with .parquet nor with .csv.", hint="--out rows.parquet")
    if not place.parent.is_dir():
        raise Invalid(f"The folder of {out} is not there.", hint=f"mkdir -p {place.parent}")
    if place.exists() and not force:
        raise Invalid(f"{out} is there already.", hint="Give another name, or delete it.")
    frame.write_csv(place) if place.suffix == ".csv" else frame.write_parquet(place)


def say_commit(shell: Shell, repository: Repository, done: Any, before: Any = None) -> None:
    """Says what a commit did; ``before`` is the head as it was, by which a verb that did nothing is told from one that
    did."""
    if before is not None and before.id == done.id:
        shell.emit(plain(commit_out(done)), f"Nothing changed; {repository.name} stays at {done.id[:12]}.")
        return
    shell.emit(plain(commit_out(done)), f"{repository.name} {done.id[:12]}: {told_stats(done.stats)}.")


def say_rows_diff(shell: Shell, out: RowsDiffOut) -> None:
    """A difference of tables for people: columns, numbers, and the first rows of each kind."""
    schema = out.schema
    if schema is not None:
        for name, kind in schema.added.items():
            shell.say(f"column {name} ({kind}) added")
        for name, kind in schema.removed.items():
            shell.say(f"column {name} ({kind}) removed")
        for renamed in schema.renamed:
            shell.say(f"column {renamed.before} renamed to {renamed.after}")
        for retyped in schema.retyped:
            shell.say(f"column {retyped.column}: {retyped.before} -> {retyped.after}")
        if schema.key:
            shell.say(f"key: {', '.join(schema.key[0]) or 'none'} -> {', '.join(schema.key[1]) or 'none'}")
    for kind, count in (("added", out.added), ("removed", out.removed), ("changed", out.changed)):
        shell.say(f"{count} {kind}")
        rows = out.samples.get(kind, [])
        if rows and kind != "changed":
            shell.table(list(rows[0]), [list(row.values()) for row in rows])
    if out.changes:
        key = list(out.changes[0].key)
        lines = [
            [*change.key.values(), column, before, after]
            for change in out.changes
            for column, (before, after) in change.columns.items()
        ]
        shell.table([*key, "column", "before", "after"], lines)
