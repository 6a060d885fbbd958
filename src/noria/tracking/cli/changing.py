from __future__ import annotations

import sys

import click

from noria.base.times import parse_duration
from noria.terminal import NoriaCommand, Shell, command
from noria.terminal.grid import Column, grid
from noria.tracking.cli.experiments import pairs
from noria.tracking.cli.shared import get, get_all, plain, size
from noria.tracking.records import Purged
from noria.tracking.service import NOTE
from noria.tracking.wire import experiments as x
from noria.tracking.wire import runs as w


def _many(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


@command("move")
@click.argument("run", nargs=-1, required=True)
@click.argument("experiment")
@click.pass_obj
def move(shell: Shell, run: tuple[str, ...], experiment: str) -> None:
    """Put runs into another experiment, which is made if it is new."""
    ws, found = shell.ws, get_all(shell, run)
    ws.tracking.move_runs(ws.project.id, [r.id for r in found], experiment, actor=ws.actor)
    shell.emit({"runs": [r.id for r in found], "experiment": experiment}, f"{_many(len(found))} moved to {experiment}.")


@command("delete")
@click.argument("run", nargs=-1, required=True)
@click.pass_obj
def delete(shell: Shell, run: tuple[str, ...]) -> None:
    """Put runs into the bin. `noria runs purge` removes them for good; the bin is emptied by its retention."""
    ws, found = shell.ws, get_all(shell, run)
    changed = ws.tracking.delete_runs(ws.project.id, [r.id for r in found], actor=ws.actor)
    shell.emit({"runs": changed}, f"{_many(len(changed))} put into the bin: noria runs restore RUN... brings back.")


@command("restore")
@click.argument("run", nargs=-1, required=True)
@click.pass_obj
def restore(shell: Shell, run: tuple[str, ...]) -> None:
    """Bring runs back from the bin."""
    ws, found = shell.ws, get_all(shell, run)
    changed = ws.tracking.delete_runs(ws.project.id, [r.id for r in found], actor=ws.actor, restore=True)
    shell.emit({"runs": changed}, f"{_many(len(changed))} brought back.")


class _Tagging(NoriaCommand):
    """Takes ``-key`` for a tag to remove, and not for options of one letter."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [_REMOVED + a[1:] if _removes(a) else a for a in args])


_REMOVED = "\0"


def _removes(word: str) -> bool:
    return word.startswith("-") and not word.startswith("--") and word not in ("-", "-w", "-h")


@click.command("tag", cls=_Tagging)
@click.argument("words", nargs=-1, metavar="RUN KEY=VALUE... -KEY...")
@click.option("--remove", "more", multiple=True, metavar="KEY", help="The same as -KEY, for any name.")
@click.option("--experiment", help="Tags of an experiment, instead of those of a run.")
@click.pass_obj
def tag(shell: Shell, words: tuple[str, ...], more: tuple[str, ...], experiment: str | None) -> None:
    """Set or remove tags: noria runs tag RUN team=a -old; without any, show them."""
    rest = list(words)
    subject = _Subject(shell, rest, experiment)
    remove = [*more, *(word[1:] for word in rest if word.startswith(_REMOVED))]
    tags = pairs(tuple(word for word in rest if not word.startswith(_REMOVED)))
    if tags or remove:
        subject.set(tags, remove)
    now = subject.tags()
    shell.emit({"tags": now}, lambda: shell.table(["tag", "value"], now.items()) if now else shell.say("No tags."))


class _Subject:
    """The run that the first word names, which is taken off the words; or an experiment."""

    def __init__(self, shell: Shell, words: list[str], experiment: str | None) -> None:
        if experiment is None and not words:
            raise click.UsageError("Name a run, or --experiment.")
        self._ws = shell.ws
        self._run = get(shell, words.pop(0)).id if experiment is None else None
        self._experiment: int = 0 if experiment is None else self._named(experiment)

    def _named(self, text: str) -> int:
        return self._ws.tracking.named_experiment(self._ws.project.id, text).id

    def tags(self) -> dict[str, str]:
        ws = self._ws
        if self._run is not None:
            return ws.tracking.data(self._run).tags
        return ws.tracking.experiment_by_id(ws.project.id, self._experiment).tags

    def set(self, tags: dict[str, str], remove: list[str]) -> None:
        ws = self._ws
        if self._run is not None:
            ws.tracking.tag_run(ws.project.id, self._run, tags, remove=remove, actor=ws.actor)
        else:
            ws.tracking.tag_experiment(ws.project.id, self._experiment, tags, remove=remove, actor=ws.actor)


@command("note")
@click.argument("words", nargs=-1, metavar="RUN [TEXT]")
@click.option("--experiment", help="The note of an experiment, instead of that of a run.")
@click.pass_obj
def note(shell: Shell, words: tuple[str, ...], experiment: str | None) -> None:
    """Write a note, show it, or with an empty TEXT take it away. With - it is read from the standard input."""
    rest = list(words)
    subject = _Subject(shell, rest, experiment)
    if len(rest) > 1:
        raise click.UsageError("The text of a note is one argument: put it in quotes.")
    text = None if not rest else sys.stdin.read().rstrip("\n") if rest[0] == "-" else rest[0]
    before = subject.tags().get(NOTE)
    if text:
        subject.set({NOTE: text}, [])
    elif text is not None and before is not None:
        subject.set({}, [NOTE])
    now = before if text is None else text or None

    def human() -> None:
        from rich.markup import escape

        shell.say(escape(now) if now else "No note.")

    shell.emit({"note": now}, human)


@command("purge")
@click.argument("run", nargs=-1)
@click.option("--experiment", help="Only runs of this experiment; with --now it goes as a whole.")
@click.option("--filter", "text", help='Only runs that fit: metrics.loss > 1 and tags.team = "a"')
@click.option("--older-than", metavar="30d", help="Only what is in the bin for longer; with --now what began before.")
@click.option("--now", is_flag=True, help="Also what is not in the bin.")
@click.option("--yes", is_flag=True, help="Do it. Without, it is only counted.")
@click.pass_obj
def purge(
    shell: Shell,
    run: tuple[str, ...],
    experiment: str | None,
    text: str | None,
    older_than: str | None,
    now: bool,
    yes: bool,
) -> None:
    """Delete runs of the bin for good, with all that they said: the whole bin, or what is chosen.

    Interrupted, the same command goes on. `noria data gc` frees the bytes that nothing else needs.
    """
    ws = shell.ws
    asked = {
        "runs": w.find_left(ws.assets, ws.project.id, run) if run else None,
        "experiment": experiment,
        "text": text or "",
        "older_than": None if older_than is None else parse_duration(older_than),
        "now": now,
        "actor": ws.actor,
    }
    with shell.progress("Counting") as advance:
        found = ws.tracking.purge(ws.project.id, **asked, advance=advance)
    done = found
    if yes:
        with shell.progress("Deleting", total=found.runs) as advance:
            done = ws.tracking.purge(ws.project.id, **asked, dry_run=False, advance=advance)
    shell.emit(plain(x.purged_out(done)), lambda: _said(shell, done))


def _said(shell: Shell, done: Purged) -> None:
    if not done.runs and not done.experiments:
        shell.say("There is nothing to delete." if done.dry_run else "Nothing was deleted.")
    else:
        parts = [(what, f"{count:,}") for what, count in done.rows.items() if count]
        parts.insert(0, ("runs", f"{done.runs:,}"))
        if done.experiments:
            parts.append(("experiments", f"{done.experiments:,}"))
        parts.append(("bytes", size(done.size)))
        title = "would be deleted" if done.dry_run else "deleted"
        grid(
            shell,
            [
                Column(title=title, cells=[what for what, _ in parts]),
                Column(title="", cells=[text for _, text in parts], right=True),
            ],
        )
    if done.kept:
        shell.say(f"Of {_many(done.kept)} the row stays, since something names it; it says what happened.")
    if done.unended:
        shell.say(f"{_many(done.unended)} still at work: left alone.")
    if done.runs or done.experiments:
        shell.say("Nothing was changed. --yes does it." if done.dry_run else "noria data gc   frees the bytes.")
