"""The endpoints as they are called: a real supervisor, two worker processes, HTTP over loopback."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from trained_shop import (  # pyright: ignore[reportMissingImports] - conftest.py says where it is
    ME,
    POLICY,
    PROJECT,
    T0,
    arm,
    route,
    trained,
    version,
    world,
)

import waiting
from noria.base.errors import Conflict
from noria.server import launch
from noria.server.listening import PortTaken, listen
from noria.serving import link, segments
from noria.serving.records import Deployment, DeploymentState
from noria.serving.segments import Captured
from noria.workspace import Workspace, connect

WAIT = 60
ORDERS = world()["orders"].tail(40)

TRAPS = """

if os.path.basename(sys.argv[0]) == "endpoint.py" and os.path.exists("TRAP"):
    os.kill(os.getpid(), 9)
"""


until = partial(waiting.until, seconds=WAIT)


class Caller:
    """One keep-alive connection."""

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        assert place.hostname is not None
        self.connection = http.client.HTTPConnection(place.hostname, place.port, timeout=WAIT)

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        self.connection.request(method, path, data, {k.replace("_", "-"): v for k, v in headers.items()})
        answer = self.connection.getresponse()
        return answer.status, json.loads(answer.read())

    def predict(self, name: str, **body: Any) -> dict[str, Any]:
        status, answer = self.ask("POST", f"/endpoints/{name}/predict", body)
        assert status == 200, answer
        return answer


def order(number: int = 0, **changed: Any) -> dict[str, Any]:
    row = ORDERS.row(number % len(ORDERS), named=True)
    return row | {"at": row["at"].isoformat()} | changed


def ids(count: int) -> list[str]:
    return [uuid.uuid4().hex for _ in range(count)]


class Endpoints:
    """The running endpoints of a workspace."""

    def __init__(self, ws: Workspace, url: str) -> None:
        self.ws = ws
        self.url = url

    def call(self, op: str) -> dict[str, Any]:
        info = self.ws.jobs.lease_info(link.LEASE)
        assert info is not None
        answer = link.call(info["socket"], op, WAIT)
        assert "error" not in answer, answer
        return answer

    def deploy(self, name: str, number: int) -> Deployment:
        """A deployment that every worker holds."""
        endpoint = self.ws.serving.ensure(name, "tree", POLICY, actor=ME)
        made = self.ws.serving.deploy(endpoint, version(self.ws, number), actor=ME)
        self.call("sync")
        found = self.ws.serving.deployment(made.id)
        assert found.state == DeploymentState.READY, found.error
        return found

    def route(self, name: str, *arms: Any, **more: Any) -> int:
        """The number of a routing that every worker has."""
        made = route(self.ws, name, *arms, **more)
        assert self.call("sync")["routed"][name] == made.number
        return made.number

    def serve(self, name: str, number: int = 1) -> Deployment:
        made = self.deploy(name, number)
        self.route(name, arm(made, 1.0))
        return made

    def captured(self, name: str) -> list[Captured]:
        self.call("flush")
        folder = self.ws.serving.capture_folder
        found = [record for path in folder.glob("*.seg") for record, _ in segments.read(path)]
        return [record for record in found if record.endpoint == name]

    def caller(self) -> Caller:
        return Caller(self.url)


def stopped(ws: Workspace) -> None:
    """Ends the supervisor of a workspace, whatever state it is in."""
    info = ws.jobs.lease_info(link.LEASE)
    with contextlib.suppress(Exception):
        launch.stop(ws)
    if info is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(info["pid"], signal.SIGKILL)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A workspace with four versions of a model; the code of the last kills a worker that loads it, while TRAP is there."""
    root = tmp_path_factory.mktemp("endpoints")
    with trained(root, 3, last=PROJECT + TRAPS.replace("TRAP", str(root / "trap"))) as ws:
        yield ws
        stopped(ws)


@pytest.fixture
def endpoints(shop: Workspace) -> Endpoints:
    """The endpoints, started where they do not run; two workers that serve."""
    url = launch.ensure(shop, host="127.0.0.1", port=0, workers=2)["url"]
    made = Endpoints(shop, url)
    until(lambda: made.call("sync")["serving"] == 2, "two workers serve")
    return made


