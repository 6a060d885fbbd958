from __future__ import annotations

import json
from typing import Any

import click

from noria.base.times import to_text
from noria.data.cli.shared import get, plain
from noria.data.records import Repository, RepositoryKind
from noria.data.wire import commit_out, path_change_out, repository_out
from noria.terminal import Shell, command


@command("list")
@click.pass_obj
def list_(shell: Shell) -> None:
    """List the repositories."""
    found = shell.ws.files.repositories(shell.ws.project.id)
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
    made = ws.files.create(ws.project.id, name, RepositoryKind(kind), actor=ws.actor, **how)
    shell.emit(plain(repository_out(made)), f"Made {made.name} ({made.kind.value}).")


@command("show")
@click.argument("name")
@click.argument("ref", required=False)
@click.pass_obj
def show(shell: Shell, name: str, ref: str | None) -> None:
    """Show branches, columns and contract; with REF, one commit."""
    repository, ws = get(shell, name), shell.ws
    if ref is not None:
        _show_commit(shell, repository, ref)
        return
    head = ws.files.head(repository)
    layout = ws.data.layout(head) if head is not None and repository.kind == RepositoryKind.TABLE else None
    columns = {} if layout is None else {c.name: c.type for c in layout.schema.columns}
    rows = None if layout is None else layout.rows
    branches = {b.name: b.head for b in ws.files.branches(repository)}
    tags = ws.files.tags(repository)

    def human() -> None:
        facts: dict[str, Any] = {"repository": repository.name, "kind": repository.kind.value}
        if repository.kind == RepositoryKind.TABLE:
            facts |= {
                "key": ", ".join(repository.key) or "none",
                "time": repository.time or "none",
                "known since": repository.known or ("the commit" if repository.time else "none"),
                "rows": "no commit yet" if rows is None else rows,
            }
        else:
            facts["files"] = "no commit yet" if head is None else head.stats.get("files")
        facts["contract"] = "none" if repository.contract is None else repository.contract
        shell.table(["", ""], facts.items())
        shell.table(["branch", "head"], [[n, h and h[:12]] for n, h in branches.items()])
        if tags:
            shell.table(["tag", "commit"], [[n, c[:12]] for n, c in tags.items()])
        if columns:
            shell.table(["column", "type"], columns.items())

    value = {
        "repository": plain(repository_out(repository)),
        "branches": branches,
        "tags": tags,
        "columns": columns,
        "rows": rows,
    }
    shell.emit(value, human)


def _show_commit(shell: Shell, repository: Repository, ref: str) -> None:
    files = shell.ws.files
    commit = files.resolve(repository, ref)
    changes = files.changes_of(repository, commit) if repository.kind == RepositoryKind.FILES else []

    def human() -> None:
        facts = {
            "commit": commit.id,
            "version": str(commit.digest),
            "parents": ", ".join(p[:12] for p in commit.parents),
            "author": commit.author,
            "at": to_text(commit.at),
            "message": commit.message,
            "contract": commit.contract,
            "run": commit.run_id,
            **{f"{name}": value for name, value in commit.stats.items()},
            **{f"meta {name}": json.dumps(value) for name, value in commit.meta.items()},
        }
        shell.table(["", ""], [[n, v] for n, v in facts.items() if v not in (None, "")])
        if changes:
            rows = [[c.kind, c.path, c.size_before, c.size_after] for c in changes[:20]]
            shell.table(["", "path", "before", "after"], rows, right=["before", "after"])
        if len(changes) > 20:
            shell.say(f"and {len(changes) - 20} more; --json lists them all.")

    value = {"commit": plain(commit_out(commit)), "changes": [plain(path_change_out(c)) for c in changes]}
    shell.emit(value, human)
