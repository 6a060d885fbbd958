from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from noria.base.errors import Invalid
from noria.data import contract_text
from noria.data.cli.shared import get, say_commit
from noria.data.records import MAIN, RepositoryKind
from noria.data.rows.alter import Alterations, parse_column
from noria.terminal import Shell, command


@command("alter")
@click.argument("name")
@click.option("--add", multiple=True, metavar="COLUMN:TYPE[=DEFAULT]", help="A new column.")
@click.option("--drop", multiple=True, metavar="COLUMN")
@click.option("--rename", multiple=True, metavar="OLD=NEW")
@click.option("--widen", multiple=True, metavar="COLUMN:TYPE", help="To a type that holds every value it has.")
@click.option("--key", multiple=True, metavar="COLUMN", help="The columns of the key, after the change.")
@click.option("--contract", type=click.Path(exists=True, dir_okay=False), help="Put this contract in force with it.")
@click.option("--branch", default=MAIN, show_default=True)
@click.option("-m", "--message", default="")
@click.pass_obj
def alter(
    shell: Shell,
    name: str,
    add: Sequence[str],
    drop: Sequence[str],
    rename: Sequence[str],
    widen: Sequence[str],
    key: Sequence[str],
    contract: str | None,
    branch: str,
    message: str,
) -> None:
    """Add, drop, rename or widen columns of a table, or give it a key.

    No row is written anew. Older commits keep showing the columns that they had.
    """
    changes = Alterations(
        add=tuple(parse_column(text) for text in add),
        drop=tuple(drop),
        rename=_pairs(rename, "=", "OLD=NEW"),
        widen=_pairs(widen, ":", "COLUMN:TYPE"),
        key=tuple(key) or None,
    )
    ws, repository = shell.ws, get(shell, name, RepositoryKind.TABLE)
    value = None if contract is None else contract_text.read(Path(contract).read_text(encoding="utf-8"), contract)
    with shell.progress(f"Changing {name}"):
        done = ws.data.alter(repository, changes, actor=ws.actor, branch=branch, message=message, contract=value)
    say_commit(shell, repository, done)


@command("compact")
@click.argument("name")
@click.option("--branch", default=MAIN, show_default=True)
@click.pass_obj
def compact(shell: Shell, name: str, branch: str) -> None:
    """Write the files of a table anew, in full size; its version stays."""
    with shell.progress(f"Compacting {name}"):
        done = shell.ws.data.compact(get(shell, name, RepositoryKind.TABLE), actor=shell.ws.actor, branch=branch)
    text = f"{name} {done.commit[:12]}: {done.files_before} files, {done.size_before:,} bytes before; "
    shell.emit(asdict(done), f"{text}{done.files_after} files, {done.size_after:,} bytes after.")


def _pairs(parts: Sequence[str], between: str, form: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in parts:
        left, middle, right = part.partition(between)
        if not (left and middle and right):
            raise Invalid(f"{part!r} is not {form}.")
        found[left] = right
    return found
