from __future__ import annotations

import click

from noria.data.cli.shared import get, plain
from noria.data.records import RepositoryKind
from noria.data.wire import repository_out
from noria.terminal import Shell, command


@command("list")
@click.pass_obj
def list_(shell: Shell) -> None:
    """List the repositories."""
    found = shell.ws.data.repositories(shell.ws.project.id)
    rows = [[r.name, r.kind.value, ", ".join(r.key), r.time, r.contract] for r in found]
    shell.emit(
        [plain(repository_out(r)) for r in found],
        lambda: shell.table(["name", "kind", "key", "time", "contract"], rows, right=["contract"]),
    )


@command("create")
@click.argument("name")
@click.option("--files", "kind", flag_value="files", help="A folder of files.")
@click.option("--table", "kind", flag_value="table", default="table", help="A table of rows (default).")
@click.option("--key", multiple=True, help="Column that names a row; several times for several columns.")
@click.option("--time", help="Column of the event time.")
@click.option("--known", help="Column that says when a row could first be known. Default: when it is committed.")
@click.pass_obj
def create(shell: Shell, name: str, kind: str, key: tuple[str, ...], time: str | None, known: str | None) -> None:
    """Make a repository."""
    ws = shell.ws
    how = {"key": key, "time": time, "known": known}
    made = ws.data.create(ws.project.id, name, RepositoryKind(kind), actor=ws.actor, **how)
    shell.emit(plain(repository_out(made)), f"Made {made.name} ({made.kind.value}).")


@command("show")
@click.argument("name")
@click.pass_obj
def show(shell: Shell, name: str) -> None:
    """Show branches, columns and contract."""
    repository, ws = get(shell, name), shell.ws
    schema = ws.data.schema(repository) if repository.kind == RepositoryKind.TABLE else None
    columns = {} if schema is None else {c.name: c.type for c in schema.columns}
    branches = {b.name: b.head for b in ws.data.branches(repository)}

    def human() -> None:
        shell.say(f"{repository.name}: {repository.kind.value}, contract {repository.contract or 'none'}")
        shell.table(["branch", "head"], [[n, h and h[:12]] for n, h in branches.items()])
        if columns:
            shell.table(["column", "type"], columns.items())

    value = {"repository": plain(repository_out(repository)), "branches": branches, "columns": columns}
    shell.emit(value, human)