@pytest.fixture(scope="module")
def returns(shop: Workspace) -> str:
    """The name of an endpoint that tests share where they only ask it."""
    url = launch.ensure(shop, host="127.0.0.1", port=0, workers=2)["url"]
    Endpoints(shop, url).serve("returns")
    return "returns"


# ---- what is asked and answered


def test_one_row_and_several(endpoints: Endpoints, returns: str) -> None:
    with endpoints.caller() as caller:
        one = caller.predict(returns, row=order(0), id="mine-1")
        assert one == {"id": "mine-1", "score": one["score"], "model": "tree/1", "revision": 1}
        made = caller.predict(returns, row=order(0))
        assert (len(made["id"]), made["score"]) == (32, one["score"])
        for count in (2, 30):  # scored in the event loop, and in a thread
            many = caller.predict(returns, rows=[order(n) for n in range(count)])
            assert len({p["id"] for p in many["predictions"]}) == count
            assert many["predictions"][0]["score"] == one["score"]
        given = caller.predict(returns, rows=[order(1), order(0)], ids=["b", "a"])["predictions"]
        assert [(p["id"], p["score"] == one["score"]) for p in given] == [("b", False), ("a", True)]
        assert caller.ask("GET", "/health") == (200, {"status": "ok", "endpoints": sorted_names(endpoints)})
        status, about = caller.ask("GET", f"/endpoints/{returns}")
        assert (status, about["contract"]["key"], about["arms"][0]["weight"]) == (200, ["id"], 1.0)
        assert about["contract"]["features"]["big"] == "bool"
        assert about in caller.ask("GET", "/endpoints")[1]["endpoints"]


def sorted_names(endpoints: Endpoints) -> list[str]:
    return sorted(endpoints.ws.serving.plan().routings)


def test_the_scores_are_those_of_bulk(endpoints: Endpoints, returns: str) -> None:
    ws = endpoints.ws
    model = ws.training.version_of(version(ws, 1))
    bulk = ws.training.score(model, ws.pipelines.current("basket"))
    wanted = dict(zip(bulk["id"], bulk["score"], strict=True))
    rows = [order(n) for n in range(len(ORDERS))]
    with endpoints.caller() as caller:
        found = caller.predict(returns, rows=rows)["predictions"]
        assert [p["score"] for p in found] == pytest.approx([wanted[r["id"]] for r in rows], rel=1e-12)
        alone = [caller.predict(returns, row=row)["score"] for row in rows[:5]]
        assert alone == [p["score"] for p in found[:5]]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "hint"),
    [
        ("POST", "/endpoints/retruns/predict", {"row": order()}, 404, "endpoint_not_found", "returns"),
        ("GET", "/endpoints/retruns", None, 404, "endpoint_not_found", "returns"),
        ("POST", "/endpoints/%ff/predict", b"{}", 404, "endpoint_not_found", "returns"),
        ("GET", "/", None, 404, "not_found", "POST /endpoints"),
        ("POST", "/invocations", b"{}", 404, "not_found", "POST /endpoints"),
        ("POST", "/endpoints/returns/predict", {"row": order(big=True)}, 400, "request_invalid", "big is a feature"),
        ("POST", "/endpoints/returns/predict", {"row": {"id": "x"}}, 400, "request_invalid", "Columns"),
        ("POST", "/endpoints/returns/predict", {"row": order(nn=3)}, 400, "request_invalid", "n"),
        ("POST", "/endpoints/returns/predict", {"row": order(n=2**70)}, 400, "request_invalid", "Columns"),
        ("POST", "/endpoints/returns/predict", b'{"row": ', 400, "request_invalid", '"row"'),
        ("POST", "/endpoints/returns/predict", b"", 400, "request_invalid", '"row"'),
        ("GET", "/endpoints/returns/predict", None, 405, "method_not_allowed", "POST /endpoints/returns/predict"),
        ("PUT", "/endpoints/returns/predict", b"{}", 405, "method_not_allowed", "POST"),
        ("DELETE", "/endpoints/returns", None, 405, "method_not_allowed", "GET"),
        ("POST", "/health", b"{}", 405, "method_not_allowed", "GET /health"),
        ("POST", "/endpoints/returns/predict", b" " * ((16 << 20) + 1), 413, "request_too_large", "several"),
    ],
)
def test_what_cannot_be_answered_says_why(
    endpoints: Endpoints, returns: str, method: str, path: str, body: Any, status: int, code: str, hint: str
) -> None:
    with endpoints.caller() as caller:
        found, answer = caller.ask(method, path, body)
        assert (found, answer["error"]["code"]) == (status, code)
        assert hint in answer["error"]["hint"]
        assert caller.predict(returns, row=order())["model"] == "tree/1"  # the connection lives


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Host": "localhost:1"}, 200, ""),
        ({"Host": "[::1]:5001"}, 200, ""),
        ({"Host": "evil.example"}, 403, "host_foreign"),
        ({"Host": "127.0.0.1.evil.example"}, 403, "host_foreign"),
        ({"Host": "localhost@evil.example"}, 403, "host_foreign"),
        ({"Host": ""}, 403, "host_foreign"),
        ({"Origin": "http://evil.example"}, 401, "token_needed"),
        ({"Origin": "null"}, 401, "token_needed"),
        ({"Origin": "http://127.0.0.1:5000"}, 401, "token_needed"),
        ({"Sec_Fetch_Site": "cross-site"}, 401, "token_needed"),
        ({"Sec_Fetch_Site": "same-site"}, 401, "token_needed"),
        ({"Sec_Fetch_Site": "none"}, 200, ""),
        ({"Authorization": "Bearer guessed"}, 401, "token_needed"),
    ],
)
def test_who_may_ask(endpoints: Endpoints, returns: str, headers: dict[str, str], status: int, code: str) -> None:
    body = {"row": order()}
    with endpoints.caller() as caller:
        found, answer = caller.ask("POST", f"/endpoints/{returns}/predict", body, **headers)
        assert (found, answer.get("error", {}).get("code", "")) == (status, code)
        assert caller.ask("GET", "/health", **headers)[0] == status


