from __future__ import annotations

import math
from typing import Any

import click
import msgspec

from noria.registry import wire as w
from noria.terminal import Shell, group

models = group("models", "Registered models: list, show, alias.")


def _plain(value: Any) -> Any:
    return msgspec.to_builtins(value)


@models.command("list")
@click.pass_obj
def list_(shell: Shell) -> None:
    """List the registered models."""
    ws = shell.ws
    found = ws.registry.models(ws.project.id)
    rows = []
    for model in found:
        versions = ws.registry.versions(ws.project.id, model.name)
        newest = versions[0].number if versions else None
        rows.append([model.name, newest, _aliases_text(model.aliases), w.model_out(model).updated_at])
    columns = ["model", "newest", "aliases", "changed"]
    shell.emit([_plain(w.model_out(m)) for m in found], lambda: shell.table(columns, rows, right=["newest"]))


def _aliases_text(aliases: dict[str, int]) -> str:
    return ", ".join(f"{alias} -> {number}" for alias, number in sorted(aliases.items()))


@models.command()
@click.argument("model")
@click.pass_obj
def show(shell: Shell, model: str) -> None:
    """Show a model with its versions, or one version: MODEL, MODEL@champion, MODEL@v3, MODEL/3."""
    if "@" in model or "/" in model:
        _show_version(shell, model)
        return
    ws = shell.ws
    found = ws.registry.get(ws.project.id, model)
    versions = [w.version_out(v, found) for v in ws.registry.versions(ws.project.id, model)]
    value = w.ModelDetail(w.model_out(found), versions)

    def human() -> None:
        shell.say(f"{found.name}: {_aliases_text(found.aliases) or 'no aliases'}")
        rows = [[v.number, ", ".join(v.aliases), v.created_at, v.run or v.source] for v in versions]
        shell.table(["version", "aliases", "made", "run"], rows, right=["version"])

    shell.emit(_plain(value), human)


def _show_version(shell: Shell, text: str) -> None:
    ws = shell.ws
    version = w.find_version(ws.registry, ws.project.id, text)
    made = w.version_out(version, ws.registry.get(ws.project.id, version.model))
    points = {} if version.run_id is None else ws.tracking.data(version.run_id).metrics
    # JSON has no numbers for NaN and the infinities.
    metrics = {k: p.value if math.isfinite(p.value) else str(p.value) for k, p in points.items()}

    def human() -> None:
        shell.say(f"{made.name} {', '.join(made.aliases)}".rstrip())
        shell.say(f"made {made.created_at}" + (f" by the run {made.run}" if made.run else f" from {made.source}"))
        if metrics:
            shell.table(["metric", "value"], [[k, f"{p.value:.6g}"] for k, p in points.items()], right=["value"])

    shell.emit({**_plain(made), "metrics": metrics}, human)


@models.command()
@click.argument("model")
@click.argument("alias")
@click.argument("version", required=False)
@click.option("--remove", is_flag=True, help="Remove the alias.")
@click.option("--expected", type=click.IntRange(min=0), help="Version that it has to point at now; 0 for none.")
@click.pass_obj
def alias(shell: Shell, model: str, alias: str, version: str | None, remove: bool, expected: int | None) -> None:
    """Point an alias at a version: a number, v3, or another alias. Traffic is not moved by it."""
    if remove == (version is not None):
        raise click.UsageError("Give either a VERSION or --remove.")
    ws = shell.ws
    after = None
    if version is not None:
        text = f"{model}/{version}" if version.removeprefix("v").isdecimal() else f"{model}@{version}"
        after = w.find_version(ws.registry, ws.project.id, text).number
    given = {} if expected is None else {"expected": expected or None}
    before = ws.registry.move_alias(ws.project.id, model, alias, after, actor=ws.actor, **given)
    value = w.AliasOut(model, alias, before, after)
    where = "points nowhere" if after is None else f"points at version {after}"
    shell.emit(_plain(value), f"{model}@{alias} {where} (before: {before or 'nowhere'}).")
