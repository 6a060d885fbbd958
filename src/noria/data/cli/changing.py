"""Single paths of a repository of files, and open commits."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from noria.base.errors import Invalid
from noria.base.times import to_text
from noria.data import edits as e
from noria.data.cli.shared import by_path, get, plain, say_commit
from noria.data.records import MAIN, RepositoryKind
from noria.data.wire.history import draft_out
from noria.terminal import Shell, command

_FORCE = click.option("--force", is_flag=True, help="Also where something else has the new name already.")


def _options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("-m", "--message", default=""),
        click.option("--branch", default=MAIN, show_default=True),
        click.option("--draft", help="Write to this open commit instead; see `noria data start`."),
    ):
        function = option(function)
    return function


def _do(shell: Shell, name: str, edits: Sequence[e.Edit], message: str, branch: str, draft: str | None) -> None:
    repository, ws = get(shell, name, RepositoryKind.FILES), shell.ws
    if draft is None:
        before = ws.files.head(repository, branch)
        done = ws.files.change(repository, edits, actor=ws.actor, branch=branch, message=message)
        say_commit(shell, repository, done, before)
        return
    found = ws.files.edit(repository, draft, edits, actor=ws.actor)
    shell.emit(plain(draft_out(found)), f"{name}: written to the open commit {found.id[:12]} ({found.number} changes).")


@command("put")
@click.argument("name")
@click.argument("path")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--append", is_flag=True, help="Put the bytes at the end of what is there.")
@click.option("--meta", multiple=True, metavar="NAME=VALUE", help="Kept with the path; VALUE is JSON or text.")
@_options
@click.pass_obj
def put(
    shell: Shell,
    name: str,
    path: str,
    file: str,
    append: bool,
    meta: tuple[str, ...],
    message: str,
    branch: str,
    draft: str | None,
) -> None:
    """Commit one file, from FILE or from the standard input (-), without a folder."""
    source = sys.stdin.buffer if file == "-" else Path(file)
    about = dict(_pair(text) for text in meta)
    edits: list[e.Edit] = [e.Append(path, source)] if append else [e.Put(path, source, None, about or None)]
    if append and about:
        edits.append(e.Describe(path, about))
    _do(shell, name, edits, message, branch, draft)


def _pair(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise Invalid(f"{text!r} is not NAME=VALUE.", hint="--meta camera=left")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


@command("rm")
@click.argument("name")
@click.argument("paths", nargs=-1, required=True)
@_options
@click.pass_obj
def rm(shell: Shell, name: str, paths: tuple[str, ...], message: str, branch: str, draft: str | None) -> None:
    """Delete paths, folders or patterns like 'raw/*.tmp' in one commit."""
    _do(shell, name, [e.Delete(path) for path in paths], message, branch, draft)


@command("cp")
@click.argument("name")
@click.argument("path")
@click.argument("to")
@click.option("--ref", help="Take it from this commit, for instance to bring a deleted file back.")
@_FORCE
@_options
@click.pass_obj
def cp(
    shell: Shell,
    name: str,
    path: str,
    to: str,
    ref: str | None,
    force: bool,
    message: str,
    branch: str,
    draft: str | None,
) -> None:
    """Copy a path or folder inside a repository; no byte is moved."""
    _do(shell, name, [e.Copy(path, to, ref, force)], message, branch, draft)


@command("mv")
@click.argument("name")
@click.argument("path")
@click.argument("to")
@_FORCE
@_options
@click.pass_obj
def mv(shell: Shell, name: str, path: str, to: str, force: bool, message: str, branch: str, draft: str | None) -> None:
    """Rename a path or folder inside a repository; no byte is moved."""
    _do(shell, name, [e.Move(path, to, force)], message, branch, draft)


@command("start")
@click.argument("name")
@click.option("-m", "--message", default="")
@click.option("--branch", default=MAIN, show_default=True)
@click.pass_obj
def start(shell: Shell, name: str, message: str, branch: str) -> None:
    """Open a commit that many writers fill; it lands when it is finished."""
    ws = shell.ws
    made = ws.files.start(get(shell, name), actor=ws.actor, branch=branch, message=message)
    shell.emit(plain(draft_out(made)), f"{made.id}\nnoria data finish {name} {made.id[:12]}   lands it.")


@command("drafts")
@click.argument("name")
@click.pass_obj
def drafts(shell: Shell, name: str) -> None:
    """List the commits that are open."""
    found = shell.ws.files.drafts(get(shell, name))
    rows = [[d.id, d.branch, d.number, d.actor, to_text(d.created_at), d.message] for d in found]
    columns = ["id", "branch", "changes", "author", "since", "message"]
    shell.emit([plain(draft_out(d)) for d in found], lambda: shell.table(columns, rows, right=["changes"]))


@command("finish")
@click.argument("name")
@click.argument("draft")
@click.option("-m", "--message", default="")
@click.option("--strategy", type=click.Choice(["conflict", "ours", "theirs"]), default="conflict", show_default=True)
@click.pass_obj
@by_path
def finish(shell: Shell, name: str, draft: str, message: str, strategy: str, resolve: dict[str, str]) -> None:
    """Land an open commit; where the branch went on meanwhile, the two are merged."""
    repository, ws = get(shell, name), shell.ws
    verbs = ws.files if repository.kind == RepositoryKind.FILES else ws.data
    how = {"message": message, "strategy": strategy, "resolve": resolve}
    say_commit(shell, repository, verbs.finish(repository, draft, actor=ws.actor, **how))


@command("abandon")
@click.argument("name")
@click.argument("draft")
@click.pass_obj
def abandon(shell: Shell, name: str, draft: str) -> None:
    """Give an open commit up."""
    shell.ws.files.drop_draft(get(shell, name), draft, actor=shell.ws.actor)
    shell.emit({"draft": draft}, f"{name}: the open commit {draft[:12]} is dropped.")
