from __future__ import annotations

import json
import tomllib
from pathlib import Path

import click

from noria.base.errors import Invalid
from noria.base.times import to_text
from noria.data.cli.shared import get, plain
from noria.data.records import MAIN
from noria.data.wire import quarantined_out
from noria.terminal import Shell, group

contract = group("contract", "What a batch has to be before it may land.")
quarantine = group("quarantine", "Batches that a contract refused.")


@contract.command("show")
@click.argument("name")
@click.pass_obj
def contract_show(shell: Shell, name: str) -> None:
    """Show the contract in force, as JSON."""
    found = shell.ws.data.contract(get(shell, name))
    value = None if found is None else plain(found)
    shell.emit(value, json.dumps(value, indent=2).replace("[", "\\["))


@contract.command("infer")
@click.argument("name")
@click.option("--ref", default=MAIN, show_default=True)
@click.pass_obj
def contract_infer(shell: Shell, name: str, ref: str) -> None:
    """Write a contract that the data keeps, as a start for editing."""
    value = plain(shell.ws.data.infer_contract(get(shell, name), ref))
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
    number = shell.ws.data.set_contract(get(shell, name), value, actor=shell.ws.actor)
    shell.emit({"contract": number}, f"Contract {number} of {name} is in force.")


@quarantine.command("list")
@click.pass_obj
def quarantine_list(shell: Shell) -> None:
    """List refused batches."""
    found = shell.ws.data.quarantine(shell.ws.project.id)
    rows = [[q.id, q.repository, q.rows, q.source, to_text(q.created_at), q.report[0]["message"]] for q in found]
    columns = ["id", "repository", "rows", "source", "at", "first finding"]
    shell.emit([plain(quarantined_out(q)) for q in found], lambda: shell.table(columns, rows, right=["id", "rows"]))


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

    shell.emit(plain(quarantined_out(found)), human)
