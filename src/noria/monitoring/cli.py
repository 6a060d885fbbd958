from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from noria.base.times import to_text
from noria.data.collectors.files import read_rows
from noria.monitoring import wire as w
from noria.terminal import Shell, group

monitor = group("monitor", "What was served: windows, accuracy, drift, alerts, skew.")

_SPANS = click.Choice(["all", "month", "week", "day"])


def _plain(value: Any) -> Any:
    return msgspec.to_builtins(value)


def _number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


@monitor.command()
@click.argument("endpoint")
@click.option("--since", metavar="TIME", help="From this time (event time) on.")
@click.option("--until", metavar="TIME", help="Up to this time.")
@click.pass_obj
def show(shell: Shell, endpoint: str, since: str | None, until: str | None) -> None:
    """Show the windows of an endpoint: one line for each day and deployment."""
    first, last = w.span(since, until)
    found = [w.window_out(x) for x in shell.ws.monitoring.windows(endpoint, since=first, until=last)]
    names = sorted({name for x in found for name in x.metrics})

    def human() -> None:
        columns = ["day", "model", "scored", "answered", "errors", "slow", "p50 ms", "p99 ms", "labelled", *names]
        rows = [
            [x.start[:10], x.model or "(refused)", x.n, x.answered, x.errors, x.slow, f"{x.latency['p50']:.1f}",
             f"{x.latency['p99']:.1f}", x.labelled, *(_number(x.metrics.get(n)) for n in names)]
            for x in found
        ]  # fmt: skip
        if not rows:
            shell.say(f"No window yet. {_days_end(shell)}")
            return
        shell.table(columns, rows, right=columns[2:])

    shell.emit([_plain(x) for x in found], human)


def _days_end(shell: Shell) -> str:
    """When what was answered is looked at."""
    now = shell.ws.event_clock.event_ms(shell.ws.project.id)
    return f"Answers and truth are taken in at the end of each day of event time; it is {to_text(now)[:16]} UTC."


@monitor.command()
@click.argument("endpoint")
@click.option("--by", type=_SPANS, default="month", help="How to divide event time.")
@click.option("--since", metavar="TIME")
@click.option("--until", metavar="TIME")
@click.option("--deployment", type=int, help="What one deployment scored, instead of what was answered.")
@click.pass_obj
def accuracy(
    shell: Shell, endpoint: str, by: str, since: str | None, until: str | None, deployment: int | None
) -> None:
    """Show what turned out to be so, with coverage and intervals."""
    ws = shell.ws
    ws.serving.get(endpoint)
    first, last = w.span(since, until)
    found = [
        w.accuracy_out(a)
        for a in ws.monitoring.accuracy(endpoint, since=first, until=last, by=by, deployment=deployment)
    ]
    names = list(found[0].metrics) if found else []

    def human() -> None:
        chances = not {"rmse", "mae", "r2"} & set(names)
        columns = [
            "from",
            "answered",
            "due",
            "of them known",
            "coverage",
            "positive" if chances else "mean truth",
            *names,
        ]
        rows = [
            [a.start[:10], a.n, a.due, a.labelled, f"{a.coverage:.1%}",
             f"{a.positives:.1%}" if chances else f"{a.positives:.4g}",
             *(_interval(a.metrics.get(n, {})) for n in names)]
            for a in found
        ]  # fmt: skip
        if rows:
            shell.table(columns, rows, right=columns[1:])
        if not any(a.labelled for a in found):
            shell.say(f"No truth is known yet. {_days_end(shell)}")

    shell.emit([_plain(a) for a in found], human)


def _interval(found: dict[str, float | None]) -> str:
    return f"{_number(found.get('value'))} [{_number(found.get('low'), 3)}, {_number(found.get('high'), 3)}]"


