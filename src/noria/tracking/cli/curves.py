from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from noria.assets.records import Run
from noria.terminal import Shell, command
from noria.terminal.grid import Column, grid
from noria.terminal.plot import COLOURS, Drawn, picture
from noria.tracking.cli.shared import get, get_all, moment, number, plain
from noria.tracking.records import Curve
from noria.tracking.wire import runs as w


@command("metrics")
@click.argument("run", nargs=-1, required=True)
@click.option("--key", help="The metric, where several runs are named; of one run: noria runs metrics RUN KEY")
@click.option("--points", default=500, show_default=True, help="A curve in so many points; its extremes stay.")
@click.option("--from", "start", type=int, help="Only steps from here on.")
@click.option("--to", "end", type=int, help="Only steps up to here.")
@click.option("--time", "by_time", is_flag=True, help="Draw by time since the first point, not by step.")
@click.option("--log", is_flag=True, help="Draw on a logarithmic scale.")
@click.option("--height", type=click.IntRange(3, 100), default=12, show_default=True, help="Lines of the picture.")
@click.option("--history", is_flag=True, help="Every point, in pages, in the order of time.")
@click.option("--limit", default=100, show_default=True, help="Points of a page of the history.")
@click.option("--after", help="Go on after this page of the history.")
@click.pass_obj
def metrics(
    shell: Shell,
    run: tuple[str, ...],
    key: str | None,
    points: int,
    start: int | None,
    end: int | None,
    by_time: bool,
    log: bool,
    height: int,
    history: bool,
    limit: int,
    after: str | None,
) -> None:
    """Show the newest metrics of a run, the curve of one (RUN KEY), or that of several runs (RUN... --key KEY)."""
    tracking = shell.ws.tracking
    texts = list(run)
    if key is None and len(texts) == 2:
        key = texts.pop()
    found = get_all(shell, texts)
    if key is None:
        if len(found) > 1:
            raise click.UsageError("Of several runs one metric is drawn: --key KEY")
        _newest(shell, found[0])
        return
    if len(found) == 1:
        key = w.find_metric(tracking, found[0].id, key)
    if history or after:
        if len(found) > 1:
            raise click.UsageError("A history is of one run.")
        _history(shell, found[0], key, limit, after)
        return
    curves = tracking.curves([r.id for r in found], key, points=points, start=start, end=end)
    if len(found) == 1:
        made = w.curve_out(curves[0])
        value = {"run": made.run, "key": key, "total": made.total, "points": plain(made.points)}
    else:
        value = {"key": key, "curves": [plain(w.curve_out(curve)) for curve in curves]}
    names = {r.id: r.name for r in found}
    shell.emit(value, lambda: _drawn(shell, curves, names, key, by_time=by_time, log=log, height=height))


def _newest(shell: Shell, run: Run) -> None:
    latest = shell.ws.tracking.data(run.id).metrics
    made = {name: w.point_out(p) for name, p in latest.items()}

    def human() -> None:
        if not made:
            shell.say("No metrics.")
            return
        points = list(made.values())
        columns = [
            Column(title="metric", cells=list(made), least=16),
            Column(title="value", cells=[number(p.value) for p in points], right=True),
            Column(title="step", cells=[p.step for p in points], right=True),
            Column(title="at", cells=[moment(p.at) for p in points], drop=1),
        ]
        grid(shell, columns)

    shell.emit({name: plain(p) for name, p in made.items()}, human)


def _history(shell: Shell, run: Run, key: str, limit: int, after: str | None) -> None:
    page = shell.ws.tracking.history(run.id, key, limit=limit, after=after)
    made = [w.point_out(p) for p in page.items]

    def human() -> None:
        columns = [
            Column(title="step", cells=[p.step for p in made], right=True),
            Column(title=key, cells=[number(p.value) for p in made], right=True),
            Column(title="at", cells=[moment(p.at) for p in made]),
        ]
        grid(shell, columns)
        if page.next is not None:
            shell.say(f"More: --after {page.next}")

    shell.emit({"run": run.id, "key": key, "points": [plain(p) for p in made], "next": page.next}, human)


def _drawn(
    shell: Shell, curves: list[Curve], names: dict[Any, str], key: str, *, by_time: bool, log: bool, height: int
) -> None:
    from rich.markup import escape

    shown = [curve for curve in curves if curve.points]
    if not shown:
        shell.say(escape(f"No points of {key} there."))
        return
    drawn: list[Drawn] = []
    for curve in shown:
        points = sorted(curve.points, key=lambda p: p.at) if by_time else curve.points
        first = points[0].at
        x = [(p.at - first) / 1000 if by_time else float(p.step) for p in points]
        drawn.append(Drawn(label=names[curve.run_id], x=x, y=[p.value for p in points]))
    shell.say(f"[bold]{escape(key)}[/bold] by {'time' if by_time else 'step'}" + (", logarithmic" if log else ""))
    width = min(shell.console.width, 160)
    x_text = _seconds if by_time else (lambda step: f"{step:.0f}")
    for line in picture(drawn, width=width, height=height, x_text=x_text, y_text=lambda y: f"{y:.4g}", log=log):
        shell.say(line)
    finite = [[p.value for p in curve.points if math.isfinite(p.value)] for curve in shown]
    marks = [f"[{COLOURS[n % len(COLOURS)]}]━━[/]" for n in range(len(shown))]
    if len(shown) > 1:
        for mark, curve in zip(marks, shown, strict=True):
            shell.say(f"{mark} {curve.run_id[:20]} {escape(names[curve.run_id])}")
    columns = [
        Column(title="run", cells=[curve.run_id[:20] for curve in shown]),
        Column(title="points", cells=[curve.total for curve in shown], right=True),
        Column(title="first", cells=[number(curve.points[0].value) for curve in shown], right=True, drop=1),
        Column(title="last", cells=[number(curve.points[-1].value) for curve in shown], right=True),
        Column(title="least", cells=[number(min(v)) if v else "" for v in finite], right=True),
        Column(title="greatest", cells=[number(max(v)) if v else "" for v in finite], right=True),
    ]
    odd = [sum(not math.isfinite(p.value) for p in curve.points) or "" for curve in shown]
    if any(odd):
        columns.append(Column(title="not finite", cells=odd, right=True, drop=2))
    grid(shell, columns)


def _seconds(value: float) -> str:
    if value < 120:
        return f"{value:.4g}s"
    if value < 7_200:
        return f"{value / 60:.4g}min"
    return f"{value / 3_600:.4g}h" if value < 172_800 else f"{value / 86_400:.4g}d"


@command("logs")
@click.argument("run")
@click.option("--tail", type=click.IntRange(min=1), metavar="LINES", help="Only the last lines of each log.")
@click.pass_obj
def logs(shell: Shell, run: str, tail: int | None) -> None:
    """Show what a run printed; of a pipeline or sweep, what its steps printed."""
    ws, found = shell.ws, get(shell, run)
    children = sorted(ws.assets.list_runs(ws.project.id, parent_id=found.id).items, key=lambda r: r.id)
    made: list[dict[str, Any]] = []
    for one in (found, *children):
        path: Path = ws.pipelines.log_path(one.id)
        if path.is_file():
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            made.append({"run": one.id, "name": one.name, "lines": lines[-tail:] if tail else lines})

    def human() -> None:
        from rich.markup import escape

        if not made:
            shell.say("Nothing was printed.")
        for log in made:
            if len(made) > 1:
                shell.say(escape(f"--- {log['name']} ({log['run']})"))
            for line in log["lines"]:
                shell.say(escape(line))

    shell.emit({"run": found.id, "logs": made}, human)
