"""The application of one worker, without a server: what happens when a part of it fails."""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trained_shop import POLICY, trained, version, world

from noria.http.access import Access
from noria.serving import segments
from noria.serving.app import InferenceApp, Live
from noria.serving.loaded import Loaded, ModelFailed
from noria.serving.records import Arm, Routing
from noria.serving.segments import Captured, SegmentWriter
from noria.workspace import Workspace

LOCAL = {"host": "127.0.0.1:5001"}
ROW = world()["orders"].row(-1, named=True)
ROW = ROW | {"at": ROW["at"].isoformat()}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with trained(tmp_path_factory.mktemp("app"), 2) as ws:
        ws.serving.ensure("returns", "tree", POLICY, actor=ws.actor)
        yield ws


@pytest.fixture
def arms(shop: Workspace) -> dict[int, Loaded]:
    made: dict[int, Loaded] = {}
    for number in (1, 2):
        found = shop.serving.deploy(shop.serving.get("returns"), version(shop, number), actor=shop.actor)
        package, code = shop.serving.folders(found)
        made[number] = Loaded(number, found.model, package, code, shop.features.replica_path)
        made[number].warm_up()
    return made


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[SegmentWriter]:
    made = SegmentWriter(tmp_path / "capture", "w1")
    yield made
    made.close()


@pytest.fixture
def app(writer: SegmentWriter, arms: dict[int, Loaded]) -> Iterator[InferenceApp]:
    """Version 1 answers, version 2 scores in the shadow."""
    made = InferenceApp(writer, Access(token="secret"), lambda: 1_359_000_000_000, max_body=100_000)
    routing = (Arm(deployment=1, role="champion", weight=1.0), Arm(deployment=2, role="shadow", weight=0.0))
    made.endpoints = {"returns": Live("returns", Routing(number=1, arms=routing, salt="s", paired=False), arms)}
    yield made
    made.close()


def captured(tmp_path: Path) -> list[Captured]:
    return [record for path in (tmp_path / "capture").glob("*.seg") for record, _ in segments.read(path)]


