"""Commands of background work. They stand here because the room ``jobs`` lies below the terminal."""

from __future__ import annotations

import click
import msgspec

from noria.base.ids import JobId
from noria.jobs import JobState
from noria.jobs.errors import JobNotFound
from noria.pipelines.wire import job_out
from noria.terminal import Shell, group

jobs = group("jobs", "Background work: list, show.")


@jobs.command("list")
@click.option("--kind", "kinds", multiple=True, help="Only of this kind; several times.")
@click.option("--state", type=click.Choice([state.value for state in JobState]))
@click.option("--limit", type=click.IntRange(1, 1_000), default=20, show_default=True)
@click.pass_obj
def list_(shell: Shell, kinds: tuple[str, ...], state: str | None, limit: int) -> None:
    """List jobs, newest first."""
    ws = shell.ws
    states = None if state is None else [JobState(state)]
    found = [job_out(j) for j in ws.jobs.list(ws.project.id, kinds=list(kinds) or None, states=states, limit=limit)]
    rows = [
        [j.id, j.kind, j.state, j.unique, f"{j.attempts}/{j.max_attempts}", j.created_at, j.ended_at or j.due_at]
        for j in found
    ]
    columns = ["job", "kind", "state", "about", "tries", "made", "ended or due"]
    shell.emit(msgspec.to_builtins(found), lambda: shell.table(columns, rows, right=["job"]))


@jobs.command()
@click.argument("job", type=click.IntRange(1, 2**62))
@click.pass_obj
def show(shell: Shell, job: int) -> None:
    """Show a job: what it was asked, what came of it."""
    ws = shell.ws
    found = ws.jobs.get(JobId(job))
    if found.project_id != ws.project.id:
        raise JobNotFound(f"There is no job {job} in the project {ws.project.name!r}.", hint="noria jobs list")
    value = msgspec.to_builtins(job_out(found))
    rows = [[key, one] for key, one in value.items() if one not in (None, {})]
    shell.emit(value, lambda: shell.table(["job", str(job)], rows))
