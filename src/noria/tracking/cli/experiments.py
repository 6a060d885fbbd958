from __future__ import annotations

import click

from noria.base.search import parse, parse_order
from noria.terminal import NoriaGroup, Shell
from noria.terminal.grid import Column, grid
from noria.tracking.cli.shared import moment, plain
from noria.tracking.grammar import EXPERIMENTS
from noria.tracking.records import Experiment
from noria.tracking.service import NOTE
from noria.tracking.wire import experiments as x


class _Listing(NoriaGroup):
    """``noria runs experiments --under x`` is ``noria runs experiments list --under x``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in ("-h", "--help")):
            args = ["list", *args]
        return super().parse_args(ctx, args)


experiments = _Listing("experiments", help="Sets of runs to compare: list, create, rename, delete, restore.")


@experiments.command("list")
@click.option("--under", metavar="FOLDER", help="Only those in this folder: what stands before the last / of a name.")
@click.option("--tree", is_flag=True, help="Folders as a tree, in the order of names.")
@click.option("--filter", "text", help='For instance: name like "fly%" and tags.team = "a"')
@click.option("--order", "orders", multiple=True, help="For instance: name asc. Default: those changed last first.")
@click.option("--deleted", is_flag=True, help="Only what is in the bin.")
@click.option("--limit", default=50, show_default=True)
@click.option("--after", help="Go on after this page: the token below the page before.")
@click.pass_obj
def list_(
    shell: Shell,
    under: str | None,
    tree: bool,
    text: str | None,
    orders: tuple[str, ...],
    deleted: bool,
    limit: int,
    after: str | None,
) -> None:
    """List or search experiments."""
    ws = shell.ws
    page = ws.tracking.search_experiments(
        ws.project.id,
        clauses=parse(text, EXPERIMENTS),
        order=[parse_order(one, EXPERIMENTS) for one in orders or (("name asc",) if tree else ())],
        deleted=deleted,
        folder=under,
        limit=limit,
        after=after,
    )
    counts = ws.tracking.counts(ws.project.id, [one.id for one in page.items])

    def human() -> None:
        if tree:
            _tree(shell, page.items, counts)
        else:
            found = page.items
            columns = [
                Column(title="id", cells=[one.id for one in found], right=True, drop=3),
                Column(title="experiment", cells=[one.name for one in found], least=20),
                Column(title="runs", cells=[counts.get(one.id, 0) for one in found], right=True),
                Column(title="changed", cells=[moment(one.updated_at) for one in found], drop=1),
                Column(title="note", cells=[(one.tags.get(NOTE) or "").partition("\n")[0] for one in found],
                       least=10, drop=2),
            ]  # fmt: skip
            grid(shell, columns)
        if page.next is not None:
            shell.say(f"More: --after {page.next}")

    value = [{**plain(x.experiment_out(one)), "runs": counts.get(one.id, 0)} for one in page.items]
    shell.emit({"items": value, "next": page.next}, human)


def _tree(shell: Shell, found: list[Experiment], counts: dict[int, int]) -> None:
    from rich.markup import escape
    from rich.tree import Tree

    root = Tree(".", guide_style="dim")
    folders: dict[str, Tree] = {"": root}

    def folder(name: str) -> Tree:
        if name not in folders:
            above, _, last = name.rpartition("/")
            folders[name] = folder(above).add(f"[bold]{escape(last)}/[/bold]")
        return folders[name]

    for one in found:
        above, _, last = one.name.rpartition("/")
        folder(above).add(f"{escape(last)}  [dim]{counts.get(one.id, 0)} runs[/dim]")
    shell.console.print(root)


@experiments.command("create")
@click.argument("name")
@click.option("--tag", "tags", multiple=True, metavar="K=V", help="Several times.")
@click.option("--note", help="What it is about.")
@click.pass_obj
def create(shell: Shell, name: str, tags: tuple[str, ...], note: str | None) -> None:
    """Make an experiment. What stands before the last / of its name is its folder."""
    ws = shell.ws
    given = {**pairs(tags), **({NOTE: note} if note else {})}
    made = ws.tracking.create_experiment(ws.project.id, name, tags=given, actor=ws.actor)
    shell.emit(plain(x.experiment_out(made)), f"Made: {made.name} ({made.id})")


@experiments.command("rename")
@click.argument("name")
@click.argument("new")
@click.pass_obj
def rename(shell: Shell, name: str, new: str) -> None:
    """Rename an experiment; a NEW name with another folder in it moves it there."""
    ws = shell.ws
    id = ws.tracking.renamed(ws.project.id, name, new, actor=ws.actor)
    made = ws.tracking.experiment_by_id(ws.project.id, id)
    shell.emit(plain(x.experiment_out(made)), f"{name} is {made.name} now.")


@experiments.command("delete")
@click.argument("name")
@click.pass_obj
def delete(shell: Shell, name: str) -> None:
    """Put an experiment with all its runs into the bin. `noria runs purge` removes it for good."""
    _binned(shell, name, restore=False)


@experiments.command("restore")
@click.argument("name")
@click.pass_obj
def restore(shell: Shell, name: str) -> None:
    """Bring an experiment back from the bin, with its runs."""
    _binned(shell, name, restore=True)


def _binned(shell: Shell, name: str, *, restore: bool) -> None:
    ws = shell.ws
    id = ws.tracking.named_experiment(ws.project.id, name).id
    ws.tracking.delete_experiment(ws.project.id, id, actor=ws.actor, restore=restore)
    made = ws.tracking.experiment_by_id(ws.project.id, id)
    text = f"{made.name} is back." if restore else f"{made.name} is in the bin: noria runs experiments restore"
    shell.emit(plain(x.experiment_out(made)), text if restore else f"{text} {made.name!r}")


def pairs(texts: tuple[str, ...]) -> dict[str, str]:
    """``k=v`` texts.

    Raises:
        UsageError: one has no ``=``.
    """
    made: dict[str, str] = {}
    for text in texts:
        key, there, value = text.partition("=")
        if not there or not key:
            raise click.UsageError(f"{text!r} is no tag. Write KEY=VALUE.")
        made[key] = value
    return made