@monitor.command()
@click.argument("endpoint")
@click.argument("model")
@click.option("--by", type=_SPANS, default="month", help="How to divide event time.")
@click.option("--since", metavar="TIME")
@click.option("--until", metavar="TIME")
@click.pass_obj
def compare(shell: Shell, endpoint: str, model: str, by: str, since: str | None, until: str | None) -> None:
    """Show what MODEL (name/3, name@alias) would have answered to the same requests, beside what was answered."""
    ws = shell.ws
    ws.serving.get(endpoint)
    first, last = w.span(since, until)
    other = ws.registry.resolve(ws.project.id, model)
    with shell.progress(f"{other.name} scores what was asked"):
        found = [w.against_out(c) for c in ws.monitoring.compare(endpoint, other, by=by, since=first, until=last)]
    pairs = list(dict.fromkeys((side, name) for c in found for side, values in c.metrics.items() for name in values))

    def human() -> None:
        columns = ["from", "answered", "truth", "positive", *(f"{name} {side}" for side, name in pairs)]
        rows = [
            [c.start[:10], c.n, c.labelled, f"{c.positives:.1%}",
             *(_number(c.metrics.get(side, {}).get(name)) for side, name in pairs)]
            for c in found
        ]  # fmt: skip
        shell.table(columns, rows, right=columns[1:])

    shell.emit([_plain(c) for c in found], human)


@monitor.command()
@click.argument("endpoint")
@click.option("--since", metavar="TIME")
@click.option("--until", metavar="TIME")
@click.option("--deployment", type=int, help="Another deployment than the champion's.")
@click.pass_obj
def drift(shell: Shell, endpoint: str, since: str | None, until: str | None, deployment: int | None) -> None:
    """Show how far the scores and each feature have moved from the model's own reference."""
    first, last = w.span(since, until)
    found = w.drift_report(shell.ws.monitoring.report(endpoint, deployment, first, last))

    def human() -> None:
        if not found.score.n:
            shell.say(f"{found.model}: no window to compare. {_days_end(shell)}")
            return
        shell.say(f"{found.model}, {found.since[:10]} to {found.until[:10]}, {found.score.n} rows")
        rows = [
            [d.name, f"{d.psi:.3f}", _number(d.ks, 3), f"{d.missing:.1%}", f"{d.outside:.1%}"]
            for d in [found.score, *found.features]
        ]
        columns = ["column", "PSI (tenths)", "KS", "missing", "unknown"]
        shell.table(columns, rows, right=columns[1:])

    shell.emit(_plain(found), human)


@monitor.command()
@click.argument("endpoint")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.pass_obj
def truth(shell: Shell, endpoint: str, file: Path) -> None:
    """Say what turned out to be so: FILE (CSV, Parquet, JSON lines) has the columns id and truth.

    The id is what the request called the row, or what the answer did. Only of models whose rows have no key: of the
    others noria finds the truth itself.
    """
    ws = shell.ws
    told = ws.monitoring.tell_truth(endpoint, read_rows(file), actor=ws.actor)
    shell.emit({"endpoint": endpoint, "told": told}, f"{told:,} truths were told to {endpoint}.")


@monitor.command()
@click.option("--open", "only_open", is_flag=True, help="Only those that are not over.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50)
@click.pass_obj
def alerts(shell: Shell, only_open: bool, limit: int) -> None:
    """List alerts, newest first."""
    found = [w.alert_out(a) for a in shell.ws.monitoring.alerts(only_open=only_open, limit=limit)]

    def human() -> None:
        rows = [[a.opened[:10], "open" if a.closed is None else a.closed[:10], a.kind, a.message] for a in found]
        shell.table(["opened", "closed", "kind", "what"], rows)

    shell.emit([_plain(a) for a in found], human)


@monitor.command()
@click.argument("endpoint")
@click.option("--rows", type=click.IntRange(1, 1_000_000), default=1000, help="How many answers to compute again.")
@click.option("--seed", type=int, default=0)
@click.pass_obj
def skew(shell: Shell, endpoint: str, rows: int, seed: int) -> None:
    """Compute answers again by the bulk path, and compare features and scores bit by bit. Exit code 1 if not equal."""
    ws = shell.ws
    with shell.progress(f"computing {rows} answers again"):
        found = ws.monitoring.skew(endpoint, rows, actor=ws.actor, seed=seed)
    text = f"{found['rows']} answers computed again: {found['equal']} with equal features, "
    text += f"{found['scores_equal']} with equal scores, {found['absent']} absent from the bulk."
    if found["wrong"]:
        text += " Different: " + ", ".join(f"{n} ({c})" for n, c in sorted(found["wrong"].items()))
    shell.emit(found, text)
    if not found["passed"]:
        raise click.exceptions.Exit(1)
