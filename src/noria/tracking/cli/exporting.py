from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import click

from noria.base.errors import Invalid
from noria.terminal import Shell, command
from noria.tracking.exporting import ATTRIBUTES, HISTORY, Sheet, form_of, sheet
from noria.tracking.service.listing import TOLD, columns_of
from noria.tracking.wire import runs as w


@command("export")
@click.argument("target", metavar="FILE")
@click.option("--form", type=click.Choice(["csv", "jsonl", "parquet"]), help="Default: by the end of the name.")
@click.option("--experiment", "experiments", multiple=True, help="Only runs of this experiment; several times.")
@click.option("--under", metavar="FOLDER", help="Only runs of the experiments in this folder.")
@click.option("--filter", "text", help='For instance: metrics.log_loss < 0.5 and params.C = "10"')
@click.option("--columns", metavar="A,B", help="Only these besides the run's own: metrics.loss,params.lr")
@click.option("--deleted", is_flag=True, help="Only what is in the bin.")
@click.option("--history", is_flag=True, help="Every point of the metrics, one row each, instead of one row a run.")
@click.option("--key", "keys", multiple=True, help="With --history: only this metric; several times.")
@click.pass_obj
def export(
    shell: Shell,
    target: str,
    form: str | None,
    experiments: tuple[str, ...],
    under: str | None,
    text: str | None,
    columns: str | None,
    deleted: bool,
    history: bool,
    keys: tuple[str, ...],
) -> None:
    """Write runs with all they said to FILE: csv, JSON lines or Parquet. With - to the standard output."""
    ws, tracking = shell.ws, shell.ws.tracking
    chosen: dict[str, Any] = {"experiments": experiments, "under": under, "deleted": deleted}
    if keys and not history:
        raise click.UsageError("--key chooses metrics of --history; columns are chosen by --columns.")
    if target == "-" and shell.json:
        raise click.UsageError("--json answers with a count, which does not go beside the rows.")
    if not (experiments or under or text):
        chosen["kinds"] = TOLD
    kind = form_of(target, form)
    with shell.progress("Looking"):
        names, runs, only = _columns(ws, text or "", chosen, columns, history)
    numbers = ["value"] if history else [name for name in names if name.startswith("metrics.")]
    pages = (
        tracking.export_history(ws.project.id, keys, text or "", **chosen)
        if history
        else tracking.export_rows(ws.project.id, names, text or "", columns=only, **chosen)
    )
    with shell.progress("Writing", total=runs or None) as advance, _file(target) as file:
        rows = _write(sheet(file, kind, names, numbers), pages, advance)
    if target != "-":
        shell.emit({"file": target, "rows": rows}, f"{rows:,} rows written to {target}.")


def _columns(
    ws: Any, text: str, chosen: dict[str, Any], columns: str | None, history: bool
) -> tuple[list[str], int, list[str] | None]:
    """Names of the columns, how many runs there are (0: not counted), and what to read of each."""
    if columns is not None:
        only = w.split(columns)
        return [*ATTRIBUTES, *(name for name in _named(only) if name not in ATTRIBUTES)], 0, only
    found, runs = ws.tracking.export_columns(ws.project.id, text, **chosen)
    return (list(HISTORY) if history else found), runs, None


@contextmanager
def _file(target: str) -> Iterator[Path | IO[str]]:
    """The file under another name until it is whole; or the standard output."""
    if target == "-":
        yield sys.stdout
        return
    part = Path(f"{target}.part-{os.getpid()}")
    try:
        yield part
        part.replace(target)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EACCES, errno.ENOTDIR, errno.EISDIR):
            raise
        raise Invalid(f"{target!r:.200} cannot be written: {error.strerror}.", hint="Name another file.") from None
    finally:
        part.unlink(missing_ok=True)


def _write(made: Sheet, pages: Iterator[tuple[list[list[Any]], int]], advance: Callable[..., None]) -> int:
    rows = 0
    try:
        for some, done in pages:
            if some:
                made.write(some)
            rows += len(some)
            advance(done)
    finally:
        made.close()
    return rows


def _named(texts: list[str]) -> list[str]:
    """Columns by the names that they have in the file."""
    parts = {"metric": "metrics", "param": "params", "tag": "tags"}
    own = {"start_time": "started_at", "end_time": "ended_at", "status": "state"}
    return [
        f"{parts[one.kind]}.{one.key}" if one.kind in parts else own.get(one.key, one.key) for one in columns_of(texts)
    ]
