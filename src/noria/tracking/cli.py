from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click
import msgspec

from noria.assets.records import Run, RunState
from noria.base.times import duration_text, to_text
from noria.terminal import Shell, group
from noria.tracking import wire as w

runs = group("runs", "What ran: list, show, compare, logs, metrics.")

_STATES = click.Choice([state.value for state in RunState])


def _get(shell: Shell, text: str) -> Run:
    return w.find_run(shell.ws.assets, shell.ws.project.id, text)


def _plain(value: Any) -> Any:
    return msgspec.to_builtins(value)


def _took(run: Run) -> str:
    return "" if run.ended_at is None else duration_text(run.ended_at - run.started_at)


def _metrics_text(metrics: dict[str, float | str]) -> str:
    shown = [f"{key} {_short(value)}" for key, value in metrics.items()]
    return ", ".join(shown[:4]) + (f", and {len(shown) - 4} more" if len(shown) > 4 else "")


_TOLD: Final = ["pipeline", "step", "sweep", "trial", "collection", "deployment", "gate", "check", "mlflow", "score"]
"""What is listed unasked: a table that is fed every minute would bury it under its commits."""


def _short(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.6g}"


@runs.command("list")
@click.option("--kind", "kinds", multiple=True, help="pipeline, step, sweep, trial, commit ...; several times. "
              "Default: all but commits.")  # fmt: skip
@click.option("--state", type=_STATES)
@click.option("--name", help="Name of the asset.")
@click.option("--parent", metavar="RUN", help="Only the steps of a pipeline, the trials of a sweep.")
@click.option("--filter", "text", help='For instance: metrics.log_loss < 0.5 and params.C = "10" and state = "done"')
@click.option("--experiment", help="Only runs of this experiment.")
@click.option("--order", help="For instance: metrics.log_loss asc")
@click.option("--limit", default=20, show_default=True)
@click.pass_obj
def list_(
    shell: Shell,
    kinds: tuple[str, ...],
    state: str | None,
    name: str | None,
    parent: str | None,
    text: str | None,
    experiment: str | None,
    order: str | None,
    limit: int,
) -> None:
    """List runs, newest first."""
    ws = shell.ws
    if text or experiment or order:
        if kinds or state or name or parent:
            raise click.UsageError(
                '--filter, --experiment and --order stand alone. Put the rest into the filter: kind = "step"'
            )
        ids = ws.tracking.search(ws.project.id, text or "", experiment=experiment, order_by=order, limit=limit).items
        by_id = ws.assets.runs_by_ids(ids)
        found = [by_id[i] for i in ids]
    else:
        found = ws.assets.list_runs(
            ws.project.id,
            kinds=list(kinds) or (None if name or parent else _TOLD),
            name=name,
            parent_id=None if parent is None else _get(shell, parent).id,
            states=None if state is None else [RunState(state)],
            limit=limit,
        ).items
    data = ws.tracking.data_of([r.id for r in found])
    made = [w.summary_out(r, data[r.id]) for r in found]
    rows = [
        [r.id, r.kind, r.name, r.state.value, to_text(r.started_at), _took(r), _metrics_text(m.metrics)]
        for r, m in zip(found, made, strict=True)
    ]
    columns = ["run", "kind", "name", "state", "started", "took", "metrics"]
    shell.emit([_plain(m) for m in made], lambda: shell.table(columns, rows, right=["took"]))


@runs.command()
@click.argument("run")
@click.pass_obj
def show(shell: Shell, run: str) -> None:
    """Show what a run said, read and made. The beginning of its id is enough."""
    ws, found = shell.ws, _get(shell, run)
    detail = w.detail_out(ws.assets, found, ws.tracking.data(found.id))

    def human() -> None:
        from rich.markup import escape

        shell.say(escape(f"{found.kind} {found.name}: {found.state.value}, {to_text(found.started_at)} {_took(found)}"))
        shell.say(escape(f"run {found.id} by {found.actor}" + (f", because {found.trigger}" if found.trigger else "")))
        if found.error:
            shell.say(escape(f"error: {found.error.get('message', '')}"))
            shell.say(escape(f"  {found.error.get('hint', '')}"))
        if detail.params:
            shell.table(["parameter", "value"], detail.params.items())
        if detail.metrics:
            rows = [[key, _short(p.value), p.step] for key, p in detail.metrics.items()]
            shell.table(["metric", "value", "step"], rows, right=["value", "step"])
        if detail.edges:
            rows = [[e.direction, e.slot, e.asset, e.digest[7:19], e.rows] for e in detail.edges]
            shell.table(["", "slot", "asset", "version", "rows"], rows, right=["rows"])
        if detail.children:
            shell.table(["run", "kind", "name", "state"], [[c.id, c.kind, c.name, c.state] for c in detail.children])

    shell.emit(_plain(detail), human)


@runs.command()
@click.argument("run", nargs=-1, required=True)
@click.option("--all", "everything", is_flag=True, help="Also what is equal in all of them.")
@click.pass_obj
def compare(shell: Shell, run: tuple[str, ...], everything: bool) -> None:
    """Compare parameters and metrics of several runs: what differs."""
    found = [_get(shell, text) for text in run]
    made = w.compared_out(found, shell.ws.tracking.data_of([r.id for r in found]), everything=everything)

    def human() -> None:
        rows = [["name", *(r.name for r in found)], ["state", *(r.state.value for r in found)]]
        rows += [[f"params.{key}", *values] for key, values in made.params.items()]
        rows += [
            [f"metrics.{key}", *("" if v is None else _short(v) for v in values)]
            for key, values in made.metrics.items()
        ]
        shell.table(["", *(r.id for r in found)], rows)

    shell.emit(_plain(made), human)


@runs.command()
@click.argument("run")
@click.option("--tail", type=click.IntRange(min=1), metavar="LINES", help="Only the last lines of each log.")
@click.pass_obj
def logs(shell: Shell, run: str, tail: int | None) -> None:
    """Show what a run printed; of a pipeline or sweep, what its steps printed."""
    ws, found = shell.ws, _get(shell, run)
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


@runs.command()
@click.argument("run")
@click.argument("key", required=False)
@click.option("--limit", default=100, show_default=True)
@click.pass_obj
def metrics(shell: Shell, run: str, key: str | None, limit: int) -> None:
    """Show the metrics of a run, or the history of one."""
    tracking, found = shell.ws.tracking, _get(shell, run)
    if key is None:
        latest = tracking.data(found.id).metrics
        made = {name: w.point_out(p) for name, p in latest.items()}
        rows = [[name, _short(p.value), p.step] for name, p in made.items()]
        shell.emit(
            {name: _plain(p) for name, p in made.items()},
            lambda: shell.table(["metric", "value", "step"], rows, right=["value", "step"]),
        )
        return
    points = [
        w.point_out(p) for p in tracking.history(found.id, w.find_metric(tracking, found.id, key), limit=limit).items
    ]
    rows = [[p.step, _short(p.value), p.at] for p in points]
    shell.emit(
        {"run": found.id, "key": key, "points": [_plain(p) for p in points]},
        lambda: shell.table(["step", key, "at"], rows, right=["step", key, "at"]),
    )
