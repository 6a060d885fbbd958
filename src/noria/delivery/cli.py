from __future__ import annotations

import time
from typing import Any

import click
import msgspec

from noria.delivery import wire as w
from noria.terminal import Shell, command

_POLL = 0.2


def _plain(value: Any) -> Any:
    return msgspec.to_builtins(value)


@command()
@click.pass_obj
def apply(shell: Shell) -> None:
    """Write down this project's definitions: a running server acts on them, and its endpoints are made."""
    ws = shell.ws
    before = ws.pipelines.definitions()
    with shell.progress("Reading the project"):
        made = ws.delivery.apply(actor=ws.actor)
    rows: list[list[str]] = []
    for found in made:
        old = before.get(found.name)
        same = old is not None and (old.kind, old.entry, old.spec) == (found.kind, found.entry, found.spec)
        rows.append([found.name, found.kind, "new" if old is None else "same" if same else "changed"])
    rows += [[name, old.kind, "removed"] for name, old in before.items() if name not in {d.name for d in made}]
    value = [{"name": name, "kind": kind, "state": state} for name, kind, state in rows]
    shell.emit(value, lambda: shell.table(["asset", "kind", "state"], rows))


@command()
@click.argument("model")
@click.option("--drill", is_flag=True, help="An exercise: marked as one in every record.")
@click.option("--force", is_flag=True, help="Release it whatever its gates say; this is kept as evidence.")
@click.option("--wait/--no-wait", default=True, help="Wait for the gates.")
@click.pass_obj
def release(shell: Shell, model: str, drill: bool, force: bool, wait: bool) -> None:
    """Put MODEL (name, name/3, name@alias) through its gates, and release it. Exit code 3 where a gate says no."""
    ws = shell.ws
    found = ws.delivery.release(ws.registry.resolve(ws.project.id, model), actor=ws.actor, drill=drill, force=force)
    _follow(shell, found.id, wait)


@command()
@click.argument("model")
@click.argument("params", nargs=-1, metavar="[k=v]...")
@click.option("--wait/--no-wait", default=True, help="Wait for the gates.")
@click.pass_obj
def train(shell: Shell, model: str, params: tuple[str, ...], wait: bool) -> None:
    """Ask the server to train MODEL anew from the applied code; with the champion's hyperparameters by default."""
    import json

    ws = shell.ws
    given: dict[str, Any] = {}
    for text in params:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.UsageError(f"{text!r} is not k=v.")
        try:
            given[name] = json.loads(value)
        except ValueError:
            given[name] = value
    found = ws.delivery.train(model, actor=ws.actor, params=given or None)
    _follow(shell, found.id, wait)


def _follow(shell: Shell, candidate_id: int, wait: bool) -> None:
    """Waits until the gates have spoken and a first release is loaded, then shows what came of it."""
    ws = shell.ws
    if wait and not ws.jobs.held("scheduler"):
        wait = False
        click.echo("No server runs: it is brought on when one does (noria up).", err=True)
    with shell.progress("training and gates"):
        while wait:
            found = ws.delivery.candidate(candidate_id)
            rollout = ws.delivery.rollout_of(candidate_id)
            loading = found.state.value == "releasing" and rollout is not None and rollout.phase.value == "loading"
            if found.state.value not in ("training", "gating") and not loading:
                break
            time.sleep(_POLL)
    found = ws.delivery.candidate(candidate_id)
    value = w.candidate_out(found, ws.delivery.rollout_of(candidate_id))

    def human() -> None:
        shell.say(f"{found.name}: {found.state.value}")
        rows = [["yes" if g["passed"] else "NO", g["kind"], g["text"]] for g in found.gates]
        shell.table(["", "gate", "what it saw"], rows)
        if found.error:
            shell.say(_said(value))

    shell.emit(_plain(value), human)
    if found.state.value == "refused":
        raise click.exceptions.Exit(3)
    if found.state.value == "failed":
        raise click.exceptions.Exit(1)


def _said(found: w.CandidateOut) -> str:
    """Why a candidate is where it is."""
    if found.error is not None:
        return " ".join(filter(None, (found.error["message"], found.error.get("hint", ""))))
    refused = "; ".join(g["text"] for g in found.gates if not g["passed"]) or found.verdict.get("text", "")
    if found.rollout is None or found.state != "releasing":
        return refused
    return f"{found.rollout.phase}, {found.rollout.days} days looked at; the next look is at the end of the day"


@command()
@click.argument("model", required=False)
@click.option("--open", "only_open", is_flag=True, help="Only those on their way.")
@click.pass_obj
def candidates(shell: Shell, model: str | None, only_open: bool) -> None:
    """List candidates: what started them, what the gates and the canary said."""
    ws = shell.ws
    found = ws.delivery.candidates(model=model, only_open=only_open)
    values = [w.candidate_out(c, ws.delivery.rollout_of(c.id)) for c in found]

    def human() -> None:
        rows = []
        for c in values:
            name = f"{c.model}/{c.number}" if c.number else c.model
            trigger = c.trigger + (" (drill)" if c.drill else "")
            rows.append([c.id, c.opened[:10], trigger, name, c.endpoint, c.state, _said(c)])
        shell.table(["id", "opened", "trigger", "model", "endpoint", "state", "said"], rows, right=["id"])

    shell.emit([_plain(v) for v in values], human)


@command()
@click.argument("endpoint")
@click.pass_obj
def cancel(shell: Shell, endpoint: str) -> None:
    """Stop the release of ENDPOINT that is on its way; the champion has all traffic again."""
    ws = shell.ws
    found = ws.delivery.cancel(endpoint, actor=ws.actor)
    value = None if found is None else _plain(w.candidate_out(found))
    shell.emit(value, "No release is on its way." if found is None else f"{found.name}: {found.state.value}")


@command()
@click.argument("endpoint")
@click.option("--drill", is_flag=True, help="An exercise: marked as one in every record.")
@click.pass_obj
def rollback(shell: Shell, endpoint: str, drill: bool) -> None:
    """Give all traffic of ENDPOINT back to the champion before, at once."""
    ws = shell.ws
    found = ws.delivery.rollback_now(endpoint, actor=ws.actor, drill=drill)
    shell.emit(found, f"{endpoint}: {found['before']} -> {found['after']} in {found['ms']} ms.")
