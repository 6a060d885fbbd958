"""``noria up`` as a user starts it: a real server process, its supervisor and worker, over HTTP."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from looped_shop import ENDPOINT, ME, PROJECT, START_MS, copied, make, world
from running import WAIT, Up, ask_endpoint, gone, noria, up

from noria.base.times import DAY, HOUR, to_datetime, to_text
from noria.server.routes import all_routes, openapi
from noria.serving import link
from noria.workspace import Workspace
from waiting import until

SLOW = """
    import os, pathlib, time
    trap = pathlib.Path(TRAP)
    if trap.exists():
        (trap.parent / f"training-{os.getpid()}").touch()
    while trap.exists():
        time.sleep(0.02)
    return LGBM"""


@pytest.fixture(scope="module")
def daily(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained project that trains again each day, and whose training waits while there is a file ``trap``."""
    root = tmp_path_factory.mktemp("daily") / "daily"
    root.mkdir()
    text = PROJECT.replace("budget=", 'retrain=[nr.when.every("day")], budget=')
    assert text != PROJECT
    text = text.replace("\n    return LGBM", SLOW).replace("TRAP", repr(str(root.parent / "trap")))
    make(root, 2, text)
    return root


# ---- one server for what only asks


@pytest.fixture(scope="module")
def idle(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Up]]:
    folder = tmp_path_factory.mktemp("up") / "idle"
    with copied(template, folder):
        pass
    with up(folder, cwd=folder.parent) as server:  # from elsewhere: --workspace says where
        yield folder, server


def test_it_says_where_it_is_in_one_line_and_is_well(idle: tuple[Path, Up]) -> None:
    folder, server = idle
    assert set(server.told) == {"url", "endpoints"}
    assert server.line.count("\n") == 1
    assert server.place.hostname == "127.0.0.1"
    status, health = server.ask("GET", "/v1/health")
    assert status == 200
    assert (health["status"], health["project"], health["endpoints"]) == ("ok", "shop", server.told["endpoints"])
    assert health["event_time"] == to_text(START_MS)
    endpoints = urlsplit(server.told["endpoints"])
    connection = http.client.HTTPConnection("127.0.0.1", endpoints.port or 0, timeout=WAIT)
    connection.request("GET", "/health")
    assert connection.getresponse().status == 200
    connection.close()
    assert folder.is_dir()


def test_a_server_without_endpoints_is_one_process(template: Path, tmp_path: Path) -> None:
    with copied(template, tmp_path / "alone"):
        pass
    with up(tmp_path / "alone", "--role", "server", cwd=tmp_path) as server:
        assert server.told["endpoints"] is None
        assert server.ask("GET", "/v1/health")[1]["endpoints"] is None
        assert psutil.Process(server.process.pid).children() == []
        connection = http.client.HTTPConnection("127.0.0.1", server.place.port, timeout=WAIT)
        connection.request("GET", "/health")
        assert connection.getresponse().read() == b"OK"
        connection.close()
        status, made = server.ask("POST", "/api/2.0/mlflow/runs/create", {"experiment_id": "0"})
        assert (status, made["run"]["info"]["experiment_id"]) == (200, "0")


def test_the_openapi_document_is_the_one_that_is_kept(
    idle: tuple[Path, Up], golden: Callable[[str, bytes], None], workspace: Workspace
) -> None:
    """After a wanted change of the API: pytest tests/server/test_up.py --rewrite-golden."""
    kept = openapi(all_routes(workspace))
    golden("openapi.json", kept)
    status, served = idle[1].ask("GET", "/openapi.json")
    assert status == 200
    assert served == json.loads(kept)
    assert {"/v1/health", "/v1/clock", "/v1/candidates"} <= set(served["paths"])


