from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence
from typing import Any

import click
import msgspec

from noria.base.errors import Invalid
from noria.base.times import SECOND, duration_text
from noria.pipelines import wire as w
from noria.pipelines.errors import PipelineFailed
from noria.pipelines.graph import Graph
from noria.pipelines.records import PipelineRun, PlannedStep
from noria.terminal import Shell, command

_PARAM = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_EXECUTORS = click.Choice(["inline", "process"])


@command()
@click.argument("what", nargs=-1, metavar="[ASSET]... [PARAM=VALUE]...")
@click.option("--force", is_flag=True, help="As if nothing of the assets named were cached.")
@click.pass_obj
def plan(shell: Shell, what: tuple[str, ...], force: bool) -> None:
    """Show what would run and why, how long it took before, and what is cached. Nothing is run or written."""
    with shell.own_output(), shell.progress("Planning"):
        graph = shell.ws.pipelines.graph()
        targets, params = read_arguments(graph, what)
        steps = shell.ws.pipelines.plan(targets, params, force=force)
    value = w.plan_out(steps)
    shell.emit(msgspec.to_builtins(value), lambda: _show_plan(shell, steps, value.expected_ms))


def _show_plan(shell: Shell, steps: list[PlannedStep], expected_ms: int) -> None:
    if not steps:
        shell.say('The project has no assets yet: list its modules in noria.toml, modules = \\["flights"].')
        return
    words = {"source": "at its head", "reuse": "cached", "run": "runs", "empty": "has no rows"}
    rows = [
        [
            s.asset,
            s.kind,
            "is collected" if (s.kind, s.action) == ("source", "run") else words[s.action],
            "" if s.expected_ms is None else took(s.expected_ms),
            _why_text(s.why),
        ]
        for s in steps
    ]
    shell.table(["asset", "kind", "", "takes", "why"], rows, right=["takes"])
    notes = [f"{s.asset}: {note}" for s in steps for note in s.notes]
    if notes:
        from rich.markup import escape

        for note in notes:
            shell.say(escape(f"- {note}"))
    count = sum(s.action == "run" for s in steps)
    known = f", about {took(expected_ms)} of work" if expected_ms else ""
    shell.say(f"{count} of {len(steps)} would run{known}." if count else "Everything is up to date.")


@command()
@click.argument("what", nargs=-1, metavar="[ASSET]... [PARAM=VALUE]...")
@click.option("--force", multiple=True, metavar="NAME", help="Make this asset anew, cached or not; several times.")
@click.option("--executor", type=_EXECUTORS, help="Where steps run. Default: what noria.toml says.")
@click.option("--trigger", metavar="TEXT", help="What started it, for the record.")
@click.option("--no-collect", is_flag=True, help="Take sources as they stand, without looking for new rows.")
@click.pass_obj
def run(
    shell: Shell,
    what: tuple[str, ...],
    force: tuple[str, ...],
    executor: str | None,
    trigger: str | None,
    no_collect: bool,
) -> None:
    """Make what is out of date: the assets named (all, where none is) and everything that they need.

    What is new in their sources is collected first: each file, row or document once.

    PARAM=VALUE sets a hyperparameter of the assets named, for instance: noria run delay_model num_leaves=63
    """
    with shell.own_output():
        graph: Graph = shell.ws.pipelines.graph()
        if not graph.nodes:
            raise Invalid(
                "The project has no assets yet.", hint='List its modules in noria.toml: modules = ["flights"]'
            )
        targets, params = read_arguments(graph, what)
        forced = list(dict.fromkeys(graph.node(name).name for name in force))
        with shell.progress("Running") as advance:
            done: PipelineRun = shell.ws.pipelines.run(
                targets,
                params,
                actor=shell.ws.actor,
                executor=executor,
                force=forced,
                trigger=trigger,
                advance=advance,
                check=False,
                collect=not no_collect,
            )
    value = w.pipeline_out(done)
    shell.emit(msgspec.to_builtins(value), lambda: _show_run(shell, done))
    if done.failed:
        raise PipelineFailed(done.run_id, [(s.asset, s.error or {}) for s in done.failed])


def _show_run(shell: Shell, done: PipelineRun) -> None:
    steps = list(done.steps.values())
    words = {"source": "at its head", "reused": "cached", "made": "made", "failed": "FAILED", "blocked": "not run"}
    rows = [[s.asset, s.kind, words[s.action], took(s.wall_ms) if s.wall_ms else "", _why_text(s.why)] for s in steps]
    shell.table(["asset", "kind", "", "took", "why"], rows, right=["took"])
    counts = {word: sum(words[s.action] == word for s in steps) for word in dict.fromkeys(words.values())}
    shell.say(f"{', '.join(f'{n} {word}' for word, n in counts.items() if n)}. Run {done.run_id}")
    for warning in done.warnings:
        shell.warn(warning["message"], warning["hint"])


def _why_text(why: Sequence[Any]) -> str:
    texts = [one.text for one in why]
    return "; ".join(texts[:3]) + (f"; and {len(texts) - 3} more" if len(texts) > 3 else "")


def took(ms: int) -> str:
    return duration_text(ms if ms < 10 * SECOND else round(ms / SECOND) * SECOND)


# ---- arguments


def read_arguments(graph: Graph, what: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """(names of assets, hyperparameters) of a command line. Values take the type of the parameter's default.

    Raises:
        AssetUnknown, ParameterUnknown: with the nearest name.
    """
    matches = {text: _PARAM.fullmatch(text) for text in what}
    targets = list(dict.fromkeys(graph.node(text).name for text, match in matches.items() if match is None))
    given = {match.group(1): match.group(2) for match in matches.values() if match is not None}
    if given and not targets:
        raise Invalid(
            f"{next(iter(given))}= sets a hyperparameter, and no asset is named.",
            hint=f"noria run ASSET {what[0]}",
        )
    for name in targets:
        graph.params(name, given)
    defaults = {key: graph.node(name).params[key] for name in reversed(targets) for key in given}
    return targets, {key: read_value(text, defaults[key]) for key, text in given.items()}


def read_value(text: str, default: Any) -> Any:
    """A hyperparameter as it was typed: Python or JSON, else a text; a text where the default is one."""
    if isinstance(default, str):
        return text
    value: Any = text
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(text)
            break
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
    whole = isinstance(value, int) and not isinstance(value, bool)
    return float(value) if whole and isinstance(default, float) else value
