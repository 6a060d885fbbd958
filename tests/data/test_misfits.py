"""Lines of collected files that do not fit the table: they go to quarantine, and the others land."""

from __future__ import annotations

import json
import tracemalloc
from datetime import datetime
from math import inf
from pathlib import Path
from threading import Event
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.base.actor import Actor
from noria.base.errors import Invalid, NoriaError
from noria.cli.main import run
from noria.data.collectors import forms, lines
from noria.data.collectors.protocol import Columns
from noria.data.collectors.sift import TooManyMisfits
from noria.data.errors import ContractBroken, SourceFailed
from noria.data.records import QuarantineState, Repository, RepositoryKind
from noria.data.service.care.purge import Erase
from noria.data.service.collecting.collector import Collected, SourceSpec
from noria.workspace import Workspace

SPEC = SourceSpec(files="log.*")


@pytest.fixture(params=[("id",), ()], ids=["keyed", "plain"])
def log(request: pytest.FixtureRequest, workspace: Workspace, actor: Actor) -> Repository:
    return workspace.data.create(workspace.project.id, "log", RepositoryKind.TABLE, actor=actor, key=request.param)


def collected(ws: Workspace, actor: Actor, spec: SourceSpec = SPEC) -> Collected:
    return ws.collector.collect(ws.data.get(ws.project.id, "log"), spec, actor=actor)


def append(path: Path, text: str) -> None:
    with path.open("a", newline="") as file:
        file.write(text)


def rows(ws: Workspace) -> list[Any]:
    return sorted(ws.data.read(ws.data.get(ws.project.id, "log")).rows())


def test_a_line_that_does_not_fit_goes_to_quarantine_and_the_others_land(
    workspace: Workspace, actor: Actor, log: Repository
) -> None:
    path = workspace.home.parent / "log.csv"
    path.write_text("id,x,s\n1,1.5,a\n")
    assert collected(workspace, actor).rows == 1
    append(path, "2,n/a,b\n3,3,c\n4,4,d,e\n5,5,007\n")
    done = collected(workspace, actor)
    assert (done.rows, done.waiting) == (2, [])
    assert rows(workspace) == [(1, 1.5, "a"), (3, 3.0, "c"), (5, 5.0, "007")]
    (refused,) = done.refused
    assert "2 of 4 lines do not fit 'log'" in refused.message
    (batch,) = workspace.data.quarantine(workspace.project.id, log)
    assert (batch.rows, batch.source, batch.state) == (2, "file:log.csv", "open")
    assert [(f["rule"], f["column"], f["count"], f["rows"]) for f in batch.report] == [
        ("x.type", "x", 1, [{"line": 3, "text": "2,n/a,b"}]),
        ("line.fields", "", 1, [{"line": 5, "text": "4,4,d,e"}]),
    ]
    done = collected(workspace, actor)
    assert (done.commits, done.refused, done.run_id) == ([], [], None), "the source goes on behind them"
    append(path, "6,6,f\n")
    assert (collected(workspace, actor).rows, len(workspace.data.quarantine(workspace.project.id))) == (1, 1)


def test_such_a_batch_is_mended_and_offered_or_dropped(workspace: Workspace, actor: Actor, log: Repository) -> None:
    path = workspace.home.parent / "log.csv"
    path.write_text("id,x\n1,1.5\n")
    collected(workspace, actor)
    append(path, "2,n/a\n")
    (first,) = collected(workspace, actor).refused
    append(path, "3,3,3\n")
    (second,) = collected(workspace, actor).refused
    one, two = first.details["quarantine"], second.details["quarantine"]
    with pytest.raises(Invalid, match="x of row 0 is 'n/a', and x holds float64"):
        workspace.data.offer(one, actor=actor)
    _, frame = workspace.data.quarantined(one)
    assert frame.rows(named=True) == [{"id": "2", "x": "n/a"}]
    workspace.data.offer(one, frame.with_columns(x=pl.lit("2.5")), actor=actor)
    with pytest.raises(Invalid, match="unknown __line"):  # what is no row cannot land as one without anything in it
        workspace.data.offer(two, actor=actor)
    workspace.data.drop_quarantined(two, "torn", actor=actor)
    assert rows(workspace) == [(1, 1.5), (2, 2.5)]
    states = [batch.state for batch in workspace.data.quarantine(workspace.project.id)]
    assert states == [QuarantineState.DROPPED, QuarantineState.ACCEPTED]


