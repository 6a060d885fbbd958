"""Before the first deployment: one process, which answers on the inference port and makes way without a failed request."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from looped_shop import ENDPOINT, ME, copied, deployed, routed, version
from running import WAIT, ask_endpoint, gone, noria, up

from noria.http.access import Access
from noria.server import launch
from noria.server.launch import SupervisorFailed
from noria.server.listening import PortTaken, listen, url_of
from noria.server.standin import StandIn, _Port
from noria.serving import link
from noria.serving.records import Arm, DeploymentState
from noria.workspace import Workspace, connect
from waiting import until

PREDICT = f"/endpoints/{ENDPOINT}/predict"
ROW = {"row": {"id": "u0", "at": "2013-01-25T01:00:00Z", "shop": "a", "n": 3, "price": 12.5}}


def ask(url: str, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    """Over a connection of its own."""
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=WAIT)
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


class Probes:
    """What a load balancer and an early caller see, all the time."""

    def __init__(self, url: str) -> None:
        self.health: list[int] = []
        self.predicted: list[int] = []
        self.failures: list[str] = []
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(url, "GET", "/health", None, self.health)),
            threading.Thread(target=self._ask, args=(url, "POST", PREDICT, ROW, self.predicted)),
        ]

    def _ask(self, url: str, method: str, path: str, body: Any, statuses: list[int]) -> None:
        while not self._ended.wait(0.002):
            try:
                statuses.append(ask(url, method, path, body)[0])
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(f"{path}: {error!r}")

    def __enter__(self) -> Probes:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()


def maps(pid: int) -> str:
    return Path(f"/proc/{pid}/maps").read_text()


def test_the_first_deployment_brings_the_workers_up_and_no_request_fails(template: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    with copied(template, folder) as ws, up(folder) as server:
        assert [p.pid for p in server.family(ws)] == [server.process.pid]
        url = server.told["endpoints"]
        status, found = server.ask("GET", "/v1/serving")
        assert (status, found["url"], found["workers"], found["serving"]) == (200, url, 0, 0)
        assert ask(url, "GET", "/health") == (200, {"status": "ok", "endpoints": []})
        with Probes(url) as probes:
            until(lambda: len(probes.predicted) > 20, "probes")
            done = noria(folder, "deploy", "tree/1", "--endpoint", ENDPOINT, "--json")
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout)["answers"] is True
            assert ask(url, "POST", PREDICT, ROW)[1]["model"] == "tree/1"  # the first one is answered
            answered = len(probes.predicted)
            until(lambda: len(probes.predicted) > answered + 20, "probes")
        assert probes.failures == []
        assert set(probes.health) == {200}
        first = probes.predicted.index(200)
        assert set(probes.predicted[:first]) == {404}
        assert set(probes.predicted[first:]) == {200}  # once it is there it stays
        assert server.ask("GET", "/v1/serving")[1]["serving"] == 1
        # What answers predictions outlives the server, and the next one finds it.
        server.process.send_signal(signal.SIGKILL)
        server.process.wait(WAIT)
        assert ask_endpoint(server)["model"] == "tree/1"
        with up(folder) as again:
            assert again.told["endpoints"] == url
            family = again.family(ws)
            assert len(family) == 3  # the server, the supervisor, a worker
            assert again.end() == 0
            assert gone(family) == []
        # With a deployment it starts them at once, and is ready when they answer.
        with up(folder) as later:
            assert ask_endpoint(later)["model"] == "tree/1"
            assert later.end() == 0


def test_a_server_that_is_only_logged_to_imports_neither_polars_nor_numpy(template: Path, tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    folder.mkdir()
    with up(folder, "--init") as server:
        status, run = server.ask("POST", "/api/2.0/mlflow/runs/create", {"experiment_id": "0"})
        assert status == 200
        point = {"run_id": run["run"]["info"]["run_id"], "key": "loss", "value": 0.5, "timestamp": 1, "step": 0}
        assert server.ask("POST", "/api/2.0/mlflow/runs/log-metric", point)[0] == 200
        assert server.ask("GET", "/v1/runs")[0] == 200
        assert server.ask("GET", "/v1/health")[0] == 200
        assert server.ask("GET", "/")[0] == 404
        loaded = maps(server.process.pid)
        assert "polars" not in loaded
        assert "pyarrow" not in loaded
        assert psutil.Process(server.process.pid).children() == []
        assert server.ask("GET", "/v1/data") == (200, {"items": []})
        assert "polars" in maps(server.process.pid)  # so the lines above look at the right place
        assert server.end() == 0
    with up(folder, "--init") as server:  # what is there stays
        assert len(server.ask("GET", "/v1/runs")[1]["items"]) == 1


def test_two_who_accept_on_one_socket_take_turns_and_no_request_fails() -> None:
    listening = listen("127.0.0.1", 0)

    async def turns() -> None:
        one, other = _Port(listening, Access()), _Port(listening, Access())
        await one.open()
        with ExitStack() as ended:
            probes = ended.enter_context(Probes(url_of(listening)))
            for _ in range(10):
                await other.open()
                await one.close()
                one, other = other, one
            await asyncio.to_thread(until, lambda: len(probes.health) > 50, "probes")
            await asyncio.to_thread(ended.close)  # they wait for answers of this loop
        await one.close()
        assert probes.failures == []
        assert (set(probes.health), set(probes.predicted)) == ({200}, {404})

    asyncio.run(turns())
    listening.close()


# ---- the stand-in in this process


@pytest.fixture
def standing(template: Path, tmp_path: Path) -> Iterator[tuple[Workspace, StandIn]]:
    with copied(template, tmp_path / "shop") as ws:
        made = StandIn(ws, access, host="127.0.0.1", port=0, workers=1)
        assert made.start()
        yield ws, made
        made.end(relieved=False)
        launch.stop(ws)


def access(listener: str) -> Access:
    return Access(token="secret", listener=listener)


def call(ws: Workspace, op: str) -> dict[str, Any]:
    info = ws.jobs.lease_info(link.LEASE)
    assert info is not None
    return link.call(info["socket"], op, WAIT)


def test_it_is_found_like_a_supervisor_and_answers_like_one_without_endpoints(
    standing: tuple[Workspace, StandIn],
) -> None:
    ws, standin = standing
    found = launch.ensure(ws, host="127.0.0.1", port=0, workers=2)
    assert (found["url"], found["pid"], found["pids"], found["routed"]) == (standin.url, os.getpid(), [], {})
    assert call(ws, "flush") == {"counts": {}}
    assert call(ws, "sync")["workers"] == 0  # nothing to load: nobody is started
    assert call(ws, "destroy")["error"]["code"] == "invalid"
    with pytest.raises(PortTaken):
        StandIn(ws, access, host="127.0.0.1", port=urlsplit(standin.url).port or 0, workers=1)
    other = StandIn(ws, access, host="127.0.0.1", port=0, workers=1)
    with connect(ws.url, project=ws.project.name) as second:
        rival = StandIn(second, access, host="127.0.0.1", port=0, workers=1)
        rival._path = rival._path.with_name("rival.sock")  # as in another process
        assert not rival.start()
    with pytest.raises(OSError, match="refused"):
        ask(rival.url, "GET", "/health")
    other._listening.close()
    assert ask(standin.url, "GET", "/health")[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "code"),
    [
        ("POST", PREDICT, {}, 404, "endpoint_not_found"),
        ("GET", f"/endpoints/{ENDPOINT}", {}, 404, "endpoint_not_found"),
        ("GET", PREDICT, {}, 405, "method_not_allowed"),
        ("POST", "/health", {}, 405, "method_not_allowed"),
        ("GET", "/v2/nothing", {}, 404, "not_found"),
        ("GET", "/health", {"Host": "evil.example"}, 403, "host_foreign"),
    ],
)
def test_whoever_asks_before_there_is_something_to_serve_gets_the_usual_errors(
    standing: tuple[Workspace, StandIn], method: str, path: str, headers: dict[str, str], status: int, code: str
) -> None:
    found, answer = ask(standing[1].url, method, path, **headers)
    assert (found, answer["error"]["code"]) == (status, code)


def test_a_deployment_that_nobody_asked_to_load_is_found(standing: tuple[Workspace, StandIn]) -> None:
    """As of ``POST /v1/endpoints/NAME/deployments``, or of another machine."""
    ws, standin = standing
    early = http.client.HTTPConnection("127.0.0.1", urlsplit(standin.url).port, timeout=WAIT)
    early.connect()  # and says nothing until the workers are there
    made = ws.serving.deploy(ws.serving.get(ENDPOINT), version(ws, 1), actor=ME)
    until(lambda: ws.serving.deployment(made.id).state == DeploymentState.READY, "it is loaded")
    routed(ws, Arm(deployment=made.id, role="champion", weight=1.0))
    found = call(ws, "sync")
    assert (found["url"], found["serving"], found["routed"]) == (standin.url, 1, {ENDPOINT: 1})
    assert found["pid"] != os.getpid()
    assert ask(standin.url, "POST", PREDICT, ROW)[1]["model"] == "tree/1"
    # Whoever knows the stand-in's socket only is passed on; a connection without a request was closed.
    passed = link.call(str(standin._path), "status", WAIT)
    assert passed["pid"] == found["pid"]
    assert early.sock.recv(1) == b""
    early.close()
    assert launch.stop(ws)
    assert link.call(str(standin._path), "sync", WAIT)["error"]["code"] == "supervisor_gone"


def test_a_supervisor_that_does_not_come_up_leaves_everything_as_it_was(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with copied(template, tmp_path / "shop") as ws:
        standin = StandIn(ws, access, host="127.0.0.1", port=0, workers=1)
        monkeypatch.setattr("noria.server.standin._POLL", 3600.0)
        assert standin.start()
        try:
            whole = ws.environment
            ws.environment = {**whole, "PYTHONHOME": "/nowhere"}  # no Python starts with it
            deployed(ws, 1)
            answer = call(ws, "sync")
            assert answer["error"]["code"] == SupervisorFailed.code
            assert call(ws, "status")["pid"] == os.getpid()
            assert ask(standin.url, "GET", "/health")[0] == 200
            ws.environment = whole
            assert call(ws, "sync")["serving"] == 1
        finally:
            standin.end(relieved=False)
            assert launch.stop(ws)


def test_stopped_in_order_it_gives_up_the_port(standing: tuple[Workspace, StandIn]) -> None:
    ws, standin = standing
    assert launch.stop(ws)
    assert ws.jobs.lease_info(link.LEASE) is None
    with pytest.raises(OSError, match="refused"):
        ask(standin.url, "GET", "/health")
    deployed(ws, 1)  # who stopped it wants nothing to serve
    assert link.call(str(standin._path), "sync", WAIT)["error"]["code"] == "supervisor_gone"
    assert not launch.stop(ws)


def test_for_another_server_a_supervisor_goes_on_with_the_port(template: Path, tmp_path: Path) -> None:
    with copied(template, tmp_path / "shop") as ws:
        standin = StandIn(ws, access, host="127.0.0.1", port=0, workers=1)
        assert standin.start()
        standin.end(relieved=True)
        found = launch.find(ws)
        assert found is not None
        try:
            assert (found["url"], found["serving"]) == (standin.url, 1)
            assert ask(standin.url, "GET", "/health")[0] == 200
        finally:
            assert launch.stop(ws)
