from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import click
import msgspec

from noria.base.errors import Invalid
from noria.base.times import to_text
from noria.data.collectors.files import read_rows
from noria.data.records import MAIN, Repository, RepositoryKind
from noria.data.wire import (
    commit_out,
    path_change_out,
    quarantined_out,
    repository_out,
    rows_out,
)
from noria.terminal import NoriaGroup, Shell, group

data = group("data", "Versioned data: commit, log, status, diff, checkout, contracts.")
contract = NoriaGroup("contract", help="What a batch has to be before it may land.")
quarantine = NoriaGroup("quarantine", help="Batches that a contract refused.")
data.add_command(contract)
data.add_command(quarantine)


def _get(shell: Shell, name: str, kind: RepositoryKind | None = None) -> Repository:
    return shell.ws.data.get(shell.ws.project.id, name, kind)


def _plain(value: Any) -> Any:
    return msgspec.to_builtins(value)


@data.command("list")
@click.pass_obj
def list_(shell: Shell) -> None:
    """List the repositories."""
    found = shell.ws.data.repositories(shell.ws.project.id)
    rows = [[r.name, r.kind.value, ", ".join(r.key), r.time, r.contract] for r in found]
    shell.emit(
        [_plain(repository_out(r)) for r in found],
        lambda: shell.table(["name", "kind", "key", "time", "contract"], rows, right=["contract"]),
    )


@data.command()
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
    shell.emit(_plain(repository_out(made)), f"Made {made.name} ({made.kind.value}).")


@data.command()
@click.argument("name")
@click.argument("path", type=click.Path(exists=True))
@click.option("-m", "--message", default="")
@click.option("--branch", default=MAIN, show_default=True)
@click.option("--key", "idempotency_key", help="Idempotency key: a second call with it changes nothing.")
@click.pass_obj
def commit(shell: Shell, name: str, path: str, message: str, branch: str, idempotency_key: str | None) -> None:
    """Commit a folder (repository of files) or a table file (CSV, Parquet, JSON lines).

    The repository is made if it is new: of files for a folder, a table for a file.
    """
    ws, place = shell.ws, Path(path)
    kind = RepositoryKind.FILES if place.is_dir() else RepositoryKind.TABLE
    repository = ws.data.find(ws.project.id, name)
    if repository is None:
        repository = ws.data.create(ws.project.id, name, kind, actor=ws.actor)
    common = {"actor": ws.actor, "branch": branch, "message": message, "key": idempotency_key}
    with shell.progress(f"Committing {name}") as advance:
        if kind == RepositoryKind.FILES:
            done = ws.data.commit(repository, place, advance=advance, **common)
        else:
            done = ws.data.append(repository, read_rows(place), source=str(place), **common)
    _say_commit(shell, repository, done)


@data.command()
@click.argument("name")
@click.argument("path", type=click.Path(exists=True, dir_okay=False))
@click.option("--mode", type=click.Choice(["append", "overwrite", "delete"]), default="append", show_default=True)
@click.option("-m", "--message", default="")
@click.option("--branch", default=MAIN, show_default=True)
@click.pass_obj
def append(shell: Shell, name: str, path: str, mode: str, message: str, branch: str) -> None:
    """Append, overwrite or delete rows of a table from a file."""
    ws = shell.ws
    repository = _get(shell, name, RepositoryKind.TABLE)
    with shell.progress(f"Writing to {name}"):
        done = ws.data.append(
            repository, read_rows(Path(path)), actor=ws.actor, mode=mode, message=message, branch=branch, source=path
        )
    _say_commit(shell, repository, done)


@data.command()
@click.argument("name")
@click.pass_obj
def collect(shell: Shell, name: str) -> None:
    """Read what is new in a source of the project, and commit it. `noria run` does it by itself.

    Each file, row or document is taken once; a command that was interrupted goes on where it stopped. A batch that the
    contract refuses is set aside, and the rest is taken.
    """
    ws = shell.ws
    with shell.own_output(), shell.progress(f"Collecting {name}"):
        done = ws.pipelines.collect(name, actor=ws.actor)
    if done.refused and not done.commits:
        raise done.refused[0]
    refused = [error.as_dict()["error"] for error in done.refused]
    value = {"name": name, "rows": done.rows, "run": done.run_id, "refused": refused}
    batches = f"{done.rows} rows in {len(done.commits)} commits"
    text = (
        f"{name}: {batches if done.rows else f'{len(done.commits)} commits'}."
        if done.commits
        else f"{name}: nothing new."
    )
    shell.emit({**value, "commits": [_plain(commit_out(c)) for c in done.commits]}, text)
    for error in refused:
        shell.warn(f"The batch {error['details']['source']} was set aside: {error['message']}", error["hint"])


