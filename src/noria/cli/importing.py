"""``noria import``: what another tool holds, taken over."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from noria.gateways.mlflow.moving import Moved, MoveIn, open_source
from noria.terminal import LazyGroup, Shell, command


@command("mlflow")
@click.argument("source", metavar="URI|FOLDER|SQLITE")
@click.option(
    "--experiment", "only", multiple=True, help="Only the experiment of this name; several times for several."
)
@click.option(
    "--artifacts",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder of this machine that files may be taken from: what mlflow server has as --artifacts-destination, or"
    " what its experiments name. Other folders that a source names are not read.",
)
@click.option("--again", is_flag=True, help="Look also at what was whole when it was imported last.")
@click.option("--dry-run", is_flag=True, help="Count only.")
@click.pass_obj
def mlflow(
    shell: Shell, source: str, only: tuple[str, ...], artifacts: Path | None, again: bool, dry_run: bool
) -> None:
    """Take over what MLflow holds: experiments, runs, histories, files, models, traces.

    The source is a running server (http://...; MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and
    MLFLOW_TRACKING_PASSWORD, as MLflow's clients have them), the file of its database (sqlite:///mlflow.db) or a
    folder mlruns. It is only read. Repeated, it takes only what is new.
    """
    ws = shell.ws
    report = Moved(source=source)
    with (
        open_source(ws, source, report, artifacts=artifacts) as opened,
        shell.progress("Looking") as advance,
    ):
        report.source = opened.name
        MoveIn(ws, opened, report, actor=ws.actor, only=only, again=again, advance=advance).run(dry_run=dry_run)
    shell.emit(_out(report), lambda: _say(shell, report))


def _out(report: Moved) -> dict[str, Any]:
    found: dict[str, Any] = {field.name: getattr(report, field.name) for field in fields(report)}
    found["experiments"] = [{"theirs": a, "name": b, "ours": c} for a, b, c in report.experiments]
    found["left"] = [{"what": one.what, "why": one.why} for one in report.left]
    return {**found, "changed": report.changed}


def _say(shell: Shell, done: Moved) -> None:
    if done.experiments:
        shell.table(["theirs", "experiment", "here"], [list(one) for one in done.experiments])
    rows = [
        ["runs", done.runs_new, done.runs_updated, done.runs_same],
        ["logged models", done.logged_new, done.logged_updated, done.logged_same],
        ["traces", done.traces_new, done.traces_updated, done.traces_same],
        ["registered models", done.models_new, done.models_changed, ""],
        ["versions", done.versions_new, "", ""],
        ["points", done.points, "", ""],
        [f"files ({done.size} bytes)", done.files, "", ""],
    ]
    shell.table(["", "new", "updated", "as it was"], rows, right=["new", "updated", "as it was"])
    if done.dry_run:
        shell.say("Nothing was written: --dry-run.")
    elif not done.changed:
        shell.say("Nothing new.")
    for theirs, ours in list(done.renamed.items())[:20]:
        shell.warn(f"The run {theirs} is {ours} here: its id was taken, or is none.")
    for what, count in done.others.items():
        shell.warn(f"{count} {what} were left out: an import takes runs, models and traces.")
    for place, count in done.places.most_common(20):
        shell.warn(f"Files of {count} runs or models were left at {place}: {done.stays[place]}.")
    for one in done.left[:20]:
        shell.warn(f"{one.what}: {one.why}.")
    if sum(done.reasons.values()) > 20:
        shell.warn(f"{sum(done.reasons.values())} things were left out or cut.", "--json names them.")


import_ = LazyGroup(
    "import",
    lazy={"mlflow": ("noria.cli.importing:mlflow", "Take over what MLflow holds: a server, a folder or a database.")},
    help="Take over what another tool holds.",
)
