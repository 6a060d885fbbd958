"""A table as a log: each batch of a producer exactly once, many requests in few commits, offsets that stay."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noria.base.actor import Actor
from noria.base.errors import Invalid, NoriaError
from noria.data.errors import ContractBroken
from noria.data.records import Repository, RepositoryKind
from noria.data.service.tables.log import OffsetLost
from noria.data.service.tables.produce import SequenceWrong
from noria.workspace import Workspace, connect, init


def table(ws: Workspace, actor: Actor, *key: str, name: str = "t") -> Repository:
    return ws.data.create(ws.project.id, name, RepositoryKind.TABLE, actor=actor, key=key)


def rows(*ids: int, v: str = "x") -> list[dict[str, Any]]:
    return [{"id": n, "v": f"{v}{n}"} for n in ids]


def log(ws: Workspace, t: Repository, start: str = "earliest", limit: int = 1000) -> list[tuple[int, str]]:
    return [(row["id"], row["v"]) for _, row in ws.data.records(t, start, limit=limit).records]


def test_a_producer_s_batch_is_taken_exactly_once(both: Workspace, actor: Actor) -> None:
    t = table(both, actor)
    how: dict[str, Any] = {"actor": actor, "producer": "p1"}
    first = both.data.produce(t, rows(1, 2), sequence=1, **how)
    assert (str(first.first), str(first.last)) == (f"1:0:{first.commit[:12]}", f"1:1:{first.commit[:12]}")
    second = both.data.produce(t, rows(3), sequence=2, **how)
    again = both.data.produce(t, rows(3), sequence=2, **how)
    assert (again.repeated, again.commit, again.first) == (True, second.commit, second.first)
    for sequence, records, why in [
        (4, rows(4), "in between is missing"),
        (1, rows(1, 2), "others after it"),
        (2, rows(9), "with other records"),
    ]:
        with pytest.raises(SequenceWrong, match=why) as refused:
            both.data.produce(t, records, sequence=sequence, **how)
        assert refused.value.details["expected"] == 3
    other = both.data.produce(t, rows(7), sequence=1, actor=actor, producer="p2")
    assert other.commit != second.commit
    with pytest.raises(SequenceWrong) as refused:
        both.data.produce(t, rows(8), sequence=5, actor=actor, producer="p3")
    assert refused.value.details["expected"] == 1
    assert log(both, t) == [(1, "x1"), (2, "x2"), (3, "x3"), (7, "x7")]
    assert [(p.name, p.sequence) for p in both.data.producers(t)] == [("p1", 2), ("p2", 1)]


def test_a_producer_numbers_its_batches_for_each_branch(both: Workspace, actor: Actor) -> None:
    t = table(both, actor)
    both.data.produce(t, rows(0), actor=actor)
    both.data.create_branch(t, "trial", actor=actor)
    how: dict[str, Any] = {"actor": actor, "producer": "s"}
    tried = both.data.produce(t, rows(1), sequence=1, branch="trial", **how)
    done = both.data.produce(t, rows(1), sequence=1, **how)
    assert (tried.repeated, done.repeated) == (False, False)
    assert sorted(both.data.read(t)["id"]) == [0, 1]
    both.data.produce(t, rows(2), sequence=2, **how)
    assert both.data.produce(t, rows(1), sequence=1, branch="trial", **how).commit == tried.commit  # still the first
    assert [(p.branch, p.sequence) for p in both.data.producers(t)] == [("main", 2), ("trial", 1)]
    assert [p.sequence for p in both.data.producers(t, "trial")] == [1]
    # A branch that is made anew under the same name begins anew.
    both.data.delete_branch(t, "trial", actor=actor)
    both.data.create_branch(t, "trial", at=both.data.log(t)[-1].id, actor=actor)
    assert both.data.produce(t, rows(1), sequence=1, branch="trial", **how).repeated is False
    assert sorted(both.data.read(t, "trial")["id"]) == [0, 1]


def test_many_producers_land_in_few_commits_each_in_its_order(both: Workspace, actor: Actor) -> None:
    t = table(both, actor)
    both.data.produce(t, rows(0), actor=actor)
    sent = [
        both.data.produce_soon(t, rows(p * 1000 + s), actor=actor, producer=f"p{p}", sequence=s)
        for s in range(1, 6)
        for p in range(1, 41)
    ]
    done = [future.result(60) for future in sent]
    assert len({p.commit for p in done}) < 40  # 200 requests
    found = [n for n, _ in log(both, t)]
    assert sorted(found) == sorted([0, *(p * 1000 + s for p in range(1, 41) for s in range(1, 6))])
    for p in range(1, 41):
        assert [n % 1000 for n in found if n // 1000 == p] == [1, 2, 3, 4, 5]
    page = both.data.records(t, str(done[-1].first), limit=1)
    assert page.records[0][1]["id"] == 40_005


def test_a_bad_record_refuses_its_own_request_only(workspace: Workspace, actor: Actor) -> None:
    t = table(workspace, actor, "id")
    contract = {"columns": {"id": {"type": "int64"}, "v": {"type": "str"}, "n": {"type": "int64", "max": 9}}}
    workspace.data.set_contract(t, contract, actor=actor)
    t = workspace.data.get(workspace.project.id, "t")
    good = [{"id": n, "v": "x", "n": 1} for n in range(20)]
    bad: list[Any] = [
        {"id": 100, "v": "x", "n": 99},
        {"id": "text", "v": "x", "n": 1},
        {"id": 101, "v": "x"},
        {"id": None, "v": "x", "n": 1},
        {"id": 102, "v": "x", "n": 1, "more": 1},
    ]
    mixed = [*good[:10], *bad, *good[10:]]
    with workspace.data._locks[t.id]:  # all of them wait for one commit
        sent = [workspace.data.produce_soon(t, [row], actor=actor) for row in mixed]
    errors = [future.exception(60) for future in sent]
    assert [isinstance(e, NoriaError) for e in errors] == [row in bad for row in mixed]
    assert isinstance(errors[10], ContractBroken)
    assert sorted(workspace.data.read(t)["id"]) == list(range(20))
    assert len(workspace.data.log(t)) <= 3
    assert len(workspace.data.quarantine(workspace.project.id)) == 1  # the one that only the contract refuses


def test_requests_with_the_same_key_follow_one_another(workspace: Workspace, actor: Actor) -> None:
    t = table(workspace, actor, "id")
    workspace.data.produce(t, rows(0), actor=actor)
    with workspace.data._locks[t.id]:
        sent = [workspace.data.produce_soon(t, rows(1, v=f"{n}:"), actor=actor) for n in range(5)]
        other = workspace.data.produce_soon(t, rows(2), actor=actor)
    assert [future.result(60).rows for future in sent] == [1] * 5
    other.result(60)
    assert sorted(log(workspace, t)) == sorted([(0, "x0"), *((1, f"{n}:1") for n in range(5)), (2, "x2")])
    assert workspace.data.read(t).sort("id")["v"].to_list() == ["x0", "4:1", "x2"]
    same = workspace.data.produce(t, rows(2), actor=actor)
    assert (same.first, same.rows) == (None, 1)  # it is there already, exactly so: nothing is written twice
    some = workspace.data.produce(t, [*rows(2), *rows(3)], actor=actor)
    assert some.first == some.last
    assert workspace.data.records(t, str(some.first)).records[0][1] == {"id": 3, "v": "x3"}


def test_offsets_stay_whatever_happens_to_the_rows(workspace: Workspace, actor: Actor) -> None:
    t = table(workspace, actor, "id")
    sent = [workspace.data.produce(t, rows(n, n + 1000), actor=actor) for n in range(40)]  # folds among them
    workspace.data.append(t, rows(3, 5, v="new"), actor=actor)
    workspace.data.append(t, pl.DataFrame({"id": [7, 1007]}), actor=actor, mode="delete")
    workspace.data.append(t, rows(1, v="all"), actor=actor, mode="overwrite")
    for n, one in enumerate(sent):
        page = workspace.data.records(t, str(one.last), limit=1)
        assert page.records[0] == (one.last, {"id": n + 1000, "v": f"x{n + 1000}"})
    whole = [pair for n in range(40) for pair in ((n, f"x{n}"), (n + 1000, f"x{n + 1000}"))]
    assert log(workspace, t) == [*whole, (3, "new3"), (5, "new5"), (1, "all1")]


def test_a_history_that_was_changed_is_said(workspace: Workspace, actor: Actor) -> None:
    t = table(workspace, actor)
    first = workspace.data.produce(t, rows(1), actor=actor)
    workspace.data.create_branch(t, "other", actor=actor)
    second = workspace.data.produce(t, rows(2), actor=actor)
    assert workspace.data.records(t, str(first.last), branch="other").records[0][1]["id"] == 1
    with pytest.raises(OffsetLost):
        workspace.data.records(t, str(second.last), branch="other")
    mine = workspace.data.produce(t, rows(3), actor=actor, branch="other")
    assert mine.first is not None
    with pytest.raises(OffsetLost):  # the same generation, another commit
        workspace.data.records(t, str(mine.first))
    for text in ("", "x", "1:2", "1:2:zz", "-1:0:", "1:0:abc", "9" * 30 + ":0:"):
        with pytest.raises((Invalid, OffsetLost)):
            workspace.data.records(t, text)
    with pytest.raises(Invalid):
        workspace.data.records(t, limit=0)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.lists(st.integers(0, 8), min_size=1, max_size=4, unique=True)),
        st.tuples(st.just("delete"), st.lists(st.integers(0, 8), min_size=1, max_size=3, unique=True)),
        st.tuples(st.just("overwrite"), st.lists(st.integers(0, 8), min_size=1, max_size=4, unique=True)),
    ),
    max_size=12,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, limit=st.integers(1, 7), keyed=st.booleans())
def test_reading_on_by_pages_of_any_size_gives_every_write_once_in_order(
    workspace: Workspace, actor: Actor, steps: list[tuple[str, list[int]]], limit: int, keyed: bool
) -> None:
    name = f"t{len(workspace.data.repositories(workspace.project.id))}"
    t = table(workspace, actor, *(["id"] if keyed else []), name=name)
    written: list[tuple[int, str]] = []
    read: list[tuple[int, str]] = []
    place, count = "earliest", 0
    for kind, ids in steps:
        count += 1
        if kind == "delete":
            if keyed and workspace.data.head(t) is not None:
                workspace.data.append(t, pl.DataFrame({"id": ids}), actor=actor, mode="delete")
            continue
        if kind == "overwrite":
            workspace.data.append(t, rows(*ids, v=f"{count}:"), actor=actor, mode="overwrite")
        else:
            workspace.data.produce(t, rows(*ids, v=f"{count}:"), actor=actor)
        written += [(n, f"{count}:{n}") for n in ids]
        if count % 3 == 0:  # read some of it now
            page = workspace.data.records(t, place, limit=limit)
            read += [(r["id"], r["v"]) for _, r in page.records]
            place = str(page.next)
    while (page := workspace.data.records(t, place, limit=limit)).records:
        read += [(r["id"], r["v"]) for _, r in page.records]
        place = str(page.next)
    assert read == written
    latest = workspace.data.records(t, "latest").next
    workspace.data.produce(t, rows(99), actor=actor)
    assert log(workspace, t, str(latest)) == log(workspace, t, place) == [(99, "x99")]


def test_two_processes_take_a_batch_once(both: Workspace, actor: Actor) -> None:
    t = table(both, actor)
    both.data.produce(t, rows(0), actor=actor, producer="p", sequence=1)
    with connect(both.url if "://" in both.url else both.home.parent, environment={}) as other:
        start = threading.Barrier(2)

        def send(ws: Workspace) -> list[str]:
            found: list[str] = []
            start.wait()
            for sequence in range(2, 8):
                found.append(ws.data.produce(t, rows(sequence), actor=actor, producer="p", sequence=sequence).commit)
            return found

        with ThreadPoolExecutor(2) as pool:
            one, two = pool.map(lambda ws: _patient(send, ws), [both, other])
    assert one or two
    assert [n for n, _ in log(both, t)] == [0, 2, 3, 4, 5, 6, 7]


def _patient(send: Any, ws: Workspace) -> Any:
    try:
        return send(ws)
    except SequenceWrong:  # the other one is further on already
        return []


class SimulatedCrashError(BaseException):
    pass


class Crashing:
    """Ends the work at a point the way a killed process would, as far as the database and the store can tell."""

    def __init__(self, point: str) -> None:
        self._point = point

    def at(self, point: str) -> None:
        if point == self._point:
            self._point = ""
            raise SimulatedCrashError


@pytest.mark.parametrize("point", ["change.data.produce", "data.head", "db.commit", "db.committed"])
def test_a_crash_at_any_point_takes_a_batch_once(tmp_path: Path, actor: Actor, point: str) -> None:
    with init(tmp_path, environment={}) as ws:
        t = table(ws, actor)
        ws.data.produce(t, rows(1), actor=actor, producer="p", sequence=1)
    with connect(tmp_path, environment={}, faults=Crashing(point)) as ws, pytest.raises(SimulatedCrashError):
        ws.data.produce(t, rows(2), actor=actor, producer="p", sequence=2)
    with connect(tmp_path, environment={}) as ws:
        ws.data.produce(t, rows(2), actor=actor, producer="p", sequence=2)
        assert log(ws, t) == [(1, "x1"), (2, "x2")]
        assert ws.verify(data=True) == []
