"""Large answers: read in pages while they are sent, and never encoded where all other requests wait."""

from __future__ import annotations

import http.client
import json
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec
import pytest
from mlflow_server import serve

from noria import workspace as ws
from noria.base.ids import RunId
from noria.gateways.mlflow import app, metrics
from noria.tracking.records import Point

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from noria.workspace import Workspace

POINTS = [(n / 2, n, n) for n in range(3_000)]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Workspace]:
    with ws.init(tmp_path, environment={}) as made:
        yield made


def run_with_points(opened: Workspace) -> RunId:
    with opened.db.write() as tx:
        run = opened.tracking.create_run(tx, opened.project.id, 0, name="r", actor=opened.actor).id
    opened.tracking.log(run, points=[Point(key="m", value=value, at=at, step=step) for value, at, step in POINTS])
    return run


def ask(url: str, path: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    connection.request("GET", f"/api/2.0/mlflow/{path}", headers={"Connection": "close"})
    answer = connection.getresponse()
    assert answer.status == 200
    return answer


def test_a_whole_history_is_read_while_it_is_sent(opened: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    run, begun, marks = run_with_points(opened), threading.Event(), opened.tracking.marks
    limits: list[int] = []

    def slow(*given: Any, **more: Any) -> Any:
        limits.append(more["limit"])
        assert len(limits) == 1 or begun.wait(20), "nothing was sent before the second page was read"
        return marks(*given, **more)

    monkeypatch.setattr(metrics, "_PAGE", 1_000, raising=False)
    monkeypatch.setattr(metrics, "_MOST_POINTS", 1_000)
    monkeypatch.setattr(opened.tracking, "marks", slow)
    with serve(opened) as url:
        answer = ask(url, f"metrics/get-history?run_id={run}&metric_key=m")
        first = answer.read(100)
        begun.set()
        found = json.loads(first + answer.read())
        assert answer.headers["content-type"] == "application/json"
        assert [(m["value"], m["timestamp"], m["step"]) for m in found.pop("metrics")] == POINTS
        assert found == {}
        assert limits == [1_000] * 3
        page = json.load(ask(url, f"metrics/get-history?run_id={run}&metric_key=m&max_results=1000"))
        rest = ask(url, f"metrics/get-history?run_id={run}&metric_key=m&page_token={page['next_page_token']}")
        assert [m["step"] for m in json.load(rest)["metrics"]] == list(range(1_000, 3_000))


def test_answers_are_encoded_beside_the_event_loop_and_in_pieces(
    opened: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, seen = run_with_points(opened), list[tuple[str, int]]()

    def encode(value: Any) -> bytes:
        seen.append((threading.current_thread().name, len(value)))
        return msgspec.json.encode(value)

    monkeypatch.setattr(app, "_encode", encode)
    with serve(opened) as url:
        found = json.load(ask(url, f"metrics/get-history?run_id={run}&metric_key=m&max_results=3000"))
    assert [m["step"] for m in found["metrics"]] == [step for _, _, step in POINTS]
    assert {name.startswith("mlflow") for name, _ in seen} == {True}
    assert max(size for _, size in seen) <= 200


@pytest.mark.parametrize(
    "answer",
    [
        None,
        {},
        {"a": []},
        {"a": 1, "b": list(range(500)), "c": [], "d": "x", "e": {"f": list(range(300))}},
        {"b": list(range(200))},
        {"b": list(range(201)), "next_page_token": 't"'},
        {"b": [[]] * 401},
    ],
)
def test_pieces_together_are_the_same(answer: Any) -> None:
    assert app.encoded(answer) == msgspec.json.encode(answer or {})
