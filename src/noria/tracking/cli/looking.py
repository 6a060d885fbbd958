from __future__ import annotations

from typing import Any, Final

import click

from noria.assets.records import Run, RunState
from noria.terminal import Shell, command
from noria.terminal.grid import Column, grid
from noria.tracking.cli.shared import WIDE, get, ids, moment, number, plain, size, took
from noria.tracking.service import NOTE
from noria.tracking.service.listing import TOLD, columns_of
from noria.tracking.wire import runs as w

_STATES = click.Choice([state.value for state in RunState])
_SHOWN: Final = 20
"""Lines of one part of a run that are printed for people."""


@command("list")
@click.option("--kind", "kinds", multiple=True, help="pipeline, step, sweep, trial, commit, mlflow ...; several times. "
              "Default: all but commits.")  # fmt: skip
@click.option("--state", "states", type=_STATES, multiple=True)
@click.option("--name", help="Name of the asset, or of the run.")
@click.option("--parent", metavar="RUN", help="Only the steps of a pipeline, the trials of a sweep.")
@click.option("--experiment", "experiments", multiple=True, help="Only runs of this experiment; several times.")
@click.option("--under", metavar="FOLDER", help="Only runs of the experiments in this folder.")
@click.option("--filter", "text", help='For instance: metrics.log_loss < 0.5 and params.C = "10" and state = "done"')
@click.option("--order", "orders", multiple=True, help="For instance: metrics.log_loss asc; several times.")
@click.option("--columns", metavar="A,B", help="What to show of each run: metrics.loss,params.lr,tags.team")
@click.option("--deleted", is_flag=True, help="Only what is in the bin.")
@click.option("--limit", default=20, show_default=True)
@click.option("--after", help="Go on after this page: the token below the page before.")
@click.option("--page", "paged", is_flag=True, help="With --json: an object of items and next, for reading on.")
@click.pass_obj
def list_(
    shell: Shell,
    kinds: tuple[str, ...],
    states: tuple[str, ...],
    name: str | None,
    parent: str | None,
    experiments: tuple[str, ...],
    under: str | None,
    text: str | None,
    orders: tuple[str, ...],
    columns: str | None,
    deleted: bool,
    limit: int,
    after: str | None,
    paged: bool,
) -> None:
    """List runs, newest first, or search them."""
    ws = shell.ws
    chosen = None if columns is None else w.split(columns)
    everything = bool(text or experiments or under or name or parent or orders or deleted)
    page = ws.tracking.list_runs(
        ws.project.id,
        text or "",
        experiments=experiments,
        under=under,
        kinds=kinds or (() if everything else TOLD),
        states=[RunState(state) for state in states],
        name=name,
        parent=None if parent is None else get(shell, parent).id,
        order_by=orders,
        columns=chosen,
        deleted=deleted,
        limit=limit,
        after=after,
    )
    made = [w.summary_out(one, chosen=chosen is not None) for one in page.items]

    def human() -> None:
        found = [one.run for one in page.items]
        began = [moment(r.started_at, short=shell.console.width < WIDE) for r in found]
        shown = [
            Column(title="run", cells=ids(shell, found)),
            Column(title="kind", cells=[r.kind for r in found], drop=4),
            Column(title="experiment", cells=[one.experiment for one in page.items], least=12, drop=6),
            Column(title="name", cells=[r.name for r in found], least=12),
            Column(title="state", cells=[r.state.value for r in found]),
            Column(title="started", cells=began, drop=3),
            Column(title="took", cells=[took(r) for r in found], right=True, drop=5),
        ]
        if deleted:
            shown.append(Column(title="deleted", cells=[moment(r.deleted_at) for r in found]))
        if chosen is None:
            shown.append(Column(title="metrics", cells=[_metrics_text(m.metrics) for m in made], least=24, drop=2))
        else:
            shown += _columns(found, made, chosen)
        left_out = grid(shell, shown)
        missed = [] if chosen is None else [name for name in left_out if name in _titles(chosen).values()]
        if missed:
            shell.say(f"No room for: {', '.join(missed)}.")
        if page.next is not None:
            shell.say(f"More: --after {page.next}")

    items = [plain(m) for m in made]
    shell.emit({"items": items, "next": page.next} if paged else items, human)


def _columns(found: list[Run], made: list[w.RunSummary], names: list[str]) -> list[Column]:
    shown: list[Column] = []
    titles = _titles(names)
    for one in columns_of(names):
        name = titles[(one.kind, one.key)]
        if one.kind == "metric":
            cells: list[Any] = [number(m.metrics.get(one.key)) for m in made]
        elif one.kind in ("param", "tag"):
            cells = [(m.params if one.kind == "param" else m.tags).get(one.key) for m in made]
        else:
            cells = [_attribute(run, m, one.key) for run, m in zip(found, made, strict=True)]
        least = None if one.kind == "metric" else max(len(name), 6)
        shown.append(Column(title=name, cells=cells, right=one.kind == "metric", least=least, drop=1))
    return shown


