from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noria.base.search import (
    EQUAL,
    LIST,
    NULL,
    TEXT,
    Clause,
    Grammar,
    Key,
    Kind,
    Order,
    SearchInvalid,
    order_of,
    parse,
    parse_order,
)
from noria.registry.grammar import MODELS, VERSIONS
from noria.tracking.grammar import EXPERIMENTS, LOGGED_MODELS, RUNS, TRACES

GRAMMARS = [RUNS, EXPERIMENTS, LOGGED_MODELS, TRACES, MODELS, VERSIONS]


def clause(kind: str, key: str, op: str, value: Any = None) -> Clause:
    return Clause(kind=kind, key=key, op=op, value=value)


def found(kind: str, key: str) -> list[Clause]:
    return [clause(kind, key, "=", "1")]


RUN_EXAMPLES: list[tuple[str, list[Clause]]] = [
    ("", []),
    ("  \n", []),
    ("and AND", []),
    ("metrics.a > 1", [clause("metric", "a", ">", 1.0)]),
    ("metric.a>=-1.5e-3", [clause("metric", "a", ">=", -0.0015)]),
    ("metrics.a=.5 AND metrics.b!=1.", [clause("metric", "a", "=", 0.5), clause("metric", "b", "!=", 1.0)]),
    ("metrics.a < 1 metrics.b <= 2E3", [clause("metric", "a", "<", 1.0), clause("metric", "b", "<=", 2000.0)]),
    ("AND metrics.a < 1 and AND metrics.b > 2 and", [clause("metric", "a", "<", 1), clause("metric", "b", ">", 2)]),
    ("metrics.`a b/c.d` > 1", [clause("metric", "a b/c.d", ">", 1.0)]),
    ('metrics."a b" > 1', [clause("metric", "a b", ">", 1.0)]),
    ("metrics.'a b' > 1", [clause("metric", "a b", ">", 1.0)]),
    ("`metrics`.a > 1", [clause("metric", "a", ">", 1.0)]),
    ("metrics.val/a-b:c > 1", [clause("metric", "val/a-b:c", ">", 1.0)]),
    ("metrics.größe > 1", [clause("metric", "größe", ">", 1.0)]),
    ("params.x='1'", found("param", "x")),
    ('param.x = "1"', found("param", "x")),
    ("parameters.x = '1'", found("param", "x")),
    ("parameter.x = '1'", found("param", "x")),
    ("tags.mlflow.source.name = '1'", found("tag", "mlflow.source.name")),
    ("tag.`a``b` = '1'", found("tag", "a``b")),
    ("params.and = '1'", found("param", "and")),
    ("params.x LiKe'a%'AND params.y ilike \"%B\"", [clause("param", "x", "like", "a%"), clause("param", "y", "ilike", "%B")]),
    ("params.x = ''", [clause("param", "x", "=", "")]),
    ("params.x = 'it''s'", [clause("param", "x", "=", "it''s")]),
    (r"params.x = 'it\'s'", [clause("param", "x", "=", r"it\'s")]),
    ("params.x = \"it's\"", [clause("param", "x", "=", "it's")]),
    ("params.x = 'C:\\'", [clause("param", "x", "=", "C:\\")]),
    ("params.x = 'a\\' and params.y = \"1\"", [clause("param", "x", "=", "a\\"), *found("param", "y")]),
    ("params.x is null tags.y IS  NOT\tNULL", [clause("param", "x", "is_null"), clause("tag", "y", "is_not_null")]),
    ("status = '1'", found("attribute", "status")),
    ("attr.status = '1'", found("attribute", "status")),
    ("run.`status` = '1'", found("attribute", "status")),
    ("`Run name` = '1'", found("attribute", "name")),
    ("attributes.run_name = '1'", found("attribute", "name")),
    ("user_id = '1'", found("attribute", "user")),
    ("state = '1' and kind = '1'", [*found("attribute", "state"), *found("attribute", "kind")]),
    ("Created > 1356998401500", [clause("attribute", "start_time", ">", 1356998401500)]),
    ("end_time <= 9007199254740993", [clause("attribute", "end_time", "<=", 9007199254740993)]),
    ("start_time > 1.5", [clause("attribute", "start_time", ">", 1.5)]),
    ("start_time < 99999999999999999999", [clause("attribute", "start_time", "<", 1e20)]),
    ("run_id IN ('a', \"b\",)", [clause("attribute", "run_id", "in", ("a", "b"))]),
    ("run_id not  in('a')", [clause("attribute", "run_id", "not_in", ("a",))]),
    ("dataset.name in ('a') datasets.context = '1'", [clause("dataset", "name", "in", ("a",)), *found("dataset", "context")]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "clauses"), RUN_EXAMPLES)