def test_every_answer_was_captured_with_what_it_was_made_of(endpoints: Endpoints) -> None:
    endpoints.serve("captured")
    given = ids(3)
    with endpoints.caller() as caller:
        answers = caller.predict("captured", rows=[order(n) for n in range(3)], ids=given)["predictions"]
        assert caller.ask("POST", "/endpoints/captured/predict", {"row": {}})[0] == 400
    good, bad = sorted(endpoints.captured("captured"), key=lambda r: r.error)
    assert [(r.id, r.score) for r in good.rows] == [(p["id"], p["score"]) for p in answers]
    assert (good.revision, good.model, good.role, good.answered) == (1, "tree/1", "champion", True)
    assert len(good.commits) == 1  # visits
    row = good.rows[0]
    assert (row.entity, json.loads(row.request)["id"]) == (json.dumps([order()["id"]]), order()["id"])
    assert set(json.loads(row.features)) == {"shop", "n", "price", "visits", "spent", "big"}
    assert row.at is not None
    assert row.at > T0.timestamp() * 1e6
    assert (bad.error, bad.count, bad.answered) == ("request_invalid", 1, False)
    ws = endpoints.ws
    assert ws.ingest.take(actor=ME)["captured"] == 4
    rows = ws.data.read(ws.data.get(ws.project.id, "captured.predictions"))
    assert set(given) < set(rows["id"])


# ---- routing


class Crowd:
    """Callers that send one request after another, each over a connection of its own."""

    def __init__(self, endpoints: Endpoints, name: str, count: int) -> None:
        self.answers: list[dict[str, Any]] = []
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._endpoints = endpoints
        self._name = name
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._call, args=(number,)) for number in range(count)]

    def _call(self, number: int) -> None:
        caller = self._endpoints.caller()
        while not self._stop.is_set():
            try:
                answer = caller.predict(self._name, row=order(number))
            except (OSError, http.client.HTTPException, AssertionError, ValueError) as error:
                with self._lock:
                    self.failures.append(repr(error))
                caller.connection.close()
                caller = self._endpoints.caller()
            else:
                with self._lock:
                    self.answers.append(answer)
        caller.connection.close()

    def more(self, count: int) -> None:
        """Waits until so many further requests were answered."""
        wanted = len(self.answers) + count
        until(lambda: len(self.answers) >= wanted, f"{count} answers")

    def __enter__(self) -> Crowd:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_another_version_takes_over_without_a_failed_request(endpoints: Endpoints) -> None:
    one = endpoints.serve("swapped", 1)
    with Crowd(endpoints, "swapped", 32) as crowd:
        crowd.more(64)
        two = endpoints.deploy("swapped", 2)
        assert {a["model"] for a in crowd.answers} == {"tree/1"}
        endpoints.route("swapped", arm(one, 0.5), arm(two, 0.5, "canary"))
        crowd.more(64)
        endpoints.route("swapped", arm(two, 1.0))
        crowd.more(128)  # each worker hears of it in its own time
        mark = len(crowd.answers) + 32  # requests that were under way
        with endpoints.ws.changes.begin("serving.retire", endpoints.ws.project.id, ME) as change:
            endpoints.ws.serving.retire(change, endpoints.ws.serving.get("swapped"), {two.id})
        endpoints.call("sync")
        crowd.more(64)
    assert crowd.failures == []
    assert {a["model"] for a in crowd.answers[mark:]} == {"tree/2"}
    assert {a["revision"] for a in crowd.answers} == {1, 2, 3}
    found = [row.id for record in endpoints.captured("swapped") for row in record.rows]
    assert sorted(found) == sorted(a["id"] for a in crowd.answers)


