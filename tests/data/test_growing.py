"""Files that grow by lines: only complete new lines are read, whatever was done to the file is noticed."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noria.base.actor import Actor
from noria.data.collectors import lines, quotes
from noria.data.collectors.protocol import Columns
from noria.data.errors import SourceFailed
from noria.data.records import Repository, RepositoryKind
from noria.data.service.collecting.collector import Collected, SourceSpec
from noria.workspace import Workspace

SPEC = SourceSpec(files="log.csv")


@pytest.fixture(params=[("id",), ()], ids=["keyed", "plain"])
def log(request: pytest.FixtureRequest, workspace: Workspace, actor: Actor) -> Repository:
    return workspace.data.create(workspace.project.id, "log", RepositoryKind.TABLE, actor=actor, key=request.param)


def collected(ws: Workspace, log: Repository, actor: Actor, **how: Any) -> Collected:
    return ws.collector.collect(log, SPEC, actor=actor, **how)


def place(ws: Workspace) -> Path:
    return ws.home.parent / "log.csv"


def append(path: Path, text: str) -> None:
    with path.open("a", newline="") as file:
        file.write(text)


def test_of_a_file_that_grew_only_new_lines_are_read(
    workspace: Workspace, actor: Actor, log: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = place(workspace)
    path.write_text("id,code,at,x\n1,007,2024-01-01 00:00:00,1.5\n2,abc,2024-01-02 00:00:00,2\n")
    assert collected(workspace, log, actor).rows == 2
    append(path, "3,008,2024-01-03 00:00:00,3\n4,009,2024-01-04 00:00:00,\n")
    read: list[tuple[int, int]] = []
    plain = lines.read_lines
    monkeypatch.setattr(lines, "read_lines", lambda p, s, t: read.append((s.start, s.end)) or plain(p, s, t))
    done = collected(workspace, log, actor)
    assert (done.rows, done.notes) == (2, [])
    size = path.stat().st_size
    assert read == [(size - len("3,008,2024-01-03 00:00:00,3\n4,009,2024-01-04 00:00:00,\n"), size)]
    assert done.commits[0].meta["source"]["bytes"] == list(read[0])
    rows = workspace.data.read(log).sort("id")
    assert rows["code"].to_list() == ["007", "abc", "008", "009"]  # the table's types, not what four lines look like
    assert rows["x"].to_list() == [1.5, 2.0, 3.0, None]
    assert collected(workspace, log, actor).commits == []


def test_a_last_line_without_an_end_waits_and_is_told(workspace: Workspace, actor: Actor, log: Repository) -> None:
    path = place(workspace)
    path.write_text("id,n\n1,10\n")
    collected(workspace, log, actor)
    append(path, "2,20\n3,3")
    done = collected(workspace, log, actor)
    assert done.rows == 1
    assert "no end yet" in done.notes[0]
    append(path, "0\n")
    assert collected(workspace, log, actor).rows == 1
    append(path, "4,40")
    assert collected(workspace, log, actor).commits == []
    old = time.time() - 10
    os.utime(path, (old, old))  # nobody writes any more: the last line is whole
    assert collected(workspace, log, actor).rows == 1
    assert workspace.data.read(log).sort("id").rows() == [(1, 10), (2, 20), (3, 30), (4, 40)]
    assert collected(workspace, log, actor).commits == []


def test_a_line_that_went_on_after_it_was_taken_is_mended(workspace: Workspace, actor: Actor, log: Repository) -> None:
    path = place(workspace)
    path.write_text("id,n\n1,10\n2,2")  # a file that is new is taken as it is
    assert collected(workspace, log, actor).rows == 2
    append(path, "5\n3,30\n")
    done = collected(workspace, log, actor)
    assert "rewritten" in done.notes[0]
    assert workspace.data.read(log).sort("id").rows() == [(1, 10), (2, 25), (3, 30)]


def test_a_file_that_was_rewritten_is_read_anew_and_told(workspace: Workspace, actor: Actor, log: Repository) -> None:
    path = place(workspace)
    path.write_text("id,n\n1,10\n2,20\n")
    collected(workspace, log, actor)
    path.write_text("id,n\n1,11\n2,20\n3,30\n")
    done = collected(workspace, log, actor)
    assert "log.csv was rewritten" in done.notes[0]
    assert workspace.data.read(log).sort("id").rows() == [(1, 11), (2, 20), (3, 30)]
    append(path, "4,40\n")
    assert (collected(workspace, log, actor).rows, done.notes[0][:7]) == (1, "log.csv")


def test_line_ends_between_quotes_are_none(workspace: Workspace, actor: Actor, log: Repository) -> None:
    path = place(workspace)
    path.write_text('id,n\n1,"a\nb"\n')
    collected(workspace, log, actor)
    append(path, '2,"c\n""d"" and\n')
    assert collected(workspace, log, actor).commits == []
    append(path, 'e"\n3,f\n')
    assert collected(workspace, log, actor).rows == 2
    assert workspace.data.read(log).sort("id")["n"].to_list() == ["a\nb", 'c\n"d" and\ne', "f"]


def test_values_that_do_not_fit_the_table_name_the_file(workspace: Workspace, actor: Actor, log: Repository) -> None:
    path = place(workspace)
    path.write_text("id,n\n1,10\n")
    collected(workspace, log, actor)
    append(path, "2,many\n" * 11)
    with pytest.raises(SourceFailed, match=r"11 of 11 lines of .*log\.csv do not fit the table"):
        collected(workspace, log, actor)
    assert workspace.data.read(log).rows() == [(1, 10)]


def test_json_lines_grow_too(workspace: Workspace, actor: Actor, log: Repository) -> None:
    path = workspace.home.parent / "log.jsonl"
    path.write_text('{"id": 1, "n": 1.5}\n')
    spec = SourceSpec(files="*.jsonl")
    workspace.collector.collect(log, spec, actor=actor)
    append(path, '{"id": 2, "n": 2}\n{"id": 3')
    assert workspace.collector.collect(log, spec, actor=actor).rows == 1
    append(path, ', "n": 3}\n')
    assert workspace.collector.collect(log, spec, actor=actor).rows == 1
    assert workspace.data.read(log).sort("id").rows() == [(1, 1.5), (2, 2.0), (3, 3.0)]


def test_a_mark_of_an_older_noria_is_understood(workspace: Workspace, actor: Actor, log: Repository) -> None:
    """Before, a mark held the digest of the whole file and no number of bytes that were read."""
    path = place(workspace)
    path.write_text("id,n\n1,10\n2,20\n")
    collected(workspace, log, actor)
    (mark,) = workspace.collector.ledger.marks(log).values()
    assert mark.keys() == {"size", "mtime_ns", "digest"}
    append(path, "3,30\n")
    assert collected(workspace, log, actor).rows == 1


PARTS = st.lists(st.sampled_from(["\n", '"', ",", "a", "\r\n", '""', "7"]), max_size=24).map("".join)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=PARTS, cut=st.integers(0, 30))
def test_a_span_ends_where_a_parser_sees_a_line_end(text: str, cut: int, tmp_path: Path) -> None:
    """Against the plainest parser: one that goes through the bytes and turns at each quote that opens or ends a field."""
    path = tmp_path / "x.csv"
    path.write_bytes(text.encode())
    span = lines.look(path, {}, settle=3600)
    expected, inside, place = 0, False, 0
    while place < len(text):
        sign = text[place]
        if inside and text[place : place + 2] == '""':
            place += 1
        elif sign == '"':
            inside = not inside and (place == 0 or text[place - 1] in ",\n")
        elif sign == "\n" and not inside:
            expected = place + 1
        place += 1
    assert span.end == expected
    assert span.open_end == len(text) - expected
    before = {"digest": span.digest, "read": span.end}
    with path.open("ab") as file:
        file.write(b"x\n"[: cut % 3])
    again = lines.look(path, before, settle=3600)
    assert again.start == span.end
    assert not again.rewritten


def test_a_refused_file_is_offered_again_only_when_it_or_the_contract_changed(
    workspace: Workspace, actor: Actor, log: Repository
) -> None:
    contract: dict[str, Any] = {"columns": {"id": {"type": "int64"}, "n": {"type": "int64", "max": 100}}}
    workspace.data.set_contract(log, contract, actor=actor)
    root = workspace.home.parent
    spec = SourceSpec(files="*.csv")
    pl.DataFrame({"id": [1], "n": [1]}).write_csv(root / "a.csv")
    pl.DataFrame({"id": [2], "n": [999]}).write_csv(root / "b.csv")

    def again() -> Collected:
        return workspace.collector.collect(workspace.data.get(workspace.project.id, "log"), spec, actor=actor)

    assert [e.details["source"] for e in again().refused] == ["file:b.csv"]
    done = again()
    assert (done.refused, done.waiting, done.commits) == ([], ["file:b.csv"], [])
    assert done.run_id is None
    os.utime(root / "b.csv")  # touched: as it was
    assert (again().refused, len(workspace.data.quarantine(workspace.project.id))) == ([], 1)
    append(root / "b.csv", "3,1000\n")
    assert len(again().refused) == 1
    assert again().refused == []
    contract["columns"]["n"]["max"] = 999
    workspace.data.set_contract(workspace.data.get(workspace.project.id, "log"), contract, actor=actor)
    assert len(again().refused) == 1  # another contract: it is offered again
    pl.DataFrame({"id": [2, 3], "n": [999, 3]}).write_csv(root / "b.csv")
    done = again()
    assert (done.rows, done.waiting) == (2, [])
    assert workspace.data.read(log).sort("id").rows() == [(1, 1), (2, 999), (3, 3)]
    assert again().commits == []


def test_lines_that_a_contract_refused_lie_in_quarantine_and_the_rest_goes_on(
    workspace: Workspace, actor: Actor, log: Repository
) -> None:
    contract = {"columns": {"id": {"type": "int64"}, "n": {"type": "int64", "max": 100}}}
    path = place(workspace)
    path.write_text("id,n\n1,1\n")
    workspace.data.set_contract(log, contract, actor=actor)
    log = workspace.data.get(workspace.project.id, "log")
    collected(workspace, log, actor)
    append(path, "2,999\n")
    assert len(collected(workspace, log, actor).refused) == 1
    assert collected(workspace, log, actor).waiting == ["file:log.csv"]
    append(path, "3,3\n")
    assert collected(workspace, log, actor).rows == 1
    assert workspace.data.read(log).sort("id").rows() == [(1, 1), (3, 3)]
    (held,) = workspace.data.quarantine(workspace.project.id)
    assert held.rows == 1
    path.write_text("id,n\n1,1\n2,2\n3,3\n")  # mended in the file: it is read anew
    assert collected(workspace, log, actor).refused == []
    assert workspace.data.read(log).sort("id").rows() == [(1, 1), (2, 2), (3, 3)]


def test_patterns_go_through_folders_and_leave_out_what_is_hidden_or_elsewhere(
    workspace: Workspace, actor: Actor, log: Repository, tmp_path: Path
) -> None:
    root = workspace.home.parent
    for number, name in enumerate(("in/a.csv", "in/x/y/b.csv", "in/.hidden.csv", "in/.git/c.csv", "in/d.txt")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"id,n\n{number},1\n")
    outside = tmp_path / "outside.csv"
    outside.write_text("id,n\n77,1\n")
    (root / "in" / "link.csv").symlink_to(outside)
    (root / "in" / "inside.csv").symlink_to(root / "in" / "a.csv")
    done = workspace.collector.collect(log, SourceSpec(files="in/**/*.csv"), actor=actor)
    assert {c.meta["source"]["path"] for c in done.commits} <= {"in/a.csv", "in/inside.csv", "in/x/y/b.csv"}
    assert set(workspace.data.read(log)["id"]) == {0, 1}
    (root / "in" / "zz.csv").mkdir()  # not a file
    bad = root / "in" / "zzz.csv"
    bad.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SourceFailed, match=r"zzz\.csv"):
        workspace.collector.collect(log, SourceSpec(files="in/**/*.csv"), actor=actor)


def test_a_refused_file_whose_batch_was_mended_or_dropped_is_not_offered_again(
    workspace: Workspace, actor: Actor, log: Repository
) -> None:
    contract: dict[str, Any] = {"columns": {"id": {"type": "int64"}, "n": {"type": "int64", "max": 100}}}
    workspace.data.set_contract(log, contract, actor=actor)
    root = workspace.home.parent
    for name, n in (("a", 1), ("b", 500), ("c", 900)):
        pl.DataFrame({"id": [n], "n": [n]}).write_csv(root / f"{name}.csv")
    spec = SourceSpec(files="*.csv")
    log = workspace.data.get(workspace.project.id, "log")
    done = workspace.collector.collect(log, spec, actor=actor)
    first, second = (error.details["quarantine"] for error in done.refused)
    workspace.data.offer(first, pl.DataFrame({"id": [500], "n": [50]}), actor=actor)
    workspace.data.drop_quarantined(second, "a test of the scanner", actor=actor)
    contract["columns"]["n"]["max"] = 10_000
    workspace.data.set_contract(log, contract, actor=actor)
    log = workspace.data.get(workspace.project.id, "log")
    again = workspace.collector.collect(log, spec, actor=actor)
    assert (again.commits, again.refused, again.waiting) == ([], [], [])
    assert workspace.data.read(log).sort("id").rows() == [(1, 1), (500, 50)]


def test_a_quote_in_the_middle_of_a_field_holds_up_nothing(workspace: Workspace, actor: Actor, log: Repository) -> None:
    path = place(workspace)
    path.write_text("id,s\n1,a\n")
    collected(workspace, log, actor)
    append(path, '2,5" pipe\n3,c\n')
    os.utime(path)
    assert collected(workspace, log, actor).rows == 2
    append(path, '4,"6" and "\n5,""\n')  # closed by a quote that no field ends with: the line is set aside alone
    assert collected(workspace, log, actor).rows == 1
    assert workspace.data.read(log).sort("id").rows() == [(1, "a"), (2, '5" pipe'), (3, "c"), (5, "")]


def test_a_quote_that_opens_is_waited_for_so_many_bytes_and_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quotes, "LONGEST", 20)
    path = tmp_path / "x.csv"
    path.write_text('id,s\n1,a\n2,"5 pipe\n')
    assert lines.look(path, {}, settle=3600).end == len("id,s\n1,a\n")
    append(path, "3,c\n4,dddd\n5,e")
    span = lines.look(path, {}, settle=3600)
    assert span.end == path.stat().st_size - len("5,e")
    frame, misfits = lines.read_lines(path, span, Columns(types={"id": pl.Int64(), "s": pl.String()}))
    assert frame.rows() == [(1, "a"), (3, "c"), (4, "dddd")]
    assert misfits is not None
    assert [(f.rule, f.rows) for f in misfits.report] == [("line.quotes", [{"line": 3, "text": '2,"5 pipe'}])]


@settings(max_examples=300, deadline=None)
@given(text=PARTS, at_once=st.integers(3, 30))
def test_by_places_and_by_expressions_is_the_same(text: str, at_once: int) -> None:
    data = text.encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quotes, "_AT_ONCE", at_once)
        found = quotes.complete(data, 0, len(data), ","), quotes.regular(data, ",")
        patch.setattr(quotes, "_alternating", lambda *_: None)
        assert found[0] == quotes.complete(data, 0, len(data), ",")
    plain = quotes._forms(",").regular.fullmatch(data) is not None  # pyright: ignore[reportPrivateUsage]
    assert found[1] == plain