def test_filters_of_runs(text: str, clauses: list[Clause]) -> None:
    assert list(parse(text, RUNS)) == clauses


@pytest.mark.parametrize(
    ("grammar", "text", "clauses"),
    [
        (EXPERIMENTS, "name LIKE 'a%'", [clause("attribute", "name", "like", "a%")]),
        (EXPERIMENTS, "experiment_id in ('1')", [clause("attribute", "experiment_id", "in", ("1",))]),
        (EXPERIMENTS, "creation_time > 1e3", [clause("attribute", "creation_time", ">", 1000)]),
        (EXPERIMENTS, "tags.a is null", [clause("tag", "a", "is_null")]),
        (MODELS, "name in ('a') and tags.a != 'b'", [clause("attribute", "name", "in", ("a",)), clause("tag", "a", "!=", "b")]),
        (VERSIONS, "version_number >= '3'", [clause("attribute", "version_number", ">=", 3)]),
        (VERSIONS, "source_path = '1' run_id = '1'", [*found("attribute", "source_path"), *found("attribute", "run_id")]),
        (LOGGED_MODELS, "params.lr = 0.01", [clause("param", "lr", "=", "0.01")]),
        (LOGGED_MODELS, "params.lr = big and tags.a in ('b')", [clause("param", "lr", "=", "big"), clause("tag", "a", "in", ("b",))]),
        (LOGGED_MODELS, "creation_time > 5", [clause("attribute", "creation_timestamp", ">", 5)]),
        (TRACES, "timestamp > 5 trace.status = '1'", [clause("attribute", "timestamp_ms", ">", 5), *found("attribute", "status")]),
        (TRACES, "execution_time_ms < '7'", [clause("attribute", "execution_time_ms", "<", 7)]),
        (TRACES, "text like '%x%'", [clause("span", "content", "like", "%x%")]),
        (TRACES, "span.name = '1'", found("span", "name")),
        (TRACES, "span.attributes.a.b = '1'", found("span_attribute", "a.b")),
        (TRACES, "span.attributes.`a b` = '1'", found("span_attribute", "a b")),
        (TRACES, "span.`attributes.a` = '1'", found("span_attribute", "a")),
        (TRACES, "metadata.`mlflow.x` = '1' request_metadata.y = '1'", [*found("metadata", "mlflow.x"), *found("metadata", "y")]),
        (TRACES, "feedback.score > 0.5 and feedback.`is ok` = 'true'",
         [clause("feedback", "score", ">", 0.5), clause("feedback", "is ok", "=", "true")]),
        (TRACES, "expectation.x is not null", [clause("expectation", "x", "is_not_null")]),
        (TRACES, "prompt = 'a/1' issue.id = '1'", [clause("attribute", "prompt", "=", "a/1"), *found("issue", "id")]),
    ],
)  # fmt: skip
def test_filters_of_others(grammar: Grammar, text: str, clauses: list[Clause]) -> None:
    assert list(parse(text, grammar)) == clauses


