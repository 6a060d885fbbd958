from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import click

from noria.base.errors import Invalid, NoriaError, NotFound
from noria.base.times import parse_duration
from noria.data.cli.shared import counted, get, plain
from noria.data.wire import commit_out
from noria.terminal import Shell, command


@command("collect")
@click.argument("name")
@click.option("--from", "origin", metavar="PLACE", help="'in/*.csv', s3://bucket/prefix/*.parquet, https://...")
@click.option("--sql", metavar="QUERY", help="A query; --url says of which database.")
@click.option("--url", metavar="URL", help="An SQLAlchemy URL, or env:NAME for a variable that holds it.")
@click.option("--watermark", metavar="COLUMN", help="Of a query: a column that grows. Only what is new is read.")
@click.option("--checksum", metavar="blake3:HEX", help="Of a document behind https://.")
@click.option("--key", multiple=True, metavar="COLUMN", help="Names a row; may be given several times.")
@click.option("--time", metavar="COLUMN", help="The event time.")
@click.option("--known", metavar="COLUMN", help="When a row could first be known.")
@click.option("--folder", is_flag=True, help="Keep the files as they are, in a repository of files.")
@click.option("--branch", default="main", show_default=True)
@click.pass_obj
def collect(
    shell: Shell,
    name: str,
    origin: str | None,
    sql: str | None,
    url: str | None,
    watermark: str | None,
    checksum: str | None,
    key: tuple[str, ...],
    time: str | None,
    known: str | None,
    folder: bool,
    branch: str,
) -> None:
    """Read what is new in a source of the project, and commit it. `noria run` does it by itself.

    Each file, object, row or document is taken once; a command that was interrupted goes on where it stopped. A batch
    that the contract refuses is set aside, and the rest is taken; it is offered again when it changed, or the contract.

    With --from or --sql the source needs no project: NAME is a repository, made if it is new and the source has
    something.
    """
    ws = shell.ws
    if origin is None and sql is None:
        with shell.own_output(), shell.progress(f"Collecting {name}"):
            done = ws.pipelines.collect(name, actor=ws.actor)
    else:
        from noria.data.service.collecting.collector import spec_from

        spec = spec_from(origin, sql=sql, url=_looked_up(ws, url), watermark=watermark, checksum=checksum)
        how: dict[str, Any] = {"key": key, "time": time, "known": known, "folder": folder, "branch": branch}
        with shell.progress(f"Collecting {name}") as advance:
            done = ws.collector.collect_from(ws.project.id, name, spec, actor=ws.actor, advance=advance, **how)
    if done.refused and not done.commits:
        raise done.refused[0]
    _say(shell, name, done)


@command("watch")
@click.argument("name")
@click.argument("place", metavar="FOLDER_OR_GLOB")
@click.option("--every", default="2s", show_default=True, help="How often to look.")
@click.option("--once", is_flag=True, help="End when everything that stands still is taken.")
@click.option("--branch", default="main", show_default=True)
@click.pass_obj
def watch(shell: Shell, name: str, place: str, every: str, once: bool, branch: str) -> None:
    """Take what comes into a folder, again and again, until Ctrl-C.

    A repository of files becomes equal to the folder; a table takes the rows of new and grown files. A file is taken
    when it stood still from one look to the next. Of a growing CSV or JSON-lines file only complete new lines are read.
    """
    from noria.data.service.collecting.collector import Collected, spec_from

    ws = shell.ws
    repository = get(shell, name)
    where = spec_from(place).files
    if where is None:
        raise Invalid(f"{place} cannot be watched.", hint="A folder, a pattern of files, or s3://bucket/prefix/*.csv")

    def tell(found: Collected | NoriaError) -> None:
        if isinstance(found, NoriaError):
            shell.warn(found.message, found.hint)
        elif found.commits or not shell.json:
            _say(shell, name, found)

    with _stopping() as stop:
        if not once:
            shell.say(f"Watching {place}. Ctrl-C ends it.")
        ws.collector.watch(
            repository,
            where,
            actor=ws.actor,
            branch=branch,
            every=parse_duration(every) / 1000,
            once=once,
            stop=stop,
            tell=tell,
        )


@contextmanager
def _stopping() -> Generator[threading.Event]:
    """Ctrl-C and SIGTERM let what is being committed land, then end the command; a second one ends it at once."""
    stop = threading.Event()

    def ask(number: int, _: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _looked_up(ws: Any, url: str | None) -> str | None:
    """The URL itself, or the one in the variable that ``env:NAME`` names."""
    if url is None or not url.startswith("env:"):
        return url
    found = ws.environment.get(url[4:])
    if not found:
        raise NotFound(f"The variable {url[4:]!r} is not set.", hint=f"export {url[4:]}=...")
    return found


def _say(shell: Shell, name: str, done: Any) -> None:
    refused = [error.as_dict()["error"] for error in done.refused]
    value = {"name": name, "rows": done.rows, "run": done.run_id, "refused": refused, "waiting": done.waiting}
    commits = counted(len(done.commits), "commit")
    batches = f"{counted(done.rows, 'row')} in {commits}" if done.rows else commits
    text = f"{name}: {batches if done.commits else 'nothing new'}."
    shell.emit({**value, "notes": done.notes, "commits": [plain(commit_out(c)) for c in done.commits]}, text)
    for note in done.notes:
        shell.warn(note)
    for error in refused:
        shell.warn(f"The batch {error['details']['source']} was set aside: {error['message']}", error["hint"])
    for error in done.held:
        shell.warn(f"{error.details['source']} was refused before and is as it was: {error.message}", error.hint)