def _say_commit(shell: Shell, repository: Repository, done: Any) -> None:
    parts = [f"{count} {what}" for what, count in done.stats.items() if count and what != "stored"]
    shell.emit(_plain(commit_out(done)), f"{repository.name} {done.id[:12]}: {', '.join(parts) or 'nothing new'}.")


@data.command()
@click.argument("name")
@click.option("--ref", default=MAIN, show_default=True, help="Branch, tag, commit, main~2 or @2013-04-01.")
@click.option("--limit", default=20, show_default=True)
@click.pass_obj
def log(shell: Shell, name: str, ref: str, limit: int) -> None:
    """Show the history, newest first."""
    found = shell.ws.data.log(_get(shell, name), ref, limit)
    rows = [
        [c.id[:12], to_text(c.at), c.author, c.stats.get("rows", c.stats.get("files")), c.stats["added"], c.message]
        for c in found
    ]
    columns = ["commit", "at", "author", "total", "added", "message"]
    shell.emit([_plain(commit_out(c)) for c in found], lambda: shell.table(columns, rows, right=["total", "added"]))


@data.command()
@click.argument("name")
@click.pass_obj
def show(shell: Shell, name: str) -> None:
    """Show branches, columns and contract."""
    repository, ws = _get(shell, name), shell.ws
    schema = ws.data.schema(repository) if repository.kind == RepositoryKind.TABLE else None
    columns = {} if schema is None else {c.name: c.type for c in schema.columns}
    branches = {b.name: b.head for b in ws.data.branches(repository)}

    def human() -> None:
        shell.say(f"{repository.name}: {repository.kind.value}, contract {repository.contract or 'none'}")
        shell.table(["branch", "head"], [[n, h and h[:12]] for n, h in branches.items()])
        if columns:
            shell.table(["column", "type"], columns.items())

    value = {"repository": _plain(repository_out(repository)), "branches": branches, "columns": columns}
    shell.emit(value, human)


@data.command()
@click.argument("name")
@click.option("--ref", default=MAIN, show_default=True)
@click.option("--limit", default=10, show_default=True)
@click.option("--out", type=click.Path(dir_okay=False), help="Write all rows to a .parquet or .csv file.")
@click.pass_obj
def read(shell: Shell, name: str, ref: str, limit: int, out: str | None) -> None:
    """Show rows of a table, or write them to a file."""
    if out is not None and not out.endswith((".csv", ".parquet")):
        raise Invalid(f"{out} ends neither with .parquet nor with .csv.", hint="--out rows.parquet")
    with shell.progress(f"Reading {name}"):
        frame = shell.ws.data.read(_get(shell, name, RepositoryKind.TABLE), ref)
        if out is not None:
            frame.write_csv(out) if out.endswith(".csv") else frame.write_parquet(out)
    if out is not None:
        shell.emit({"rows": len(frame), "file": out}, f"{len(frame)} rows written to {out}.")
        return
    shown = rows_out(frame.head(limit))
    shell.emit(shown, lambda: shell.table(frame.columns, [list(r.values()) for r in shown]))


@data.command()
@click.argument("name")
@click.argument("folder", type=click.Path(exists=True, file_okay=False))
@click.option("--branch", default=MAIN, show_default=True)
@click.pass_obj
def status(shell: Shell, name: str, folder: str, branch: str) -> None:
    """Show how a folder differs from the head."""
    found = shell.ws.data.status(_get(shell, name, RepositoryKind.FILES), Path(folder), branch)
    value = {"commit": found.commit, "changes": [_plain(path_change_out(c)) for c in found.changes]}

    def human() -> None:
        if not found.changes:
            shell.say("Nothing changed.")
            return
        shell.table(["", "path", "bytes"], [[c.kind, c.path, c.size_after] for c in found.changes], right=["bytes"])

    shell.emit(value, human)