# What is refused, and a part of the message and of the hint that must be there.
RUN_REFUSALS = [
    ("metrics.a LIKE '1'", "metrics.a is not compared by like (character 11)", "= != < <= > >="),
    ("metrics.a = '1'", "compared with a number, not with \"'1'\"", "metrics.a > 5"),
    ("metrics.a > nan", "not with 'nan'", ""),
    ("metrics.a > +1", "not with '+1'", ""),
    ("metrics.a > 1x", "not with '1x'", ""),
    ("metrics.a > 1AND metrics.b > 2", "not with '1AND'", ""),
    ("metrics.a > 1e999", "'1e999' is too large", ""),
    ("metrics.a is null", "not compared by is null", ""),
    ("metrics.a in ('1')", "not compared by in", ""),
    ("metrics.a == 1", "'==' is not a comparison", "One = is enough"),
    ("metrics.a <> 1", "'<>' is not a comparison", "!="),
    ("metrics.a between 1 and 2", "'between' is not a comparison", "two comparisons"),
    ("metrics.a", "metrics.a needs a comparison, not the end", ""),
    ("metrics.a >", "compared with nothing", ""),
    ("metrics.", "ends with a dot", ""),
    ("metrics.`` > 1", "Runs have no metric ''", ""),
    ("1 > metrics.a", "Runs have no attribute '1'", ""),
    ("metrics.a > metrics.b", "not with 'metrics.b'", ""),
    ("params.x > '1'", "params.x is not compared by >", "= != like ilike is null is not null"),
    ("params.x = 1", "text in quotes, not with '1'", 'params.x = "1"'),
    ("params.x = abc", "text in quotes, not with 'abc'", 'params.x = "abc"'),
    ("params.x = `abc`", "text in quotes", 'params.x = "abc"'),
    ("params.x = ('1')", "text in quotes", "without parentheses"),
    ("params.x = null", "text in quotes", ""),
    ("params.x in ('1')", "not compared by in", ""),
    ("params.x not like '1'", "'not like' is not a comparison", "="),
    ("params.x rlike '1'", "'rlike' is not a comparison", "like"),
    ("params.x ~ '1'", "'~' is not a comparison", "like"),
    ("params.x = '1", "quote ' is not closed", ""),
    ("params.`x = '1'", "quote ` is not closed", ""),
    ("params.`x`y = '1'", "'y' is not a comparison", ""),
    ("params.x = '1' '2'", "A name was expected", ""),
    ("params.x = '1'; params.y = '2'", 'A name was expected, not "; params', ""),
    ("params.x = '1' or params.y = '2'", "`or` is not understood", "and"),
    ("not params.x = '1'", "`not` is not understood", "and"),
    ("(params.x = '1')", "A name was expected", "No parentheses"),
    ("params.x = '1' -- c", "A name was expected", ""),
    ("stat = 'done'", "Runs have no attribute 'stat' (character 1)", "Did you mean"),
    ("frobnicate = 'a'", "Runs have no attribute 'frobnicate'", "metrics.frobnicate or params.frobnicate or tags"),
    ("metricks.a > 1", "nothing under 'metricks.'", "'metrics'"),
    ("zzz.a > 1", "nothing under 'zzz.'", "metrics."),
    ("`metrics.a` > 1", "no attribute 'metrics.a'", ""),
    ("status > 'a'", "not compared by >", ""),
    ("status in ('a')", "not compared by in", ""),
    ("status is null", "not compared by is null", ""),
    ("start_time > '1'", "compared with a number", ""),
    ("start_time like '1'", "not compared by like", ""),
    ("run_id in 'a'", "A list in parentheses", "run_id in ("),
    ("run_id in ()", "at least one", ""),
    ("run_id in (,)", "at least one", ""),
    ("run_id in (1)", "texts in quotes", ""),
    ("run_id in ('a', b)", "texts in quotes", ""),
    ("run_id in ('a' 'b')", "A comma or )", ""),
    ("run_id in ('a'", "A comma or )", ""),
    ("run_id = ('a')", "text in quotes", ""),
    ("datasets.foo = 'a'", "no dataset 'foo'", "context, digest, name"),
    ("datasets.name is null", "not compared by is null", ""),
    ("tags.a = '\x00'", r"'\x00' is in no name and no text", ""),
    ("tags.a = '\ud800'", r"'\ud800' is in no name and no text", ""),
]


