"""``noria runs traces`` and ``noria runs trace`` as typed, and the same over HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from noria.base.actor import Actor
from noria.base.errors import NotFound
from noria.cli.main import run
from noria.http.routes import Call
from noria.tracking.cli.traces import precise, tree
from noria.tracking.http.traces import routes
from noria.tracking.traces.records import Assessment, Source, Span, SpanBatch, SpanEvent, Trace, TraceState
from noria.tracking.wire.traces import TracesQuery
from noria.workspace import connect, init

Typed = Callable[..., tuple[int, str]]
MS = 1_000_000
ONE, TWO = "tr-" + "ab" * 16, "tr-" + "ac" * 16


def span(n: int, parent: int | None = None, **more: Any) -> Span:
    given = {"span_id": f"{n:016x}", "parent_id": None if parent is None else f"{parent:016x}", "name": f"s{n}"}
    return Span(**{**given, "started": n * MS, "ended": (n + 2) * MS, "status": "ok", **more})


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two traces in two experiments."""
    folder = tmp_path_factory.mktemp("traces")
    init(folder).close()
    with connect(folder) as ws:
        ids = [
            ws.tracking.create_experiment(ws.project.id, name, actor=Actor(name="user:test")).id
            for name in ("chat", "b/c")
        ]
        judged = Assessment(
            id="a-1", trace_id=ONE, name="good", kind="feedback", value={"n": [1]}, source=Source(kind="HUMAN", id="ann"),
            created_at=5, updated_at=5, rationale="so it is",
        )  # fmt: skip
        failed = Assessment(
            id="a-2", trace_id=ONE, name="safe", kind="feedback", value=None, source=Source(kind="CODE"),
            created_at=6, updated_at=6, error={"error_message": "no key"},
        )  # fmt: skip
        spans = [
            span(1, name="answer", type="AGENT", ended=1_400 * MS),
            span(3, 1, name="look up", type="TOOL", attributes={"b": b"x", "n": float("nan")}, events=[SpanEvent(name="e", at=1)]),
            span(4, 3, status="error", message="too late"),
            span(2, 1),
            span(9, 77, name="stray"),
        ]  # fmt: skip
        with ws.db.write() as tx:
            told = Trace(
                trace_id=ONE, experiment_id=ids[0], started_at=1_700_000_000_000, took=1_399, state=TraceState.OK
            )
            ws.tracking.traces.tell(
                tx, ws.project.id,
                Trace(**{**{f: getattr(told, f) for f in told.__slots__}, "name": "answer", "session": "s-1",
                         "request": "why?", "response": "[bold]because[/bold]", "assessments": [judged, failed]}),
            )  # fmt: skip
            ws.tracking.traces.add_spans(tx, ws.project.id, ids[0], [SpanBatch(trace_id=ONE, spans=spans)])
            ws.tracking.traces.add_spans(
                tx, ws.project.id, ids[1], [SpanBatch(trace_id=TWO, spans=[span(1, status="error")], name="other")]
            )
    return folder


@pytest.fixture
def typed(shared: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Typed:
    monkeypatch.chdir(shared)
    monkeypatch.setenv("NORIA_ACTOR", "test")
    monkeypatch.setenv("COLUMNS", "200")

    def call(*words: str) -> tuple[int, str]:
        capfd.readouterr()
        code = run(["runs", *words])
        return code, "".join(capfd.readouterr())

    return call


def test_traces_are_listed_and_searched(typed: Typed) -> None:
    code, out = typed("traces")
    assert code == 0
    lines = out.splitlines()
    assert [line.split()[0] for line in lines] == ["trace", ONE, TWO]
    assert [line.split()[:1] for line in typed("traces", "--experiment", "b/c")[1].splitlines()[1:]] == [[TWO]]
    found = json.loads(typed("traces", "--filter", 'status = "OK" and span.type = "TOOL"', "--json")[1])
    assert [(one["id"], one["name"], one["took_ms"], one["spans"]) for one in found["items"]] == [
        (ONE, "answer", 1_399, 5)
    ]
    page = json.loads(typed("traces", "--limit", "1", "--order", "timestamp_ms asc", "--json")[1])
    assert [one["id"] for one in page["items"]] == [TWO]
    rest = json.loads(typed("traces", "--order", "timestamp_ms asc", "--after", page["next"], "--json")[1])
    assert [one["id"] for one in rest["items"]] == [ONE]
    for words in (["--filter", "what = 1"], ["--order", "span.name"], ["--after", "x"], ["--experiment", "nope"]):
        code, out = typed("traces", *words)
        assert code not in (0, 70), words
        assert "Traceback" not in out


def test_a_trace_is_shown_as_a_tree(typed: Typed) -> None:
    code, out = typed("trace", "ab" * 4)
    assert code == 0
    assert "answer: ok" in out
    assert "response: [bold]because[/bold]" in out
    lines = out.splitlines()
    rows = lines[next(n for n, line in enumerate(lines) if line.startswith("span ")) + 1 :]
    for wanted, line in zip(["answer ", "├─ s2 ", "└─ look up ", "   └─ s4 ", "stray "], rows, strict=False):
        assert line.startswith(wanted), (wanted, line)
    assert "1.4 s" in out
    assert "error: too late" in out
    assert '{"n": [1]}' in out
    assert "error: no key" in out
    assert "HUMAN:ann" in out
    value = json.loads(typed("trace", ONE, "--json")[1])
    by_name = {one["name"]: one for one in value["spans"]}
    assert by_name["look up"]["attributes"] == {"b": "eA==", "n": "NaN"}
    for text in ("tr-a", "nothing", "", "%"):
        code, out = typed("trace", text)
        assert code not in (0, 70), text
        assert "Traceback" not in out


def test_spans_in_circles_and_deep_chains_are_shown_once() -> None:
    circle = [span(1, 2), span(2, 1), span(3, 3)]
    assert sorted(one.name for _, one in tree(circle)) == ["s1", "s2", "s3"]
    chain = [span(n, n - 1 if n else None) for n in range(5_000)]
    assert [one.span_id for _, one in tree(chain)] == [one.span_id for one in chain]
    assert [precise(ns) for ns in (0, 7, 1_500, 12_345_678, 1_400_000_000)] == [
        "0",
        "7 ns",
        "1.5 us",
        "12.3 ms",
        "1.4 s",
    ]


def test_the_routes_of_traces(shared: Path) -> None:
    with connect(shared) as ws:
        lists, shows = (route.handler for route in routes(ws.tracking, ws.project.id))

        def call(query: Any = None, **path: str) -> Any:
            return Call(actor=Actor(name="user:test"), path=path, query=query, body=None, key=None)

        page = lists(call(TracesQuery(filter='span.status = "ERROR"'), id="b/c"))
        assert [one.id for one in page.items] == [TWO]
        detail = shows(call(id="chat", trace=ONE))
        assert (detail.trace.session, len(detail.spans)) == ("s-1", 5)
        with pytest.raises(NotFound):
            shows(call(id="b/c", trace=ONE))
