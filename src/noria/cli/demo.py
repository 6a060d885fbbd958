from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from noria.terminal import Shell, command


@command()
@click.option("--quick", is_flag=True, help="The same on fewer days.")
@click.option("--folder", default="noria-demo", show_default=True, type=click.Path(file_okay=False, path_type=Path),
              help="Where the project and its workspace are made.")  # fmt: skip
@click.option("--keep/--no-keep", default=True, show_default=True, help="Leave the server running at the end.")
@click.option("--stop", is_flag=True, help="Only end the server that an earlier demo left running.")
@click.pass_obj
def demo(shell: Shell, quick: bool, folder: Path, keep: bool, stop: bool) -> None:
    """Run the whole loop on a year of real flights. Interrupt it, run it again: it goes on where it stopped."""
    from noria.demo.machine import Machine
    from noria.demo.screen import Screen
    from noria.demo.story import QUICK, Plan, Story

    folder = folder.resolve()
    if stop:
        Machine(folder).down()
        shell.emit({"stopped": str(folder)}, "The server of the demo is down.")
        return
    story = Story(folder, QUICK if quick else Plan(), Screen(quiet=shell.json))
    try:
        found = story.tell()
    except BaseException:
        if not keep:
            story.machine.down()
        raise
    shell.emit(found, lambda: _show(shell, found, keep=keep))
    if not keep:
        story.machine.down()


def _show(shell: Shell, found: dict[str, Any], *, keep: bool) -> None:
    shell.say()
    rows = [
        [m["month"], f"{m['n']:,}", f"{m['late']:.1%}", *(f"{m[k]['log_loss']:.4f}" for k in _SIDES),
         *(f"{m[k]['roc_auc']:.3f}" for k in _SIDES[:2])]
        for m in found["months"]
    ]  # fmt: skip
    columns = ["month", "flights", "late", "log loss", "without loop", "constant", "AUC", "AUC without"]
    shell.table(columns, rows, right=columns[1:])
    shell.say()
    columns = ["opened", "trigger", "model", "state", "why"]
    shell.table(columns, [_line(c) for c in found["candidates"]])
    shell.say()
    text = f"{found['predictions_served']:,} predictions served, {found['lost_predictions']} lost, "
    text += f"{found['recomputed']:,} computed again and equal; {found['promotions']} promotions, "
    text += f"{found['refused_batches']} batch refused."
    shell.say(text)
    trace, score, here = found["trace"], found["scorecard"], found["here"]
    shell.say()
    shell.say(f"The prediction {trace['prediction']} comes from: {', '.join(trace['back'][1:])}.")
    shell.say(f"Its features, computed again from the rows found: {trace['recomputed']}.")
    shell.say(f"The first commit of landings leads to: {', '.join(trace['forth'])}.")
    shell.say()
    sections = ", ".join(f"{name} {points:g}" for name, points in score["sections"].items())
    shell.say(f"ML Test Score {score['score']:g} of 7 ({sections}): {score['band']}.")
    for test, missing in list(here["next"].items())[:4]:
        shell.say(f"  {test}: {missing}")
    shell.say("  ... noria scorecard shows all 28 tests")
    shell.say()
    for number, back in enumerate(found["rollbacks"]):
        took = f" in {here['rollback_ms'][number]} ms" if number < len(here["rollback_ms"]) else ""
        shell.say(f"rollback drill: {back['from']} -> {back['to']}{took}")
    shell.say(f"It took {found['seconds']['total']:.0f} s.")
    shell.say()
    if keep:
        shell.say(f"The server runs at {here['url']}, the endpoint at {here['endpoints']}/endpoints/delays.")
        shell.say(f"End it with: noria demo --stop --folder {here['workspace']}")
    shell.say(f"The workspace is {here['workspace']}. Try there:")
    for line in ("noria candidates", "noria monitor accuracy delays --by month", here["commands"][0]):
        shell.say(f"  {line}")


_SIDES = ("with_loop", "without_loop", "constant")


def _line(found: dict[str, Any]) -> list[str]:
    why = found["canary"].get("text") or "; ".join(g["text"] for g in found["gates"] if not g["passed"])
    state = found["state"].replace("_", " ") + (" (drill)" if found["drill"] else "")
    return [found["opened"][:10], found["trigger"], found["model"], state, why]
