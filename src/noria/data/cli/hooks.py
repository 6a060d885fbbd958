from __future__ import annotations

import click

from noria.data.cli.shared import plain
from noria.data.wire.hooks import hook_out
from noria.terminal import Shell, command


@command("hooks")
@click.pass_obj
def hooks(shell: Shell) -> None:
    """List the hooks of the project that was applied last."""
    found = shell.ws.files.hooks.applied(shell.ws.project.id)
    rows = [[one.name, one.event, ", ".join(one.on), one.branch, one.entry] for one in found]
    shell.emit(
        [plain(hook_out(one)) for one in found],
        lambda: (
            shell.table(["hook", "when", "on", "branch", "function"], rows) if rows else shell.say("There are none.")
        ),
    )
