from __future__ import annotations

from pathlib import Path

import click
from rich.markup import escape

from noria.base.errors import NoriaError
from noria.data.cli.shared import counted, get, plain, say_commit
from noria.data.records import MAIN, Repository, RepositoryKind
from noria.data.wire import path_change_out
from noria.terminal import Shell, command

_BRANCH = click.option("--branch", help="Default: the one that the folder was checked out at, else main.")


def _here(shell: Shell, name: str | None, folder: str | None) -> tuple[Repository, Path]:
    """What a command of a folder is about: what was named, or the checkout that the current folder lies in."""
    if name is not None and folder is not None:
        return get(shell, name, RepositoryKind.FILES), Path(folder)
    return shell.ws.files.checkout_at(shell.ws.project.id, Path.cwd(), name)


@command("commit")
@click.argument("name", required=False)
@click.argument("path", type=click.Path(exists=True), required=False)
@click.option("-m", "--message", default="")
@_BRANCH
@click.option("--key", "idempotency_key", help="Idempotency key: a second call with it changes nothing.")
@click.option("--paths", multiple=True, metavar="PATH", help="Only this file or folder of the folder; repeatable.")
@click.option("--snapshot", is_flag=True, help="Make the branch equal to the folder, whatever others committed.")
@click.pass_obj
def commit(
    shell: Shell,
    name: str | None,
    path: str | None,
    message: str,
    branch: str | None,
    idempotency_key: str | None,
    paths: tuple[str, ...],
    snapshot: bool,
) -> None:
    """Commit a folder (repository of files) or a table file (CSV, Parquet, JSON lines).

    The repository is made if it is new: of files for a folder, a table for a file. Without PATH it is the checkout that
    the current folder lies in.
    """
    ws = shell.ws
    if name is None or path is None:
        repository, place = _here(shell, name, path)
        name = repository.name
    else:
        repository, place = ws.files.find(ws.project.id, name), Path(path)
    kind = RepositoryKind.FILES if place.is_dir() else RepositoryKind.TABLE
    rows = None
    if kind == RepositoryKind.TABLE:
        from noria.data.collectors.files import read_rows  # Polars: only where a table is read

        rows = read_rows(place)  # first: what cannot be read makes no repository
    new = repository is None
    if repository is None:
        repository = ws.files.create(ws.project.id, name, kind, actor=ws.actor)
    branch = branch or (ws.files.branch_at(repository, place) if kind == RepositoryKind.FILES else MAIN)
    try:
        before = ws.files.head(repository, branch)
        common = {"actor": ws.actor, "branch": branch, "message": message, "key": idempotency_key}
        with shell.progress(f"Committing {name}") as advance:
            if kind == RepositoryKind.FILES:
                done = ws.files.commit(
                    repository,
                    place,
                    paths=paths or None,
                    advance=advance,
                    warn=shell.warn,
                    snapshot=snapshot,
                    **common,
                )
            else:
                done = ws.data.append(repository, rows, source=str(place), **common)
    except NoriaError:
        if new:
            ws.data.delete_empty(repository, actor=ws.actor)
        raise
    say_commit(shell, repository, done, before)


@command("status")
@click.argument("name", required=False)
@click.argument("folder", type=click.Path(exists=True, file_okay=False), required=False)
@_BRANCH
@click.option("--paths", multiple=True, metavar="PATH", help="Only this file or folder of the folder; repeatable.")
@click.pass_obj
def status(shell: Shell, name: str | None, folder: str | None, branch: str | None, paths: tuple[str, ...]) -> None:
    """Show how a folder differs from the head.

    Without FOLDER it is the checkout that the current folder lies in.
    """
    repository, place = _here(shell, name, folder)
    branch = branch or shell.ws.files.branch_at(repository, place)
    found = shell.ws.files.status(repository, place, branch, paths=paths or None)
    changes = [plain(path_change_out(c)) for c in found.changes]
    value = {
        "commit": found.commit,
        "changes": changes,
        "behind": found.behind,
        "branch": branch,
        "left": found.left,
        "repository": repository.name,
        "folder": str(place),
    }

    def human() -> None:
        if folder is None:
            shell.say(escape(f"{repository.name}@{branch} in {place}:"))
        if found.changes:
            rows = [[c.kind, c.path, c.size_after] for c in found.changes]
            shell.table(["", "path", "bytes"], rows, right=["bytes"])
        else:
            shell.say("Nothing changed.")
        if found.left:
            shell.say(
                f"{repository.name}@{branch} was moved away from the commit that this folder came from: "
                "noria data checkout   makes the folder what the branch is now."
            )
        elif found.behind:
            differ = f"{counted(found.behind, 'path')} {'differs' if found.behind == 1 else 'differ'}"
            shell.say(f"{repository.name}@{branch} went on: {differ} there. A commit merges them.")

    shell.emit(value, human)


@command("checkout")
@click.argument("name", required=False)
@click.argument("folder", type=click.Path(file_okay=False), required=False)
@click.option("--ref", help="Default: the branch that the folder was checked out at, else main.")
@click.option("--only", metavar="PATTERN", help="Only paths that fit, like 'train/*'; the others stay as they are.")
@click.option("--force", is_flag=True, help="Overwrite changes that were never committed.")
@click.pass_obj
def checkout(
    shell: Shell, name: str | None, folder: str | None, ref: str | None, only: str | None, force: bool
) -> None:
    """Make a folder equal to a commit, writing only what differs.

    Without FOLDER it is the checkout that the current folder lies in.
    """
    with shell.progress("Checking out") as advance:
        repository, place = _here(shell, name, folder)
        ref = ref or shell.ws.files.branch_at(repository, place)
        count = shell.ws.files.checkout(repository, place, ref, pattern=only, force=force, advance=advance)
    place = place.resolve()
    shell.emit(
        {"paths": count, "folder": str(place)}, escape(f"{counted(count, 'path')} written or removed in {place}.")
    )
    if only is not None and not count and not any(True for _ in shell.ws.files.files(repository, ref, only)):
        shell.warn(f"Nothing in {repository.name}@{ref} fits {only!r}.", f"noria data ls {repository.name} --ref {ref}")
