"""Tables over HTTP: columns, differences, one row, compaction."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from rooms_client import Answer, Client, client

from noria.data.http import routes
from noria.data.records import RepositoryKind
from noria.workspace import Workspace, connect, init


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    init(tmp_path).close()
    with connect(tmp_path, root=tmp_path) as opened:
        opened.data.create(opened.project.id, "t", RepositoryKind.TABLE, actor=opened.actor, key=("k",))
        yield opened


@pytest.fixture
def http(ws: Workspace) -> Client:
    return client(routes(ws.data, ws.project.id))


def test_the_life_of_a_table(http: Client) -> None:
    def post(path: str, value: object, **headers: str) -> Answer:
        return http.send("POST", f"/v1/data/t/{path}", value, **headers)

    post("rows", {"rows": [{"k": 1, "v": "a"}, {"k": 2, "v": "b"}]})
    post("rows", {"rows": [{"k": 2, "v": "B"}]})
    changes = {"add": [{"name": "n", "type": "int16", "default": "7"}], "rename": {"v": "text"}}
    once = post("columns", changes, idempotency_key="one")
    again = post("columns", changes, idempotency_key="one")
    assert once.status == again.status == 200
    assert once.json["id"] == again.json["id"]
    assert http.get("/v1/data/t/rows").json["rows"] == [
        {"k": 1, "text": "a", "n": 7},
        {"k": 2, "text": "B", "n": 7},
    ]
    refused = post("rows", {"rows": [{"k": 3, "text": "c"}]})
    assert (refused.status, refused.json["error"]["code"]) == (400, "invalid")
    assert post("rows", {"rows": [{"k": 3, "text": "c", "m": 1.5}], "evolve": True}).status == 200
    diff = http.get("/v1/data/t/diff", "before=main~3&after=main").json
    assert diff["schema"]["renamed"] == [{"before": "v", "after": "text"}]
    assert diff["schema"]["added"] == {"n": "int16", "m": "float64"}
    assert diff["changes"] == [{"key": {"k": 2}, "columns": {"text": ["b", "B"]}}]
    key = quote(json.dumps({"k": 2}))
    history = http.get("/v1/data/t/row", f"key={key}").json
    assert [e["kind"] for e in history["events"]] == ["changed", "added"]
    assert len(history["commits"]) == 3
    assert http.get("/v1/data/t/row", "key=2").status == 400
    assert http.get("/v1/data/t/row", f"key={quote(json.dumps({'k': 99}))}").json["error"]["code"] == "row_not_found"
    done = post("compact", {})
    assert done.json["files_after"] == 1
    assert len(http.get("/v1/data/t/rows").json["rows"]) == 3


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"drop": ["k"]}, "'k' is the key"),
        ({"widen": {"v": "nothing"}}, "not the name of a column type"),
        ({"add": [{"name": "x", "type": "int8", "default": "big"}]}, "no value of 'x'"),
        ({}, "nothing to change"),
        ({"add": [{"name": "x", "type": "decimal[40, 3]"}]}, "at most 38 digits"),
        ({"key": ["k", "k"]}, "names 'k' twice"),
    ],
)
def test_mistakes_are_answered(http: Client, body: object, message: str) -> None:
    http.send("POST", "/v1/data/t/rows", {"rows": [{"k": 1, "v": "a"}]})
    found = http.send("POST", "/v1/data/t/columns", body)
    assert found.status == 400
    assert message in found.json["error"]["message"]


def test_columns_asked_for_twice_and_keys_that_are_lists_are_answered(http: Client) -> None:
    for bad in ([1], {"a": 1}):
        assert http.send("POST", "/v1/data/t/records", {"records": [{"k": bad}]}).status == 400
    assert http.send("POST", "/v1/data/t/records", {"records": [{"k": 1}]}).status == 200
    assert http.get("/v1/data/t/rows", "columns=k,k").status == 400