def test_a_canary_gets_its_share_and_callers_stay_where_they_are(endpoints: Endpoints) -> None:
    one = endpoints.serve("shared", 1)
    two = endpoints.deploy("shared", 2)
    given = [f"caller-{n}" for n in range(2000)]
    rows = [order(n) for n in range(len(given))]
    seen: list[set[str]] = []
    with endpoints.caller() as caller:
        for weight in (0.1, 0.3):
            endpoints.route("shared", arm(one, 1 - weight), arm(two, weight, "canary"))
            answers = caller.predict("shared", rows=rows, ids=given)["predictions"]
            assert [p["id"] for p in answers] == given
            assert Counter(p["model"] for p in answers)["tree/2"] / len(given) == pytest.approx(weight, abs=0.05)
            seen.append({p["id"] for p in answers if p["model"] == "tree/2"})
            alone = [caller.predict("shared", row=order(n), id=given[n]) for n in range(50)]
            assert [a["model"] for a in alone] == [p["model"] for p in answers[:50]]
            assert [a["score"] for a in alone] == [p["score"] for p in answers[:50]]
    assert seen[0] < seen[1]


@pytest.mark.parametrize("paired", [False, True])
def test_the_shadow_scores_the_same_ids_and_answers_none(endpoints: Endpoints, paired: bool) -> None:
    name = f"shadowed-{paired}".lower()
    one = endpoints.serve(name, 1)
    two = endpoints.deploy(name, 2)
    role, weight = ("canary", 0.4) if paired else ("shadow", 0.0)
    endpoints.route(name, arm(one, 1 - weight), arm(two, weight, role), paired=paired)
    given = ids(60)
    with endpoints.caller() as caller:
        answers = caller.predict(name, rows=[order(n) for n in range(50)], ids=given[:50])["predictions"]
        answers += [caller.predict(name, row=order(n), id=given[n]) for n in range(50, 60)]
    records = [r for r in endpoints.captured(name) if r.revision == 2]
    by_model = {
        model: {row.id: row.score for r in records if r.model == model for row in r.rows}
        for model in ("tree/1", "tree/2")
    }
    assert set(by_model["tree/1"]) == set(by_model["tree/2"]) == set(given)
    assert by_model["tree/1"] != by_model["tree/2"]
    answered = {row.id: (row.score, r.model) for r in records if r.answered for row in r.rows}
    assert answered == {p["id"]: (p["score"], p["model"]) for p in answers}
    assert {m for _, m in answered.values()} == ({"tree/1", "tree/2"} if paired else {"tree/1"})


# ---- processes


def test_a_killed_worker_loses_nothing_that_was_answered(endpoints: Endpoints) -> None:
    endpoints.serve("killed")
    before = endpoints.call("status")
    with Crowd(endpoints, "killed", 8) as crowd:
        crowd.more(50)
        os.kill(before["pids"][0], signal.SIGKILL)
        crowd.more(50)
        after = until(lambda: replaced(endpoints, before), "the worker is replaced")
        crowd.more(100)
    assert before["pids"][0] not in after["pids"]
    assert before["pids"][1] in after["pids"]
    assert len(crowd.failures) <= 8 * 2  # what the dead worker had taken, not more
    found = Counter(row.id for record in endpoints.captured("killed") for row in record.rows)
    answered = {a["id"] for a in crowd.answers}
    assert answered <= set(found)
    assert set(found.values()) == {1}
    with endpoints.caller() as caller:
        assert caller.predict("killed", row=order())["model"] == "tree/1"


