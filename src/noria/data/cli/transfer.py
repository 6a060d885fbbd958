from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from noria.base.errors import Invalid
from noria.data.cli.shared import counted, get, plain
from noria.data.records import MAIN, Imported, Transferred
from noria.data.wire.transfer import imported_out, remote_out, transferred_out
from noria.terminal import LazyGroup, Shell, command

_HERE = "noria.data.cli.transfer"
_BRANCH = click.option("--branch", "branches", multiple=True, help="Only this branch; several times for several.")


@command("clone")
@click.argument("url")
@click.argument("name")
@click.argument("as_name", metavar="[AS]", required=False)
@click.option("--partial", is_flag=True, help="History now; contents of files and rows of tables when they are read.")
@click.pass_obj
def clone(shell: Shell, url: str, name: str, as_name: str | None, partial: bool) -> None:
    """Make a repository from one of another workspace, with its whole history.

    URL is a folder or postgresql://; #PROJECT at its end names a project there.
    """
    ws = shell.ws
    with shell.progress(f"Cloning {name}") as advance:
        done = ws.transfer.clone(url, name, actor=ws.actor, into=as_name, partial=partial, advance=advance)
    _say(shell, done)


@command("push")
@click.argument("name")
@click.argument("remote", default="origin")
@_BRANCH
@click.option(
    "--force-with-lease", is_flag=True, help="Move a branch there even back, if it is where it was seen last."
)
@click.option("--force", is_flag=True, hidden=True)
@click.pass_obj
def push(shell: Shell, name: str, remote: str, branches: tuple[str, ...], force_with_lease: bool, force: bool) -> None:
    """Send what is new here to another workspace."""
    if force:
        raise Invalid(
            "A push does not force: what others pushed meanwhile would be lost.",
            hint=f"noria data push {name} {remote} --force-with-lease   if it is as it was seen last.",
        )
    ws, repository = shell.ws, get(shell, name)
    with shell.progress(f"Pushing {name}") as advance:
        how = {"branches": branches, "force_with_lease": force_with_lease}
        done = ws.transfer.push(repository, remote, actor=ws.actor, advance=advance, **how)
    _say(shell, done)


@command("pull")
@click.argument("name")
@click.argument("remote", default="origin")
@_BRANCH
@click.option("--merge", is_flag=True, help="Merge branches that went on here and there.")
@click.option("--strategy", default="conflict", show_default=True, help="With --merge: conflict, ours or theirs.")
@click.pass_obj
def pull(shell: Shell, name: str, remote: str, branches: tuple[str, ...], merge: bool, strategy: str) -> None:
    """Bring what is new in another workspace, and move the branches here."""
    ws, repository = shell.ws, get(shell, name)
    with shell.progress(f"Pulling {name}") as advance:
        how = {"actor": ws.actor, "branches": branches, "advance": advance}
        if merge:
            done = ws.transfer.pull_merged(repository, remote, strategy=strategy, **how)
        else:
            done = ws.transfer.pull(repository, remote, **how)
    _say(shell, done)


@command("fetch")
@click.argument("name")
@click.argument("remote", default="origin")
@_BRANCH
@click.option("--path", "pattern", help="Of a partial clone: bring the contents of files that fit, instead of commits.")
@click.option("--ref", default=MAIN, show_default=True, help="With --path: of which commit.")
@click.pass_obj
def fetch(shell: Shell, name: str, remote: str, branches: tuple[str, ...], pattern: str | None, ref: str) -> None:
    """Bring what is new in another workspace; branches here stay where they are."""
    ws, repository = shell.ws, get(shell, name)
    with shell.progress(f"Fetching {name}") as advance:
        if pattern is not None:
            done = ws.transfer.fill(repository, pattern, ref=ref, advance=advance)
        else:
            how = {"branches": branches, "heads": False}
            done = ws.transfer.pull(repository, remote, actor=ws.actor, advance=advance, **how)
    _say(shell, done)


@command("add")
@click.argument("name")
@click.argument("remote")
@click.argument("url")
@click.option("--repository", "there", help="The repository's name there, where it is another one.")
@click.pass_obj
def add(shell: Shell, name: str, remote: str, url: str, there: str | None) -> None:
    """Remember another workspace. A password in its URL is not kept: set PGPASSWORD."""
    made = shell.ws.transfer.add_remote(get(shell, name), remote, url, actor=shell.ws.actor, there=there)
    shell.emit(plain(remote_out(made)), f"{name}: {made.name} is {remote_out(made).url}.")