@pytest.mark.parametrize(("text", "message", "hint"), RUN_REFUSALS)
def test_refusals_say_what_where_and_what_instead(text: str, message: str, hint: str) -> None:
    with pytest.raises(SearchInvalid) as caught:
        parse(text, RUNS)
    assert message in caught.value.message
    assert caught.value.hint
    assert hint in caught.value.hint
    assert 0 <= caught.value.details["position"] <= len(text)


@pytest.mark.parametrize(
    ("grammar", "text"),
    [
        (EXPERIMENTS, "metrics.a > 1"),
        (EXPERIMENTS, "creation_time > 1.5"),
        (EXPERIMENTS, "creation_time > 1e30"),
        (EXPERIMENTS, "experiment_id like '1'"),
        (EXPERIMENTS, "name in ('a')"),
        (MODELS, "creation_timestamp > 5"),
        (MODELS, "tags.a is null"),
        (MODELS, "run_id = 'a'"),
        (VERSIONS, "version_number = 1.5"),
        (VERSIONS, "version_number = 'a'"),
        (VERSIONS, "source_path in ('a')"),
        (LOGGED_MODELS, "metric.a > 1"),
        (LOGGED_MODELS, "params.a > '1'"),
        (LOGGED_MODELS, "tags.a is null"),
        (LOGGED_MODELS, "nope = 'a'"),
        (TRACES, "span.content = 'a'"),
        (TRACES, "span.nope = 'a'"),
        (TRACES, "span.attributes. = 'a'"),
        (TRACES, "feedback.score > '5'"),
        (TRACES, "feedback.score = 5"),
        (TRACES, "name rlike 'a'"),
        (TRACES, "experiment_id = '1'"),
        (TRACES, "prompt like 'a'"),
        (TRACES, "issue.name = 'a'"),
    ],
)
def test_refusals_of_others(grammar: Grammar, text: str) -> None:
    with pytest.raises(SearchInvalid):
        parse(text, grammar)


@pytest.mark.parametrize(
    ("grammar", "text", "order"),
    [
        (RUNS, "metrics.a", ("metric", "a", False)),
        (RUNS, "metrics.`a b` DESC", ("metric", "a b", True)),
        (RUNS, 'params."a b"  asc', ("param", "a b", False)),
        (RUNS, " start_time desc ", ("attribute", "start_time", True)),
        (RUNS, "`Created` Desc", ("attribute", "start_time", True)),
        (RUNS, "attribute.end_time", ("attribute", "end_time", False)),
        (EXPERIMENTS, "last_update_time DESC", ("attribute", "last_update_time", True)),
        (MODELS, "timestamp ASC", ("attribute", "last_updated_timestamp", False)),
        (VERSIONS, "version_number DESC", ("attribute", "version_number", True)),
        (TRACES, "timestamp desc", ("attribute", "timestamp_ms", True)),
        (TRACES, "experiment_id", ("attribute", "experiment_id", False)),
    ],
)
def test_orders(grammar: Grammar, text: str, order: tuple[str, str, bool]) -> None:
    assert parse_order(text, grammar) == Order(kind=order[0], key=order[1], descending=order[2])


@pytest.mark.parametrize(
    ("grammar", "text"),
    [
        (RUNS, ""),
        (RUNS, "foo"),
        (RUNS, "metrics.a up"),
        (RUNS, "metrics.a desc nulls last"),
        (RUNS, "metrics.a desc, b"),
        (RUNS, "datasets.name"),
        (RUNS, "metrics.a desc; x"),
        (EXPERIMENTS, "tags.a"),
        (VERSIONS, "source_path"),
        (TRACES, "prompt"),
        (TRACES, "feedback.a"),
        (RUNS, "x" * 10_001),
    ],
)
def test_wrong_orders(grammar: Grammar, text: str) -> None:
    with pytest.raises(SearchInvalid):
        parse_order(text, grammar)


