from __future__ import annotations

import click

from noria.base.times import to_text
from noria.data.cli.shared import get, plain, say_rows_diff
from noria.data.records import MAIN, RepositoryKind
from noria.data.wire import commit_out, path_change_out
from noria.data.wire.tables import rows_diff_out
from noria.terminal import Shell, command


@command("log")
@click.argument("name")
@click.option("--ref", default=MAIN, show_default=True, help="Branch, tag, commit, main~2 or @2013-04-01.")
@click.option("--limit", default=20, show_default=True)
@click.pass_obj
def log(shell: Shell, name: str, ref: str, limit: int) -> None:
    """Show the history, newest first."""
    found = shell.ws.data.log(get(shell, name), ref, limit)
    rows = [
        [c.id[:12], to_text(c.at), c.author, c.stats.get("rows", c.stats.get("files")), c.stats["added"], c.message]
        for c in found
    ]
    columns = ["commit", "at", "author", "total", "added", "message"]
    shell.emit([plain(commit_out(c)) for c in found], lambda: shell.table(columns, rows, right=["total", "added"]))


@command("diff")
@click.argument("name")
@click.argument("before")
@click.argument("after", default=MAIN)
@click.pass_obj
def diff(shell: Shell, name: str, before: str, after: str) -> None:
    """Compare two commits: files, or rows with samples."""
    repository, ws = get(shell, name), shell.ws
    if repository.kind == RepositoryKind.FILES:
        found = ws.data.diff(repository, before, after)
        rows = [[c.kind, c.path, c.size_before, c.size_after] for c in found]
        value = [plain(path_change_out(c)) for c in found]
        shell.emit(value, lambda: shell.table(["", "path", "before", "after"], rows, right=["before", "after"]))
        return
    out = rows_diff_out(ws.data.compare_rows(repository, before, after))
    shell.emit(plain(out), lambda: say_rows_diff(shell, out))


@command("branch")
@click.argument("name")
@click.argument("branch")
@click.option("--at", default=MAIN, show_default=True)
@click.pass_obj
def branch(shell: Shell, name: str, branch: str, at: str) -> None:
    """Make a branch."""
    made = shell.ws.data.create_branch(get(shell, name), branch, at=at, actor=shell.ws.actor)
    shell.emit({"branch": made.name, "head": made.head}, f"{name}@{made.name} at {(made.head or '')[:12]}.")
