from __future__ import annotations

from pathlib import Path

import click

from noria.data.cli.shared import counted, get, plain, say_commit, write_rows
from noria.data.collectors.files import read_rows
from noria.data.records import MAIN, RepositoryKind
from noria.data.values import key_of
from noria.data.wire import rows_out
from noria.data.wire.history import draft_out
from noria.data.wire.tables import RowHistoryOut, row_event_out
from noria.terminal import Shell, command


@command("append")
@click.argument("name")
@click.argument("path", type=click.Path(exists=True, dir_okay=False))
@click.option("--mode", type=click.Choice(["append", "overwrite", "delete"]), default="append", show_default=True)
@click.option("-m", "--message", default="")
@click.option("--branch", default=MAIN, show_default=True)
@click.option("--draft", help="Write to this open commit instead; see `noria data start`.")
@click.option("--evolve", is_flag=True, help="Take over new columns, widen narrower ones, leave lacking ones empty.")
@click.pass_obj
def append(
    shell: Shell, name: str, path: str, mode: str, message: str, branch: str, draft: str | None, evolve: bool
) -> None:
    """Append, overwrite or delete rows of a table from a file."""
    ws = shell.ws
    repository = get(shell, name, RepositoryKind.TABLE)
    if draft is not None:
        found = ws.data.edit_rows(repository, draft, read_rows(Path(path)), mode=mode, source=path, actor=ws.actor)
        shell.emit(plain(draft_out(found)), f"{name}: written to the open commit {found.id[:12]}.")
        return
    before = ws.files.head(repository, branch)
    with shell.progress(f"Writing to {name}"):
        done = ws.data.append(
            repository,
            read_rows(Path(path)),
            actor=ws.actor,
            mode=mode,
            message=message,
            branch=branch,
            source=path,
            evolve=evolve,
        )
    say_commit(shell, repository, done, before)


@command("read")
@click.argument("name")
@click.option("--ref", default=MAIN, show_default=True)
@click.option("--limit", type=click.IntRange(0, 100_000), default=10, show_default=True)
@click.option("--out", type=click.Path(dir_okay=False), help="Write all rows to a .parquet or .csv file.")
@click.pass_obj
def read(shell: Shell, name: str, ref: str, limit: int, out: str | None) -> None:
    """Show rows of a table, or write them to a file."""
    with shell.progress(f"Reading {name}"):
        frame = shell.ws.data.read(get(shell, name, RepositoryKind.TABLE), ref)
        if out is not None:
            write_rows(frame, out)
    if out is not None:
        shell.emit({"rows": len(frame), "file": out}, f"{counted(len(frame), 'row')} written to {out}.")
        return
    shown = rows_out(frame.head(limit))
    shell.emit(shown, lambda: shell.table(frame.columns, [list(r.values()) for r in shown]))


@command("history")
@click.argument("name")
@click.argument("key", nargs=-1, required=True)
@click.option("--ref", default=MAIN, show_default=True)
@click.pass_obj
def history(shell: Shell, name: str, key: tuple[str, ...], ref: str) -> None:
    """Show what happened to one row of a table, by its key.

    KEY is COLUMN=VALUE, for every column of the key.
    """
    repository, data = get(shell, name, RepositoryKind.TABLE), shell.ws.data
    asked = key_of(key)
    with shell.progress(f"Looking through {name}"):
        events = [row_event_out(event) for event in data.row_history(repository, asked, ref)]
        held = [] if events[0].after is None else data.versions_with_row(repository, asked, ref)

    def human() -> None:
        for event in events:
            shell.say(f"{event.commit[:12]}  {event.at}  {event.author}  {event.kind}  {event.message}".rstrip())
            before, after = event.before or {}, event.after or {}
            names = [n for n in {**before, **after} if event.kind != "changed" or before.get(n) != after.get(n)]
            shell.table(["column", "before", "after"], [[n, before.get(n, ""), after.get(n, "")] for n in names])
        if held:
            shell.say(
                f"As it is now it stands in {counted(len(held), 'commit')}, {held[0].id[:12]} to {held[-1].id[:12]}."
            )

    shell.emit(plain(RowHistoryOut(events, [commit.id for commit in held])), human)
