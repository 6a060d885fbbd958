"""The append API over HTTP: numbered batches, JSON lines, reading on, waiting for more."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from rooms_client import Client, all_routes, client

from noria.base.actor import Actor
from noria.cli.main import run
from noria.data.records import RepositoryKind
from noria.http.access import Access
from noria.http.app import build
from noria.workspace import Workspace, init

PATH = "/v1/data/t/records"


@pytest.fixture
def api(workspace: Workspace, actor: Actor) -> Client:
    workspace.data.create(workspace.project.id, "t", RepositoryKind.TABLE, actor=actor)
    return client(all_routes(workspace))


def test_a_batch_of_a_producer_is_answered_again_and_a_gap_is_refused(api: Client) -> None:
    body = {"records": [{"id": 1}, {"id": 2}], "producer": "p", "sequence": 1}
    first = api.send("POST", PATH, body)
    assert first.status == 200
    assert first.json["rows"] == 2
    assert first.json["first_offset"].startswith("1:0:")
    assert first.json["last_offset"].startswith("1:1:")
    again = api.send("POST", PATH, body)
    assert again.json == {**first.json, "repeated": True}
    gap = api.send("POST", PATH, {**body, "sequence": 3})
    assert (gap.status, gap.error["code"], gap.error["details"]["expected"]) == (409, "sequence_wrong", 2)
    api.send("POST", PATH, {"records": [{"id": 3}], "producer": "p", "sequence": 2})
    old = api.send("POST", PATH, body)
    assert (old.status, old.error["details"]["expected"]) == (409, 3)
    assert [p["sequence"] for p in api.get("/v1/data/t/producers").json["items"]] == [2]


def test_json_lines_are_taken_and_read_in_order_by_pages(api: Client) -> None:
    lines = b'{"id": 1}\n{"id": 2}\n{"id": 3}\n'
    sent = api.call("POST", PATH, "producer=p&sequence=1", lines, content_type="application/x-ndjson; charset=utf-8")
    assert sent.status == 200, sent.json
    page = api.get(PATH, "limit=2").json
    assert [r["value"] for r in page["records"]] == [{"id": 1}, {"id": 2}]
    rest = api.get(PATH, f"from={page['next']}").json
    assert [r["value"] for r in rest["records"]] == [{"id": 3}]
    assert api.get(PATH, f"from={rest['next']}").json["records"] == []
    one = api.get(PATH, f"limit=1&from={sent.json['last_offset']}").json["records"]
    assert one == [{"offset": sent.json["last_offset"], "value": {"id": 3}}]


@pytest.mark.parametrize(
    ("query", "body", "status"),
    [
        ("", b"", 400),
        ("", b'{"id": 1}\n{"id": ', 400),
        ("", b"{}\n", 400),
        ("", b"[1]\n", 400),
        ("producer=p", b'{"id": 1}\n', 400),
        ("producer=p&sequence=x", b'{"id": 1}\n', 400),
        ("producer=..%2F&sequence=1", b'{"id": 1}\n', 400),
        ("branch=nowhere", b'{"id": 1}\n', 404),
        ("", b'{"id": "\\u0000"}\n', 400),
    ],
)
def test_bad_lines_are_refused_in_words(api: Client, query: str, body: bytes, status: int) -> None:
    found = api.call("POST", PATH, query, body, content_type="application/x-ndjson")
    assert found.status == status, found.json
    assert found.error["message"]


@pytest.mark.parametrize("query", ["from=nonsense", "limit=0", "wait=31", "wait=-1", "from=9:0:", "limit=x"])
def test_bad_readers_are_refused_in_words(api: Client, query: str) -> None:
    api.send("POST", PATH, {"records": [{"id": 1}]})
    assert 400 <= api.get(PATH, query).status < 500


def test_a_key_makes_a_request_safe_to_repeat(api: Client) -> None:
    first = api.send("POST", PATH, {"records": [{"id": 1}]}, idempotency_key="k")
    again = api.send("POST", PATH, {"records": [{"id": 1}]}, idempotency_key="k")
    assert (first.status, again.status) == (200, 200)
    assert again.json["commit"] == first.json["commit"]
    assert api.send("POST", PATH, {"records": [{"id": 2}]}, idempotency_key="k").status == 409
    both = {"records": [{"id": 1}], "producer": "p", "sequence": 1}
    assert api.send("POST", PATH, both, idempotency_key="k2").status == 400
    assert len(api.get(PATH).json["records"]) == 1


def test_a_reader_waits_for_what_comes_and_holds_no_thread(workspace: Workspace, actor: Actor, api: Client) -> None:
    api.send("POST", PATH, {"records": [{"id": 1}]})
    place = api.get(PATH).json["next"]
    empty = time.monotonic()
    assert api.get(PATH, f"from={place}&wait=0.3").json["records"] == []
    assert time.monotonic() - empty >= 0.3
    app = build(all_routes(workspace), Access())
    found: list[Any] = []

    async def wait_many() -> None:
        """More readers than the pool has threads: if each held one, nobody would see the row."""
        found.extend(await asyncio.gather(*(ask(app, f"from={place}&wait=20") for _ in range(60))))

    def post() -> None:
        time.sleep(0.3)
        workspace.data.produce(workspace.data.get(workspace.project.id, "t"), [{"id": 2}], actor=actor)

    thread = threading.Thread(target=post)
    thread.start()
    asyncio.run(wait_many())
    thread.join()
    assert [[r["value"] for r in page["records"]] for page in found] == [[{"id": 2}]] * 60


async def ask(app: Any, query: str, method: str = "GET", body: bytes = b"") -> Any:
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": PATH,
        "raw_path": PATH.encode(),
        "query_string": query.encode(),
        "headers": [(b"host", b"127.0.0.1:5000")],
        "server": ("127.0.0.1", 5000),
        "client": ("127.0.0.1", 40000),
    }
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return json.loads(b"".join(m.get("body", b"") for m in sent[1:]))


def test_two_hundred_producers_at_once_land_in_few_commits(workspace: Workspace, api: Client) -> None:
    api.send("POST", PATH, {"records": [{"id": -1}]})
    app = build(all_routes(workspace), Access())

    async def post_all() -> list[Any]:
        bodies = [json.dumps({"records": [{"id": n}], "producer": f"p{n}", "sequence": 1}) for n in range(200)]
        return await asyncio.gather(*(ask(app, "", "POST", body.encode()) for body in bodies))

    answers = asyncio.run(post_all())
    assert [a["rows"] for a in answers] == [1] * 200
    assert len({a["commit"] for a in answers}) <= 40
    assert len({a["first_offset"] for a in answers}) == 200
    assert sorted(r["value"]["id"] for r in api.get(PATH).json["records"]) == list(range(-1, 200))


def test_the_command_sends_each_batch_once_and_notices_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with init(tmp_path, environment={}) as ws:
        ws.data.create(ws.project.id, "t", RepositoryKind.TABLE, actor=ws.actor)
    path = tmp_path / "in.jsonl"
    path.write_text("".join(f'{{"id": {n}}}\n' for n in range(25)))

    def noria(*words: str) -> tuple[int, str, str]:
        code = run(list(words))
        done = capsys.readouterr()
        return code, done.out, done.err

    line = ("data", "produce", "t", "in.jsonl", "--producer", "p", "--batch", "10")
    assert "25 records in 3 batches" in noria(*line)[1]
    assert "nothing new" in noria(*line)[1]
    path.write_text(path.read_text().replace("24", "99"))
    code, _, changed = noria(*line)
    assert (code, "other records" in changed) == (5, True)
    shown = json.loads(noria("data", "records", "t", "--limit", "30", "--json")[1])
    assert [r["value"]["id"] for r in shown["records"]] == list(range(25))
