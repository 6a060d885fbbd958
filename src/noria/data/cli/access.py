from __future__ import annotations

import re
import sys

import click

from noria.base.errors import Invalid
from noria.data.cli.shared import get, plain
from noria.data.records import MAIN, RepositoryKind
from noria.data.service.access import fitting
from noria.data.wire.access import file_out, shown
from noria.terminal import Shell, command

_PIECE = 1 << 20


@command("ls")
@click.argument("name")
@click.argument("pattern", default="*")
@click.option("--ref", default=MAIN, show_default=True, help="Branch, tag, commit, main~2 or @2013-04-01.")
@click.option("--limit", default=1_000, show_default=True, help="At most so many paths; 0 for all.")
@click.pass_obj
def ls(shell: Shell, name: str, pattern: str, ref: str, limit: int) -> None:
    """List the files of a commit.

    PATTERN is a path, a folder, or has wildcards: '2013/*.parquet'. A star crosses folders.
    """
    _, listing = shell.ws.files.listing(get(shell, name, RepositoryKind.FILES), ref)
    found = []
    more = False
    for entry in fitting(listing, pattern):
        more = bool(limit) and len(found) == limit
        if more:
            break
        found.append(entry)
    rows = [[shown(e.path) + ("/" if e.kind.name == "FOLDER" else ""), e.size] for e in found]

    def human() -> None:
        if rows:
            shell.table(["path", "bytes"], rows, right=["bytes"])
        else:
            shell.say("Nothing fits.")

    shell.emit([plain(file_out(e)) for e in found], human)
    if more:
        shell.warn(f"There are more than {limit}.", "--limit 0   lists all.")


@command("cat")
@click.argument("name")
@click.argument("path")
@click.option("--ref", default=MAIN, show_default=True)
@click.option(
    "--range", "part", metavar="A-B", help="Only bytes A up to B, B not included; A- to the end, -N the last."
)
@click.pass_obj
def cat(shell: Shell, name: str, path: str, ref: str, part: str | None) -> None:
    """Write the bytes of a file to the standard output."""
    files = shell.ws.files
    entry = files.entry(get(shell, name, RepositoryKind.FILES), path, ref)
    start, stop, _ = _part(part).indices(entry.size)
    out = sys.stdout.buffer
    with files.open_entry(entry) as file:
        file.seek(start)
        left = max(0, stop - start)
        while left:
            piece = file.read(min(left, _PIECE))
            if not piece:
                break
            out.write(piece)
            left -= len(piece)
    out.flush()


def _part(text: str | None) -> slice:
    if text is None:
        return slice(None)
    found = re.fullmatch(r"(\d{0,18})-(\d{0,18})", text)
    if found is None or found.groups() == ("", ""):
        raise Invalid(f"{text!r:.40} is not a range of bytes.", hint="--range 0-100, --range 100- or --range -100")
    first, last = found.groups()
    if not first:
        return slice(-int(last), None) if int(last) else slice(0, 0)
    if last and int(last) < int(first):
        raise Invalid(
            f"The range {text} ends before it begins.",
            hint=f"--range {int(last)}-{int(first)}   goes up to byte {int(first)}, that one not included.",
        )
    return slice(int(first), int(last) if last else None)
