from __future__ import annotations

import click

from noria.data.cli.shared import plain
from noria.data.wire import commit_out
from noria.terminal import Shell, command


@command("collect")
@click.argument("name")
@click.pass_obj
def collect(shell: Shell, name: str) -> None:
    """Read what is new in a source of the project, and commit it. `noria run` does it by itself.

    Each file, row or document is taken once; a command that was interrupted goes on where it stopped. A batch that the
    contract refuses is set aside, and the rest is taken.
    """
    ws = shell.ws
    with shell.own_output(), shell.progress(f"Collecting {name}"):
        done = ws.pipelines.collect(name, actor=ws.actor)
    if done.refused and not done.commits:
        raise done.refused[0]
    refused = [error.as_dict()["error"] for error in done.refused]
    value = {"name": name, "rows": done.rows, "run": done.run_id, "refused": refused}
    batches = f"{done.rows} rows in {len(done.commits)} commits"
    text = (
        f"{name}: {batches if done.rows else f'{len(done.commits)} commits'}."
        if done.commits
        else f"{name}: nothing new."
    )
    shell.emit({**value, "commits": [plain(commit_out(c)) for c in done.commits]}, text)
    for error in refused:
        shell.warn(f"The batch {error['details']['source']} was set aside: {error['message']}", error["hint"])