def test_equal_lines_of_another_place_are_another_batch(workspace: Workspace, actor: Actor, log: Repository) -> None:
    ws, root = workspace, workspace.home.parent
    (root / "log.a.csv").write_text("id,x\n1,1.5\n")
    collected(ws, actor)
    append(root / "log.a.csv", "2,n/a\n")
    (first,) = collected(ws, actor).refused
    (root / "log.b.csv").write_text("id,x\n5,5\n2,n/a\n")
    (second,) = collected(ws, actor).refused
    batches = {batch.id: batch for batch in ws.data.quarantine(ws.project.id, log)}
    assert [batches[e.details["quarantine"]].source for e in (first, second)] == ["file:log.a.csv", "file:log.b.csv"]
    for number in batches:
        ws.data.drop_quarantined(number, "known", actor=actor)
    append(root / "log.a.csv", "2,n/a\n")  # further down
    assert len(collected(ws, actor).refused) == 1
    (root / "log.c.csv").write_text("id,x\n6,6\n2,n/a\n")
    assert len(collected(ws, actor).refused) == 1
    assert len(ws.data.quarantine(ws.project.id, log)) == 4


def test_what_is_left_of_equal_batches_stays_as_many(workspace: Workspace, actor: Actor, log: Repository) -> None:
    ws, root = workspace, workspace.home.parent
    (root / "log.a.csv").write_text("id,x\n1,1.5\n")
    collected(ws, actor)
    append(root / "log.a.csv", "2,n/a\n7,n/a\n")
    (root / "log.b.csv").write_text("id,x\n5,5\n2,n/a\n7,n/a\n")
    assert len(collected(ws, actor).refused) == 2
    done = ws.care.purge(log, Erase(rows="id = 7"), reason="r", actor=actor, wait=5)
    assert (done.batches, done.rows, done.undecided, done.done) == (2, 2, 0, True)
    assert [batch.rows for batch in ws.data.quarantine(ws.project.id, log)] == [1, 1]


def test_the_file_again_with_a_line_that_was_dropped_is_quiet(workspace: Workspace, actor: Actor) -> None:
    ws, path = workspace, workspace.home.parent / "log.csv"
    log = ws.data.create(ws.project.id, "log", RepositoryKind.TABLE, actor=actor, key=("id",))
    path.write_text("id,x\n1,1.5\n")
    collected(ws, actor)
    append(path, "2,n/a\n")
    (refused,) = collected(ws, actor).refused
    ws.data.drop_quarantined(refused.details["quarantine"], "known", actor=actor)
    path.write_text("id,x\n1,7.5\n2,n/a\n")
    done = collected(ws, actor)
    assert (done.refused, done.rows) == ([], 1)
    assert len(ws.data.quarantine(ws.project.id, log)) == 1


@pytest.mark.parametrize(("mode", "value"), [("insert", 1.5), ("append", 9.0)])
def test_a_batch_is_offered_as_its_source_writes(workspace: Workspace, actor: Actor, mode: str, value: float) -> None:
    ws, path = workspace, workspace.home.parent / "log.csv"
    ws.data.create(ws.project.id, "log", RepositoryKind.TABLE, actor=actor, key=("id",))
    path.write_text("id,x\n1,1.5\n")
    spec = SourceSpec(files="log.*", mode=mode)
    collected(ws, actor, spec)
    append(path, "1,n/a\n")
    (refused,) = collected(ws, actor, spec).refused
    ws.data.offer(refused.details["quarantine"], [{"id": 1, "x": 9.0}], actor=actor)
    assert rows(ws) == [(1, value)]