def _titles(names: list[str]) -> dict[tuple[str, str], str]:
    """Columns by the key alone, where it says which one is meant."""
    found = columns_of(names)
    keys = [one.key for one in found]
    return {
        (one.kind, one.key): one.key if keys.count(one.key) == 1 else name
        for one, name in zip(found, names, strict=True)
    }


def _attribute(run: Run, made: w.RunSummary, key: str) -> Any:
    if key == "user":
        return made.user
    if key in ("start_time", "end_time"):
        return moment(run.started_at if key == "start_time" else run.ended_at)
    return {"run_id": run.id, "name": run.name, "kind": run.kind}.get(key, run.state.value)


def _metrics_text(metrics: dict[str, float | str]) -> str:
    shown = [f"{key} {number(value)}" for key, value in metrics.items()]
    return ", ".join(shown[:4]) + (f", and {len(shown) - 4} more" if len(shown) > 4 else "")


@command("show")
@click.argument("run")
@click.option("--all", "everything", is_flag=True, help="Every line, however many there are.")
@click.pass_obj
def show(shell: Shell, run: str, everything: bool) -> None:
    """Show what a run said, read and made. The beginning of its id is enough."""
    ws, found = shell.ws, get(shell, run)
    detail = w.detail_out(ws.assets, ws.tracking, found)
    most = None if everything else _SHOWN

    def part(rows: list[list[Any]], *titles: str, right: tuple[str, ...] = (), more: str = "--all") -> None:
        if not rows:
            return
        shell.say()
        cut = rows[:most]
        grid(
            shell,
            [
                Column(
                    title=title,
                    cells=[row[n] for row in cut],
                    right=title in right,
                    least=None if title in ("run", *right) else 10,
                )
                for n, title in enumerate(titles)
            ],
        )
        if len(rows) > len(cut):
            shell.say(f"and {len(rows) - len(cut)} more: noria runs show {found.id} {more}")

    def human() -> None:
        _head(shell, found, detail)
        part([[key, value] for key, value in detail.params.items()], "parameter", "value")
        part(
            [[key, number(p.value), p.step] for key, p in detail.metrics.items()],
            "metric", "value", "step", right=("value", "step"),
        )  # fmt: skip
        tags = [[key, value] for key, value in detail.tags.items() if key != NOTE]
        part(tags if everything else [row for row in tags if not row[0].startswith("mlflow.")], "tag", "value")
        part([[d.name, d.context or "", d.digest, d.source_type] for d in detail.datasets],
             "data read", "for", "digest", "source")  # fmt: skip
        part([[e.direction, e.slot, e.asset, e.digest[7:19], e.rows] for e in detail.edges],
             "edge", "slot", "asset", "version", "rows", right=("rows",))  # fmt: skip
        models = [["made", one] for one in detail.models_made] + [["read", one] for one in detail.models_read]
        part(models, "model", "id")
        if detail.artifacts is not None:
            files = detail.artifacts
            part([[f.path, size(f.size)] for f in files.items], "file", "size", right=("size",))
            if files.next is not None:
                shell.say(f"There are more than {len(files.items)} files: GET /v1/runs/{found.id}/artifacts")
        part([[c.id, c.kind, c.name, c.state] for c in detail.children], "run", "kind", "name", "state")

    shell.emit(plain(detail), human)


def _head(shell: Shell, found: Run, detail: w.RunDetail) -> None:
    from rich.markup import escape

    end = f", took {took(found)}" if found.ended_at is not None else ""
    shell.say(f"[bold]{escape(found.name)}[/bold]  {escape(found.kind)}, {found.state.value}")
    shell.say(f"run         {found.id}")
    if detail.experiment is not None:
        shell.say(escape(f"experiment  {detail.experiment}"))
    shell.say(
        escape(f"by          {detail.user or found.actor}" + (f", because {found.trigger}" if found.trigger else ""))
    )
    shell.say(f"started     {moment(found.started_at)}{end}")
    if detail.purged is not None:
        shell.say(f"purged      what it said was deleted for good by {escape(detail.purged.actor)}")
    elif found.deleted_at is not None:
        shell.say(f"deleted     {moment(found.deleted_at)}; noria runs restore {found.id}")
    if found.error:
        shell.say(escape(f"error       {found.error.get('message', '')}"))
        if found.error.get("hint"):
            shell.say(escape(f"            {found.error['hint']}"))
    if detail.note:
        shell.say()
        shell.say(escape(detail.note))