@data.command()
@click.argument("name")
@click.argument("before")
@click.argument("after", default=MAIN)
@click.pass_obj
def diff(shell: Shell, name: str, before: str, after: str) -> None:
    """Compare two commits: files, or rows with samples."""
    repository, ws = _get(shell, name), shell.ws
    if repository.kind == RepositoryKind.FILES:
        found = ws.data.diff(repository, before, after)
        rows = [[c.kind, c.path, c.size_before, c.size_after] for c in found]
        value = [_plain(path_change_out(c)) for c in found]
        shell.emit(value, lambda: shell.table(["", "path", "before", "after"], rows, right=["before", "after"]))
        return
    parts = dict(zip(("added", "removed", "changed"), ws.data.diff_rows(repository, before, after), strict=True))

    def human() -> None:
        for kind, frame in parts.items():
            shell.say(f"{len(frame)} {kind}")
            if len(frame):
                shell.table(frame.columns, [list(r.values()) for r in rows_out(frame.head(5))])

    samples = {kind: rows_out(frame.head(5)) for kind, frame in parts.items()}
    shell.emit({**{kind: len(frame) for kind, frame in parts.items()}, "samples": samples}, human)


@data.command()
@click.argument("name")
@click.argument("folder", type=click.Path(file_okay=False))
@click.option("--ref", default=MAIN, show_default=True)
@click.pass_obj
def checkout(shell: Shell, name: str, folder: str, ref: str) -> None:
    """Make a folder equal to a commit, writing only what differs."""
    with shell.progress("Checking out") as advance:
        repository = _get(shell, name, RepositoryKind.FILES)
        count = shell.ws.data.checkout(repository, Path(folder), ref, advance=advance)
    shell.emit({"paths": count, "folder": folder}, f"{count} paths written or removed in {folder}.")


@data.command()
@click.argument("name")
@click.argument("branch")
@click.option("--at", default=MAIN, show_default=True)
@click.pass_obj
def branch(shell: Shell, name: str, branch: str, at: str) -> None:
    """Make a branch."""
    made = shell.ws.data.create_branch(_get(shell, name), branch, at=at, actor=shell.ws.actor)
    shell.emit({"branch": made.name, "head": made.head}, f"{name}@{made.name} at {(made.head or '')[:12]}.")


@contract.command("show")
@click.argument("name")
@click.pass_obj
def contract_show(shell: Shell, name: str) -> None:
    """Show the contract in force, as JSON."""
    found = shell.ws.data.contract(_get(shell, name))
    value = None if found is None else _plain(found)
    shell.emit(value, json.dumps(value, indent=2).replace("[", "\\["))


@contract.command("infer")
@click.argument("name")
@click.option("--ref", default=MAIN, show_default=True)
@click.pass_obj
def contract_infer(shell: Shell, name: str, ref: str) -> None:
    """Write a contract that the data keeps, as a start for editing."""
    value = _plain(shell.ws.data.infer_contract(_get(shell, name), ref))
    shell.emit(value, json.dumps(value, indent=2).replace("[", "\\["))


@contract.command("set")
@click.argument("name")
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.pass_obj
def contract_set(shell: Shell, name: str, file: str) -> None:
    """Put the contract in FILE (TOML or JSON) in force."""
    text = Path(file).read_text(encoding="utf-8")
    try:
        value = json.loads(text) if file.endswith(".json") else tomllib.loads(text)
    except ValueError as error:
        raise Invalid(f"{file} cannot be read: {error}.", hint="TOML, or JSON in a file that ends with .json") from None
    number = shell.ws.data.set_contract(_get(shell, name), value, actor=shell.ws.actor)
    shell.emit({"contract": number}, f"Contract {number} of {name} is in force.")


@quarantine.command("list")
@click.pass_obj
def quarantine_list(shell: Shell) -> None:
    """List refused batches."""
    found = shell.ws.data.quarantine(shell.ws.project.id)
    rows = [[q.id, q.repository, q.rows, q.source, to_text(q.created_at), q.report[0]["message"]] for q in found]
    columns = ["id", "repository", "rows", "source", "at", "first finding"]
    shell.emit([_plain(quarantined_out(q)) for q in found], lambda: shell.table(columns, rows, right=["id", "rows"]))


@quarantine.command("show")
@click.argument("number", type=int)
@click.option("--out", type=click.Path(dir_okay=False), help="Write the rows to a .parquet file.")
@click.pass_obj
def quarantine_show(shell: Shell, number: int, out: str | None) -> None:
    """Show the findings of a refused batch."""
    found, frame = shell.ws.data.quarantined(number)
    if out is not None:
        frame.write_parquet(out)

    def human() -> None:
        shell.say(f"{found.rows} rows for {found.repository} from {found.source or '?'}")
        shell.table(
            ["rule", "rows", "what"], [[f["rule"], f["count"], f["message"]] for f in found.report], right=["rows"]
        )

    shell.emit(_plain(quarantined_out(found)), human)
