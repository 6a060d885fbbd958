"""Who may call the gateway, and what a request may be: each group of paths, refused before anything is done."""

from __future__ import annotations

import base64
import contextlib
import http.client
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
import pytest
import uvicorn
from asgi import Answer, call
from mlflow.exceptions import MlflowException

import mlflow
from noria import workspace as ws
from noria.db.group import GroupWriter
from noria.gateways.mlflow import Gateway, mlflow_gateway
from noria.gateways.mlflow.routes import Route
from noria.http.access import Access
from noria.http.heads import MOST_HEAD, BoundedHttp
from noria.workspace import Workspace

GROUPS = [
    ("GET", "/health", None),
    ("GET", "/version", None),
    ("GET", "/api/3.0/mlflow/server-info", None),
    ("GET", "/api/2.0/mlflow/experiments/get?experiment_id=0", None),
    ("POST", "/api/2.0/mlflow/experiments/search", {"max_results": 10}),
    ("POST", "/api/2.0/mlflow/experiments/set-experiment-tag", {"experiment_id": "0", "key": "a", "value": "b"}),
    ("POST", "/api/2.0/mlflow/runs/search", {"experiment_ids": ["0"]}),
    ("POST", "/ajax-api/2.0/mlflow/runs/search", {"experiment_ids": ["0"]}),
    ("GET", "/api/3.0/mlflow/scorers/list?experiment_id=0", None),
    ("GET", "/api/2.0/mlflow/webhooks", None),
]
"""One call of each group of paths that works in a new workspace."""

CREATE = ("POST", "/api/2.0/mlflow/runs/create", {"experiment_id": "0", "run_name": "x"})
LOOPBACK = ["localhost", "localhost:1", "LOCALHOST:65535", "127.0.0.1", "127.0.0.1:5000", "127.8.8.8:80", "[::1]",
            "[::1]:5000", "[0:0:0:0:0:0:0:1]:5000", "[::ffff:127.0.0.1]:5000", "localhost.:5000"]  # fmt: skip
FOREIGN = [
    "evil.example", "evil.example:5000", "127.0.0.1.nip.io", "127.0.0.1.nip.io:5000", "localhost.evil.example",
    "localhost.localdomain", "localtest.me", "127.0.0.1.evil.example:5000", "evil.example:5000@127.0.0.1",
    "127.0.0.1@evil.example", "localhost@evil.example", "localhost:5000:80", "localhost:", "localhost:http",
    "localhost evil.example", "localhost,evil.example", "localhost/evil", "localhost#", "127.1", "2130706433",
    "0x7f000001", "0177.0.0.1", "127.0.0.1.", "0.0.0.0", "[::]", "[::1", "::1", "[::1]evil", "[::1]:", "[localhost]:x",
    "[::ffff:10.0.0.1]", "192.168.1.5", "169.254.169.254", "", " ", "localhost\x00", "l\xf6calhost",
    "x" * 5_000,
]  # fmt: skip


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with ws.init(tmp_path_factory.mktemp("access"), environment={}) as made:
        yield made


Make = Callable[[Access], Gateway]


@pytest.fixture(scope="module")
def make(opened: Workspace) -> Iterator[Make]:
    with contextlib.ExitStack() as stack:
        writer = GroupWriter(opened.db)
        stack.callback(writer.close)

        def build(access: Access) -> Gateway:
            made = mlflow_gateway(opened, writer, access)
            stack.callback(made.close)
            return made

        yield build


@pytest.fixture(scope="module")
def local(make: Make) -> Gateway:
    return make(Access())


@pytest.fixture(scope="module")
def guarded(make: Make) -> Gateway:
    """As beyond loopback: everybody needs the token."""
    return make(Access(token="se:cret", listener="0.0.0.0"))