def replaced(endpoints: Endpoints, before: dict[str, Any]) -> dict[str, Any] | None:
    now = endpoints.call("status")
    return now if now["deaths"] > before["deaths"] and now["serving"] == 2 else None


def test_workers_that_die_all_at_once_are_replaced_once_each(endpoints: Endpoints, returns: str) -> None:
    before = endpoints.call("status")
    for pid in before["pids"]:
        os.kill(pid, signal.SIGKILL)
    threads = [threading.Thread(target=endpoints.call, args=("sync",)) for _ in range(4)]  # beside the poller
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    after = until(lambda: replaced(endpoints, before), "the workers are replaced")
    assert after["deaths"] == before["deaths"] + 2
    assert len(set(after["pids"])) == 2
    assert not set(after["pids"]) & set(before["pids"])
    with endpoints.caller() as caller:
        assert caller.predict(returns, row=order())["model"] == "tree/1"


def test_what_runs_is_found_and_another_address_is_a_conflict(endpoints: Endpoints) -> None:
    ws = endpoints.ws
    found = launch.ensure(ws, host="127.0.0.1", port=0, workers=5)
    assert (found["url"], found["workers"]) == (endpoints.url, 2)
    with pytest.raises(Conflict, match="not on http") as caught:
        launch.ensure(ws, host="127.0.0.1", port=1, workers=2)
    assert "noria endpoints stop" in caught.value.hint


@pytest.mark.parametrize("line", [b"{}", b"no json", b'{"op": "destroy"}', b"[]", b"\xff"])
def test_what_the_control_socket_does_not_understand_is_answered(endpoints: Endpoints, line: bytes) -> None:
    info = endpoints.ws.jobs.lease_info(link.LEASE)
    assert info is not None
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(WAIT)
        asking.connect(info["socket"])
        asking.sendall(line + b"\n")
        with asking.makefile("rb") as answer:
            assert "error" in msgspec.json.decode(answer.readline())
    assert endpoints.call("status")["serving"] == 2


def test_stopping_drains_and_leaves_nothing_and_a_taken_port_is_named(endpoints: Endpoints, returns: str) -> None:
    ws = endpoints.ws
    before = launch.find(ws)
    assert before is not None
    with Crowd(endpoints, returns, 4) as crowd:
        crowd.more(20)
        assert launch.stop(ws)
        assert crowd.answers
    assert not Path(before["socket"]).exists()
    for pid in before["pids"]:
        assert not alive(pid)
    until(lambda: not alive(before["pid"]), "the supervisor is gone")
    assert ws.jobs.lease_info(link.LEASE) is None
    assert launch.find(ws) is None
    assert not launch.stop(ws)
    found = {row.id for record in captured_by(ws, returns) for row in record.rows}
    assert {a["id"] for a in crowd.answers} <= found
    port = urlsplit(endpoints.url).port
    assert port is not None
    with socket.create_server(("127.0.0.1", port)):
        with pytest.raises(PortTaken, match=str(port)) as caught:
            listen("127.0.0.1", port)
        assert "--port" in caught.value.hint
        with pytest.raises(PortTaken, match=str(port)) as caught:
            launch.ensure(ws, host="127.0.0.1", port=port, workers=1)
        assert "--port" in caught.value.hint
    assert launch.find(ws) is None
    again = launch.ensure(ws, host="127.0.0.1", port=port, workers=2)  # at once, at the same address
    assert again["url"] == endpoints.url
    with Caller(again["url"]) as caller:
        assert caller.predict(returns, row=order())["model"] == "tree/1"


def captured_by(ws: Workspace, name: str) -> list[Captured]:
    found = [record for path in ws.serving.capture_folder.glob("*.seg") for record, _ in segments.read(path)]
    return [record for record in found if record.endpoint == name]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_workers_end_with_their_supervisor_and_the_next_one_takes_over(endpoints: Endpoints, returns: str) -> None:
    before = launch.find(endpoints.ws)
    assert before is not None
    os.kill(before["pid"], signal.SIGKILL)
    until(lambda: not any(alive(pid) for pid in [before["pid"], *before["pids"]]), "all are gone")
    again = launch.ensure(endpoints.ws, host="127.0.0.1", port=0, workers=2)
    assert again["pid"] != before["pid"]
    assert not Path(before["socket"]).exists()
    assert Path(again["socket"]).is_socket()
    with Caller(again["url"]) as caller:
        assert caller.predict(returns, row=order())["model"] == "tree/1"


