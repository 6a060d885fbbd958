from __future__ import annotations

import click

from noria.assets.records import Run
from noria.base.pages import Page
from noria.terminal import Shell, command
from noria.terminal.grid import Column, grid
from noria.tracking.cli.shared import get_all, ids, number, plain
from noria.tracking.records import Line
from noria.tracking.wire import runs as w

_LEAST = 9
"""Characters below which a column of values says nothing."""


@command("compare")
@click.argument("run", nargs=-1)
@click.option("--experiment", "experiments", multiple=True, help="Compare runs of this experiment; several times.")
@click.option("--filter", "text", help="Compare the runs that fit.")
@click.option("--order", "orders", multiple=True, help="Which of them come first: metrics.log_loss asc")
@click.option("--runs", "many", default=20, show_default=True, help="How many runs --experiment and --filter take.")
@click.option("--all", "everything", is_flag=True, help="Also what is equal in all of them.")
@click.option("--lower", multiple=True, metavar="METRIC", help="Of this metric the least value is best.")
@click.option("--higher", multiple=True, metavar="METRIC", help="Of this metric the greatest value is best.")
@click.option("--limit", default=100, show_default=True, help="How many lines.")
@click.option("--after", help="Go on after this page: the token below the page before.")
@click.pass_obj
def compare(
    shell: Shell,
    run: tuple[str, ...],
    experiments: tuple[str, ...],
    text: str | None,
    orders: tuple[str, ...],
    many: int,
    everything: bool,
    lower: tuple[str, ...],
    higher: tuple[str, ...],
    limit: int,
    after: str | None,
) -> None:
    """Compare parameters, metrics and tags of up to 1,000 runs: what differs. The best value of a metric has a star,
    where its name says which way is better."""
    ws = shell.ws
    if run:
        if experiments or text:
            raise click.UsageError("Name runs, or choose them with --experiment and --filter: not both.")
        found = get_all(shell, run)
    elif experiments or text:
        page = ws.tracking.list_runs(
            ws.project.id, text or "", experiments=experiments, order_by=orders, columns=(), limit=many
        )
        found = [one.run for one in page.items]
        if not found:
            raise click.UsageError("No run fits.")
    else:
        raise click.UsageError("Name the runs, or choose them with --experiment or --filter.")
    lines = ws.tracking.compare(
        [r.id for r in found], everything=everything, lower=lower, higher=higher, limit=limit, after=after
    )
    shell.emit(plain(w.compared_out(found, lines)), lambda: _human(shell, found, lines))


def _human(shell: Shell, found: list[Run], page: Page[Line]) -> None:
    if not page.items:
        shell.say("They say the same.")
        return
    names = [f"{line.part}.{line.key}" for line in page.items]
    room = shell.console.width - min(max(map(len, names)), 30) - 2
    if len(found) * (_LEAST + 2) <= room:
        _beside(shell, found, page, names)
    else:
        _below(shell, found, page, names)
    if page.next is not None:
        shell.say(f"More: --after {page.next}")


def _beside(shell: Shell, found: list[Run], page: Page[Line], names: list[str]) -> None:
    """A column for each run."""
    heads = [["name", *(r.name for r in found)], ["state", *(r.state.value for r in found)]]
    short = ids(shell, found)
    if sum(len(one) + 2 for one in short) > shell.console.width - 32:
        short = [str(n + 1) for n in range(len(found))]
        heads.insert(0, ["run", *(r.id for r in found)])
        for n, one in enumerate(found):
            shell.say(f"{n + 1:>3}  {one.id}")
        shell.say()
        heads.pop(0)
    columns = [Column(title="", cells=[*(head[0] for head in heads), *names], least=20)]
    for n in range(len(found)):
        cells = [head[n + 1] for head in heads] + [_cell(line, n) for line in page.items]
        columns.append(Column(title=short[n], cells=cells, right=True, least=_LEAST))
    grid(shell, columns)


def _below(shell: Shell, found: list[Run], page: Page[Line], names: list[str]) -> None:
    """A line for each run, and as many of the keys as there is room for."""
    columns = [
        Column(title="run", cells=ids(shell, found)),
        Column(title="name", cells=[r.name for r in found], least=10),
    ]
    keys = [line.key for line in page.items]
    # Metrics are the last to go, since they are what runs are compared for.
    for n, (line, name) in enumerate(zip(page.items, names, strict=True)):
        cells = [_cell(line, m) for m in range(len(found))]
        numbers = line.part == "metrics"
        title = line.key if keys.count(line.key) == 1 else name
        least = None if numbers else _LEAST
        columns.append(
            Column(title=title, cells=cells, right=numbers, least=least, drop=n + (1 if numbers else 10_000))
        )
    left_out = grid(shell, columns)
    if left_out:
        some = ", ".join(left_out[:5]) + (f" and {len(left_out) - 5} more" if len(left_out) > 5 else "")
        shell.say(f"Also different, without room here: {some}.")


def _cell(line: Line, place: int) -> str:
    """A value; metrics keep a place for the star, so that their numbers stand below each other."""
    value = line.values[place]
    if line.part != "metrics" or not line.best:
        return number(value)  # pyright: ignore[reportArgumentType] - NaN and the infinities are printed as they are
    return number(value) + ("*" if place in line.best else " ")