def test_order_of_a_name_that_is_not_quoted() -> None:
    assert order_of("metrics.a b`c", LOGGED_MODELS, descending=True) == Order(
        kind="metric", key="a b`c", descending=True
    )
    assert order_of("creation_time", LOGGED_MODELS) == Order(kind="attribute", key="creation_timestamp")
    for wrong in ("params.a", "nope", "foo.bar", ""):
        with pytest.raises(SearchInvalid):
            order_of(wrong, LOGGED_MODELS)


def test_limits() -> None:
    one = "metrics.a > 1 and "
    assert len(parse(one * 50, RUNS)) == 50
    with pytest.raises(SearchInvalid, match="more than 50"):
        parse(one * 51, RUNS)
    assert len(parse(one * 51, RUNS, max_clauses=51)) == 51
    assert parse(" " * 10_000, RUNS) == ()
    with pytest.raises(SearchInvalid, match="10001 characters"):
        parse(" " * 10_001, RUNS)
    with pytest.raises(SearchInvalid, match="18 characters"):
        parse(one, RUNS, max_text=17)


_LONG = 1_000_000


@pytest.mark.parametrize(
    "text",
    ["a." * _LONG, "a" + "-" * _LONG, "params.x = " + "'" * (_LONG + 1), "params.x = '" + "''a" * _LONG,
     "params.x = '" + "\\'" * _LONG + ";", "metrics.a > " + "1" * _LONG + "x", "params.x " + "is " * _LONG,
     "metrics.a > 1." + "1" * _LONG + "e" + "1" * _LONG + "x", " " * _LONG + ";", "and " * _LONG + ";",
     "run_id in (" + "'a'," * _LONG, "=" * _LONG, "`" * (_LONG + 1), "metrics.a > -" + "9" * _LONG],
    ids=range(14),
)  # fmt: skip
def test_long_texts_end(text: str) -> None:
    """Work that grows with the square of the text would take hours here, and run into the suite's time limit."""
    with pytest.raises(SearchInvalid) as caught:
        parse(text, RUNS, max_text=10 * _LONG)
    assert len(caught.value.message) < 500


# ---- clauses written as text come back

_words = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x24F, exclude_characters="`'\"\\"), min_size=1, max_size=12
)
_values = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="'\\\x00"), max_size=12)
_listed = st.lists(_values, min_size=1, max_size=3).map(tuple)


def _targets(grammar: Grammar) -> list[tuple[str, str, str | None, Key]]:
    """Prefix, kind, key (None: any) and rule of all that the grammar knows."""
    made: list[tuple[str, str, str | None, Key]] = []
    for prefix, kind in {"": grammar.default, **grammar.prefixes}.items():
        made += [(prefix, rule.kind or kind.name, name, rule) for name, rule in kind.keys.items() if rule.ops]
        if kind.other:
            made.append((prefix, kind.name, None, kind.other))
    return made