def test_what_there_is_not_gets_the_one_form_of_an_error(idle: tuple[Path, Up]) -> None:
    server = idle[1]
    for method, path, status, code in (
        ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/", 404, "not_found"),
        ("DELETE", "/v1/clock", 405, "method_not_allowed"),
        ("GET", "/v1/candidates/77", 404, "candidate_not_found"),
    ):
        found, answer = server.ask(method, path)
        assert (found, answer["error"]["code"]) == (status, code), path
        assert set(answer["error"]) == {"code", "message", "hint", "details"}
    for body in (b"{", b"[]", b'{"to": 3}', b'{"when": "2014"}', b'{"to": "yesterday"}', b"\xff"):
        status, answer = server.ask("POST", "/v1/clock", body)
        assert status == 400, body
        assert answer["error"]["message"]


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Host": "evil.example"}, "host_foreign"),
        ({"Host": "127.0.0.1.evil.example"}, "host_foreign"),
        ({"Origin": "http://evil.example"}, "token_needed"),
        ({"Origin": "http://127.0.0.1"}, "token_needed"),
        ({"Sec_Fetch_Site": "cross-site"}, "token_needed"),
        ({"Authorization": "Bearer guess"}, "token_needed"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/health", "/v1/clock", "/openapi.json"])
def test_who_may_not_is_refused(idle: tuple[Path, Up], headers: dict[str, str], code: str, path: str) -> None:
    status, answer = idle[1].ask("GET", path, **headers)
    assert (status, answer["error"]["code"]) == (401 if code == "token_needed" else 403, code)


def test_another_server_on_the_same_workspace_leaves_the_first_ones_endpoints_alone(idle: tuple[Path, Up]) -> None:
    folder, first = idle
    with copied(folder, folder) as ws:
        before = ws.jobs.lease_info(link.LEASE)
    with _free_port() as port:
        pass
    other = noria(folder, "up", "--port", str(port), "--json")
    assert other.returncode == 5, other.stderr
    assert json.loads(other.stderr)["error"]["message"].startswith("The endpoints of this workspace are served on")
    with up(folder) as second:
        assert second.told["endpoints"] == first.told["endpoints"]
        assert second.ask("GET", "/v1/health")[0] == 200
        status, answer = second.ask("POST", "/v1/clock", {"to": to_text(START_MS + DAY)})
        assert (status, answer["error"]["code"]) == (409, "no_scheduler")
        assert second.end() == 0
    with copied(folder, folder) as ws:
        assert ws.jobs.lease_info(link.LEASE) == before
    assert first.ask("GET", "/v1/health")[0] == 200


# ---- what keeps it from starting


@contextmanager
def _free_port() -> Iterator[int]:
    """A port that is taken as long as this lasts."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


def test_a_port_in_use_is_one_clear_message(template: Path, tmp_path: Path) -> None:
    with copied(template, tmp_path / "shop"):
        pass
    with _free_port() as port:
        plain = noria(tmp_path / "shop", "up", "--port", str(port))
        assert (plain.returncode, plain.stdout) == (6, "")
        assert plain.stderr.splitlines() == [
            f"Error: 127.0.0.1:{port} cannot be listened on: Address already in use.",
            "  Stop the other program, or choose another port: noria up --port 5100",
        ]
        below = noria(tmp_path / "shop", "up", "--port", str(port - 1), "--json")  # the endpoints' port is the next one
        assert (below.returncode, below.stdout) == (6, "")
        assert json.loads(below.stderr)["error"]["code"] == "port_taken"
    with copied(template, tmp_path / "shop") as ws:
        assert ws.jobs.lease_info(link.LEASE) is None  # and nothing was left behind
        assert not ws.jobs.held("scheduler")


def test_beyond_loopback_it_does_not_start_without_a_token(template: Path, tmp_path: Path) -> None:
    with copied(template, tmp_path / "shop"):
        pass
    for host in ("0.0.0.0", "::"):
        refused = noria(tmp_path / "shop", "up", "--port", "0", "--host", host)
        assert refused.returncode == 2, refused.stderr
        assert f"{host} can be reached from other machines" in refused.stderr
        assert "NORIA_TOKEN" in refused.stderr
        assert refused.stdout == ""


def test_beyond_loopback_a_forged_host_opens_neither_port(daily: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    with copied(daily, folder):  # not the template of ``idle``: two supervisors of one id would share a socket's name
        pass
    token = {"Authorization": "Bearer secret"}
    with up(folder, "--host", "0.0.0.0", "--allow-host", "noria.example", NORIA_TOKEN="secret") as server:
        endpoints = urlsplit(server.told["endpoints"])
        for port, path in ((server.place.port, "/v1/clock"), (server.place.port, "/openapi.json"),
                           (endpoints.port, "/endpoints")):  # fmt: skip
            for host in ("localhost", "127.0.0.1", f"localhost:{port}", "[::1]", "0.0.0.0", "noria.example"):
                assert answer_of(port, path, Host=host) == (401, "token_needed"), (path, host)
                assert answer_of(port, path, Host=host, **token)[0] == 200, (path, host)
            assert answer_of(port, path, Host="evil.example", **token) == (403, "host_foreign")
            assert answer_of(port, path, Host="localhost", Authorization="Bearer x") == (401, "token_needed")
        rows = folder / "rows.json"
        rows.write_text("[]")
        denied = noria(folder, "predict", ENDPOINT, str(rows), "--json", NORIA_TOKEN="wrong")
        assert (denied.returncode, json.loads(denied.stderr)["error"]["code"]) == (7, "token_needed")
        assert server.end() == 0


def answer_of(port: int | None, path: str, **headers: str) -> tuple[int, str]:
    """(status, code of the error) of a request over loopback, whatever its Host says."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read()).get("error", {}).get("code", "")
    finally:
        connection.close()


# ---- the loop over HTTP


def tell(ws: Workspace, day: int) -> None:
    """Orders and outcomes of a day of the replay, enough that a training on them is another version."""
    start = to_datetime(START_MS + day * DAY)
    for name, frame in world(start, 1, 60, day, f"u{day}-").items():
        ws.data.append(ws.data.get(ws.project.id, name), frame, actor=ME)


@pytest.mark.slow
def test_a_replay_over_days_trains_and_releases_within_the_call_and_nothing_is_left_at_the_end(
    daily: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "shop"
    with copied(daily, folder) as ws, up(folder) as server:
        applied = noria(folder, "apply", "--json")
        assert applied.returncode == 0, applied.stderr
        assert {"name": "tree", "kind": "model", "state": "same"} in json.loads(applied.stdout)
        released = noria(folder, "release", "tree/1", "--json")
        assert released.returncode == 0, released.stderr
        assert (json.loads(released.stdout)["state"], json.loads(released.stdout)["verdict"]["kind"]) == (
            "promoted", "first"
        )  # fmt: skip
        predicted = ask_endpoint(server)
        assert predicted["model"] == "tree/1"
        status, answer = server.ask("POST", "/v1/clock", {"to": to_text(START_MS)})
        assert (status, answer) == (200, {"watermark": to_text(START_MS), "days": 0})
        status, answer = server.ask("POST", "/v1/captures/take")
        assert (status, answer) == (200, {"rows": {ENDPOINT: 1}})
        fresh = ask_endpoint(server)  # nobody has taken it over, and it can be traced all the same
        traced = noria(folder, "trace", f"{ENDPOINT}/{fresh['id']}", "--json")
        assert traced.returncode == 0, traced.stderr
        assert json.loads(traced.stdout)["backward"]["facts"]["recomputed"] == "equal"
        for day in range(3):
            tell(ws, day)
        to = to_text(START_MS + 2 * DAY + HOUR)
        status, answer = server.ask("POST", "/v1/clock", {"to": to})
        assert (status, answer) == (200, {"watermark": to, "days": 2})
        (first, candidate) = server.ask("GET", "/v1/candidates")[1]["items"]  # trained, judged, loaded: all of it
        assert (first["number"], first["state"]) == (1, "promoted")
        assert (candidate["trigger"], candidate["number"], candidate["opened"]) == (
            "every",
            3,
            to_text(START_MS + 2 * DAY),
        )
        assert candidate["state"] == "releasing"
        assert candidate["rollout"]["phase"] == "shadow"
        assert server.ask("POST", "/v1/clock", {"to": to}) == (200, {"watermark": to, "days": 0})
        assert len(server.ask("GET", "/v1/candidates")[1]["items"]) == 2
        status, answer = server.ask("POST", "/v1/clock", {"to": to_text(START_MS + DAY)})
        assert (status, answer["error"]["code"]) == (400, "clock_backwards")
        assert server.ask("GET", "/v1/clock")[1] == {
            "mode": "replay", "watermark": to, "processed": to_text(START_MS + 2 * DAY)
        }  # fmt: skip
        assert ask_endpoint(server)["model"] == "tree/1"  # the shadow does not answer
        family = server.family(ws)
        assert len(family) >= 3  # the server, the supervisor, a worker
        assert server.end() == 0
        assert gone(family) == []
        assert ws.jobs.lease_info(link.LEASE) is None
        assert not ws.jobs.held("scheduler")
        assert server.process.stderr is not None
        assert server.process.stderr.read() == ""
        assert ws.verify() == []


@pytest.mark.slow
def test_a_training_survives_its_server_however_that_ends(daily: Path, tmp_path: Path) -> None:
    """SIGTERM gives it up, kill -9 takes it away; the next server takes it on each time, and it ends once."""
    folder, trap = tmp_path / "shop", daily.parent / "trap"
    started = lambda: set(daily.parent.glob("training-*"))  # noqa: E731
    trap.touch()
    try:
        with copied(daily, folder) as ws:
            with up(folder) as server:
                status, made = server.ask("POST", "/v1/models/tree/train", {"params": {"leaves": 9}})
                assert (status, made["state"]) == (202, "training")
                until(started, "the training begins")
                family = server.family(ws)
                with ThreadPoolExecutor(1) as pool:
                    waiting = pool.submit(server.ask, "POST", "/v1/clock", {"to": to_text(START_MS + HOUR)})
                    time.sleep(1)  # until it waits
                    assert server.end() == 0  # though the training would have gone on for ever
                    with contextlib.suppress(ConnectionError):  # on a machine so slow that it never came to wait
                        status, answer = waiting.result(WAIT)
                        assert (status, answer["error"]["message"]) == (409, "The server is stopping.")
                assert gone(family) == []
            assert ws.delivery.candidate(made["id"]).state == "training"
            before = started()
            with up(folder) as server:
                until(lambda: started() - before, "the training begins again")
                training = [p for p in server.family(ws) if "noria.worker.train" in p.cmdline()]
                assert len(training) == 1
                server.process.kill()
                server.process.wait(WAIT)
                assert gone(training) == []  # it does not outlive its server
                assert ws.jobs.lease_info(link.LEASE) is None  # nothing was deployed, so nobody answers predictions
                trap.unlink()
                with up(folder) as last:
                    until(lambda: ws.delivery.candidate(made["id"]).state != "training", "it is trained")
                    until(lambda: ws.delivery.candidate(made["id"]).state == "promoted", "it is released")
                    assert ws.delivery.candidate(made["id"]).number == 3
                    assert len(ws.registry.versions(ws.project.id, "tree")) == 3
                    family = last.family(ws)
                    assert last.end() == 0
                    assert gone(family) == []
            assert ws.verify() == []
    finally:
        trap.unlink(missing_ok=True)