@command("list")
@click.argument("name")
@click.pass_obj
def list_(shell: Shell, name: str) -> None:
    """List the other workspaces that a repository knows."""
    found = [remote_out(r) for r in shell.ws.transfer.remotes(get(shell, name))]
    rows = [[r.name, r.url, r.project, r.repository, "partial" if r.partial else ""] for r in found]
    shell.emit([plain(r) for r in found], lambda: shell.table(["name", "place", "project", "repository", ""], rows))


@command("remove")
@click.argument("name")
@click.argument("remote")
@click.pass_obj
def remove(shell: Shell, name: str, remote: str) -> None:
    """Forget another workspace. Nothing is removed there."""
    shell.ws.transfer.remove_remote(get(shell, name), remote, actor=shell.ws.actor)
    shell.emit({"removed": remote}, f"{name} has no remote {remote} any more.")


remote = LazyGroup(
    "remote",
    lazy={
        "add": (f"{_HERE}:add", "Remember another workspace. A password in its URL is not kept: set PGPASSWORD."),
        "list": (f"{_HERE}:list_", "List the other workspaces that a repository knows."),
        "remove": (f"{_HERE}:remove", "Forget another workspace. Nothing is removed there."),
    },
    help="Other workspaces that hold the same repository.",
)


@command("dvc")
@click.argument("path", type=click.Path(exists=True, file_okay=False))
@click.argument("name", required=False)
@click.option("--target", "targets", multiple=True, help="Only this output (a folder or file in the project).")
@click.option("--single", is_flag=True, help="One repository for all outputs, with paths as in the project.")
@click.option("--branch", "branches", multiple=True, help="This branch of git; several times for several.")
@click.option("--all", "everything", is_flag=True, help="All branches and tags of git.")
@click.option("--skip-missing", is_flag=True, help="Go on without contents that are missing or damaged.")
@click.pass_obj
def dvc(shell: Shell, path: str, name: str | None, **how: Any) -> None:
    """Take over a DVC repository with the history of what it tracks.

    PATH holds .dvc; git and DVC's cache are read, and nothing there is changed. Each output becomes a repository of
    files. Repeated, it takes only what is new.
    """
    ws = shell.ws
    with shell.progress("Importing") as advance:
        done = ws.transfer.import_dvc(Path(path), name, actor=ws.actor, advance=advance, **how)
    _say_imported(shell, done)


def _say_imported(shell: Shell, done: Imported) -> None:
    def human() -> None:
        rows = [[r.name, r.path, r.commits, ", ".join(r.branches), ", ".join(r.tags)] for r in done.repositories]
        shell.table(["repository", "output", "commits", "branches", "tags"], rows, right=["commits"])
        shell.say(
            f"{counted(done.seen, 'commit')} of git, {counted(done.files, 'content')} read "
            f"({done.read} bytes), {done.written} new."
        )
        for repository in done.repositories:
            for branch in repository.kept:
                shell.warn(
                    f"{repository.name}@{branch} went on here and was left where it is.",
                    "The imported commits are there: name them by id.",
                )
        for one in done.left[:20]:
            shell.warn(f"Left out, of commit {one.commit[:12]}: {one.path}: {one.why}.")
        for one in done.lost[:50]:
            shell.warn(f"Not taken: {one.path} of commit {one.commit[:12]} {one.why}.")
        if len(done.lost) > 50:
            shell.warn(f"And {len(done.lost) - 50} more: --json lists all.")

    shell.emit(plain(imported_out(done)), human)


import_ = LazyGroup(
    "import",
    lazy={"dvc": (f"{_HERE}:dvc", "Take over a DVC repository with the history of what it tracks.")},
    help="Take over the data of another tool.",
)


def _say(shell: Shell, done: Transferred) -> None:
    def human() -> None:
        if not (done.commits or done.moved or done.tags or done.objects):
            shell.say(f"{done.repository}: nothing new.")
        else:
            size = f"{done.objects} objects ({done.written} bytes new, {done.reused} reused)"
            shell.say(f"{done.repository}: {counted(done.commits, 'commit')}, {size}.")
        moved = [[m.branch, (m.before or "new")[:12], m.after[:12]] for m in done.moved]
        if moved:
            shell.table(["branch", "before", "now"], moved)
        for tag in done.tags_kept:
            shell.warn(f"The tag {tag} names another commit there, and stays as it is.")

    shell.emit(plain(transferred_out(done)), human)