@st.composite
def _pieces(draw: st.DrawFn, grammar: Grammar) -> tuple[str, Clause]:
    prefix, kind, name, rule = draw(st.sampled_from(_targets(grammar)))
    key = name or draw(_words)
    quote = draw(st.sampled_from('`"')) if prefix or name is None else "`"
    typed = (prefix + "." if prefix else "") + (
        key if re.fullmatch("[a-z_]+", key) and draw(st.booleans()) else quote + key + quote
    )
    op = draw(st.sampled_from(sorted(rule.ops)))
    shown = op.replace("_", " ")
    shown = shown.upper() if draw(st.booleans()) else shown
    value: Any
    if op in NULL:
        value, written = None, ""
    elif op in LIST:
        value = draw(_listed)
        written = "(" + ", ".join(f"'{one}'" for one in value) + ")"
    elif rule.type == "text" or (rule.type == "either" and op in ("=", "!=", "like", "ilike")):
        value = draw(_values)
        written = f"'{value}'"
    elif rule.type in ("integer", "whole"):
        value = draw(st.integers(-(1 << 63), (1 << 63) - 1))
        written = str(value)
    else:
        value = draw(st.floats(allow_nan=False, allow_infinity=False))
        written = repr(value)
    space = draw(st.sampled_from([" ", "  ", "\t"]))
    return f"{typed}{space}{shown} {written}", clause(kind, rule.name or key, op, value)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.data())
def test_clauses_written_as_text_come_back(data: st.DataObject) -> None:
    grammar = data.draw(st.sampled_from(GRAMMARS), label="grammar")
    made = data.draw(st.lists(_pieces(grammar), max_size=5))
    joined = data.draw(st.sampled_from([" and ", " AND ", " "])).join(text for text, _ in made)
    assert list(parse(joined, grammar)) == [one for _, one in made]


_scraps = st.sampled_from(
    ["metrics.a", "params.`x`", "tags.", "attributes", "status", "run_id", "and", "or", "is", "not", "null", "in", "like",
     "(", ")", ",", "'", '"', "`", "'a'", '"b"', "\\", "=", "!=", "<", ">=", "1", "-1e3", ".", ";", " ", "\x00", "ß", "\n"]
)  # fmt: skip


@settings(deadline=None)
@given(
    st.one_of(
        st.text(max_size=80), st.lists(_scraps, max_size=15).map("".join), st.lists(_scraps, max_size=15).map(" ".join)
    )
)
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    for grammar in GRAMMARS:
        for read in (parse, parse_order, order_of):
            try:
                read(text, grammar)
            except SearchInvalid as error:
                refused = error
            else:
                continue
            assert refused.message.endswith(".")
            assert refused.hint


def test_a_grammar_of_one_kind() -> None:
    """The parser knows nothing of what it is used for."""
    pets = Kind(name="pet", keys={"age": Key(type="whole", ops=frozenset({">"}))})
    grammar = Grammar(what="pets", prefixes={}, default=pets, example="age > 3", order_example="age")
    assert parse("age > 3", grammar) == (clause("pet", "age", ">", 3),)
    with pytest.raises(SearchInvalid, match="Pets have no pet 'name'"):
        parse("name = 'Rex'", grammar)
    with pytest.raises(SearchInvalid, match=r"Pets have nothing under 'pet\.'"):
        parse("pet.age > 3", grammar)


# ---- MLflow's own reader says the same

_MLFLOW_KINDS = {"parameter": "param", "request_metadata": "metadata"}
_MLFLOW_KEYS = {"run_name": "name", "user_id": "user", "creation_timestamp_ms": "creation_timestamp",
                "last_updated_timestamp_ms": "last_updated_timestamp"}  # fmt: skip
_MLFLOW_TARGETS = {"mlflow.traceName": ("attribute", "name"), "mlflow.sourceRun": ("attribute", "run_id"),
                   "mlflow.linkedPrompts": ("attribute", "prompt")}  # fmt: skip


