from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from noria.base.errors import Conflict, NotFound
from noria.base.times import to_text
from noria.data import contract_text
from noria.data.cli.shared import get, plain, say_commit, write_rows
from noria.data.collectors.files import read_rows
from noria.data.records import MAIN, QuarantineState, RepositoryKind
from noria.data.wire import quarantined_out
from noria.data.wire.contracts import contract_record_out
from noria.terminal import Shell, group
from noria.terminal.exits import REFUSED

contract = group("contract", "What a batch has to be before it may land.")
quarantine = group("quarantine", "Batches that a contract refused.")


@contract.command("show")
@click.argument("name")
@click.option("--number", type=int, help="An older one.")
@click.pass_obj
def contract_show(shell: Shell, name: str, number: int | None) -> None:
    """Show the contract in force, as TOML."""
    repository = get(shell, name)
    found = next((c for c in shell.ws.data.contract_history(repository) if _is(c, number)), None)
    if found is None and number is not None:
        raise NotFound(f"{name} has no contract {number}.", hint=f"noria data contract history {name}")
    text = "There is none." if found is None else _escaped(contract_text.write(name, found.spec))
    shell.emit(None if found is None else found.spec, text)


@contract.command("history")
@click.argument("name")
@click.pass_obj
def contract_history(shell: Shell, name: str) -> None:
    """List the contracts that a repository has had, newest first."""
    found = shell.ws.data.contract_history(get(shell, name))
    rows = [[c.number, "yes" if c.in_force else "", to_text(c.created_at), c.actor, c.digest[:19]] for c in found]
    columns = ["number", "in force", "at", "by", "digest"]
    shell.emit([plain(contract_record_out(c)) for c in found], lambda: shell.table(columns, rows, right=["number"]))


@contract.command("infer")
@click.argument("name")
@click.option("--ref", default=MAIN, show_default=True)
@click.option("-o", "--out", type=click.Path(dir_okay=False), help="Write it to this file, which must be new.")
@click.pass_obj
def contract_infer(shell: Shell, name: str, ref: str, out: str | None) -> None:
    """Write a contract that the data keeps, as a start for editing.

    What few rows do not support stands there as a comment: with the value that was seen, and why it is no rule.
    """
    found, seen = shell.ws.data.inferred(get(shell, name), ref)
    value = plain(found)
    if out is None:
        shell.emit(value, _escaped(contract_text.write(name, value, seen)))
        return
    text = json.dumps(value, indent=2) + "\n" if out.endswith(".json") else contract_text.write(name, value, seen)
    try:
        with Path(out).open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise Conflict(f"{out} is there already; it may hold your edits.", hint="Give another name.") from None
    shell.emit({"file": out}, f"Wrote {out}. Edit it, then: {_set(name, out)}")


@contract.command("check")
@click.argument("name")
@click.argument("rows", required=False, type=click.Path(exists=True, dir_okay=False))
@click.option("--ref", default=MAIN, show_default=True)
@click.option("--contract", "file", type=click.Path(exists=True, dir_okay=False), help="This one, not that in force.")
@click.pass_obj
def contract_check(shell: Shell, name: str, rows: str | None, ref: str, file: str | None) -> None:
    """Check a file of rows, or without one what is there, and commit nothing."""
    repository = get(shell, name)
    given = None if file is None else contract_text.read(Path(file).read_text(encoding="utf-8"), file)
    batch = None if rows is None else read_rows(Path(rows))
    count, found = shell.ws.data.check_contract(repository, batch, ref=ref, contract=given)

    def human() -> None:
        if not found:
            what = "files" if repository.kind == RepositoryKind.FILES and rows is None else "rows"
            shell.say(f"{count} {what} keep the contract.")
            return
        shell.table(["rule", "rows", "what"], [[f.rule, f.count, f.message] for f in found], right=["rows"])

    shell.emit({"rows": count, "findings": [plain(f) for f in found]}, human)
    if found:
        raise click.exceptions.Exit(REFUSED)


