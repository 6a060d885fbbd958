"""``noria``. Imports nothing but click before it knows which command is wanted."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import Any

import click

from noria.base.errors import Bug, DiskFull, Invalid, NoriaError
from noria.terminal import LazyGroup, Shell
from noria.terminal.exits import BUG, DONE, INTERRUPTED, WRONG_USE, code_of

COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("noria.cli.demo:demo", "Run the whole loop on a year of real flights."),
    "init": ("noria.cli.basics:init", "Make a project and a workspace here."),
    "doctor": ("noria.cli.basics:doctor", "Say what is missing, and the line to type."),
    "data": ("noria.data.cli:data", "Versioned data: commit, log, diff, checkout, contracts."),
    "plan": ("noria.pipelines.cli:plan", "Show what would run, why, how long; what is cached."),
    "run": ("noria.pipelines.cli:run", "Make what is out of date."),
    "sweep": ("noria.training.cli:sweep", "Search the hyperparameters of a model."),
    "runs": ("noria.tracking.cli:runs", "What ran: list, show, compare, logs, metrics."),
    "import": ("noria.cli.importing:import_", "Take over what MLflow holds."),
    "models": ("noria.registry.cli:models", "Registered models: list, show, alias."),
    "adopt": ("noria.training.cli:adopt", "Make what MLflow's client logged a model that is judged and served."),
    "deploy": ("noria.serving.cli:deploy", "Put a model version behind an endpoint."),
    "endpoints": ("noria.cli.endpoints:endpoints", "What is called: list, show, status, stop."),
    "apply": ("noria.delivery.cli:apply", "Write down this project's definitions for a running server."),
    "release": ("noria.delivery.cli:release", "Put a model version through its gates, and release it."),
    "train": ("noria.delivery.cli:train", "Ask the server to train a model anew."),
    "candidates": ("noria.delivery.cli:candidates", "What was trained, and what gates and canaries said."),
    "cancel": ("noria.delivery.cli:cancel", "Stop a release that is on its way."),
    "rollback": ("noria.delivery.cli:rollback", "Give all traffic back to the champion before."),
    "monitor": ("noria.monitoring.cli:monitor", "What was served: windows, accuracy, drift, alerts, skew."),
    "trace": ("noria.trace.cli:trace", "Where something comes from, and what it touched."),
    "scorecard": ("noria.scorecard.cli:scorecard", "The ML Test Score, from evidence."),
    "up": ("noria.cli.up:up", "Run the server: API, loop, endpoints."),
    "predict": ("noria.cli.endpoints:predict", "Ask an endpoint for predictions."),
    "jobs": ("noria.cli.jobs:jobs", "Background work: list, show."),
    "admin": ("noria.cli.admin:admin", "Migrate, back up, verify, prune, audit."),
}


def _connect(url: str | None, project: str | None = None) -> Any:
    from noria.workspace import connect

    return connect(url, project=project)


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    help="noria: versioned data, pipelines, training, serving and monitoring in one graph, in one loop.",
)
@click.version_option(package_name="noria", message="noria %(version)s")
def noria() -> None:
    pass


def main(arguments: list[str] | None = None) -> None:
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Runs one command; returns its exit code. Errors are written once, in the one form."""
    args = sys.argv[1:] if arguments is None else arguments
    shell = Shell(_connect)
    shell.json = "--json" in args
    try:
        # Commands return nothing; click returns the code of an Exit that a command raised.
        code = noria.main(args, prog_name="noria", standalone_mode=False, obj=shell)
        _deliver(shell)
        return code if isinstance(code, int) else DONE
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return WRONG_USE
    except click.UsageError as error:
        hint = error.ctx.get_usage() if error.ctx else "noria --help"
        _report(Invalid(error.format_message(), hint=hint), shell)
        return WRONG_USE
    except (KeyboardInterrupt, click.Abort):
        click.echo("Interrupted.", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except NoriaError as error:
        _report(error, shell)
        return code_of(error)
    except OSError as error:
        if error.errno == 28:
            full = DiskFull(str(error.filename or ""))
            _report(full, shell)
            return code_of(full)
        return _bug(error, shell)
    except Exception as error:  # noqa: BLE001 - the border: a bug is reported in the one form too
        return _bug(error, shell)
    finally:
        shell.close()


def _deliver(shell: Shell) -> None:
    """Does what a server's loop would do with the events of the command, where no server runs (decision 11)."""
    ws = shell.opened
    if ws is not None:
        with contextlib.suppress(NoriaError):  # the command has done its work; the next one tries again
            if not ws.jobs.held("scheduler"):
                ws.deliver()


def _report(error: NoriaError, shell: Shell) -> None:
    if shell.json:
        click.echo(json.dumps(error.as_dict(), ensure_ascii=False, default=str), err=True)
        return
    mark = click.style("Error: ", fg="red", bold=True)
    click.echo(mark + error.message, err=True)
    for line in error.hint.splitlines():
        click.echo("  " + line, err=True)


def _bug(error: Exception, shell: Shell) -> int:
    if os.environ.get("NORIA_DEBUG"):
        raise error
    text = f"{type(error).__name__}: {error}"
    _report(
        Bug(f"noria itself failed: {text}", hint="Repeat it with NORIA_DEBUG=1 to see where, and report it."), shell
    )
    return BUG


if __name__ == "__main__":
    main()