def _by_mlflow(utils: Any, text: str) -> list[Clause] | None:
    """MLflow's clauses in our words, or nothing where it refuses: its reader, then the checks of its store."""
    from mlflow.exceptions import MlflowException

    read = getattr(utils, "parse_search_filter_for_search_traces", utils.parse_search_filter)
    made: list[Clause] = []
    try:
        for one in read(text):
            kind, key, op, value = str(one["type"]), str(one["key"]), one["comparator"].upper(), one["value"]
            op_list, op_here = op in ("IN", "NOT IN"), op.lower().replace(" ", "_")
            if isinstance(value, tuple) != op_list:
                return None  # its store would ask the database for this, which refuses
            if key == "experiment_id" and op_here not in EQUAL | LIST:
                return None
            if key == "mlflow.linkedPrompts" and op != "=":
                return None
            if key in _MLFLOW_TARGETS:
                if op_here not in TEXT | LIST | NULL:
                    return None
            elif kind in ("metric", "parameter", "tag", "dataset"):
                getattr(utils, {"parameter": "is_param"}.get(kind, f"is_{kind}"))(kind, op)
            elif kind == "attribute":
                numeric = key in utils.NUMERIC_ATTRIBUTES
                (utils.is_numeric_attribute if numeric else utils.is_string_attribute)(kind, key, op)
                if numeric and utils.__name__ in ("SearchExperimentsUtils", "SearchModelVersionUtils"):
                    if isinstance(value, float) and not value.is_integer():
                        return None
                    value = int(value)
                value = float(value) if numeric else value
            elif kind == "request_metadata":
                utils.is_request_metadata(kind, op)
            elif kind == "span":
                utils.is_span(kind, key, op)
                if key.startswith("attributes."):
                    kind, key = "span_attribute", key.removeprefix("attributes.").strip('`"')
            elif kind == "issue":
                utils.is_issue(kind, key, op)
            else:
                utils.is_assessment(kind, key, op)
            if kind == "metric":
                value = float(value)
            if kind == "attribute":
                key = str(utils.translate_key_alias(key))
                key = _MLFLOW_KEYS.get(key, key)
            if key in _MLFLOW_TARGETS:
                kind, key = _MLFLOW_TARGETS[key]
            made.append(clause(_MLFLOW_KINDS.get(kind, kind), key, op_here, value))
    except (MlflowException, ValueError):
        return None
    return made


_keys = st.sampled_from(
    ["a", "a1", "_a", "a.b", "mlflow.source.name", "`a b`", '"a b"', "`a/b`", '"a`b"', '`a"b`', "`ß`", "ß"]
)
_texts = st.sampled_from(["''", '""', "'a'", '"a"', "'a b'", '"it\'s"', "'it\"s'", "'it''s'", r"'it\'s'", "'100%'", "'a and b'",
                          "'ü'", "' x '", "'a=b'", "'('", "'C:\\dir'"])  # fmt: skip
_numbers = st.sampled_from(["1", "0", "-1", "1.5", "-0.25", ".5", "1.", "1e3", "-2.5E-3", "1356998401500"])
_lists = st.sampled_from(["('a')", "('a', 'b')", '("a","b")', "('a',)", "()", "(1)", "('a', 1)"])
_others = st.sampled_from(["abc", "null", "`a`", "metrics.b", "true", "('1')", "-", "1 2"])
_signs = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
_ops = st.sampled_from(
    ["LIKE", "ILIKE", "like", "ilike", "IN", "NOT IN", "not in", "==", "<>", "~", "NOT LIKE", "BETWEEN"]
)
_nulls = st.sampled_from(["IS NULL", "IS NOT NULL", "is null", "is not null"])


def _logged_by_mlflow(text: str) -> list[Clause] | None:
    """As ``_by_mlflow``: the search of logged models has a reader of its own."""
    from mlflow.exceptions import MlflowException
    from mlflow.utils.search_logged_model_utils import parse_filter_string

    try:
        read = parse_filter_string(text)
    except (MlflowException, ValueError):
        return None
    made: list[Clause] = []
    for one in read:
        kind = one.entity.type.value.removesuffix("s")
        key = str(one.entity.key)
        if kind == "attribute":
            key = "creation_timestamp" if key == "creation_time" else _MLFLOW_KEYS.get(key, key)
        op = one.op.lower().replace(" ", "_")
        if isinstance(one.value, tuple) != (op in LIST) or one.value == ():
            return None
        made.append(clause(kind, key, op, one.value))
    return made


