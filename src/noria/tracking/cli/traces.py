from __future__ import annotations

from collections.abc import Sequence

import click

from noria.base.times import duration_text
from noria.terminal import Shell, command
from noria.terminal.grid import Column, grid
from noria.tracking.cli.shared import moment, plain
from noria.tracking.traces.records import Span, Trace
from noria.tracking.traces.spantext import plain as plain_text
from noria.tracking.wire import traces as w


@command()
@click.option("--experiment", help="Only traces of this experiment.")
@click.option("--filter", "text", help='For instance: status = "ERROR" and span.name = "search" and tags.team = "a"')
@click.option("--order", help="For instance: execution_time_ms desc. Default: the newest first.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1_000))
@click.option("--after", help="Go on after this page: the token below the page before.")
@click.pass_obj
def traces(
    shell: Shell, experiment: str | None, text: str | None, order: str | None, limit: int, after: str | None
) -> None:
    """List traces, newest first, or search them."""
    tracking, project_id = shell.ws.tracking, shell.ws.project.id
    chosen = None if experiment is None else [tracking.named_experiment(project_id, experiment).id]
    page = tracking.traces.search(project_id, chosen, text or "", order_by=order, limit=limit, after=after)

    def human() -> None:
        found = page.items
        grid(
            shell,
            [
                Column(title="trace", cells=[one.trace_id for one in found]),
                Column(title="name", cells=[one.name or "" for one in found], least=10),
                Column(title="state", cells=[one.state.value for one in found]),
                Column(title="started", cells=[moment(one.started_at) for one in found], drop=1),
                Column(title="took", cells=[_took(one) for one in found], right=True),
                Column(title="spans", cells=[one.spans or "" for one in found], right=True, drop=2),
                Column(title="request", cells=[one.request or "" for one in found], least=10, drop=3),
            ],
        )
        if page.next is not None:
            shell.say(f"More: --after {page.next}")

    shell.emit({"items": [plain(w.trace_out(one)) for one in page.items], "next": page.next}, human)


@command()
@click.argument("trace")
@click.pass_obj
def trace(shell: Shell, trace: str) -> None:
    """Show a trace as the tree of its spans. The beginning of its id is enough."""
    reading, project_id = shell.ws.tracking.traces, shell.ws.project.id
    found = reading.resolve(project_id, trace)
    spans = reading.spans(project_id, [found.trace_id]).get(found.trace_id, [])
    shell.emit(plain(w.detail_out(found, spans)), lambda: _show(shell, found, spans))


def _show(shell: Shell, found: Trace, spans: Sequence[Span]) -> None:
    from rich.markup import escape

    shell.say(escape(f"{found.name or 'trace'}: {found.state.value}, {moment(found.started_at)} {_took(found)}"))
    shell.say(escape(f"trace {found.trace_id}" + (f" of session {found.session}" if found.session else "")))
    for label, text in (("request", found.request), ("response", found.response)):
        if text:
            shell.say(escape(f"{label}: {text[:300]}"))
    rows = tree(spans)
    begin = min((span.started for span in spans), default=0)
    if not rows:
        shell.say("Its spans are not here." if found.spans == 0 else "")
    else:
        grid(
            shell,
            [
                Column(title="span", cells=[branch + span.name for branch, span in rows], least=20),
                Column(title="type", cells=[span.type or "" for _, span in rows], drop=1),
                Column(title="after", cells=[precise(span.started - begin) for _, span in rows], right=True, drop=2),
                Column(title="took", cells=[_span_took(span) for _, span in rows], right=True),
                Column(title="", cells=[_fault(span) for _, span in rows], least=10),
            ],
        )
    valid = [one for one in found.assessments if one.valid]
    if valid:
        shown = [w.assessment_out(one) for one in valid]
        rows_of = [[one.kind, one.name, _value(one), one.by, one.rationale or ""] for one in shown]
        shell.table(["kind", "name", "value", "by", "because"], rows_of)


def _value(one: w.AssessmentOut) -> str:
    return f"error: {one.error.get('error_message', '')}" if one.error else plain_text(one.value)


def tree(spans: Sequence[Span]) -> list[tuple[str, Span]]:
    """Spans in the order of a tree, each with the lines to its left; one whose parent is missing is a root."""
    known = {span.span_id for span in spans}
    below: dict[str | None, list[Span]] = {}
    for span in spans:
        parent = span.parent_id if span.parent_id in known and span.parent_id != span.span_id else None
        below.setdefault(parent, []).append(span)
    rows: list[tuple[str, Span]] = []
    waiting = [("", "", span) for span in reversed(below.get(None, ()))]
    while waiting:
        branch, indent, span = waiting.pop()
        rows.append((branch, span))
        children = sorted(below.pop(span.span_id, ()), key=lambda one: one.started)
        for n, child in reversed(list(enumerate(children))):
            last = n == len(children) - 1
            waiting.append((indent + ("└─ " if last else "├─ "), indent + ("   " if last else "│  "), child))
    shown = {span.span_id for _, span in rows}
    return rows + [("", span) for span in spans if span.span_id not in shown]  # those in a circle


def precise(ns: int) -> str:
    """A time between two moments for people."""
    for size, unit in ((1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")):
        if abs(ns) >= size:
            return f"{ns / size:.3g} {unit}" if abs(ns) < 1_000 * size else f"{ns / size:.0f} {unit}"
    return f"{ns} ns" if ns else "0"


def _took(found: Trace) -> str:
    return "" if found.took is None else duration_text(found.took)


def _span_took(span: Span) -> str:
    return "" if span.ended is None else precise(span.ended - span.started)


def _fault(span: Span) -> str:
    return f"error: {span.message}" if span.status == "error" else ""
