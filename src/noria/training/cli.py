from __future__ import annotations

import click
import msgspec

from noria.base.times import parse_duration
from noria.registry.wire import find_version
from noria.terminal import Shell, command
from noria.training import wire as w
from noria.training.adopting import TASKS, gates_of
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


@command()
@click.argument("model", metavar="MODEL[@ALIAS|@vN]")
@click.option(
    "--on", metavar="TABLE[@REF]", help="Rows that it was not trained on: they judge it, and drift is told from them."
)
@click.option("--target", metavar="COLUMN", help="Their truth.")
@click.option("--key", metavar="COLUMN", multiple=True, help="What names a row. Default: the table's key.")
@click.option("--task", type=click.Choice(TASKS), help="Default: what the truth looks like.")
@click.option(
    "--proba/--no-proba", default=None, help="The score is the chance of a yes (predict_proba), not the class."
)
@click.option("--after", metavar="7d", help="How long after a row's moment its truth is waited for.")
@click.option(
    "--gate", "gates", metavar="GATE", multiple=True, help="roc_auc>=0.8, beats_champion, slices:origin:roc_auc>=0.6"
)
@click.pass_obj
def adopt(
    shell: Shell,
    model: str,
    on: str | None,
    target: str | None,
    key: tuple[str, ...],
    task: str | None,
    proba: bool | None,
    after: str | None,
    gates: tuple[str, ...],
) -> None:
    """Make a model that a client of MLflow logged one that is judged, gated, served and monitored like noria's own.

    The next versions of the model are adopted by themselves, with the same settings, when they are deployed or
    released. A client's package holds code: from here on it runs, in a process of its own.
    """
    ws = shell.ws
    version = find_version(ws.registry, ws.project.id, model)
    settings = ws.training.adoption.settings(
        version.model, on=on, target=target, key=key or None, task=task, proba=proba,
        after_ms=None if after is None else parse_duration(after), gates=gates_of(gates) or None,
    )  # fmt: skip
    with shell.progress(f"Looking at {version.name}"):
        made = ws.training.adoption.adopt(version, actor=ws.actor, settings=settings)
    value = w.adopted_out(version.name, made)

    def human() -> None:
        judged = (
            f"judged on {value.rows:,} rows of {value.settings['on']}" if value.rows else "not judged: no --on TABLE"
        )
        shell.say(f"{value.model} is adopted as {value.task}, {judged}.")
        rows = [[name, f"{number:.6g}"] for name, number in value.metrics.items()]
        if rows:
            shell.table(["metric", "value"], rows, right=["value"])
        if value.differs:
            shell.warn(f"It was logged with {', '.join(value.differs[:5])}.", "Other versions may give other scores.")
        shell.say(f"noria deploy {value.model} --endpoint NAME   or, through its gates: noria release {value.model}")

    shell.emit(msgspec.to_builtins(value), human)


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