# ---- models that cannot be served


def test_a_model_that_kills_its_worker_fails_and_the_others_answer(endpoints: Endpoints) -> None:
    ws = endpoints.ws
    endpoints.serve("safe", 1)
    home = ws.serving.get("safe")
    trap = ws.home.parent / "trap"
    trap.touch()
    try:
        bad = ws.serving.deploy(home, version(ws, 4), actor=ME)
        with Crowd(endpoints, "safe", 4) as crowd:
            until(lambda: ws.serving.deployment(bad.id).state != DeploymentState.STARTING, "a verdict")
            crowd.more(20)
    finally:
        trap.unlink()
    found = ws.serving.deployment(bad.id)
    assert found.state == DeploymentState.FAILED
    assert "ended while it loaded" in found.error
    assert {a["model"] for a in crowd.answers} == {"tree/1"}
    until(lambda: endpoints.call("status")["serving"] == 2, "both workers serve")
    again = ws.serving.deploy(home, version(ws, 4), actor=ME)
    assert again.id == bad.id
    until(lambda: ws.serving.deployment(bad.id).state == DeploymentState.READY, "it is loaded")


def test_a_package_that_was_damaged_on_disk_holds_up_only_its_own_endpoint(endpoints: Endpoints, returns: str) -> None:
    ws = endpoints.ws
    package, _ = ws.serving.folders(endpoints.serve("bad", 3))
    assert launch.stop(ws)
    (path,) = package.glob("model.*")
    whole = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(whole[:-1])
    again = Endpoints(ws, launch.ensure(ws, host="127.0.0.1", port=0, workers=2)["url"])
    with again.caller() as caller:
        assert caller.predict(returns, row=order())["model"] == "tree/1"
        status, answer = caller.ask("POST", "/endpoints/bad/predict", {"row": order()})
        assert (status, answer["error"]["code"]) == (503, "endpoint_not_ready")
        path.write_bytes(whole)
        again.call("sync")
        assert caller.predict("bad", row=order())["model"] == "tree/3"


# ---- crash points


@pytest.mark.parametrize("point", ["capture.write:4", "capture.written:4"])
def test_a_worker_killed_around_a_capture_loses_nothing_that_was_answered(tmp_path: Path, point: str) -> None:
    """A worker dies before the write, or between write and answer; another takes its place."""
    root = tmp_path / f"killed_{point.partition(':')[0].replace('.', '_')}"
    root.mkdir()
    with trained(root, 1):
        pass
    with connect(root) as plain, connect(root, environment={**os.environ, "NORIA_FAULT": point}) as ws:
        try:
            url = launch.ensure(ws, host="127.0.0.1", port=0, workers=1)["url"]
            endpoints = Endpoints(plain, url)
            endpoints.serve("kept")
            answered: dict[str, float] = {}
            lost = 0
            for number, name in enumerate(ids(6)):
                for _ in range(200):  # a caller that tries again with the same id
                    try:
                        with endpoints.caller() as caller:
                            answered[name] = caller.predict("kept", row=order(number), id=name)["score"]
                        break
                    except (OSError, http.client.HTTPException):
                        lost += 1
                        time.sleep(0.05)
            assert len(answered) == 6
            assert lost > 0  # the worker did die with a request in hand
            until(lambda: endpoints.call("status")["deaths"] > 0, "a worker died")
            captured = Counter(row.id for record in _on_disk(plain) for row in record.rows)
            assert set(captured) == set(answered)
            if point.startswith("capture.written"):
                assert max(captured.values()) > 1  # what was written and not answered came again
        finally:
            stopped(plain)
        plain.ingest.take(actor=ME)
        kept = plain.data.read(plain.data.get(plain.project.id, "kept.predictions"))
        assert sorted(kept["id"].to_list()) == sorted(answered)  # each once
        assert dict(zip(kept["id"], kept["score"], strict=True)) == answered


def _on_disk(ws: Workspace) -> list[Captured]:
    """What lies in the segments, without asking the workers for anything."""
    return [record for path in ws.serving.capture_folder.glob("*.seg") for record, _ in segments.read(path)]
