"""Traces on both databases: what is told in any order, and searches compared with a model in Python."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.base.actor import Actor
from noria.base.errors import Invalid, NotFound
from noria.base.ids import RunId
from noria.base.search import parse
from noria.tracking.errors import ExperimentDeleted, ExperimentNotFound
from noria.tracking.grammar import TRACES
from noria.tracking.traces import packed, search
from noria.tracking.traces import tables as t
from noria.tracking.traces.errors import AssessmentNotFound, TraceNotFound
from noria.tracking.traces.records import Assessment, Source, Span, SpanBatch, SpanEvent, SpanLink, Trace, TraceState
from noria.tracking.traces.spantext import like
from noria.workspace import Workspace

MS = 1_000_000


def named(n: int) -> str:
    return f"tr-{n:032x}"


def span(n: int, name: str = "s", **more: Any) -> Span:
    return Span(**{"span_id": f"{n:016x}", "name": name, "started": 5 * MS, "ended": 9 * MS, **more})


def told(n: int, experiment: int = 0, **more: Any) -> Trace:
    given = {
        "trace_id": named(n),
        "experiment_id": experiment,
        "started_at": 1_000 + n,
        "took": 5,
        "state": TraceState.OK,
    }
    return Trace(**{**given, **more})


def tell(ws: Workspace, *traces: Trace) -> list[Trace]:
    with ws.db.write() as tx:
        return [ws.tracking.traces.tell(tx, ws.project.id, one) for one in traces]


def add(ws: Workspace, experiment: int, *batches: SpanBatch) -> None:
    with ws.db.write() as tx:
        ws.tracking.traces.add_spans(tx, ws.project.id, experiment, batches)


def experiment(ws: Workspace, name: str = "e") -> int:
    return ws.tracking.create_experiment(ws.project.id, name, actor=Actor(name="user:alice")).id


def test_spans_may_come_before_and_after_the_words_of_their_trace(both: Workspace) -> None:
    traces, project, e = both.tracking.traces, both.project.id, experiment(both)
    child = span(2, "child", parent_id=f"{1:016x}", started=6 * MS, ended=30 * MS)
    add(both, e, SpanBatch(trace_id=named(1), spans=[child], metadata={"a": "guess"}, session="guess"))
    found = traces.get(project, named(1))
    assert (found.state, found.started_at, found.took, found.spans) == (TraceState.RUNNING, 6, 24, 1)
    add(both, e, SpanBatch(trace_id=named(1), spans=[span(1, "root", status="ok")], request="in", response="out"))
    found = traces.get(project, named(1))
    assert (found.state, found.started_at, found.took, found.request) == (TraceState.OK, 5, 25, "in")
    made = tell(both, told(1, e, metadata={"a": "said", "b": "x"}, name="n", state=TraceState.ERROR, response="mine"))[
        0
    ]
    assert (made.started_at, made.took, made.state) == (1_001, 5, TraceState.ERROR)
    assert (made.metadata, made.session, made.request, made.response) == (
        {"a": "said", "b": "x"},
        "guess",
        "in",
        "mine",
    )
    late = span(3, "late", parent_id=f"{1:016x}", started=1 * MS, ended=90_000 * MS, status="error")
    add(both, e, SpanBatch(trace_id=named(1), spans=[late], metadata={"a": "later", "c": "new"}, request="no"))
    found = traces.get(project, named(1))
    assert (found.started_at, found.took, found.state, found.request) == (1_001, 5, TraceState.ERROR, "in")
    assert found.metadata == {"a": "said", "b": "x", "c": "new"}
    assert [one.name for one in traces.spans(project, [named(1)])[named(1)]] == ["root", "late", "child"]


def test_a_span_that_comes_again_replaces_itself(both: Workspace) -> None:
    e = experiment(both)
    add(both, e, SpanBatch(trace_id=named(1), spans=[span(1, ended=None), span(2, parent_id=f"{1:016x}")]))
    assert both.tracking.traces.get(both.project.id, named(1)).state is TraceState.RUNNING
    add(both, e, SpanBatch(trace_id=named(1), spans=[span(1, status="error", message="no")]))
    found = both.tracking.traces.spans(both.project.id, [named(1)])[named(1)]
    assert [(one.span_id[-1], one.status) for one in found] == [("1", "error"), ("2", "unset")]
    assert both.tracking.traces.get(both.project.id, named(1)).state is TraceState.ERROR


def test_texts_that_no_database_takes_are_kept_readable(both: Workspace) -> None:
    e = experiment(both)
    add(both, e, SpanBatch(trace_id=named(1), spans=[span(1, "a\0b", type="t\0")], tags={"k": "v\0"}, request="\0"))
    tell(both, told(2, e, name="x" * 20_000, metadata={"k" * 300: "v" * 300}, tags={"t": "v" * 9_000}))
    one, two = (both.tracking.traces.get(both.project.id, named(n)) for n in (1, 2))
    assert (one.tags, one.request) == ({"k": "v\ufffd"}, "\ufffd")
    assert both.tracking.traces.spans(both.project.id, [named(1)])[named(1)][0].name == "a\0b"
    assert two.metadata == {"k" * 250: "v" * 250}
    assert [len(value) for value in two.tags.values()] == [8_000]


def test_where_no_trace_belongs(both: Workspace) -> None:
    e = experiment(both)
    both.tracking.delete_experiment(both.project.id, e, actor=Actor(name="user:alice"))
    with pytest.raises(ExperimentDeleted):
        tell(both, told(1, e))
    with pytest.raises(ExperimentNotFound):
        add(both, 999, SpanBatch(trace_id=named(1), spans=[span(1)]))
    for wrong in (told(1, trace_id=""), told(1, trace_id="x" * 101), told(1, started_at=-1), told(1, took=1 << 63)):
        with pytest.raises(Invalid):
            tell(both, wrong)
    assert tell(both, told(1))[0].experiment_id == both.tracking.experiment_by_id(both.project.id, 0).id
    with pytest.raises(TraceNotFound):
        both.tracking.traces.get(both.project.id, named(2))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), VALUES, max_size=5), st.text(), st.text())
def test_whatever_a_span_says_comes_back(attributes: dict[str, Any], name: str, message: str) -> None:
    event = SpanEvent(name=name, at=1, attributes=attributes)
    link = SpanLink(trace_id=named(1), span_id="0" * 16, attributes=attributes)
    made = span(1, name, message=message, attributes=attributes, events=[event], links=[link])
    assert packed.unpack(packed.pack([made])) == [made]


def test_nan_comes_back_and_damage_is_said() -> None:
    made = packed.pack([span(1, attributes={"n": math.nan, "i": -math.inf})])
    assert math.isnan(packed.unpack(made)[0].attributes["n"])
    for wrong in (b"", made[1:], made[:-5], b"NRTS\x02" + made[5:]):
        with pytest.raises(packed.SpansDamaged):
            packed.unpack(wrong)


@given(st.text("ab%_\n", max_size=8), st.text("abA\n_%", max_size=12), st.booleans())
def test_like_is_what_a_regular_expression_says(pattern: str, text: str, any_case: bool) -> None:
    shape = "".join(".*" if char == "%" else "." if char == "_" else re.escape(char) for char in pattern)
    wanted = re.fullmatch(shape, text, re.DOTALL | (re.IGNORECASE if any_case else re.NOFLAG)) is not None
    assert like(pattern, any_case=any_case)(text) == wanted


# ---- searches

STATES = [TraceState.OK, TraceState.ERROR, TraceState.RUNNING, TraceState.OK]
STATUS = {TraceState.OK: "OK", TraceState.ERROR: "ERROR", TraceState.RUNNING: "IN_PROGRESS"}
RUNS = [RunId(f"{n:032x}") for n in (1, 2)]


def many(ws: Workspace, e: int, count: int = 60) -> list[tuple[Trace, list[Span]]]:
    """Traces that differ in all that is searched, as they came back."""
    spans: dict[str, list[Span]] = {}
    for n in range(count):
        trace_id = named(n)
        judged = [
            Assessment(
                id=f"a-{n}-{k}", trace_id=trace_id, name=name, kind=kind, value=value, source=Source(kind="HUMAN"),
                created_at=5, updated_at=5, valid=k != 2, whole_session=name == "polite",
            )
            for k, (kind, name, value) in enumerate(
                [("feedback", "good", n % 3 == 0), ("feedback", "score", n / 10), ("feedback", "score", 99.0),
                 ("expectation", "answer", f"text {n % 4}"), ("feedback", "polite", "yes" if n == 4 else "no")]
            )
            if n % 5 or k == 4
        ]  # fmt: skip
        one = told(
            n, e, started_at=1_000 + n // 2, took=None if n % 7 == 3 else n % 9 * 100, state=STATES[n % 4],
            name=None if n % 6 == 5 else f"name {n % 3}", client_id=f"c{n}" if n % 2 else None,
            session=f"s{n % 8}" if n % 3 else None, runs=[RUNS[n % 4]] if n % 4 < 2 else [],
            tags={"team": "abc"[n % 3], **({"Rare": f"X{n}"} if n % 10 == 0 else {})},
            metadata={"user": f"u{n % 5}", **({"m.x": "y"} if n % 4 == 0 else {})},
            assessments=judged if n % 8 != 7 else [],
        )  # fmt: skip
        tell(ws, one)
        if n % 9 != 8:
            spans[trace_id] = [
                span(n + 1, "root", type="CHAIN", status="ok", attributes={"question": f"what is {n}?", "n": n}),
                span(
                    1_000 + n, f"tool {n % 2}", type="TOOL" if n % 2 else None, status="error" if n % 5 == 0 else "ok",
                    parent_id=f"{n + 1:016x}", attributes={"deep": {"a": [n % 3]}, **({"rare": True} if n == 30 else {})},
                    events=[SpanEvent(name="exception", at=1, attributes={"message": f"Boo {n}"})] if n % 5 == 0 else [],
                ),
            ]  # fmt: skip
            add(ws, e, SpanBatch(trace_id=trace_id, spans=spans[trace_id]))
    with ws.db.write() as tx:
        ws.tracking.traces.link_prompts(tx, ws.project.id, named(3), ["ask/1"])
    return [(ws.tracking.traces.get(ws.project.id, named(n)), spans.get(named(n), [])) for n in range(count)]


Fits = Callable[[Trace, list[Span]], bool]


def judged(trace: Trace, kind: str, name: str) -> list[Any]:
    return [a.value for a in trace.assessments if a.valid and (a.kind, a.name) == (kind, name)]


def content(one: Span) -> str:
    return json.dumps([one.name, one.attributes, [[e.name, e.attributes] for e in one.events]], ensure_ascii=False)


FILTERS: list[tuple[str, Fits]] = [
    ("", lambda t, s: True),
    ('status = "OK"', lambda t, s: t.state is TraceState.OK),
    ('attributes.status != "OK"', lambda t, s: t.state is not TraceState.OK),
    ('trace.status IN ("OK", "ERROR")', lambda t, s: STATUS[t.state] in ("OK", "ERROR")),
    ('state = "running"', lambda t, s: t.state is TraceState.RUNNING),
    ('status LIKE "%R%"', lambda t, s: "R" in STATUS[t.state]),
    ("timestamp_ms > 1010", lambda t, s: t.started_at > 1010),
    ("timestamp >= 1010 and timestamp_ms <= 1012", lambda t, s: 1010 <= t.started_at <= 1012),
    ("execution_time_ms = 300", lambda t, s: t.took == 300),
    ("execution_time != 300", lambda t, s: t.took is not None and t.took != 300),
    ("execution_time_ms < 250", lambda t, s: t.took is not None and t.took < 250),
    ("end_time > 1500", lambda t, s: t.started_at + (t.took or 0) > 1500),
    ('name = "name 1"', lambda t, s: t.name == "name 1"),
    ('name != "name 1"', lambda t, s: t.name not in (None, "name 1")),
    ('name LIKE "%1"', lambda t, s: t.name is not None and t.name.endswith("1")),
    ('name ILIKE "NAME _"', lambda t, s: t.name is not None),
    ("name IS NULL", lambda t, s: t.name is None),
    ("name IS NOT NULL", lambda t, s: t.name is not None),
    ('name NOT IN ("name 0", "name 2")', lambda t, s: t.name == "name 1"),
    (f'request_id = "{named(5)}"', lambda t, s: t.trace_id == named(5)),
    (f'request_id IN ("{named(5)}", "{named(6)}", "x")', lambda t, s: t.trace_id in (named(5), named(6))),
    ('client_request_id = "c7"', lambda t, s: t.client_id == "c7"),
    ('client_request_id LIKE "c1_"', lambda t, s: re.fullmatch("c1.", t.client_id or "") is not None),
    (f'run_id = "{RUNS[1]}"', lambda t, s: RUNS[1] in t.runs),
    (f'run_id != "{RUNS[1]}"', lambda t, s: RUNS[0] in t.runs),
    ("run_id IS NULL", lambda t, s: not t.runs),
    ('tags.team = "a"', lambda t, s: t.tags["team"] == "a"),
    ('tag.team != "a"', lambda t, s: t.tags["team"] != "a"),
    ("tags.Rare IS NOT NULL", lambda t, s: "Rare" in t.tags),
    ("tags.Rare IS NULL", lambda t, s: "Rare" not in t.tags),
    ('tags.`Rare` ILIKE "x1%"', lambda t, s: t.tags.get("Rare", "").startswith("X1")),
    ("tags.never IS NULL", lambda t, s: True),
    ('tags.never = "a"', lambda t, s: False),
    ('metadata.user = "u2"', lambda t, s: t.metadata["user"] == "u2"),
    ('request_metadata.`m.x` = "y"', lambda t, s: t.metadata.get("m.x") == "y"),
    ("metadata.`m.x` IS NULL", lambda t, s: "m.x" not in t.metadata),
    ('prompt = "ask/1"', lambda t, s: t.trace_id == named(3)),
    ('feedback.good = "true"', lambda t, s: True in judged(t, "feedback", "good")),
    ('feedback.good != "true"', lambda t, s: False in judged(t, "feedback", "good")),
    ("feedback.score > 2.5", lambda t, s: any(v > 2.5 for v in judged(t, "feedback", "score"))),
    ("feedback.score <= 0.6", lambda t, s: any(v <= 0.6 for v in judged(t, "feedback", "score"))),
    ("feedback.good > 0", lambda t, s: False),
    ('expectation.answer = "text 2"', lambda t, s: "text 2" in judged(t, "expectation", "answer")),
    ('expectation.answer LIKE "%3"', lambda t, s: "text 3" in judged(t, "expectation", "answer")),
    ("expectation.answer IS NULL", lambda t, s: not judged(t, "expectation", "answer")),
    ("feedback.good IS NOT NULL", lambda t, s: bool(judged(t, "feedback", "good"))),
    ('feedback.polite = "yes"', lambda t, s: t.session == "s4"),
    ('span.name = "tool 1"', lambda t, s: any(x.name == "tool 1" for x in s)),
    ('span.type = "TOOL"', lambda t, s: any(x.type == "TOOL" for x in s)),
    ('span.type IN ("TOOL", "LLM")', lambda t, s: any(x.type == "TOOL" for x in s)),
    ('span.status = "ERROR"', lambda t, s: any(x.status == "error" for x in s)),
    ('span.name = "tool 1" and span.status = "ERROR"', lambda t, s: any(x.name == "tool 1" and x.status == "error" for x in s)),
    ('span.name = "root" and span.status = "ERROR"', lambda t, s: False),
    ('span.attributes.question = "what is 7?"', lambda t, s: any(x.attributes.get("question") == "what is 7?" for x in s)),
    ('span.attributes.question LIKE "%1_?"', lambda t, s: any(re.search(r"1.\?$", x.attributes.get("question", "")) for x in s)),
    ('span.attributes.n = "12"', lambda t, s: any(x.attributes.get("n") == 12 for x in s)),
    ('span.attributes.rare != "x"', lambda t, s: any("rare" in x.attributes for x in s)),
    ('span.attributes.deep LIKE "%[2]%"', lambda t, s: any(x.attributes.get("deep") == {"a": [2]} for x in s)),
    ('span.name LIKE "tool%" and span.attributes.n = "12"', lambda t, s: False),
    ('trace.text LIKE "%Boo%"', lambda t, s: any("Boo" in content(x) for x in s)),
    ('text ILIKE "%boo 2%" and tags.team = "b"', lambda t, s: t.tags["team"] == "b" and any("Boo 2" in content(x) for x in s)),
    ('span.content LIKE "%what is 1%" and status = "OK"', lambda t, s: t.state is TraceState.OK and any("what is 1" in content(x) for x in s)),
    ('status = "OK" tags.team = "a" and name IS NOT NULL and feedback.score > 1', lambda t, s: t.state is TraceState.OK
     and t.tags["team"] == "a" and t.name is not None and any(v > 1 for v in judged(t, "feedback", "score"))),
]  # fmt: skip


def found(ws: Workspace, experiments: list[int], text: str, order: str | None = None, limit: int = 1_000) -> list[str]:
    """Ids of all pages of a search."""
    ids: list[str] = []
    after = None
    while True:
        page = ws.tracking.traces.search(ws.project.id, experiments, text, order_by=order, limit=limit, after=after)
        assert len(page.items) <= limit
        ids += [one.trace_id for one in page.items]
        after = page.next
        if after is None:
            return ids


def test_every_filter_finds_what_a_model_in_python_finds(both: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_DEEP", 8)  # several reads of spans for one page
    monkeypatch.setattr(search, "MOST_READ", 24)
    e, other = experiment(both), experiment(both, "other")
    tell(both, told(999, other, name="name 1", tags={"team": "a"}, started_at=5_000))
    known = many(both, e)
    known.sort(key=lambda pair: (-pair[0].started_at, pair[0].trace_id))
    hits = set()
    for text, fits in FILTERS:
        wanted = [trace.trace_id for trace, spans in known if fits(trace, spans)]
        assert found(both, [e], text) == wanted, text
        assert found(both, [e], text, limit=7) == wanted, text
        hits.add(bool(wanted))
        clauses = parse(text, TRACES)
        if all(c.kind != "span_attribute" and (c.kind, c.key) != ("span", "content") for c in clauses):
            assert both.tracking.traces.count(both.project.id, [e], clauses) == len(wanted), text
    assert hits == {True, False}
    assert found(both, [e, other], 'name = "name 1" and timestamp_ms = 5000') == [named(999)]
    assert found(both, [], "") == []


ORDERS: list[tuple[str, Callable[[Trace], Any]]] = [
    ("timestamp_ms", lambda t: t.started_at),
    ("execution_time_ms", lambda t: t.took),
    ("end_time", lambda t: t.started_at + (t.took or 0)),
    ("status", lambda t: STATUS[t.state]),
    ("name", lambda t: t.name),
    ("request_id", lambda t: t.trace_id),
    ("run_id", lambda t: t.runs[0] if t.runs else None),
    ("tags.Rare", lambda t: t.tags.get("Rare")),
    ("metadata.user", lambda t: t.metadata["user"]),
    ("tags.never", lambda t: None),
]


def test_every_order_and_its_pages(both: Workspace) -> None:
    e = experiment(both)
    known = [trace for trace, _ in many(both, e, 40)]
    for name, key in ORDERS:
        for way in ("asc", "DESC"):
            rest = sorted(known, key=lambda t: (-t.started_at, t.trace_id))
            have = sorted((t for t in rest if key(t) is not None), key=key)
            if way == "DESC":  # ties stay as they were
                groups: dict[Any, list[Trace]] = {}
                for trace in have:
                    groups.setdefault(key(trace), []).append(trace)
                have = [trace for value in reversed(groups) for trace in groups[value]]
            wanted = [t.trace_id for t in have] + [t.trace_id for t in rest if key(t) is None]
            assert found(both, [e], "", f"{name} {way}") == wanted, (name, way)
            assert found(both, [e], "", f"{name} {way}", limit=6) == wanted, (name, way)


def test_a_page_token_belongs_to_its_search(both: Workspace) -> None:
    e = experiment(both)
    tell(both, *(told(n, e) for n in range(5)))
    after = both.tracking.traces.search(both.project.id, [e], limit=2).next
    assert after is not None
    for wrong in ("x", "", after[:-3], "WyJhIl0", "WzEsMl0", "WzFlOTk5LCAieCJd"):
        with pytest.raises(Invalid):
            both.tracking.traces.search(both.project.id, [e], limit=2, after=wrong or "e30")
    with pytest.raises(Invalid):
        both.tracking.traces.search(both.project.id, [e], order_by="name", limit=2, after=after)


# ---- assessments, links, the end


def opinion(n: int, **more: Any) -> Assessment:
    given = {"id": "", "trace_id": named(n), "name": "good", "kind": "feedback", "value": True}
    return Assessment(**{**given, "source": Source(kind="HUMAN", id="ann"), "created_at": 7, "updated_at": 7, **more})


def test_an_assessment_overrides_another_until_it_is_deleted(both: Workspace) -> None:
    traces, project, e = both.tracking.traces, both.project.id, experiment(both)
    tell(both, told(1, e), told(2, e))
    with both.db.write() as tx:
        first = traces.assess(tx, project, opinion(1, metadata={"a": "b"}, rationale="so"))
        second = traces.assess(tx, project, opinion(1, value=False, overrides=first.id, created_at=8))
    assert [(a.id, a.valid) for a in traces.get(project, named(1)).assessments] == [
        (first.id, False),
        (second.id, True),
    ]
    assert found(both, [e], 'feedback.good = "true"') == []
    with pytest.raises(AssessmentNotFound), both.db.write() as tx:
        traces.assess(tx, project, opinion(2, overrides=first.id))
    with both.db.write() as tx:
        traces.delete_assessment(tx, project, named(1), second.id)
        traces.delete_assessment(tx, project, named(1), second.id)  # once more does no harm
    assert found(both, [e], 'feedback.good = "true"') == [named(1)]
    with both.db.write() as tx:
        changed = traces.amend_assessment(
            tx, project, named(1), first.id, name="better", kind="feedback", value={"n": [1]}, metadata={"c": "d"}
        )
    assert changed == traces.assessment(project, named(1), first.id)
    assert (changed.name, changed.value, changed.rationale) == ("better", {"n": [1]}, "so")
    assert (changed.metadata, changed.source, changed.created_at) == ({"a": "b", "c": "d"}, first.source, 7)
    for wrong in ({"kind": "expectation", "value": 1}, {"name": "x" * 251}, {"name": ""}):
        with pytest.raises(Invalid), both.db.write() as tx:
            traces.amend_assessment(tx, project, named(1), first.id, **wrong)
    with pytest.raises(TraceNotFound):
        traces.assessment(project, named(9), first.id)
    with pytest.raises(AssessmentNotFound):
        traces.assessment(project, named(2), first.id)


def test_traces_belong_to_runs(both: Workspace) -> None:
    traces, project, e = both.tracking.traces, both.project.id, experiment(both)
    actor = Actor(name="user:alice")
    with both.db.write() as tx:
        run = both.tracking.create_run(tx, project, e, name="r", actor=actor)
    tell(both, told(1, e), told(2, e, runs=[RUNS[0]]), told(3, e))
    with both.db.write() as tx:
        traces.link_run(tx, project, [named(1), named(2), "nowhere"], run.id)
        traces.link_run(tx, project, [named(1)], run.id)
    assert found(both, [e], f'run_id = "{run.id}"') == [named(2), named(1)]
    assert found(both, [e], f'run_id != "{run.id}"') == [named(2)]
    assert traces.get(project, named(2)).runs == [RUNS[0], run.id]
    with pytest.raises(NotFound), both.db.write() as tx:
        traces.link_run(tx, project, [named(1)], RunId("0" * 32))
    with pytest.raises(Invalid), both.db.write() as tx:
        traces.link_run(tx, project, [named(n) for n in range(101)], run.id)


def test_deleted_traces_leave_nothing(both: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    traces, project, e = both.tracking.traces, both.project.id, experiment(both)
    actor = Actor(name="user:alice")
    many(both, e, 30)
    assert traces.delete(project, e, actor=actor, until=1_002, most=4) == 4
    assert traces.delete(project, e, actor=actor, until=1_002) == 2
    assert sorted(found(both, [e], "")) == [named(n) for n in range(6, 30)]
    other = experiment(both, "other")
    assert traces.delete(project, other, actor=actor, trace_ids=[named(7)]) == 0
    assert traces.delete(project, e, actor=actor, trace_ids=[named(7), named(8), "nowhere"]) == 2
    assert traces.delete(project, e, actor=actor, until=1 << 60) == 22
    with both.db.read() as conn:
        for table in (t.traces, t.tags, t.facts, t.runs, t.prompts, t.spans, t.kinds, t.assessments):
            assert conn.execute(table.select()).first() is None, table.name


def test_an_old_client_begins_and_ends(both: Workspace) -> None:
    traces, project, e = both.tracking.traces, both.project.id, experiment(both)
    with both.db.write() as tx:
        begun = traces.begin(tx, project, e, started_at=100, name="n", tags={"a": "b"}, metadata={"m": "1"})
    assert (begun.state, begun.took, begun.name) == (TraceState.RUNNING, None, "n")
    with both.db.write() as tx:
        ended = traces.end(
            tx,
            project,
            begun.trace_id,
            ended_at=350,
            state=TraceState.OK,
            tags={"a": "c", "d": "e"},
            metadata={"m": "2"},
        )
    assert (ended.state, ended.took, ended.name) == (TraceState.OK, 250, "n")
    assert (ended.tags, ended.metadata) == ({"a": "c", "d": "e"}, {"m": "2"})
    with pytest.raises(TraceNotFound), both.db.write() as tx:
        traces.end(tx, project, named(1), ended_at=1, state=TraceState.OK)
    assert replace(ended, tags={}) != ended
