from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from noria.base.errors import Invalid
from noria.data.cli.shared import get, plain
from noria.data.collectors.files import read_rows
from noria.data.records import MAIN, RepositoryKind
from noria.data.values import plain as plain_value
from noria.data.wire.records import produced_out, records_out
from noria.terminal import Shell, command


@command("produce")
@click.argument("name")
@click.argument("path", type=click.Path(exists=True, dir_okay=False), metavar="FILE")
@click.option("--producer", required=True, help="A name for who sends; the file's batches are numbered under it.")
@click.option("--batch", default=1000, show_default=True, type=click.IntRange(1, 100_000), help="Records in a batch.")
@click.option("--branch", default=MAIN, show_default=True)
@click.pass_obj
def produce(shell: Shell, name: str, path: str, producer: str, batch: int, branch: str) -> None:
    """Append the records of a file in numbered batches, each exactly once.

    Interrupted and called again it goes on with the batch that is missing. The file and the size of a batch must stay
    as they were; another file needs another producer.
    """
    ws = shell.ws
    repository = get(shell, name, RepositoryKind.TABLE)
    rows = _rows(Path(path))
    batches = [rows[start : start + batch] for start in range(0, len(rows), batch)]
    done = {p.name: p.sequence for p in ws.data.producers(repository, branch)}.get(producer, 0)
    if done > len(batches):
        raise Invalid(
            f"{producer} has sent {done} batches already, and {path} holds {len(batches)}.",
            hint="Another file needs another --producer.",
        )
    sent: list[Any] = []
    with shell.progress(f"Writing to {name}", total=len(batches)) as advance:
        first = max(0, done - 1)  # the last one again: so another file or another size is noticed
        advance(first)
        for number in range(first, len(batches)):
            how = {"producer": producer, "sequence": number + 1, "branch": branch, "actor": ws.actor}
            sent.append(ws.data.produce(repository, batches[number], **how))
            advance(1)
    fresh = [plain(produced_out(p)) for p in sent if not p.repeated]
    value = {"name": name, "producer": producer, "sequence": len(batches), "batches": fresh}
    count = sum(p["rows"] for p in fresh)
    shell.emit(value, f"{name}: {count} records in {len(fresh)} batches." if fresh else f"{name}: nothing new.")


@command("records")
@click.argument("name")
@click.option("--from", "start", default="earliest", show_default=True, help="An offset, earliest or latest.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 10_000))
@click.option("--branch", default=MAIN, show_default=True)
@click.pass_obj
def records(shell: Shell, name: str, start: str, limit: int, branch: str) -> None:
    """Show what was written to a table, in order, with offsets."""
    page = shell.ws.data.records(get(shell, name, RepositoryKind.TABLE), start, limit=limit, branch=branch)
    shown = records_out(page)

    def human() -> None:
        columns = list(shown.records[0].value) if shown.records else []
        shell.table(["offset", *columns], [[r.offset, *r.value.values()] for r in shown.records])
        shell.say(f"next: {shown.next}")

    shell.emit(plain(shown), human)


def _rows(path: Path) -> list[dict[str, Any]]:
    """The records as JSON has them."""
    if path.name.lower().endswith((".jsonl", ".ndjson")):
        try:
            return msgspec.json.Decoder(dict[str, Any]).decode_lines(path.read_bytes())
        except msgspec.MsgspecError as error:
            raise Invalid(
                f"{path} is no file of JSON lines: {error!s:.200}.", hint='{"id": 1, ...} in each line'
            ) from None
    return [{n: plain_value(v) for n, v in row.items()} for row in read_rows(path).iter_rows(named=True)]