def test_a_run_is_made_without_waiting_for_the_database(
    make: Make, opened: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the gateway does not know of an experiment is read beside the loop that all clients share."""
    readers: list[threading.Thread] = []
    read = opened.tracking.experiment_by_id

    def noted(*given: Any) -> Any:
        readers.append(threading.current_thread())
        return read(*given)

    monkeypatch.setattr(opened.tracking, "experiment_by_id", noted)
    gateway = make(Access())
    assert [call(gateway, *CREATE).status for _ in range(2)] == [200, 200]
    assert len(readers) == 1
    assert threading.current_thread() not in readers


def test_lists_are_what_a_query_may_repeat() -> None:
    class Message(msgspec.Struct):
        one: Literal["list"] | None = None
        ids: list[str] | None = None
        many: list[int] = msgspec.field(default_factory=list, name="more")

    route = Route(method="GET", path="x", handler=print, message=Message)
    assert route.lists == {"ids", "more"}


def refused(answer: Answer, status: int, code: str) -> str:
    assert (answer.status, answer.json["error_code"]) == (status, code), answer
    return str(answer.json["message"])


def basic(user: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


# ---- Host


@pytest.mark.parametrize("host", LOOPBACK)
def test_every_group_answers_to_the_names_of_loopback(local: Gateway, host: str) -> None:
    for method, target, body in GROUPS:
        assert call(local, method, target, body, host=host).status == 200, target


@pytest.mark.parametrize("host", FOREIGN)
def test_no_group_answers_to_another_host(local: Gateway, host: str) -> None:
    """A page of another site reaches loopback under a name of its own (DNS rebinding)."""
    for method, target, body in [*GROUPS, CREATE, ("POST", "/graphql", {}), ("GET", "/api/2.0/nothing", None)]:
        message = refused(call(local, method, target, body, host=host), 403, "PERMISSION_DENIED")
        assert len(message) < 12_000


def test_a_request_without_a_host_or_with_two_is_refused(local: Gateway) -> None:
    for method, target, body in GROUPS:
        refused(call(local, method, target, body, host=None), 403, "PERMISSION_DENIED")
        twice = [("host", "127.0.0.1:5000"), ("host", "evil.example")]
        for given in (twice, twice[::-1]):
            refused(call(local, method, target, body, host=None, more=given), 400, "INVALID_PARAMETER_VALUE")


def test_the_token_opens_no_foreign_host(guarded: Gateway) -> None:
    bearer = {"authorization": "Bearer se:cret"}
    for method, target, body in GROUPS:
        assert call(guarded, method, target, body, headers=bearer).status == 200
        refused(call(guarded, method, target, body, host="evil.example", headers=bearer), 403, "PERMISSION_DENIED")


def test_an_allowed_name_is_compared_whole(make: Make) -> None:
    gateway = make(Access(token="t", hosts=frozenset(["noria.example"]), listener="0.0.0.0"))
    at, bearer = "/api/3.0/mlflow/server-info", {"authorization": "Bearer t"}
    assert call(gateway, "GET", at, host="Noria.Example:5000", headers=bearer).status == 200
    for host in ("x.noria.example", "noria.example.evil", "noria.exampl", "noria.example/"):
        refused(call(gateway, "GET", at, host=host, headers=bearer), 403, "PERMISSION_DENIED")


def test_another_machine_is_not_local_whatever_its_host_says(local: Gateway) -> None:
    for client in ("192.168.1.77", "::ffff:10.0.0.1", "", None):
        for method, target, body in GROUPS:
            refused(call(local, method, target, body, client=client), 401, "UNAUTHENTICATED")
    for more in ({"x-forwarded-for": "127.0.0.1"}, {"forwarded": "for=127.0.0.1"}, {"x-real-ip": "127.0.0.1"}):
        refused(call(local, "GET", GROUPS[2][1], client="10.0.0.1", headers=more), 401, "UNAUTHENTICATED")
    forwarded = {"x-forwarded-host": "localhost"}
    refused(call(local, "GET", GROUPS[2][1], host="evil.example", headers=forwarded), 403, "PERMISSION_DENIED")


# ---- Origin


ORIGINS = [
    {"origin": "null"}, {"origin": "https://evil.example"}, {"origin": "http://127.0.0.1:5000"}, {"origin": ""},
    {"origin": "http://localhost.evil.example"}, {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "CROSS-SITE"}, {"sec-fetch-site": "anything"}, {"sec-fetch-site": "cross-site, none"},
]  # fmt: skip


@pytest.mark.parametrize("headers", ORIGINS)
def test_a_page_reaches_no_group_without_a_token(local: Gateway, headers: dict[str, str]) -> None:
    for method, target, body in [*GROUPS, CREATE]:
        answer = call(local, method, target, body, headers=headers)
        refused(answer, 401, "UNAUTHENTICATED")
        assert answer.headers["www-authenticate"].startswith("Bearer ")
        assert "access-control-allow-origin" not in answer.headers
        # What a browser asks first, and what it may send without asking.
        refused(call(local, "OPTIONS", target, headers=headers), 401, "UNAUTHENTICATED")
        plain = {**headers, "content-type": "text/plain"}
        refused(call(local, method, target, body, headers=plain), 401, "UNAUTHENTICATED")


def test_nothing_is_made_by_what_is_refused(local: Gateway) -> None:
    def runs() -> Any:
        return call(local, "POST", "/api/2.0/mlflow/runs/search", {"experiment_ids": ["0"]}).json

    before = runs()
    for headers in ORIGINS:
        call(local, *CREATE, headers=headers)
    call(local, *CREATE, host="127.0.0.1.nip.io")
    call(local, *CREATE, client="10.0.0.1")
    assert runs() == before


def test_a_page_with_the_token_is_served(guarded: Gateway) -> None:
    headers = {"origin": "https://notebook.example", "sec-fetch-site": "cross-site", "authorization": "Bearer se:cret"}
    for method, target, body in GROUPS:
        assert call(guarded, method, target, body, headers=headers).status == 200


@pytest.mark.parametrize("site", ["none", "same-origin"])
def test_an_address_typed_into_a_browser_works(local: Gateway, site: str) -> None:
    assert call(local, "GET", "/version", headers={"sec-fetch-site": site}).body == b"3.17.2"


# ---- tokens


def test_bearer_and_basic_open_the_same(guarded: Gateway) -> None:
    good = [{"authorization": "Bearer se:cret"}, {"authorization": "bearer   se:cret"}]
    good += [basic(user, "se:cret") for user in ("", "anna", "admin", "ümläut")]
    for headers in good:
        for method, target, body in GROUPS:
            assert call(guarded, method, target, body, headers=headers).status == 200


@pytest.mark.parametrize(
    "value",
    [
        "Bearer", "Bearer ", "Bearer se:cre", "Bearer se:crett", "Bearer SE:CRET", "Basic", "Basic ", "Basic !!!",
        "Basic se:cret", "Basic YQ", "Basic //79/w==", "Digest username=x", "Negotiate YQ==", "se:cre", "", "Bearer \xff",
        basic("se:cret", "")["authorization"], basic("anna", "se:cre")["authorization"],
        basic("anna", "x:se:cret")["authorization"], basic("anna", " se:cret")["authorization"],
        "Basic " + base64.b64encode(b"se:cret:").decode(), "Basic " + base64.b64encode(b"no colon").decode(),
        "Basic " + "A" * 100_000,
    ],
)  # fmt: skip
def test_what_is_not_the_token_opens_nothing(guarded: Gateway, value: str) -> None:
    for method, target, body in [*GROUPS, CREATE]:
        answer = call(guarded, method, target, body, headers={"authorization": value})
        message = refused(answer, 401, "UNAUTHENTICATED")
        assert answer.headers["www-authenticate"] == 'Bearer realm="noria", Basic realm="noria", charset="UTF-8"'
        assert "cret" not in message


def test_a_wrong_token_is_refused_on_loopback_too(local: Gateway, make: Make) -> None:
    """Who sends one means it: an answer without it would hide that it is wrong."""
    for gateway in (local, make(Access(token="t"))):
        for headers in ({"authorization": "Bearer guess"}, basic("anna", "guess")):
            refused(call(gateway, *CREATE, headers=headers), 401, "UNAUTHENTICATED")


def test_two_tokens_are_refused(guarded: Gateway) -> None:
    more = [("authorization", "Bearer guess"), ("authorization", "Bearer se:cret")]
    refused(call(guarded, *CREATE, more=more), 400, "INVALID_PARAMETER_VALUE")


@contextlib.contextmanager
def listening(app: Any) -> Iterator[str]:
    config = uvicorn.Config(app, http=BoundedHttp, port=0, log_level="error", access_log=False, lifespan="off")
    server = uvicorn.Server(config)
    held = config.bind_socket()
    held.listen(100)  # who comes before the thread does waits
    thread = threading.Thread(target=server.run, kwargs={"sockets": [held]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{held.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        held.close()


@pytest.fixture(scope="module")
def address(guarded: Gateway) -> Iterator[str]:
    with listening(guarded) as url:
        yield url


@pytest.mark.parametrize("way", ["token", "password"])
def test_the_client_sends_a_token_or_a_password(address: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    client = mlflow.MlflowClient(address, address)
    with pytest.raises(MlflowException, match="needs a token"):
        client.create_run("0")
    if way == "token":
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "se:cret")
    else:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "anna")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "se:cret")
    run = client.create_run("0")
    client.log_metric(run.info.run_id, "m", 1.0)
    assert client.get_run(run.info.run_id).data.metrics == {"m": 1.0}
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN" if way == "token" else "MLFLOW_TRACKING_PASSWORD", "wrong")
    with pytest.raises(MlflowException, match="not valid"):
        client.get_run(run.info.run_id)


# ---- what a request may be


def posts(gateway: Gateway) -> list[Any]:
    routes = [r for r in gateway._table.routes if r.method in ("POST", "PATCH") and r.message and not r.raw]
    return [(r.method, r.path.replace("{", "").replace("}", ""), r.most) for r in routes if not r.path.startswith("/")]


@pytest.mark.parametrize("deep", [b"[" * 100_000, b'{"a":' * 100_000, b'{"tags":' + b"[" * 5_000 + b"]" * 5_000 + b"}"])
def test_json_that_is_nested_too_deep_is_refused(local: Gateway, deep: bytes) -> None:
    for method, path, most in posts(local):
        answer = call(local, method, f"/api/{path}", deep)
        assert answer.status == (400 if len(deep) <= most else 413), (path, answer)
    nul = b'{"x":' + b"[" * 900 + b'"\\u0000"' + b"]" * 900 + b"}"
    for method, path, _ in posts(local):
        refused(call(local, method, f"/api/{path}", nul), 400, "INVALID_PARAMETER_VALUE")


def test_a_body_that_is_too_large_is_refused_on_every_route(local: Gateway) -> None:
    sizes = {most for _, _, most in posts(local)}
    filling = {most: b'{"a": "' + b"x" * most + b'"}' for most in sizes}
    for method, path, most in posts(local):
        answer = call(local, method, f"/api/{path}", filling[most])
        assert "larger than" in refused(answer, 413, "BAD_REQUEST")


def test_a_body_that_is_too_large_is_not_collected(local: Gateway) -> None:
    """It is counted while it arrives; what its header says is not believed."""
    asked = 0

    def endless() -> bytes:
        nonlocal asked
        asked += 1
        return b"x" * (1 << 20)

    headers = {"content-length": "10"}
    answer = call(local, "POST", "/api/2.0/mlflow/runs/create", parts=endless, headers=headers)
    refused(answer, 413, "BAD_REQUEST")
    assert asked <= 34


def test_a_query_with_too_many_fields_is_refused(local: Gateway) -> None:
    at = "/api/2.0/mlflow/experiments/get?experiment_id=0"
    assert call(local, "GET", at + "&a=1" * 15_000).status == 200
    assert "more than 20000 fields" in refused(call(local, "GET", at + "&a=1" * 20_000), 400, "INVALID_PARAMETER_VALUE")
    for odd in ("&&&&", "&=", "&%", "&%ff=%ff", "&a=%00", "&;", "&" + "a" * 100_000):
        assert call(local, "GET", at + odd).status in (200, 400)


@pytest.mark.parametrize(
    "path",
    [
        "/api/" + "a" * 100_000, "/api/2.0/mlflow/" + "a/" * 50_000, "/api//2.0/mlflow/runs/get", "/api/", "/api/%",
        "/api/2.0/mlflow/runs/get/", "/api/2.0/mlflow/../mlflow/runs/get", "/api/2.0/mlflow/runs%2fget", "/api/%00",
        "/API/2.0/mlflow/runs/get", "/api/2.0/mlflow/runs/get;x=1", "/api/2.0/mlflow/%2e%2e/%2e%2e/etc/passwd",
        "//evil.example/api/2.0/mlflow/runs/get", "/api/2.0/mlflow/logged-models/%ff%fe", "*", "",
    ],
)  # fmt: skip
def test_odd_paths_are_not_found(local: Gateway, path: str) -> None:
    answer = call(local, "GET", path)
    assert answer.status in (400, 404)
    assert len(answer.body) < 2_000
    assert b"Traceback" not in answer.body


def test_the_method_is_the_one_that_was_sent(local: Gateway) -> None:
    """No header, field or query changes it."""
    get = "/api/2.0/mlflow/experiments/get"
    for name in ("x-http-method-override", "x-http-method", "x-method-override", "_method"):
        answer = call(local, "POST", f"{get}?experiment_id=0&_method=GET", {"_method": "GET"}, headers={name: "GET"})
        refused(answer, 405, "BAD_REQUEST")
        assert answer.headers["allow"] == "GET"
    before = call(local, "GET", f"{get}?experiment_id=0").json
    headers = {"x-http-method-override": "POST"}
    assert call(local, "GET", f"{get}?experiment_id=0", headers=headers).json == before


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "CONNECT", "PUT", "PATCH", "PROPFIND", "get", "X" * 1_000])
def test_other_methods_say_which_there_are(local: Gateway, method: str) -> None:
    for target, allow in (("/api/2.0/mlflow/runs/create", "POST"), ("/health", "GET"), ("/version", "GET")):
        answer = call(local, method, target)
        refused(answer, 405, "BAD_REQUEST")
        assert answer.headers["allow"] == allow


def test_head_says_what_get_would_without_its_body(local: Gateway) -> None:
    for target in ("/api/2.0/mlflow/experiments/get?experiment_id=0", "/api/3.0/mlflow/server-info"):
        got, head = call(local, "GET", target), call(local, "HEAD", target)
        assert (head.status, head.headers, head.body) == (200, got.headers, b"")
    missing = call(local, "HEAD", "/api/2.0/mlflow/experiments/get?experiment_id=99")
    assert (missing.status, missing.body) == (404, b"")
    assert call(local, "HEAD", "/api/2.0/mlflow/runs/create").status == 405


def test_odd_headers_do_no_harm(local: Gateway) -> None:
    many = [(f"x-{n}", "v" * 100) for n in range(1_000)]
    assert call(local, "GET", "/version", more=many).status == 200
    for name, value in [
        ("content-encoding", "gzip"), ("content-type", "multipart/form-data; boundary=x"), ("content-type", "\xff\xfe"),
    ]:  # fmt: skip
        answer = call(local, *CREATE, headers={name: value})
        assert (answer.status, answer.json["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    for name in ("expect", "range", "if-none-match", "transfer-encoding", "upgrade", "cookie", "x-mlflow-workspace"):
        assert call(local, "GET", "/version", headers={name: "\xff" * 1_000}).status == 200


# ---- through a socket


def test_headers_without_end_are_cut_off(address: str) -> None:
    place = urlsplit(address)
    for begin, more in (
        (b"GET /version HTTP/1.1\r\nhost: localhost\r\n", b"x-more: " + b"y" * 1_000 + b"\r\n"),
        (b"GET /version HTTP/1.1\r\nhost: localhost\r\nx-one: ", b"y" * 4_096),
        (b"GET /version?", b"y" * 4_096),
    ):
        with socket.create_connection((place.hostname, place.port), timeout=60) as one:
            sent = one.send(begin)
            with contextlib.suppress(OSError):
                while sent < 50 * MOST_HEAD:
                    sent += one.send(more)
            assert sent < 50 * MOST_HEAD
            with contextlib.suppress(ConnectionResetError):
                assert one.recv(65_536).startswith(b"HTTP/1.1 431 ")
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=60)
    for _ in range(2):  # on one connection: the count begins anew
        connection.request("GET", "/version", headers={"authorization": "Bearer se:cret", "x-large": "y" * 50_000})
        assert connection.getresponse().read() == b"3.17.2"
    connection.close()


def test_two_requests_in_one_are_not_smuggled(address: str) -> None:
    place = urlsplit(address)
    for head in (
        b"content-length: 5\r\ntransfer-encoding: chunked\r\n", b"content-length: 5\r\ncontent-length: 6\r\n",
        b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n", b"content-length: -1\r\n",
    ):  # fmt: skip
        with socket.create_connection((place.hostname, place.port), timeout=60) as one:
            one.sendall(
                b"POST /api/2.0/mlflow/runs/create HTTP/1.1\r\nhost: localhost\r\n" + head + b"\r\n0\r\n\r\nGET /"
            )
            assert one.recv(65_536).startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 401 "))


# ---- a question that takes too long


def test_a_monstrous_search_is_cut_off_and_others_go_on(both: Workspace) -> None:
    writer = GroupWriter(both.db)
    project_id = both.project.id
    with both.db.write() as tx:
        experiment = both.tracking.ensure_default(tx, project_id)
        tags = {f"t{k}": "ab" * 3_000 for k in range(3)}
        for n in range(300):
            both.tracking.create_run(tx, project_id, experiment, name=f"r{n}", actor=both.actor, tags=tags)
    both.db.limit_reads(0.0005)
    gateway = mlflow_gateway(both, writer, Access())
    monstrous = {
        "experiment_ids": ["0"],
        "filter": " AND ".join(f"tags.t{k} ILIKE '%ab%ba%ab{k // 2 * 'z'}%'" for k in range(3)),
        "order_by": ["tags.t0", "tags.t1", "tags.t2"],
    }
    for _ in range(30):  # more often than there are connections and threads
        answer = call(gateway, "POST", "/api/2.0/mlflow/runs/search", monstrous)
        assert "--read-timeout" in refused(answer, 422, "RESOURCE_EXHAUSTED")
    both.db.limit_reads(60)
    assert call(gateway, "POST", "/api/2.0/mlflow/runs/search", monstrous).json == {}
    assert call(gateway, "GET", "/api/2.0/mlflow/experiments/get?experiment_id=0").status == 200
    assert call(gateway, *CREATE).status == 200
    gateway.close()
    writer.close()