@st.composite
def _mlflow_comparison(draw: st.DrawFn, grammar: Grammar) -> str:
    """A comparison that is often right: a name the grammar knows, any comparison and any value."""
    prefix, _, name, rule = draw(st.sampled_from(_targets(grammar)))
    names = ["state", "kind", "name", "user"] if grammar is RUNS else []
    key = draw(_keys) if name is None or name in names else name
    # The registry's searches know no attribute in quotes, and some bare names are key words for MLflow.
    if name is not None and name == key and grammar not in (MODELS, VERSIONS):
        key = (
            f"`{key}`"
            if " " in key or key in ("text", "timestamp", "timestamp_ms") or draw(st.integers(0, 4)) == 0
            else key
        )
    written = f"{prefix}.{key}" if prefix else key
    if draw(st.integers(0, 7)):
        op = draw(st.sampled_from(sorted(rule.ops)))
        numbers = rule.type not in ("text", "either") or (rule.type == "either" and op not in TEXT)
        value = st.just("") if op in NULL else _lists if op in LIST else _numbers if numbers else _texts
        # MLflow reads `like` on a span in capitals only.
        sign = (op.upper() if grammar is TRACES else draw(st.sampled_from([op, op.upper()]))).replace("_", " ")
    else:
        sign = draw(st.one_of(_signs, _ops, _nulls))
        value = st.one_of(_texts, _numbers, _lists, _others)
    space = draw(st.sampled_from(["", " "])) if sign in ("=", "!=", "<", "<=", ">", ">=") else " "
    return f"{written}{space}{sign}{space}{draw(value)}".strip()


@pytest.mark.parametrize(
    ("grammar", "name"),
    [
        (RUNS, "SearchUtils"),
        (EXPERIMENTS, "SearchExperimentsUtils"),
        (MODELS, "SearchModelUtils"),
        (VERSIONS, "SearchModelVersionUtils"),
        (TRACES, "SearchTraceUtils"),
    ],
)
def test_mlflow_reads_the_same(grammar: Grammar, name: str) -> None:
    utils = getattr(pytest.importorskip("mlflow.utils.search_utils"), name)
    counts = {"read": 0, "refused": 0}

    @settings(max_examples=150, deadline=None, database=None, derandomize=True)
    @given(st.lists(_mlflow_comparison(grammar), min_size=1, max_size=3), st.sampled_from([" and ", " AND ", " "]))
    def compare(comparisons: list[str], joined: str) -> None:
        # For MLflow's SQL reader a name right after a list, or before `is null`, may be an alias.
        odd = any(one.lower().endswith((")", "null")) for one in comparisons)
        text = (" and " if odd else joined).join(comparisons)
        theirs = _by_mlflow(utils, text)
        try:
            ours = list(parse(text, grammar))
        except SearchInvalid:
            ours = None
        counts["read" if ours is not None else "refused"] += 1
        assert ours == theirs, text

    compare()
    assert min(counts.values()) > 8


def test_mlflow_reads_filters_of_logged_models_the_same() -> None:
    pytest.importorskip("mlflow.utils.search_logged_model_utils")
    counts = {"read": 0, "refused": 0}

    @settings(max_examples=150, deadline=None, database=None, derandomize=True)
    @given(st.lists(_mlflow_comparison(LOGGED_MODELS), min_size=1, max_size=3), st.sampled_from([" and ", " AND "]))
    def compare(comparisons: list[str], joined: str) -> None:
        # MLflow keeps double quotes and backticks as a part of a text, and any number in a list.
        plain = (one for one in comparisons if '"' not in one and "1)" not in one and not one.endswith("`"))
        text = joined.join(plain)
        theirs = _logged_by_mlflow(text)
        try:
            ours = list(parse(text, LOGGED_MODELS))
        except SearchInvalid:
            ours = None
        counts["read" if ours is not None else "refused"] += 1
        assert ours == theirs, text

    compare()
    assert min(counts.values()) > 8