async def asked(
    app: InferenceApp, body: Any = None, path: str = "/endpoints/returns/predict", headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    """(status, answer) of one request."""
    data = body if isinstance(body, bytes) else json.dumps({"row": ROW} if body is None else body).encode()
    given = headers or LOCAL
    scope = {
        "type": "http", "method": "POST", "path": path, "headers": [(k.encode(), v.encode()) for k, v in given.items()],
        "client": ("127.0.0.1", 40000), "server": ("127.0.0.1", 5001),
    }  # fmt: skip
    parts = [{"body": data[:10], "more_body": True}, {"body": data[10:]}]
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", **parts.pop(0)}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    assert dict(sent[0]["headers"])[b"content-length"] == str(len(sent[1]["body"])).encode()
    return sent[0]["status"], json.loads(sent[1]["body"])


def ask(app: InferenceApp, *arguments: Any, **named: Any) -> tuple[int, Any]:
    return asyncio.run(asked(app, *arguments, **named))


def with_shadows(app: InferenceApp, what: Callable[[], Awaitable[Any]]) -> Any:
    """The result of ``what``, when everything was scored in the shadow too."""

    async def run() -> Any:
        task = asyncio.create_task(app.run_shadows())
        made = await what()
        await asyncio.wait_for(app.drain_shadows(), 30)
        task.cancel()
        return made

    return asyncio.run(run())


def full(*_: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_what_cannot_be_captured_is_not_answered(
    app: InferenceApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(segments.os, "write", full)
        status, answer = ask(app)
        assert (status, answer["error"]["code"]) == (507, "disk_full")
        status, answer = ask(app, {"row": {}})
        assert (status, answer["error"]["code"]) == (400, "request_invalid")
    assert captured(tmp_path) == []
    assert ask(app)[0] == 200
    assert len(captured(tmp_path)) == 1


@pytest.mark.parametrize("rows", [1, 20])
def test_a_model_that_fails_is_named_and_counted(
    app: InferenceApp, arms: dict[int, Loaded], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    def broken(_: object) -> Any:
        raise ValueError("no such tree")

    for predict, says in ((broken, "no such tree"), (lambda frame: np.full(len(frame), np.nan), "no number")):
        monkeypatch.setattr(arms[1], "_predict", predict)
        status, answer = ask(app, {"rows": [ROW] * rows})
        assert (status, answer["error"]["code"]) == (422, ModelFailed.code)
        assert "tree/1" in answer["error"]["message"]
        assert says in answer["error"]["message"]
    assert [(r.error, r.count, r.rows) for r in captured(tmp_path)] == [("model_failed", rows, [])] * 2
    assert (app.counts.failed, app.counts.predictions) == (2, 0)


def test_a_features_function_that_fails_is_named(
    app: InferenceApp, arms: dict[int, Loaded], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> Any:
        raise KeyError("visits")

    monkeypatch.setattr(arms[1], "_server", broken)
    status, answer = ask(app)
    assert (status, answer["error"]["code"]) == (422, ModelFailed.code)
    assert "KeyError" in answer["error"]["message"]
    assert answer["error"]["hint"]


def test_the_shadow_scores_what_was_answered(app: InferenceApp, tmp_path: Path) -> None:
    status, answer = with_shadows(app, lambda: asked(app, {"row": ROW, "id": "a"}))
    assert (status, answer["model"]) == (200, "tree/1")
    first, second = captured(tmp_path)
    assert [(r.model, r.role, r.answered, r.rows[0].id) for r in (first, second)] == [
        ("tree/1", "champion", True, "a"),
        ("tree/2", "shadow", False, "a"),
    ]
    assert first.rows[0].features == second.rows[0].features


def test_whatever_fails_in_the_shadow_the_next_request_is_scored(
    app: InferenceApp,
    arms: dict[int, Loaded],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole, number = arms[2].values, iter(range(10))

    def values(computed: Any) -> list[bytes]:
        if next(number) == 0:
            raise RuntimeError("not foreseen")
        return whole(computed)

    monkeypatch.setattr(arms[2], "values", values)

    async def twice() -> list[int]:
        return [(await asked(app))[0] for _ in range(2)]

    assert with_shadows(app, twice) == [200, 200]
    assert [r.role for r in captured(tmp_path)].count("shadow") == 1
    assert app.counts.shadow_dropped == 1
    assert "not foreseen" in caplog.text


def test_a_shadow_that_fails_is_captured_and_harms_no_answer(
    app: InferenceApp, arms: dict[int, Loaded], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arms[2], "_predict", lambda frame: np.full(len(frame), np.inf))
    assert with_shadows(app, lambda: asked(app))[0] == 200
    assert [(r.role, r.error, r.count) for r in captured(tmp_path)] == [
        ("champion", "", 0),
        ("shadow", "model_failed", 1),
    ]


def test_shadows_beyond_what_can_wait_are_dropped_and_counted(app: InferenceApp) -> None:
    async def many() -> list[int]:
        return [(await asked(app))[0] for _ in range(260)]

    assert set(asyncio.run(many())) == {200}  # nobody scores in the shadow here
    assert app.counts.shadow_dropped == 4


def test_an_endpoint_that_nobody_answers_says_so(app: InferenceApp) -> None:
    empty = Routing(number=3, arms=(), salt="", paired=False)
    app.endpoints = {**app.endpoints, "new": Live("new", empty, {})}
    status, answer = ask(app, path="/endpoints/new/predict")
    assert (status, answer["error"]["code"]) == (503, "endpoint_not_ready")
    assert answer["error"]["hint"] == "noria endpoints show new"


def test_a_body_that_is_too_large_is_not_read_to_its_end(app: InferenceApp) -> None:
    assert ask(app, b" " * 100_000 + b"x")[0] == 413
    assert ask(app, b" " * 100_000)[0] == 400


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "127.0.0.1"}, 200),
        ({"host": "127.0.0.1", "origin": "http://x", "authorization": "Bearer secret"}, 200),
        ({"host": "127.0.0.1", "authorization": "Bearer secrets"}, 401),
        ({"host": "models.example", "authorization": "Bearer secret"}, 403),
        ({}, 403),
    ],
)
def test_a_token_opens_what_is_not_plainly_local(app: InferenceApp, headers: dict[str, str], status: int) -> None:
    assert ask(app, headers=headers or {"x-none": "1"})[0] == status


def test_a_caller_that_goes_away_gets_no_answer_and_leaves_no_trace(app: InferenceApp, tmp_path: Path) -> None:
    messages = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost")]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/endpoints/returns/predict",
        "headers": headers,
        "client": ("127.0.0.1", 40000),
    }
    asyncio.run(app(scope, receive, send))
    assert (sent, captured(tmp_path), app.counts.requests) == ([], [], 0)
