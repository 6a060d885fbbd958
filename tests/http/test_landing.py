"""Rows that are posted: they land once and whole, or not at all, and the answer says why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from rooms_client import Answer, Client, client

from noria.base.actor import Actor
from noria.data.http import routes
from noria.data.records import MAIN, Commit, RepositoryKind
from noria.workspace import Workspace, connect, init

CONTRACT = {"columns": {"id": {"type": "int64"}, "n": {"type": "int64", "max": 100}}}


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def ws(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Workspace]:
    db_url = request.getfixturevalue("postgres_url") if request.param == "postgres" else None
    init(tmp_path, db_url=db_url).close()
    with connect(db_url or tmp_path, root=tmp_path) as opened:
        for name in ("orders", "returns"):
            made = opened.data.create(opened.project.id, name, RepositoryKind.TABLE, actor=opened.actor, key=("id",))
            opened.data.set_contract(made, CONTRACT, actor=opened.actor)
        yield opened


@pytest.fixture
def http(ws: Workspace) -> Client:
    return client(routes(ws.data, ws.project.id))


def post(http: Client, rows: list[dict[str, Any]], *, name: str = "orders", key: str = "", **more: Any) -> Answer:
    headers = {"idempotency_key": key} if key else {}
    return http.send("POST", f"/v1/data/{name}/rows", {"rows": rows, **more}, **headers)


def rows(http: Client, name: str = "orders") -> dict[int, int]:
    return {row["id"]: row["n"] for row in http.get(f"/v1/data/{name}/rows").json["rows"]}


def log(ws: Workspace, name: str = "orders") -> list[Commit]:
    repository = ws.data.get(ws.project.id, name)
    return [] if ws.data.head(repository) is None else ws.data.log(repository)


def test_rows_land_as_a_commit_of_their_caller(ws: Workspace, http: Client) -> None:
    first = post(http, [{"id": 1, "n": 10}, {"id": 2, "n": 20}], message="two")
    assert first.status == 200
    assert (first.json["stats"]["added"], first.json["message"]) == (2, "two")
    second = post(http, [{"id": 2, "n": 21}, {"id": 3, "n": 30}])
    assert second.json["stats"] == {"added": 1, "updated": 1, "deleted": 0, "unchanged": 0, "rows": 3}
    assert rows(http) == {1: 10, 2: 21, 3: 30}
    assert [c.id for c in log(ws)] == [second.json["id"], first.json["id"]]
    assert post(http, [{"id": 3, "n": 30}]).json["id"] == second.json["id"], "nothing new is no commit"
    moved = post(http, [{"id": 4, "n": 4}], expected=first.json["id"])
    assert (moved.status, moved.error["code"]) == (409, "head_moved")
    assert post(http, [{"id": 4, "n": 4}], expected=second.json["id"]).status == 200


@pytest.mark.parametrize("between", [None, {"id": 1, "n": 99}, {"id": 9, "n": 9}])
def test_a_request_that_is_repeated_with_its_key_has_one_effect(
    ws: Workspace, http: Client, between: dict[str, int] | None
) -> None:
    batch = [{"id": 1, "n": 10}, {"id": 2, "n": 20}]
    first = post(http, batch, key="tick-1")
    if between is not None:
        assert post(http, [between]).status == 200
    before, count = rows(http), len(log(ws))
    for _ in range(2):
        again = post(http, batch, key="tick-1")
        assert again.status == 200
        if between is None or between["id"] == 1:
            assert again.json == first.json
    assert rows(http) == before, "what came in between stays"
    assert len(log(ws)) == count
    other = post(http, [{"id": 1, "n": 11}], key="tick-1")
    assert (other.status, other.error["code"]) == (409, "idempotency_key_reused")
    assert rows(http) == before


def test_a_request_that_is_sent_several_times_at_once_has_one_effect(ws: Workspace, http: Client) -> None:
    batch = [{"id": n, "n": n % 100} for n in range(200)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: post(http, batch, key="once"), range(4)))
    assert {a.status for a in answers} == {200}
    assert {a.json["id"] for a in answers} == {log(ws)[0].id}
    assert len(log(ws)) == 1


def test_a_batch_that_breaks_its_contract_says_column_rule_and_rows(ws: Workspace, http: Client) -> None:
    bad = [{"id": 1, "n": 10}, {"id": 2, "n": 999}, {"id": 3, "n": 1000}]
    for key in ("", "tick-1", "tick-1"):
        refused = post(http, bad, key=key)
        assert (refused.status, refused.error["code"]) == (422, "contract_broken")
        details = refused.error["details"]
        (finding,) = details["findings"]
        assert (finding["column"], finding["rule"], finding["count"]) == ("n", "n.max", 2)
        assert {row["n"] for row in finding["rows"]} == {999, 1000}
        assert (details["repository"], details["contract"]) == ("orders", 1)
        assert refused.error["hint"].startswith(f"noria data quarantine show {details['quarantine']}")
    assert log(ws) == []
    (kept,) = http.get("/v1/quarantine").json["items"]
    assert (kept["rows"], kept["source"], kept["id"]) == (3, "http", details["quarantine"])
    assert post(http, [{"id": 1, "n": 10}], key="tick-2").status == 200


@pytest.mark.parametrize(
    ("batch", "word"),
    [
        ([{"id": 1}], "missing n"),
        ([{"id": 1, "n": 1, "m": 1}], "unknown m"),
        ([{"id": "x", "n": 1}], "does not fit"),
        ([{"id": 1, "n": 1}, {"id": 2, "n": 1.5}], "n of row 1 is 1.5"),
    ],
)
def test_rows_that_are_no_rows_of_the_table_are_named(ws: Workspace, http: Client, batch: Any, word: str) -> None:
    refused = post(http, batch)
    assert refused.status in (400, 422)
    assert word in refused.error["message"]
    assert log(ws) == []


def test_a_truth_value_is_no_number(ws: Workspace, http: Client) -> None:
    ws.data.create(ws.project.id, "flags", RepositoryKind.TABLE, actor=ws.actor, key=("id",))
    assert post(http, [{"id": 1, "on": True}, {"id": 2, "on": None}], name="flags").status == 200
    refused = post(http, [{"id": 3, "on": 7}], name="flags")
    assert (refused.status, refused.error["details"]) == (400, {"row": 0, "column": "on"})
    assert post(http, [{"id": 3.0, "on": False}], name="flags").status == 200


def test_what_is_no_request_is_said_in_the_one_form(ws: Workspace, http: Client) -> None:
    assert post(http, [{"id": 1, "n": 1}], name="ordres").error["hint"] == "Did you mean 'orders'?"
    assert post(http, [{"id": 1, "n": 1}], mode="merge").status == 400
    assert post(http, [{"id": 1, "n": 1}], colour="red").status == 400
    assert http.call("POST", "/v1/data/orders/rows", "", b"{").status == 400
    assert post(http, [{"id": 1, "n": 1}], branch="nope").status == 404
    assert log(ws) == []


def many(http: Client, key: str = "", **batches: list[dict[str, int]]) -> Answer:
    headers = {"idempotency_key": key} if key else {}
    return http.send("POST", "/v1/rows", {"repositories": batches}, **headers)


def test_rows_of_several_repositories_land_together(ws: Workspace, http: Client) -> None:
    done = many(http, "tick", orders=[{"id": 1, "n": 1}], returns=[{"id": 2, "n": 2}])
    assert done.status == 200
    assert set(done.json["commits"]) == {"orders", "returns"}
    assert (rows(http), rows(http, "returns")) == ({1: 1}, {2: 2})
    assert many(http, "tick", orders=[{"id": 1, "n": 1}], returns=[{"id": 2, "n": 2}]).json == done.json
    assert (len(log(ws)), len(log(ws, "returns"))) == (1, 1)
    half = many(http, orders=[{"id": 1, "n": 1}], returns=[{"id": 3, "n": 3}])
    assert half.json["commits"]["orders"] == done.json["commits"]["orders"], "nothing new for one of them"
    assert rows(http, "returns") == {2: 2, 3: 3}


@pytest.mark.parametrize(
    ("batches", "status"),
    [
        ({"orders": [{"id": 1, "n": 1}], "returns": [{"id": 2, "n": 999}]}, 422),
        ({"returns": [{"id": 2, "n": 999}], "orders": [{"id": 1, "n": 1}]}, 422),
        ({"orders": [{"id": 1, "n": 1}], "nowhere": [{"id": 2, "n": 2}]}, 404),
        ({"orders": [{"id": 1, "n": 1}], "returns": [{"id": "x", "n": 2}]}, 400),
        ({"orders": [{"id": 1, "n": 1}], "returns": [{"id": 2}]}, 400),
    ],
)
def test_rows_of_several_repositories_land_all_or_none(
    ws: Workspace, http: Client, batches: dict[str, Any], status: int
) -> None:
    refused = many(http, "tick", **batches)
    assert refused.status == status
    assert (log(ws), log(ws, "returns")) == ([], [])
    assert many(http, "tick", orders=[{"id": 1, "n": 1}], returns=[{"id": 2, "n": 2}]).status == 200


def test_a_head_that_moves_in_between_takes_no_half_of_a_batch_with_it(
    ws: Workspace, http: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another writer is faster in one of the repositories: the whole batch is built anew, and lands once."""
    landed, left = ws.data._land, [1]

    def land(change: Any, landing: Any, run_id: Any) -> Commit | None:
        if landing.repository.name == "returns" and left.pop() if left else False:
            return None  # as if the head of the second one had moved
        return landed(change, landing, run_id)

    monkeypatch.setattr(ws.data, "_land", land)
    assert many(http, orders=[{"id": 1, "n": 1}], returns=[{"id": 2, "n": 2}]).status == 200
    assert (len(log(ws)), len(log(ws, "returns"))) == (1, 1)
    assert (rows(http), rows(http, "returns")) == ({1: 1}, {2: 2})


def test_writers_of_other_repositories_at_once_lose_nothing(ws: Workspace, http: Client) -> None:
    def write(n: int) -> int:
        names = ("orders", "returns") if n % 2 else ("returns", "orders")
        return many(http, f"k{n}", **{name: [{"id": n, "n": n}] for name in names}).status

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(write, range(12))) == {200}
    assert rows(http) == rows(http, "returns") == {n: n for n in range(12)}
    assert (len(log(ws)), len(log(ws, "returns"))) == (12, 12)


def test_the_caller_is_in_the_audit_log_with_the_commit(ws: Workspace, http: Client) -> None:
    done = post(http, [{"id": 1, "n": 1}])
    entry = ws.audit.list(ws.project.id, limit=1).items[0]
    assert (entry.verb, entry.subject) == ("data.append", "orders")
    assert Actor(name=entry.actor).name == done.json["author"]
    assert json.dumps(done.json)
    assert ws.data.head(ws.data.get(ws.project.id, "orders"), MAIN) is not None
