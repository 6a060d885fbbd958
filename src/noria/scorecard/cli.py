from __future__ import annotations

from typing import Any

import click
import msgspec

from noria.base.times import to_text
from noria.scorecard.records import Mark, Score, Section
from noria.scorecard.wire import score_out
from noria.terminal import Shell, command


@command("scorecard")
@click.argument("model", required=False)
@click.option("--keep", is_flag=True, help="Keep the score as a version of the asset scorecard.")
@click.pass_obj
def scorecard(shell: Shell, model: str | None, keep: bool) -> None:
    """The ML Test Score: 28 tests, computed from recorded evidence; the weakest section counts.

    MODEL is an endpoint, a model, model/3 or model@champion; it may be left out where there is only one.
    """
    ws = shell.ws
    with shell.progress("Reading the evidence"):
        score = ws.scorecard.keep(model, actor=ws.actor)[0] if keep else ws.scorecard.score(model)
    shell.emit(msgspec.to_builtins(score_out(score)), lambda: _show(shell, score))


def _show(shell: Shell, score: Score) -> None:
    subject = score.subject
    if subject.model is None:
        shell.say("Nothing serves yet, so there is nothing that evidence could count for: noria deploy MODEL@champion")
    else:
        where = f" behind {subject.endpoint}" if subject.endpoint else ", which serves nowhere"
        shell.say(f"{subject.model}{where}, {to_text(score.at)}")
    rows: list[list[Any]] = []
    for section, points in score.sections.items():
        rows.append([f"{section.value}", "", f"{points:g}", "", ""])
        rows += [
            [t.id, t.title, f"{t.points:g}", _rests(t), "; ".join(t.missing)]
            for t in score.tests
            if t.section == section
        ]
    shell.table(["test", "", "points", "rests on", "missing for the next half point"], rows, right=["points"])
    weakest = min(score.sections, key=lambda s: (score.sections[s], list(Section).index(s)))
    shell.say(f"Score {score.value:g} of 7 ({weakest.value} is the weakest): {score.band}.")


def _rests(test: Mark) -> str:
    """The newest record of each kind, with its number and day."""
    newest = {e.test: e for e in test.evidence}
    parts = [f"{e.test} {e.id} {'' if e.passed else 'red '}({to_text(e.event_ms)[:10]})" for e in newest.values()]
    return ", ".join(parts) + (f"; {test.note}" if test.note else "")