@contract.command("set")
@click.argument("name")
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("--strict", is_flag=True, help="Refuse it where main, as it stands, breaks it.")
@click.pass_obj
def contract_set(shell: Shell, name: str, file: str, strict: bool) -> None:
    """Put the contract in FILE (TOML or JSON) in force.

    What main holds is checked against it. What breaks it is shown, and stays; what comes has to keep it.
    """
    value = contract_text.read(Path(file).read_text(encoding="utf-8"), file)
    done = shell.ws.data.set_contract(get(shell, name), value, actor=shell.ws.actor, strict=strict)

    def human() -> None:
        shell.say(f"Contract {done.number} of {name} is in force.")
        if done.findings:
            rows = [[f["rule"], f["column"], f["count"], f["message"]] for f in done.findings]
            shell.table(["rule", "column", "rows", "what"], rows, right=["rows"])

    shell.emit({"contract": done.number, "commit": done.commit, "rows": done.rows, "findings": done.findings}, human)
    unknown = [f["column"] for f in done.findings if f["rule"].endswith(".known")]
    if unknown:
        columns = ", ".join(repr(column) for column in unknown)
        shell.warn(
            f"The contract does not know {columns}, which {name}@main has: batches with it will be refused.",
            f"Add {' and '.join(f'[columns.{column}]' for column in unknown)} to {file}, and set it again.",
        )
    if len(done.findings) > len(unknown):
        count = len(done.findings) - len(unknown)
        shell.warn(
            f"{name}@main as it stands breaks {count} of its rules. It stays; what comes has to keep them.",
            f"noria data contract check {name}   shows them again.",
        )


def _is(record: Any, number: int | None) -> bool:
    return record.in_force if number is None else record.number == number


def _set(name: str, file: str) -> str:
    return f"noria data contract set {name} {file}"


def _escaped(text: str) -> str:
    return text.rstrip("\n").replace("[", "\\[")


@quarantine.command("list")
@click.option("--all", "all_", is_flag=True, help="Also those that were accepted or dropped.")
@click.pass_obj
def quarantine_list(shell: Shell, all_: bool) -> None:
    """List refused batches."""
    found = shell.ws.data.quarantine(shell.ws.project.id)
    if not all_:
        found = [q for q in found if q.state == QuarantineState.OPEN]
    rows = [
        [q.id, q.repository, q.state.value, q.rows, q.source, to_text(q.created_at), q.report[0]["message"]]
        for q in found
    ]
    columns = ["id", "repository", "state", "rows", "source", "at", "first finding"]
    shell.emit([plain(quarantined_out(q)) for q in found], lambda: shell.table(columns, rows, right=["id", "rows"]))


@quarantine.command("show")
@click.argument("number", type=int)
@click.option("--out", type=click.Path(dir_okay=False), help="Write the rows to a new .parquet or .csv file.")
@click.pass_obj
def quarantine_show(shell: Shell, number: int, out: str | None) -> None:
    """Show the findings of a refused batch."""
    found, frame = shell.ws.data.quarantined(number)
    if out is not None:
        write_rows(frame, out, force=False)

    def human() -> None:
        where = found.repository if found.branch == MAIN else f"{found.repository}@{found.branch}"
        verdict = found.verdict or {}
        by = verdict.get("commit", "")[:12] or verdict.get("reason", "")
        shell.say(f"{found.rows} rows for {where} from {found.source or '?'}: {found.state.value} {by}".rstrip())
        shell.table(
            ["rule", "rows", "what"], [[f["rule"], f["count"], f["message"]] for f in found.report], right=["rows"]
        )
        if found.state == QuarantineState.OPEN:
            shell.say(
                f"noria data quarantine offer {number} \\[FILE]    noria data quarantine drop {number} --reason TEXT"
            )

    shell.emit(plain(quarantined_out(found)), human)


@quarantine.command("offer")
@click.argument("number", type=int)
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False))
@click.option("-m", "--message", default="")
@click.pass_obj
def quarantine_offer(shell: Shell, number: int, file: str | None, message: str) -> None:
    """Commit a refused batch again: as it was, or the mended rows in FILE."""
    rows = None if file is None else read_rows(Path(file))
    done = shell.ws.data.offer(number, rows, actor=shell.ws.actor, message=message)
    batch, _ = shell.ws.data.quarantined(number)
    say_commit(shell, get(shell, batch.repository), done)


@quarantine.command("drop")
@click.argument("number", type=int)
@click.option("--reason", required=True, help="Why it is not wanted; kept with the batch.")
@click.pass_obj
def quarantine_drop(shell: Shell, number: int, reason: str) -> None:
    """Say that a refused batch is not wanted."""
    found = shell.ws.data.drop_quarantined(number, reason, actor=shell.ws.actor)
    shell.emit(plain(quarantined_out(found)), f"The batch {number} is dropped.")