def test_lines_that_another_branch_was_offered_too_are_decided_there(
    workspace: Workspace, actor: Actor, log: Repository
) -> None:
    ws, path = workspace, workspace.home.parent / "log.csv"
    path.write_text("id,x\n1,1.5\n")
    collected(ws, actor)
    ws.data.create_branch(log, "trial", actor=actor)
    append(path, "2,n/a\n3,3\n")
    collected(ws, actor)
    (refused,) = ws.collector.collect(log, SPEC, actor=actor, branch="trial").refused
    assert ws.data.quarantined(refused.details["quarantine"])[0].branch == "trial"
    ws.data.offer(refused.details["quarantine"], [{"id": 2, "x": 2.0}], actor=actor)
    assert rows(ws) == [(1, 1.5), (3, 3.0)]
    assert len(ws.data.read(log, "trial")) == 3


def test_where_most_lines_do_not_fit_nothing_is_taken(workspace: Workspace, actor: Actor, log: Repository) -> None:
    path = workspace.home.parent / "log.csv"
    path.write_text("id,x\n1,1.5\n")
    collected(workspace, actor)
    append(path, "".join(f"{n},new\n" for n in range(2, 13)) + "".join(f"{n},1\n" for n in range(20, 30)))
    with pytest.raises(SourceFailed, match=r"11 of 21 lines of .*log\.csv do not fit the table: .*line 3 holds 'new'"):
        collected(workspace, actor)
    assert (rows(workspace), workspace.data.quarantine(workspace.project.id)) == ([(1, 1.5)], [])
    append(path, "30,1\n")  # now it is half of them: single lines, not another form
    done = collected(workspace, actor)
    assert (done.rows, done.refused[0].details["findings"][0]["count"]) == (11, 11)


def test_a_new_file_of_a_table_is_read_by_its_types_and_the_first_one_by_its_looks(
    workspace: Workspace, actor: Actor, log: Repository
) -> None:
    root = workspace.home.parent
    (root / "log.1.csv").write_text("id,x,s\n1,1.5,a\n")
    (root / "log.2.csv").write_text("id,x,s\n2,n/a,b\n3,3,007\n4,4,\n")
    (root / "log.3.jsonl").write_text(
        '{"id": 5, "x": 5, "s": "e"}\n{"id": 6, "x": "six", "s": "f"}\n{"id": 7,\n{"id": 8, "x": 8.5, "s": null}\n'
    )
    done = collected(workspace, actor)
    assert rows(workspace)[:2] == [(1, 1.5, "a"), (3, 3.0, "007")], "text stays the text that it is"
    assert [row[0] for row in rows(workspace)] == [1, 3, 4, 5, 8]
    found = {e.details["source"]: [f["rule"] for f in e.details["findings"]] for e in done.refused}
    assert found == {"file:log.2.csv": ["x.type"], "file:log.3.jsonl": ["x.type", "line.json"]}


def test_a_contract_is_something_to_compare_with_and_judges_the_rest(workspace: Workspace, actor: Actor) -> None:
    made = workspace.data.create(workspace.project.id, "log", RepositoryKind.TABLE, actor=actor, key=("id",))
    columns = {"id": {"type": "int64"}, "x": {"type": "float64", "max": 10}}
    workspace.data.set_contract(made, {"columns": columns}, actor=actor)
    path = workspace.home.parent / "log.csv"
    path.write_text("id,x\n1,1\n2,n/a\n,3\n")
    done = collected(workspace, actor)
    assert [[f["rule"] for f in e.details["findings"]] for e in done.refused] == [["x.type", "id.missing"]]
    assert rows(workspace) == [(1, 1.0)]
    append(path, "3,x\n4,400\n")
    done = collected(workspace, actor)
    assert [[f["rule"] for f in e.details["findings"]] for e in done.refused] == [["x.type"], ["x.max"]]
    assert collected(workspace, actor).waiting == ["file:log.csv"]
    append(path, "5,5\n")
    assert (collected(workspace, actor).rows, rows(workspace)) == (1, [(1, 1.0), (5, 5.0)])
    assert len(workspace.data.quarantine(workspace.project.id)) == 3
    assert isinstance(done.refused[0], ContractBroken)


