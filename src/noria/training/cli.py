from __future__ import annotations

import click
import msgspec

from noria.terminal import Shell, command
from noria.training import wire as w
from noria.training.records import Sweep


@command()
@click.argument("model")
@click.option("--trials", type=click.IntRange(min=1, max=100_000), help="How many. Default: what the model says.")
@click.option("--executor", type=click.Choice(["inline", "process"]), help="Default: what noria.toml says.")
@click.option("--trigger", metavar="TEXT", help="What started it, for the record.")
@click.pass_obj
def sweep(shell: Shell, model: str, trials: int | None, executor: str | None, trigger: str | None) -> None:
    """Search the hyperparameters of a model; the best becomes a new version of it.

    An interrupted sweep goes on where it stopped: trials that ran before are taken from the cache.
    """
    ws = shell.ws
    with shell.own_output(), shell.progress(f"{model}: sweep", total=trials) as advance:
        done: Sweep = ws.training.sweep(
            model, actor=ws.actor, trials=trials, executor=executor, trigger=trigger, advance=advance
        )
    shell.emit(msgspec.to_builtins(w.sweep_out(done)), lambda: _show(shell, done))


def _show(shell: Shell, done: Sweep) -> None:
    names = list(done.best.params)
    ranked = sorted(done.trials, key=lambda t: (t.value is None, -done.better * (t.value or 0.0), t.number))
    rows = [
        [
            t.number,
            "failed" if t.value is None else f"{t.value:.6g}",
            *(_text(t.params[name]) for name in names),
            "cached" if t.cached else t.error,
        ]
        for t in ranked
    ]
    shell.table(["trial", done.metric, *names, ""], rows, right=["trial", done.metric, *names])
    shell.say(f"{done.model_version} is trial {done.best.number}. Run {done.run_id}")
    shell.say(
        f"noria release {done.model_version}   releases it; noria run {done.model} uses the defaults of the function."
    )
    for warning in done.warnings:
        shell.warn(warning["message"], warning["hint"])


def _text(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