def test_lines_set_apart_before_a_crash_are_the_same_batch_after_it(
    workspace: Workspace, actor: Actor, log: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = workspace.home.parent / "log.csv"
    path.write_text("id,x\n1,1.5\n")
    collected(workspace, actor)
    append(path, "2,n/a\n3,3\n")

    def dies(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(workspace.data, "append", dies)
        with pytest.raises(KeyboardInterrupt):
            collected(workspace, actor)
    assert (rows(workspace), len(workspace.data.quarantine(workspace.project.id))) == ([(1, 1.5)], 1)
    assert (len(collected(workspace, actor).refused), rows(workspace)) == (1, [(1, 1.5), (3, 3.0)])
    assert len(workspace.data.quarantine(workspace.project.id)) == 1


def test_a_watched_file_goes_on_behind_such_a_line(workspace: Workspace, actor: Actor, log: Repository) -> None:
    path = workspace.home.parent / "log.csv"
    path.write_text("id,x\n1,1.5\n")
    collected(workspace, actor)
    append(path, "2,n/a\n")
    told: list[Collected | NoriaError] = []
    stop = Event()

    def tell(found: Collected | NoriaError) -> None:
        told.append(found)
        if len(told) == 1:
            append(path, "3,3\n")
        else:
            stop.set()

    workspace.collector.watch(log, "log.*", actor=actor, every=0.05, stop=stop, tell=tell)
    first, second = told
    assert isinstance(first, Collected)
    assert isinstance(second, Collected)
    assert (len(first.refused), second.refused, second.rows) == (1, [], 1)
    assert rows(workspace) == [(1, 1.5), (3, 3.0)]


def test_by_commands(
    workspace: Workspace, actor: Actor, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = workspace.home.parent
    monkeypatch.chdir(root)
    (root / "log.csv").write_text("id,x\n1,1.5\n")
    assert run(["data", "collect", "log", "--from", "log.csv", "--key", "id"]) == 0
    append(root / "log.csv", "2,n/a\n3,3\n")
    capsys.readouterr()
    assert run(["data", "collect", "log", "--from", "log.csv", "--json"]) == 0
    (refused,) = json.loads(capsys.readouterr().out)["refused"]
    assert (refused["code"], refused["details"]["findings"][0]["rows"][0]["line"]) == ("lines_set_aside", 3)
    append(root / "log.csv", '4,"n/a"\n')
    assert run(["data", "collect", "log", "--from", "log.csv"]) == 3, "nothing landed"
    assert run(["data", "quarantine", "show", "1", "--out", "bad.csv"]) == 0
    assert (root / "bad.csv").read_text() == "id,x\n2,n/a\n"
    (root / "bad.csv").write_text("id,x\n2,2\n")
    assert run(["data", "quarantine", "offer", "1", "bad.csv"]) == 0
    assert rows(workspace) == [(1, 1.5), (2, 2.0), (3, 3.0)]


ANY = Columns(types={"n": pl.Int64(), "x": pl.Float64(), "f": pl.Float32(), "s": pl.String(), "at": pl.Datetime("us")})
HEADER = "n,x,f,s,at\n"


def read(text: str, kind: str = "csv", columns: Columns = ANY) -> tuple[list[Any], list[str]]:
    """(the rows, the texts of the lines that were set apart)."""
    frame, misfits = lines.read_text(text.encode(), kind, columns, lambda: 2 if kind == "csv" else 1)
    assert frame.select(list(columns.types)).schema == columns.types
    told = [] if misfits is None else [one["text"] for f in misfits.report for one in f.rows]
    return frame.select(list(columns.types)).rows(), told


@pytest.mark.parametrize(
    ("line", "row"),
    [
        ("1,0.1,0.1,a,2024-01-01", (1, 0.1, float(pl.Series([0.1], dtype=pl.Float32)[0]), "a", datetime(2024, 1, 1))),
        ("7.0,1e308,16777216,,", (7, 1e308, 16777216.0, None, None)),
        (' 1,inf,-inf,"",2024-01-01 10:00:00.500000000', (1, inf, -inf, "", datetime(2024, 1, 1, 10, 0, 0, 500000))),
        ("1,1e23,1e10,a,01/02/2024", (1, 1e23, 1e10, "a", datetime(2024, 2, 1))),
        ("1,9007199254740993,1,a,", None),
        ("1,1e400,1,a,", None),
        ("1,1,16777217,a,", None),
        ("1,1,1e39,a,", None),
        ("1,1,1,a,2024-01-01 10:00:00.1234567", None),
        ("0.99999999999999999999,1,1,a,", None),
        ("true,1,1,a,", None),
        ("1,1,1", None),
        ("1,1,1,a,,", None),
        ('1,1,1,"a"b,', None),
    ],
)
def test_a_line_means_the_same_alone_and_beside_others(line: str, row: tuple[Any, ...] | None) -> None:
    others = ["8,8,8,x,2024-05-05", "9,n/a,9,y,", "3,1.5,2.5,z,2024-05-05 01:00:00"]
    good = [(8, 8.0, 8.0, "x", datetime(2024, 5, 5)), (3, 1.5, 2.5, "z", datetime(2024, 5, 5, 1))]
    rows, told = read(f"{HEADER}{line}\n")
    assert (rows, told) == (([row], []) if row is not None else ([], [line]))
    rows, told = read(HEADER + "\n".join([others[0], line, *others[1:], ""]))
    assert rows == ([good[0], row, good[1]] if row is not None else good)
    assert set(told) == {others[1], *([] if row is not None else [line])}


@pytest.mark.parametrize(
    ("line", "row"),
    [
        ('{"n": true, "x": 1, "ok": true}', None),
        ('{"n": 1, "x": 1, "ok": 1}', None),
        ('{"n": 1, "x": 9007199254740993, "ok": null}', None),
        ('{"n": 1, "x": 1e400, "ok": null}', None),
        ('{"n": "7", "x": 7.0, "ok": "true"}', (7, 7.0, True)),
        ('{"n": 7.0, "x": "inf", "ok": false}', (7, inf, False)),
    ],
)
def test_a_json_line_means_the_same_alone_and_beside_others(line: str, row: tuple[Any, ...] | None) -> None:
    columns = Columns(types={"n": pl.Int64(), "x": pl.Float64(), "ok": pl.Boolean()})
    assert read(line + "\n", "jsonl", columns) == (([row], []) if row is not None else ([], [line]))
    bad = '{"n": 2, "x": "n/a", "ok": null}'
    rows, told = read(f'{{"n": 3, "x": 1.5, "ok": true}}\n{line}\n{bad}\n', "jsonl", columns)
    assert rows == [(3, 1.5, True), *([row] if row is not None else [])]
    assert set(told) == {bad, *([] if row is not None else [line])}


def test_a_field_that_no_object_has_is_null_and_one_that_the_table_lacks_is_told() -> None:
    columns = Columns(types={"n": pl.Int64(), "x": pl.Float64(), "s": pl.String()}, key=("n",))
    assert read('{"n": 1}\n{"n": 2}\n', "jsonl", columns) == ([(1, None, None), (2, None, None)], [])
    assert read('{"n": 1}\n{"x": 2}\n', "jsonl", columns) == ([(1, None, None)], ['{"x": 2}'])
    frame, misfits = lines.read_text(b'{"n": 1, "z": 2}\n', "jsonl", columns, lambda: 1)
    assert (set(frame.columns), misfits) == ({"n", "z"}, None), "the table refuses it, with the names"


@pytest.mark.parametrize("name", ["x", "s"])
def test_empty_lines_are_rows_of_one_column_only(name: str) -> None:
    columns = Columns(types={name: pl.Float64() if name == "x" else pl.String()})
    assert len(read(f"{name}\n1\n\n3\n", columns=columns)[0]) == 3
    assert read(f"n,{name}\n1,1\n\n3,\n", columns=Columns(types={"n": pl.Int64(), **columns.types}))[1] == []
    rows, told = read(f"n,{name}\n1,1\n\n3\n", columns=Columns(types={"n": pl.Int64(), **columns.types}))
    assert (len(rows), told) == (1, ["3"])


def test_a_long_field_and_a_quote_in_the_middle_of_one_are_no_trouble_beside_a_bad_line() -> None:
    columns = Columns(types={"n": pl.Int64(), "s": pl.String()})
    long = "b" * 200_000
    rows, told = read(f'n,s\n1,"{long}"\nn/a,5" pipe\n2,5" pipe\n3,"a\nb"\n', columns=columns)
    assert rows == [(1, long), (2, '5" pipe'), (3, "a\nb")]
    assert told == ['n/a,5" pipe']


@pytest.mark.parametrize("bad", ["n/a,1\n", "1\n", '"1,1\n'])
def test_a_bad_line_does_not_make_python_values_of_the_others(
    bad: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr(forms, "PIECE", 50_000)
    columns = Columns(types={"n": pl.Int64(), "x": pl.Float64()})
    half = "".join(f"{n},0.5\n" for n in range(60_000))
    text = f"n,x\n{half}{bad}{half}".encode()
    request.addfinalizer(tracemalloc.stop)
    tracemalloc.start()
    frame, misfits = lines.read_text(text, "csv", columns, lambda: 2)
    _, peak = tracemalloc.get_traced_memory()
    assert misfits is not None
    assert (len(frame), misfits.count, misfits.lines) == (120_000, 1, 120_001)
    assert misfits.report[0].rows == [{"line": 60_002, "text": bad.rstrip()}]
    assert peak < 3 * len(text)


FIELDS = st.sampled_from(["1", "2.5", "n/a", "", '"a"', '"a,b"', '"a\nb"', "7.0", 'x"y', "é"])
LINES = st.lists(st.lists(FIELDS, min_size=1, max_size=4).map(",".join), max_size=12)


@given(LINES)
def test_every_line_is_a_row_or_set_apart(some: list[str]) -> None:
    columns = Columns(types={"n": pl.Int64(), "x": pl.Float64(), "s": pl.String()})
    text = "n,x,s\n" + "".join(f"{line}\n" for line in some)
    try:
        frame, misfits = lines.read_text(text.encode(), "csv", columns, lambda: 2)
    except TooManyMisfits as error:
        found = error.misfits.count
    else:
        found = None
    if found is not None:
        assert found > len(some) / 2
        return
    assert frame.schema == columns.types
    if misfits is not None:
        assert misfits.count == len(misfits.rows) == sum(f.count for f in misfits.report)
        assert len(frame) + misfits.count == misfits.lines
        physical = text.splitlines()
        for finding in misfits.report:
            for shown in finding.rows:
                assert physical[shown["line"] - 1] == shown["text"].splitlines()[0]


@given(st.lists(st.lists(FIELDS, min_size=3, max_size=3).map(",".join), max_size=6))
def test_lines_are_read_as_each_by_itself(some: list[str]) -> None:
    columns = Columns(types={"n": pl.Int64(), "x": pl.Float64(), "s": pl.String()})
    single = [read(f"n,x,s\n{line}\n", columns=columns) for line in some]
    try:
        rows, _ = read("n,x,s\n" + "".join(f"{line}\n" for line in some), columns=columns)
    except TooManyMisfits:
        return
    assert rows == [row for found, _ in single for row in found]
